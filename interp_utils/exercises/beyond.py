"""Checks of chapter 5c's exercises."""

import torch

from . import solutions
from .cases import Case, apart, ask, judge, together


def written_by_heads(answer, case: Case) -> None:
    n_heads, d, width = case.whole(2, 4), case.whole(2, 3), case.whole(4, 7)
    mixed = case.normal(case.whole(2, 3), n_heads, case.whole(3, 5), d)
    weight, bias = case.normal(width, n_heads * d), 1 + case.normal(width)

    def written(by_head, constant):
        return torch.einsum("bhnd,Dhd->bnhD", mixed, by_head) + constant

    blocks, whole = weight.unflatten(1, (n_heads, d)), mixed.transpose(1, 2).flatten(2) @ weight.T + bias
    mistakes = [
        ("the bias is there once for the layer: each head gets an equal share", written(blocks, bias)),
        ("the bias is missing: each head gets an equal share", written(blocks, 0)),
        (
            "a head's columns stand side by side: first d of the first head, then d of the next",
            written(weight.unflatten(1, (d, n_heads)).mT, bias / n_heads),
        ),
        (
            "that is the layer's output, shared equally; each head has its own part",
            whole[:, :, None].expand(-1, -1, n_heads, -1) / n_heads,
        ),
    ]
    found, wanted = ask(answer, mixed, weight, bias), written(blocks, bias / n_heads)
    swapped = getattr(found, "shape", None) == wanted.transpose(1, 2).shape != wanted.shape
    assert not swapped, "tokens come before heads: return [B, N, H, D]"
    judge(found, wanted, [*mistakes, ("tokens come before heads: return [B, N, H, D]", wanted.transpose(1, 2))])


def ridge_with_constant(answer, case: Case) -> None:
    case.dtype = torch.float64  # so that any good way to solve it gives the same
    n, d = case.whole(20, 40), case.whole(3, 6)
    x, penalty = case.normal(n, d) + 3 * case.normal(d), (0.5, 5.0, 50.0)[case.whole(0, 2)]
    y = x @ case.normal(d, 2) + 10 * case.normal(2) + case.normal(n, 2)
    ones, centred, eye = torch.cat([x, torch.ones_like(x[:, :1])], 1), x - x.mean(0), torch.eye(d).to(x)
    punished = torch.linalg.solve(ones.T @ ones + penalty * torch.eye(d + 1).to(x), ones.T @ y)

    def solved(a, times):
        return torch.linalg.solve(a.T @ a + times * eye, a.T @ (y - y.mean(0) if a is centred else y))

    wanted, constant = solved(centred, penalty), y.mean(0) - x.mean(0) @ solved(centred, penalty)
    of_weights = [
        ("a constant should cost nothing: the penalty is on the weights only", punished[:-1]),
        ("that fits no constant: centre x and y first", solved(x, penalty)),
        ("the penalty is missing", solved(centred, 0)),
        ("the error is a sum over images, not a mean: the penalty is not multiplied by their number", solved(centred, n * penalty)),
        ("the penalty is not squared", solved(centred, penalty**2)),
        ("return the weights as [D, E]", wanted.T),
    ]
    of_constant = [
        ("there is a constant: on average the map should be right", torch.zeros_like(constant)),
        ("the mean of x must map to the mean of y: subtract what the weights make of the mean of x", y.mean(0)),
        ("subtract what the weights make of the mean of x; do not add it", y.mean(0) + x.mean(0) @ wanted),
        ("a constant should cost nothing: the penalty is on the weights only", punished[-1]),
    ]
    weights, added = together(ask(answer, x, y, penalty), "weights", "constant")
    judge(weights, wanted, of_weights, "the weights are not right")
    judge(added, constant, of_constant, "the weights are right, the constant is not")


def explained_share(answer, case: Case) -> None:
    while True:
        n, width = case.whole(15, 40), case.whole(3, 5)
        present = 1 + case.order(6)[: case.whole(2, 4)]  # label 0 and others have no image
        labels = torch.cat([present, present[:1].repeat(4), present[case.numbers(len(present), n - len(present) - 4)]])
        moved = (case.normal(7, width) * (0.2 + case.uniform(width)))[labels]
        outputs = (moved + case.normal(n, width)) * (0.3 + 2 * case.uniform(width)) + 2 * case.normal(width)
        wanted, centred = solutions.explained_share(outputs, labels), outputs - outputs.mean(0)
        means = torch.stack([centred[labels == label].mean(0) for label in present])
        between = torch.stack([centred[labels == label].mean(0) for label in labels]).square().sum(0)
        free, whole = len(present) - 1, centred.square().sum(0)
        mistakes = [
            ("that is the share within groups, which the labels do not explain", 1 - wanted),
            ("a group counts by the number of its images", (n * means.square().sum() / len(present) / whole.sum()).item()),
            ("add up over dimensions first, then one ratio", (between / whole).mean().item()),
            (
                "variance is about the mean: centre the outputs",
                ((between.sum() + n * outputs.mean(0).square().sum()) / outputs.square().sum()).item(),
            ),
            ("divide by all variance, not by that within groups", wanted / (1 - wanted)),
            ("these are deviations; variances are their squares", wanted**0.5),
            ("do not correct for chance yet", wanted - free * (1 - wanted) / (n - 1 - free)),
        ]
        if apart(wanted, mistakes):
            break
    found = ask(answer, outputs, labels)
    assert found == found, "a label without an image has no mean (nan): it does not count"
    judge(found, wanted, mistakes)


def into_register(answer, case: Case) -> None:
    images, patches, width = case.whole(2, 4), case.whole(4, 7), case.whole(5, 8)
    neurons = case.order(width)[: case.whole(1, 3)].tolist()
    activations = case.normal(images, patches + 2, width)
    activations[:, 1:-1, neurons[0]] -= 4  # its strongest patch may be below zero
    activations[:, [0, -1]] += 5  # the class token's, and the extra token's, are larger than any patch's
    on_patches = activations[:, 1:-1]

    def moved(value, silent=slice(1, -1), which=neurons):
        changed = activations.clone()
        changed[:, silent, which] = 0
        changed[:, -1, which] = value[:, which]
        return changed

    strongest = on_patches.amax(1)
    mistakes = [
        ("nothing was moved", activations),
        ("the class token is no patch: the strongest patch counts", moved(activations[:, :-1].amax(1))),
        ("the class token and the extra token are no patches: the strongest patch counts", moved(activations.amax(1))),
        ("as active as on the strongest patch, not as on the average one", moved(on_patches.mean(1))),
        ("as active as on the strongest patch, not as on all together", moved(on_patches.sum(1))),
        ("the strongest patch may be below zero: take the largest, not the largest size", moved(on_patches.abs().amax(1))),
        ("the strongest patch may be below zero: keep it", moved(strongest.clamp(min=0))),
        ("on the patches these neurons should be silent", moved(strongest, silent=slice(0, 0))),
        ("the class token keeps its own activations", moved(strongest, silent=slice(0, -1))),
        ("the patches are silent; the extra token is not filled yet", moved(activations[:, -1])),
        ("take the maximum before the patches are silent", moved(0 * strongest)),
        ("other neurons stay as they are", moved(strongest, which=list(range(width)))),
    ]
    judge(ask(answer, activations, neurons), moved(strongest), mistakes)


def noise_moment(answer, case: Case) -> None:
    d, width = case.whole(2, 3), case.whole(4, 6)
    w_v, w_o = case.normal(d, width), case.normal(width, d)
    for wide in (width, case.whole(2, 3)):  # where both are alike, what mixes up the two sides still runs
        m = case.normal(width, wide)
        a = m.T @ w_o @ w_v
        out = m.T @ w_o
        mistakes = [
            ("the values are missing: that is what the head writes if all its values vary alike", out @ out.T),
            ("that is A itself; the second moment of its outputs is A times its transpose", a),
            ("that is the transpose times A: the second moment of what A reads, not of what it writes", a.T @ a),
            ("do not divide: each direction of the noise has variance 1", a @ a.T / width),
            ("do not divide: each direction of the noise has variance 1", a @ a.T / d),
        ]
        if wide == width:
            mistakes.append(("the read-out `m` is missing", w_o @ w_v @ w_v.T @ w_o.T))
        judge(ask(answer, w_v, w_o, m), a @ a.T, mistakes, "not the second moment; noise need not be drawn to find it")
