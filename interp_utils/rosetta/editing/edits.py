"""Edits of a generated image through its Rosetta units (thesis, section 4.4; figures 4.7, 4.8, C.3 and C.12).

An edit changes the generator's own maps of some units and then looks for a latent whose maps agree with them. The changes below
take and give maps of all layers, [B, units, h, w] each.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..matching import Generator, Units
from .guidance import Guidance, Pairs
from .inversion import Inversion, invert

Change = Callable[[list[Tensor]], list[Tensor]]


def shift(right: float = 0.0, down: float = 0.0, border: bool = False) -> Change:
    """Move maps by a share of their side: 0.25 moves a 4 x 4 map by one cell, an 8 x 8 map by two.

    What comes in is zero, as in the thesis, or with border=True the edge again: zero is no background where maps stand before
    their ReLU. Raises ValueError for a share outside -1..1.
    """
    if not (-1 <= right <= 1 and -1 <= down <= 1):
        raise ValueError(f"shares of the side are between -1 and 1, got {right} and {down}")
    mode = "replicate" if border else "constant"
    return lambda maps: [_moved(layer, round(right * layer.shape[3]), round(down * layer.shape[2]), mode) for layer in maps]


def _moved(maps: Tensor, right: int, down: int, mode: str) -> Tensor:
    h, w = maps.shape[2:]
    padded = F.pad(maps, (max(right, 0), max(-right, 0), max(down, 0), max(-down, 0)), mode)
    return padded[:, :, max(-down, 0) : max(-down, 0) + h, max(-right, 0) : max(-right, 0) + w]


def zoom(factor: float = 2.0) -> Change:
    """Enlarge maps bilinearly about their middle and cut off what leaves the frame. Raises ValueError for a factor below 1."""
    if factor < 1:
        raise ValueError(f"need a factor of at least 1, got {factor}")

    def change(maps: list[Tensor]) -> list[Tensor]:
        found = []
        for layer in maps:
            theta = layer.new_tensor([[1 / factor, 0, 0], [0, 1 / factor, 0]]).expand(len(layer), 2, 3)
            grid = F.affine_grid(theta, list(layer.shape), align_corners=False)
            found.append(F.grid_sample(layer, grid, mode="bilinear", padding_mode="border", align_corners=False))
        return found

    return change


def copy_paste(share: float = 0.25, border: bool = False) -> Change:
    """Two of everything: the left half of the maps moved left by a share of their side, the right half of them moved right.

    border: as for `shift`.
    """
    left, right = shift(-share, border=border), shift(share, border=border)

    def change(maps: list[Tensor]) -> list[Tensor]:
        halves = zip(left(maps), right(maps))
        return [torch.cat([a[..., : a.shape[3] // 2], b[..., a.shape[3] // 2 :]], 3) for a, b in halves]

    return change


def set_units(units: Units, numbers: Sequence[int], to: str | float = "minimum") -> Change:
    """Set each map of some units to its own "minimum", which removes what they stand for, or scale it by a number.

    units: of the generator; numbers: which. Raises IndexError for a unit that is not there.
    """
    wrong = [number for number in numbers if not 0 <= number < len(units)]
    if wrong:
        raise IndexError(f"{units.model} has {len(units)} units, not {wrong}")
    if to != "minimum" and not isinstance(to, int | float):
        raise ValueError(f"to must be 'minimum' or a factor, got {to!r}")

    def change(maps: list[Tensor]) -> list[Tensor]:
        found = []
        for layer, rows in zip(maps, units.slices):
            chosen = [number - rows.start for number in numbers if rows.start <= number < rows.stop]
            layer = layer.clone()
            old = layer[:, chosen]
            layer[:, chosen] = old.amin((2, 3), keepdim=True).expand_as(old) if to == "minimum" else old * to
            found.append(layer)
        return found

    return change


@dataclass(frozen=True)
class Edit:
    """An edit of B images: before, the maps asked for, and what inversion made of them."""

    before: Tensor  # [B, 3, H, W], in 0..1
    targets: list[Tensor]  # of all layers, [B, units, h, w]
    result: Inversion

    @property
    def after(self) -> Tensor:
        """[B, 3, H, W], in 0..1"""
        return self.result.images


def edit(
    generator: Generator,
    pairs: Pairs,
    latents: tuple[Tensor, ...],
    change: Change,
    start: tuple[Tensor, ...] | None = None,
    form: str = "distance",
    **options,
) -> Edit:
    """Change the maps of some units of B drawn images, and look for latents that draw it (thesis, eq. 4.5).

    pairs: the units, as their own partners (`own_pairs`). start: latents to set out from, by default the image's own; the
    thesis starts copy and paste from new ones. The regulariser holds latents near the start. form: see `Guidance`; the default
    asks for the edited maps themselves, which eq. 4.6 as printed does not: it goes on to reward larger ones. options: those of
    `invert`.
    """
    if pairs.a != pairs.b:
        raise ValueError(f"an edit changes maps of {generator.name} itself; make pairs with own_pairs")
    with torch.no_grad():
        before, maps = generator(*latents)
    targets = change(maps)
    start = latents if start is None else start
    options = {"origin": start[0].to(generator.device)} | options
    return Edit(before, targets, invert(generator, Guidance(pairs, targets, form), start, **options))
