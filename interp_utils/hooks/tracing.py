"""Running the image tower step by step, differentiably by the pixels or the stream, for gradients and relevance."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..models import Clip
from .base import compute_dtype, parameters
from .heads import Heads, attention_weights
from .neurons import neuron_weights


@dataclass(frozen=True)
class EmbeddingTrace:
    """How the image tower makes its first residual stream from pixels, in the precision of `compute_dtype`."""

    patches: Tensor  # [B, N, P], the pixels of each patch, all channels
    kernel: Tensor  # [D, P], the patch convolution
    tokens: Tensor  # [B, N+1, D], the class token and the embedded patches
    positions: Tensor  # [N+1, D]
    stream: Tensor  # [B, N+1, D], after ln_pre


@dataclass(frozen=True)
class BlockTrace:
    """Every step of one transformer block for all tokens, in the precision of `compute_dtype`."""

    stream: Tensor  # [B, N+1, D], the residual stream that enters the block
    attention_input: Tensor  # [B, N+1, D], after ln_1
    query: Tensor  # [B, H, N+1, d]
    key: Tensor  # [B, H, N+1, d]
    value: Tensor  # [B, H, N+1, d]
    attention: Tensor  # [B, H, N+1, N+1], rows sum to one
    mixed: Tensor  # [B, H, N+1, d], values averaged with the attention
    attention_output: Tensor  # [B, N+1, D], what the attention adds to the stream
    middle: Tensor  # [B, N+1, D], the stream between attention and MLP
    mlp_input: Tensor  # [B, N+1, D], after ln_2
    neurons: Tensor  # [B, N+1, M], after the activation function
    mlp_output: Tensor  # [B, N+1, D], what the MLP adds to the stream
    output: Tensor  # [B, N+1, D], the stream that leaves the block
    heads: Heads
    w_fc: Tensor  # [M, D]
    w_proj: Tensor  # [D, M], with the layer scale if there is one


def trace_embedding(clip: Clip, pixels: Tensor) -> EmbeddingTrace:
    """Run the bottom of the image tower step by step, differentiably; pixels as `clip.pixels` gives them."""
    visual, dtype = clip.visual, compute_dtype(clip)
    conv = visual.conv1
    patches = torch.nn.functional.unfold(pixels.to(dtype), conv.kernel_size, stride=conv.stride).mT
    kernel, first, positions = parameters(clip, conv.weight.flatten(1), visual.class_embedding, visual.positional_embedding)
    embedded = patches @ kernel.T
    embedded = embedded if conv.bias is None else embedded + parameters(clip, conv.bias)[0]
    tokens = torch.cat([first.expand(len(pixels), 1, -1), embedded], 1)
    return EmbeddingTrace(patches, kernel, tokens, positions, _normed(clip, visual.ln_pre, tokens + positions))


def trace_block(clip: Clip, layer: int, stream: Tensor) -> BlockTrace:
    """Run one block step by step, differentiably, on a residual stream [B, N+1, D]."""
    block, heads, written = clip.visual.transformer.resblocks[layer], attention_weights(clip, layer), neuron_weights(clip, layer)
    attention_input = _normed(clip, block.ln_1, stream)
    query, key, value = (
        torch.einsum("bnD,hdD->bhnd", attention_input, weight) + bias[:, None]
        for weight, bias in ((heads.w_q, heads.b_q), (heads.w_k, heads.b_k), (heads.w_v, heads.b_v))
    )
    attention = (query @ key.mT * clip.d_head**-0.5).softmax(-1)
    mixed = attention @ value
    attention_output = torch.einsum("bhnd,Dhd->bnD", mixed, heads.w_o) + heads.b_o
    middle = stream + attention_output
    mlp_input = _normed(clip, block.ln_2, middle)
    w_fc, b_fc = parameters(clip, block.mlp.c_fc.weight, block.mlp.c_fc.bias)
    neurons = block.mlp.gelu(mlp_input @ w_fc.T + b_fc)
    mlp_output = neurons @ written.w_out + written.b_out
    return BlockTrace(
        stream, attention_input, query, key, value, attention, mixed, attention_output, middle, mlp_input, neurons, mlp_output,
        middle + mlp_output, heads, w_fc, written.w_out.T,
    )  # fmt: skip


def trace(clip: Clip, pixels: Tensor) -> Iterator[BlockTrace]:
    """Run the image tower step by step and yield its blocks from the first to the last; only what the caller keeps stays."""
    stream = trace_embedding(clip, pixels).stream
    for layer in range(clip.n_layers):
        block = trace_block(clip, layer, stream)
        stream = block.output
        yield block


def _normed(clip: Clip, norm: nn.Module, x: Tensor) -> Tensor:
    if isinstance(norm, nn.Identity):  # a tower without ln_pre
        return x
    return torch.nn.functional.layer_norm(x, norm.normalized_shape, *parameters(clip, norm.weight, norm.bias), norm.eps)
