"""Recording what runs inside an untouched model. Nothing else in the package knows a layer's attribute name.

Attention is recomputed from the parameters: `nn.MultiheadAttention` passes the weights of `out_proj` as tensors, so a hook
there never fires, and its fast path shows no attention pattern.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .models import Clip


@contextmanager
def forward_hooks(hooks: list[tuple[nn.Module, Callable]]) -> Iterator[None]:
    """Install forward hooks for the duration of a `with` block; they are gone after it, also after an exception."""
    handles = []
    try:
        for module, hook in hooks:
            handles.append(module.register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True)
class Heads:
    """Parameters of the attention of one layer, split by head (H heads of width d, residual width D)."""

    w_q: Tensor  # [H, d, D]
    b_q: Tensor  # [H, d]
    w_k: Tensor  # [H, d, D]
    w_v: Tensor  # [H, d, D]
    b_v: Tensor  # [H, d]
    w_o: Tensor  # [D, H, d], with the layer scale if there is one
    b_o: Tensor  # [D]


def attention_weights(clip: Clip, layer: int) -> Heads:
    """Query, key, value and output parameters of a layer in the precision of `compute_dtype`."""
    block = clip.visual.transformer.resblocks[layer]
    dtype = compute_dtype(clip)
    w_q, w_k, w_v = block.attn.in_proj_weight.to(dtype).unflatten(0, (3, clip.n_heads, clip.d_head))
    b_q, _, b_v = block.attn.in_proj_bias.to(dtype).unflatten(0, (3, clip.n_heads, clip.d_head))
    w_o, b_o = block.attn.out_proj.weight.to(dtype), block.attn.out_proj.bias.to(dtype)
    if hasattr(block.ls_1, "gamma"):
        w_o, b_o = block.ls_1.gamma.to(dtype)[:, None] * w_o, block.ls_1.gamma.to(dtype) * b_o
    return Heads(w_q, b_q, w_k, w_v, b_v, w_o.unflatten(1, (clip.n_heads, clip.d_head)), b_o)


@dataclass(frozen=True)
class FinalNorm:
    """The last layer norm and the projection into the joint space."""

    gamma: Tensor  # [D]
    beta: Tensor  # [D]
    eps: float
    proj: Tensor  # [D, E]


def final_norm(clip: Clip) -> FinalNorm:
    """Parameters of `ln_post` and `proj` in the precision of `compute_dtype`."""
    norm, dtype = clip.visual.ln_post, compute_dtype(clip)
    return FinalNorm(norm.weight.to(dtype), norm.bias.to(dtype), norm.eps, clip.visual.proj.to(dtype))


def compute_dtype(clip: Clip) -> torch.dtype:
    """Precision of what we compute ourselves: the model's own, but at least float32."""
    return torch.float64 if clip.dtype == torch.float64 else torch.float32


def class_attention(inputs: Tensor, head: Heads) -> Tensor:
    """Attention pattern of the class token over all tokens, [B, H, N+1], from the attention's input [B, N+1, D].

    The query is folded into the keys first, so keys are never built.
    """
    query = torch.einsum("hdD,bD->bhd", head.w_q, inputs[:, 0]) + head.b_q
    folded = torch.einsum("bhd,hdD->bhD", query * head.w_q.shape[1] ** -0.5, head.w_k)
    return (folded @ inputs.mT).softmax(dim=-1)  # the keys' bias adds the same to all tokens and cancels


@dataclass
class Stream:
    """What one pass adds to the class token's residual stream, term by term, in the precision of `compute_dtype`."""

    embed: Tensor  # [B, D], the class token after ln_pre
    mlps: Tensor  # [B, L, D]
    attention: Tensor  # [B, L, H, N+1], the class token's attention to each token
    values: Tensor  # [B, L, H, d], values averaged with that attention
    class_values: Tensor  # [B, L, H, d], the class token's own part of that average
    final: Tensor  # [B, D], the sum of all terms, as it enters the last layer norm


@torch.no_grad()
def record(clip: Clip, pixels: Tensor) -> Stream:
    """Run the image tower once and keep the terms of the class token's residual stream; nothing larger is stored."""
    dtype, blocks = compute_dtype(clip), clip.visual.transformer.resblocks
    embed, final, mlps = [], [], [None] * clip.n_layers
    attention, values, class_values = ([None] * clip.n_layers for _ in range(3))

    def class_token(x):
        return x[:, 0].to(dtype, copy=True)  # a view would keep all tokens alive

    def keep_attention(layer):
        def hook(module, args, output):
            x, head = output.to(dtype), attention_weights(clip, layer)
            attention[layer] = class_attention(x, head)
            values[layer] = torch.einsum("bhD,hdD->bhd", attention[layer] @ x, head.w_v) + head.b_v
            own = torch.einsum("bD,hdD->bhd", x[:, 0], head.w_v) + head.b_v
            class_values[layer] = attention[layer][:, :, :1] * own

        return hook

    def keep_mlp(layer):
        def hook(module, args, output):
            mlps[layer] = class_token(output)

        return hook

    hooks = [(block.ln_1, keep_attention(layer)) for layer, block in enumerate(blocks)]
    hooks += [(block.ls_2, keep_mlp(layer)) for layer, block in enumerate(blocks)]
    hooks += [(clip.visual.ln_pre, lambda module, args, output: embed.append(class_token(output)))]
    hooks += [(clip.visual.ln_post, lambda module, args, output: final.append(class_token(args[0])))]
    with forward_hooks(hooks):
        clip.encode_image(pixels)
    stacked = [torch.stack(parts, 1) for parts in (mlps, attention, values, class_values)]
    return Stream(embed[0], *stacked, final[0])


def head_outputs(inputs: Tensor, weights: Heads, heads: list[int]) -> Tensor:
    """What some heads write to every token, [B, K, N+1, D], from the attention's input [B, N+1, D].

    The output bias of the layer is shared equally by its heads.
    """
    w_q, b_q, w_k, w_v, b_v = (part[heads] for part in (weights.w_q, weights.b_q, weights.w_k, weights.w_v, weights.b_v))
    query = torch.einsum("bnD,hdD->bhnd", inputs, w_q) + b_q[:, None]
    key = torch.einsum("bnD,hdD->bhnd", inputs, w_k)  # the keys' bias cancels in the softmax
    value = torch.einsum("bnD,hdD->bhnd", inputs, w_v) + b_v[:, None]
    mixed = (query @ key.mT * w_q.shape[1] ** -0.5).softmax(-1) @ value
    return torch.einsum("bhnd,Dhd->bhnD", mixed, weights.w_o[:, heads]) + weights.b_o / len(weights.w_q)


@contextmanager
def edited_blocks(
    clip: Clip, attention: dict[int, Callable[[Tensor, Tensor], Tensor]], mlp: dict[int, Callable[[Tensor], Tensor]]
) -> Iterator[None]:
    """For a `with` block, replace what layers write: attention[l](input, output) and mlp[l](output) return the new output.

    input: what the attention of the layer reads, output: what it or the MLP adds to the stream; both [B, N+1, D].
    """
    inputs: dict[int, Tensor] = {}
    hooks = []
    for layer, edit in attention.items():
        block = clip.visual.transformer.resblocks[layer]
        hooks.append((block.ln_1, lambda module, args, output, layer=layer: inputs.update({layer: output})))
        hooks.append((block.ls_1, lambda module, args, output, layer=layer, edit=edit: edit(inputs.pop(layer), output)))
    for layer, edit in mlp.items():
        block = clip.visual.transformer.resblocks[layer]
        hooks.append((block.ls_2, lambda module, args, output, edit=edit: edit(output)))
    with forward_hooks(hooks):
        yield


class _Enough(Exception):
    """Ends a forward pass early."""


@torch.no_grad()
def visit_attention_inputs(
    clip: Clip, pixels: Tensor, visit: Callable[[int, Tensor], None], layers: list[int] | None = None
) -> None:
    """Run the image tower and call `visit(layer, x)` with the input x [B, N+1, D] of each layer's attention.

    Only one layer's x is alive at a time, and the pass ends after the last layer that is wanted.
    """
    dtype = compute_dtype(clip)
    layers = list(range(clip.n_layers)) if layers is None else layers

    def hook_for(layer):
        def hook(module, args, output):
            visit(layer, output.to(dtype))
            if layer == max(layers):
                raise _Enough

        return hook

    with forward_hooks([(clip.visual.transformer.resblocks[layer].ln_1, hook_for(layer)) for layer in layers]):
        try:
            clip.encode_image(pixels)
        except _Enough:
            pass


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
    kernel = conv.weight.to(dtype).flatten(1)
    embedded = patches @ kernel.T
    embedded = embedded if conv.bias is None else embedded + conv.bias.to(dtype)
    tokens = torch.cat([visual.class_embedding.to(dtype).expand(len(pixels), 1, -1), embedded], 1)
    positions = visual.positional_embedding.to(dtype)
    return EmbeddingTrace(patches, kernel, tokens, positions, _normed(visual.ln_pre, tokens + positions))


def trace_block(clip: Clip, layer: int, stream: Tensor) -> BlockTrace:
    """Run one block step by step, differentiably, on a residual stream [B, N+1, D]."""
    block, heads, dtype = clip.visual.transformer.resblocks[layer], attention_weights(clip, layer), stream.dtype
    b_k = block.attn.in_proj_bias.to(dtype).unflatten(0, (3, clip.n_heads, clip.d_head))[1]
    attention_input = _normed(block.ln_1, stream)
    query, key, value = (
        torch.einsum("bnD,hdD->bhnd", attention_input, weight) + bias[:, None]
        for weight, bias in ((heads.w_q, heads.b_q), (heads.w_k, b_k), (heads.w_v, heads.b_v))
    )
    attention = (query @ key.mT * clip.d_head**-0.5).softmax(-1)
    mixed = attention @ value
    attention_output = torch.einsum("bhnd,Dhd->bnD", mixed, heads.w_o) + heads.b_o
    middle = stream + attention_output
    mlp_input = _normed(block.ln_2, middle)
    w_fc, w_proj, b_proj = (p.to(dtype) for p in (block.mlp.c_fc.weight, block.mlp.c_proj.weight, block.mlp.c_proj.bias))
    if hasattr(block.ls_2, "gamma"):
        w_proj, b_proj = block.ls_2.gamma.to(dtype)[:, None] * w_proj, block.ls_2.gamma.to(dtype) * b_proj
    neurons = block.mlp.gelu(mlp_input @ w_fc.T + block.mlp.c_fc.bias.to(dtype))
    mlp_output = neurons @ w_proj.T + b_proj
    return BlockTrace(
        stream, attention_input, query, key, value, attention, mixed, attention_output, middle, mlp_input, neurons, mlp_output,
        middle + mlp_output, heads, w_fc, w_proj,
    )  # fmt: skip


def trace(clip: Clip, pixels: Tensor) -> Iterator[BlockTrace]:
    """Run the image tower step by step and yield its blocks from the first to the last; only what the caller keeps stays."""
    stream = trace_embedding(clip, pixels).stream
    for layer in range(clip.n_layers):
        block = trace_block(clip, layer, stream)
        stream = block.output
        yield block


def project(clip: Clip, stream: Tensor) -> Tensor:
    """The last layer norm and the projection, [..., D] -> [..., E]; of the class token's final stream: the representation."""
    norm = final_norm(clip)
    return torch.nn.functional.layer_norm(stream, norm.gamma.shape, norm.gamma, norm.beta, norm.eps) @ norm.proj


def _normed(norm: nn.Module, x: Tensor) -> Tensor:
    if isinstance(norm, nn.Identity):  # a tower without ln_pre
        return x
    return torch.nn.functional.layer_norm(x, norm.normalized_shape, norm.weight.to(x.dtype), norm.bias.to(x.dtype), norm.eps)
