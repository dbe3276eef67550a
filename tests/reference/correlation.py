"""Correlation of two models' units as eqs. 4.1 and 4.2 of the thesis are written: every pair of maps at the larger size."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def correlation(maps_a: Sequence[Tensor], maps_b: Sequence[Tensor]) -> Tensor:
    """[units of a, units of b], over all images and positions, from each layer's maps [n, units, h, w]; nan for a still unit."""

    def rows(maps: Tensor, size: int) -> Tensor:
        if maps.shape[2] != size:
            maps = F.interpolate(maps, size=(size, size), mode="bilinear", align_corners=False)
        flat = maps.transpose(0, 1).flatten(1)
        flat = flat - flat.mean(1, keepdim=True)
        return flat / flat.norm(dim=1, keepdim=True)

    def pair(a: Tensor, b: Tensor) -> Tensor:
        size = max(a.shape[2], b.shape[2])
        return rows(a, size) @ rows(b, size).T

    return torch.cat([torch.cat([pair(a, b) for b in maps_b], 1) for a in maps_a])
