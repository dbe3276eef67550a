"""Classification tasks: images with labels, and the names of their classes."""

import os
from pathlib import Path
from typing import NamedTuple

import open_clip
import torch
import torchvision
from timm.data import ImageNetInfo
from torchvision.datasets.folder import IMG_EXTENSIONS, ImageFolder

from ..sandbox import FACTORS, UNSEEN_STYLES, factor_images
from .common import ROOT, Files, sandbox_templates, spread

_IMAGENETTE_IN_IMAGENET = (0, 217, 482, 491, 497, 566, 569, 571, 574, 701)
_SANDBOX = {"sandbox": {}, "sandbox-train": {"seed": 1}} | {f"sandbox-{style}": {"unseen_style": style} for style in UNSEEN_STYLES}
_TASKS = (*_SANDBOX, "imagenette", "imagenette-train", "imagenet", "imagenet-train", "imagenet-r")
_FOLDER_LAYOUTS = """An image folder looks like one of
  folder/tree_frog/1.jpg      one subfolder for each class, its name the class name, with _ for a space
  folder/paper_towel/2.png
or
  folder/1.jpg                images alone, without labels
  folder/2.png"""
_IMAGENET_R_LAYOUT = """The archive https://people.eecs.berkeley.edu/~hendrycks/imagenet-r.tar unpacks to
  imagenet-r/n01443537/art_0.jpg ...     200 class folders, each named by a WordNet id"""


class Task(NamedTuple):
    """Images with labels, and what is needed to classify them from text."""

    images: torch.utils.data.Dataset  # items (pixels [3, H, W], label)
    classes: list[str]
    templates: list  # for clip.encode_text(classes, templates)


def load_task(name: str | Path, preprocess, n: int | None = None, root: Path = ROOT) -> Task:
    """A classification task by name, or from the path of an image folder.

    "sandbox" (objects), "imagenette" (downloaded once) and "imagenet" (validation set); "sandbox-train", "imagenette-train" and
    "imagenet-train" are other images of the same kind, to fit on. Out of distribution: "sandbox-sketch" and "sandbox-negative",
    styles that training never saw, and "imagenet-r" (Hendrycks et al. 2021), classified among all 1000 classes of ImageNet as
    in the thesis's code (figure B.3). A folder holds one subfolder for each class, or images alone: then there are no classes
    and all labels are -1.
    preprocess: PIL image -> tensor; n: take so many images, evenly spread over the set; root: where the named sets lie.
    Raises ValueError for an unknown name, FileNotFoundError where a set is not in its folder of root, or a folder has no images.
    """
    if name in _SANDBOX:
        images = factor_images("object", n or 2000, **_SANDBOX[name])
        return Task(images, list(FACTORS["object"]), sandbox_templates("object"))
    templates, every = list(open_clip.OPENAI_IMAGENET_TEMPLATES), list(open_clip.IMAGENET_CLASSNAMES)
    split = "train" if str(name).endswith("-train") else "val"
    if name in ("imagenette", "imagenette-train"):
        folder = root / "imagenette"
        here = (folder / "imagenette2-320").exists()
        images = torchvision.datasets.Imagenette(folder, split=split, size="320px", download=not here, transform=preprocess)
        return Task(spread(images, n), [every[k] for k in _IMAGENETTE_IN_IMAGENET], templates)
    if name in ("imagenet", "imagenet-train"):
        folder = root / "imagenet"
        if not folder.exists():
            raise FileNotFoundError(
                f"no ImageNet at {folder}: put ILSVRC2012_img_{split}.tar and ILSVRC2012_devkit_t12.tar.gz there or set INTERP_DATA"
            )
        images = torchvision.datasets.ImageNet(folder, split=split, transform=preprocess)
        return Task(spread(images, n), every, templates)
    if name == "imagenet-r":
        return Task(spread(_imagenet_r(root / "imagenet-r", preprocess), n), every, templates)
    folder = Path(name).expanduser()
    if not folder.exists() and isinstance(name, str) and name == folder.name:  # one word, so rather a name than a path
        raise ValueError(f"unknown image set {name!r}; choose one of {', '.join(_TASKS)}, or give the path of an image folder")
    images, classes = _folder_images(folder, preprocess)
    return Task(spread(images, n), classes, templates)


def _imagenet_r(folder: Path, preprocess) -> torch.utils.data.Dataset:
    """ImageNet-R's images with ImageNet's labels: a class folder is named by its WordNet id."""
    wordnet_ids = ImageNetInfo("imagenet-1k").label_names()

    def label(k: int) -> int:
        if images.classes[k] not in wordnet_ids:
            raise ValueError(f"{folder / images.classes[k]} is not named by a WordNet id of ImageNet. {_IMAGENET_R_LAYOUT}")
        return wordnet_ids.index(images.classes[k])

    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}. {_IMAGENET_R_LAYOUT}")
    images = _class_folders(folder, preprocess, _IMAGENET_R_LAYOUT)
    images.target_transform = [label(k) for k in range(len(images.classes))].__getitem__
    return images


class _ClassFolders(ImageFolder):
    """ImageFolder that does not take hidden folders, such as .ipynb_checkpoints, for classes."""

    def find_classes(self, directory):
        names = sorted(entry.name for entry in os.scandir(directory) if entry.is_dir() and not entry.name.startswith("."))
        if not names:
            raise FileNotFoundError("there are no class folders.")
        return names, {name: k for k, name in enumerate(names)}


def _class_folders(folder: Path, preprocess, layout: str) -> _ClassFolders:
    """One subfolder for each class. Raises FileNotFoundError, showing the layout, without classes or for one without an image."""
    try:
        return _ClassFolders(str(folder), transform=preprocess, is_valid_file=_is_image)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{folder}: {error} {layout}") from error


def _is_image(path: str | Path) -> bool:
    return Path(path).suffix.lower() in IMG_EXTENSIONS and not Path(path).name.startswith(".")


def _folder_images(folder: Path, preprocess) -> tuple[torch.utils.data.Dataset, list[str]]:
    """The images of a folder and their class names, none for a folder without class subfolders."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}. {_FOLDER_LAYOUTS}")
    loose = sorted(path for path in folder.iterdir() if _is_image(path))
    subfolders = (path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    nested = any(_is_image(path) for subfolder in subfolders for path in subfolder.rglob("*"))
    if loose and nested:
        raise ValueError(f"{folder} has images beside its class folders, the first {loose[0]}. {_FOLDER_LAYOUTS}")
    if loose:
        return Files([(path, -1) for path in loose], preprocess), []
    if not nested:
        raise FileNotFoundError(f"no images in {folder} (of type {', '.join(IMG_EXTENSIONS)}). {_FOLDER_LAYOUTS}")
    images = _class_folders(folder, preprocess, _FOLDER_LAYOUTS)
    return images, [name.replace("_", " ") for name in images.classes]
