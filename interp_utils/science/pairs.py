"""Neurons that act together: is the effect of ablating two of them the sum of their effects? (thesis, section 3.6)"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor

from ..hooks import edited_neurons, read, streams_before
from ..models import Clip

Neuron = tuple[int, int]  # layer, number


def pair_interaction(
    clip: Clip, pixels: Tensor, read_out: Tensor, means: dict[int, Tensor], first: Neuron, second: Neuron
) -> Tensor:
    """effect(both) - effect(first) - effect(second) on each image, [B], from four runs of the layers from the earlier neuron's on.

    The effect of neurons is how far the score <M(I), read_out> falls when they stand at their means. It equals the effect of
    the second once the first is gone, less its effect before: positive where one backs up the other, so that only the loss of
    both is felt; negative where one needs the other; 0 where they act on their own.
    read_out: [E], or one for each image, [B, E]; means: of each layer with a neuron to ablate, [N, M].
    """
    start = min(first, second)[0]
    stream = streams_before(clip, pixels, [start])[start]
    with torch.no_grad():
        none, one, two, both = (
            _score(clip, start, stream, read_out, means, ablated) for ablated in ([], [first], [second], [first, second])
        )
    return (none - both) - (none - one) - (none - two)


def attributions(
    clip: Clip, pixels: Tensor, read_out: Tensor, means: dict[int, Tensor], layer: int, ablated: Sequence[Neuron] = ()
) -> Tensor:
    """Estimate of the effect of each neuron of a layer, [B, M], from one run and its gradient (attribution patching; Nanda 2023).

    Sum over tokens of (activation - mean) times the gradient of the score: exact where the score is linear in the neuron.
    ablated: neurons of this or of earlier layers that stand at their means meanwhile. Other arguments: see `pair_interaction`.
    """
    if any(earlier > layer for earlier, _ in ablated):
        raise ValueError(f"ablated neurons must be of layer {layer} or before it, got {sorted(ablated)}")
    start, found = min([layer, *(earlier for earlier, _ in ablated)]), []
    stream = streams_before(clip, pixels, [start])[start]

    def leaf(activations):
        found.append(activations.detach().requires_grad_())
        return found[0]

    with torch.enable_grad():
        score = _score(clip, start, stream, read_out, means, ablated, (layer, leaf))
        (gradient,) = torch.autograd.grad(score.sum(), found[0])
    return ((found[0].detach() - means[layer].to(gradient)) * gradient).sum(1)


def interaction_row(
    clip: Clip, pixels: Tensor, read_out: Tensor, means: dict[int, Tensor], first: Neuron, layer: int, before: Tensor | None = None
) -> Tensor:
    """Estimate of `pair_interaction` of one neuron with every neuron of a layer, [B, M], from one more run and its gradient.

    The attribution of each once `first` is gone, less its attribution before; `before`: the latter, if there already. The layer
    is that of `first` or a later one.
    """
    if before is None:
        before = attributions(clip, pixels, read_out, means, layer)
    return attributions(clip, pixels, read_out, means, layer, [first]) - before


def _score(
    clip: Clip,
    start: int,
    stream: Tensor,
    read_out: Tensor,
    means: dict[int, Tensor],
    ablated: Sequence[Neuron],
    last: tuple[int, Callable[[Tensor], Tensor]] | None = None,
) -> Tensor:
    """<M(I), read_out> on each image, [B], with some neurons at their means, from the stream that enters the layer `start`.

    last: (layer, edit) that comes after these.
    """
    by_layer: dict[int, list[int]] = {}
    for layer, neuron in ablated:
        by_layer.setdefault(layer, []).append(neuron)

    def held(layer, neurons):
        def edit(activations):
            changed = activations.clone()
            changed[..., neurons] = means[layer][:, neurons].to(activations)
            return changed

        return edit

    with ExitStack() as stack:
        for layer, neurons in by_layer.items():
            stack.enter_context(edited_neurons(clip, layer, held(layer, neurons)))
        if last is not None:
            stack.enter_context(edited_neurons(clip, *last))
        for block in clip.tower.blocks[start:]:
            stream = block.run(stream)
        representation = read(clip, stream)
    return (representation * read_out.to(representation)).sum(-1)
