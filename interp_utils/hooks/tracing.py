"""Running the image tower step by step, differentiably by the pixels or the stream, for gradients and relevance."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..models import Clip
from ..towers import Attention, Block, numbers
from .base import compute_dtype
from .neurons import streams_before


@dataclass(frozen=True)
class EmbeddingTrace:
    """How the image tower makes its first residual stream from pixels, in the precision of `compute_dtype`."""

    patches: Tensor  # [B, N, P], the pixels of each patch, all channels
    kernel: Tensor  # [D, P], the patch convolution
    tokens: Tensor  # [B, N+1, D], the class token and the embedded patches
    positions: Tensor  # [N+1, D]
    stream: Tensor  # [B, N+1, D], after the first layer norm


@dataclass(frozen=True)
class BlockTrace:
    """Every step of one transformer block for all tokens, in the precision of `compute_dtype`."""

    stream: Tensor  # [B, N, D], the residual stream that enters the block
    attention_input: Tensor  # [B, N, D], after the layer norm
    query: Tensor  # [B, H, N, d]
    key: Tensor  # [B, H, N, d]
    value: Tensor  # [B, H, N, d]
    attention: Tensor  # [B, H, N, N], rows sum to one
    mixed: Tensor  # [B, H, N, d], values averaged with the attention
    attention_output: Tensor  # [B, N, D], what the attention adds to the stream
    middle: Tensor  # [B, N, D], the stream between attention and MLP
    mlp_input: Tensor  # [B, N, D], after the layer norm
    neurons: Tensor  # [B, N, M], after the activation function
    mlp_output: Tensor  # [B, N, D], what the MLP adds to the stream
    output: Tensor  # [B, N, D], the stream that leaves the block
    heads: Attention
    w_fc: Tensor  # [M, D]
    w_proj: Tensor  # [D, M], with the layer scale if there is one


def trace_embedding(clip: Clip, pixels: Tensor) -> EmbeddingTrace:
    """Run the bottom of the image tower step by step, differentiably; pixels as `clip.pixels` gives them.

    Raises NotImplementedError for a tower whose first stream is not made by one patch convolution, a class token and positions.
    """
    tower, dtype = clip.tower, compute_dtype(clip)
    if tower.embedding is None:
        raise NotImplementedError(f"the first stream of {clip.name} ({tower.family}) is not described step by step")
    below = tower.embedding()
    conv = below.kernel
    patches = nn.functional.unfold(pixels.to(dtype), conv.kernel_size, stride=conv.stride).mT
    kernel = numbers(conv.weight.flatten(1))
    embedded = patches @ kernel.T
    embedded = embedded if conv.bias is None else embedded + numbers(conv.bias)
    tokens = torch.cat([below.first.expand(len(pixels), 1, -1), embedded], 1)
    return EmbeddingTrace(patches, kernel, tokens, below.positions, _normed(below.norm, tokens + below.positions))


def trace_block(clip: Clip, layer: int, stream: Tensor) -> BlockTrace:
    """Run one block step by step, differentiably, on a residual stream [B, N, D].

    Raises NotImplementedError for a block with a gate in its MLP, rotated queries, or a norm between heads or MLP and stream.
    """
    block = clip.tower.blocks[layer]
    heads, written = block.attention(), block.last_linear()
    if not _plain(block, heads):
        raise NotImplementedError(
            f"the blocks of {clip.name} ({clip.tower.family}) have a gate in their MLPs, turned queries or norms after their "
            "heads, which no trace step by step describes"
        )
    norm, fc, activation = block.first
    attention_input = stream if block.reads is None else _normed(block.reads, stream)
    query, key, value = (
        torch.einsum("bnD,hdD->bhnd", attention_input, weight) + bias[:, None]
        for weight, bias in ((heads.w_q, heads.b_q), (heads.w_k, heads.b_k), (heads.w_v, heads.b_v))
    )
    attention = (query @ key.mT * clip.d_head**-0.5).softmax(-1)
    mixed = attention @ value
    attention_output = heads.write(mixed)
    middle = stream + attention_output
    mlp_input = _normed(norm, middle)
    w_fc = numbers(fc.weight)
    read = mlp_input @ w_fc.T
    neurons = activation(read if fc.bias is None else read + numbers(fc.bias))
    mlp_output = neurons @ written.w_out + written.b_out
    return BlockTrace(
        stream, attention_input, query, key, value, attention, mixed, attention_output, middle, mlp_input, neurons, mlp_output,
        middle + mlp_output, heads, w_fc, written.w_out.T,
    )  # fmt: skip


def trace(clip: Clip, pixels: Tensor) -> Iterator[BlockTrace]:
    """Run the image tower step by step and yield its blocks from the first to the last; only what the caller keeps stays."""
    stream = _first_stream(clip, pixels)
    for layer in range(clip.n_layers):
        block = trace_block(clip, layer, stream)
        stream = block.output
        yield block


@dataclass(frozen=True)
class AttentionTrace:
    """Of a block of any kind its attention and what leaves it, in the precision of `compute_dtype`, the MLP in the model's own."""

    stream: Tensor  # [B, N, D]
    attention: Tensor  # [B, H, N, N]
    output: Tensor  # [B, N, D]


def trace_attention(clip: Clip, layer: int, stream: Tensor) -> AttentionTrace | BlockTrace:
    """Run a block of any kind, differentiably by its attention and the stream [B, N, D]; step by step where that can be done."""
    block = clip.tower.blocks[layer]
    heads, norm = block.attention(), block.norm()
    if _plain(block, heads):
        return trace_block(clip, layer, stream)
    inputs = stream if norm is None else norm(stream)
    attention = heads.pattern(inputs)
    middle = stream + heads.write(attention @ heads.values(inputs))
    return AttentionTrace(stream, attention, middle + block.feed(middle.to(clip.dtype)).to(middle))


def trace_streams(clip: Clip, pixels: Tensor) -> list[Tensor]:
    """The residual stream before each block and after the last, L+1 times [B, N, D]: the model's own where it is precise enough."""
    if clip.dtype == compute_dtype(clip):
        return list(streams_before(clip, pixels, range(clip.n_layers + 1)).values())
    streams = [_first_stream(clip, pixels)]
    for layer in range(clip.n_layers):
        streams.append(trace_attention(clip, layer, streams[-1]).output)
    return streams


def _first_stream(clip: Clip, pixels: Tensor) -> Tensor:
    if clip.tower.embedding is not None:
        return trace_embedding(clip, pixels).stream
    return streams_before(clip, pixels, [0])[0].to(compute_dtype(clip))


def _plain(block: Block, heads: Attention) -> bool:
    return not (block.first is None or heads.turns or heads.normed)


def _normed(norm: nn.Module, x: Tensor) -> Tensor:
    if isinstance(norm, nn.Identity):  # a tower without one
        return x
    return nn.functional.layer_norm(x, norm.normalized_shape, numbers(norm.weight), numbers(norm.bias), norm.eps)
