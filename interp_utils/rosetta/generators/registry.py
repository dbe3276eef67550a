"""The thesis's generators by name: where their weights are, and which of their layers hold units."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn

from .big_gan import BigGAN
from .checkpoints import fetch, load_weights
from .latents import truncated_latents
from .style_gan2 import StyleGAN2
from .style_gan_xl import MARGIN, StyleGANXL

BIG_GAN_URL = "https://s3.amazonaws.com/models.huggingface.co/biggan/biggan-deep-256-pytorch_model.bin"
BIG_GAN_SHA256 = "5900ef4065047e3aa0d1b66197b7f2664dceb59b27080e414ad57e203c485bc5"
STYLE_GAN2_REPO, STYLE_GAN2_REVISION = "ZeqiangLai/StyleGAN2", "bb4e00dc8ac0afbb9e0a5b6f72754c679673ee2e"
STYLE_GAN_XL_URL = "https://s3.eu-central-1.amazonaws.com/avg-projects/stylegan_xl/models/imagenet256.pkl"
NVIDIA = "NVIDIA Source Code License (non-commercial)"

Built = tuple[nn.Module, dict[str, Any]]  # a model, and the options of its `Generator`


def big_gan_layers(model: BigGAN) -> list[str]:
    """All convolutions, before the norm and ReLU that follow; the one to RGB has more channels than the image."""
    return [name for name, _ in model.named_modules() if "conv" in name]


def style_gan2_layers(model: StyleGAN2, smallest: int = 8) -> list[str]:
    """Activations of all sizes from `smallest` on, and their parts of the image; the published code leaves out 4 pixels.

    It takes those parts before their bias is added. That is a constant for each unit, so correlations and
    normalised maps are the same.
    """
    found = (re.fullmatch(r"synthesis\.b(\d+)\.(conv0|conv1|torgb)", name) for name, _ in model.named_modules())
    return [match[0] for match in found if match and int(match[1]) >= smallest]


def style_gan_xl_layers(model: StyleGANXL) -> list[str]:
    """The whole image, the Fourier features and every layer."""
    return ["synthesis", "synthesis.input", *(f"synthesis.{layer.name}" for layer in model.synthesis.plan)]


def style_gan_xl_crops(model: StyleGANXL) -> dict[str, Callable[[Tensor], Tensor]]:
    """How to cut the margin around the image off each layer's maps; layers without one are not listed."""
    signals = {layer.name: layer.after for layer in model.synthesis.plan} | {"input": model.synthesis.input.signal}
    return {f"synthesis.{name}": crop for name, signal in signals.items() if signal.size > signal.rate}


def crop(maps: Tensor) -> Tensor:
    """Maps without the margin of StyleGAN-XL, so that they lie on the image."""
    return maps[..., MARGIN:-MARGIN, MARGIN:-MARGIN]


def _big_gan(pretrained: bool) -> Built:
    model = BigGAN()
    if pretrained:
        load_weights(model, fetch(BIG_GAN_URL, BIG_GAN_SHA256))
    sampler = truncated_latents(model.config.d_z, model.config.kinds)
    return model, {"layers": big_gan_layers(model), "sampler": sampler, "licence": "mit", "source": BIG_GAN_URL}


def _style_gan2(subject: str, pretrained: bool) -> Built:
    model, file = StyleGAN2(), f"stylegan2-{subject}-config-f.pt"
    if pretrained:
        from huggingface_hub import hf_hub_download

        load_weights(model, hf_hub_download(STYLE_GAN2_REPO, file, revision=STYLE_GAN2_REVISION))
    source = f"hf-hub:{STYLE_GAN2_REPO}/{file}@{STYLE_GAN2_REVISION}"
    # Not truncated, as in the published runs; their noise was drawn anew in each pass, ours gives a z always the same image.
    return model, {
        "layers": style_gan2_layers(model), "sampler": truncated_latents(model.config.d), "licence": NVIDIA, "source": source,
    }  # fmt: skip


def _style_gan_xl(pretrained: bool) -> Built:
    model = StyleGANXL()
    if pretrained:
        load_weights(model, fetch(STYLE_GAN_XL_URL))
    return model, {
        "layers": style_gan_xl_layers(model), "crops": style_gan_xl_crops(model), "draw": _draw_style_gan_xl,
        "sampler": truncated_latents(model.config.d_z, model.config.kinds), "licence": NVIDIA, "source": STYLE_GAN_XL_URL,
    }  # fmt: skip


def _draw_style_gan_xl(model: StyleGANXL, z: Tensor, c: Tensor) -> Tensor:
    return model(z, c, psi=0.7)  # the truncation of the published matching; its statistics used 0.5


GENERATORS: dict[str, Callable[[bool], Built]] = {
    "biggan_deep256": _big_gan,
    "stylegan2_cat": partial(_style_gan2, "cat"),
    "stylegan2_horse": partial(_style_gan2, "horse"),
    "stylegan_xl": _style_gan_xl,
}
