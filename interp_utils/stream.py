"""One pass over a dataset feeds many statistics. This is the only loop over a dataset in the package."""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset
from tqdm.auto import tqdm

from .accumulating import Several
from .items import Items, Numbered, checked_places, collate, pixels_and_target, some
from .moments import Rows
from .processes import rank_and_count
from .runs import Progress, Run, contents, merged

MOST = 2**30  # bytes that a `memory` takes


def memory(images) -> dict | None:
    """For `kept` of passes of `feed` over the same images, or sets that begin with them, by one model: a small set is run once.

    None where images may come in another order the next time.
    """
    return {"images": len(images)} if _listed(images) else None


def _listed(images) -> bool:
    return hasattr(images, "__getitem__") and hasattr(images, "__len__") and not isinstance(images, IterableDataset)


class Batch:
    """A batch on its way through `feed`: pixels (of a generator latents), targets, and the images' numbers [B].

    What a chapter sees in a batch is defined there and made an attribute by `view`: `heads/views.py` for chapter 2.
    """

    def __init__(self, model, pixels: Tensor, targets, numbers: Tensor, ln: str | None = None, kept: dict | None = None):
        self.model, self.pixels, self.targets, self.numbers, self.ln = model, pixels, targets, numbers, ln
        self._found, self._kept = {}, {} if kept is None else kept

    def once(self, key, compute: Callable[[], object]):
        """What `compute()` gives, computed when first asked for under this key: for views that share their work."""
        if key not in self._found:
            self._found[key] = compute()
        return self._found[key]

    def once_a_pass(self, key, compute: Callable[[], object]):
        """The same for all batches of a pass: for what depends on the model's weights alone, which no pass may change."""
        state = _state(self.model)[:2]
        if self._kept.get(key, (None,))[0] != state:
            self._kept[key] = state, compute()
        return self._kept[key][1]

    def once_for_all(self, key, compute: Callable[[], object], size: Callable[[object], int]):
        """The same for passes over the same images that share a `memory`: what was found from the same pixels, by the same model.

        size: bytes of what was computed, which is kept where as much for every image would take no more than MOST bytes.
        """
        key = key, tuple(self.numbers.tolist())
        state, pixels, found = self._kept.get(key, (None, None, None))
        if state == (now := _state(self.model)) and torch.equal(pixels, self.pixels):
            return found
        found, images = compute(), self._kept.get("images")
        if images and (size(found) + self.pixels.nbytes) / len(self.numbers) * images <= MOST:
            self._kept[key] = now, self.pixels, found
        return found

    def forget(self) -> None:
        """Let go of what views have found. It may hold the batch in turn, and would stay until garbage is next collected."""
        self._found.clear()
        for name in [name for name in vars(self) if isinstance(getattr(Batch, name, None), cached_property)]:
            delattr(self, name)


def _state(model) -> tuple:
    """What is equal as long as a model is the same: itself, how often its weights were written, and its hooks."""
    module = getattr(model, "model", model)
    if not isinstance(module, torch.nn.Module):
        return model, (), ()
    weights = (*module.parameters(), *module.buffers())
    versions = tuple(0 if each.is_inference() else each._version for each in weights)  # of inference tensors nobody counts them
    hooks = tuple(number for each in module.modules() for number in (*each._forward_hooks, *each._forward_pre_hooks))
    return model, versions, hooks


def view(compute: Callable[[Batch], object]) -> Callable[[Batch], object]:
    """Make a function of a `Batch` its attribute, under the function's name: computed when first asked for, once a batch.

    Raises ValueError for a name that a batch has already.
    """
    name = compute.__name__
    if hasattr(Batch, name):
        raise ValueError(f"a batch has a view {name!r} already; give yours another name")
    attribute = cached_property(compute)
    attribute.__set_name__(Batch, name)
    setattr(Batch, name, attribute)
    return compute


class Asked(NamedTuple):
    """What something asks of a pass, so that several share one: pairs for `feed`, and what they found, once it is over."""

    statistics: list[tuple[object, Callable[[Batch], object]]]
    found: Callable[[], object]


@torch.no_grad()
def feed(
    model,
    images: Sequence | Iterable,
    statistics: Sequence[tuple[object, Callable[[Batch], object]]],
    batch_size: int = 64,
    ln: str | None = None,
    numbers: Sequence[int] | None = None,
    on_error: str = "raise",
    save_to: str | Path | None = None,
    every: float = 60,
    kept: dict | None = None,
) -> list[tuple[int, str]]:
    """Pass over the images once and update many statistics.

    model: a `Clip`, a model of chapter 4 or any other that has a `device`, which is all that is read here, but for `preprocess`
    where images are not preprocessed; views run it as they like. ln: for views that have this convention, as `Batch.ln`.
    images: a dataset of (pixels, target) pairs, of pixels alone or of dictionaries (see `pixels_and_target`), an iterable of such,
    or a `DataLoader`; the batches of a loader are taken as they come, and they and iterables numbered so. statistics: pairs of a
    statistic (see `moments`) and a function of the `Batch` that gives the arguments of its `update`, one tensor or a tuple.
    numbers: the images to take, by their place in the dataset or as a mask of all, by default all: passes over disjoint numbers
    `merge` to one pass over all. on_error: "skip" leaves out images of a dataset that cannot be read; a warning counts and lists
    them at the end. Returns their numbers, each with the reason.
    save_to: a file (safetensors) that is written every so many seconds and at the end. The same call goes on from it, after an
    error, an interrupt or a kill, and ends with the same bits; of a finished file it only reads. A file of another run is refused.
    Under `torchrun` batches are dealt out to the processes, whose statistics are merged in the order of their ranks at the end.
    kept: a `memory`, of passes over the same images, or over sets that begin with the same.
    Where the views of a batch run out of memory, smaller parts of it are taken from then on, with a warning.
    Raises ValueError where there are no images, or none can be read, and for a file of another run; OSError that names the file
    where it cannot be written; RuntimeError where another process of the job has ended.
    """
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error must be 'raise' or 'skip', got {on_error!r}")
    if isinstance(images, Mapping):
        raise TypeError(f"got a dictionary of {', '.join(map(str, images))}; choose one of these sets of images")
    rank, processes = rank_and_count()
    listed = _listed(images)
    if kept and "images" in kept and listed:
        kept["images"] = max(kept["images"], len(images))
    if not listed and (numbers is not None or on_error == "skip" or save_to is not None or processes > 1):
        what = "a DataLoader" if isinstance(images, DataLoader) else "an iterable"
        raise ValueError(
            "numbers choose among the images of a dataset, on_error='skip' leaves some out, save_to and torchrun must find them "
            f"again; {what} already says which it gives: give the dataset itself"
        )
    gathered, progress, run, batches = _distinct(statistics), Progress(), None, []
    if listed:
        places = checked_places(numbers, len(images))
        batches = [places[k : k + batch_size] for k in range(0, len(places), batch_size)][rank::processes]
    if save_to is not None:
        run = Run(save_to, contents(model, images, statistics, places, batch_size, ln), every, model.device)
    if run is None or not run.resume(gathered, progress):
        loader = _loader(model, images, batches[progress.batches :] if listed else None, batch_size, on_error == "skip")
        _update(model, loader, loader is images, statistics, progress, ln, run, {} if kept is None else kept)
        if processes > 1:
            if run is not None:
                run.write(gathered, progress)
            merged(gathered, progress)
        if run is not None and progress.images:
            run.finish(gathered, progress)
    skipped = [tuple(each) for each in progress.skipped]
    if progress.images == 0:
        why = f"; none of {len(skipped)} could be read, number {skipped[0][0]}: {skipped[0][1]}" if skipped else ""
        raise ValueError(f"the dataset has no images{why}" + ("" if listed else "; an iterator gives them only once"))
    if skipped:
        reasons = "".join(f"\n  number {number}: {why}" for number, why in skipped)
        warnings.warn(f"skipped {len(skipped)} of {progress.images + len(skipped)} images:{reasons}", stacklevel=3)
    return skipped


def in_pass(k: int, options: dict) -> dict:
    """Options of `feed` for pass number k of a function that makes several: a file of its own, such as run.1.safetensors."""
    if options.get("save_to") is None:
        return options
    path = Path(options["save_to"])
    return options | {"save_to": path.with_name(f"{path.stem}.{k}{path.suffix}")}


def _loader(model, images, batches: list[Sequence[int]] | None, batch_size: int, skip: bool) -> DataLoader:
    """What gives the batches: of a dataset those of the numbers given, of an iterable as they come."""
    if isinstance(images, DataLoader):
        return images
    preprocess = getattr(model, "preprocess", None)
    if batches is None:
        return DataLoader(Numbered(images, preprocess), batch_size, collate_fn=collate)
    ahead = model.device.type == "cuda" and not (batches and _on_device(images, batches[0][0]))  # a CPU does not wait for images
    workers, items = min(8, os.cpu_count() or 1) if ahead else 0, Items(images, preprocess, skip)
    return DataLoader(items, batch_sampler=batches, num_workers=workers, collate_fn=collate, pin_memory=ahead)


def _on_device(images, number: int) -> bool:
    """Whether a dataset's items lie on a GPU already, which other processes cannot read, and which cannot be pinned."""
    try:
        pixels = pixels_and_target(images[number])[0]
    except Exception:  # no tensor, or a damaged file, of which the pass will tell
        return False
    return isinstance(pixels, Tensor) and pixels.device.type != "cpu"


def _update(
    model, loader: DataLoader, brought: bool, statistics, progress: Progress, ln: str | None, run: Run | None, kept: dict
) -> None:
    """Update the statistics batch by batch, and the progress. brought: the loader is the user's own.

    Whatever ends it early, what all statistics have seen alike is written first.
    """
    gathered, whole = _distinct(statistics), True
    try:
        total, few = _expected(loader)
        hidden = {"disable": True} if few or rank_and_count()[0] > 0 else {}  # else as the variable TQDM_DISABLE says
        with tqdm(total=total, unit=" images", leave=False, **hidden) as bar:
            for item in loader:
                if brought:
                    pixels, targets = pixels_and_target(item)
                    places, skipped = torch.arange(progress.images, progress.images + len(pixels)), []
                else:
                    places, pixels, targets, skipped = item
                n = 0 if pixels is None else len(pixels)
                for seen in _in_parts(model, statistics, (pixels, targets, places), n, ln, kept, progress):
                    whole = False
                    for (statistic, _), each in zip(statistics, seen):
                        statistic.update(*each) if isinstance(each, tuple) else statistic.update(each)
                progress.batches, progress.images = progress.batches + 1, progress.images + n
                progress.skipped += skipped
                bar.update(n)
                if run is not None:
                    whole = False  # so that a disk is not tried twice
                    run.write_if_due(gathered, progress)
                whole = True
    except BaseException:
        if whole and run is not None:
            run.write(gathered, progress)
        raise


def _in_parts(model, statistics, batch: tuple, n: int, ln: str | None, kept: dict, progress: Progress) -> Iterator[list]:
    """What all views give for a batch, in as many parts as memory asks for."""
    parts = [(0, n)] if n else []
    while parts:
        start, end = parts.pop(0)
        if end - start > progress.most:
            parts[:0] = [(k, min(k + progress.most, end)) for k in range(start, end, progress.most)]
            continue
        pixels, targets, places = (some(each, start, end) for each in batch)
        part = Batch(model, pixels, targets, places, ln, kept)
        try:
            if model.device.type == "cuda":
                part.pixels = pixels.to(model.device, non_blocking=True)
            seen = [view(part) for _, view in statistics]
        except torch.OutOfMemoryError:
            if end - start == 1:
                raise
            progress.most = (end - start) // 2
            parts.insert(0, (start, end))
            warnings.warn(f"out of memory with {end - start} images at a time; going on with {progress.most}", stacklevel=4)
            continue
        finally:
            part.forget()
        yield seen


def _distinct(statistics: Sequence[tuple]) -> list:
    """The statistics without their views, each once."""
    return list({id(statistic): statistic for statistic, _ in statistics}.values())


def _expected(loader: DataLoader) -> tuple[int | None, bool]:
    """How many images a loader is about to give, None where nobody knows, and whether they are done before anyone looks."""
    try:
        batches, sampler = len(loader), loader.batch_sampler
        return sum(map(len, sampler)) if isinstance(sampler, list) else len(loader.sampler), batches < 10
    except TypeError:
        return None, False


class _Kept(Several):
    """The rows of each tensor that a view gives."""

    def __init__(self):
        super().__init__({})

    def update(self, numbers: Tensor, *values: Tensor) -> None:
        self.members = self.members or {k: Rows() for k in range(len(values))}
        for part, each in zip(self.members.values(), values, strict=True):
            part.update(each, numbers)

    def merge(self, other: "_Kept") -> None:
        self.members = self.members or {k: Rows() for k in other.members}
        super().merge(other)

    def load_state_dict(self, state: dict) -> None:
        self.members = {k: Rows() for k in range(len(state["members"]))}
        super().load_state_dict(state)


def collect(model, images: Sequence | Iterable, view: Callable[[Batch], object], **options) -> Tensor | list[Tensor]:
    """What a function of the `Batch` gives for all images, by their numbers: [K, ...] on the CPU, or a list of such for a tuple.

    For what is small for each image; else feed a statistic. options and errors: those of `feed`.
    """
    kept = _Kept()

    def numbered(batch: Batch) -> tuple:
        seen = view(batch)
        return batch.numbers, *(seen if isinstance(seen, tuple) else (seen,))

    feed(model, images, [(kept, numbered)], **options)
    rows = [member.rows for member in kept.members.values()]
    return rows if len(rows) > 1 else rows[0]
