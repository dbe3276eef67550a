"""Images with the masks of their objects."""

import os
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import open_clip
import torch
import torchvision
from PIL import Image

from .. import sandbox
from ..images import read_image
from .common import ROOT, sandbox_templates, spread

_GTSEGS_LAYOUT = """The file is http://calvin-vision.net/bigstuff/proj-imagenet/data/gtsegs_ijcv.mat (plain http, which some
browsers block), MATLAB v7.3, that is HDF5, with object references in two columns of 4276:
  /value/img   each to uint8 [3, columns, rows]
  /value/gt    each to a cell that refers to uint8 [columns, rows], 1 on the object"""


class MaskTask(NamedTuple):
    """Images with the masks of their objects, and what is needed to predict the object's class from text."""

    images: torch.utils.data.Dataset  # items (RGB PIL image, bool array [H, W]) of the image's own size
    classes: list[str]
    templates: list  # for clip.encode_text(classes, templates)


def load_masks(name: str, n: int | None = None, root: str | Path = ROOT) -> MaskTask:
    """Images with object masks: "sandbox", "imagenet-segmentation" (root/gtsegs_ijcv.mat) or "pets" (downloaded once).

    ImageNet-Segmentation (Guillaumin et al. 2014; thesis, table 2.4) has 4276 images; its classes are ImageNet's 1000. Pets
    is a stand-in that downloads: Oxford-IIIT Pet, test split, 37 breeds. The foreground of its trimaps is pet (1) and
    border (3), for the border is mostly fur. n: take so many images, evenly spread over the set.
    Raises ValueError for an unknown name, n below 1 or a file of another layout, FileNotFoundError where the file is missing.
    """
    root = Path(root).expanduser()
    if name == "sandbox":
        images = _SandboxMasks(2000 if n is None else n)
        return MaskTask(images, list(sandbox.FACTORS["object"]), sandbox_templates("object"))
    if name == "imagenet-segmentation":
        images = _ImageNetSegmentation(root / "gtsegs_ijcv.mat")
        return MaskTask(spread(images, n), list(open_clip.IMAGENET_CLASSNAMES), list(open_clip.OPENAI_IMAGENET_TEMPLATES))
    if name == "pets":
        images = _Pets(root / "pets", split="test", target_types="segmentation", download=True)
        return MaskTask(spread(images, n), list(images.classes), ["a photo of a {}, a type of pet."])
    raise ValueError(f"unknown set of masks {name!r}; choose sandbox, imagenet-segmentation or pets")


class _SandboxMasks(torch.utils.data.Dataset):
    """Balanced evaluation images of the sandbox with the masks of their objects."""

    def __init__(self, n: int):
        self.specs = sandbox.segmentation_images(n).specs

    def __len__(self) -> int:
        return len(self.specs)

    def __getitem__(self, k: int) -> tuple[Image.Image, np.ndarray]:
        drawn = sandbox.render(self.specs[k])
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
        if mask.max() > 1:
            raise ValueError(f"{self.path}: mask {k} has values up to {mask.max()}, not 0 and 1. {_GTSEGS_LAYOUT}")
        return read_image(image.T, f"{k} of {self.path}"), mask.T != 0

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


class _Pets(torchvision.datasets.OxfordIIITPet):
    def __getitem__(self, k: int) -> tuple[Image.Image, np.ndarray]:
        return read_image(self._images[k]), np.asarray(Image.open(self._segs[k])) != 2  # pet (1) and border (3), background (2)
