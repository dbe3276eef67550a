"""One pass over a dataset feeds many statistics. This is the only loop over a dataset in the package."""

import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate
from tqdm.auto import tqdm

from .heads.direct import DirectEffects, direct_effects
from .images import read_image
from .models import Clip
from .moments import Rows

_PIXELS, _TARGETS = ("pixel_values", "image"), ("label", "labels")  # of items that are dictionaries, as Hugging Face names them


class Batch:
    """A batch on its way through `feed`. Views are computed when first asked for, once.

    Effects and the representation are divided by the length of each image's representation (thesis, section 2.3), so a
    score against a unit text vector is a part of their cosine.
    """

    def __init__(self, clip: Clip, pixels: Tensor, targets, numbers: Tensor, ln: str | None):
        self.clip, self.pixels, self.targets, self.numbers, self.ln = clip, pixels, targets, numbers, ln
        self._found: dict = {}

    def once(self, key, compute: Callable[[], object]):
        """What `compute()` gives, computed when first asked for under this key: for views that share their work."""
        if key not in self._found:
            self._found[key] = compute()
        return self._found[key]

    @cached_property
    def effects(self) -> DirectEffects:
        return direct_effects(self.clip, self.pixels, self.ln)

    @cached_property
    def _total(self) -> Tensor:
        return self.effects.total()

    @cached_property
    def length(self) -> Tensor:
        """Length of each image's representation, [B, 1]."""
        return self._total.norm(dim=-1, keepdim=True)

    @cached_property
    def representation(self) -> Tensor:
        """[B, E], unit length."""
        return self._total / self.length

    @cached_property
    def layers(self) -> Tensor:
        """[B, 2L+1, E]"""
        return self.effects.layers() / self.length[:, None]

    @cached_property
    def heads(self) -> Tensor:
        """[B, L, H, E]"""
        return self.effects.heads() / self.length[:, None, None]

    @cached_property
    def head_coordinates(self) -> Tensor:
        """[B, L, H, d+1], see `DirectEffects.head_coordinates`"""
        return self.effects.head_coordinates() / self.length[:, None, None]


def pixels_and_target(item, preprocess=None) -> tuple:
    """What an item of a dataset, or a batch, holds: (pixels, target), the target None where there is none.

    item: a pair, pixels alone, or a dictionary with "pixel_values" or "image" and perhaps "label". An image that is not
    preprocessed, a PIL image or 8-bit array, goes through `preprocess`.
    Raises ValueError for a dictionary with other keys, TypeError for such an image without a preprocess.
    """
    if isinstance(item, Mapping):
        pixels, target = (next((item[key] for key in keys if key in item), None) for keys in (_PIXELS, _TARGETS))
        if pixels is None:
            keys = ", ".join(map(repr, item))
            raise ValueError(
                f"an item has the keys {keys}; rename them: need 'pixel_values' or 'image', and 'label' if there is one"
            )
    else:
        pixels, target = (*item, None)[:2] if isinstance(item, list | tuple) else (item, None)
    if isinstance(pixels, Image.Image) or isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8:
        if preprocess is None:
            raise TypeError(f"got images as {type(pixels).__name__} and no preprocess; make them tensors [3, H, W] in the dataset")
        pixels = preprocess(read_image(pixels))
    return pixels, target


class _Items(Dataset):
    """Some items of a dataset: (number, pixels, target, None), or (number, None, None, why) for one that is skipped."""

    def __init__(self, images: Sequence, numbers: Sequence[int], preprocess, skip: bool):
        self.images, self.numbers, self.preprocess, self.skip = images, numbers, preprocess, skip

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, k: int) -> tuple:
        number = self.numbers[k]
        try:
            return number, *pixels_and_target(self.images[number], self.preprocess), None
        except Exception as error:  # a damaged file raises anything
            if not self.skip:
                raise
            return number, None, None, f"{type(error).__name__}: {error}"

    def __getitems__(self, places: list[int]) -> list[tuple]:  # what a DataLoader calls: some datasets are quicker by batches
        numbers = [self.numbers[k] for k in places]
        if self.skip or not hasattr(self.images, "__getitems__"):
            return [self[k] for k in places]
        items = self.images.__getitems__(numbers)
        return [(number, *pixels_and_target(item, self.preprocess), None) for number, item in zip(numbers, items)]


class _Stream(IterableDataset):
    """The items of an iterable, numbered as they come."""

    def __init__(self, images: Iterable, preprocess):
        self.images, self.preprocess = images, preprocess

    def __iter__(self):
        for number, item in enumerate(self.images):
            yield number, *pixels_and_target(item, self.preprocess), None


def _collate(items: list[tuple]) -> tuple:
    """Numbers [B], pixels [B, ...], targets and [(number, why)] of those skipped; no pixels where all are."""
    skipped = [(number, why) for number, _, _, why in items if why is not None]
    kept = [item for item in items if item[3] is None]
    if not kept:
        return None, None, None, skipped
    numbers, pixels, targets, _ = zip(*kept)
    sizes = {tuple(np.shape(each)) for each in pixels}
    if len(sizes) > 1:
        raise ValueError(f"images of a batch differ in size, {' and '.join(map(str, sorted(sizes)))}; preprocess them to one")
    return torch.tensor(numbers), default_collate(pixels), None if targets[0] is None else default_collate(targets), skipped


def _checked_numbers(numbers: Sequence[int] | None, n: int) -> Sequence[int]:
    """Numbers of the images to take, of a mask those that it marks. Raises ValueError for what names no image."""
    if numbers is None:
        return range(n)
    chosen = torch.as_tensor(numbers)
    if chosen.dtype == torch.bool:
        if chosen.shape != (n,):
            raise ValueError(f"a mask of the images needs {n} values, one for each, got {list(chosen.shape)}")
        return chosen.nonzero().flatten().tolist()
    if len(chosen) and (chosen.ndim != 1 or chosen.is_floating_point() or chosen.min() < 0 or chosen.max() >= n):
        raise ValueError(f"numbers must be whole, from 0 to {n - 1}, or a mask of {n} bools; got {numbers!r:.80}")
    return chosen.tolist()


@torch.no_grad()
def feed(
    clip: Clip,
    images: Sequence | Iterable,
    statistics: Sequence[tuple[object, Callable[[Batch], object]]],
    batch_size: int = 64,
    ln: str | None = None,
    numbers: Sequence[int] | None = None,
    on_error: str = "raise",
) -> list[tuple[int, str]]:
    """Pass over the images once and update many statistics.

    clip: the model, or any other that has a `device`, which is all that is read here, but for `preprocess` where images are not
    preprocessed; views run it as they like.
    images: a dataset of (pixels, target) pairs, of pixels alone or of dictionaries (see `pixels_and_target`), an iterable of such,
    or a `DataLoader`; the batches of a loader are taken as they come, and they and iterables numbered so. statistics: pairs of a
    statistic (see `moments`) and a function of the `Batch` that gives the arguments of its `update`, one tensor or a tuple.
    numbers: the images to take, by their place in the dataset or as a mask of all, by default all: passes over disjoint numbers
    `merge` to one pass over all. on_error: "skip" leaves out images of a dataset that cannot be read; a warning counts and lists
    them at the end. Returns their numbers, each with the reason.
    Where the views of a batch run out of memory, smaller parts of it are taken from then on, with a warning.
    Raises ValueError where there are no images, or none can be read.
    """
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error must be 'raise' or 'skip', got {on_error!r}")
    if isinstance(images, Mapping):
        raise TypeError(f"got a dictionary of {', '.join(map(str, images))}; choose one of these sets of images")
    preprocess = getattr(clip, "preprocess", None)
    listed = hasattr(images, "__getitem__") and hasattr(images, "__len__") and not isinstance(images, IterableDataset)
    if not listed and (numbers is not None or on_error == "skip"):
        what = "a DataLoader" if isinstance(images, DataLoader) else "an iterable"
        raise ValueError(
            f"numbers choose among the images of a dataset, and on_error='skip' leaves some out; {what} already says which it gives"
        )
    if isinstance(images, DataLoader):
        loader = images
    elif listed:
        workers = min(8, os.cpu_count() or 1) if clip.device.type == "cuda" else 0  # a GPU waits for decoding, a CPU cannot help
        items = _Items(images, _checked_numbers(numbers, len(images)), preprocess, on_error == "skip")
        loader = DataLoader(items, batch_size, num_workers=workers, collate_fn=_collate)
    else:
        loader = DataLoader(_Stream(images, preprocess), batch_size, collate_fn=_collate)
    try:
        few = len(loader) < 10
    except TypeError:  # nobody knows
        few = False
    done, skipped, most = 0, [], 2**62  # most: images at a time that fit in memory
    for item in tqdm(loader, leave=False, disable=few):
        if loader is images:
            pixels, targets = pixels_and_target(item)
            places = torch.arange(done, done + len(pixels))
        else:
            places, pixels, targets, lost = item
            skipped += lost
            if pixels is None:
                continue
        done += len(pixels)
        parts = [(0, len(pixels))]
        while parts:
            start, end = parts.pop(0)
            if end - start > most:
                parts[:0] = [(k, min(k + most, end)) for k in range(start, end, most)]
                continue
            batch = Batch(clip, *(_part(each, start, end) for each in (pixels, targets, places)), ln)
            try:
                seen = [view(batch) for _, view in statistics]
            except torch.OutOfMemoryError:
                if end - start == 1:
                    raise
                most, batch = (end - start) // 2, None
                parts.insert(0, (start, end))
                warnings.warn(f"out of memory with {end - start} images at a time; going on with {most}", stacklevel=3)
                continue
            for (statistic, _), each in zip(statistics, seen):
                statistic.update(*each) if isinstance(each, tuple) else statistic.update(each)
    if done == 0:
        why = f"; none of {len(skipped)} could be read, number {skipped[0][0]}: {skipped[0][1]}" if skipped else ""
        raise ValueError(f"the dataset has no images{why}" + ("" if listed else "; an iterator gives them only once"))
    if skipped:
        reasons = "".join(f"\n  number {number}: {why}" for number, why in skipped)
        warnings.warn(f"skipped {len(skipped)} of {done + len(skipped)} images:{reasons}", stacklevel=3)
    return skipped


def _part(values, start: int, end: int):
    """Some images of what a batch holds: of tensors and lists [B], and of dictionaries and tuples of such."""
    if isinstance(values, Mapping):
        return {key: _part(value, start, end) for key, value in values.items()}
    if isinstance(values, list | tuple) and values and not isinstance(values[0], str | bytes | float | int):
        return type(values)(_part(value, start, end) for value in values)
    return None if values is None else values[start:end]


class _Kept:
    """The rows of each tensor that a view gives."""

    def update(self, numbers: Tensor, *values: Tensor) -> None:
        self.parts = getattr(self, "parts", [Rows() for _ in values])
        for part, each in zip(self.parts, values, strict=True):
            part.update(each, numbers)


def collect(clip: Clip, images: Sequence | Iterable, view: Callable[[Batch], object], **options) -> Tensor | list[Tensor]:
    """What a function of the `Batch` gives for all images, by their numbers: [K, ...] on the CPU, or a list of such for a tuple.

    For what is small for each image; else feed a statistic. options and errors: those of `feed`.
    """
    kept = _Kept()

    def numbered(batch: Batch) -> tuple:
        seen = view(batch)
        return batch.numbers, *(seen if isinstance(seen, tuple) else (seen,))

    feed(clip, images, [(kept, numbered)], **options)
    rows = [part.rows for part in kept.parts]
    return rows if len(rows) > 1 else rows[0]
