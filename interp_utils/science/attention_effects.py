"""Neurons that change attention: what a neuron does through later queries and keys (thesis, section 3.6).

The second-order lens holds attention patterns fixed. Here one neuron is replaced by its mean twice: once later attention looks
where it looked before, once it looks anew. The difference is what went through the patterns. In terms of causal mediation
(Pearl 2001; Vig et al. 2020): the total effect is a natural direct effect plus what is mediated by attention.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..hooks import neuron_weights, stream_after
from ..hooks.interventions import run_with_attention
from ..models import Clip


@dataclass(frozen=True)
class AttentionEffects:
    """Effects of n neurons on B images, M(I) less M(I with the neuron at its mean), split by the way they took."""

    neurons: list[int]
    total: Tensor  # [B, n, E], attention computed anew: the indirect effect of chapter 3
    frozen: Tensor  # [B, n, E], with all later attention patterns as on the intact image
    moved: Tensor  # [B, n, later layers, H], share of its attention that the class token moves elsewhere in each later head; where
    # many tokens are read out, the mean over all

    @property
    def mediated(self) -> Tensor:
        """total - frozen, [B, n, E]: what the neuron does through later queries and keys, its values already changed."""
        return self.total - self.frozen

    @property
    def share(self) -> Tensor:
        """Length of the mediated part over the lengths of both parts, root mean square over the images, [n]: 0 to 1."""
        mediated, frozen = (part.norm(dim=-1).square().mean(0).sqrt() for part in (self.mediated, self.frozen))
        whole = mediated + frozen
        return mediated / torch.where(whole > 0, whole, 1)


@torch.no_grad()
def attention_effects(
    clip: Clip, pixels: Tensor, layer: int, means: Tensor, neurons: Sequence[int], chunk: int | None = None
) -> AttentionEffects:
    """Split the effect of mean-ablating single neurons into values and attention (the open question of thesis section 3.6).

    means: [N, M] as `neurons.token_means` gives them; chunk: so many neurons run together, by default at most 16 and so
    many that their attention patterns take 1 GB. Raises ValueError for the last layer, after which there is no attention.
    """
    if not 0 <= layer < clip.n_layers - 1:
        raise ValueError(f"need a layer with attention after it, 0 to {clip.n_layers - 2}, got {layer}")
    activations, stream = stream_after(clip, clip.pixels(pixels), layer)
    weights, alone = neuron_weights(clip, layer), clip.tower.final is not None
    base, patterns = run_with_attention(clip, layer + 1, stream)
    if chunk is None:  # each neuron has patterns of its own, old and new: with ViT-L/14 gigabytes
        chunk = min(16, max(1, 2**30 // sum(2 * pattern.nbytes for pattern in patterns)))
    total, frozen, moved = [], [], []
    for start in range(0, len(neurons), chunk):
        few = list(neurons[start : start + chunk])
        changed = (stream + weights.moved(activations, few, means).transpose(0, 1).to(stream)).flatten(0, 1)
        shape = (len(few), len(stream))
        held = [pattern.repeat(len(few), 1, 1, 1) for pattern in patterns]
        for found, given in ((total, None), (frozen, held)):
            representation, used = run_with_attention(clip, layer + 1, changed, given)
            found.append((base - representation.unflatten(0, shape)).movedim(0, 1))
            if given is None:
                asks = slice(1) if alone else slice(None)
                shift = [(new[:, :, asks] - old[:, :, asks]).abs().sum(-1).mean(-1) / 2 for new, old in zip(used, held)]  # [nB, H]
                moved.append(torch.stack(shift, 1).unflatten(0, shape).movedim(0, 1))
    return AttentionEffects(list(neurons), *(torch.cat(parts, 1) for parts in (total, frozen, moved)))
