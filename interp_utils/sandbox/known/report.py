"""How well the known generator draws what its latents stand for, measured.

python -m interp_utils.sandbox.known.report    the numbers and the sheet of the data card
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.utils import save_image

from ... import rosetta
from ...models import DATA, load_clip
from ...stream import collect
from .. import world
from ..clip import MEAN, STD
from ..tasks import zero_shot_classifier
from .latents import KINDS, factors, picture, sample
from .reader import load_reader
from .train import quality
from .units import NAME


@torch.no_grad()
def named(clip, images: Tensor, kinds: Tensor, among: tuple[str, ...] = world.OBJECTS) -> Tensor:
    """Whether CLIP names the objects of images [B, 3, 64, 64] in 0..1 as their `KINDS` [B], `among` names of objects: bool [B]."""
    return told(clip, images, among) == torch.tensor([among.index(kind) for kind in KINDS])[kinds]


@torch.no_grad()
def told(clip, images: Tensor, among: tuple[str, ...] = KINDS) -> Tensor:
    """Which of some kinds of object CLIP says that images [B, 3, 64, 64] in 0..1 show: index [B] into `among`."""
    mean, std = (torch.tensor(values, device=clip.device)[:, None, None] for values in (MEAN, STD))
    classifier = zero_shot_classifier(clip, "object", among)

    def scores(batch) -> Tensor:
        return clip.encode_image((batch.pixels.to(clip.device).clamp(0, 1) - mean) / std) @ classifier.T

    return collect(clip, images, scores).argmax(1)


@torch.no_grad()
def report(
    n: int = 1000, seed: int = 9, clips: tuple[str, ...] = ("sandbox", "sandbox-1", "sandbox-2")
) -> dict[str, dict[str, float]]:
    """Shares and correlations for exact pictures and drawn ones: {"exact": {...}, "drawn": {...}}.

    "named by" a CLIP among all 144 kinds, "told by" it among the ten drawn: of images with one or two whole objects, or with one;
    for each kind, by the first CLIP, with one. "x", "y":
    correlation of where one object is and where it should be; "scene", "colour", "count", "object": as asked, by the reader.
    """
    z = sample(n, torch.Generator().manual_seed(seed))
    kinds, known = torch.arange(n) % len(KINDS), factors(z)
    exact, _ = picture(known, kinds)
    generator, reader = rosetta.load_unit_model(NAME, device="cpu"), load_reader()
    c = F.one_hot(kinds, len(KINDS)).float()
    drawn = torch.cat([generator(*part)[0] for part in zip(z.split(100), c.split(100))])
    some, one = known.present[:, 0] == 1, (known.present == torch.tensor([1.0, 0.0])).all(1)
    count, found = (known.present > 0.5).sum(1), {}
    for what, images in (("exact", exact), ("drawn", drawn)):
        row = found[what] = {}
        for clip in clips:
            model = load_clip(clip, device="cpu")
            right, told = named(model, images, kinds), named(model, images, kinds, KINDS)
            for how, answers in (("named", right), ("told", told)):
                row[f"{how} by {clip}"], row[f"{how} by {clip}, one object"] = (
                    answers[rows].float().mean().item() for rows in (some, one)
                )
            if clip == clips[0]:
                row |= {kind: right[one & (kinds == k)].float().mean().item() for k, kind in enumerate(KINDS)}
        read = reader.read(images)
        middle, _ = rosetta.judges.places(read.masks > 0.5)
        for axis, name in enumerate("xy"):
            pair = torch.stack([middle[one, axis], known.places[one, 0, axis]])
            row[name] = torch.corrcoef(pair[:, pair[0].isfinite()])[0, 1].item()
        row["scene"] = (read.scene.argmax(1) == known.scenes.argmax(1)).float().mean().item()
        row["colour"] = (read.colour.argmax(1) == known.colours.argmax(1))[some].float().mean().item()
        row["count"] = (read.count.argmax(1) == count).float().mean().item()
        row["object"] = (read.object.argmax(1) == kinds)[some].float().mean().item()
    return found


def main():
    torch.set_num_threads(1)
    for what, row in report().items():
        print(what, {name: round(value, 3) for name, value in row.items()}, flush=True)
    generator = rosetta.load_unit_model(NAME, device="cpu")
    print("dB", quality(generator.model, n=500))
    z, kinds = sample(30, torch.Generator().manual_seed(5)), torch.arange(30) % len(KINDS)
    pictures = picture(factors(z), kinds)[0], generator(z, F.one_hot(kinds, len(KINDS)).float())[0].detach()
    rows = torch.stack([each.clamp(0, 1).unflatten(0, (3, 10)) for each in pictures], 1).flatten(0, 2)
    save_image(F.interpolate(rows, scale_factor=2), DATA / "figures" / "known.png", nrow=10)


if __name__ == "__main__":
    main()
