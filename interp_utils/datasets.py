"""Image classification sets by name, each with its class names and text templates."""

import os
from pathlib import Path
from typing import NamedTuple

import open_clip
import torch
import torchvision

from .sandbox import FACTORS, factor_images, prompts

ROOT = Path(os.environ.get("INTERP_DATA", "~/.cache/interp_utils")).expanduser()
_IMAGENETTE_IN_IMAGENET = (0, 217, 482, 491, 497, 566, 569, 571, 574, 701)


class Task(NamedTuple):
    """Images with labels, and what is needed to classify them from text."""

    images: torch.utils.data.Dataset  # items (pixels [3, H, W], label)
    classes: list[str]
    templates: list  # for clip.encode_text(classes, templates)


def load_task(name: str, preprocess, n: int | None = None, root: Path = ROOT) -> Task:
    """A classification task by name: "sandbox" (objects), "imagenette" (downloaded once) or "imagenet" (validation set on disk).

    preprocess: PIL image -> tensor; n: take so many images, evenly spread over the set; root: where the data lies.
    Raises ValueError for an unknown name, FileNotFoundError where ImageNet is not at root/imagenet.
    """
    if name == "sandbox":
        templates = [lambda value, k=k: prompts("object", value)[k] for k in range(len(prompts("object", "dog")))]
        return Task(factor_images("object", n or 2000), list(FACTORS["object"]), templates)
    templates = list(open_clip.OPENAI_IMAGENET_TEMPLATES)
    if name == "imagenette":
        folder = root / "imagenette"
        here = (folder / "imagenette2-320").exists()
        images = torchvision.datasets.Imagenette(folder, split="val", size="320px", download=not here, transform=preprocess)
        return Task(_spread(images, n), [open_clip.IMAGENET_CLASSNAMES[k] for k in _IMAGENETTE_IN_IMAGENET], templates)
    if name == "imagenet":
        folder = root / "imagenet"
        if not folder.exists():
            raise FileNotFoundError(
                f"no ImageNet at {folder}: put ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz there, or set INTERP_DATA"
            )
        images = torchvision.datasets.ImageNet(folder, split="val", transform=preprocess)
        return Task(_spread(images, n), list(open_clip.IMAGENET_CLASSNAMES), templates)
    raise ValueError(f"unknown image set {name!r}; choose sandbox, imagenette or imagenet")


def _spread(images, n: int | None):
    if n is None or n >= len(images):
        return images
    return torch.utils.data.Subset(images, torch.linspace(0, len(images) - 1, n).long().tolist())
