"""What all image sets share."""

import os
from collections.abc import Iterable
from pathlib import Path

import torch
from torch.utils.data import default_collate

from .. import sandbox
from ..checks import checked_count
from ..images import read_image

ROOT = Path(os.environ.get("INTERP_DATA", "~/.cache/interp_utils")).expanduser()


def most_images() -> int | None:
    """What the variable INTERP_IMAGES allows of every set of real images, for a rehearsal; None where it is not set.

    Raises ValueError where it is no count.
    """
    most = os.environ.get("INTERP_IMAGES")
    if most is None:
        return None
    if not most.isdecimal() or int(most) == 0:
        raise ValueError(f"the variable INTERP_IMAGES must be a whole number, at least 1, got {most!r}; unset it for all images")
    return int(most)


def spread(images, n: int | None):
    """So many images, evenly spread over a set; all of them for None, or where there are no more. See `most_images`."""
    wanted = len(images) if n is None else checked_count("n", n)
    wanted = min(wanted, most_images() or wanted)
    if wanted >= len(images):
        return images
    return torch.utils.data.Subset(images, torch.linspace(0, len(images) - 1, wanted).long().tolist())


def take(images, numbers: Iterable[int]) -> list:
    """Some items (pixels, target) of a dataset, by their places, as one batch: [pixels [B, 3, H, W], targets [B]]."""
    numbers = list(numbers)
    items = images.__getitems__(numbers) if hasattr(images, "__getitems__") else [images[number] for number in numbers]
    return default_collate(items)


def sandbox_templates(factor: str) -> list:
    """A template for each form of prompt that the sandbox has for objects or categories."""
    n = len(sandbox.prompts(factor, sandbox.FACTORS["object"][0]))
    return [lambda value, k=k: sandbox.prompts(factor, value)[k] for k in range(n)]


class Files(torch.utils.data.Dataset):
    """Image files, as `images.read_image` gives them: item k is (preprocessed pixels, target)."""

    def __init__(self, files: list[tuple[Path, object]], preprocess):
        self.files, self.preprocess = files, preprocess

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, k: int):
        path, target = self.files[k]
        return self.preprocess(read_image(path)), target
