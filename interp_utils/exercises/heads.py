"""Checks of chapter 2's exercises."""

import torch
from torch import nn

from . import solutions
from .cases import Case, ask, judge


def frozen_effects(answer, case: Case) -> None:
    width, wide = case.whole(4, 7), case.whole(2, 5)
    terms, projection = case.normal(case.whole(2, 4), case.whole(3, 6), width) + case.normal(width), case.normal(width, wide)
    norm = nn.LayerNorm(width, eps=(1e-5, 0.3)[case.whole(0, 1)]).to(case.dtype)
    norm.weight.data, norm.bias.data = 1 + case.uniform(width), case.normal(width)
    norm.requires_grad_(False)
    stream = terms.sum(1, keepdim=True)
    centred = terms - terms.mean(-1, keepdim=True)
    s = (stream.var(-1, correction=0, keepdim=True) + norm.eps).sqrt()
    constant, first = norm.bias @ projection, torch.arange(terms.shape[1])[:, None] == 0

    def effects(scale, x=centred, gain=norm.weight, with_bias=first):
        return gain * x / scale @ projection + constant * with_bias

    own = (terms.var(-1, correction=0, keepdim=True) + norm.eps).sqrt()
    mistakes = [
        ("each term was divided by its own deviation; all share the stream's, which is frozen", effects(own)),
        ("that is the norm of each term alone: freeze the stream's deviation, and add the bias once", norm(terms) @ projection),
        ("the bias was added to every term; it is one constant, filed with the first", effects(s, with_bias=1)),
        ("the norm's bias is missing", effects(s, with_bias=0)),
        ("subtract from each term its own mean", effects(s, x=terms)),
        ("the norm's gain is missing", effects(s, gain=1)),
        (
            "a layer norm divides by the deviation without Bessel's correction",
            effects((stream.var(-1, keepdim=True) + norm.eps).sqrt()),
        ),
        ("a layer norm adds its eps to the variance", effects(stream.var(-1, correction=0, keepdim=True).sqrt())),
    ]
    found = ask(answer, terms, norm, projection)
    judge(found, effects(s), mistakes)
    whole = (norm(terms.sum(1)) @ projection - found.sum(1)).abs().max()
    assert whole < 1e-3, "the effects must add up to the representation"


def resample_ablation(answer, case: Case) -> None:
    n, p = case.whole(3, 6), case.whole(3, 6)
    terms, donor, ablated = case.normal(n, p, 4), case.numbers(n, n), torch.zeros(p, dtype=torch.bool)
    ablated[case.order(p)[: case.whole(1, p - 1)]] = True
    gone = ablated[:, None]
    mistakes = [
        ("nothing was ablated", terms.sum(1)),
        ("that is the mean over the images, not the donor's part", torch.where(gone, terms.mean(0), terms).sum(1)),
        ("the wrong way round: parts that are not ablated stay the image's own", torch.where(gone, terms, terms[donor]).sum(1)),
        ("that is zero in the place of the ablated parts", torch.where(gone, 0 * terms, terms).sum(1)),
        (
            "image k gets the parts of image donor[k], not the other way round",
            torch.where(gone, terms[donor.argsort()], terms).sum(1),
        ),
        ("all parts came from the donor", terms[donor].sum(1)),
        ("add the parts up: one vector for each image", torch.where(gone, terms[donor], terms)),
    ]
    found = ask(answer, terms, ablated, donor)
    assert getattr(found, "shape", None) != terms.shape, mistakes[-1][0]
    judge(found, solutions.resample_ablation(terms, ablated, donor), mistakes[:-1])


def without_direction(answer, case: Case) -> None:
    vectors, direction = case.normal(case.whole(2, 6), 4) + case.normal(4), 2 * case.normal(4)
    unit = direction / direction.norm()
    part, centred = torch.outer(vectors @ unit, unit), vectors - vectors.mean(0)
    mistakes = [
        ("nothing was removed", vectors),
        ("that is the part along the direction; return what is left", part),
        ("the direction has a length: make it a unit vector first", vectors - torch.outer(vectors @ direction, direction)),
        ("divide by the length twice: once for each time the direction is used", vectors - torch.outer(vectors @ direction, unit)),
        ("each vector has its own amount of it: the inner product with the unit vector", vectors - unit),
        ("each vector has its own amount of the direction; do not subtract it whole", vectors - direction),
        ("do not subtract the mean", centred - torch.outer(centred @ unit, unit)),
    ]
    judge(ask(answer, vectors, direction), vectors - part, mistakes)


def most_explaining_text(answer, case: Case) -> None:
    while True:  # until the usual mistakes give other texts
        outputs = case.normal(60, 4) * (0.2 + 2 * case.uniform(4)) + 3 * case.normal(4)
        texts = case.normal(case.whole(6, 12), 4)
        texts = texts * torch.exp(case.normal(len(texts), 1))  # of any length
        unit = nn.functional.normalize(texts, dim=1)
        wanted = solutions.most_explaining_text(outputs, texts)
        mistakes = [
            ("that text wins because it is long: compare directions", (outputs @ texts.T).var(0).argmax()),
            ("that text has a large mean; variance is about the mean", (outputs @ unit.T).square().mean(0).argmax()),
            ("that text has the largest mean, not the largest variance", (outputs @ unit.T).mean(0).argmax()),
            ("that is the text that explains least", (outputs @ unit.T).var(0).argmin()),
        ]
        places = {int(place) for _, place in mistakes}
        if wanted not in places and len(places) > 2:
            break
    found = ask(answer, outputs, texts)
    judge(found, wanted, mistakes, f"text {wanted} explains most variance, not text {found}")


def worst_group(answer, case: Case) -> None:
    while True:  # until the worst group has something right, and is no other number that is easily taken for it
        n = case.whole(12, 40)
        present = 1 + case.order(6)[: case.whole(2, 4)]  # group 0 never has an image
        groups = torch.cat([present, present[case.numbers(len(present), n - len(present))]])
        labels, wrong = case.numbers(3, n), case.uniform(n) < 0.4
        guesses = torch.where(wrong, (labels + 1 + case.numbers(2, n)) % 3, labels)
        right = (guesses == labels).double()
        means = torch.stack([right[groups == g].mean() for g in present])
        sizes = torch.stack([(groups == g).sum() for g in present])
        by_label = [right[labels == c].mean() for c in labels.unique()]
        if 0 < means.min() < min(by_label):
            break
    mistakes = [
        ("that is the accuracy over all images", right.mean()),
        ("that is the best group", means.max()),
        ("that is how many are right; divide by the size of the group", (means * sizes).min()),
        ("that is the mean over the groups", means.mean()),
        ("that is the worst class; ask for the worst group", torch.stack(by_label).min()),
        ("that is the smallest group, not the one with the lowest accuracy", means[sizes.argmin()]),
    ]
    found = ask(answer, guesses, labels, groups)
    assert found == found, "a group without an image has no accuracy (nan): it does not count"
    judge(found, means.min().item(), mistakes)


def _both(mask: torch.Tensor, guess: torch.Tensor) -> torch.Tensor:
    """Intersection over union, mean of object and background."""
    return sum((a & b).sum() / (a | b).sum() for a, b in ((guess, mask), (~guess, ~mask))) / 2


def mean_iou(answer, case: Case) -> None:
    while True:
        heat = case.normal(case.whole(6, 10), case.whole(6, 10)) - 0.3
        mask = torch.zeros(heat.shape, dtype=torch.bool)
        mask[1 : case.whole(3, 5), case.whole(0, 2) : case.whole(3, 5)] = True
        heat[mask] += 1
        high = heat.clamp(min=0)
        guess = high > high.mean()
        mistakes = [
            ("that is the pixel accuracy", (guess == mask).float().mean()),
            ("that is the foreground alone; take the mean with the background's", (guess & mask).sum() / (guess | mask).sum()),
            ("negatives count as zero before the mean is taken", _both(mask, heat > heat.mean())),
            ("the threshold is the map's mean, not one half", _both(mask, high > 0.5)),
            ("the threshold is the map's mean, not zero", _both(mask, high > 0)),
            (
                "the threshold is the map's mean, not one half, and the background counts too",
                (mask & (high > 0.5)).sum() / (mask | (high > 0.5)).sum(),
            ),
            (
                "that is twice the overlap by the sum of sizes (Dice), not by the union",
                2 * (guess & mask).sum() / (guess.sum() + mask.sum()),
            ),
        ]
        wanted = solutions.mean_iou(heat, mask)
        if all(abs(float(value) - wanted) > 1e-2 for _, value in mistakes):
            break
    judge(ask(answer, heat, mask), wanted, mistakes)
    nowhere = solutions.mean_iou(-heat.abs() - 1, mask)
    judge(ask(answer, -heat.abs() - 1, mask), nowhere, otherwise="a map without a positive value marks nothing as foreground")
