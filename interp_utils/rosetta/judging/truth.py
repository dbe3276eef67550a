"""Do units agree with what is known of a sandbox image: its objects' masks, and its factors?"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ...moments import GroupMeans, Rows
from ...sandbox.first import FACTORS, Spec, factor_label, render, restyle
from ...stream import feed
from ..matching import UnitModel, Units


def drawn_images(specs: Sequence[Spec], style: str | None = None) -> tuple[Tensor, Tensor]:
    """Sandbox images [n, 3, 64, 64] in 0..1 and the masks of their objects [n, 64, 64], bool.

    style: None, or "sketch" or "negative", in which no model was trained.
    """
    drawn = [render(spec) for spec in specs]
    pixels = [image.pixels if style is None else restyle(image.pixels, style) for image in drawn]
    images = torch.stack([torch.from_numpy(each) for each in pixels]).movedim(-1, 1).float() / 255
    return images, torch.stack([torch.from_numpy(image.mask) for image in drawn])


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


def factor_shares(model: UnitModel, specs: Sequence[Spec], **options) -> dict[str, Tensor]:
    """Share of the variance of each unit's mean activation that each factor of sandbox images explains, [units] by factor.

    One-way analysis of variance, corrected for chance (see `GroupMeans.explained_variance`).
    """
    images, _ = drawn_images(specs)
    labels = torch.tensor([[factor_label(spec, factor) for factor in FACTORS] for spec in specs])
    means = {factor: GroupMeans(len(values)) for factor, values in FACTORS.items()}

    def view(k: int):
        def activity(batch):
            maps = batch.once("maps", lambda: model(batch.pixels))
            return torch.cat([layer.mean((2, 3)) for layer in maps], 1)[..., None], batch.targets[:, k]

        return activity

    dataset = torch.utils.data.TensorDataset(images, labels)
    feed(model, dataset, [(mean, view(k)) for k, mean in enumerate(means.values())], **options)
    return {factor: mean.explained_variance().float() for factor, mean in means.items() if mean.counts.gt(0).sum() > 1}
