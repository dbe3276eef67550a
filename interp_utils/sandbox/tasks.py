"""Tasks on sandbox images whose answers are known: factors, spurious animals, masks, object pairs."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..checks import checked_count
from .captions import prompts, values
from .clip import MEAN, STD
from .clip import preprocess as of_clip
from .render import UNSEEN_STYLES, Rendered, rendered, restyle
from .world import CATEGORIES, FACTORS, LAND_SCENES, WATER_SCENES, Spec, balanced, natural

EVALUATION = 10**9  # seeds of evaluation images start here, those of training images stay below
HIDDEN = -1  # label of a factor that the image does not show


def to_pixels(images: np.ndarray | Tensor) -> Tensor:
    """uint8 [..., 64, 64, 3] arrays or [..., 3, 64, 64] tensors -> normalised float [..., 3, 64, 64], as `preprocess` gives."""
    images = images if isinstance(images, Tensor) else torch.from_numpy(images).movedim(-1, -3)
    mean, std = (torch.tensor(each, device=images.device).float()[:, None, None] for each in (MEAN, STD))
    return ((images.float() / 255 - mean) / std).contiguous()


class SandboxImages(torch.utils.data.Dataset):
    """Images of given specs, drawn when asked for: item k is (pixels [3, H, W], target(rendered image)).

    target: a function of a module, for worker processes find it by its name. style: one of `UNSEEN_STYLES`, put over the finished
    image. preprocess: PIL image -> pixels, as another model wants them; None gives [3, 64, 64] as the sandbox CLIP does.
    """

    def __init__(self, specs: Sequence[Spec], target: Callable[[Rendered], object], style: str | None = None, preprocess=None):
        if style is not None and style not in UNSEEN_STYLES:
            raise ValueError(f"unknown style {style!r}; choose one of {', '.join(UNSEEN_STYLES)}")
        self.specs, self.target, self.style, self.preprocess = list(specs), target, style, preprocess

    def __len__(self) -> int:
        return len(self.specs)

    def __getitem__(self, k: int):
        return self.__getitems__([k])[0]

    def __getitems__(self, numbers: Sequence[int]) -> list:  # what a DataLoader calls: a batch is drawn at once
        images = rendered([self.specs[k] for k in numbers])
        shown = [restyle(image.pixels, self.style) if self.style else image.pixels for image in images]
        if self.preprocess in (None, of_clip()):  # which changes neither size nor colours
            pixels = to_pixels(np.stack(shown))
        else:
            pixels = [self.preprocess(Image.fromarray(image)) for image in shown]
        return list(zip(pixels, map(self.target, images)))


def factor_label(spec: Spec, factor: str) -> int:
    """Index of a factor's value, HIDDEN where the image does not show one value of it; "category" included."""
    if factor == "category":
        return values(factor).index(spec.category) if "object" in spec.shown else HIDDEN
    return FACTORS[factor].index(getattr(spec, factor)) if factor in spec.shown else HIDDEN


def factor_labels(image: Rendered) -> Tensor:
    """The labels of all factors of an image, [len(FACTORS)]."""
    return torch.tensor([factor_label(image.factors, factor) for factor in FACTORS])


def factor_images(
    factor: str, n: int, seed: int = 0, unseen_style: str | None = None, biased: bool = False, preprocess=None, **fixed
) -> SandboxImages:
    """Images labelled with one factor that all of them show; `fixed` holds other factors at a value. Targets: int.

    biased: from the training distribution with its co-occurrences, else balanced. unseen_style: draw all images in a style
    that training never saw, one of `UNSEEN_STYLES` (out of distribution). Raises ValueError for an unknown factor or n < 1.
    """
    if factor not in (*FACTORS, "category"):
        raise ValueError(f"unknown factor {factor!r}; choose one of {', '.join(FACTORS)} or category")
    if factor == "colour":
        fixed = {"style": "photo", **fixed}
    if factor in ("place", "size"):
        fixed = {"count": 1, **fixed}
    return SandboxImages(evaluation_specs(n, seed, biased, **fixed), partial(_label, factor=factor), unseen_style, preprocess)


def _label(image: Rendered, factor: str) -> int:
    return factor_label(image.factors, factor)


def segmentation_images(n: int, seed: int = 0) -> SandboxImages:
    """Balanced images with their masks. Targets: bool [64, 64], where the objects are."""
    return SandboxImages(evaluation_specs(n, seed), _mask)


def _mask(image: Rendered) -> Tensor:
    return torch.from_numpy(image.mask)


def spurious_animals(split: str, n: int, seed: int = 0, preprocess=None) -> SandboxImages:
    """Land (0) and water (1) animals on land and water scenes. Targets: (label, group), group = 2 * label + on water.

    split "train": 95 percent of the animals stand on their own scenes; "test": the four groups are equally large.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test', got {split!r}")
    rng = np.random.default_rng([seed, 4, split == "train"])
    specs = []
    for k, spec in enumerate(evaluation_specs(n, seed + (10 if split == "train" else 0))):
        label = k % 2
        water = (label == 1) == (rng.random() < 0.95) if split == "train" else (k // 2) % 2 == 1
        animals = CATEGORIES["water animal" if label else "land animal"]
        scenes = WATER_SCENES if water else LAND_SCENES
        specs.append(replace(spec, object=animals[int(rng.integers(len(animals)))], scene=scenes[int(rng.integers(len(scenes)))]))
    return SandboxImages(specs, _animal_group, preprocess=preprocess)


def _animal_group(image: Rendered) -> tuple[int, int]:
    label = int(image.factors.category == "water animal")
    return label, 2 * label + int(image.factors.scene in WATER_SCENES)


def object_pair(first: str, second: str, n: int, seed: int = 0) -> SandboxImages:
    """Balanced images of two kinds of object in turn. Targets: 0 for the first kind, 1 for the second."""
    specs = [replace(spec, object=(first, second)[k % 2]) for k, spec in enumerate(evaluation_specs(n, seed))]
    return SandboxImages(specs, partial(_is_kind, kind=second))


def _is_kind(image: Rendered, kind: str) -> int:
    return int(image.factors.object == kind)


def zero_shot_classifier(clip, factor: str, among: Sequence | None = None) -> Tensor:
    """Unit text vectors of all or some values of a factor, "category" or "family", [V, E]: the normalised mean over its prompts."""
    texts = [prompts(factor, value) for value in (values(factor) if among is None else among)]
    vectors = clip.encode_text(sum(texts, [])).split([len(each) for each in texts])
    return torch.stack([F.normalize(each.mean(0), dim=0) for each in vectors])


def evaluation_specs(n: int, seed: int = 0, biased: bool = False, **fixed) -> list[Spec]:
    """Specs of images that no training sees, balanced or from the training distribution. Raises ValueError for n < 1."""
    n = checked_count("n", n)
    draw = natural if biased else balanced
    return [draw(EVALUATION + seed * 10**7 + k, **fixed) for k in range(n)]
