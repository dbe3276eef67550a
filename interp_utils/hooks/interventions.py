"""Interventions of chapter 5: attention patterns put in by hand, tokens and neurons that the model was not trained with."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from ..models import Clip
from .base import compute_dtype, forward_hooks, read, visit


@torch.no_grad()
def run_with_attention(
    clip: Clip, layer: int, stream: Tensor, patterns: Sequence[Tensor] | None = None
) -> tuple[Tensor, list[Tensor]]:
    """Run the layers from `layer` on with given attention patterns; layer norms, values and MLPs are computed as ever.

    stream: [B, N, D] as it enters the layer; patterns: one [B, H, N, N] a layer, rows sum to one, or None to let attention
    compute its own. Where a class token alone is read out, of the last layer no other token is computed, and its pattern is
    [B, H, 1, N]. Returns the representation [B, E] and the patterns that were used.
    """
    used, last = [], len(clip.tower.blocks) - 1 if clip.tower.final is not None else None
    for number, block in enumerate(clip.tower.blocks[layer:], layer):
        weights, asks = block.attention(), [0] if number == last else None
        inputs = (stream if block.reads is None else block.reads(stream)).to(compute_dtype(clip))
        used.append(weights.pattern(inputs, asks) if patterns is None else patterns[number - layer])
        stream = stream if asks is None else stream[:, :1]
        stream = stream + weights.write(used[-1] @ weights.values(inputs)).to(stream.dtype)
        stream = stream + block.feed(stream)
    return read(clip, stream), used


def visit_streams(clip: Clip, pixels: Tensor, visitor: Callable[[int, Tensor], None]) -> None:
    """Run the image tower and call `visitor(layer, x)` with the residual stream x [B, N, D] that leaves each layer."""
    dtype, blocks = compute_dtype(clip), clip.tower.blocks
    visit(clip, pixels, [((b.whole, False), lambda x, layer=layer: visitor(layer, x.to(dtype))) for layer, b in enumerate(blocks)])


@contextmanager
def extra_token(clip: Clip) -> Iterator[None]:
    """For a `with` block, append a token of zeros, without a position, to what enters the first layer: [B, N+1, D].

    Raises NotImplementedError where a token more would be read out itself, or would need a position.
    """
    tower = clip.tower
    if tower.final is None or tower.blocks[0].attention().turns:
        raise NotImplementedError(
            f"{clip.name} ({tower.family}) takes no token more: it reads out all tokens, or its attention gives each a position"
        )

    def append(module, args):
        return torch.cat([args[0], torch.zeros_like(args[0][:, :1])], 1)

    with forward_hooks([], before=[(tower.blocks[0].whole, append)]):
        yield


def with_neuron(clip: Clip, layer: int, neuron: int, w_in: Tensor, b_in: float, w_out: Tensor) -> Clip:
    """A copy of the model in which one neuron reads w_in [D] after the layer norm, with bias b_in, and writes w_out [D].

    Raises NotImplementedError for an MLP with a gate, whose neurons read in two ways.
    """
    planted = Clip(copy.deepcopy(clip.model), clip.preprocess, clip.tokenizer, f"{clip.name} with a planted L{layer}N{neuron}")
    block = planted.tower.blocks[layer]
    if block.first is None:
        raise NotImplementedError(f"the neurons of {clip.name} ({planted.tower.family}) have a gate, so none can be planted")
    with torch.no_grad():
        block.first[1].weight[neuron], block.first[1].bias[neuron] = w_in.to(clip.dtype), b_in
        block.last.weight[:, neuron] = w_out.to(clip.dtype)
    return planted
