"""What chapters 3 and 5 want from images: second-order effects of neurons, and moments of heads beside them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..heads import HeadMoments
from ..heads.textspan import Head, ask_moments
from ..models import Clip
from ..neurons import Effects, Lines, RankOne, SecondOrder, curve_layers, fit, second_order
from .kept import about_run, kept_in, kept_meanwhile

TOP = 30  # images with the largest effects, which give a neuron its direction in chapter 5


def collect_neurons(
    clip: Clip, images: Sequence, save_to: str | Path | None = None, ln: str | None = None, **options
) -> list[SecondOrder]:
    """Second-order effects in all layers of chapter 3's curves, fitted in two passes over the images: "large" are 2 percent.

    In units of the length of an image's representation, as published. save_to, options and errors: as for `collect`.
    """
    orders = [second_order(clip, layer, ln, relative=True) for layer in curve_layers(clip.n_layers)]
    about, path = about_run(clip, images, ln, options) | {"statistics": "neurons"}, save_to and Path(save_to)
    top, options = max(8, round(0.02 * len(images))), kept_meanwhile(images, path) | options
    _set_fits(orders, kept_in(path, about, clip.device, lambda: _fits(orders, images, top, path, options))[0])
    return orders


class Described(NamedTuple):
    """What `collect_units` found."""

    moments: dict[Head, HeadMoments]  # as of `heads.head_moments`
    orders: list[SecondOrder]  # fitted, as by `neurons.fit`


def collect_units(
    clip: Clip, images: Sequence, save_to: str | Path | None = None, heads=None, neurons=None, **options
) -> Described:
    """What chapter 5 describes heads and neurons by: moments, and second-order effects fitted on 30 images, in two passes.

    heads, neurons: the layers wanted, by default all, and all but the last. A file has those of all layers, whichever are asked
    for, so that one serves several notebooks. In units of the length of an image's representation, under the Clip's own ln.
    save_to, options and errors: as for `collect`.
    """
    path, options = save_to and Path(save_to), kept_meanwhile(images, save_to) | options
    every = list(range(clip.n_layers)), list(range(clip.n_layers - 1))
    heads, neurons = (full if asked is None else list(asked) for asked, full in zip((heads, neurons), every))
    orders = [second_order(clip, layer, relative=True) for layer in (every[1] if path else neurons)]

    def passes() -> list:
        asked = ask_moments(clip, None if path else heads)
        fits = _fits(orders, images, TOP, path, options | {"beside": asked.statistics})
        return [{head: vars(each) for head, each in asked.found().items()}, fits]

    about = about_run(clip, images, None, options) | {"statistics": "units"}
    (moments, fits), _ = kept_in(path, about, clip.device, passes)
    _set_fits(orders, fits)
    moments = {head: HeadMoments(**each) for head, each in moments.items() if head[0] in heads}
    return Described(moments, [order for order in orders if order.layer in neurons])


def _fits(orders: list[SecondOrder], images: Sequence, top: int, path: Path | None, options: dict) -> list:
    """What is to be kept of neurons, once they are fitted."""
    fit(orders, images, top, **options, save_to=path)
    kept = []
    for one in [order.rank_one for order in orders]:
        centre = [one.centre.coefficients, one.centre.shares]
        kept.append([centre, one.directions, one.thresholds, one.top_norms, one.top_images, one.top_share])
    return kept


def _set_fits(orders: list[SecondOrder], kept: list) -> None:
    for order, (centre, directions, *rest) in zip(orders, kept, strict=True):
        centre = Effects(order, *centre)
        order.fitted = RankOne(centre, centre.vectors()[0], directions, Lines(order, directions), *rest)
