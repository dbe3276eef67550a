"""Do units agree with what is known of an image, the masks of its objects?"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ...moments import Rows
from ...stream import feed
from ..matching import UnitModel, Units


def unit_map(maps: Sequence[Tensor], units: Units, number: int) -> Tensor:
    """The maps [B, h, w] of one unit among those of all layers, by its number in the model."""
    for layer, rows in zip(maps, units.slices):
        if rows.start <= number < rows.stop:
            return layer[:, number - rows.start]
    raise IndexError(f"no unit {number}: {units.model} has {len(units)}")


def mask_iou(model: UnitModel, images: Tensor, masks: Tensor, **options) -> Tensor:
    """Intersection over union of each unit's high values with masks [n, T, H, W], [units, T] (after Bau et al. 2017).

    images: [n, 3, side, side] in 0..1. Both are compared at the size of the unit's map: a cell belongs to a mask where the mask
    covers half of it. A unit is high on as many cells as the mask has, those with its largest values over all images, so a unit
    that knows nothing gets about share / (2 - share), with the mask's share of the cells.
    """
    rows = [Rows() for _ in model.layers]

    def layer_of(k):
        return lambda batch: (batch.once("maps", lambda: model(batch.pixels))[k], batch.numbers)

    feed(model, images, [(kept, layer_of(k)) for k, kept in enumerate(rows)], **options)
    found = []
    for kept in rows:
        values = kept.rows  # [n, units, h, w]
        cells = F.adaptive_avg_pool2d(masks.float(), values.shape[2:]) >= 0.5  # [n, T, h, w]
        values, cells = values.movedim(1, 0).flatten(1), cells.movedim(1, 0).flatten(1)
        order = values.argsort(1, descending=True)
        ious = []
        for mask in cells:
            count = int(mask.sum())
            both = mask[order[:, :count]].sum(1)
            ious.append(both / (2 * count - both).clamp(min=1))
        found.append(torch.stack(ious, 1))
    return torch.cat(found).float()
