"""What chapter 4's tables start from: a generator matched with models that see, and drawn images to edit.

Of the known generator's images all is known; of an adversarial one's what the reader reads off them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from ... import rosetta
from ...models import load_clip
from ..clip import MEAN, STD
from .latents import KINDS, Factors, factors, picture, sample
from .reader import Reader, load_reader
from .units import NAME, styles

SEEING = tuple(f"sandbox/viewers/{name}" for name in ("resnet", "dino_resnet", "clip_resnet", "dino_vit", "mae_vit"))
GAN = "sandbox/big_gan"  # of the same world; its discriminator looked through `resnet`, which is therefore no partner of it
PARTNERS = {NAME: SEEING, GAN: SEEING[1:]}


@dataclass(frozen=True)
class Mined:
    """A generator in its styles, models that see, and what they share."""

    generator: rosetta.Generator
    models: dict[str, rosetta.UnitModel]
    matches: list[rosetta.Correlation]  # of the generator with each model
    own: rosetta.Correlation  # of the generator with itself
    dictionary: rosetta.Dictionary

    @property
    def pairs(self) -> list[tuple[rosetta.UnitModel, rosetta.Pairs]]:
        """Each model with the Rosetta units as pairs."""
        return list(zip(self.models.values(), rosetta.rosetta_pairs(self.dictionary, self.matches)))


def mine(
    names: Sequence[str] | None = None,
    n: int = 160,
    pretrained: bool = True,
    seed: int = 0,
    kind: int | None = None,
    own=None,
    of: str = NAME,
) -> Mined:
    """Match a generator, the known one or `GAN`, with models that see, by their names, on n images that it draws.

    names: by default its `PARTNERS`. pretrained: False takes untrained copies with weights of that seed. kind: of one class alone,
    as the thesis mines its dictionaries. own: the generator's correlation with itself, where it is known already.
    """
    generator = styles(rosetta.load_unit_model(of))
    models = {name: rosetta.load_unit_model(name, pretrained=pretrained, seed=seed) for name in names or PARTNERS[of]}
    others = list(models.values()) + ([generator] if own is None else [])
    matches = rosetta.correlate(generator, others, generator.sample(n, seed=seed, kind=kind), batch_size=32)
    own = matches.pop() if own is None else own
    return Mined(generator, models, matches, own, rosetta.build_dictionary(matches, own))


def chosen(n: int, seed: int = 0, size=(26, 31), across=(24, 40), down=(24, 40)) -> tuple[Tensor, Tensor, Factors]:
    """z [n, 32], one-hot classes in turn [n, kinds], and factors: one whole object of clear colour on a clear scene, in the middle.

    size, across, down: pixels between which the object's side and middle lie.
    """
    found = torch.empty(0, 32)
    generator = torch.Generator().manual_seed(seed)
    while len(found) < n:
        z = sample(20_000, generator)
        known = factors(z)
        (x, y), side = known.places[:, 0].T, known.sizes
        fits = (known.present[:, 0] == 1) & (known.present[:, 1] == 0)
        for value, (low, high) in ((side, size), (x, across), (y, down)):
            fits &= (low <= value) & (value <= high)
        fits &= (known.scenes.amax(1) > 0.9) & (known.colours.amax(1) > 0.9)
        found = torch.cat([found, z[fits]])
    z = found[:n]
    return z, F.one_hot(torch.arange(n) % len(KINDS), len(KINDS)).float(), factors(z)


@torch.no_grad()
def read_as_single(
    generator: rosetta.Generator, n: int, area=(0.02, 0.12), across=(24, 40), down=(24, 40)
) -> tuple[Tensor, Tensor]:
    """z [n, 32] and one-hot classes [n, kinds] of images that the reader reads as `chosen` asks: one object, in the middle.

    generator: in its latent z. area: share of the image that the object covers. Classes come in turn, but only images that fit are
    taken, read as the class asked for. Raises ValueError where less than one in a hundred fits.
    """
    reader, random, found = load_reader(), torch.Generator().manual_seed(0), []
    c = F.one_hot(torch.arange(100) % len(KINDS), len(KINDS)).float()
    for _ in range(n):
        z = sample(len(c), random)
        read = reader.read(generator(z, c)[0])
        masks = read.masks > 0.5
        middle, share = rosetta.judges.places(masks)
        fits = read.object.argmax(1) == c.argmax(1)
        for value, (low, high) in ((share, area), (64 * middle[:, 0], across), (64 * middle[:, 1], down)):
            fits &= (low <= value) & (value <= high)  # nan fits nowhere
        single = rosetta.outcome(masks[fits], masks[fits])["pieces"] == 1
        found += zip(z[fits][single], c[fits][single])
        if len(found) >= n:
            latents, classes = zip(*found[:n])
            return torch.stack(latents), torch.stack(classes)
    raise ValueError(f"the reader finds only {len(found)} single objects of the class asked for in {100 * n} images")


@torch.no_grad()
def with_objects(generator: rosetta.Generator, n: int = 100, seed: int = 3, reader: Reader | None = None) -> Tensor:
    """Correlation of each unit of a generator, [units], with the masks of the objects that it draws, over n images.

    Masks are the true ones of the known generator's latents; with a reader, what that finds.
    """
    z = sample(n, torch.Generator().manual_seed(seed))
    c = F.one_hot(torch.arange(n) % len(KINDS), len(KINDS)).float()
    images, layers = generator(generator.model.mapping(z.to(generator.device)), c)
    masks = picture(factors(z), c.argmax(1))[1].amax(1) if reader is None else reader.read(images).masks
    found = []
    for layer in layers:
        cells = F.adaptive_avg_pool2d(masks[:, None], layer.shape[2:]).flatten()
        maps = layer.float().cpu().movedim(1, 0).flatten(1)
        maps, cells = maps - maps.mean(1, keepdim=True), cells - cells.mean()
        found.append(maps @ cells / (maps.norm(dim=1) * cells.norm()).clamp(min=1e-12))
    return torch.cat(found)


def clip_maps(name: str = "sandbox", device: torch.device | str = "cpu") -> rosetta.UnitModel:
    """The image tower of a sandbox CLIP as a judge of distances: the tokens after each of its blocks."""
    clip = load_clip(name, device=device)
    layers = [f"transformer.resblocks.{k}" for k in range(clip.n_layers)]
    as_map = partial(rosetta.tokens_to_map, prefix=1, grid=clip.grid)
    return rosetta.UnitModel(clip.model.visual, layers, MEAN, STD, 64, as_map, f"CLIP {name}")


class Judged:
    """What became of drawn images, by the reader: `rosetta.outcome`, and whether it still reads the same.

    Called with images it gives for each "right", "down", "growth", "pieces", and "object", "scene" and "colour": 1 where they
    are the same as before.
    """

    def __init__(self, reader: Reader, before: Tensor):
        self.reader, self.before = reader, reader.read(before)

    def __call__(self, after: Tensor) -> dict[str, Tensor]:
        now = self.reader.read(after)
        found = rosetta.outcome(self.before.masks > 0.5, now.masks > 0.5)
        same = {
            name: getattr(now, name).argmax(1) == getattr(self.before, name).argmax(1) for name in ("object", "scene", "colour")
        }
        return {**found, **{name: values.float() for name, values in same.items()}}
