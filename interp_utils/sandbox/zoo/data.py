"""Training images of the sandbox zoo, drawn when asked for and never repeated: batch k is always the same for the same k."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..first.render import render
from ..first.tasks import EVALUATION, HIDDEN, factor_label, to_pixels
from ..first.world import COLOURS, FACTORS, Spec, balanced, training

# What the generators learn: one solid object in a photo, with every colour and place, in four of the scenes.
KINDS = ("fish", "cat", "plane", "apple")
SCENES = ("sea", "desert", "meadow", "mountains")
GROUP = 8


def kinds_of(indices) -> list[int]:
    """The kind of image number i: a group of images in a row shares it, so that sameness within a kind shows."""
    return [i // GROUP % len(KINDS) for i in indices]


def generator_spec(seed: int) -> Spec:
    """Image number `seed` of what the generators learn; its colour, place and scene are uniform and independent."""
    rng = np.random.default_rng([seed, 5])
    scene, colour, place = (values[int(rng.integers(len(values)))] for values in (SCENES, tuple(COLOURS), FACTORS["place"]))
    (kind,) = kinds_of([seed])
    return Spec(object=KINDS[kind], colour=colour, place=place, scene=scene, seed=seed)


def drawn(specs: list[Spec]) -> Tensor:
    """The images of some specs as `to_pixels` gives them, [B, 3, 64, 64] in -2..2, stored channels-last (quick on CPUs)."""
    pixels = to_pixels(np.stack([render(spec).pixels for spec in specs]))
    return pixels.contiguous(memory_format=torch.channels_last)


def generator_batch(k: int, size: int) -> tuple[Tensor, Tensor]:
    """Batch k for a generator: images [B, 3, 64, 64] in -1..1 and their kinds, one-hot [B, kinds]."""
    numbers = range(k * size, (k + 1) * size)
    return drawn([generator_spec(i) for i in numbers]) / 2, one_hot(kinds_of(numbers))


def one_hot(kinds) -> Tensor:
    """Indices of kinds [B] -> class weights [B, kinds]."""
    return F.one_hot(torch.as_tensor(kinds), len(KINDS)).float()


def training_batch(k: int, size: int) -> tuple[Tensor, list[Spec]]:
    """Batch k of the distribution that the sandbox CLIP saw: normalised images [B, 3, 64, 64], and their specs."""
    specs = [training(k * size + i) for i in range(size)]
    return drawn(specs), specs


def balanced_images(n: int, seed: int) -> tuple[Tensor, dict[str, np.ndarray]]:
    """Fresh normalised evaluation images [n, 3, 64, 64] with every factor uniform, and each factor's labels int [n].

    A label is HIDDEN (-1) where the image does not show the factor: the colour of an object outside photos.
    """
    specs = [balanced(EVALUATION + seed * 10**7 + k) for k in range(n)]
    labels = {factor: np.array([factor_label(spec, factor) for spec in specs]) for factor in FACTORS}
    return drawn(specs), labels


def object_labels(specs: list[Spec]) -> Tensor:
    """Index of the object in each image, int [B], HIDDEN where there are two kinds of object."""
    return torch.tensor([HIDDEN if spec.second else FACTORS["object"].index(spec.object) for spec in specs])
