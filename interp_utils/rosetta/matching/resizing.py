"""Maps of different size, compared as if both were resized bilinearly to the larger size, without building the larger maps.

Bilinear resizing U is linear and acts on rows and columns in turn. So <U a, b> = <a, U^T b>, the sum over the large map is a
weighted sum over the small one, and the squares are a quadratic form of it, with U^T U.
"""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

Size = tuple[int, int]


@lru_cache(maxsize=256)
def resizing_matrix(small: int, large: int) -> Tensor:
    """Bilinear resizing along one axis (align_corners=False) as a matrix, [large, small], float64."""
    return F.interpolate(torch.eye(small, dtype=torch.float64)[None], size=large, mode="linear", align_corners=False)[0].T


def reduced(maps: Tensor, size: Size) -> Tensor:
    """The adjoint of resizing from `size` to the maps' own size, [..., H, W] -> [..., h, w]; an axis not above `size` stays."""
    (height, width), (h, w) = maps.shape[-2:], size
    if w < width:
        maps = maps @ resizing_matrix(w, width).to(maps)
    if h < height:
        maps = (maps.mT @ resizing_matrix(h, height).to(maps)).mT
    return maps


class LayerMaps:
    """Maps of one layer for a few images: their sums and products on any grid, each computed once.

    maps: [n, U, h, w]. They are kept centred on their mean, units first, in at least single precision.
    """

    def __init__(self, maps: Tensor):
        maps = maps.detach()
        maps = maps.to(torch.promote_types(maps.dtype, torch.float32))
        self.n, self.size = len(maps), tuple(maps.shape[2:])
        self.offset = maps.mean((0, 2, 3))  # [U]
        rows = torch.empty_like(maps.transpose(0, 1), memory_format=torch.contiguous_format)
        self.rows = torch.sub(maps.transpose(0, 1), self.offset[:, None, None, None], out=rows)  # [U, n, h, w]
        self._moments: dict[Size, tuple[Tensor, Tensor]] = {}
        self._reduced: dict[Size, Tensor] = {self.size: self.rows.flatten(1)}

    def moments(self, size: Size) -> tuple[Tensor, Tensor]:
        """Mean and sum of squared deviations from it, [U] each, of the maps resized to `size`; mean less `offset`."""
        if size not in self._moments:
            rows, count = self.rows, self.n * size[0] * size[1]
            if size == self.size:
                mean = rows.mean((1, 2, 3))
                squares = torch.linalg.vector_norm(rows.flatten(2), dim=2).square().sum(1)
            else:
                up, across = (resizing_matrix(*pair).to(rows) for pair in zip(self.size, size))
                mean = torch.einsum("uhw,h,w->u", rows.sum(1), up.sum(0), across.sum(0)) / count
                spread = (rows @ (across.T @ across)) @ rows.mT  # [U, n, h, h], products of two rows of a map
                squares = torch.einsum("unhH,hH->u", spread, up.T @ up)
            self._moments[size] = mean, (squares - count * mean.square()).clamp(min=0)
        return self._moments[size]

    def reduced(self, size: Size) -> Tensor:
        """What products with maps of a smaller `size` need of these, [U, n * h * w]."""
        if size not in self._reduced:
            self._reduced[size] = reduced(self.rows, size).flatten(1)
        return self._reduced[size]
