"""Direct and indirect effects of neurons, to compare with the second-order ones (thesis, section 3.3 and table 3.1)."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..accumulating import Several
from ..checks import checked_count
from ..heads.direct import read_out_matrix
from ..hooks import compute_dtype, edited_neurons, neuron_weights, record_neurons, run_from, stream_after, visit_neurons
from ..models import Clip
from ..moments import Moments, Rows
from ..rounding import negligible
from ..stream import feed, in_pass
from .rank_one import concentration, first_direction

PORTION = 64  # neurons whose effects on all images exist at the same time


def first_order(clip: Clip, pixels: Tensor, layer: int) -> Tensor:
    """Direct effects of neurons, [B, M, E]: what they add to what is read out, at once (thesis, section 3.3).

    The sum over all neurons, and the layer's bias, is the direct effect of the MLP (`heads.DirectEffects.mlps`), centred: the
    shares of ln="split" are the same for all neurons.
    """
    flow = record_neurons(clip, clip.pixels(pixels), [layer])
    written, matrix = neuron_weights(clip, layer).linear()[0], read_out_matrix(clip, "centered").unflatten(0, (-1, clip.d_model))
    taken = flow.taken[layer] * flow.scale[..., None]  # [B, K, M]
    return torch.einsum("bkm,kmE->bmE", taken, written @ matrix)


def token_means(clip: Clip, images, layers: int | Collection[int], **options) -> Tensor | dict[int, Tensor]:
    """Mean activation of each neuron of a layer on each token, [N, M], over the images; of several layers by layer, in one pass.

    options: those of `feed`.
    """
    means = _TokenMeans(clip, [layers] if isinstance(layers, int) else layers)
    feed(clip, images, [(means, lambda batch: batch.pixels)], **options)
    found = {layer: member.mean for layer, member in means.members.items()}
    return found[layers] if isinstance(layers, int) else found


class _TokenMeans(Several):
    """Mean activations of the neurons of some layers at each token: a statistic that takes pixels."""

    def __init__(self, clip: Clip, layers: Collection[int]):
        self.clip = clip
        super().__init__({layer: Moments() for layer in sorted(layers)})

    def update(self, pixels: Tensor) -> None:
        visit_neurons(self.clip, self.clip.pixels(pixels), lambda layer, p: self.members[layer].update(p), list(self.members))


def indirect_effects(clip: Clip, pixels: Tensor, layer: int, means: Tensor, neurons: Sequence[int], chunk: int = 16) -> Tensor:
    """Change of the representation when one neuron is replaced by its mean, [B, n, E] (thesis, section 3.3).

    M(I) - M(I with the neuron at `means` [N, M], token by token): the later layers run again, `chunk` neurons at a time.
    """
    activations, stream = stream_after(clip, clip.pixels(pixels), layer)
    weights = neuron_weights(clip, layer)
    base = run_from(clip, layer + 1, stream)
    effects = []
    for start in range(0, len(neurons), chunk):
        few = list(neurons[start : start + chunk])
        changed = stream[:, None] + weights.moved(activations, few, means).to(stream)
        effects.append(base[:, None] - run_from(clip, layer + 1, changed.flatten(0, 1)).unflatten(0, changed.shape[:2]))
    return torch.cat(effects, 1)


@dataclass(frozen=True)
class IndirectRankOne:
    """One direction for the indirect effect of each of n neurons."""

    neurons: list[int]
    mean: Tensor  # [n, E]
    directions: Tensor  # [n, E], of the centred effects on the images where they are longest
    top_share: Tensor  # [n], share of those effects' squared length along the direction
    share: Tensor  # [n], share of the variance over all images along the first principal direction of all images
    participation: Tensor  # [n], how many directions take part, see `Spread`

    @property
    def rank(self) -> int:
        """The most directions there can be: the width of the joint space."""
        return self.directions.shape[1]


def fit_indirect(
    clip: Clip, images, layer: int, means: Tensor, neurons: Sequence[int], top: int = 100, relative: bool = False, **options
) -> IndirectRankOne:
    """First directions of indirect effects, by the rules of `fit`. relative: see `second_order`; options: those of `feed`.

    Every 64 neurons take a pass of their own, which with save_to has a file of its own, run.1.safetensors and so on.
    """
    parts = []
    for k, start in enumerate(range(0, len(neurons), PORTION), 1):
        few, rows, lengths = list(neurons[start : start + PORTION]), Rows(), Moments()

        def length(batch):
            return batch.once("length", lambda: clip.encode_image(batch.pixels).to(compute_dtype(clip)).norm(dim=-1))

        def view(batch, few=few):
            effects = indirect_effects(clip, batch.pixels, layer, means, few)
            return effects / length(batch)[:, None, None] if relative else effects, batch.numbers

        feed(clip, images, [(rows, view), (lengths, length)], **in_pass(k, options))
        effects = rows.rows
        mean = effects.double().mean(0).to(effects)
        centred = (effects - mean).movedim(0, 1)  # [n, images, E]
        norms, largest = centred.norm(dim=-1).topk(min(checked_count("top", top), centred.shape[1]), dim=1)
        # an effect is the difference of two representations, and no finer than their rounding
        varies = ~negligible(norms[:, 0], torch.ones(()) if relative else lengths.mean.cpu(), effects.dtype)
        directions, top_share = first_direction(centred.gather(1, largest[..., None].expand(-1, -1, centred.shape[2])))
        share, participation, _ = concentration(torch.linalg.eigvalsh((centred.mT @ centred).double()), varies)
        parts.append((mean, directions * varies[:, None], top_share * varies, share.float(), participation.float()))
    return IndirectRankOne(list(neurons), *(torch.cat(part) for part in zip(*parts)))


@torch.no_grad()
def encode_without(clip: Clip, pixels: Tensor, layer: int, means: Tensor) -> Tensor:
    """Representations [B, E] when all neurons of a layer are replaced by their means [N, M] and the rest runs on."""
    with edited_neurons(clip, layer, lambda activations: means.to(activations).expand_as(activations)):
        return clip.encode_image(pixels)
