"""Checks of chapter 3's exercises."""

import torch
from torch import nn

from . import solutions
from .cases import Case, ask, judge


def hold_still(answer, case: Case) -> None:
    tokens, width = case.whole(3, 6), case.whole(3, 8)
    activations, n = case.normal(case.whole(2, 5), tokens, width) + 2 * case.normal(tokens, width), case.whole(0, width - 1)
    means = case.normal(tokens, width)  # over other images than these

    def held(value, where=n):
        changed = activations.clone()
        changed[..., where] = value
        return changed

    mistakes = [
        ("nothing was held", activations),
        ("each token has its own mean", held(means[:, n].mean())),
        ("use the means that are given, not those of these images", held(activations[..., n].mean(0))),
        ("all neurons were held; only neuron n should be", means.expand_as(activations)),
        ("that is zero, not the mean", held(0)),
        *(("another neuron than n was held", held(means[:, k], k)) for k in range(width) if k != n),
    ]
    judge(ask(answer, activations, means, n), held(means[:, n]), mistakes)


def neuron_direction(answer, case: Case) -> None:
    few = case.whole(6, 12)
    weights = torch.cat([1 + 0.1 * case.uniform(few + 3), -3 - case.uniform(few)])  # most point one way, the long ones the other
    true, other = torch.linalg.qr(case.normal(5, 2)).Q.T
    given = weights[case.order(len(weights))][:, None] * true + 0.8 * other + 0.05 * case.normal(len(weights), 5)
    for rows in (given, -given):  # what ignores the sign is wrong on one of them
        wanted = torch.linalg.svd(rows, full_matrices=False).Vh[0]
        wanted = wanted * (1 if (rows @ wanted > 0).sum() * 2 > len(rows) else -1)
        centred = torch.linalg.svd(rows - rows.mean(0), full_matrices=False).Vh[0]
        mean, even = rows.mean(0), nn.functional.normalize(rows, dim=1).mean(0)
        along_sum = wanted * (1 if (rows @ wanted).sum() > 0 else -1)
        mistakes = [
            ("it points where the sum of the rows points; more than half of them should have a positive product", along_sum),
            ("it points against most rows", -wanted),
            ("that is the mean row's direction, not the one that explains most squared length", mean / mean.norm()),
            ("that is the mean row", mean),
            (
                "long rows count for more: do not make all of unit length, nor take a mean",
                nn.functional.normalize(even, dim=0),
            ),
            *(("do not centre the rows again: explain their length", sign * centred) for sign in (1, -1)),
        ]
        found = ask(answer, rows)
        if isinstance(found, torch.Tensor) and found.shape == wanted.shape and (found - wanted).norm() > 1e-2:
            parallel = abs(nn.functional.cosine_similarity(found, wanted, dim=0)) > 0.9999
            assert not (parallel and abs(found.norm() - 1) > 1e-3), "the direction is right; make it of unit length"
        judge(found, wanted, mistakes)


def along_direction(answer, case: Case) -> None:
    effects, mean = case.normal(case.whole(3, 7), 5), case.normal(5)
    direction = nn.functional.normalize(case.normal(5), dim=0)
    x = (effects - mean) @ direction
    mistakes = [
        ("nothing was taken out", effects),
        ("the mean is missing: add it back", torch.outer(x, direction)),
        ("subtract the mean before you project", mean + torch.outer(effects @ direction, direction)),
        ("that is the effects' own projection, without the mean", torch.outer(effects @ direction, direction)),
        ("that is what is left over; return what lies along the direction", effects - torch.outer(x, direction)),
        ("use the mean that is given, not that of these images", solutions.along_direction(effects, effects.mean(0), direction)),
        ("x keeps its sign: the effect may point either way", mean + torch.outer(x.abs(), direction)),
    ]
    judge(ask(answer, effects, mean, direction), solutions.along_direction(effects, mean, direction), mistakes)


def share_in_one_direction(answer, case: Case) -> None:
    effects = case.normal(case.whole(12, 30), 5) * (0.3 + 2 * case.uniform(5)) + 2 * case.normal(5)
    centred = effects - effects.mean(0)
    s, raw = torch.linalg.svdvals(centred), torch.linalg.svdvals(effects).square()
    mistakes = [
        ("variance is about the mean: centre the effects", (raw[0] / raw.sum()).item()),
        ("these are deviations; variances are their squares", (s[0] / s.sum()).item()),
        (
            "that is the share of one coordinate; the best direction need not be an axis",
            (centred.var(0).max() / centred.var(0).sum()).item(),
        ),
        ("that is a variance; divide by the variance in all directions", (s[0].square() / len(effects)).item()),
        ("that is a variance; divide by the variance in all directions", (s[0].square() / (len(effects) - 1)).item()),
        ("that is the share of all other directions", (1 - s[0].square() / s.square().sum()).item()),
    ]
    judge(ask(answer, effects), (s[0].square() / s.square().sum()).item(), mistakes)


def pursue(answer, case: Case) -> None:
    case.dtype = torch.float64  # so that two good ways to fit weights pick the same
    while True:  # until plain pursuit gives other picks
        width, size = case.whole(6, 9), case.whole(4, 6)
        atoms, target = nn.functional.normalize(case.normal(30, width), dim=1), case.normal(width)
        wanted, plain, rest = solutions.pursue(target, atoms, size), [], target
        for _ in range(size):
            plain.append((atoms @ rest).abs().argmax().item())
            rest = rest - (atoms[plain[-1]] @ rest) * atoms[plain[-1]]
        signed = (atoms @ target).argmax().item()
        if plain != wanted and signed != wanted[0]:
            break
    found = ask(answer, target, atoms, size)
    try:
        found = [int(place) for place in found]
    except (TypeError, ValueError):
        raise AssertionError(f"return a list of {size} numbers, not {type(found).__name__}") from None
    assert len(found) == size, f"return {size} picks, not {len(found)}"
    assert len(set(found)) == size, "an atom was picked twice: what is left is orthogonal to those taken, if all weights are fitted"
    assert found[0] != signed, "a text may also count against: compare absolute inner products"
    ranked = (atoms @ target).abs().topk(size).indices.tolist()
    assert found != ranked, "these are the texts closest to the target; after each pick, look at what is left"
    assert found != plain, "that is plain pursuit: after each pick, fit the weights of all picks anew"
    assert sorted(found) != sorted(wanted) or found == wanted, "the right texts in another order; return them as they were picked"
    assert found == wanted, "not the picks of orthogonal pursuit"


def contribution(answer, case: Case) -> None:
    n, m, n_texts = case.whole(3, 6), case.whole(2, 4), case.whole(5, 7)
    indices = case.numbers(n_texts - 1, n, m)  # the last text is nobody's
    weights, directions, v = case.normal(n, m), case.normal(n, 4), case.normal(4)
    x = (directions @ v)[:, None]
    total = lambda values: torch.zeros(n_texts).to(v).index_add_(0, indices.flatten(), values.flatten())  # noqa: E731
    last = torch.zeros(n_texts).to(v)
    for row, values in zip(indices.tolist(), (weights * x).tolist()):
        for place, value in zip(row, values):
            last[place] = value
    mistakes = [
        ("where two neurons speak for one text, their contributions add up; plain indexing keeps the last", last),
        ("a negative weight speaks against a text: keep its sign", total(weights.abs() * x)),
        ("a neuron that points against v counts against: keep the sign", total(weights * x.abs())),
        ("how far each neuron points along v is missing", total(weights.clone())),
        ("the weights are missing", total(x.expand(n, m).clone())),
        ("that is the mean over the neurons, not the sum", total(weights * x) / n),
        ("do not make `v` or the directions of unit length", total(weights * x) / v.norm()),
        ("an inner product is a sum over the dimensions, not a mean", total(weights * x) / len(v)),
    ]
    judge(ask(answer, indices, weights, directions, v, n_texts), total(weights * x), mistakes)
