"""Recording and replacing what the neurons of the MLPs do, and running the rest of the model on what they left."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from ..models import Clip
from .base import changed, checked_output, compute_dtype, forward_hooks, parameters, project, visit
from .heads import attention_weights, class_attention


@dataclass(frozen=True)
class Neurons:
    """What the neurons of one MLP layer write (M neurons, residual width D)."""

    w_out: Tensor  # [M, D], with the layer scale if there is one
    b_out: Tensor  # [D]


def neuron_weights(clip: Clip, layer: int) -> Neurons:
    """Output weights of the neurons of a layer in the precision of `compute_dtype`."""
    block = clip.visual.transformer.resblocks[layer]
    w_proj, b_out = parameters(clip, block.mlp.c_proj.weight, block.mlp.c_proj.bias)
    if hasattr(block.ls_2, "gamma"):
        (gamma,) = parameters(clip, block.ls_2.gamma)
        w_proj, b_out = gamma[:, None] * w_proj, gamma * b_out
    return Neurons(w_proj.T, b_out)


def attention_norm(clip: Clip, layer: int) -> tuple[Tensor, Tensor]:
    """Weight and bias [D] of the layer norm before the attention of a layer, in the precision of `compute_dtype`."""
    norm = clip.visual.transformer.resblocks[layer].ln_1
    return tuple(parameters(clip, norm.weight, norm.bias))


@dataclass
class NeuronFlow:
    """What later heads carry of the neurons of some layers to the class token, in the precision of `compute_dtype`.

    Sums run over all tokens i, class token included, with the class token's attention a_i in the later layer, and the mean
    m_i and standard deviation s_i of the stream before that attention, as its layer norm takes them.
    """

    attended: dict[int, Tensor]  # neurons' layer -> [B, K, M], sum of a_i p_i / s_i; K heads, from the next layer to the last
    per_std: Tensor  # [B, L, H], sum of a_i / s_i
    mean_per_std: Tensor  # [B, L, H], sum of a_i m_i / s_i
    class_token: dict[int, Tensor]  # neurons' layer -> [B, M], their activations on the class token
    final: Tensor  # [B, D], the class token's stream as it enters the last layer norm


@torch.no_grad()
def record_neurons(clip: Clip, pixels: Tensor, layers: list[int]) -> NeuronFlow:
    """Run the image tower once and keep what the neurons of some layers (after the activation function) send on."""
    with neurons_recorded(clip, layers) as flow:
        representation = clip.encode_image(pixels)
    checked_output(clip, flow().final, representation)
    return flow()


@contextmanager
def neurons_recorded(clip: Clip, layers: list[int]) -> Iterator[Callable[[], NeuronFlow]]:
    """For a `with` block in which somebody else runs the image tower once, keep what `record_neurons` keeps.

    Gives a function to call after the run. Each later layer contracts the tokens away at once: nothing of size tokens x neurons x
    width is ever built.
    """
    dtype, blocks = compute_dtype(clip), clip.visual.transformer.resblocks
    neurons, attended, class_token = {}, {layer: [] for layer in layers}, {}
    per_std, mean_per_std, final = {}, {}, []

    def keep_neurons(layer):
        def hook(module, args, output):
            neurons[layer] = output.to(dtype)
            class_token[layer] = neurons[layer][:, 0].clone()

        return hook

    def attend(layer):
        def hook(module, args, output):
            stream = args[0].to(dtype)
            std = (stream.var(-1, correction=0) + module.eps).sqrt()[:, None]  # [B, 1, N+1]
            weights = class_attention(output.to(dtype), attention_weights(clip, layer)) / std
            per_std[layer] = weights.sum(-1)
            mean_per_std[layer] = (weights * stream.mean(-1)[:, None]).sum(-1)
            for earlier, activations in neurons.items():
                attended[earlier].append(weights @ activations)

        return hook

    def flow():
        stack = [torch.stack([sums[layer] for layer in range(clip.n_layers)], 1) for sums in (per_std, mean_per_std)]
        none = stack[0].new_zeros(len(final[0]), 0, clip.d_mlp)
        carried = {layer: torch.cat([none, *parts], 1) for layer, parts in attended.items()}
        return NeuronFlow(carried, *stack, class_token, final[0])

    hooks = [(blocks[layer].mlp.gelu, keep_neurons(layer)) for layer in layers]
    hooks += [(block.ln_1, attend(layer)) for layer, block in enumerate(blocks)]
    hooks += [(clip.visual.ln_post, lambda module, args, output: final.append(args[0][:, 0].to(dtype, copy=True)))]
    with forward_hooks(hooks):
        yield flow


def visit_neurons(clip: Clip, pixels: Tensor, visitor: Callable[[int, Tensor], None], layers: list[int]) -> None:
    """Run the image tower and call `visitor(layer, p)` with the activations p [B, N+1, M] of the neurons of each layer."""
    dtype, blocks = compute_dtype(clip), clip.visual.transformer.resblocks
    visit(clip, pixels, [(blocks[layer].mlp.gelu, lambda p, layer=layer: visitor(layer, p.to(dtype))) for layer in sorted(layers)])


@contextmanager
def edited_neurons(clip: Clip, layer: int, edit: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """For a `with` block, replace the activations p [B, N+1, M] of the neurons of a layer by edit(p).

    Raises TypeError where it returns None, ValueError where it returns another shape.
    """
    gelu = clip.visual.transformer.resblocks[layer].mlp.gelu
    with forward_hooks([(gelu, lambda module, args, output: changed(edit, layer, output))]):
        yield


def stream_after(clip: Clip, pixels: Tensor, layer: int) -> tuple[Tensor, Tensor]:
    """Activations of the neurons of a layer [B, N+1, M] and the residual stream that leaves the layer [B, N+1, D]."""
    block, found = clip.visual.transformer.resblocks[layer], []
    visit(clip, pixels, [(block.mlp.gelu, found.append), (block, found.append)])
    return found[0], found[1]


def streams_before(clip: Clip, pixels: Tensor, layers: Collection[int]) -> dict[int, Tensor]:
    """The residual stream [B, N+1, D] that enters each of some layers, by layer; layer L is what leaves the last one."""
    found, blocks = {}, clip.visual.transformer.resblocks
    places = [(blocks[layer - 1] if layer else clip.visual.ln_pre, layer) for layer in sorted(layers)]
    visit(clip, pixels, [(module, lambda stream, layer=layer: found.update({layer: stream})) for module, layer in places])
    return found


@torch.no_grad()
def run_from(clip: Clip, layer: int, stream: Tensor, every_token: bool = False) -> Tensor:
    """The representation [B, E] that the layers from `layer` on make of a residual stream [B, N+1, D].

    Of the last layer only the class token is computed, the keys and values folded into its query. every_token: run the last
    layer as the model does, so that the edits of `edited_blocks` reach it.
    """
    blocks = clip.visual.transformer.resblocks
    for block in blocks[layer:] if every_token else blocks[layer:-1]:
        stream = block(stream)
    class_token = stream[:, 0]
    if layer < clip.n_layers and not every_token:
        last, weights = blocks[-1], attention_weights(clip, clip.n_layers - 1)
        inputs = last.ln_1(stream).to(weights.b_o.dtype)
        mixed = torch.einsum("bhD,hdD->bhd", class_attention(inputs, weights) @ inputs, weights.w_v) + weights.b_v
        class_token = class_token + (torch.einsum("bhd,Dhd->bD", mixed, weights.w_o) + weights.b_o).to(stream.dtype)
        class_token = class_token + last.ls_2(last.mlp(last.ln_2(class_token)))
    return project(clip, class_token.to(compute_dtype(clip)))
