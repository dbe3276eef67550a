"""One pass of images through two or more models, to correlate all their units."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from ... import stream
from ...moments import Moments
from ...stream import Batch, feed, in_pass
from .correlation import Correlation, Correlations
from .matches import Match, Units
from .units import Generator, UnitModel


class PublishedCorrelation:
    """The similarity that the published code computes instead of eq. 4.2: a cosine for each batch, averaged over batches.

    Maps are centred on their mean over the whole dataset (on their own grid) and divided by a standard deviation, which cancels
    in a cosine. It depends on how images fall into batches. Units that never vary get 0.
    """

    def __init__(self, a: Units, b: Units, centre_a: Tensor, centre_b: Tensor):
        self.a, self.b, self.centres, self.total, self.batches = a, b, (centre_a, centre_b), 0, 0

    def update(self, maps_a: Sequence[Tensor], maps_b: Sequence[Tensor]) -> None:
        """Add a batch, as `Correlation.update`."""
        batch = Correlation(self.a, self.b)
        batch.update(maps_a, maps_b)
        self.total, self.batches = self.total + batch.cosine(*self.centres), self.batches + 1

    @property
    def count(self) -> int:
        return self.batches

    def merge(self, other: "PublishedCorrelation") -> None:
        """Add what another pass has gathered, over other batches."""
        self.total, self.batches = self.total + other.total, self.batches + other.batches

    def state_dict(self) -> dict:
        return {"total": self.total, "batches": self.batches}

    def load_state_dict(self, state: dict) -> None:
        self.total, self.batches = state["total"], state["batches"]

    @property
    def matrix(self) -> Tensor:
        """[units of a, units of b]"""
        return self.total / self.batches


def correlate(
    a: UnitModel | Generator,
    b: UnitModel | Generator | Sequence[UnitModel | Generator],
    inputs: Sequence,
    batch_size: int = 16,
    shuffled: bool = False,
    published: bool = False,
    without_position: bool = False,
    **options,
):
    """Correlate all units of two models in one pass (thesis, eqs. 4.1 and 4.2): a `Correlation`, or a list for several b.

    inputs: images in 0..1 (a tensor [N, 3, H, W], a dataset of images or of (image, target), a `DataLoader`), or for a
    generator the latents that `a.sample(n, seed)` gave; then b sees what a draws, cut off at 0 and 1. b may be a itself.
    shuffled: b sees, for each image, another one of the batch: the control that shows what correlates without any content.
    published: as the published code does: the per-batch cosine, in two passes (see `PublishedCorrelation`), of images that are not
    cut off at 0 and 1 and of maps with their margin around the image. without_position: of maps less their mean over images.
    options: those of `feed`.
    Raises ValueError for no inputs, TypeError for a generator as b that is not a.
    """
    if published and without_position:
        raise ValueError("the published similarity is a cosine of maps as they are; choose published or without_position")
    several = isinstance(b, Sequence)
    others = list(b) if several else [b]
    for other in others:
        if other is not a and not isinstance(other, UnitModel):
            raise TypeError(f"b must see images, or be a itself; got {other!r}")
    drawn = isinstance(a, Generator)
    if drawn and not (isinstance(inputs, tuple) and all(isinstance(part, Tensor) for part in inputs)):
        raise ValueError("a generator needs latents as its `sample` gives them: correlate(g, d, g.sample(1600))")
    if drawn and not inputs:
        raise ValueError("no latents; take those that `sample` gives: correlate(g, d, g.sample(1600))")
    dataset = TensorDataset(*inputs) if drawn else inputs

    def see(batch: Batch) -> tuple[Tensor, list[Tensor]]:
        if not drawn:
            return batch.pixels, a(batch.pixels)
        images, maps = a(batch.pixels, batch.targets, crop=not published)
        return images if published else images.clamp(0, 1), maps

    def maps_of(model, batch: Batch) -> list[Tensor]:
        images, maps = batch.once("a", lambda: see(batch))
        return maps if model is a else batch.once(id(model), lambda: model(images, drawn))

    def seen_by(others):
        def view(batch: Batch):
            maps = [maps_of(other, batch) for other in others]
            if shuffled:
                if len(batch.pixels) == 1:
                    raise ValueError("a batch of one image cannot be shuffled; choose a batch_size that leaves no single image")
                maps = [[layer.roll(1, 0) for layer in layers] for layers in maps]
            return maps_of(a, batch), *maps

        return view

    if not published:
        found = [Correlation(a.units, other.units) for other in others]
        wanted = [(Correlations(dict(enumerate(found))), seen_by(others))]
    else:
        models = {id(model): model for model in (a, *others)}
        means = {key: Moments() for key in models}

        def mean(model):
            return lambda batch: torch.cat([maps.mean((2, 3)) for maps in maps_of(model, batch)], 1)

        feed(a, dataset, [(means[key], mean(model)) for key, model in models.items()], batch_size=batch_size, **in_pass(1, options))
        found = [PublishedCorrelation(a.units, b.units, means[id(a)].mean, means[id(b)].mean) for b in others]
        wanted = [(statistic, seen_by([other])) for statistic, other in zip(found, others)]
    if without_position:
        models = {id(model): model for model in (a, *others)}
        means = {key: [Moments() for _ in model.layers] for key, model in models.items()}

        def layer_of(model, k):
            return lambda batch: maps_of(model, batch)[k]

        wanted += [(mean, layer_of(models[key], k)) for key, layers in means.items() for k, mean in enumerate(layers)]
    feed(a, dataset, wanted, batch_size=batch_size, **(in_pass(2, options) if published else options))
    if without_position:
        fixed = {key: [mean.mean for mean in layers] for key, layers in means.items()}
        found = [statistic.without_position(fixed[id(a)], fixed[id(b)]) for statistic, b in zip(found, others)]
    return found if several else found[0]


def match(
    a: UnitModel | Generator, others: Sequence[UnitModel | Generator], inputs: Sequence, batch_size: int = 16, k: int = 5
) -> list[Match]:
    """The k nearest neighbours of all units of a model among those of each other model (eq. 4.3).

    a, inputs, batch_size: as for `correlate`, which keeps all correlations; others may name a itself, in which no unit is its
    own neighbour. Where the correlations of all models take no more than `stream.MOST` bytes, 8 for each pair of units, one pass
    serves them; else each model has its own pass through a, and the peak is what the largest needs, not the sum.
    """
    others = list(others)
    if 8 * sum(a.units.counts) * sum(sum(other.units.counts) for other in others) <= stream.MOST:
        found = correlate(a, others, inputs, batch_size)
        return [each.match(k, itself=other is a) for each, other in zip(found, others)]
    return [correlate(a, other, inputs, batch_size).match(k, itself=other is a) for other in others]
