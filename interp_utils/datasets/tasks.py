"""Classification tasks: images with labels, and the names of their classes."""

import os
import re
from pathlib import Path
from typing import NamedTuple

import open_clip
import torch
import torchvision
from timm.data import ImageNetInfo
from torchvision.datasets.folder import IMG_EXTENSIONS

from .. import sandbox
from ..checks import checked_count
from .common import ROOT, Files, sandbox_templates, spread

_SANDBOX = {"sandbox": {}, "sandbox-train": {"seed": 1}}
_SANDBOX |= {f"sandbox-{style}": {"unseen_style": style} for style in sandbox.UNSEEN_STYLES}
_TASKS = (*_SANDBOX, "imagenette", "imagenette-train", "imagenet", "imagenet-train", "imagenet-r")
_FOLDER_LAYOUTS = """An image folder looks like one of
  folder/tree_frog/1.jpg      one subfolder for each class, its name the class name, with _ for a space
  folder/paper_towel/2.png    or its WordNet id, such as n01644373
or
  folder/1.jpg                images alone, without labels
  folder/2.png"""
_SPLITS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}
_IMAGENETTE_LAYOUT = "It unpacks to imagenette2-320/train/n01440764/n01440764_10026.JPEG ... and imagenette2-320/val/..."
_IMAGENET_LAYOUT = """ImageNet has a folder for each class, named by its WordNet id, also for its validation images:
  imagenet/val/n01440764/ILSVRC2012_val_00000293.JPEG ...
It comes about from ILSVRC2012_img_{split}.tar and ILSVRC2012_devkit_t12.tar.gz, if you put both into imagenet/"""
_IMAGENET_R_LAYOUT = """The archive https://people.eecs.berkeley.edu/~hendrycks/imagenet-r.tar unpacks to
  imagenet-r/n01443537/art_0.jpg ...     200 class folders, each named by a WordNet id"""


class Task(NamedTuple):
    """Images with labels, and what is needed to classify them from text."""

    images: torch.utils.data.Dataset  # items (pixels [3, H, W], label)
    classes: list[str]
    templates: list  # for clip.encode_text(classes, templates)


def load_task(name: str | Path, preprocess, n: int | None = None, root: str | Path = ROOT) -> Task:
    """A classification task by name, or from the path of an image folder.

    "sandbox" (objects), "imagenette" (downloaded once) and "imagenet" (validation set); "sandbox-train", "imagenette-train" and
    "imagenet-train" are other images of the same kind, to fit on. Out of distribution: "sandbox-sketch" and "sandbox-negative",
    styles that training never saw, and "imagenet-r" (Hendrycks et al. 2021), classified among all 1000 classes of ImageNet as in
    the thesis's code (figure B.3). A folder holds one subfolder for each class, or images alone: then there are no classes and all
    labels are -1. Folders named by WordNet ids get ImageNet's class names.
    preprocess: PIL image -> tensor, given what `images.read_image` makes of a file (None, for the sandbox alone, means as its own
    CLIP wants it); n: take so many images, evenly spread over the set; root: where the named sets lie.
    Raises ValueError for an unknown name, n below 1, or folders that are no classes, FileNotFoundError where a set is not in its
    folder of root, or a folder has no images.
    """
    if n is not None:
        checked_count("n", n)
    if name in _SANDBOX:
        images = sandbox.factor_images("object", n or 2000, preprocess=preprocess, **_SANDBOX[name])
        return Task(images, list(sandbox.FACTORS["object"]), sandbox_templates("object"))
    root, templates = Path(root).expanduser(), list(open_clip.OPENAI_IMAGENET_TEMPLATES)
    split = "train" if str(name).endswith("-train") else "val"
    if name in ("imagenette", "imagenette-train"):
        if not (root / "imagenette" / "imagenette2-320").exists():
            torchvision.datasets.Imagenette(root / "imagenette", split=split, size="320px", download=True)
        found = _class_folders(root / "imagenette" / "imagenette2-320" / split, _IMAGENETTE_LAYOUT)
        return Task(spread(_numbered(found, preprocess), n), [_class_name(each) for each in found], templates)
    if name in ("imagenet", "imagenet-train"):
        folder = root / "imagenet"
        if not (folder / split).is_dir():
            if not (folder / f"ILSVRC2012_img_{split}.tar").exists():
                raise FileNotFoundError(f"no ImageNet at {folder}; INTERP_DATA says where. {_IMAGENET_LAYOUT.format(split=split)}")
            torchvision.datasets.ImageNet(folder, split=split)  # unpacks the archives
        images = _imagenet(folder / split, preprocess, _IMAGENET_LAYOUT.format(split=split))
        return Task(spread(images, n), list(open_clip.IMAGENET_CLASSNAMES), templates)
    if name == "imagenet-r":
        images = _imagenet(root / "imagenet-r", preprocess, _IMAGENET_R_LAYOUT)
        return Task(spread(images, n), list(open_clip.IMAGENET_CLASSNAMES), templates)
    folder = Path(name).expanduser()
    if not folder.exists() and isinstance(name, str) and name == folder.name:  # one word, so rather a name than a path
        raise ValueError(f"unknown image set {name!r}; choose one of {', '.join(_TASKS)}, or give the path of an image folder")
    images, classes = _folder_images(folder, preprocess)
    return Task(spread(images, n), classes, templates)


def _imagenet(folder: Path, preprocess, layout: str) -> Files:
    """Class folders named by their WordNet ids, with ImageNet's labels."""
    found, wordnet_ids = _class_folders(folder, layout), ImageNetInfo("imagenet-1k").label_names()
    for name in found:
        if name not in wordnet_ids:
            raise ValueError(f"{folder / name} is not named by a WordNet id of ImageNet. {layout}")
    return Files([(path, wordnet_ids.index(name)) for name, paths in found.items() for path in paths], preprocess)


def _class_name(folder: str) -> str:
    """What texts call the class of a folder: its name, or what ImageNet calls a WordNet id."""
    if re.fullmatch(r"n\d{8}", folder):
        wordnet_ids, every = ImageNetInfo("imagenet-1k").label_names(), ImageNetInfo("imagenet-22k")
        if folder in wordnet_ids:
            return open_clip.IMAGENET_CLASSNAMES[wordnet_ids.index(folder)]
        if folder in every.label_names():
            return every.label_name_to_description(folder).split(",")[0]
    return folder.replace("_", " ")


def _class_folders(folder: Path, layout: str) -> dict[str, list[str]]:
    """The images of each class subfolder, by its name. Raises FileNotFoundError without such, or for one without an image."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}. {layout}")
    classes = _visible_folders(folder)
    if not classes:
        raise FileNotFoundError(f"{folder}: there are no class folders. {layout}")
    real = {os.path.realpath(each) for each in (folder, *classes)}
    found = {each.name: _images_below(each, set(real)) for each in classes}
    empty = [name for name, paths in found.items() if not paths]
    if empty:
        raise FileNotFoundError(f"{folder}: no valid file for the classes {', '.join(empty)}. {layout}")
    return found


def _visible_folders(folder: Path) -> list[Path]:
    """Subfolders, but for hidden ones such as .ipynb_checkpoints."""
    return sorted(each for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))


def _images_below(folder: Path, seen: set[str]) -> list[str]:
    """Image files at any depth. Links are followed, but to no folder twice, nor to one in `seen`: they may lead back up."""
    images = []
    for root, folders, files in os.walk(folder, followlinks=True):
        visible = [name for name in sorted(folders) if not name.startswith(".")]
        folders.clear()
        for name in visible:
            real = os.path.realpath(os.path.join(root, name))
            if real not in seen:
                seen.add(real)
                folders.append(name)
        images += [(root, name) for name in files if _is_image(name)]
    return [os.path.join(*image) for image in sorted(images)]


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMG_EXTENSIONS) and not name.startswith(".")


def _numbered(found: dict[str, list[str]], preprocess) -> Files:
    return Files([(path, k) for k, paths in enumerate(found.values()) for path in paths], preprocess)


def _folder_images(folder: Path, preprocess) -> tuple[Files, list[str]]:
    """The images of a folder and their class names, none for a folder without class subfolders."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}. {_FOLDER_LAYOUTS}")
    loose = sorted(str(path) for path in folder.iterdir() if _is_image(path.name) and path.is_file())
    names = [each.name for each in _visible_folders(folder)]
    nested = any(_images_below(folder / name, {os.path.realpath(folder)}) for name in names)
    if loose and nested:
        raise ValueError(f"{folder} has images beside its class folders, the first {loose[0]}. {_FOLDER_LAYOUTS}")
    if loose:
        return Files([(path, -1) for path in loose], preprocess), []
    if not nested:
        raise FileNotFoundError(f"no images in {folder} (of type {', '.join(IMG_EXTENSIONS)}). {_FOLDER_LAYOUTS}")
    parts = [name for name in names if name.casefold() in _SPLITS]
    if len(parts) > 1 or parts == names:  # one alone may be a class: a train
        raise ValueError(
            f"{folder} has the subfolders {', '.join(names)}: {' and '.join(parts)} look like parts of a set, not like classes; "
            f"give one of them, such as {folder / parts[0]}. {_FOLDER_LAYOUTS}"
        )
    found = _class_folders(folder, _FOLDER_LAYOUTS)
    return _numbered(found, preprocess), [_class_name(name) for name in found]
