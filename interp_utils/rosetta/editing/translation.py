"""Two generators matched through a model that sees: the thesis (section 4.5) leaves matches of generators open."""

import torch

from ..matching import Correlation, Match
from .guidance import Pairs, matched_pairs


def translated_pairs(first: Match | Correlation, second: Match | Correlation, k: int = 5) -> Pairs:
    """Units of a second generator paired with units of a first, through units of one model that are best buddies of both.

    first, second: matches of either generator with the same model. Each unit of the second is paired with the unit of the
    first for which the weaker of the two correlations on the way is strongest. So images of the first, which the second
    never draws, can guide it: `Guidance(pairs, maps of the first)`, in the form "instance".
    Raises ValueError for two models that see, or where no unit connects the generators.
    """
    if first.b != second.b:
        raise ValueError(f"need matches with one model, got {first.b.model} and {second.b.model}")
    (ours, one), (theirs, two) = (match.buddies(k) for match in (first, second))
    best: dict[int, tuple[float, int, int]] = {}  # unit of the second -> correlation, unit of the first, unit between
    for (target, between), corr in zip(theirs.tolist(), two.tolist()):
        here = ours[:, 1] == between
        for source, other in zip(ours[here, 0].tolist(), one[here].tolist()):
            best[target] = max(best.get(target, (-1.0, 0, 0)), (min(corr, other), source, between))
    if not best:
        raise ValueError(f"no unit of {first.b.model} is a best buddy of both {first.a.model} and {second.a.model}")
    targets = sorted(best)
    sources, between = (torch.tensor([best[target][place] for target in targets]) for place in (1, 2))
    new = matched_pairs(second, torch.stack([torch.tensor(targets), between], 1))
    old = matched_pairs(first, torch.stack([sources, between], 1))
    return Pairs(
        second.a, first.a, torch.stack([new.numbers[:, 0], old.numbers[:, 0]], 1),
        torch.stack([new.means[:, 0], old.means[:, 0]], 1), torch.stack([new.stds[:, 0], old.stds[:, 0]], 1),
    )  # fmt: skip
