"""What all image sets share."""

import os
from pathlib import Path

import torch
from torchvision.datasets.folder import default_loader

from ..sandbox import FACTORS, prompts

ROOT = Path(os.environ.get("INTERP_DATA", "~/.cache/interp_utils")).expanduser()


def spread(images, n: int | None):
    if n is None or n >= len(images):
        return images
    if n < 1:
        raise ValueError(f"need at least one image, got n={n}")
    return torch.utils.data.Subset(images, torch.linspace(0, len(images) - 1, n).long().tolist())


def sandbox_templates(factor: str) -> list:
    """A template for each form of prompt that the sandbox has for a factor."""
    return [lambda value, k=k: prompts(factor, value)[k] for k in range(len(prompts(factor, FACTORS["object"][0])))]


class Files(torch.utils.data.Dataset):
    """Image files, read as RGB: item k is (preprocessed pixels, target)."""

    def __init__(self, files: list[tuple[Path, object]], preprocess):
        self.files, self.preprocess = files, preprocess

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, k: int):
        path, target = self.files[k]
        return self.preprocess(default_loader(path)), target
