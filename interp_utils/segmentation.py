"""How well heat maps find objects: pixel accuracy, mIoU and mAP against masks (thesis, tables 2.4 and 3.4)."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
import torchvision.transforms.functional as TF
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode

from .datasets import MaskTask
from .heads import direct_effects
from .models import Clip
from .stream import feed

Heatmap = Callable[[Tensor], Tensor]  # pixels [B, 3, H, W] -> maps [B, rows, columns], high on the object


def evaluate(
    heatmap_fn: Heatmap,
    masks,
    clip: Clip,
    protocol: str = "aligned",
    threshold: str | float = "mean",
    clip_negatives: bool = True,
    batch_size: int = 16,
) -> dict[str, float]:
    """Segment by heat map and score it in percent: {"pixel_accuracy", "miou", "map"} (thesis, tables 2.4 and 3.4).

    heatmap_fn: pixels [B, 3, H, W] -> maps [B, rows, columns]. masks, protocol: see `prepare`; threshold, clip_negatives: see
    `SegmentationScores` (table 3.4 uses 0.5 and no clipping). To score several maps in one pass, or a set in parts, call
    `stream.feed(clip, prepare(masks, clip), [(scores, lambda batch: (heatmap_fn(batch.pixels), batch.targets)), ...])`.
    Raises ValueError for another protocol or threshold, no images, or maps of a wrong shape or not finite.
    """
    scores = SegmentationScores(threshold, clip_negatives)

    def view(batch):
        with torch.enable_grad():  # some explainers need gradients
            return heatmap_fn(batch.pixels.to(clip.device)), batch.targets

    feed(clip, prepare(masks, clip, protocol), [(scores, view)], batch_size)
    return scores.result()


def prepare(masks, clip: Clip, protocol: str = "aligned") -> torch.utils.data.Dataset:
    """Images and masks in the geometry in which they are compared: items (pixels [3, H, W], mask bool [H, W]).

    masks: a `datasets.MaskTask`, or a dataset of (PIL image, array [rows, columns] with 0 off the object).
    protocol "aligned" resizes the shorter side of both to clip.image_size and crops the centre; clip.preprocess then finds
    nothing to resize. "published" squashes the whole mask to clip.image_size while clip.preprocess crops the image, so the
    two are displaced unless the image is square; the thesis's numbers were measured so. Masks are never interpolated.
    Raises ValueError for another protocol or a Clip without preprocessing.
    """
    if protocol not in ("aligned", "published"):
        raise ValueError(f"protocol must be 'aligned' or 'published', got {protocol!r}")
    if clip.preprocess is None:
        raise ValueError("this Clip has no preprocess; pass it when you make it: iu.Clip(model, preprocess, tokenizer)")
    return _Prepared(masks.images if isinstance(masks, MaskTask) else masks, clip, protocol == "aligned")


class _Prepared(torch.utils.data.Dataset):
    def __init__(self, items, clip: Clip, aligned: bool):
        self.items, self.preprocess, self.size, self.aligned = items, clip.preprocess, list(clip.image_size), aligned

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, k: int) -> tuple[Tensor, Tensor]:
        image, mask = self.items[k]
        if not isinstance(image, Image.Image) or np.shape(mask) != (image.height, image.width):
            size = f" of {image.height} x {image.width}" if isinstance(image, Image.Image) else ""
            raise ValueError(
                f"item {k} must be a PIL image and a mask [rows, columns] of its size, got {type(image).__name__}{size} "
                f"and a mask {list(np.shape(mask))}"
            )
        mask = Image.fromarray((np.asarray(mask) != 0).astype(np.uint8))
        if self.aligned:
            image = self._crop(image, InterpolationMode.BICUBIC)
            mask = self._crop(mask, InterpolationMode.NEAREST)
        else:
            mask = mask.resize(self.size[::-1], Image.Resampling.NEAREST)
        return self.preprocess(image), torch.from_numpy(np.array(mask, dtype=bool))

    def _crop(self, image: Image.Image, interpolation: InterpolationMode) -> Image.Image:
        return TF.center_crop(TF.resize(image, max(self.size), interpolation), self.size)


class SegmentationScores:
    """Segmentation scores of a set of images; they add up over batches and over parts of a set, in any order.

    A map is resized to its mask (bilinear), negatives are set to 0 if clip_negatives, and its values are brought to [0, 1];
    what exceeds the threshold, "mean" (of the image) or a number, is foreground. A constant map says nothing and counts as
    0.5 everywhere. `result` gives, in percent,
    - pixel_accuracy: correct pixels of all pixels;
    - miou: intersection over union, both summed over all images, mean of background and foreground; one that is neither
      in a mask nor predicted does not count;
    - map: mean over images of the average precision of all 2HW scores [1 - R, R] of a map R, pixels being relevant as
      background and as foreground. It is defined for images without foreground too; a constant map gets 50.
    These are the metrics of Chefer et al. (2021), which the thesis uses.
    """

    def __init__(self, threshold: str | float = "mean", clip_negatives: bool = True):
        if threshold != "mean" and not (isinstance(threshold, float | int) and 0 <= threshold <= 1):
            raise ValueError(f"threshold must be 'mean' or a number from 0 to 1, got {threshold!r}")
        self.threshold, self.clip_negatives = threshold, clip_negatives
        self.images, self.pixels, self.correct, self.precision = torch.zeros(4, dtype=torch.float64)
        self.intersection, self.union = torch.zeros(2, 2, dtype=torch.float64)  # each of background, foreground

    def update(self, maps: Tensor, masks: Tensor) -> None:
        """Add a batch: maps [B, rows, columns] and masks [B, H, W], nonzero on the object.

        Raises ValueError where their numbers differ, a map is not finite, or there are none.
        """
        if maps.ndim != 3 or masks.ndim != 3 or len(maps) != len(masks) or maps.numel() == 0:
            raise ValueError(f"need maps [B, rows, columns] and masks [B, H, W], got {list(maps.shape)} and {list(masks.shape)}")
        if not maps.isfinite().all():
            raise ValueError(
                "the heat maps are not finite; check the explainer and the model's precision (try dtype=torch.float32)"
            )
        maps = normalised(maps.detach().cpu() if maps.device.type == "mps" else maps.detach(), masks.shape[1:], self.clip_negatives)
        masks = masks.to(maps.device) != 0
        threshold = maps.mean((1, 2), keepdim=True) if self.threshold == "mean" else self.threshold
        guess = maps > threshold
        self.images = self.images + len(maps)
        self.pixels = self.pixels + masks.numel()
        self.correct = self.correct + (guess == masks).sum().cpu()
        both = torch.stack([(~guess & ~masks).sum(), (guess & masks).sum()]).cpu()
        either = torch.stack([(~guess | ~masks).sum(), (guess | masks).sum()]).cpu()
        self.intersection, self.union = self.intersection + both, self.union + either
        scores, relevant = torch.stack([1 - maps, maps], 1).flatten(1), torch.stack([~masks, masks], 1).flatten(1)
        self.precision = self.precision + average_precision(scores, relevant).sum().cpu()

    def merge(self, other: "SegmentationScores") -> None:
        """Add what another pass has gathered. Raises ValueError where it used another threshold or clipping."""
        if (self.threshold, self.clip_negatives) != (other.threshold, other.clip_negatives):
            raise ValueError(
                f"cannot merge scores at threshold {self.threshold!r}, clip_negatives={self.clip_negatives} with scores "
                f"at {other.threshold!r}, {other.clip_negatives}"
            )
        for name in ("images", "pixels", "correct", "precision", "intersection", "union"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def result(self) -> dict[str, float]:
        """{"pixel_accuracy", "miou", "map"}, in percent. Raises ValueError before the first image."""
        if self.images == 0:
            raise ValueError("no images yet; call update first")
        seen = self.union > 0
        return {
            "pixel_accuracy": 100 * (self.correct / self.pixels).item(),
            "miou": 100 * (self.intersection[seen] / self.union[seen]).mean().item(),
            "map": 100 * (self.precision / self.images).item(),
        }


def normalised(maps: Tensor, size, clip_negatives: bool = True) -> Tensor:
    """Maps [B, rows, columns] resized to `size` (bilinear), without negatives if asked, each from 0 to 1: [B, *size].

    A constant map becomes 0.5 everywhere; so does, with clip_negatives, one that is nowhere positive.
    """
    maps = maps.float()
    constant = maps.amax((1, 2)) == maps.amin((1, 2))  # asked before resizing, which makes the last bits differ
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


def token_decomposition(clip: Clip, classifier: Tensor, ln: str = "centered") -> Heatmap:
    """The thesis's heat maps: what each patch writes, through all heads, in the direction of the image's predicted class.

    classifier: [C, E], text vectors of the classes. The predicted class is the one closest to the image; its map is less
    the mean of the maps of all classes (thesis, section 2.5 and its footnote). ln: see `heads.direct_effects`.
    Raises what `Clip.vectors` does for the classifier.
    """
    classifier = clip.vectors(classifier, "a classifier")

    @torch.no_grad()
    def heatmap_fn(pixels: Tensor) -> Tensor:
        effects = direct_effects(clip, pixels, ln)
        vectors = classifier.to(effects.pixels.device, torch.float32)
        tokens = effects.tokens()[:, 1:].float()
        best = (effects.total().float() @ vectors.T).argmax(1)
        direction = vectors[best] - vectors.mean(0)
        return torch.einsum("bne,be->bn", tokens, direction).unflatten(1, clip.grid)

    return heatmap_fn


def for_predicted_class(clip: Clip, explainer, classifier: Tensor) -> Heatmap:
    """Heat maps of an explainer for the class that each image is predicted to show.

    explainer: (clip, pixels [B, 3, H, W], text vectors [B, E]) -> maps [B, rows, columns]; classifier: [C, E], text vectors
    of the classes. Raises ValueError for a classifier of another width.
    """
    classifier = clip.vectors(classifier, "a classifier")

    def heatmap_fn(pixels: Tensor) -> Tensor:
        with torch.no_grad():
            vectors = classifier.to(clip.device, torch.float32)
            best = (clip.encode_image(pixels).float() @ vectors.T).argmax(1)
        return explainer(clip, pixels, vectors[best])

    return heatmap_fn
