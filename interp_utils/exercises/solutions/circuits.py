"""Chapter 5b."""

import torch


def in_circuit(activations, means, masks):
    # activations [B, N, K] of K nodes on N tokens, means [N, K]
    # masks [B, K]: 1 for a node that stays, else 0 -> [B, N, K]
    return torch.where(masks[:, None].bool(), activations, means)


def attribution(score, activations, means):
    # score: activations [B, N, K] -> [B]; means [N, K] -> [K], a mean over images
    leaf = activations.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(score(leaf).sum(), leaf)
    return ((activations - means) * gradient).sum(1).mean(0)


def recovered_share(circuit, empty, whole):
    # logit differences [B] each -> a number
    gained, all_of_it = circuit.mean() - empty.mean(), whole.mean() - empty.mean()
    return (gained / all_of_it).item()


def mediated_share(intact, anew, frozen):
    # outputs [B, E]: intact; neuron at its mean and attention anew, or frozen
    # -> a share of 1
    mediated, direct = frozen - anew, intact - frozen
    long, rest = (x.square().sum(-1).mean().sqrt() for x in (mediated, direct))
    return (long / (long + rest)).item()


def interaction(score, a, b):
    # score(), score(a), score(a, b): [B], with these neurons at their means -> [B]
    none, both = score(), score(a, b)
    return (none - both) - (none - score(a)) - (none - score(b))
