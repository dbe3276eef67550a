"""What each preset takes from the network: by name, from where, and the place where its file or folder lies once it is here."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
import open_clip
import timm
import torch
from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
from torchvision.models import AlexNet_Weights

from . import datasets
from .presets import Preset
from .rosetta.generators.registry import BIG_GAN_URL, STYLE_GAN2_REPO, STYLE_GAN2_REVISION, STYLE_GAN_XL_URL
from .rosetta.matching.zoo import DINO_URL

_TIMM = {"resnet50": "resnet50.tv_in1k", "dino_vitb16": "vit_base_patch16_224.dino", "mae_vitb16": "vit_base_patch16_224.mae"}
_TIMM_FILES = ("model.safetensors", "pytorch_model.bin")
MATCHED = ("resnet50", "dino_resnet50", "clip_rn50", "dino_vitb16", "mae_vitb16")  # all that the thesis matches
_ANIMALS = ("stylegan2_cat", "stylegan2_horse")
_UNITS = {
    "laptop": ("resnet50", "clip_rn50"),  # for chapter 1; chapter 4 takes the sandbox's
    "colab": ("biggan_deep256", *_ANIMALS, *MATCHED),
    "paper": ("biggan_deep256", *_ANIMALS, "stylegan_xl", *MATCHED),
}  # fmt: skip
_ALIGNED = ("dino_vitb16", "mae_vitb16")  # of chapter 5, which never saw a text
IMAGE_SETS = {
    "imagenette": (("imagenette/imagenette2-320/train", "imagenette/imagenette2-320/val"), True),
    "pets": (("pets/oxford-iiit-pet/images", "pets/oxford-iiit-pet/annotations"), True),
    "imagenet": (("imagenet/val",), False),
    "imagenet-train": (("imagenet/train",), False),
    "imagenet-r": (("imagenet-r",), False),
    "waterbirds": (("waterbird_complete95_forest2water2/metadata.csv",), False),
    "imagenet-segmentation": (("gtsegs_ijcv.mat",), False),
}


@dataclass(frozen=True)
class Download:
    """A model or image set that a preset needs. Several `places` in one of which a model's file may lie; a set needs them all."""

    name: str
    source: str  # "hf-hub:<repository>", a URL, or "$INTERP_DATA"
    places: tuple[str, ...]  # file names in the repository, or paths
    kind: str  # "clip", "units", "judge" or "images"
    automatic: bool = True  # fetched when first used; else to be put there by hand
    revision: str | None = None  # of the repository, where one is asked for: then no branch leads to the file

    def path(self) -> Path | None:
        """Where the file or folder lies, None where it is not here, or not whole."""
        if self.source.startswith("hf-hub:"):
            repo = self.source.removeprefix("hf-hub:")
            found = (huggingface_hub.try_to_load_from_cache(repo, name, revision=self.revision) for name in self.places)
            return next((Path(each) for each in found if isinstance(each, str)), None)
        paths = [Path(place) for place in self.places]
        return paths[0] if all(path.is_file() or path.is_dir() and any(path.iterdir()) for path in paths) else None


def clip_download(name: str) -> Download:
    """The file of "<OpenCLIP name>/<pretrained tag>", where OpenCLIP looks for it."""
    repo, file = open_clip.get_pretrained_cfg(*name.split("/"))["hf_hub"].rsplit("/", 1)
    return Download(name, f"hf-hub:{repo}", (file,) if file else (HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME), "clip")


def unit_download(name: str) -> Download:
    """The file of a model of chapter 4, see `rosetta.load_unit_model`."""
    if name == "clip_rn50":
        found = clip_download("RN50-quickgelu/openai")
        return Download(name, found.source, found.places, "units")
    if name in _TIMM:
        return Download(name, f"hf-hub:{timm.get_pretrained_cfg(_TIMM[name]).hf_hub_id}", _TIMM_FILES, "units")
    if name in _ANIMALS:
        file = f"{name.replace('_', '-')}-config-f.pt"
        return Download(name, f"hf-hub:{STYLE_GAN2_REPO}", (file,), "units", revision=STYLE_GAN2_REVISION)
    return _from_web(
        name, {"dino_resnet50": DINO_URL, "biggan_deep256": BIG_GAN_URL, "stylegan_xl": STYLE_GAN_XL_URL}[name], "units"
    )


def _from_web(name: str, url: str, kind: str) -> Download:
    return Download(name, url, (str(Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]),), kind)


def image_download(name: str) -> Download:
    """An image set by the name that `datasets` gives it, in its folder `datasets.ROOT`."""
    places, automatic = IMAGE_SETS[name]
    return Download(name, "$INTERP_DATA", tuple(str(datasets.ROOT / place) for place in places), "images", automatic)


def needs(preset: Preset) -> Iterator[Download]:
    """All that the notebooks take from the network under a preset, nothing for the sandbox."""
    if preset.name == "sandbox":
        return
    for name in dict.fromkeys((*preset.clips, preset.neurons_clip)):
        yield clip_download(name)
    for name in dict.fromkeys((*_UNITS[preset.name], *_ALIGNED)):
        yield unit_download(name)
    if "stylegan_xl" in _UNITS[preset.name]:  # whose inversions LPIPS judges (table 4.1)
        yield _from_web("alexnet", AlexNet_Weights.IMAGENET1K_V1.url, "judge")
    sets = (preset.images, preset.fit.replace("imagenette-train", "imagenette"), preset.masks, preset.groups, preset.shifted)
    for name in dict.fromkeys(each for each in sets if each):
        yield image_download(name)
