"""One direction for each neuron (thesis, section 3.3): fitted from its largest effects, while images stream by."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..heads.views import run_effects
from ..hooks import NeuronFlow, neurons_recorded, record_neurons
from ..models import Clip
from ..moments import Moments, TopK
from ..rounding import negligible
from ..stream import Batch, feed, in_pass
from .second_order import Effects, Lines, SecondOrder


@dataclass(frozen=True)
class RankOne:
    """The model phi_n(I) = b_n + x_n(I) r_n of each neuron's effect, x_n(I) = <phi_n(I) - b_n, r_n>.

    A neuron whose effect never varies, but for rounding, has a direction of zeros.
    """

    centre: Effects  # the mean effects, as a batch of one
    mean: Tensor  # b, [M, E]
    directions: Tensor  # r, [M, E], unit length
    lines: Lines  # the directions, ready for `Effects.along`
    thresholds: Tensor  # [M], the smallest of `top_norms`
    top_norms: Tensor  # |phi - b| of the images with the largest effects, [top, M], largest first
    top_images: Tensor  # their numbers, [top, M]
    top_share: Tensor  # [M], share of those effects' squared length that lies along the direction


def fit(
    orders: Sequence[SecondOrder],
    images,
    top: int = 100,
    beside: Sequence[tuple[object, Callable[[Batch], object]]] = (),
    **options,
) -> None:
    """Fit mean, direction and threshold of all neurons of some layers, in two passes over the images (thesis, section 3.3).

    The mean b is over all images. The direction is the first principal direction of the effects phi - b on the `top` images
    where they are longest (of fewer images: on all), without centring them again, with the sign that most of them have. The
    memory needed does not grow with the number of images. A DataLoader must not shuffle if `top_images` is to number the dataset.
    beside: statistics of chapter 2 for the first pass, as `feed` takes them, from the same run of the model.
    options: those of `feed`; with kept=stream.memory(images) both passes over a small set run the model once.
    Raises ValueError where the layers are of different models, conventions or units.
    """
    clip = check_alike(orders)
    means = [(Moments(), Moments()) for _ in orders]
    parts = [(mean[0], _view(orders, k, lambda effects, _: effects.coefficients)) for k, mean in enumerate(means)]
    parts += [(mean[1], _view(orders, k, lambda effects, _: effects.shares)) for k, mean in enumerate(means)]
    layers = [order.layer for order in orders]
    first = [(statistic, lambda batch, view=view: view(share_run(batch, layers))) for statistic, view in beside]
    feed(clip, images, first + parts, **in_pass(1, options))
    centres = [Effects(order, *(part.mean.to(order.values)[None] for part in mean)) for order, mean in zip(orders, means)]
    best = [TopK(top) for _ in orders]

    def largest(k: int):
        def view(effects: Effects, batch: Batch):
            centred = effects.less(centres[k])
            shares = centred.shares[..., None].expand(-1, -1, centred.coefficients.shape[2])
            return centred.norms(), batch.numbers, torch.cat([centred.coefficients, shares], 1)

        return view

    feed(clip, images, [(kept, _view(orders, k, largest(k))) for k, kept in enumerate(best)], **in_pass(2, options))
    for order, centre, kept in zip(orders, centres, best):
        found = []
        for chunk in order.chunks():
            written = order.written(chunk)
            vectors = torch.cat([written, order.residues.expand(len(written), -1, -1)], 1)
            found.append(first_direction(torch.einsum("tkn,nkE->ntE", kept.rows[..., chunk].to(vectors), vectors)))
        directions, share = (torch.cat(part) for part in zip(*found))
        norms = kept.values.to(directions)
        varies = ~negligible(norms[0], centre.norms()[0], norms.dtype)
        directions, share = directions * varies[:, None], share * varies
        lines = Lines(order, directions)
        order.fitted = RankOne(centre, centre.vectors()[0], directions, lines, norms[-1], norms, kept.images, share)


def first_direction(rows: Tensor) -> tuple[Tensor, Tensor]:
    """First principal direction through the origin of each neuron's rows [n, T, E]: [n, E], and the share it explains, [n].

    The sign is the one that more than half of the rows have; where half have either, that of the row that reaches farthest.
    """
    exact = (rows.cpu() if rows.device.type == "mps" else rows).double()
    smaller = exact @ exact.mT if exact.shape[1] < exact.shape[2] else exact.mT @ exact
    values, vectors = torch.linalg.eigh(smaller)
    first = vectors[..., -1:]
    direction = (exact.mT @ first if exact.shape[1] < exact.shape[2] else first)[..., 0]
    direction = torch.nn.functional.normalize(direction, dim=-1)
    along = torch.einsum("ntE,nE->nt", exact, direction)
    more = 2 * (along > 0).sum(1) - rows.shape[1]  # have this sign than the other
    farthest = along.gather(1, along.abs().argmax(1, keepdim=True))[:, 0]
    direction = torch.where((torch.where(more == 0, farthest, more) > 0)[:, None], direction, -direction)
    whole = values.clamp(min=0).sum(-1)
    direction = torch.where(whole[:, None] > 0, direction, 0)
    return direction.to(rows), (values[..., -1].clamp(min=0) / whole.clamp(min=1e-300)).to(rows)


@dataclass(frozen=True)
class Spread:
    """How a neuron's centred effects spread over directions, each [M]."""

    along: Tensor  # share of the variance along the fitted direction
    share: Tensor  # share along the first principal direction of all images, the most that any line can have
    participation: Tensor  # (sum of variances)^2 / sum of squared variances: how many directions really take part
    rank: int  # the most there can be: the number of later heads, or the width of the joint space


def spread(order: SecondOrder, images, **options) -> Spread:
    """Variance of each neuron's effect explained by one direction, beside the ceiling of its rank (thesis, table 3.1).

    A second-order effect lies in a space of at most K = (later layers) x H dimensions, whatever the image, so some
    concentration is no finding. With ln="split" the residue, which all neurons share, is left out.
    """
    match, spread_of, x_along = order.rank_one.lines.match, Moments(second=True), Moments(second=True)

    def coordinates(effects: Effects, _):
        if order.wide:
            return effects.vectors() - effects.residue[:, None]
        return torch.einsum("bkm,mjk->bmj", effects.coefficients, order.factor)

    def along(effects: Effects, _):
        return torch.einsum("bkm,km->bm", effects.coefficients, match)[..., None]

    feed(order.clip, images, [(spread_of, _view([order], 0, coordinates)), (x_along, _view([order], 0, along))], **options)
    values = torch.linalg.eigvalsh(spread_of.covariance)
    share, participation, whole = concentration(values, spread_of.varies)
    return Spread((x_along.covariance[:, 0, 0] / whole).float(), share.float(), participation.float(), values.shape[-1])


def concentration(values: Tensor, varies: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """From variances along principal directions [M, K], rising: share of the largest, participation, and their sum, [M] each.

    Both are 0, and the sum infinite, where nothing varies, bool [M].
    """
    values = values.clamp(min=0)
    whole = torch.where(varies, values.sum(-1), torch.inf)
    participation = torch.where(varies, whole.square() / values.square().sum(-1), 0)
    return values[..., -1] / whole, participation, whole


def check_alike(orders: Sequence[SecondOrder]) -> Clip:
    """The model of some layers. Raises ValueError where they are of different models, conventions or units."""
    clip, ln, relative = orders[0].clip, orders[0].ln, orders[0].relative
    if any((order.clip, order.ln, order.relative) != (clip, ln, relative) for order in orders):
        raise ValueError("take layers together only if they are of one model, with the same ln and relative")
    return clip


def batch_flow(batch: Batch, orders: Sequence[SecondOrder]) -> NeuronFlow:
    """What `record_neurons` gives for all these layers on a batch, from one run of the model."""
    layers = sorted({order.layer for order in orders})
    return batch.once(("neurons", *layers), lambda: record_neurons(batch.model, batch.model.pixels(batch.pixels), layers))


def share_run(batch: Batch, layers: Sequence[int]) -> Batch:
    """Take the direct effects of a batch and the flow of these layers' neurons from one run of the model, not one each."""
    layers = sorted(set(layers))

    def run() -> NeuronFlow:
        with neurons_recorded(batch.model, layers) as flow:
            vars(batch)["effects"] = run_effects(batch)  # the view might find them in a memory, and nothing would run
        return flow()

    flow = batch.once(("neurons", *layers), run)
    for layer in layers:
        batch.once(("neurons", layer), lambda: flow)
    return batch


def batch_effects(batch: Batch, orders: Sequence[SecondOrder], k: int) -> Effects:
    """Effects of layer number k of `orders` on a batch, from the run that all the layers share."""

    def found() -> Effects:
        return orders[k].on(batch.pixels, batch_flow(batch, orders))

    def size(effects: Effects) -> int:  # of all layers, for one run serves them
        return effects.coefficients[:, 0].nbytes * sum(len(order.read_out) for order in orders)

    key = "second order", id(orders[k])
    return batch.once(key, lambda: batch.once_for_all(key, found, size))


def _view(orders: Sequence[SecondOrder], k: int, view):
    return lambda batch: view(batch_effects(batch, orders, k), batch)
