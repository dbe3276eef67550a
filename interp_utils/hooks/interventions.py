"""Interventions of chapter 5: attention patterns put in by hand, tokens and neurons that the model was not trained with."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from ..models import Clip
from .base import compute_dtype, forward_hooks, project, visit
from .heads import attention_pattern, attention_weights, mixed_values


@torch.no_grad()
def run_with_attention(
    clip: Clip, layer: int, stream: Tensor, patterns: Sequence[Tensor] | None = None
) -> tuple[Tensor, list[Tensor]]:
    """Run the layers from `layer` on with given attention patterns; layer norms, values and MLPs are computed as ever.

    stream: [B, N+1, D] as it enters the layer; patterns: one [B, H, N+1, N+1] a layer, rows sum to one, or None to let attention
    compute its own. Returns the representation [B, E] and the patterns that were used.
    """
    used = []
    for number, block in enumerate(clip.visual.transformer.resblocks[layer:]):
        weights = attention_weights(clip, layer + number)
        inputs = block.ln_1(stream).to(weights.b_o.dtype)
        used.append(attention_pattern(inputs, weights) if patterns is None else patterns[number])
        mixed = mixed_values(inputs, weights, pattern=used[-1])
        written = torch.einsum("bhnd,Dhd->bnD", mixed, weights.w_o) + weights.b_o
        stream = stream + written.to(stream.dtype)
        stream = stream + block.ls_2(block.mlp(block.ln_2(stream)))
    return project(clip, stream[:, 0].to(compute_dtype(clip))), used


def visit_streams(clip: Clip, pixels: Tensor, visitor: Callable[[int, Tensor], None]) -> None:
    """Run the image tower and call `visitor(layer, x)` with the residual stream x [B, N+1, D] that leaves each layer."""
    dtype, blocks = compute_dtype(clip), clip.visual.transformer.resblocks
    visit(clip, pixels, [(block, lambda x, layer=layer: visitor(layer, x.to(dtype))) for layer, block in enumerate(blocks)])


@contextmanager
def extra_token(clip: Clip) -> Iterator[None]:
    """For a `with` block, append a token of zeros, without a position, to what enters the first layer: [B, N+2, D]."""

    def append(module, args, output):
        return torch.cat([output, torch.zeros_like(output[:, :1])], 1)

    with forward_hooks([(clip.visual.ln_pre, append)]):
        yield


def with_neuron(clip: Clip, layer: int, neuron: int, w_in: Tensor, b_in: float, w_out: Tensor) -> Clip:
    """A copy of the model in which one neuron reads w_in [D] after the layer norm, with bias b_in, and writes w_out [D]."""
    model = copy.deepcopy(clip.model)
    mlp = model.visual.transformer.resblocks[layer].mlp
    with torch.no_grad():
        mlp.c_fc.weight[neuron], mlp.c_fc.bias[neuron] = w_in.to(clip.dtype), b_in
        mlp.c_proj.weight[:, neuron] = w_out.to(clip.dtype)
    return Clip(model, clip.preprocess, clip.tokenizer, f"{clip.name} with a planted L{layer}N{neuron}")
