"""Chapter 4."""

import torch


def unit_correlation(first, second):
    # maps [n, h, w] of two units on the same images -> a number
    a, b = first.flatten() - first.mean(), second.flatten() - second.mean()
    return (a @ b / (a.norm() * b.norm())).item()


def resizing_matrix(m, n):
    # n larger than m -> U [n, m]
    resize = torch.nn.functional.interpolate
    return resize(torch.eye(m)[None], size=n, mode="linear", align_corners=False)[0].T


def mutual_neighbours(corr, k):
    # corr [A, C] -> set of (row, column)
    of_rows = corr >= corr.topk(k, dim=1).values[:, -1:]
    of_columns = corr >= corr.topk(k, dim=0).values[-1:]
    return {tuple(pair) for pair in (of_rows & of_columns).nonzero().tolist()}


def without_position(first, second):
    # maps [n, h, w] of two units on the same images -> a number
    left = [(maps - maps.mean(0)).flatten() for maps in (first, second)]
    return torch.corrcoef(torch.stack(left))[0, 1].item()


def pair_score(ours, target, means, stds):
    # ours [B, h, w], target [h, w]; means, stds: (generator's unit, partner) -> [B]
    a, b = (ours - means[0]) / stds[0], (target - means[1]) / stds[1]
    return (a * b).mean((1, 2))


def shifted_right(maps, share):
    # maps [..., h, w], share between 0 and 1 -> the same shape
    cells = round(share * maps.shape[-1])
    return torch.nn.functional.pad(maps, (cells, 0))[..., : maps.shape[-1]]
