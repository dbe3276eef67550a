"""What datasets give: an item or a batch of it, in whatever form, as pixels and a target."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, default_collate

from .images import read_image

_PIXELS, _TARGETS = ("pixel_values", "image"), ("label", "labels")  # of items that are dictionaries, as Hugging Face names them


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


class Items(Dataset):
    """A dataset by its numbers: (number, pixels, target, None), or (number, None, None, why) for an item that is skipped."""

    def __init__(self, images: Sequence, preprocess, skip: bool):
        self.images, self.preprocess, self.skip = images, preprocess, skip

    def __getitem__(self, number: int) -> tuple:
        try:
            return number, *pixels_and_target(self.images[number], self.preprocess), None
        except Exception as error:  # a damaged file raises anything
            if not self.skip:
                error.add_note(f"this was item {number} of the dataset; on_error='skip' leaves out what cannot be read")
                raise
            return number, None, None, f"{type(error).__name__}: {error}"

    def __getitems__(self, numbers: list[int]) -> list[tuple]:  # what a DataLoader calls: some datasets are quicker by batches
        if self.skip or not hasattr(self.images, "__getitems__"):
            return [self[number] for number in numbers]
        items = self.images.__getitems__(numbers)
        return [(number, *pixels_and_target(item, self.preprocess), None) for number, item in zip(numbers, items)]


class Numbered(IterableDataset):
    """The items of an iterable, numbered as they come."""

    def __init__(self, images: Iterable, preprocess):
        self.images, self.preprocess = images, preprocess

    def __iter__(self):
        for number, item in enumerate(self.images):
            yield number, *pixels_and_target(item, self.preprocess), None


def collate(items: list[tuple]) -> tuple:
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


def checked_places(numbers: Sequence[int] | None, n: int) -> Sequence[int]:
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


def some(values, start: int, end: int):
    """Some images of what a batch holds: of tensors and lists [B], and of dictionaries and tuples of such."""
    if isinstance(values, Mapping):
        return {key: some(value, start, end) for key, value in values.items()}
    if isinstance(values, list | tuple) and values and not isinstance(values[0], str | bytes | float | int):
        return type(values)(some(value, start, end) for value in values)
    return None if values is None else values[start:end]
