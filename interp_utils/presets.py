"""The four presets under which every notebook runs, and a notebook's first call."""

import os
from dataclasses import dataclass

import matplotlib.pyplot as plt
import torch

from .datasets.common import most_images
from .models import best_device


@dataclass(frozen=True)
class Preset:
    """What a notebook loads: CLIPs, image sets, how many images of each, a pool of texts, and a layer-norm convention."""

    name: str
    clip: str
    images: str
    n_images: int | None  # None means all
    fit: str  # other images of the same kind, to fit on
    n_fit: int
    ln: str
    pool: str  # of texts, see texts.load_pool
    groups: str | None  # images with a spurious cue, see datasets.load_groups; None where they cannot be downloaded
    cue: tuple[str, ...]  # kinds of texts that name the cue
    masks: str  # images with object masks, see datasets.load_masks
    shifted: str | None  # images in styles that training hardly saw, see datasets.load_task; None where they cannot be downloaded
    sizes: tuple[str, ...] = ()  # CLIPs of other sizes, or training seeds, to compare (thesis: tables 2.1, 2.3, A.1, A.7 to A.10)
    neurons: str | None = None  # the CLIP of chapter 3, where it is another one

    @property
    def clips(self) -> tuple[str, ...]:
        """The CLIPs of chapter 2's tables: `clip` and those of other sizes, or of other seeds of training."""
        return (self.clip, *self.sizes)

    @property
    def neurons_clip(self) -> str:
        """The CLIP whose neurons chapter 3 reads."""
        return self.neurons or self.clip

    def finding(self, what: str, holds: bool) -> None:
        """Assert what was measured in the sandbox; on another model say whether it holds there too, and go on.

        what: the finding, in words. Raises AssertionError where it does not hold in the sandbox.
        """
        if self.name != "sandbox":
            print(f"{'on this model too' if holds else 'not on this model'}: {what}")
        elif not holds:
            raise AssertionError(f"not as it was measured: {what}")


_PLACES = ("setting", "location")

PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            "sandbox", "sandbox", "sandbox", 1000, "sandbox-train", 1600, "centered", "sandbox", "sandbox", ("scene",), "sandbox",
            "sandbox-sketch", ("sandbox-1", "sandbox-2"),
        ),
        Preset(
            "laptop", "ViT-B-32-quickgelu/openai", "imagenette", 1000, "imagenette-train", 2000, "centered", "general", None,
            _PLACES, "pets", None,
        ),
        Preset(
            "colab", "ViT-L-14/laion2b_s32b_b82k", "imagenette", None, "imagenette-train", 5000, "centered", "general", None,
            _PLACES, "pets", None,
        ),
        Preset(
            "paper", "ViT-L-14/laion2b_s32b_b82k", "imagenet", None, "imagenet-train", 5124, "split", "general", "waterbirds",
            _PLACES, "imagenet-segmentation", "imagenet-r",
            ("ViT-B-16/laion2b_s34b_b88k", "ViT-H-14/laion2b_s32b_b79k"), "ViT-B-32-quickgelu/openai",
        ),
    )
}  # fmt: skip


def _machine(device: torch.device) -> str:
    """A device in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name()
    return "Apple's MPS" if device.type == "mps" else f"the CPU ({os.cpu_count()} cores)"


def _expect(name: str, device: torch.device) -> str:
    """What a reader should know before the first cell that works."""
    if name == "sandbox":
        return "nothing to download; running times in the text are those of two cores"
    wait = "downloads models and photographs as cells ask for them, `python -m interp_utils.doctor` lists them"
    return wait + ("; made for a GPU, so very slow here" if name != "laptop" and device.type == "cpu" else "")


def setup(preset: str | None = None, seed: int = 0) -> Preset:
    """Choose a preset (argument, else the variable INTERP_PRESET, else "sandbox"), seed torch, and say what to expect."""
    name = preset or os.environ.get("INTERP_PRESET", "sandbox")
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}; choose one of {', '.join(PRESETS)}")
    torch.manual_seed(seed)
    plt.rcParams.update({"figure.dpi": 100, "figure.constrained_layout.use": True, "image.interpolation": "nearest"})
    few = f", with at most {most_images()} images of a set (INTERP_IMAGES)" if most_images() and name != "sandbox" else ""
    device = best_device()
    print(f"preset {name} on {_machine(device)}{few}: {_expect(name, device)}")
    return PRESETS[name]
