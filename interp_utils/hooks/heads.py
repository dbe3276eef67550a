"""Recording and replacing what attention heads do.

Attention is recomputed from the parameters: fused attention shows no pattern, and no hook sees a single head's output.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from ..models import Clip
from ..towers import Attention, ReadOut
from .base import attention_input, changed, checked_output, close, compute_dtype, for_class_token, forward_hooks, reading, visit


@dataclass
class Stream:
    """What one pass adds to what is read out, term by term, in the precision of `compute_dtype`.

    Of a tower that is read out at its class token this is that token's residual stream, of width D and not yet divided by its
    standard deviation. Of another it is what the K read-outs take of all tokens, side by side: D is K times the stream's width,
    and the read-outs' weights are in it.
    """

    embed: Tensor  # [B, D], as it enters the first block
    mlps: Tensor  # [B, L, D]
    attentions: Tensor  # [B, L, D], all heads of a layer together
    rows: Tensor  # [B, L, K, H, N], how much each read-out takes of each token through each head; K = 1 for a class token
    values: Tensor  # [B, L, K, H, d], values averaged with them
    shares: Tensor  # [B, L, K, J], of the biases of each attention, see `Attention.linear`
    final: Tensor  # [B, D], the sum of all terms
    read_out: ReadOut
    class_token: Tensor | None  # [B, L, D], what comes from the class token's attention to itself; None without a class token

    @property
    def attention(self) -> Tensor:
        """Where each head looks on behalf of what is read out, [B, L, H, N], rows sum to one; a class token's attention."""
        rows = self.rows.sum(2)
        return rows / rows.sum(-1, keepdim=True)

    @property
    def scale(self) -> Tensor | float:
        """What the terms are still to be multiplied by, [B, 1]: the inverse standard deviation of a class token's stream."""
        return 1.0 if self.class_token is None else self.read_out.rho[:, 0, :1]


@torch.no_grad()
def record(clip: Clip, pixels: Tensor) -> Stream:
    """Run the image tower once and keep the terms of what is read out.

    Of a class token nothing larger is stored. Where many tokens are read out, how much of each is known at the end alone, so
    what each attention reads and each MLP writes is kept for all tokens until then, [B, L, N, D] twice.
    Raises RuntimeError where the terms do not add up to the stream, or the stream does not give the representation.
    """
    dtype, tower, first, final = compute_dtype(clip), clip.tower, [], []
    alone = tower.final is not None
    inputs, mlps, found = ([None] * clip.n_layers for _ in range(3))

    def kept(x):
        return x[:, 0].to(dtype, copy=True) if alone else x.to(dtype)  # a view would keep all tokens alive

    def enters(x):
        first.append(kept(tower.stream[1](x)))

    def reads(layer):
        def keep(x):
            x = x.to(dtype)
            if alone:
                found[layer] = _taken(tower.blocks[layer].attention(), x, x.new_ones(len(x), 1, 1), [0])
            else:
                inputs[layer] = x

        return keep

    places = [((tower.stream[0], True), enters)]
    places += [(attention_input(block), reads(layer)) for layer, block in enumerate(tower.blocks)]
    places += [((b.mlp, False), lambda x, k=k: mlps.__setitem__(k, kept(x))) for k, b in enumerate(tower.blocks)]
    places += [((tower.blocks[-1].whole, False), lambda x: final.append(kept(x)))]
    after, before = reading(places)
    with forward_hooks(after, before + for_class_token(clip)):
        representation = clip.encode_image(pixels)
    (first,), (final,) = first, final
    read_out = tower.read_out(final[:, None] if alone else final)
    if not alone:
        found = [_taken(block.attention(), x, read_out.rho) for block, x in zip(tower.blocks, inputs)]
        first, *mlps = ((read_out.rho @ x).flatten(1) for x in (first, *mlps))
    checked_output(clip, tower.final()(final) if alone else read_out(final), representation)
    final = final if alone else (read_out.rho @ final).flatten(1)
    rows, values, shares, attentions, own = zip(*found)
    own = torch.stack(own, 1) if alone else None
    stacked = [torch.stack(parts, 1) for parts in (mlps, attentions, rows, values, shares)]
    stream = Stream(first, *stacked, final, read_out, own)
    if not close(stream.embed + stream.mlps.sum(1) + stream.attentions.sum(1), stream.final, clip.dtype):
        raise RuntimeError(
            f"what the parts of {clip.name} write does not add up to the stream that is read out: its blocks do something else "
            "than their structure says, or an edit changes what its attention writes. Decompose outside the edit (edits of MLPs "
            "and neurons may stay); in half precision, also try float32"
        )
    return stream


def _taken(weights: Attention, x: Tensor, rho: Tensor, queries: list[int] | None = None) -> tuple[Tensor, ...]:
    """Rows, values, biases' shares, what all heads write, and of a class token what comes from itself."""
    rows, shares = weights.effective(x, rho, queries)
    values = weights.carried(x, rows)
    own = class_written(x, weights, rows[:, 0], shares[:, 0]) if queries else None
    return rows, values, shares, weights.sent(values, shares).flatten(1), own


def class_written(inputs: Tensor, weights: Attention, rows: Tensor, shares: Tensor) -> Tensor:
    """What the class token's attention to itself adds to its stream, all heads together, [B, D] (thesis table A.1).

    rows: [B, H, N+1] and shares: [B, J], as `Attention.effective` gives them for the class token.
    """
    values = torch.einsum("bD,hdD->bhd", inputs[:, 0], weights.w_v) + weights.b_v
    w, biases = weights.linear()
    return torch.einsum("bh,bhd,Dhd->bD", rows[..., 0], values, w) + shares @ biases / inputs.shape[1]


def mixed_values(inputs: Tensor, weights: Attention, heads: list[int] | slice = slice(None)) -> Tensor:
    """Values of some heads averaged at every token, [B, K, N, d], from the attention's input [B, N, D]."""
    return weights.mixed(inputs, heads=heads)


def head_outputs(inputs: Tensor, weights: Attention, heads: list[int]) -> Tensor:
    """What some heads write to every token, [B, K, N, D], from the attention's input [B, N, D].

    The output bias of the layer is shared equally by its heads; a norm between the heads and the stream is frozen.
    """
    w, biases = weights.linear()
    if not weights.normed:
        return torch.einsum("bhnd,Dhd->bhnD", mixed_values(inputs, weights, heads), w[:, heads]) + biases[0] / len(weights.w_q)
    mixed = mixed_values(inputs, weights)
    scale, shares = weights.frozen(mixed)
    written = torch.einsum("bhnd,Dhd->bhnD", mixed[:, heads], w[:, heads]) * scale[:, None, :, None]
    return written + (shares @ biases)[:, None] / len(weights.w_q)


@contextmanager
def edited_blocks(
    clip: Clip, attention: dict[int, Callable[[Tensor, Tensor], Tensor]], mlp: dict[int, Callable[[Tensor], Tensor]]
) -> Iterator[None]:
    """For a `with` block, replace what layers write: attention[l](input, output) and mlp[l](output) return the new output.

    input: what the attention of the layer reads, output: what it or the MLP adds to the stream; both [B, N, D].
    Raises TypeError where one returns None, ValueError where it returns another shape.
    """
    inputs: dict[int, Tensor] = {}
    blocks = clip.tower.blocks
    places = [(attention_input(blocks[layer]), lambda x, layer=layer: inputs.update({layer: x})) for layer in attention]
    after, before = reading(places)
    for layer, edit in attention.items():

        def write(module, args, output, layer=layer, edit=edit):
            return changed(edit, layer, inputs.pop(layer), output)

        after.append((blocks[layer].writes, write))
    for layer, edit in mlp.items():
        after.append((blocks[layer].mlp, lambda module, args, output, layer=layer, edit=edit: changed(edit, layer, output)))
    with forward_hooks(after, before):
        yield


def visit_attention_inputs(
    clip: Clip, pixels: Tensor, visitor: Callable[[int, Tensor], None], layers: list[int] | None = None
) -> None:
    """Run the image tower and call `visitor(layer, x)` with the input x [B, N, D] of each layer's attention.

    Only one layer's x is alive at a time, and the pass ends after the last layer that is wanted.
    """
    dtype, blocks = compute_dtype(clip), clip.tower.blocks
    layers = range(clip.n_layers) if layers is None else sorted(layers)
    visit(clip, pixels, [(attention_input(blocks[layer]), lambda x, layer=layer: visitor(layer, x.to(dtype))) for layer in layers])
