"""Checks of chapter 4's exercises."""

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from . import solutions
from .cases import Case, apart, ask, judge


def _r(a: Tensor, b: Tensor) -> Tensor:
    """Correlation along the last axis."""
    a, b = a - a.mean(-1, keepdim=True), b - b.mean(-1, keepdim=True)
    return (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))


def two_units(case: Case) -> tuple[Tensor, Tensor]:
    """Maps [n, h, w] of two units that share something of each image, something of each position, and their noise."""
    n, h, w = case.whole(4, 7), case.whole(2, 4), case.whole(3, 5)
    signs = (1, -1)[case.whole(0, 1)], (1, -1)[case.whole(0, 1)], (1, -1)[case.whole(0, 1)]
    shared = [case.normal(n, h, w), case.normal(n, 1, 1), 1.5 * case.normal(h, w)]
    first, second = sum(shared), sum(sign * part for sign, part in zip(signs, shared))
    offsets, scale = 3 * case.normal(2), 0.3 + 3 * case.uniform(2)
    return tuple(s * (maps + 0.7 * case.normal(n, h, w) + o) for maps, o, s in zip((first, second), offsets, scale))


def unit_correlation(answer, case: Case) -> None:
    while True:
        first, second = two_units(case)
        a, b = first - first.mean(), second - second.mean()
        own = [maps - maps.mean((1, 2), keepdim=True) for maps in (first, second)]
        rows, columns = ([m.flatten(1) for m in (first, second)], [m.flatten(1).T for m in (first, second)])
        wanted = _r(first.flatten(), second.flatten()).item()
        mistakes = [
            ("that is the mean of one correlation for each image; take one over all images and positions", _r(*rows).mean()),
            ("that is the mean of one correlation for each position; take one over all images and positions", _r(*columns).mean()),
            (
                "each image lost its own mean; subtract one mean, over all images and positions",
                _r(own[0].flatten(), own[1].flatten()),
            ),
            ("that compares the images' mean activations; positions count too", _r(first.mean((1, 2)), second.mean((1, 2)))),
            ("that is a cosine: subtract the means first", (first * second).sum() / (first.norm() * second.norm())),
            ("subtract the means before you take the norms, too", (a * b).sum() / (first.norm() * second.norm())),
            ("that is a covariance: divide by both deviations", (a * b).mean()),
            ("that is a sum of products: divide by both norms", (a * b).sum()),
            ("a correlation has a sign: keep it", abs(wanted)),
            ("that is the square of the correlation", wanted**2),
        ]
        if apart(wanted, mistakes[:-2]):
            break
    judge(ask(answer, first, second), wanted, mistakes)


def without_position(answer, case: Case) -> None:
    while True:
        first, second = two_units(case)
        a, b = first - first.mean(0), second - second.mean(0)
        columns = [maps.flatten(1).T for maps in (first, second)]
        own = [maps - maps.mean((1, 2), keepdim=True) for maps in (first, second)]
        both = [maps - maps.mean((1, 2), keepdim=True) for maps in (a, b)]
        wanted = _r(a.flatten(), b.flatten()).item()
        mistakes = [
            ("position is still in: subtract from each map its unit's mean over the images", _r(first.flatten(), second.flatten())),
            ("each image lost its own mean; position is the mean over the images", _r(own[0].flatten(), own[1].flatten())),
            (
                "each image lost its own mean as well; only the mean over the images should go",
                _r(both[0].flatten(), both[1].flatten()),
            ),
            ("only the first unit lost its mean map", _r(a.flatten(), second.flatten())),
            ("only the second unit lost its mean map", _r(first.flatten(), b.flatten())),
            ("each unit has a mean map of its own", _r(a.flatten(), (second - first.mean(0)).flatten())),
            ("that is how the mean maps correlate, which is what should go", _r(first.mean(0).flatten(), second.mean(0).flatten())),
            ("after the mean maps are gone, take one correlation over all, not one for each position", _r(*columns).mean()),
            ("that is a covariance: divide by both deviations", (a * b).mean()),
            ("that is a sum of products: divide by both norms", (a * b).sum()),
            ("a correlation has a sign: keep it", abs(wanted)),
        ]
        if apart(wanted, mistakes[:-1]):
            break
    judge(ask(answer, first, second), wanted, mistakes)


def resizing_matrix(answer, case: Case) -> None:
    m = case.whole(2, 6)
    n = case.whole(m + 1, 3 * m)
    found = ask(answer, m, n)
    if isinstance(found, Tensor) and found.is_floating_point():
        found = found.float()
    else:
        assert not isinstance(found, Tensor), f"the numbers of U are fractions, not {found.dtype}"
    eye = torch.eye(m)[None]
    assert getattr(found, "shape", None) != (m, n), f"that is [m, n]; U [n, m] takes {m} numbers to {n}: transpose it"
    mistakes = [
        (
            "the corners are aligned; bilinear resizing of maps does not align them (`align_corners=False`)",
            interpolate(eye, size=n, mode="linear", align_corners=True)[0].T,
        ),
        ("each output copies one input; bilinear resizing mixes two neighbours", interpolate(eye, size=n)[0].T),
        ("that resizes n numbers to m, and lies on its side", interpolate(torch.eye(n)[None], size=m, mode="linear")[0]),
        ("that only appends zeros", torch.eye(n, m)),
        ("each output averages its whole cell; bilinear resizing mixes two neighbours", interpolate(eye, size=n, mode="area")[0].T),
    ]
    wanted = solutions.resizing_matrix(m, n)
    judge(found, wanted, mistakes, f"U takes {m} numbers to {n} as `interpolate` does; its columns are resized unit vectors")


def mutual_neighbours(answer, case: Case) -> None:
    def nearest(values: Tensor, count: int, dim: int) -> set[tuple[int, int]]:
        places = torch.zeros(values.shape).scatter(dim, values.topk(count, dim=dim).indices, 1)
        return {tuple(pair) for pair in places.nonzero().tolist()}

    def mutual(values: Tensor, count: int) -> set[tuple[int, int]]:
        return nearest(values, count, 1) & nearest(values, count, 0)

    while True:  # until the usual mistakes give other pairs
        k, rows, columns = case.whole(2, 4), case.whole(5, 10), case.whole(5, 10)
        corr = torch.tanh(case.normal(rows, columns) + 0.5 * case.normal(rows, 1) + 0.5 * case.normal(1, columns))
        of_rows, of_columns, wanted = nearest(corr, k, 1), nearest(corr, k, 0), mutual(corr, k)
        mistakes = [
            ("only the rows were asked: the column must have the row among its nearest, too", of_rows),
            ("only the columns were asked: the row must have the column among its nearest, too", of_columns),
            ("one of the two was enough; each must be among the other's nearest", of_rows | of_columns),
            ("these are each other's very nearest; ask for the k nearest", mutual(corr, 1)),
            ("k is the number of neighbours; these have one more", mutual(corr, k + 1)),
            ("a strong negative correlation is far, not near", mutual(corr.abs(), k)),
            ("these are the pairs that are furthest apart", mutual(-corr, k)),
            ("these pairs are (column, row); return (row, column)", {pair[::-1] for pair in wanted}),
            ("no pair was found", set()),
        ]
        if rows != columns and all(pairs != wanted for _, pairs in mistakes):
            break
    found = ask(answer, corr, k)
    try:
        found = {(int(row), int(column)) for row, column in found}
    except (TypeError, ValueError):
        raise AssertionError(f"return a set of pairs (row, column); this {type(found).__name__} holds something else") from None
    for words, pairs in mistakes:
        assert found != pairs, words
    extra, missing = sorted(found - wanted), sorted(wanted - found)
    assert not extra, f"{extra[0]} is no pair of mutual neighbours (k = {k})"
    assert not missing, f"the pair {missing[0]} is missing (k = {k})"


def pair_score(answer, case: Case) -> None:
    h, w = case.whole(2, 5), case.whole(2, 5)
    ours, target = case.normal(case.whole(2, 5), h, w) + case.normal(1), case.normal(h, w) + 2 * case.normal(1)
    means, stds = 2 * case.normal(2), torch.exp(case.normal(2))  # over other images than these
    a, b = (ours - means[0]) / stds[0], (target - means[1]) / stds[1]
    inner = ours - ours.mean((1, 2), keepdim=True)
    cosine = (ours * target).sum((1, 2)) / (ours.flatten(1).norm(dim=1) * target.norm())
    mistakes = [
        (
            "that is a correlation within the image, which forgets how active the unit is: use the numbers that are given",
            _r(ours.flatten(1), target.flatten()),
        ),
        ("that is a cosine of the maps: use the means and deviations that are given", cosine),
        ("the deviations are missing: divide by them", (a * stds[0] * b * stds[1]).mean((1, 2))),
        ("the means are missing: subtract them", ((ours / stds[0]) * (target / stds[1])).mean((1, 2))),
        ("divide by the deviations, not by their squares", (a / stds[0] * b / stds[1]).mean((1, 2))),
        ("that is the sum over positions; take the mean", (a * b).sum((1, 2))),
        ("the target is not normalised", (a * target).mean((1, 2))),
        ("the generator's maps are not normalised", (ours * b).mean((1, 2))),
        ("use the mean that is given, not that of these maps", (inner / stds[0] * (target - target.mean()) / stds[1]).mean((1, 2))),
        (
            "the first of `means` and `stds` is of the generator's unit, the second of the target's",
            ((ours - means[1]) / stds[1] * (target - means[0]) / stds[0]).mean((1, 2)),
        ),
    ]
    if case.whole(0, 1):
        means, stds = tuple(means.tolist()), tuple(stds.tolist())
    judge(ask(answer, ours, target, means, stds), (a * b).mean((1, 2)), mistakes)


def shifted_right(answer, case: Case) -> None:
    before = [case.whole(1, 3) for _ in range(case.whole(0, 2))]
    height, width = case.whole(4, 6), case.whole(7, 12)
    maps, cells = 1 + case.uniform(*before, height, width), case.whole(2, 4)

    def moved(by: int, dim: int = -1) -> Tensor:
        return torch.cat([0 * maps.narrow(dim, 0, by), maps.narrow(dim, 0, maps.shape[dim] - by)], dim)

    for part in (-0.3, 0.3, 0):  # of a cell: what is cut, or rounded up, is wrong on one of them
        share = (cells + part) / width
        down, edge = round(share * height), maps[..., :1].expand_as(maps)[..., :cells]
        mistakes = [
            ("nothing moved", maps),
            ("what leaves on the right came in on the left; let zeros come in", maps.roll(cells, -1)),
            ("the edge came in again; let zeros come in", torch.cat([edge, maps[..., : width - cells]], -1)),
            ("the maps moved to the left", torch.cat([maps[..., cells:], 0 * maps[..., :cells]], -1)),
            ("the maps moved down; columns are the last axis", moved(down, -2)),
            ("share times width was cut to whole cells: round it", moved(cells - 1)),
            ("share times width was rounded up: round it to the nearest cell", moved(cells + 1)),
            ("a share of the width was asked for, not of the height", moved(down)),
            ("that is one cell, whatever the share", moved(1)),
        ]
        judge(ask(answer, maps, share), moved(cells), mistakes, f"{share:.3f} of {width} columns is a move by {cells}")
    judge(ask(answer, maps, 0.0), maps, otherwise="a share of 0 changes nothing")
    judge(ask(answer, maps, 1.0), 0 * maps, otherwise="a share of 1 leaves nothing but zeros")
