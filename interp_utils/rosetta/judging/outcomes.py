"""Did an edit do what it asked for? Masks of an object before and after, in numbers, and what counts as success."""

import torch
from scipy import ndimage
from torch import Tensor

from .judges import places

MOVED, DRIFT = (0.15, 0.35), 0.10  # shares of the side: how far an object that is to move by a quarter went, and how far astray
LARGER = 3.0  # times its area, of an object that is to become twice as wide: four times were asked for
GONE = 0.10  # of its area
PIECE = 0.25  # of the area before: what is smaller is no object


def outcome(before: Tensor, after: Tensor) -> dict[str, Tensor]:
    """What became of objects, from their masks [B, H, W], bool, before and after.

    "right" and "down": how far their middle moved, in shares of the side, nan where nothing is left; "growth": area by area
    before; "pieces": connected parts of at least a quarter of the area before. Raises ValueError where nothing was there before.
    """
    if before.shape != after.shape or not before.any((1, 2)).all():
        raise ValueError(f"need an object in each mask before, and as many after, got {list(before.shape)} and {list(after.shape)}")
    (old, area), (new, left) = places(before), places(after)
    least = PIECE * area * before.shape[1] * before.shape[2]
    pieces = torch.tensor([_pieces(mask, size) for mask, size in zip(after, least.tolist())])
    return {"right": new[:, 0] - old[:, 0], "down": new[:, 1] - old[:, 1], "growth": left / area, "pieces": pieces}


def _pieces(mask: Tensor, least: float) -> int:
    numbers, n = ndimage.label(mask.numpy())
    return int((ndimage.sum(mask.numpy(), numbers, range(1, n + 1)) >= least).sum()) if n else 0


def success(edit: str, found: dict[str, Tensor]) -> Tensor:
    """Which of B edits did it, bool, from their `outcome`.

    edit: "right", "left", "up" or "down" (by a quarter of the side: 15 to 35 percent of it, less than 10 to the other
    side), "zoom" (by two: over three times the area), "copy" (exactly two), "remove" (less than a tenth of the area is left).
    Raises ValueError for another edit.
    """
    right, down = found["right"], found["down"]
    ways = {"right": (right, down), "left": (-right, down), "down": (down, right), "up": (-down, right)}
    if edit in ways:
        along, astray = ways[edit]
        return (along > MOVED[0]) & (along < MOVED[1]) & (astray.abs() < DRIFT)  # nan is in no range
    if edit == "zoom":
        return found["growth"] > LARGER
    if edit == "copy":
        return found["pieces"] == 2
    if edit == "remove":
        return found["growth"] < GONE
    raise ValueError(f"unknown edit {edit!r}; choose right, left, up, down, zoom, copy or remove")
