"""What a set of heat maps scores against masks: pixel accuracy, mIoU and mAP, with intervals (Chefer et al. 2021)."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .accumulating import Statistic
from .rounding import negligible
from .statistics import interval

IGNORE = 255  # of a mask: nobody knows whether this pixel is on the object, so it does not count
METRICS = ("pixel_accuracy", "miou", "map")


class SegmentationScores(Statistic):
    """Segmentation scores of a set of images; they add up over batches and over parts of a set, in any order.

    A map is resized to its mask (bilinear), negatives are set to 0 if clip_negatives, and its values are brought to [0, 1];
    what exceeds the threshold, "mean" (of the image) or a number, is foreground. A constant map says nothing and counts as
    0.5 everywhere. `result` gives, in percent,
    - pixel_accuracy: correct pixels of all pixels;
    - miou: intersection over union, both summed over all images, mean of background and foreground; one that is neither
      in a mask nor predicted does not count;
    - map: mean over images of the average precision of all 2HW scores [1 - R, R] of a map R, pixels being relevant as
      background and as foreground. It is defined for images without foreground too; a constant map gets 50.
    These are the metrics of Chefer et al. (2021), which the thesis uses. Pixels whose mask is 255 do not count, but they belong to
    the map, whose range and mean are its own. An image without a pixel that counts is left out.
    """

    settings, one_shape = ("threshold", "clip_negatives"), False

    def __init__(self, threshold: str | float = "mean", clip_negatives: bool = True):
        if threshold != "mean" and not (isinstance(threshold, float | int) and 0 <= threshold <= 1):
            raise ValueError(f"threshold must be 'mean' or a number from 0 to 1, got {threshold!r}")
        super().__init__()
        self.threshold, self.clip_negatives = threshold, clip_negatives
        self.images = torch.zeros(0, len(_Image._fields), dtype=torch.float64)  # one row an image, see `_Image`

    @property
    def left_out(self) -> int:
        """How many images have no pixel that counts."""
        return int((_Image(*self.images.T).pixels == 0).sum())

    def update(self, maps: Tensor, masks: Tensor) -> None:
        """Add a batch: maps [B, rows, columns] and masks [B, H, W], nonzero on the object, 255 where a pixel does not count.

        Raises ValueError where their numbers differ, a map is not finite, there are none, or 255 seems to mean the object.
        """
        if maps.ndim != 3 or masks.ndim != 3 or len(maps) != len(masks) or maps.numel() == 0:
            raise ValueError(f"need maps [B, rows, columns] and masks [B, H, W], got {list(maps.shape)} and {list(masks.shape)}")
        part = self._part(maps, masks)
        maps = normalised(maps.detach().cpu() if maps.device.type == "mps" else maps.detach(), masks.shape[1:], self.clip_negatives)
        masks = masks.to(maps.device)
        check_meaning(masks)
        counted = masks != IGNORE
        masks = (masks != 0) & counted
        threshold = maps.mean((1, 2), keepdim=True) if self.threshold == "mean" else self.threshold
        guess = maps > threshold
        off = ~masks & counted
        scores, relevant = torch.stack([1 - maps, maps], 1), torch.stack([off, masks], 1)
        scores = torch.where(counted[:, None], scores, -1)  # behind all others, where what is not relevant changes nothing
        row = _Image(
            pixels=counted,
            correct=(guess == masks) & counted,
            off_both=~guess & off,
            on_both=guess & masks,
            off_either=(~guess | off) & counted,
            on_either=(guess | masks) & counted,
            precision=average_precision(scores.flatten(1), relevant.flatten(1)),
        )
        sums = [each.flatten(1).sum(1) if each.ndim == 3 else each for each in row]
        part.images = torch.stack([each.double() for each in sums], 1).cpu()
        self.merge(part)

    def _add(self, other: "SegmentationScores") -> None:
        self.images = torch.cat([self.images, other.images])

    def result(self) -> dict[str, float]:
        """{"pixel_accuracy", "miou", "map"}, in percent. Raises ValueError before the first image."""
        judged = self.count - self.left_out
        if judged == 0:
            raise ValueError(f"no images yet that have pixels to judge, {self.left_out} left out; call update first")
        return dict(zip(METRICS, _percent(self.images.sum(0), judged).tolist()))

    def interval(self, less: "SegmentationScores | None" = None, resamples: int = 1000, seed: int = 0) -> dict[str, list[float]]:
        """95 percent interval of each metric by bootstrap over images, {"pixel_accuracy": [low, high], ...}.

        less: other scores of the same images in the same order; then of the difference, paired. Raises ValueError for fewer than
        three images with pixels to judge, or other scores of another number of images.
        """
        if less is not None and len(less.images) != len(self.images):
            raise ValueError(f"need scores of the same images, got {len(self.images)} and {len(less.images)}")
        kept = self.images[:, 0] > 0
        mine, theirs = self.images[kept], None if less is None else less.images[kept]

        def metrics(rows):
            found = _percent(mine[rows].sum(0), len(rows))
            return found if theirs is None else found - _percent(theirs[rows].sum(0), len(rows))

        return dict(zip(METRICS, interval(metrics, len(mine), resamples, seed).T.tolist()))

    def said(self, resamples: int = 500) -> list[str]:
        """The three metrics, each with its `interval`: "57.4 (56.0 to 58.8)"."""
        found, spread = self.result(), self.interval(resamples=resamples)
        return ["{:.1f} ({:.1f} to {:.1f})".format(found[name], *spread[name]) for name in METRICS]


class _Image(NamedTuple):
    """What is kept of an image: numbers of pixels, off and on the object, and the average precision of its map."""

    pixels: Tensor
    correct: Tensor
    off_both: Tensor
    on_both: Tensor
    off_either: Tensor
    on_either: Tensor
    precision: Tensor


def _percent(sums: Tensor, images: int) -> Tensor:
    """The three metrics [3], in percent, from the sums of the rows of so many images."""
    pixels, correct, *both_either, precision = sums
    both, either = torch.stack(both_either).unflatten(0, (2, 2))  # each off, on
    seen = either > 0
    return 100 * torch.stack([correct / pixels, (both[seen] / either[seen]).mean(), precision / images])


def normalised(maps: Tensor, size, clip_negatives: bool = True) -> Tensor:
    """Maps [B, rows, columns] resized to `size` (bilinear), without negatives if asked, each from 0 to 1: [B, *size].

    A map that is constant up to rounding becomes 0.5 everywhere; so does, with clip_negatives, one that is nowhere positive.
    Maps in half precision become float32.
    """
    maps = maps.to(torch.promote_types(maps.dtype, torch.float32))
    low, high = maps.amin((1, 2)), maps.amax((1, 2))
    constant = negligible(high - low, torch.maximum(low.abs(), high.abs()), maps.dtype)  # resizing makes the last bits differ
    maps = F.interpolate(maps[:, None], size=tuple(size), mode="bilinear", align_corners=False)[:, 0]
    maps = maps.clamp(min=0) if clip_negatives else maps
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    constant = constant[:, None, None] | (low == high)
    return torch.where(constant, 0.5, (maps - low) / torch.where(constant, 1, high - low))


def average_precision(scores: Tensor, relevant: Tensor) -> Tensor:
    """Average precision of each row, [B], float64: as sklearn.metrics.average_precision_score, ties included, but in batches.

    scores: [B, K]; relevant: bool [B, K]. A row without anything relevant gets 0.
    """
    scores, order = scores.sort(dim=1, descending=True)
    found = relevant.gather(1, order).cumsum(1)
    last_of_ties = torch.cat([scores[:, 1:] != scores[:, :-1], torch.ones_like(relevant[:, :1])], 1)
    by_then = torch.where(last_of_ties, found, 0).cummax(1).values  # what was found up to the last finished tie
    new = found - F.pad(by_then[:, :-1], (1, 0))
    precision = found.double() / torch.arange(1, scores.shape[1] + 1, device=scores.device)
    return (precision * new * last_of_ties).sum(1) / found[:, -1].clamp(min=1)


def check_meaning(masks: Tensor) -> None:
    """Raises ValueError for masks [B, H, W] that show no object but have 255 beside 0, as masks have whose 255 is the object."""
    ignored, on = masks == IGNORE, (masks != 0) & (masks != IGNORE)
    if (ignored.flatten(1).any(1) & (masks == 0).flatten(1).any(1) & ~on.flatten(1).any(1)).any():
        raise ValueError(
            "a mask holds 0 and 255 alone: 255 means that a pixel does not count; if it means the object, give mask > 0"
        )
