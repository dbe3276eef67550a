"""Images for the viewers: training batches that never repeat, a stock of them for a GPU, and balanced images with labels."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import cache

import numpy as np
import torch
from torch import Tensor

from ..render import backgrounds, draw
from ..tasks import EVALUATION, HIDDEN, factor_label, to_pixels
from ..world import FACTORS, OBJECTS, Spec, balanced, natural

STOCK = 200_000  # images that a GPU learns from


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


class Stock:
    """Training images that all processor cores draw once, kept as bytes on a device: a GPU is not to wait for drawing.

    n: how many, 16 KiB each. Called as `cut_out_batch`, whose images it holds, it draws a batch at random.
    """

    def __init__(self, n: int, device: str = "cpu", part: int = 500):
        self.pixels = torch.empty(n, 3, 64, 64, dtype=torch.uint8, device=device)
        self.seen = torch.empty(n, 1, 64, 64, dtype=torch.bool, device=device)
        starts = range(0, n, part)
        with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
            for k, (pixels, seen) in zip(starts, pool.map(_drawn_with_masks, starts, [min(part, n - k) for k in starts])):
                self.pixels[k : k + part], self.seen[k : k + part] = torch.from_numpy(pixels), torch.from_numpy(seen)

    def __call__(self, k: int, size: int) -> tuple[Tensor, Tensor]:
        chosen = torch.randint(len(self.pixels), (size,), device=self.pixels.device)
        return to_pixels(self.pixels[chosen]).contiguous(memory_format=torch.channels_last), self.seen[chosen]


def _drawn_with_masks(start: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    torch.set_num_threads(1)
    pixels, seen = draw([natural(seed) for seed in range(start, start + n)], masks=True)
    return pixels.numpy(), seen.any(1, keepdim=True).numpy()


def empty_scenes(n: int, device: torch.device | str = "cpu") -> Tensor:
    """Backgrounds without an object, by torch's random numbers: normalised [n, 3, 64, 64]."""
    scenes = _scenes(device)
    return to_pixels(scenes[torch.randint(len(scenes), (n,), device=device)])


@cache
def _scenes(device: torch.device | str) -> Tensor:
    return torch.stack(list(backgrounds().values())).flatten(0, 1).to(device)


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
