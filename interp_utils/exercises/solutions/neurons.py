"""Chapter 3."""

import torch


def hold_still(activations, means, n):
    # activations [B, N+1, M], means [N+1, M], n an integer -> [B, N+1, M]
    held = activations.clone()
    held[..., n] = means[:, n]
    return held


def neuron_direction(rows):
    # rows [T, E] -> [E]
    direction = torch.linalg.svd(rows, full_matrices=False).Vh[0]
    return direction if (rows @ direction > 0).sum() * 2 > len(rows) else -direction


def along_direction(effects, mean, direction):
    # effects [B, E], mean [E], direction [E] of unit length -> [B, E]
    return mean + torch.outer((effects - mean) @ direction, direction)


def share_in_one_direction(effects):
    # effects [B, E] of one neuron -> a share of 1
    centred = effects - effects.mean(0)
    variances = torch.linalg.svdvals(centred).square()
    return (variances[0] / variances.sum()).item()


def pursue(target, atoms, size):
    # target [E], atoms [T, E] of unit length -> list of `size` numbers
    picked, rest = [], target
    for _ in range(size):
        picked.append((atoms @ rest).abs().argmax().item())
        chosen = atoms[picked].T
        weights = torch.linalg.lstsq(chosen, target[:, None]).solution[:, 0]
        rest = target - chosen @ weights
    return picked


def contribution(indices, weights, directions, v, n_texts):
    # indices [n, m], weights [n, m], directions [n, E], v [E] -> [n_texts]
    products = weights * (directions @ v)[:, None]
    scores = torch.zeros(n_texts).to(products)
    return scores.index_add_(0, indices.flatten(), products.flatten())
