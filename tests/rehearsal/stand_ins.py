"""What the presets download, made up: random weights and images in the real formats, where the libraries look for them.

python tests/rehearsal/stand_ins.py SIZE FOLDER IMAGES PRESET ...    (called by rehearse.py, which sets the caches)
"""

import logging
import sys
from pathlib import Path

import generator_files
import numpy as np
import open_clip
import sizes
import timm
import torch
import torchvision
from huggingface_hub.constants import HF_HUB_CACHE
from PIL import Image
from safetensors.torch import save_file
from small_sets import WATERBIRDS, write_gtsegs
from timm.data import ImageNetInfo

from interp_utils import downloads
from interp_utils.presets import PRESETS, Preset
from interp_utils.rosetta.generators import StyleGAN2, registry

REVISION = "0123456789abcdef0123456789abcdef01234567"
IMAGENETTE = "n01440764 n02102040 n02979186 n03000684 n03028079 n03394916 n03417042 n03425413 n03445777 n03888257".split()
BREEDS = ["Abyssinian", "american_bulldog", "Bengal", "boxer", "Ragdoll", "yorkshire_terrier"]


def write(preset: Preset, n: int) -> None:
    """All that a preset downloads, with n images a set. The caches must be those of the rehearsal already, see `rehearse`."""
    torch.manual_seed(0)
    for download in downloads.needs(preset):
        if download.path() is None:
            {"clip": _clip, "units": _units, "judge": _judge, "images": write_images}[download.kind](download, n)
            if download.path() is None:
                raise RuntimeError(f"the stand-in of {download.name} is not where {download.source} is kept")


def _clip(download: downloads.Download, n: int) -> None:
    _save(open_clip.create_model(download.name.split("/")[0]), download)


def _judge(download: downloads.Download, n: int) -> None:
    _save(torchvision.models.alexnet(), download)


def _units(download: downloads.Download, n: int) -> None:
    if download.name == "clip_rn50":
        model = open_clip.create_model("RN50-quickgelu")
    elif download.name == "dino_resnet50":  # a backbone: its names are those of torchvision, without the classifier
        model = timm.create_model("resnet50", num_classes=0)
    elif download.name in registry.GENERATORS:
        model = registry.GENERATORS[download.name](False)[0]
    else:
        model = timm.create_model(download.source.removeprefix("hf-hub:timm/"))
    _save(model, download)


def _save(model: torch.nn.Module, download: downloads.Download) -> None:
    """As its library saves it: in the Hub's cache a blob, a snapshot that links to it, and a reference to that."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:  # no bias is zero, no scale one, as after training
                parameter.add_(0.1 * torch.randn(parameter.shape))
    if not download.source.startswith("hf-hub:"):
        path = Path(download.places[0])
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(model, path)
        return
    repo = Path(HF_HUB_CACHE) / f"models--{download.source.removeprefix('hf-hub:').replace('/', '--')}"
    revision = download.revision or REVISION
    blob, link = repo / "blobs" / download.name.replace("/", "-"), repo / "snapshots" / revision / download.places[0]
    for path in (blob, link):
        path.parent.mkdir(parents=True, exist_ok=True)
    _write(model, link)
    link.rename(blob)
    link.symlink_to(blob)
    if download.revision is None:  # else nobody asks where a branch stands
        (repo / "refs").mkdir(exist_ok=True)
        (repo / "refs" / "main").write_text(REVISION)


def _write(model: torch.nn.Module, path: Path) -> None:
    state = {name: tensor.contiguous().clone() for name, tensor in model.state_dict().items()}
    if path.suffix == ".safetensors":
        save_file(state, path)
    elif path.suffix == ".pkl":
        with generator_files.nvidia() as names:
            path.write_bytes(generator_files.persistent_dump({"G": None, "D": None, "G_ema": model}, names, 4))
    else:
        torch.save(generator_files.rosinality(model) if isinstance(model, StyleGAN2) else state, path)


def picture(k: int, size: tuple[int, int] | None = None) -> Image.Image:
    """Soft spots of colour, an image of its own for every k, and a colour that every tenth shares; every seventh is grey."""
    rng = np.random.default_rng(k)
    width, height = size or (320, 240 + 8 * (k % 5))
    spots = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    spots = Image.blend(spots, Image.new("RGB", spots.size, f"hsv({36 * (k % 10)}, 100%, 80%)"), 0.5)
    return spots.convert("L") if k % 7 == 6 else spots


def _save_picture(path: Path, k: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(k).save(path)


def write_images(download: downloads.Download, n: int) -> None:
    places = [Path(place) for place in download.places]
    wordnet_ids = ImageNetInfo("imagenet-1k").label_names()
    if download.name == "imagenette":
        for part, folder in enumerate(places):
            for k in range(n):
                _save_picture(folder / IMAGENETTE[k % 10] / f"{IMAGENETTE[k % 10]}_{k}.JPEG", n * part + k)
    elif download.name.startswith("imagenet") and download.name != "imagenet-segmentation":
        for k in range(n):  # of the first ten classes, so that there are several of each
            _save_picture(places[0] / wordnet_ids[k % 10] / f"image_{k}.JPEG", k)
    elif download.name == "pets":
        _pets(places[0].parent, n)
    elif download.name == "waterbirds":
        _waterbirds(places[0].parent, n)
    else:
        images, masks = zip(*(_with_mask(k) for k in range(n)))
        places[0].parent.mkdir(parents=True, exist_ok=True)
        write_gtsegs(places[0], [np.asarray(image) for image in images], masks)


def _with_mask(k: int) -> tuple[Image.Image, np.ndarray]:
    """A picture and the mask [rows, columns] of an ellipse in it, 1 on the object."""
    image = picture(k)
    y, x = np.mgrid[-1 : 1 : image.height * 1j, -1 : 1 : image.width * 1j]
    return image, ((x - 0.3) ** 2 + (y + 0.02 * (k % 9)) ** 2 < 0.3).astype(np.uint8)


def _pets(base: Path, n: int) -> None:
    lines = []
    (base / "annotations" / "trimaps").mkdir(parents=True)
    for k in range(n):
        breed, (image, mask) = k % len(BREEDS), _with_mask(k)
        name = f"{BREEDS[breed]}_{k}"
        (base / "images").mkdir(exist_ok=True)
        image.save(base / "images" / f"{name}.jpg")
        Image.fromarray(2 - mask).save(base / "annotations" / "trimaps" / f"{name}.png")  # 1 pet, 2 background
        lines.append(f"{name} {breed + 1} {1 + BREEDS[breed][0].islower()} 1\n")
    (base / "annotations" / "test.txt").write_text("".join(lines))


def _waterbirds(base: Path, n: int) -> None:
    assert base.name == WATERBIRDS
    lines = ["img_id,img_filename,y,split,place,place_filename"]
    for k in range(3 * n):  # split, class and place run through all combinations
        name = f"{k % 200:03d}.Bird/Bird_{k}.jpg"
        _save_picture(base / name, k)
        lines.append(f"{k},{name},{k // 3 % 2},{k % 3},{k // 6 % 2},/o/ocean/{k}.jpg")
    (base / "metadata.csv").write_text("\n".join(lines) + "\n")


def main(size: str, folder: Path, n: int, names: list[str]) -> None:
    logging.disable(logging.WARNING)  # that weights are random
    presets = [PRESETS[name] for name in names]
    clips = {clip.split("/")[0] for preset in presets for clip in (*preset.clips, preset.neurons_clip)}
    sizes.write_configs(size, folder, {*clips, "RN50-quickgelu"})
    sizes.use(size, folder)
    for preset in presets:
        write(preset, n)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
