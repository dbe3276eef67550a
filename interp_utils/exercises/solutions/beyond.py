"""Chapter 5c."""

import torch


def written_by_heads(mixed, weight, bias):
    # mixed [B, H, N, d]; output projection: weight [D, H * d], bias [D]
    # -> [B, N, H, D], over H the layer's output
    n_heads = mixed.shape[1]
    by_head = weight.unflatten(1, (n_heads, -1))
    return torch.einsum("bhnd,Dhd->bnhD", mixed, by_head) + bias / n_heads


def ridge_with_constant(x, y, penalty):
    # x [K, D], y [K, E] -> weights [D, E], constant [E]
    centred, wanted = x - x.mean(0), y - y.mean(0)
    gram = centred.T @ centred + penalty * torch.eye(x.shape[1]).to(x)
    weights = torch.linalg.solve(gram, centred.T @ wanted)
    return weights, y.mean(0) - x.mean(0) @ weights


def explained_share(outputs, labels):
    # outputs [B, E] of a head, labels [B] integers -> a share of 1
    centred, between = outputs - outputs.mean(0), 0
    for label in labels.unique():
        group = centred[labels == label]
        between += len(group) * group.mean(0).square().sum()
    return (between / centred.square().sum()).item()


def into_register(activations, neurons):
    # activations [B, 1 + N + 1, M], neurons a list of numbers -> the same shape
    moved = activations.clone()
    moved[:, -1, neurons] = activations[:, 1:-1, neurons].amax(1)
    moved[:, 1:-1, neurons] = 0
    return moved


def noise_moment(w_v, w_o, m):
    # w_v [d, D], w_o [D, d], m [D, E] -> [E, E]
    writes = w_v.T @ w_o.T @ m  # what noise becomes, [D, E]
    return writes.T @ writes
