"""Whether what came over the network is what was published: python -m interp_utils.verify [preset] [--write]

Loads the real weights (and downloads them the first time), compares their files with pinned hashes, their logits and zero-shot
accuracies with published numbers, and their parts with their outputs. The table that it ends in can be pasted into a bug report.
--write pins the hashes of files that have none yet. The exit code is 1 where something differs, else 0; what could not be
checked, for want of a network or of images, is said and differs from nothing.
"""

import argparse
import hashlib
import importlib.metadata
import platform
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import open_clip
import torch
from open_clip.transformer import QuickGELU
from torch.nn.functional import normalize
from torch.utils.data import Dataset

from . import datasets
from .downloads import Download, needs
from .heads.direct import direct_effects
from .images import read_image
from .models import DATA, Clip, load_clip
from .presets import PRESETS, Preset
from .rosetta.generators.registry import BIG_GAN_SHA256
from .rosetta.matching.zoo import load_unit_model
from .stream import collect

PINS = DATA / "sha256.txt"  # as sha256sum writes them; a model's name takes the place of a path
RESULTS = "https://github.com/mlfoundations/open_clip/blob/f862f86cd92123615a8695ce8bcb6ecc066af452/docs/openclip_results.csv"
ZERO_SHOT = {  # of OpenCLIP's table of results: ImageNet's validation set; Oxford-IIIT Pet's test set
    "ViT-B-32-quickgelu/openai": {"imagenet": 0.6332, "pets": 0.8700},
    "ViT-B-16/laion2b_s34b_b88k": {"imagenet": 0.7023, "pets": 0.9048},
    "ViT-L-14/laion2b_s32b_b82k": {"imagenet": 0.7525, "pets": 0.9309},
    "ViT-H-14/laion2b_s32b_b79k": {"imagenet": 0.7796, "pets": 0.9438},
}
SLACK = 0.01  # beside what the choice of images explains: other names of classes, another decoder of JPEG
CATS = "http://images.cocodataset.org/val2017/000000039769.jpg"
CATS_TEXTS = ["a photo of a cat", "a photo of a dog"]
CATS_LOGITS = {"ViT-B-32-quickgelu/openai": (24.5701, 19.3049)}
CATS_SOURCE = "huggingface/transformers, tests/models/clip/test_modeling_clip.py, CLIPModelIntegrationTest.test_inference"
SAME, DIFFERS, UNCHECKED = "same", "DIFFERS", "not checked"


class Row(NamedTuple):
    """One comparison: its outcome is `SAME`, `DIFFERS` or `UNCHECKED`, then `found` says why."""

    what: str
    expected: str
    found: str
    outcome: str
    source: str = ""


def tolerance(accuracy: float, n: int) -> float:
    """How far an accuracy over n images may lie from a published one: three standard errors, and `SLACK`."""
    return 3 * (accuracy * (1 - accuracy) / n) ** 0.5 + SLACK


def read_pins(path: Path = PINS) -> dict[str, str]:
    """Pinned hashes by name. Raises ValueError for a line that is not a SHA-256, two spaces and a name."""
    pins = {"biggan_deep256": BIG_GAN_SHA256}
    for line in path.read_text().splitlines() if path.exists() else ():
        sha256, _, name = line.partition("  ")
        if len(sha256) != 64 or not name:
            raise ValueError(f"{path} has the line {line!r:.90}; need a SHA-256, two spaces and the name of a model")
        pins[name] = sha256
    return pins


def hashes(downloads: list[Download], pins: dict[str, str]) -> Iterator[tuple[str, str, Row]]:
    """Of each model's file: its name, its SHA-256, and how it compares with its pin."""
    for each in downloads:
        path = each.path()
        if path is None or each.kind == "images":
            continue
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        pin, revision = pins.get(each.name), f" at {path.parent.name[:12]}" if each.source.startswith("hf-hub:") else ""
        outcome = UNCHECKED if pin is None else SAME if pin == found else DIFFERS
        shown = found if outcome == DIFFERS else found[:16]
        yield each.name, found, Row(f"SHA-256 of {each.name}", pin or "no pin yet: --write", shown, outcome, each.source + revision)


def parts(clip: Clip, pixels: torch.Tensor) -> Row:
    """Whether the parts of the model add up to its output."""
    what, expected = f"{clip.name}: parts less output", "below 1e-4"
    with torch.no_grad():
        whole = clip.encode_image(pixels)
        try:
            error = ((direct_effects(clip, pixels).total() - whole).norm() / whole.norm()).item()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # it looks for itself
            return Row(what, expected, str(error), DIFFERS)
    return Row(what, expected, f"{error:.1e}", SAME if error < 1e-4 else DIFFERS)


def activation(clip: Clip, quick: bool) -> Row:
    """Whether the MLPs compute the activation that the weights were trained with."""
    plain = clip.tower.blocks[0].first  # None where the MLPs have a gate, as no weights of QuickGELU do
    built = plain is not None and isinstance(plain[2], QuickGELU)
    names = {True: "QuickGELU", False: "GELU"}
    return Row(f"{clip.name}: activation", names[quick], names[built], SAME if built == quick else DIFFERS, "open_clip.pretrained")


def logits(clip: Clip, image: Path) -> Row:
    """The logits of two texts for one photograph that many have published."""
    expected = torch.tensor(CATS_LOGITS[clip.name])
    with torch.no_grad():
        picture = normalize(clip.encode_image(clip.preprocess(read_image(image))[None]), dim=-1)
        found = (clip.model.logit_scale.exp() * picture @ clip.encode_text(CATS_TEXTS).T)[0].cpu()
    near = (found - expected).abs().max().item() < 0.1  # JPEG and resizing differ a little between libraries
    shown = [", ".join(f"{value:.2f}" for value in each.tolist()) for each in (expected, found)]
    return Row(f"{clip.name}: logits of {CATS_TEXTS}", *shown, SAME if near else DIFFERS, CATS_SOURCE)


class _Breeds(Dataset):
    """Oxford-IIIT Pet's test images with their breeds, for which `datasets.load_masks` has the masks."""

    def __init__(self, pets, preprocess):
        self.pets, self.preprocess = pets, preprocess

    def __len__(self) -> int:
        return len(self.pets._images)

    def __getitem__(self, k: int):
        return self.preprocess(read_image(self.pets._images[k])), self.pets._labels[k]


def zero_shot(clip: Clip, name: str, n: int | None) -> Row:
    """Zero-shot accuracy on "imagenet" or "pets": of the latter the mean over breeds, as the published table has it."""
    if name == "pets":
        task = datasets.load_masks("pets")
        images = datasets.common.spread(_Breeds(task.images, clip.preprocess), n)
    else:
        task = datasets.load_task(name, clip.preprocess, n)
        images = task.images
    classifier = clip.encode_text(task.classes, task.templates)
    started = time.monotonic()

    def answers(batch):
        return (clip.encode_image(batch.pixels).float() @ classifier.T).argmax(1), batch.targets

    guesses, labels = collect(clip, images, answers, batch_size=32)
    right = (guesses == labels).double()
    speed = f"{len(right) / (time.monotonic() - started):.0f} images a second"
    found = right.mean().item()
    if name == "pets":
        found = torch.stack([right[labels == each].mean() for each in labels.unique()]).mean().item()
    expected = ZERO_SHOT[clip.name][name]
    room = tolerance(expected, len(right))
    what = f"{clip.name}: zero-shot accuracy, {name}, {len(right)} images"
    outcome = SAME if abs(found - expected) <= room else DIFFERS
    return Row(what, f"{expected:.4f} ± {room:.4f}", f"{found:.4f} ({speed})", outcome, RESULTS)


def attempt(what: str, check: Callable[[], Row]) -> Row:
    """What a check found, or why it could not be made: a network, a file or memory that is missing. Other errors differ."""
    try:
        return check()
    except (OSError, MemoryError, torch.OutOfMemoryError) as error:
        outcome, reason = UNCHECKED, error
    except (RuntimeError, ValueError) as error:  # weights of another shape, images of another layout
        outcome, reason = UNCHECKED if isinstance(error.__cause__ or error.__context__, OSError) else DIFFERS, error
    return Row(what, "", " ".join(f"{type(reason).__name__}: {reason}".split())[:160], outcome)


def photograph() -> Path:
    """The file of `CATS`, downloaded once. Raises OSError without a network."""
    path = datasets.ROOT / CATS.rsplit("/", 1)[-1]
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(CATS, str(path), progress=False)
    return path


def verify(preset: Preset, n: int | None) -> Iterator[Row]:
    """All comparisons of a preset but those of hashes."""
    for name in dict.fromkeys((*preset.clips, preset.neurons_clip)):
        loaded: list[Clip] = []
        row = attempt(f"{name}: loads", lambda name=name, loaded=loaded: _loads(name, loaded))
        yield row
        if not loaded:
            continue
        (clip,) = loaded
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(2, 3, *clip.image_size, generator=generator)
        yield attempt(f"{name}: parts less output", lambda clip=clip, noise=noise: parts(clip, noise))
        if name in ZERO_SHOT:
            yield activation(
                clip, bool(open_clip.get_pretrained_cfg(*name.split("/")).get("quick_gelu", name.endswith("quickgelu")))
            )
        if name in CATS_LOGITS:
            yield attempt(f"{name}: logits", lambda clip=clip: logits(clip, photograph()))
        for images in [each for each in (preset.images, preset.masks) if each in ZERO_SHOT.get(name, ())]:
            yield attempt(f"{name}: zero-shot accuracy, {images}", lambda clip=clip, images=images: zero_shot(clip, images, n))
    for each in needs(preset):
        if each.kind == "units":
            yield attempt(
                f"{each.name}: loads", lambda name=each.name: Row(f"{name}: loads", "", repr(load_unit_model(name))[:60], SAME)
            )


def _loads(name: str, loaded: list[Clip]) -> Row:
    loaded.append(load_clip(name))
    return Row(f"{name}: loads", "", f"on {loaded[0].device}", SAME)


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"  # ours, where it runs from its folder


def table(rows: list[Row]) -> str:
    """The rows in Markdown, below the versions that they were found with."""
    packages = ("interp-utils", "torch", "open_clip_torch", "timm", "huggingface_hub")
    versions = ", ".join(f"{name} {_version(name)}" for name in packages)
    lines = [f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {versions}", ""]
    lines += ["| what | expected | found | outcome | source |", "|---|---|---|---|---|"]
    return "\n".join(lines + ["| " + " | ".join(each.replace("|", "/") for each in row) + " |" for row in rows])


def main(arguments: list[str] | None = None, pins: Path = PINS) -> int:
    parser = argparse.ArgumentParser(prog="python -m interp_utils.verify", description=__doc__.splitlines()[0])
    parser.add_argument("preset", nargs="?", default="laptop", choices=PRESETS)
    parser.add_argument("--images", type=int, default=2000, help="of a set, for zero-shot accuracies; 0 means all")
    parser.add_argument("--write", action="store_true", help="pin the hashes of files that have none yet")
    asked = parser.parse_args(arguments)
    preset, rows, known = PRESETS[asked.preset], [], read_pins(pins)
    for row in verify(preset, asked.images or None):
        print(f"{row.outcome}: {row.what}", file=sys.stderr, flush=True)
        rows.append(row)
    found = list(hashes(list(needs(preset)), known))
    rows += [row for _, _, row in found]
    print(table(rows))
    fresh = {name: sha256 for name, sha256, _ in found if name not in known}
    if asked.write and fresh:
        with pins.open("a") as file:
            file.writelines(f"{sha256}  {name}\n" for name, sha256 in fresh.items())
        print(f"\npinned in {pins}: {', '.join(fresh)}")
    count = {outcome: sum(row.outcome == outcome for row in rows) for outcome in (SAME, DIFFERS, UNCHECKED)}
    print("\n" + ", ".join(f"{value} {outcome}" for outcome, value in count.items()))
    return int(count[DIFFERS] > 0)


if __name__ == "__main__":
    sys.exit(main())
