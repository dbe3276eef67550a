"""What a method that names heads or neurons may read of them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property

import torch
from torch import Tensor

from ..datasets import load_task
from ..heads.textspan import HeadMoments
from ..models import Clip, load_clip
from ..neurons.rank_one import batch_effects, first_direction
from ..neurons.second_order import second_order
from ..stream import Batch, collect

N_NEURONS, N_SEEN = 60, 600


@dataclass(frozen=True)
class Seen:
    """What a method may read of some units of one CLIP: their effects in the joint space, on images of which it knows no fact."""

    clip: Clip
    kind: str  # heads or neurons
    units: list[tuple[int, int]]  # layer and number
    effects: Tensor  # [K, U, E], direct of heads, second-order of neurons, where representations have unit length
    representations: Tensor  # [K, E], of the same images

    @cached_property
    def moments(self) -> list[HeadMoments]:
        """Mean and covariance of each unit's effects."""
        return [HeadMoments.of(effects) for effects in self.effects.unbind(1)]

    @cached_property
    def directions(self) -> Tensor:
        """First principal direction of each unit's effects less their mean, pointing to its largest, [U, E]."""
        centred = self.effects - self.effects.mean(0)
        directions = first_direction(centred.transpose(0, 1))[0]
        skew = torch.einsum("kue,ue->ku", centred, directions).pow(3).mean(0)
        return torch.where(skew[:, None] < 0, -directions, directions)

    @cached_property
    def answers(self) -> Tensor:
        """How far each image moves each unit along its direction, [K, U]."""
        return torch.einsum("kue,ue->ku", self.effects - self.effects.mean(0), self.directions)


@cache
def chosen_units(name: str, kind: str) -> list[tuple[int, int]]:
    """All heads, or the 60 neurons of one layer whose second-order effects vary most, by layer and number."""
    clip = load_clip(name, device="cpu")
    if kind == "heads":
        return [(layer, head) for layer in range(clip.n_layers) for head in range(clip.n_heads)]
    if kind != "neurons":
        raise ValueError(f"kind must be 'heads' or 'neurons', got {kind!r}")
    order = second_order(clip, clip.n_layers - 3, relative=True)
    images = load_task("sandbox-train", clip.preprocess, 200).images
    norms = collect(clip, images, lambda batch: batch_effects(batch, [order], 0).norms())
    return [(order.layer, number) for number in norms.var(0).topk(N_NEURONS).indices.tolist()]


def effects_of(clip: Clip, kind: str, units: list[tuple[int, int]]) -> Callable[[Batch], Tensor]:
    """A view of the units' effects, [B, U, E]."""
    layers, numbers = (list(part) for part in zip(*units))
    if kind == "heads":
        return lambda batch: batch.heads[:, layers, numbers]
    order = second_order(clip, layers[0], relative=True)
    return lambda batch: batch_effects(batch, [order], 0).vectors(numbers)


@cache
def seen_of(name: str, kind: str, n_images: int = N_SEEN) -> Seen:
    """What methods read of a sandbox CLIP by name: effects on balanced images, other than those of the truth."""
    clip, units = load_clip(name, device="cpu"), chosen_units(name, kind)
    view = effects_of(clip, kind, units)
    images = load_task("sandbox-train", clip.preprocess, n_images).images
    effects, representations = collect(clip, images, lambda batch: (view(batch), batch.representation))
    return Seen(clip, kind, units, effects.float(), representations.float())
