"""Recording and replacing what the neurons of the MLPs do, and running the rest of the model on what they left."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from ..models import Clip
from ..towers import ReadOut
from .base import attention_input, changed, checked_output, compute_dtype, for_class_token, forward_hooks, read, reading, visit


@dataclass
class NeuronFlow:
    """What later heads carry of the neurons of some layers to what is read out, in the precision of `compute_dtype`.

    Sums run over all tokens i, with how much a_i each of K read-outs takes of them through a later head (of a class token: its
    attention), and the mean m_i and standard deviation s_i of the stream before that attention, as its layer norm takes them.
    p_i are the neurons' activations, times the scale of a norm that comes after them, if one does.
    """

    attended: dict[int, Tensor]  # neurons' layer -> [B, heads x K, M], sum of a_i p_i / s_i; from the next layer to the last
    per_std: Tensor  # [B, L, H], sum of a_i / s_i, over all read-outs
    mean_per_std: Tensor  # [B, L, H], sum of a_i m_i / s_i
    taken: dict[int, Tensor]  # neurons' layer -> [B, K, M], what the read-outs take of them at once; a class token's activations
    final: Tensor  # [B, D], the class token's stream as it enters the last layer norm; else what the read-outs take of all tokens
    representation: Tensor  # [B, E]
    scale: Tensor  # [B, 1], what all sums are still to be multiplied by: a class token's inverse standard deviation, else 1
    read_out: ReadOut


@torch.no_grad()
def record_neurons(clip: Clip, pixels: Tensor, layers: list[int]) -> NeuronFlow:
    """Run the image tower once and keep what the neurons of some layers (after the activation function) send on."""
    alone = for_class_token(clip) if clip.n_layers - 1 not in layers else []  # here, where nobody else's hooks follow
    with forward_hooks([], alone), neurons_recorded(clip, layers) as recorded:
        representation = clip.encode_image(pixels)
    checked_output(clip, recorded().representation, representation)
    return recorded()


@contextmanager
def neurons_recorded(clip: Clip, layers: list[int]) -> Iterator[Callable[[], NeuronFlow]]:
    """For a `with` block in which somebody else runs the image tower once, keep what `record_neurons` keeps.

    Gives a function to call after the run. Where each later attention looks on behalf of what is read out is kept, and a layer's
    neurons are contracted with all of that at once; of a tower that reads out many tokens, what the attentions read is kept until
    the read-out is known. Nothing of size tokens x neurons x width is ever built.
    """
    dtype, tower = compute_dtype(clip), clip.tower
    alone, blocks = tower.final is not None, tower.blocks
    neurons, taken, streams, inputs, looks, sums, final = {}, {}, {}, {}, {}, {}, []

    def keep_neurons(layer):
        def keep(x):
            x = x.to(dtype)
            last = blocks[layer].last_linear()
            neurons[layer] = x if last.after is None else x * last.frozen(x)[..., None]
            if alone:
                taken[layer] = neurons[layer][:, :1].clone()

        return keep

    def keep_stream(layer):
        def keep(x):
            norm, x = blocks[layer].norm(), x.to(dtype)
            streams[layer] = None if norm is None else norm.scale(x)[:, None, None], x.mean(-1)[:, None]

        return keep

    def attend(layer, x, rho, queries):
        (scale, mean), (rows, _) = streams.pop(layer), blocks[layer].attention().effective(x, rho, queries)
        rows = rows if scale is None else rows * scale
        whole = rows.sum(1)
        sums[layer] = whole.sum(-1), (whole * mean).sum(-1)
        looks[layer] = rows.transpose(1, 2).flatten(1, 2)  # heads, and for each the read-outs

    def reads(layer):
        def keep(x):
            inputs[layer] = x.to(dtype)
            if alone:
                attend(layer, inputs.pop(layer), x.new_ones(len(x), 1, 1, dtype=dtype), [0])

        return keep

    @cache
    @torch.no_grad()
    def flow() -> NeuronFlow:
        (stream,) = final
        read_out = tower.read_out(stream)
        found = tower.final()(stream[:, 0]) if alone else read_out(stream)
        scale, out, ends = read_out.rho[:, 0] if alone else torch.ones_like(found[:, :1]), taken, stream
        if not alone:
            out = {layer: read_out.rho @ activations for layer, activations in neurons.items()}
            for layer in range(clip.n_layers):
                attend(layer, inputs.pop(layer), read_out.rho, None)
            ends = read_out.rho @ stream
        stack = [torch.stack([sums[layer][k] for layer in range(clip.n_layers)], 1) for k in (0, 1)]
        later = {layer: [looks[0][:, :0], *(looks[after] for after in range(layer + 1, clip.n_layers))] for layer in layers}
        carried = {layer: torch.cat(rows, 1) @ neurons[layer] for layer, rows in later.items()}
        return NeuronFlow(carried, *stack, out, ends.flatten(1), found, scale, read_out)

    places = [((blocks[layer].last, True), keep_neurons(layer)) for layer in layers]
    places += [((block.whole, True), keep_stream(layer)) for layer, block in enumerate(blocks)]
    places += [(attention_input(block), reads(layer)) for layer, block in enumerate(blocks)]
    places += [((blocks[-1].whole, False), lambda x: final.append(x[:, :1].to(dtype, copy=True) if alone else x.to(dtype)))]
    with forward_hooks(*reading(places)):
        yield flow


def visit_neurons(clip: Clip, pixels: Tensor, visitor: Callable[[int, Tensor], None], layers: list[int]) -> None:
    """Run the image tower and call `visitor(layer, p)` with the activations p [B, N, M] of the neurons of each layer."""
    dtype, blocks = compute_dtype(clip), clip.tower.blocks
    visit(
        clip, pixels, [((blocks[layer].last, True), lambda p, layer=layer: visitor(layer, p.to(dtype))) for layer in sorted(layers)]
    )


@contextmanager
def edited_neurons(clip: Clip, layer: int, edit: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """For a `with` block, replace the activations p [B, N, M] of the neurons of a layer by edit(p).

    Raises TypeError where it returns None, ValueError where it returns another shape.
    """
    last = clip.tower.blocks[layer].last
    with forward_hooks([], before=[(last, lambda module, args: changed(edit, layer, args[0]))]):
        yield


def stream_after(clip: Clip, pixels: Tensor, layer: int) -> tuple[Tensor, Tensor]:
    """Activations of the neurons of a layer [B, N, M] and the residual stream that leaves the layer [B, N, D]."""
    block, found = clip.tower.blocks[layer], []
    visit(clip, pixels, [((block.last, True), found.append), ((block.whole, False), found.append)])
    return found[0], found[1]


def streams_before(clip: Clip, pixels: Tensor, layers: Collection[int]) -> dict[int, Tensor]:
    """The residual stream [B, N, D] that enters each of some layers, by layer; layer L is what leaves the last one."""
    found, blocks = {}, clip.tower.blocks
    places = {layer: (blocks[layer].whole, True) if layer < len(blocks) else (blocks[-1].whole, False) for layer in layers}
    visit(clip, pixels, [(places[layer], lambda x, layer=layer: found.update({layer: x})) for layer in sorted(layers)])
    return found


@torch.no_grad()
def run_from(clip: Clip, layer: int, stream: Tensor, every_token: bool = False) -> Tensor:
    """The representation [B, E] that the layers from `layer` on make of a residual stream [B, N, D].

    Where a class token alone is read out, of the last layer no other token is computed. every_token: run the last layer as the
    model does, so that the edits of `edited_blocks` reach it.
    """
    tower = clip.tower
    short = tower.final is not None and layer < clip.n_layers and not every_token
    for block in tower.blocks[layer:-1] if short else tower.blocks[layer:]:
        stream = block.run(stream)
    if short:
        last, weights, dtype = tower.blocks[-1], tower.blocks[-1].attention(), compute_dtype(clip)
        inputs = (stream if last.reads is None else last.reads(stream)).to(dtype)
        rows, shares = weights.effective(inputs, inputs.new_ones(len(inputs), 1, 1), [0])
        stream = stream[:, :1] + weights.sent(weights.carried(inputs, rows), shares).to(stream.dtype)
        stream = stream + last.feed(stream)
    return read(clip, stream)
