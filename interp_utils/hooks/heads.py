"""Recording and replacing what attention heads do.

Attention is recomputed from the parameters: `nn.MultiheadAttention` passes the weights of `out_proj` as tensors, so a hook
there never fires, and its fast path shows no attention pattern.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from ..models import Clip
from .base import changed, checked_output, close, compute_dtype, forward_hooks, parameters, visit


@dataclass(frozen=True)
class Heads:
    """Parameters of one layer's attention by head (H heads of width d, residual width D), in the precision of `compute_dtype`."""

    w_q: Tensor  # [H, d, D]
    b_q: Tensor  # [H, d]
    w_k: Tensor  # [H, d, D]
    b_k: Tensor  # [H, d]
    w_v: Tensor  # [H, d, D]
    b_v: Tensor  # [H, d]
    w_o: Tensor  # [D, H, d], with the layer scale if there is one
    b_o: Tensor  # [D]


def attention_weights(clip: Clip, layer: int) -> Heads:
    """Query, key, value and output parameters of a layer."""
    block = clip.visual.transformer.resblocks[layer]
    out = block.attn.out_proj
    w_in, b_in, w_o, b_o = parameters(clip, block.attn.in_proj_weight, block.attn.in_proj_bias, out.weight, out.bias)
    w_q, w_k, w_v = w_in.unflatten(0, (3, clip.n_heads, clip.d_head))
    b_q, b_k, b_v = b_in.unflatten(0, (3, clip.n_heads, clip.d_head))
    if hasattr(block.ls_1, "gamma"):
        (gamma,) = parameters(clip, block.ls_1.gamma)
        w_o, b_o = gamma[:, None] * w_o, gamma * b_o
    return Heads(w_q, b_q, w_k, b_k, w_v, b_v, w_o.unflatten(1, (clip.n_heads, clip.d_head)), b_o)


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
    attentions: Tensor  # [B, L, D], all heads of a layer together
    class_token: Tensor  # [B, L, D], the part of it that comes from the class token's attention to itself
    attention: Tensor  # [B, L, H, N+1], the class token's attention to each token
    values: Tensor  # [B, L, H, d], values averaged with that attention
    final: Tensor  # [B, D], the sum of all terms, as it enters the last layer norm


@torch.no_grad()
def record(clip: Clip, pixels: Tensor) -> Stream:
    """Run the image tower once and keep the terms of the class token's residual stream; nothing larger is stored.

    Raises RuntimeError where the terms do not add up to the stream, or the stream does not give the representation.
    """
    dtype, blocks = compute_dtype(clip), clip.visual.transformer.resblocks
    embed, final = [], []
    mlps, attentions, own, attention, values = ([None] * clip.n_layers for _ in range(5))

    def class_token(x):
        return x[:, 0].to(dtype, copy=True)  # a view would keep all tokens alive

    def keep_attention(layer):
        def hook(module, args, output):
            x, head = output.to(dtype), attention_weights(clip, layer)
            attention[layer] = class_attention(x, head)
            values[layer], attentions[layer] = attended(x, head, attention[layer])
            own[layer] = class_written(x, head, attention[layer])

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
        representation = clip.encode_image(pixels)
    stacked = [torch.stack(parts, 1) for parts in (mlps, attentions, own, attention, values)]
    stream = Stream(embed[0], *stacked, checked_output(clip, final[0], representation))
    if not close(stream.embed + stream.mlps.sum(1) + stream.attentions.sum(1), stream.final, clip.dtype):
        raise RuntimeError(
            f"what the parts of {clip.name} write does not add up to the class token's stream: its blocks do something else than "
            "their structure says, or an edit changes what its attention writes. Decompose outside the edit (edits of MLPs and "
            "neurons may stay); in half precision, also try float32"
        )
    return stream


def attended(inputs: Tensor, weights: Heads, attention: Tensor) -> tuple[Tensor, Tensor]:
    """Values averaged with the class token's attention [B, H, N+1], [B, H, d], and what all heads write of them, [B, D].

    inputs: of the attention, [B, N+1, D].
    """
    values = torch.einsum("bhD,hdD->bhd", attention @ inputs, weights.w_v) + weights.b_v
    return values, torch.einsum("bhd,Dhd->bD", values, weights.w_o) + weights.b_o


def class_written(inputs: Tensor, weights: Heads, attention: Tensor) -> Tensor:
    """What the class token's attention to itself adds to its stream, all heads together, [B, D] (thesis table A.1)."""
    values = torch.einsum("bD,hdD->bhd", inputs[:, 0], weights.w_v) + weights.b_v
    return torch.einsum("bh,bhd,Dhd->bD", attention[..., 0], values, weights.w_o) + weights.b_o / inputs.shape[1]


def attention_pattern(inputs: Tensor, weights: Heads, heads: list[int] | slice = slice(None)) -> Tensor:
    """Where some heads look from every token, [B, K, N+1, N+1], rows sum to one, from the attention's input [B, N+1, D]."""
    query = torch.einsum("bnD,hdD->bhnd", inputs, weights.w_q[heads]) + weights.b_q[heads][:, None]
    key = torch.einsum("bnD,hdD->bhnd", inputs, weights.w_k[heads])  # the keys' bias cancels in the softmax
    return (query @ key.mT * query.shape[-1] ** -0.5).softmax(-1)


def mixed_values(inputs: Tensor, weights: Heads, heads: list[int] | slice = slice(None), pattern: Tensor | None = None) -> Tensor:
    """Values of some heads averaged at every token, [B, K, N+1, d], from the attention's input [B, N+1, D].

    pattern: where the heads look, by default where they do by themselves (`attention_pattern`).
    """
    value = torch.einsum("bnD,hdD->bhnd", inputs, weights.w_v[heads]) + weights.b_v[heads][:, None]
    return (attention_pattern(inputs, weights, heads) if pattern is None else pattern) @ value


def head_outputs(inputs: Tensor, weights: Heads, heads: list[int]) -> Tensor:
    """What some heads write to every token, [B, K, N+1, D], from the attention's input [B, N+1, D].

    The output bias of the layer is shared equally by its heads.
    """
    mixed = mixed_values(inputs, weights, heads)
    return torch.einsum("bhnd,Dhd->bhnD", mixed, weights.w_o[:, heads]) + weights.b_o / len(weights.w_q)


@contextmanager
def edited_blocks(
    clip: Clip, attention: dict[int, Callable[[Tensor, Tensor], Tensor]], mlp: dict[int, Callable[[Tensor], Tensor]]
) -> Iterator[None]:
    """For a `with` block, replace what layers write: attention[l](input, output) and mlp[l](output) return the new output.

    input: what the attention of the layer reads, output: what it or the MLP adds to the stream; both [B, N+1, D].
    Raises TypeError where one returns None, ValueError where it returns another shape.
    """
    inputs: dict[int, Tensor] = {}
    hooks = []
    for layer, edit in attention.items():
        block = clip.visual.transformer.resblocks[layer]
        hooks.append((block.ln_1, lambda module, args, output, layer=layer: inputs.update({layer: output})))
        hooks.append(
            (block.ls_1, lambda module, args, output, layer=layer, edit=edit: changed(edit, layer, inputs.pop(layer), output))
        )
    for layer, edit in mlp.items():
        block = clip.visual.transformer.resblocks[layer]
        hooks.append((block.ls_2, lambda module, args, output, layer=layer, edit=edit: changed(edit, layer, output)))
    with forward_hooks(hooks):
        yield


def visit_attention_inputs(
    clip: Clip, pixels: Tensor, visitor: Callable[[int, Tensor], None], layers: list[int] | None = None
) -> None:
    """Run the image tower and call `visitor(layer, x)` with the input x [B, N+1, D] of each layer's attention.

    Only one layer's x is alive at a time, and the pass ends after the last layer that is wanted.
    """
    dtype, blocks = compute_dtype(clip), clip.visual.transformer.resblocks
    layers = range(clip.n_layers) if layers is None else sorted(layers)
    visit(clip, pixels, [(blocks[layer].ln_1, lambda x, layer=layer: visitor(layer, x.to(dtype))) for layer in layers])
