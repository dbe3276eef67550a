"""Architectures of the rehearsal, for the process that makes the stand-ins and for every kernel that loads them."""

import json
import os
from functools import partial
from pathlib import Path

import open_clip
from timm.models import _registry

from interp_utils.datasets.common import most_images
from interp_utils.rosetta.editing import inversion
from interp_utils.rosetta.generators import big_gan, registry, style_gan2, style_gan_xl
from interp_utils.rosetta.matching import Generator

SIZES = {  # how the image towers differ from the real ones; tokens, number of heads and joint space are always theirs
    "real": "as they are",
    "narrow": "heads an eighth as wide, and so are generators; MLPs as wide as the stream",
    "shallow": "the same, and 8 layers",
}
VITS = ("vit_base_patch16_224",)  # of timm
TEMPLATES = 8  # of OpenAI's 80, which fill 80,000 sentences with the names of ImageNet
STEPS = 2  # that an inversion takes: hundreds would only turn noise into other noise


def use(size: str, folder: Path) -> None:
    """From here on, OpenCLIP, timm and chapter 4 build models of this size by the usual names, and generators draw few images."""
    open_clip.add_model_config(folder / "configs")
    if size != "real":
        open_clip.OPENAI_IMAGENET_TEMPLATES = open_clip.OPENAI_IMAGENET_TEMPLATES[:TEMPLATES]
        depth = {"depth": 8} if size == "shallow" else {}
        for name in VITS:  # as their constructors take it: keywords override what the name stands for
            _registry._model_entrypoints[name] = partial(_registry._model_entrypoints[name], embed_dim=12 * 8, mlp_ratio=1, **depth)
        registry.BigGAN = partial(big_gan.BigGAN, big_gan.BigGANConfig(width=16))
        registry.StyleGAN2 = partial(style_gan2.StyleGAN2, style_gan2.StyleGAN2Config((64, 64, 64, 64, 64, 32, 16)))
        registry.StyleGANXL = partial(style_gan_xl.StyleGANXL, style_gan_xl.StyleGANXLConfig(most_channels=16, base=1024))
    if "REHEARSED_BIGGAN" in os.environ:  # its file has a published hash, which no stand-in has
        registry.BIG_GAN_SHA256 = os.environ["REHEARSED_BIGGAN"]
    if os.environ.get("INTERP_PRESET") != "laptop":  # under which chapter 4 asserts what was measured in the sandbox
        sample = Generator.sample
        Generator.sample = lambda self, n, *asked, **options: sample(self, min(n, most_images() or n), *asked, **options)
        inversion.range = lambda done, steps: range(done, min(done + STEPS, steps))


def write_configs(size: str, folder: Path, names: set[str]) -> None:
    """OpenCLIP's configurations of these names, with one narrow layer of the text tower, which nothing takes apart."""
    (folder / "configs").mkdir(parents=True, exist_ok=True)
    for name in names:
        config = open_clip.get_model_config(name)
        vision, text = config["vision_cfg"], config["text_cfg"]
        text.update(layers=1, width=64, heads=1)
        if size != "real" and isinstance(vision["layers"], int):
            wide = vision.get("head_width", 64)
            vision.update(width=vision["width"] // wide * (wide // 8), head_width=wide // 8, mlp_ratio=1)
            if size == "shallow":
                vision["layers"] = min(8, vision["layers"])
        (folder / "configs" / f"{name}.json").write_text(json.dumps(config))
