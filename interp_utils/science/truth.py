"""What moves a unit, by a larger set of held-out renders: the truth against which hypotheses are scored."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from ..moments import GroupMeans
from ..sandbox.first import FACTORS, balanced
from ..sandbox.first.tasks import SandboxImages, factor_labels
from ..stream import feed
from .hypotheses import Units

FACTS = [(factor, value) for factor, values in FACTORS.items() for value in values]
HELD_OUT = 2 * 10**9  # seeds of images on which nothing was proposed or tested


def fact_differences(units: Units, n_images: int = 3000, seed: int = 0, **options) -> Tensor:
    """How far a unit's answers to images with a fact lie from those without, in its standard deviations: [U, F], see `FACTS`.

    The standard deviation is over all images and dimensions. All factors are drawn at random, so this is the effect of the fact
    on average over everything else. It looks at whole answers, never at texts. A unit that answers by a vector has a length
    here, less what chance gives so few images (and at least 0); one that answers by a number keeps the sign. Colour: photos only.
    """
    specs = [balanced(HELD_OUT + seed * 10**7 + k) for k in range(n_images)]
    images = SandboxImages(specs, factor_labels, preprocess=units.clip.preprocess)
    means = [GroupMeans(len(values)) for values in FACTORS.values()]
    views = [(mean, lambda batch, k=k: (units.vectors(batch), batch.targets[:, k])) for k, mean in enumerate(means)]
    feed(units.clip, images, views, **options)
    return torch.cat([_differences(mean) for mean in means], 1).float()


def _differences(groups: GroupMeans) -> Tensor:
    """[U, values of a factor]"""
    counts, n = groups.counts[:, None, None].to(groups.total), groups.counts.sum().item()
    rest = (groups.total.sum(0) - groups.total) / (n - counts)
    change = groups.mean - rest  # [V, U, W]
    variance = groups.variance  # [U]
    whole = torch.where(variance > 0, variance, torch.inf)  # a unit that never varies differs by nothing
    if change.shape[-1] == 1:
        return (change[..., 0] / whole.sqrt()).T
    share = counts[..., 0] / n
    within = variance - share * (1 - share) * change.square().sum(-1)
    chance = within * (1 / counts + 1 / (n - counts))[..., 0]
    return ((change.square().sum(-1) - chance).clamp(min=0) / whole).sqrt().T


def claimed_facts(claims: Iterable[tuple[int, str]], n_units: int, read: Callable[[str], list]) -> Tensor:
    """Claims (unit, text) as a table of facts, bool [U, F]. read: the facts that a text names."""
    table = torch.zeros(n_units, len(FACTS), dtype=torch.bool)
    for unit, text in claims:
        table[unit, [FACTS.index(fact) for fact in read(text)]] = True
    return table
