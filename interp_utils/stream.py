"""One pass over a dataset feeds many statistics. This is the only loop over a dataset in the package."""

import os
from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch import Tensor
from tqdm.auto import tqdm

from .heads.direct import DirectEffects, direct_effects
from .models import Clip


class Batch:
    """A batch on its way through `feed`. Views are computed when first asked for, once.

    Effects and the representation are divided by the length of each image's representation (thesis, section 2.3), so a
    score against a unit text vector is a part of their cosine.
    """

    def __init__(self, clip: Clip, pixels: Tensor, targets, numbers: Tensor, ln: str):
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


@torch.no_grad()
def feed(
    clip: Clip,
    images: Sequence,
    statistics: Sequence[tuple[object, Callable[[Batch], object]]],
    batch_size: int = 64,
    ln: str = "centered",
    numbers: Sequence[int] | None = None,
) -> None:
    """Pass over the images once and update many statistics.

    clip: the model, or any other that has a `device`, which is all that is read here; views run it as they like.
    images: a dataset of (pixels, target) pairs, or of pixels alone, or a `DataLoader` over one (its batches are taken as they
    come, and numbered so). statistics: pairs of a statistic (see `moments`) and a
    function of the `Batch` that gives the arguments of its `update`, one tensor or a tuple. numbers: the images to take, by
    their place in the dataset, all by default: passes over disjoint numbers `merge` to one pass over all.
    Raises ValueError where there are no images.
    """
    if isinstance(images, torch.utils.data.DataLoader):
        if numbers is not None:
            raise ValueError("numbers choose among the images of a dataset; a DataLoader already says which images it gives")
        loader, numbers = images, range(len(images.dataset))
    else:
        numbers = range(len(images)) if numbers is None else numbers
        workers = min(8, os.cpu_count() or 1) if clip.device.type == "cuda" else 0  # a GPU waits for decoding, a CPU cannot help
        subset = torch.utils.data.Subset(images, numbers)
        loader = torch.utils.data.DataLoader(subset, batch_size=batch_size, num_workers=workers)
    if len(numbers) == 0:
        raise ValueError("the dataset has no images")
    done = 0
    for item in tqdm(loader, leave=False, disable=len(loader) < 10):
        pixels, targets = (*item, None)[:2] if isinstance(item, list | tuple) else (item, None)
        batch = Batch(clip, pixels, targets, torch.as_tensor(numbers[done : done + len(pixels)]), ln)
        done += len(pixels)
        for statistic, view in statistics:
            seen = view(batch)
            statistic.update(*seen) if isinstance(seen, tuple) else statistic.update(seen)
