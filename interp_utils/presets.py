"""The four presets under which every notebook runs, and a notebook's first call."""

import os
from dataclasses import dataclass

import matplotlib.pyplot as plt
import torch

from .models import best_device


@dataclass(frozen=True)
class Preset:
    """What a notebook loads: a CLIP, an image classification set, how many of its images, and a layer-norm convention."""

    name: str
    clip: str
    images: str
    n_images: int | None  # None means all
    ln: str


PRESETS = {
    preset.name: preset
    for preset in (
        Preset("sandbox", "sandbox", "sandbox", 2000, "centered"),
        Preset("laptop", "ViT-B-32-quickgelu/openai", "imagenette", 1000, "centered"),
        Preset("colab", "ViT-L-14/laion2b_s32b_b82k", "imagenette", None, "centered"),
        Preset("paper", "ViT-L-14/laion2b_s32b_b82k", "imagenet", None, "split"),
    )
}


def setup(preset: str | None = None, seed: int = 0) -> Preset:
    """Choose a preset (argument, else the variable INTERP_PRESET, else "sandbox"), seed torch, and say where we run."""
    name = preset or os.environ.get("INTERP_PRESET", "sandbox")
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}; choose one of {', '.join(PRESETS)}")
    torch.manual_seed(seed)
    plt.rcParams.update({"figure.dpi": 100, "figure.constrained_layout.use": True, "image.interpolation": "nearest"})
    print(f"preset {name} on {best_device()}")
    return PRESETS[name]
