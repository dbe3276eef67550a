"""Minimal circuits for a sub-task: the few heads and neurons that keep it, all others at their mean (thesis, chapter 5).

A node is a head or a neuron. A mask [P] says how much of each node stays: 1 leaves it alone, 0 puts its mean over images in its
place, token by token, and the later layers see that. Nodes are numbered heads first, layer by layer, then neurons.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from ..accumulating import Several
from ..checks import checked_count
from ..heads.direct import direct_effects, read_out_matrix
from ..hooks import (
    attention_input,
    attention_weights,
    compute_dtype,
    edited_neurons,
    neuron_weights,
    neurons_recorded,
    read,
    streams_before,
    visit,
)
from ..models import Clip
from ..moments import Moments
from ..neurons.second_order import Lines, SecondOrder
from ..statistics import interval
from ..stream import feed


@dataclass(frozen=True)
class Task:
    """Images of two kinds and the direction [E] that should tell them apart: text of the second kind less text of the first."""

    pixels: Tensor  # [B, 3, H, W]
    signs: Tensor  # [B], -1 for the first kind, 1 for the second
    direction: Tensor

    def logits(self, representations: Tensor) -> Tensor:
        """Logit difference (of cosines) in favour of the right answer, [..., B], of representations [..., B, E]."""
        cosines = F.normalize(representations, dim=-1) @ self.direction.to(representations)
        return cosines * self.signs.to(cosines)


def n_nodes(clip: Clip) -> int:
    """Heads and neurons of all layers."""
    return clip.n_layers * (clip.n_heads + clip.d_mlp)


def node_name(clip: Clip, node: int) -> str:
    """ "L5H2" or "L5N17". Raises IndexError for a node that is not there."""
    if not 0 <= node < n_nodes(clip):
        raise IndexError(f"no node {node}: the model has {n_nodes(clip)}")
    heads = clip.n_layers * clip.n_heads
    kind, width, place = ("H", clip.n_heads, node) if node < heads else ("N", clip.d_mlp, node - heads)
    return f"L{place // width}{kind}{place % width}"


@dataclass(frozen=True)
class NodeMeans:
    """What takes a node's place: its mean over images at each token."""

    values: Tensor  # [L, H, N, d], of heads, before the output weights
    activations: Tensor  # [L, N, M], of neurons


def node_means(clip: Clip, images, **options) -> NodeMeans:
    """Means of all heads and neurons over images (a dataset, or a tensor of pixels); options: those of `feed`."""
    sums = _NodeSums(clip)
    feed(clip, images, [(sums, lambda batch: batch.pixels)], **options)
    return NodeMeans(sums.means("values"), sums.means("activations"))


class _NodeSums(Several):
    """Mean of what every node does at each token: a statistic that takes pixels."""

    def __init__(self, clip: Clip):
        self.clip = clip
        super().__init__({(kind, layer): Moments() for kind in ("values", "activations") for layer in range(clip.n_layers)})

    def means(self, kind: str) -> Tensor:
        """[L, ...]"""
        return torch.stack([self.members[kind, layer].mean for layer in range(self.clip.n_layers)]).to(
            self.clip.device, self.clip.dtype
        )

    def update(self, pixels: Tensor) -> None:
        clip, dtype, places = self.clip, compute_dtype(self.clip), []

        def heads(layer, x):
            self.members["values", layer].update(attention_weights(clip, layer).mixed(x.to(dtype)))

        def neurons(layer, p):
            self.members["activations", layer].update(p.to(dtype))

        for layer, block in enumerate(clip.tower.blocks):
            places += [(attention_input(block), partial(heads, layer)), ((block.last, True), partial(neurons, layer))]
        visit(clip, clip.pixels(pixels), places)


def _run(clip: Clip, means: NodeMeans, mask: Tensor, stream: Tensor, start: int = 0, computed: Tensor | None = None) -> Tensor:
    """Representations [B, E] that the layers from `start` on make of a stream [B, N, D] under a mask [P].

    Where a class token alone is read out, of the last layer no other token is computed. computed: bool [P], False where a node's
    own activation is not needed, by default where nothing of it stays.
    """
    n_heads = clip.n_layers * clip.n_heads
    computed = mask != 0 if computed is None else computed
    heads = mask[:n_heads].unflatten(0, (clip.n_layers, clip.n_heads, 1, 1))
    neurons, some = (each[n_heads:].unflatten(0, (clip.n_layers, clip.d_mlp)) for each in (mask, computed))
    for layer, block in list(enumerate(clip.tower.blocks))[start:]:
        alone = clip.tower.final is not None and layer == clip.n_layers - 1
        n_tokens, weights = 1 if alone else stream.shape[1], block.attention()
        inputs = (stream if block.reads is None else block.reads(stream)).to(compute_dtype(clip))
        mixed = _kept(weights.mixed(inputs, n_tokens), means.values[layer, :, :n_tokens], heads[layer])
        stream = stream[:, :n_tokens] + weights.write(mixed).to(stream)
        stream = stream + _fed(clip, layer, stream, means.activations[layer, :n_tokens], neurons[layer], some[layer]).to(stream)
    return read(clip, stream)


def _fed(clip: Clip, layer: int, stream: Tensor, means: Tensor, stay: Tensor, some: Tensor) -> Tensor:
    """What an MLP adds to a stream [B, N, D] with neurons at their means [N, M]; only some of them, bool [M], are computed."""
    block = clip.tower.blocks[layer]
    last = block.last_linear()
    if block.first is None or last.after is not None:
        with edited_neurons(clip, layer, lambda p: _kept(p, means, stay)):
            return block.feed(stream)
    norm, linear, activation = block.first
    bias = None if linear.bias is None else linear.bias[some]
    activations = activation(F.linear(norm(stream), linear.weight[some], bias)).to(last.w_out)
    rest = means[:, ~some].to(last.w_out) @ last.w_out[~some] + last.b_out
    return _kept(activations, means[:, some], stay[some]) @ last.w_out[some] + rest


def _kept(x: Tensor, mean: Tensor, stay: Tensor) -> Tensor:
    return mean.to(x).lerp(x, stay.to(x))


@torch.no_grad()
def run_circuits(clip: Clip, pixels: Tensor, means: NodeMeans, masks: Tensor, portion: int = 128) -> Tensor:
    """Representations [K, B, E] of the images, `portion` at a time, under each of K masks [K, P].

    Layers before the first that a mask touches run once for all masks. Raises ValueError for masks of another size.
    """
    _check_size(clip, masks)
    n_heads = clip.n_layers * clip.n_heads
    parts = [kind.unflatten(1, (clip.n_layers, -1)) != 1 for kind in (masks[:, :n_heads], masks[:, n_heads:])]
    touched = torch.cat(parts, 2).any(2)  # [K, L]
    starts = torch.where(touched.any(1), touched.int().argmax(1), clip.n_layers)
    found, masks = torch.empty(len(masks), len(pixels), clip.d_embed).float(), masks.to(clip.device)
    for begin in range(0, len(pixels), portion):
        few, reached = slice(begin, begin + portion), 0
        stream = streams_before(clip, pixels[few], [0])[0]
        for k in starts.argsort().tolist():
            for block in clip.tower.blocks[reached : starts[k]]:
                stream = block.run(stream)
            reached = starts[k]
            found[k, few] = _run(clip, means, masks[k], stream, reached).float().cpu()
    return found


def _check_size(clip: Clip, masks: Tensor) -> None:
    if masks.shape[-1] != n_nodes(clip):
        raise ValueError(f"need masks of {n_nodes(clip)} nodes, got {list(masks.shape)}")


@dataclass(frozen=True)
class Faithfulness:
    """What K circuits keep of a task, on B images."""

    shares: Tensor  # [K, B], each image's logit difference, 0 at the empty circuit's mean and 1 at the whole model's
    right: Tensor  # bool [K, B], whether it is positive
    recovered_interval: Tensor  # [2, K], 95 percent, over images
    accuracy_interval: Tensor  # [2, K]
    whole_accuracy: float  # of the whole model
    ends: Tensor  # [2, B], each image's logit difference in the empty circuit and in the whole model

    @property
    def recovered(self) -> Tensor:
        """Share of the mean logit difference, [K]: 0 for the empty circuit, 1 for the whole model."""
        return self.shares.mean(1)

    @property
    def accuracy(self) -> Tensor:
        """Share of images with a positive logit difference, [K]."""
        return self.right.float().mean(1)


def faithfulness(clip: Clip, task: Task, means: NodeMeans, masks: Tensor, ends: Tensor | None = None, **options) -> Faithfulness:
    """How much of a task circuits [K, P] keep: (m(circuit) - m(empty)) / (m(whole) - m(empty)), m the mean logit difference.

    Read it beside the accuracy: a circuit may keep much of the one and little of the other. ends: of another `Faithfulness` on the
    same images and means, so that they are not run again.
    Raises ValueError where the whole model does no better at the task than the empty circuit, or means are not finite.
    """
    masks = masks.float().cpu()
    if ends is None:
        masks = torch.cat([torch.zeros(1, n_nodes(clip)), torch.ones(1, n_nodes(clip)), masks])
    distinct, which = masks.unique(dim=0, return_inverse=True)  # rankings share circuits
    logits = task.logits(run_circuits(clip, task.pixels, means, distinct, **options))[which]
    logits = logits if ends is None else torch.cat([ends, logits])
    empty, whole = logits[:2].mean(1)
    if not whole > empty:
        raise ValueError(f"the model's mean logit difference, {whole:.3f}, is not above that of the empty circuit, {empty:.3f}")

    def both(rows):  # [2, K]; the two ends are of the images drawn as well
        mean = logits[:, rows].mean(1)
        return torch.stack([(mean[2:] - mean[0]) / (mean[1] - mean[0]), (logits[2:, rows] > 0).float().mean(1)])

    low_high = torch.from_numpy(interval(both, logits.shape[1])).float()  # [2, 2, K]
    shares, right = (logits[2:] - empty) / (whole - empty), logits > 0
    return Faithfulness(shares, right[2:], *low_high.unbind(1), right[1].float().mean().item(), logits[:2])


@torch.no_grad()
def effect_scores(task: Task, orders: Sequence[SecondOrder], portion: int = 50) -> Tensor:
    """Score of each node by the thesis's effects, [P]: mean contribution to the logit difference along the task's direction.

    Heads: their direct effect. Neurons: first-order plus second-order effect. Constants cancel where both kinds of images are
    equally many. orders: second-order effects of all layers but the last, whose neurons have none.
    Raises ValueError where a layer is missing.
    """
    clip, ln, by_layer = orders[0].clip, orders[0].ln, {order.layer: order for order in orders}
    if sorted(by_layer) != list(range(clip.n_layers - 1)):
        raise ValueError(f"need the layers 0 to {clip.n_layers - 2}, got {sorted(by_layer)}")
    direction = task.direction.to(clip.device, compute_dtype(clip))
    lines = {layer: Lines(order, direction.expand(clip.d_mlp, -1)) for layer, order in by_layer.items()}
    matrix = read_out_matrix(clip, ln)
    read_out = (matrix @ direction).unflatten(0, (-1, clip.d_model)).T  # [D, K]
    first = [(neuron_weights(clip, layer).linear()[0] @ read_out).T for layer in range(clip.n_layers)]  # [K, M]
    heads, neurons = Moments(), Moments()
    for start in range(0, len(task.pixels), portion):
        pixels, sign = task.pixels[start : start + portion], task.signs[start : start + portion].to(clip.device)
        with neurons_recorded(clip, list(range(clip.n_layers))) as recorded:  # one run for both
            fx = direct_effects(clip, pixels, ln)
        flow = recorded()
        length = fx.total().norm(dim=-1)
        heads.update(torch.einsum("blhE,E,b->blh", fx.heads(), direction, sign / length).flatten(1))
        rows = [(flow.taken[layer] * first[layer]).sum(1) * flow.scale for layer in range(clip.n_layers)]
        for layer, order in by_layer.items():
            unit = length[:, None] if order.relative else 1
            rows[layer] = rows[layer] + order.on(pixels, flow).along(lines[layer]) * unit
        neurons.update((torch.stack(rows, 1) * (sign / length)[:, None, None]).flatten(1))
    return torch.cat([heads.mean, neurons.mean]).float().cpu()


def patching_scores(clip: Clip, task: Task, means: NodeMeans, mask: Tensor | None = None, portion: int = 50) -> Tensor:
    """Attribution patching: what the logit difference would lose without each node, to first order, [P] (Nanda 2023).

    The gradient with respect to a node's mask is the gradient with respect to its activation times (activation - mean), summed
    over tokens: one backward pass for all nodes. mask: where to take it, the whole model by default; a node outside of the
    circuit then has what it would add. Plain patching is `run_circuits` with one node left out at a time.
    """
    mask = torch.ones(n_nodes(clip)) if mask is None else mask
    return _slopes(clip, task, means, mask, torch.ones_like(mask).bool(), portion)


def _slopes(clip: Clip, task: Task, means: NodeMeans, mask: Tensor, computed: Tensor, portion: int = 50) -> Tensor:
    """`patching_scores` of the nodes that are computed, bool [P]; 0 for the neurons that are not."""
    _check_size(clip, mask)
    lost, own, computed = 0, mask.float().to(clip.device, copy=True).requires_grad_(), computed.to(clip.device)
    for start in range(0, len(task.pixels), portion):
        few = slice(start, start + portion)
        part = Task(task.pixels[few], task.signs[few], task.direction)
        with torch.enable_grad():
            ran = _run(clip, means, own, streams_before(clip, part.pixels, [0])[0], computed=computed)
            logits = part.logits(ran.float())
            lost = lost + torch.autograd.grad(logits.sum(), own)[0]  # asked for by name: none reaches the parameters
    return (lost / len(task.pixels)).float().cpu()


def top_masks(scores: Tensor, sizes: Sequence[int]) -> Tensor:
    """The circuits of the nodes with the highest scores, one of each size: float [K, P]; give |scores| for all that matter."""
    order, masks = scores.argsort(descending=True, stable=True), torch.zeros(len(sizes), len(scores))
    for mask, size in zip(masks, sizes):
        mask[order[: checked_count("size", size, len(scores), least=0)]] = 1
    return masks


def prune(clip: Clip, task: Task, means: NodeMeans, sizes: Sequence[int], scores: Tensor | None = None, **options) -> Tensor:
    """Greedy pruning: keep the nodes that matter most in what is left of the model, again for each size: float [K, P].

    sizes: falling. The scores are the absolute ones of `patching_scores` in the current circuit; scores: those of the whole model,
    where they are known already. Raises ValueError where sizes do not fall.
    """
    if list(sizes) != sorted(set(sizes), reverse=True):
        raise ValueError(f"sizes must fall, got {list(sizes)}")
    mask, masks = torch.ones(n_nodes(clip)), []
    for size in sizes:
        if masks or scores is None:  # of the nodes that are left alone
            scores = _slopes(clip, task, means, mask, mask != 0, **options)
        mask = top_masks(scores.abs().masked_fill(mask == 0, -1), [size])[0]
        masks.append(mask)
    return torch.stack(masks)
