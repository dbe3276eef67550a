"""Images for the viewers, drawn when asked for: training batches that never repeat, and balanced images with labels."""

import numpy as np
import torch
from torch import Tensor

from ..render import backgrounds, draw
from ..tasks import EVALUATION, HIDDEN, factor_label, to_pixels
from ..world import FACTORS, OBJECTS, Spec, balanced, natural


def drawn(specs: list[Spec]) -> Tensor:
    """The images of some specs, normalised [B, 3, 64, 64], stored channels-last (quick on CPUs)."""
    return to_pixels(draw(specs)).contiguous(memory_format=torch.channels_last)


def training_batch(k: int, size: int) -> tuple[Tensor, list[Spec]]:
    """Batch k of the distribution that the sandbox CLIP saw: normalised images [B, 3, 64, 64], and their specs."""
    specs = [natural(k * size + i) for i in range(size)]
    return drawn(specs), specs


def cut_out_batch(k: int, size: int) -> tuple[Tensor, Tensor]:
    """As `training_batch`, with where any object is seen instead of the specs: bool [B, 1, 64, 64]."""
    pixels, seen = draw([natural(k * size + i) for i in range(size)], masks=True)
    return to_pixels(pixels).contiguous(memory_format=torch.channels_last), seen.any(1, keepdim=True)


def empty_scenes(n: int) -> Tensor:
    """Backgrounds without an object, by torch's random numbers: normalised [n, 3, 64, 64]."""
    scenes = torch.stack(list(backgrounds().values())).flatten(0, 1)
    return to_pixels(scenes[torch.randint(len(scenes), (n,))])


def balanced_images(n: int, seed: int, kinds: tuple[str, ...] | None = None) -> tuple[Tensor, dict[str, np.ndarray]]:
    """Fresh images with every factor uniform, uint8 [n, 3, 64, 64], and each factor's labels int [n].

    kinds: the only kinds of object, in turn. A label is HIDDEN (-1) where the image does not show the factor.
    """
    seeds = range(EVALUATION + seed * 10**7, EVALUATION + seed * 10**7 + n)
    specs = [balanced(seed, object=kinds[seed % len(kinds)]) if kinds else balanced(seed) for seed in seeds]
    labels = {factor: np.array([factor_label(spec, factor) for spec in specs]) for factor in FACTORS}
    return torch.cat([draw(specs[k : k + 250]) for k in range(0, n, 250)]), labels


def object_labels(specs: list[Spec]) -> Tensor:
    """Index of the object in each image, int [B], HIDDEN where there are several kinds."""
    return torch.tensor([HIDDEN if spec.others else OBJECTS.index(spec.object) for spec in specs])
