"""What a comparison is: two ways to one answer, on inputs of some sizes, and how it is put on the list."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import open_clip
import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from small_clips import SMALL_TEXT, randomise, real_clip
from torch import Tensor

import interp_utils as iu


@dataclass(frozen=True)
class Case:
    """One comparison, ready to run."""

    ours: Callable
    theirs: Callable
    same: Callable  # of both answers; raises AssertionError where they differ
    clip: iu.Clip | None = None
    pixels: Tensor | None = None  # of one bare forward pass; in batches as ours takes them
    batch: int = 64
    work: float = 1  # how many times more images ours sees than theirs

    @property
    def images(self) -> int:
        return 0 if self.pixels is None else len(self.pixels)

    def bare(self) -> None:
        """The model's own forward pass over all images, and nothing else."""
        with torch.no_grad():
            for part in self.pixels.split(self.batch):
                self.clip.encode_image(part)


@dataclass(frozen=True)
class Entry:
    """One line of the table: case(tower, **sizes) makes the comparison."""

    name: str
    what: str
    than: str
    case: Callable[..., Case]
    sizes: dict[str, int]
    least: dict[str, int]
    grows: tuple[str, ...]  # the sizes by which growth is fitted
    goals: dict[str, float] = field(default_factory=dict)  # key of the result -> at most


ENTRIES: dict[str, Entry] = {}
TINY = {"layers": 3, "width": 32, "head_width": 8, "patch_size": 8, "image_size": 32}
PUBLISHED = "the published way"


@cache
def tower(name: str, small: bool = False, **vision) -> iu.Clip:
    """A tower with random weights; small: of the same kind, but of a size for tests."""
    if "SigLIP" not in name:
        return real_clip(name, **vision | TINY if small else vision)
    if small:
        return real_clip("ViT-B-16", pool_type="avg", **TINY)
    return iu.Clip(randomise(CLIP(768, open_clip.get_model_config(name)["vision_cfg"], SMALL_TEXT)), name=name, check=False)


def entry(what: str, than: str = PUBLISHED, grows=("images",), goals=None, **sizes: tuple[int, int]):
    """Register a case under its function's name; sizes: of each dimension the one that is measured and the smallest."""

    def register(case):
        full, least = ({key: pair[k] for key, pair in sizes.items()} for k in (0, 1))
        ENTRIES[case.__name__] = Entry(case.__name__, what, than, case, full, least, grows, goals or {})
        return case

    return register


def close(ours, theirs, tolerance: float = 1e-4) -> None:
    """Asserts that two tensors differ by no more than this share of their size."""
    off, size = (ours - theirs).norm().item(), theirs.norm().item()
    assert ours.shape == theirs.shape and off <= tolerance * size, f"off by {off / size:.1e} of their size"


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def unit(*shape: int, seed: int = 2) -> Tensor:
    return F.normalize(draw(*shape, seed=seed), dim=-1)
