"""What is kept of a comparison of all units of two models: a few neighbours of each, instead of all correlations."""

from dataclasses import dataclass
from itertools import accumulate

from torch import Tensor

from .buddies import mutual


@dataclass(frozen=True)
class Units:
    """The units of some layers of a model, numbered through."""

    model: str
    layers: tuple[str, ...]
    counts: tuple[int, ...]  # units of each layer

    def __len__(self) -> int:
        return sum(self.counts)

    @property
    def slices(self) -> list[slice]:
        """The numbers of each layer's units."""
        ends = [0, *accumulate(self.counts)]
        return [slice(start, end) for start, end in zip(ends, ends[1:])]

    @property
    def names(self) -> list[str]:
        """Layer and place in it of each unit, such as "layer3.17"."""
        return [f"{layer}.{k}" for layer, count in zip(self.layers, self.counts) for k in range(count)]


@dataclass(frozen=True)
class Match:
    """The k nearest neighbours of each unit of two models, and mean and spread of all: what is kept of a `Correlation`.

    All correlations of BigGAN-deep with a ViT-B take 6.4 GiB, this some megabytes.
    """

    a: Units
    b: Units
    k: int
    itself: bool  # the two models are one, and no unit is its own neighbour
    count: int  # images
    near_a: Tensor  # [A, k], units of b, nearest first; fewer than k where there are no more
    values_a: Tensor  # [A, k], their correlations
    near_b: Tensor  # [C, k], units of a
    sums: dict[str, Tensor]  # those of `Correlation`, but for the cross products

    def buddies(self, k: int = 5, rule: str = "mutual") -> tuple[Tensor, Tensor]:
        """Pairs [P, 2] as `best_buddies` gives them, and their correlations [P]. Raises ValueError for k above its own."""
        if k > self.k:
            raise ValueError(f"only {self.k} neighbours of each unit were kept, not {k}; match with k={k}")
        return mutual(self.near_a, self.values_a, self.near_b, k, rule)
