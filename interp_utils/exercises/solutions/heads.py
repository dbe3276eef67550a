"""Chapter 2."""

import torch


def frozen_effects(terms, norm, projection):
    # terms [B, P, D]; norm: the last layer norm; projection [D, E] -> [B, P, E]
    stream = terms.sum(1, keepdim=True)
    s = (stream.var(-1, correction=0, keepdim=True) + norm.eps).sqrt()
    centred = terms - terms.mean(-1, keepdim=True)
    effects = norm.weight * centred / s @ projection
    effects[:, 0] += norm.bias @ projection
    return effects


def resample_ablation(terms, ablated, donor):
    # terms [B, P, E], ablated [P] bool, donor [B] integers -> [B, E]
    return torch.where(ablated[:, None], terms[donor], terms).sum(1)


def without_direction(vectors, direction):
    # vectors [K, E], direction [E] of any length -> [K, E]
    unit = direction / direction.norm()
    return vectors - torch.outer(vectors @ unit, unit)


def most_explaining_text(outputs, texts):
    # outputs [K, E], texts [T, E] (of any length) -> place of the text
    directions = texts / texts.norm(dim=1, keepdim=True)
    return (outputs @ directions.T).var(0).argmax().item()


def worst_group(guesses, labels, groups):
    # integers [B] each -> accuracy of the worst group, a share of 1
    right = (guesses == labels).float()
    return min(right[groups == g].mean().item() for g in groups.unique())


def mean_iou(heat, mask):
    # heat [H, W] scores, mask [H, W] bool -> a share of 1
    heat = heat.clamp(min=0)
    guess = heat > heat.mean()
    pairs = ((guess, mask), (~guess, ~mask))
    return sum(((a & b).sum() / (a | b).sum()).item() for a, b in pairs) / 2
