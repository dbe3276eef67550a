"""Image sets by name, with class names and text templates: for classification, for spurious cues, and with object masks."""

import csv
import os
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import open_clip
import torch
import torchvision
from PIL import Image
from torchvision.datasets.folder import IMG_EXTENSIONS, ImageFolder, default_loader

from .sandbox import FACTORS, factor_images, prompts, render, segmentation_images, spurious_animals

ROOT = Path(os.environ.get("INTERP_DATA", "~/.cache/interp_utils")).expanduser()
_IMAGENETTE_IN_IMAGENET = (0, 217, 482, 491, 497, 566, 569, 571, 574, 701)
_FOLDER_LAYOUTS = """An image folder looks like one of
  folder/tree_frog/1.jpg      one subfolder for each class, its name the class name, with _ for a space
  folder/paper_towel/2.png
or
  folder/1.jpg                images alone, without labels
  folder/2.png"""
_WATERBIRDS = "waterbird_complete95_forest2water2"
_WATERBIRDS_LAYOUT = f"""The archive https://nlp.stanford.edu/data/dro/{_WATERBIRDS}.tar.gz unpacks to
  {_WATERBIRDS}/metadata.csv    columns img_id,img_filename,y,split,place,place_filename
  {_WATERBIRDS}/001.Black_footed_Albatross/Black_Footed_Albatross_0001_796111.jpg ..."""
_GTSEGS_LAYOUT = """The file is http://calvin-vision.net/bigstuff/proj-imagenet/data/gtsegs_ijcv.mat (plain http, which some
browsers block), MATLAB v7.3, that is HDF5, with object references in two columns of 4276:
  /value/img   each to uint8 [3, columns, rows]
  /value/gt    each to a cell that refers to uint8 [columns, rows], 1 on the object"""


class Task(NamedTuple):
    """Images with labels, and what is needed to classify them from text."""

    images: torch.utils.data.Dataset  # items (pixels [3, H, W], label)
    classes: list[str]
    templates: list  # for clip.encode_text(classes, templates)


class GroupTask(NamedTuple):
    """Images of two classes on two backgrounds, where the background is a spurious cue."""

    images: torch.utils.data.Dataset  # items (pixels [3, H, W], (label, group)), group = 2 * label + background
    classes: list[str]
    templates: list  # for clip.encode_text(classes, templates)
    groups: list[str]  # names of the four groups


class MaskTask(NamedTuple):
    """Images with the masks of their objects, and what is needed to predict the object's class from text."""

    images: torch.utils.data.Dataset  # items (RGB PIL image, bool array [H, W]) of the image's own size
    classes: list[str]
    templates: list  # for clip.encode_text(classes, templates)


def load_task(name: str | Path, preprocess, n: int | None = None, root: Path = ROOT) -> Task:
    """A classification task: "sandbox" (objects), "imagenette" (downloaded once), "imagenet" (validation set) or a folder's path.

    A folder holds one subfolder for each class, or images alone: then there are no classes and all labels are -1.
    preprocess: PIL image -> tensor; n: take so many images, evenly spread over the set; root: where the named sets lie.
    Raises ValueError for an unknown name, FileNotFoundError where ImageNet is not at root/imagenet or a folder has no images.
    """
    if name == "sandbox":
        return Task(factor_images("object", n or 2000), list(FACTORS["object"]), _sandbox_templates("object"))
    templates = list(open_clip.OPENAI_IMAGENET_TEMPLATES)
    if name == "imagenette":
        folder = root / "imagenette"
        here = (folder / "imagenette2-320").exists()
        images = torchvision.datasets.Imagenette(folder, split="val", size="320px", download=not here, transform=preprocess)
        return Task(_spread(images, n), [open_clip.IMAGENET_CLASSNAMES[k] for k in _IMAGENETTE_IN_IMAGENET], templates)
    if name == "imagenet":
        folder = root / "imagenet"
        if not folder.exists():
            raise FileNotFoundError(
                f"no ImageNet at {folder}: put ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz there, or set INTERP_DATA"
            )
        images = torchvision.datasets.ImageNet(folder, split="val", transform=preprocess)
        return Task(_spread(images, n), list(open_clip.IMAGENET_CLASSNAMES), templates)
    folder = Path(name).expanduser()
    if not folder.exists() and isinstance(name, str) and name == folder.name:  # one word, so rather a name than a path
        raise ValueError(f"unknown image set {name!r}; choose sandbox, imagenette or imagenet, or give the path of an image folder")
    images, classes = _folder_images(folder, preprocess)
    return Task(_spread(images, n), classes, templates)


def load_groups(name: str, preprocess, split: str = "test", n: int | None = None, root: Path = ROOT) -> GroupTask:
    """A task with a spurious background: "sandbox" (land and water animals) or "waterbirds" (see `waterbirds`).

    split: "train", where most animals are at home, or "test"; Waterbirds also has "val".
    Raises ValueError for an unknown name or split, and what `waterbirds` raises.
    """
    if name == "waterbirds":
        return waterbirds(root, preprocess, split, n)
    if name != "sandbox":
        raise ValueError(f"unknown image set {name!r}; choose sandbox or waterbirds")
    classes = ["land animal", "water animal"]
    return GroupTask(spurious_animals(split, n or 2000), classes, _sandbox_templates("category"), _group_names(classes))


def waterbirds(root: Path, preprocess, split: str = "test", n: int | None = None) -> GroupTask:
    """Waterbirds: land and water birds cut out and put on land and water (Sagawa et al. 2020; thesis, table 2.3).

    root: the folder that holds waterbird_complete95_forest2water2; split: "train", "val" or "test" (5794 images).
    Raises FileNotFoundError where the archive or some of its images are missing, ValueError for another split or table.
    """
    splits = ("train", "val", "test")
    if split not in splits:
        raise ValueError(f"split must be one of {', '.join(splits)}, got {split!r}")
    folder = Path(root) / _WATERBIRDS
    if not (folder / "metadata.csv").exists():
        raise FileNotFoundError(f"no metadata.csv in {folder}. {_WATERBIRDS_LAYOUT}")
    with open(folder / "metadata.csv", newline="") as file:
        table = csv.DictReader(file)
        missing = {"img_filename", "y", "split", "place"} - set(table.fieldnames or ())
        if missing:
            raise ValueError(f"{folder}/metadata.csv has no column {', '.join(sorted(missing))}. {_WATERBIRDS_LAYOUT}")
        rows = [row for row in table if row["split"] == str(splits.index(split))]
    if not rows or any(row["y"] not in ("0", "1") or row["place"] not in ("0", "1") for row in rows):
        raise ValueError(f"{folder}/metadata.csv has no {split} images, or y or place other than 0 and 1. {_WATERBIRDS_LAYOUT}")
    files = [(folder / row["img_filename"], (int(row["y"]), 2 * int(row["y"]) + int(row["place"]))) for row in rows]
    lost = [path for path, _ in files if not path.exists()]
    if lost:
        raise FileNotFoundError(f"{len(lost)} of {len(files)} images are missing, the first {lost[0]}. {_WATERBIRDS_LAYOUT}")
    classes = ["landbird", "waterbird"]
    images = _spread(_Files(files, preprocess), n)
    return GroupTask(images, classes, list(open_clip.OPENAI_IMAGENET_TEMPLATES), _group_names(classes))


def load_masks(name: str, n: int | None = None, root: Path = ROOT) -> MaskTask:
    """Images with object masks: "sandbox", "imagenet-segmentation" (root/gtsegs_ijcv.mat) or "pets" (downloaded once).

    ImageNet-Segmentation (Guillaumin et al. 2014; thesis, table 2.4) has 4276 images; its classes are ImageNet's 1000. Pets
    is a stand-in that downloads: Oxford-IIIT Pet, test split, 37 breeds. The foreground of its trimaps is pet (1) and
    border (3), for the border is mostly fur. n: take so many images, evenly spread over the set.
    Raises ValueError for an unknown name or a file of another layout, FileNotFoundError where the file is missing.
    """
    if name == "sandbox":
        return MaskTask(_SandboxMasks(n or 2000), list(FACTORS["object"]), _sandbox_templates("object"))
    if name == "imagenet-segmentation":
        images = _ImageNetSegmentation(Path(root) / "gtsegs_ijcv.mat")
        return MaskTask(_spread(images, n), list(open_clip.IMAGENET_CLASSNAMES), list(open_clip.OPENAI_IMAGENET_TEMPLATES))
    if name == "pets":
        images = torchvision.datasets.OxfordIIITPet(
            Path(root) / "pets", split="test", target_types="segmentation", target_transform=_trimap_to_mask, download=True
        )
        return MaskTask(_spread(images, n), list(images.classes), ["a photo of a {}, a type of pet."])
    raise ValueError(f"unknown set of masks {name!r}; choose sandbox, imagenet-segmentation or pets")


def _spread(images, n: int | None):
    if n is None or n >= len(images):
        return images
    if n < 1:
        raise ValueError(f"need at least one image, got n={n}")
    return torch.utils.data.Subset(images, torch.linspace(0, len(images) - 1, n).long().tolist())


def _sandbox_templates(factor: str) -> list:
    """A template for each form of prompt that the sandbox has for a factor."""
    return [lambda value, k=k: prompts(factor, value)[k] for k in range(len(prompts(factor, FACTORS["object"][0])))]


def _group_names(classes: list[str]) -> list[str]:
    return [f"{name} on {place}" for name in classes for place in ("land", "water")]


class _Files(torch.utils.data.Dataset):
    """Image files, read as RGB: item k is (preprocessed pixels, target)."""

    def __init__(self, files: list[tuple[Path, object]], preprocess):
        self.files, self.preprocess = files, preprocess

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, k: int):
        path, target = self.files[k]
        return self.preprocess(default_loader(path)), target


class _ClassFolders(ImageFolder):
    """ImageFolder that does not take hidden folders, such as .ipynb_checkpoints, for classes."""

    def find_classes(self, directory):
        names = sorted(entry.name for entry in os.scandir(directory) if entry.is_dir() and not entry.name.startswith("."))
        return names, {name: k for k, name in enumerate(names)}


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
        return _Files([(path, -1) for path in loose], preprocess), []
    if not nested:
        raise FileNotFoundError(f"no images in {folder} (of type {', '.join(IMG_EXTENSIONS)}). {_FOLDER_LAYOUTS}")
    try:
        images = _ClassFolders(str(folder), transform=preprocess, is_valid_file=_is_image)
    except FileNotFoundError as error:  # a class without an image
        raise FileNotFoundError(f"{folder}: {error} {_FOLDER_LAYOUTS}") from error
    return images, [name.replace("_", " ") for name in images.classes]


class _SandboxMasks(torch.utils.data.Dataset):
    """Balanced evaluation images of the sandbox with the masks of their objects."""

    def __init__(self, n: int):
        self.specs = segmentation_images(n).specs

    def __len__(self) -> int:
        return len(self.specs)

    def __getitem__(self, k: int) -> tuple[Image.Image, np.ndarray]:
        drawn = render(self.specs[k])
        return drawn.image, drawn.mask


class _ImageNetSegmentation(torch.utils.data.Dataset):
    """The images of gtsegs_ijcv.mat with their masks. Each process opens the file for itself: HDF5 handles must not be shared."""

    def __init__(self, path: Path):
        self.path, self._file, self._opened_by = path, None, None
        if not path.exists():
            raise FileNotFoundError(f"no file {path}. {_GTSEGS_LAYOUT}")
        if not h5py.is_hdf5(path):
            raise ValueError(f"{path} is not HDF5. {_GTSEGS_LAYOUT}")
        with h5py.File(path) as file:
            columns = [file.get(f"value/{key}") for key in ("img", "gt")]
            if not all(isinstance(c, h5py.Dataset) and h5py.check_ref_dtype(c.dtype) is h5py.Reference for c in columns):
                raise ValueError(f"{path} has no object references at /value/img and /value/gt. {_GTSEGS_LAYOUT}")
            sizes = [column.size for column in columns]
        if sizes[0] != sizes[1] or sizes[0] == 0:
            raise ValueError(f"{path} has {sizes[0]} images and {sizes[1]} masks. {_GTSEGS_LAYOUT}")
        self.size = sizes[0]

    def __len__(self) -> int:
        return self.size

    def __getstate__(self) -> dict:
        return {"path": self.path, "size": self.size, "_file": None, "_opened_by": None}

    def __getitem__(self, k: int) -> tuple[Image.Image, np.ndarray]:
        image, mask = self._array("img", k), self._array("gt", k)
        if mask.ndim != 2 or image.shape[-2:] != mask.shape:  # MATLAB's axes are reversed in HDF5
            raise ValueError(f"{self.path}: image {k} is {image.shape} but its mask {mask.shape}. {_GTSEGS_LAYOUT}")
        return Image.fromarray(image.T.astype(np.uint8)).convert("RGB"), mask.T != 0

    def _array(self, key: str, k: int) -> np.ndarray:
        if self._opened_by != os.getpid():
            if self._file is not None:  # came with a fork: reopening it would share the parent's position in the file
                self._file.close()
            self._file, self._opened_by = h5py.File(self.path), os.getpid()
            self._columns = {name: self._file[f"value/{name}"][()].ravel() for name in ("img", "gt")}
        array = self._file[self._columns[key][k]][()]
        while array.dtype == object:  # a cell array: go on to its first entry
            array = self._file[array.flat[0]][()]
        return array


def _trimap_to_mask(trimap: Image.Image) -> np.ndarray:
    """Pet (1) and border (3) against background (2)."""
    return np.asarray(trimap) != 2
