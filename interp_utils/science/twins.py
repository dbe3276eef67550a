"""Pairs of images that differ in what a text names: drawn, where there is a renderer, or searched among images."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.utils.data import Dataset

from ..models import Clip
from ..moments import Rows
from ..sandbox import FACTORS, Spec, balanced, rendered, to_pixels
from ..sandbox.world import CATEGORY_OF, FAMILY_OF
from ..stream import feed, pixels_and_target
from .named import facts_named

PAIRS = 10**12  # seeds of paired images start here
Draw = Callable[[str, int, int], tuple[Tensor, Tensor]]  # text, n, seed -> images of which it is true, and their twins


def painted_pairs(text: str, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """n sandbox images of which a text is true, and their twins that differ in what it names alone: [n, 3, 64, 64] each.

    Everything else is drawn at random, anew for each text, and the same in both. A twin has another value of each factor that the
    text names; for a category or family, any kind of object outside. Colour is invisible but in photos, place and size but of a
    single object, so where they are named both are such, unless the text names a style or a count too.
    Raises ValueError for a text that names nothing of the sandbox, or two things of one kind.
    """
    named = facts_named(text)
    facts = dict(named)
    if not facts or len(facts) < len(named) or "relation" in facts:
        raise ValueError(
            f"{text!r} names {named or 'nothing of the sandbox'}; name one object or kind of object, or one value of a colour, "
            "texture, count, size, place, scene, weather, light or style, or several of these"
        )
    fixed = {"style": "photo"} if "colour" in facts else {}
    fixed |= {"count": 1} if facts.keys() & {"place", "size"} else {}
    first = PAIRS * (1 + seed) + 100 * zlib.crc32(text.encode())
    bases = [balanced(first + k, **fixed) for k in range(n)]
    rng = np.random.default_rng([first, 5])
    both = [[_changed(base, facts, holds, rng) for base in bases] for holds in (True, False)]
    on, off = (to_pixels(np.stack([image.pixels for image in rendered(specs)])) for specs in both)
    return on, off


def _changed(spec: Spec, facts: dict, holds: bool, rng) -> Spec:
    """The spec with all facts true, or none."""
    given = {}
    for factor, value in facts.items():
        values = [v for v in FACTORS.get(factor, FACTORS["object"]) if (_value(factor, v) == value) == holds]
        given[factor if factor in FACTORS else "object"] = values[int(rng.integers(len(values)))]
    return replace(spec, **given)


def _value(factor: str, value):
    """A factor's value, or the category or family of a kind of object."""
    category = CATEGORY_OF.get(value)
    return category if factor == "category" else FAMILY_OF.get(category) if factor == "family" else value


@dataclass(frozen=True)
class RetrievedPairs:
    """Pairs from a set of images, see `retrieved_pairs`: called as `painted_pairs` is, or asked for the numbers of the images."""

    clip: Clip
    images: Dataset  # of (pixels, target)
    features: Tensor  # [B, E], representations
    places: Tensor  # [B], numbers in the dataset
    average: Tensor  # [E], mean of the reference texts

    def numbers(self, text: str, n: int, seed: int = 0) -> Tensor:
        """Numbers of n images that match a text, and of their twins: [2, n]. Raises ValueError for fewer than 4 n images."""
        if 4 * n > len(self.features):
            raise ValueError(f"need at least {4 * n} images for {n} pairs, got {len(self.features)}")
        direction = torch.nn.functional.normalize(self.clip.encode_text([text])[0].cpu() - self.average, dim=0)
        match = self.features @ direction
        rest = self.features - match[:, None] * direction
        best = match.topk(2 * n).indices[torch.randperm(2 * n, generator=torch.Generator().manual_seed(seed))[:n]]
        low = match.argsort()[: len(match) // 2]
        twins = low[linear_sum_assignment(torch.cdist(rest[best], rest[low]))[1]]
        return self.places[torch.stack([best, twins])]

    def pixels(self, numbers: Tensor) -> Tensor:
        return torch.stack([pixels_and_target(self.images[k], self.clip.preprocess)[0] for k in numbers.tolist()])

    def __call__(self, text: str, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        on, off = map(self.pixels, self.numbers(text, n, seed))
        return on, off


def retrieved_pairs(clip: Clip, images: Dataset, reference: Sequence[str] | Tensor, **options) -> RetrievedPairs:
    """Pairs for models without a renderer: images that match a text most, each beside its nearest neighbour that matches little.

    "Match" is CLIP's similarity with the text less the mean of the `reference` texts, or of their vectors [T, E]; "nearest" is by
    the representation without that direction, among the half that matches least, and no image is the twin of two (least total
    distance). Weaker than painted twins in two ways: a pair may differ in more than the text, and the whole model, of which the
    unit is a part, chose the pair.
    images: a dataset of (pixels, target), not the one that the texts were found on.
    """
    rows = Rows()
    feed(clip, images, [(rows, lambda batch: (batch.representation, batch.numbers))], **options)
    vectors = reference if isinstance(reference, Tensor) else clip.encode_text(list(reference))
    return RetrievedPairs(clip, images, rows.rows, rows.numbers, vectors.mean(0).cpu())
