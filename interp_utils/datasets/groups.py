"""Tasks with a spurious background, where accuracy counts by group."""

import csv
from pathlib import Path
from typing import NamedTuple

import open_clip
import torch

from ..sandbox import spurious_animals
from .common import ROOT, Files, sandbox_templates, spread

_WATERBIRDS = "waterbird_complete95_forest2water2"
_WATERBIRDS_LAYOUT = f"""The archive https://nlp.stanford.edu/data/dro/{_WATERBIRDS}.tar.gz unpacks to
  {_WATERBIRDS}/metadata.csv    columns img_id,img_filename,y,split,place,place_filename
  {_WATERBIRDS}/001.Black_footed_Albatross/Black_Footed_Albatross_0001_796111.jpg ..."""


class GroupTask(NamedTuple):
    """Images of two classes on two backgrounds, where the background is a spurious cue."""

    images: torch.utils.data.Dataset  # items (pixels [3, H, W], (label, group)), group = 2 * label + background
    classes: list[str]
    templates: list  # for clip.encode_text(classes, templates)
    groups: list[str]  # names of the four groups


def load_groups(name: str, preprocess, split: str = "test", n: int | None = None, root: str | Path = ROOT) -> GroupTask:
    """A task with a spurious background: "sandbox" (land and water animals) or "waterbirds" (see `waterbirds`).

    split: "train", where most animals are at home, or "test"; Waterbirds also has "val". preprocess, n: see `load_task`.
    Raises ValueError for an unknown name or split, and what `waterbirds` raises.
    """
    if name == "waterbirds":
        return waterbirds(root, preprocess, split, n)
    if name != "sandbox":
        raise ValueError(f"unknown image set {name!r}; choose sandbox or waterbirds")
    classes = ["land animal", "water animal"]
    images = spurious_animals(split, 2000 if n is None else n, preprocess=preprocess)
    return GroupTask(images, classes, sandbox_templates("category"), _group_names(classes))


def waterbirds(root: str | Path, preprocess, split: str = "test", n: int | None = None) -> GroupTask:
    """Waterbirds: land and water birds cut out and put on land and water (Sagawa et al. 2020; thesis, table 2.3).

    root: the folder that holds waterbird_complete95_forest2water2; split: "train", "val" or "test" (5794 images).
    Raises FileNotFoundError where the archive or some of its images are missing, ValueError for another split or table.
    """
    splits = ("train", "val", "test")
    if split not in splits:
        raise ValueError(f"split must be one of {', '.join(splits)}, got {split!r}")
    folder = Path(root).expanduser() / _WATERBIRDS
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
    images = spread(Files(files, preprocess), n)
    return GroupTask(images, classes, list(open_clip.OPENAI_IMAGENET_TEMPLATES), _group_names(classes))


def _group_names(classes: list[str]) -> list[str]:
    return [f"{name} on {place}" for name in classes for place in ("land", "water")]
