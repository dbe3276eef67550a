"""Tasks on sandbox images whose answers are known: factors, spurious animals, masks, object pairs."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ...checks import checked_count
from ...moments import GroupMeans
from ...stream import feed
from ..render import restyle
from ..tasks import EVALUATION, HIDDEN, to_pixels
from .captions import prompts
from .render import Rendered, render
from .world import CATEGORIES, FACTORS, LAND_SCENES, WATER_SCENES, Spec, balanced


class SandboxImages(torch.utils.data.Dataset):
    """Images of given specs, drawn when asked for: item k is (pixels [3, H, W], target(rendered image)).

    target: a function of a module, for worker processes find it by its name. style: one of `UNSEEN_STYLES`, put over the finished
    image. preprocess: PIL image -> pixels, as another model wants them; None gives [3, 64, 64] as the sandbox CLIP does.
    """

    def __init__(self, specs: list[Spec], target: Callable[[Rendered], object], style: str | None = None, preprocess=None):
        self.specs, self.target, self.style, self.preprocess = specs, target, style, preprocess

    def __len__(self) -> int:
        return len(self.specs)

    def __getitem__(self, k: int):
        image = render(self.specs[k])
        pixels = restyle(image.pixels, self.style) if self.style else image.pixels
        return to_pixels(pixels) if self.preprocess is None else self.preprocess(Image.fromarray(pixels)), self.target(image)


def factor_label(spec: Spec, factor: str) -> int:
    """Index of a factor's value, HIDDEN where the image does not show it (colour is seen in photos only)."""
    if factor == "colour" and spec.style != "photo":
        return HIDDEN
    return FACTORS[factor].index(getattr(spec, factor))


def factor_labels(image: Rendered) -> Tensor:
    """The labels of all factors of an image, [len(FACTORS)]."""
    return torch.tensor([factor_label(image.factors, factor) for factor in FACTORS])


def factor_images(factor: str, n: int, seed: int = 0, unseen_style: str | None = None, preprocess=None, **fixed) -> SandboxImages:
    """Balanced images labelled with one factor; `fixed` holds other factors at a value. Targets: int.

    unseen_style: draw all images in a style that training never saw, one of `UNSEEN_STYLES` (out of distribution).
    """
    if factor not in FACTORS:
        raise ValueError(f"unknown factor {factor!r}; choose one of {', '.join(FACTORS)}")
    if factor == "colour":
        fixed = {"style": "photo", **fixed}
    specs = _evaluation_specs(n, seed, **fixed)
    return SandboxImages(specs, partial(_label_of, factor=factor), unseen_style, preprocess)


def _label_of(image: Rendered, factor: str) -> int:
    return factor_label(image.factors, factor)


def segmentation_images(n: int, seed: int = 0) -> SandboxImages:
    """Balanced images with their masks. Targets: bool [64, 64], where the objects are."""
    return SandboxImages(_evaluation_specs(n, seed), _mask_of)


def _mask_of(image: Rendered) -> Tensor:
    return torch.from_numpy(image.mask)


def spurious_animals(split: str, n: int, seed: int = 0, preprocess=None) -> SandboxImages:
    """Land (0) and water (1) animals on land and water scenes. Targets: (label, group), group = 2 * label + on water.

    split "train": 95 percent of the animals stand on their own scenes; "test": the four groups are equally large.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test', got {split!r}")
    rng = np.random.default_rng([seed, 4, split == "train"])
    specs = []
    for k, spec in enumerate(_evaluation_specs(n, seed + (10**6 if split == "train" else 0))):
        label = k % 2
        water = (label == 1) == (rng.random() < 0.95) if split == "train" else (k // 2) % 2 == 1
        animals = CATEGORIES["water animal" if label else "land animal"]
        scenes = WATER_SCENES if water else LAND_SCENES
        specs.append(replace(spec, object=animals[int(rng.integers(len(animals)))], scene=scenes[int(rng.integers(len(scenes)))]))
    return SandboxImages(specs, _animal_and_group, preprocess=preprocess)


def _animal_and_group(image: Rendered) -> tuple[int, int]:
    label = int(image.factors.category == "water animal")
    return label, 2 * label + int(image.factors.scene in WATER_SCENES)


def object_pair(first: str, second: str, n: int, seed: int = 0) -> SandboxImages:
    """Balanced images of two kinds of object in turn. Targets: 0 for the first kind, 1 for the second."""
    specs = [replace(spec, object=(first, second)[k % 2]) for k, spec in enumerate(_evaluation_specs(n, seed))]
    return SandboxImages(specs, partial(_shows, kind=second))


def _shows(image: Rendered, kind: str) -> int:
    return int(image.factors.object == kind)


def zero_shot_classifier(clip, factor: str) -> Tensor:
    """Unit text vectors of a factor's values, [V, E]: the normalised mean over its prompts."""
    return torch.stack([F.normalize(clip.encode_text(prompts(factor, value)).mean(0), dim=0) for value in FACTORS[factor]])


@torch.no_grad()
def zero_shot_report(clip, n_images: int = 2000, seed: int = 0) -> dict[str, float]:
    """Accuracy of classification from text on fresh balanced images, for each factor (colour on photos only)."""
    right = {factor: GroupMeans(1) for factor in FACTORS}

    def view(k: int, classifier: Tensor):
        def guesses(batch):
            seen = batch.once("image", lambda: clip.encode_image(batch.pixels))
            label = batch.targets[:, k].to(seen.device)
            correct = (seen @ classifier.T).argmax(1) == label
            return correct[:, None].float(), torch.where(label == HIDDEN, HIDDEN, 0)

        return guesses

    views = [(right[factor], view(k, zero_shot_classifier(clip, factor))) for k, factor in enumerate(FACTORS)]
    images = SandboxImages(_evaluation_specs(n_images, seed), factor_labels, preprocess=clip.preprocess)
    feed(clip, images, views, batch_size=250)
    return {factor: mean.mean.item() for factor, mean in right.items()}


def _evaluation_specs(n: int, seed: int, **fixed) -> list[Spec]:
    return [balanced(EVALUATION + seed * 10**7 + k, **fixed) for k in range(checked_count("n", n))]
