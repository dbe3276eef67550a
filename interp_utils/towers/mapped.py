"""A tower between two linear maps: of its pixels, which were normalised in another way, and of its representation."""

from dataclasses import replace

from torch import Tensor, nn

from .base import FinalNorm, ReadOut, Tower
from .parts import NotCovered, numbers


class Mapped(nn.Module):
    """An image tower as it is, its pixels times `scale` plus `shift` [3], its representation times `weight` [D, E] plus `bias` [E].

    What is None is left out. tower: such as `Clip.visual`, or a timm ViT.
    """

    def __init__(
        self,
        tower: nn.Module,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        scale: Tensor | None = None,
        shift: Tensor | None = None,
    ):
        super().__init__()
        self.tower = tower
        for name, value in {"weight": weight, "bias": bias, "scale": scale, "shift": shift}.items():
            self.register_buffer(name, value)

    def forward(self, pixels: Tensor) -> Tensor:
        if self.scale is not None:
            pixels = pixels * self.scale[:, None, None] + self.shift[:, None, None]
        given = self.tower(pixels)
        given = given[0] if isinstance(given, tuple) else given
        return given if self.weight is None else given @ self.weight + self.bias


def describe(visual: Mapped, tower: Tower) -> Tower:
    """The whole tower, from the description of what is between the maps."""
    if not tower.blocks:
        raise NotCovered(f"a {tower.family} stands between its maps")
    embedding = tower.embedding if visual.scale is None else None  # which reads the pixels as they are
    if visual.weight is None:
        return replace(tower, embedding=embedding)

    def read_out(stream: Tensor) -> ReadOut:
        (weight, bias), own = (numbers(visual.weight), numbers(visual.bias)), tower.read_out(stream)
        added = None if own.pool_mlp is None else own.pool_mlp @ weight
        return ReadOut(own.rho, own.matrix @ weight, own.constant @ weight + bias, added)

    def final() -> FinalNorm:
        (weight, bias), own = (numbers(visual.weight), numbers(visual.bias)), tower.final()
        return replace(own, proj=own.proj @ weight, bias=own.bias @ weight + bias)

    return replace(
        tower,
        read_out=read_out,
        d_embed=visual.weight.shape[1],
        final=None if tower.final is None else final,
        embedding=embedding,
    )
