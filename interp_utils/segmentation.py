"""How well heat maps find objects: pixel accuracy, mIoU and mAP against masks (thesis, tables 2.4 and 3.4)."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from open_clip.transform import ResizeKeepRatio
from PIL import Image
from torch import Tensor
from torchvision import transforms, tv_tensors
from torchvision.transforms import v2

from . import explainers
from .datasets import MaskTask
from .heads import direct_effects
from .hooks import compute_dtype
from .images import read_image
from .models import Clip
from .segmentation_scores import IGNORE, SegmentationScores, check_meaning
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
    `SegmentationScores` (table 3.4 uses 0.5 and no clipping). `score` takes the same and gives intervals too.
    """
    return score(heatmap_fn, masks, clip, protocol, threshold, clip_negatives, batch_size).result()


def score(
    heatmap_fn: Heatmap,
    masks,
    clip: Clip,
    protocol: str = "aligned",
    threshold: str | float = "mean",
    clip_negatives: bool = True,
    batch_size: int = 16,
) -> "SegmentationScores":
    """The `SegmentationScores` of a heat map on a set of images, for its results and intervals; arguments as in `evaluate`.

    To score several maps in one pass, or a set in parts, call
    `stream.feed(clip, prepare(masks, clip), [(scores, lambda batch: (heatmap_fn(batch.pixels), batch.targets)), ...])`.
    Warns where images were left out because their crop shows nothing of their object.
    Raises ValueError for another protocol or threshold, no images, or maps of a wrong shape or not finite.
    """
    scores = SegmentationScores(threshold, clip_negatives)

    def view(batch):
        with torch.enable_grad():  # some explainers need gradients
            return heatmap_fn(batch.pixels.to(clip.device)), batch.targets

    feed(clip, prepare(masks, clip, protocol), [(scores, view)], batch_size)
    _warn_of_left_out(scores)
    return scores


def _warn_of_left_out(scores: SegmentationScores) -> None:
    if scores.left_out:
        missed = f"{scores.left_out} of {scores.count} images left out"
        warnings.warn(f"{missed}: no pixel of their object is in the crop", stacklevel=4)


def score_all(
    maps: dict[str, Heatmap], masks, clip: Clip, thresholds: Sequence[str | float] = ("mean",), batch_size: int = 16
) -> dict[tuple[str, str | float], SegmentationScores]:
    """`score` for many heat maps and thresholds in one pass: {(name, threshold): scores}.

    Negatives are set to zero for the threshold "mean", as in table 2.4, and kept for a number, as in table 3.4. Warns and raises
    as `score` does; ValueError where there is no map.
    """
    scores = {(name, each): SegmentationScores(each, each == "mean") for name in maps for each in thresholds}
    if not scores:
        raise ValueError("need at least one heat map and one threshold")

    def found(name, batch):
        heat, pixels = maps[name], batch.pixels.to(clip.device)
        if not isinstance(heat, ForPredictedClass):
            return heat(pixels).detach()
        # those of one classifier share the pass that predicts, and those that one explainer gives share it
        vectors = batch.once(id(heat.classifier), lambda: heat.vectors(pixels))
        given = batch.once((id(heat.classifier), heat.explainer), lambda: heat.explainer(heat.clip, pixels, vectors))
        return heat.chosen(given).detach()

    def view(name):
        def heat(batch):
            with torch.enable_grad():  # some explainers need gradients
                return batch.once(name, lambda: found(name, batch)), batch.targets

        return heat

    feed(clip, prepare(masks, clip), [(each, view(name)) for (name, _), each in scores.items()], batch_size)
    _warn_of_left_out(next(iter(scores.values())))
    return scores


def prepare(masks, clip: Clip, protocol: str = "aligned") -> torch.utils.data.Dataset:
    """Images and masks in the geometry in which they are compared: items (pixels [3, H, W], mask uint8 [H, W]).

    masks: a `datasets.MaskTask`, or a dataset of (image, mask): what `images.read_image` takes, and an array or PIL image [rows,
    columns] of its size, 0 off the object and 255 where that is not known. In what is returned 1 is on it and 255 does not count.
    protocol "aligned": both go together through the resizing and cropping of clip.preprocess; where nothing of the object is left,
    the whole crop is 255. "published" squashes the whole mask to clip.image_size while clip.preprocess crops the image, so the
    two are displaced unless the image is square; the thesis's numbers were measured so. Masks are never interpolated.
    Raises ValueError for another protocol, a Clip without preprocessing or with one whose geometry is not known, and, when an
    item is asked for, a mask of another size than its image, or with values that cannot be told.
    """
    if protocol not in ("aligned", "published"):
        raise ValueError(f"protocol must be 'aligned' or 'published', got {protocol!r}")
    if clip.preprocess is None:
        raise ValueError("this Clip has no preprocess; pass it when you make it: iu.Clip(model, preprocess, tokenizer)")
    return _Prepared(masks.images if isinstance(masks, MaskTask) else masks, clip, protocol == "aligned")


class _Mask(tv_tensors.Mask):
    """A mask that is resized by the pixels at the same places as the image's; a plain one takes those at their upper left."""


@v2.functional.register_kernel(v2.functional.resize, _Mask)
def _resize_mask(mask: Tensor, size: list[int], max_size: int | None = None, **options) -> _Mask:
    nearest = transforms.InterpolationMode.NEAREST_EXACT
    resized = v2.functional.resize_image(mask.as_subclass(Tensor)[None], size, nearest, max_size)[0]
    return tv_tensors.wrap(resized, like=mask)


_MOVES = (transforms.Resize, transforms.CenterCrop, ResizeKeepRatio, v2.Resize, v2.CenterCrop)


def _for_both(step, image: Image.Image) -> v2.Transform:
    """A step of a preprocess as a transform of image and mask together."""
    if isinstance(step, ResizeKeepRatio):
        return v2.Resize(step.get_params(image, step.size, step.longest), step.interpolation)
    if isinstance(step, transforms.Resize):
        return v2.Resize(step.size, step.interpolation, step.max_size, step.antialias)
    return v2.CenterCrop(step.size) if isinstance(step, transforms.CenterCrop) else step


class _Prepared(torch.utils.data.Dataset):
    def __init__(self, items, clip: Clip, aligned: bool):
        self.items, self.preprocess, self.size, self.aligned = items, clip.preprocess, list(clip.image_size), aligned
        steps = getattr(clip.preprocess, "transforms", [])
        self.moves, self.rest = [s for s in steps if isinstance(s, _MOVES)], [s for s in steps if not isinstance(s, _MOVES)]
        if aligned and not self.moves:
            raise ValueError(
                "clip.preprocess must be a torchvision Compose with a Resize, so that masks can be moved as images are"
            )

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, k: int) -> tuple[Tensor, Tensor]:
        image, mask = self.items[k]
        image, mask = read_image(image, f"of item {k}"), _checked_mask(np.asarray(mask), k)
        if mask.shape != (image.height, image.width):
            raise ValueError(f"item {k} has an image of {image.height} x {image.width} and a mask of {list(mask.shape)}")
        if not self.aligned:
            return self.preprocess(image), v2.functional.resize(mask, self.size).as_subclass(Tensor)
        has_object = (mask == 1).any()
        for step in self.moves:
            image, mask = _for_both(step, image)(image, mask)
        if list(mask.shape) != self.size:
            raise ValueError(f"clip.preprocess moves pixels by other steps than {', '.join(step.__name__ for step in _MOVES[:3])}")
        for step in self.rest:
            image = step(image)
        if has_object and not (mask == 1).any():
            mask = torch.full_like(mask, IGNORE)
        return image, mask.as_subclass(Tensor)


def _checked_mask(mask: np.ndarray, k: int) -> _Mask:
    """The mask with 1 for all values that are on the object."""
    fits = mask.dtype.kind in "biu" or np.isin(mask, (0, 1)).all()
    if mask.ndim != 2 or mask.size == 0 or not fits or mask.min() < 0 or mask.max() > IGNORE:
        raise ValueError(
            f"item {k} needs a mask [rows, columns] of bools or whole numbers from 0 to 255 (255: not known), got {mask.dtype} "
            f"{list(mask.shape)}" + (f" in {mask.min()}..{mask.max()}" if mask.size else "")
        )
    values = torch.from_numpy(np.where(mask == IGNORE, IGNORE, mask != 0).astype(np.uint8))
    check_meaning(values[None])
    return _Mask(values)


def token_decomposition(clip: Clip, classifier: Tensor, ln: str | None = None) -> Heatmap:
    """The thesis's heat maps: what each patch writes, through all heads, in the direction of the image's predicted class.

    classifier: [C, E], text vectors of the classes. The predicted class is the one closest to the image; its map is less
    the mean of the maps of all classes (thesis, section 2.5 and its footnote). ln: see `heads.direct_effects`.
    Raises what `Clip.vectors` does for the classifier.
    """
    classifier = clip.vectors(classifier, "a classifier")

    @torch.no_grad()
    def heatmap_fn(pixels: Tensor) -> Tensor:
        effects = direct_effects(clip, pixels, ln)
        tokens = effects.tokens()[:, clip.n_prefix :]
        vectors = classifier.to(tokens)
        best = (effects.total() @ vectors.T).argmax(1)
        direction = vectors[best] - vectors.mean(0)
        return torch.einsum("bne,be->bn", tokens, direction).unflatten(1, clip.grid)

    return heatmap_fn


@dataclass(frozen=True)
class ForPredictedClass:
    """Heat maps of an explainer for the class that each image is predicted to show, see `for_predicted_class`."""

    clip: Clip
    explainer: Callable
    classifier: Tensor  # [C, E]
    name: str | None = None  # of an explainer that gives several maps: which

    @torch.no_grad()
    def vectors(self, pixels: Tensor) -> Tensor:
        """The text vector of the class that each image shows, [B, E]."""
        vectors = self.classifier.to(self.clip.device, compute_dtype(self.clip))
        return vectors[(self.clip.encode_image(pixels).to(vectors) @ vectors.T).argmax(1)]

    def __call__(self, pixels: Tensor, vectors: Tensor | None = None) -> Tensor:
        """Maps [B, rows, columns]; vectors: those of the classes, where they are known already."""
        return self.chosen(self.explainer(self.clip, pixels, self.vectors(pixels) if vectors is None else vectors))

    def chosen(self, maps: Tensor | dict[str, Tensor]) -> Tensor:
        """Of what the explainer gives."""
        return maps if self.name is None else maps[self.name]


def for_predicted_class(clip: Clip, explainer, classifier: Tensor) -> ForPredictedClass:
    """Heat maps of an explainer for the class that each image is predicted to show.

    explainer: (clip, pixels [B, 3, H, W], text vectors [B, E]) -> maps [B, rows, columns]; classifier: [C, E], text vectors
    of the classes. Raises ValueError for a classifier of another width.
    """
    return ForPredictedClass(clip, explainer, clip.vectors(classifier, "a classifier"))


def explainer_maps(clip: Clip, classifier: Tensor) -> dict[str, ForPredictedClass]:
    """The baselines of tables 2.4 and 3.4 by the names they have there, each `for_predicted_class`; errors are those."""
    methods = {
        "LRP": (explainers.of_relevance, "lrp"),
        "partial LRP": (explainers.of_relevance, "partial_lrp"),
        "rollout": (explainers.rollout, None),
        "raw attention": (explainers.raw_attention, None),
        "GradCAM": (explainers.grad_cam, None),
        "Chefer et al.": (explainers.of_relevance, "chefer"),
    }
    classifier = clip.vectors(classifier, "a classifier")  # one for all
    return {name: ForPredictedClass(clip, explainer, classifier, which) for name, (explainer, which) in methods.items()}
