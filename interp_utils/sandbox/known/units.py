"""The known generator among the models of chapter 4: `rosetta.load_unit_model("sandbox/known_big_gan")`."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from ...models import DATA
from ...rosetta.generators import truncated_latents
from ...rosetta.generators.registry import Built, big_gan_layers
from ...rosetta.matching import Generator
from ...rosetta.matching.zoo import register
from .generator import KnownBigGAN, single
from .latents import KINDS, Z

NAME = "sandbox/known_big_gan"
FILE = DATA / "sandbox" / "known_big_gan.safetensors"


def load(path: str | Path = FILE) -> KnownBigGAN:
    """The trained generator, frozen and in eval mode. Raises FileNotFoundError where there is no file."""
    if not Path(path).exists():
        raise FileNotFoundError(f"no weights at {path}; train them with: python -m interp_utils.sandbox.known.train")
    model = KnownBigGAN()
    model.load_state_dict(single(load_file(path)))
    return model.float().eval().requires_grad_(False)


def _draws(pretrained: bool) -> Built:
    model = load() if pretrained else KnownBigGAN()
    source = "data/sandbox/known_big_gan.safetensors"
    return model, {
        "layers": big_gan_layers(model), "sampler": truncated_latents(Z, len(KINDS)), "licence": "mit", "source": source,
    }  # fmt: skip


def styles(generator: Generator) -> Generator:
    """A generator drawn from its style w [B, 256], what the mapping network gives, in place of z; the class stays.

    Its latents are (w, c). An edit in w can leave what any z draws, as edits in StyleGAN's w can.
    Raises TypeError for another generator.
    """
    if not isinstance(generator.model, KnownBigGAN):
        raise TypeError(f"need a generator of the sandbox, got {generator!r}; for others see rosetta.style_space")

    @torch.no_grad()
    def sampler(n: int, random: torch.Generator, kind: int | None) -> tuple[Tensor, Tensor]:
        z, c = generator.sampler(n, random, kind)
        return style(generator, z).cpu(), c

    def draw(model: KnownBigGAN, w: Tensor, c: Tensor) -> Tensor:
        return model.synthesis(torch.cat([w, model.embed(c)], 1))

    return Generator(
        generator.model, generator.layers, sampler, draw, generator.image_range, f"{generator.name}, styles",
        generator.licence, generator.source,
    )  # fmt: skip


@torch.no_grad()
def style(generator: Generator, z: Tensor) -> Tensor:
    """The style w [B, 256] of latents z [B, 32]."""
    return generator.model.mapping(z.to(generator.device))


register(NAME, _draws)
