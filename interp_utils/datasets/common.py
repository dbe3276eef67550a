"""What all image sets share."""

import os
from pathlib import Path

import torch

from ..images import read_image
from ..sandbox import FACTORS, prompts
from ..sandbox.tasks import checked_n

ROOT = Path(os.environ.get("INTERP_DATA", "~/.cache/interp_utils")).expanduser()


def spread(images, n: int | None):
    """So many images, evenly spread over a set; all of them for None, or where there are no more."""
    if n is None or checked_n(n) >= len(images):
        return images
    return torch.utils.data.Subset(images, torch.linspace(0, len(images) - 1, n).long().tolist())


def sandbox_templates(factor: str) -> list:
    """A template for each form of prompt that the sandbox has for a factor."""
    return [lambda value, k=k: prompts(factor, value)[k] for k in range(len(prompts(factor, FACTORS["object"][0])))]


class Files(torch.utils.data.Dataset):
    """Image files, as `images.read_image` gives them: item k is (preprocessed pixels, target)."""

    def __init__(self, files: list[tuple[Path, object]], preprocess):
        self.files, self.preprocess = files, preprocess

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, k: int):
        path, target = self.files[k]
        return self.preprocess(read_image(path)), target
