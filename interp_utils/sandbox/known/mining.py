"""What chapter 4's tables start from: the known generator matched with models that see, and drawn images of which all is known."""

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
from .reader import Reader
from .units import NAME, styles

SEEING = tuple(f"sandbox/viewers/{name}" for name in ("resnet", "dino_resnet", "clip_resnet", "dino_vit", "mae_vit"))


@dataclass(frozen=True)
class Mined:
    """The known generator in its styles, models that see, and what they share."""

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
    names: Sequence[str] = SEEING, n: int = 160, pretrained: bool = True, seed: int = 0, kind: int | None = None, own=None
) -> Mined:
    """Match the known generator with models that see, by their names, on n images that it draws.

    pretrained: False takes untrained copies with weights of that seed. kind: of one class alone, as the thesis mines its
    dictionaries. own: the generator's correlation with itself, where it is known already.
    """
    generator = styles(rosetta.load_unit_model(NAME))
    models = {name: rosetta.load_unit_model(name, pretrained=pretrained, seed=seed) for name in names}
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
def with_objects(generator: rosetta.Generator, n: int = 100, seed: int = 3) -> Tensor:
    """Correlation of each unit of the known generator, [units], with the true masks of the objects that it draws, over n images."""
    z = sample(n, torch.Generator().manual_seed(seed))
    c = F.one_hot(torch.arange(n) % len(KINDS), len(KINDS)).float()
    _, masks = picture(factors(z), c.argmax(1))
    w = generator.model.mapping(z.to(generator.device))
    found = []
    for layer in generator(w, c)[1]:
        cells = F.adaptive_avg_pool2d(masks.amax(1, keepdim=True), layer.shape[2:]).flatten()
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
