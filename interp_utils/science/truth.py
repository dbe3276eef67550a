"""What moves a unit, by a larger set of held-out renders: the truth against which hypotheses are scored."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from ..moments import GroupMeans
from ..sandbox import FACTORS, FACTS, FAMILIES, SandboxImages, balanced, factor_labels
from ..sandbox.captions import values
from ..sandbox.world import CATEGORY_OF, FAMILY_OF
from ..stream import feed
from .hypotheses import Units, together

HELD_OUT = 2 * 10**9  # seeds of images on which nothing was proposed or tested
_CATEGORY = torch.tensor([values("category").index(CATEGORY_OF[name]) for name in FACTORS["object"]])
_FAMILY = torch.tensor(  # the last group: no family
    [[*FAMILIES, None].index(FAMILY_OF.get(CATEGORY_OF[name])) for name in FACTORS["object"]]
)


def held_out_images(n: int, seed: int = 0, preprocess=None) -> SandboxImages:
    """Balanced images that no other experiment draws. Targets: labels of all factors, see `FactMeans`."""
    return SandboxImages([balanced(HELD_OUT + seed * 10**7 + k) for k in range(n)], factor_labels, preprocess=preprocess)


class FactMeans:
    """How values differ between images with a fact and those without, for every fact of the sandbox.

    update: values [B, U, W] and labels of all factors [B, F], as `sandbox.factor_labels` gives them.
    """

    def __init__(self):
        self.means = [GroupMeans(len(of_factor)) for of_factor in FACTORS.values()]
        self.means += [GroupMeans(len(values("category"))), GroupMeans(len(FAMILIES) + 1)]

    def update(self, answers: Tensor, labels: Tensor) -> None:
        groups = [*labels.cpu().T, _CATEGORY[labels[:, 0].cpu()], _FAMILY[labels[:, 0].cpu()]]
        for mean, each in zip(self.means, groups):
            mean.update(answers, each)

    def shifts(self) -> Tensor:
        """Mean with the fact less mean without, [facts, U, W]."""
        return torch.cat([_shifts(mean)[: len(of)] for mean, of in zip(self.means, self._values())])

    def differences(self) -> Tensor:
        """The length of `shifts` in standard deviations of the values, [U, facts], see `fact_differences`."""
        return torch.cat([_differences(mean)[:, : len(of)] for mean, of in zip(self.means, self._values())], 1).float().cpu()

    def _values(self) -> list:
        return [*FACTORS.values(), values("category"), values("family")]


def fact_differences(units: Units | Sequence[Units], n_images: int = 3000, seed: int = 0, **options) -> Tensor:
    """How far a unit's answers to images with a fact lie from those without, in its standard deviations: [U, F], see `FACTS`.

    Several kinds of units share a run of the model, and stand one after the other.

    The standard deviation is over all images and dimensions. All factors are drawn at random, so this is the effect of the fact
    on average over everything else. It looks at whole answers, never at texts. A unit that answers by a vector has a length
    here, less what chance gives so few images (and at least 0); one that answers by a number keeps the sign. A factor that only
    some images show counts among those: colour in photos, place and size of a single object.
    """
    kinds = [units] if isinstance(units, Units) else list(units)
    found, clip, view = [FactMeans() for _ in kinds], kinds[0].clip, together(kinds)

    def answers(k: int):
        return lambda batch: (batch.once("answers", lambda: view(batch))[k], batch.targets)

    feed(clip, held_out_images(n_images, seed, clip.preprocess), [(each, answers(k)) for k, each in enumerate(found)], **options)
    return torch.cat([each.differences() for each in found])


def _shifts(groups: GroupMeans) -> Tensor:
    """[values of a factor, U, W]; 0 for a value that no image or every image has."""
    counts, n = groups.counts[:, None, None].to(groups.total), groups.counts.sum().item()
    rest = (groups.total.sum(0) - groups.total) / (n - counts)
    return (groups.mean - rest).nan_to_num(0, 0, 0)


def _differences(groups: GroupMeans) -> Tensor:
    """[U, values of a factor]"""
    counts, n = groups.counts[:, None, None].to(groups.total), groups.counts.sum().item()
    change = _shifts(groups)  # [V, U, W]
    variance = groups.variance  # [U]
    whole = torch.where(variance > 0, variance, torch.inf)  # a unit that never varies differs by nothing
    if change.shape[-1] == 1:
        return (change[..., 0] / whole.sqrt()).T
    share = counts[..., 0] / n
    within = variance - share * (1 - share) * change.square().sum(-1)
    chance = within * (1 / counts + 1 / (n - counts))[..., 0]
    return ((change.square().sum(-1) - chance).clamp(min=0).nan_to_num(0) / whole).sqrt().T


def claimed_facts(claims: Iterable[tuple[int, str]], n_units: int, read: Callable[[str], list]) -> Tensor:
    """Claims (unit, text) as a table of facts, bool [U, F]. read: the facts that a text names."""
    table = torch.zeros(n_units, len(FACTS), dtype=torch.bool)
    for unit, text in claims:
        table[unit, [FACTS.index(fact) for fact in read(text)]] = True
    return table
