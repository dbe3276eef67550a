"""What is lost when second-order effects say the same about every image (thesis, figures 3.3, 3.4, B.2, B.3, table 3.1)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..heads.ablation import checked_labels
from ..models import Clip
from ..moments import Moments, Rows
from ..rounding import negligible
from ..statistics import mean_interval
from ..stream import Batch, feed
from .indirect import encode_without
from .rank_one import batch_effects, batch_flow, check_alike
from .second_order import Lines, SecondOrder
from .sparse import SparseTexts

KINDS = ("all", "small norm", "large norm", "first direction")


@dataclass(frozen=True)
class AblationCurves:
    """Zero-shot classification under mean-ablation of the second-order effects of one layer at a time, or of all together.

    Under each of `KINDS` one number a layer. "all": every neuron is ablated; "small norm": only effects no further from the
    mean than their threshold; "large norm": only those beyond it; "first direction": each effect becomes b + x r.
    """

    layers: list[int]
    accuracy: dict[str, list[float]]  # shares of 1
    margin: dict[str, list[float]]  # mean score of the right class less the best wrong one, which still moves at full accuracy
    together: dict[str, tuple[float, float]]  # accuracy and margin with all these layers ablated at once
    baseline: tuple[float, float]  # accuracy and margin of the intact model
    significant: list[float]  # mean over neurons of the share of images on which the effect exceeds the threshold
    right: Tensor  # bool [K images, 1 + kinds x (layers + 1)]: the intact model, layer by layer the kinds, all layers together

    def lost(self, kind: str, layer: int | None = None) -> tuple[float, float]:
        """Accuracy that an ablation costs, and half its 95 percent interval over images (paired). layer None: all together."""
        place = len(self.layers) if layer is None else self.layers.index(layer)
        answers = self.right[:, [0, 1 + place * len(KINDS) + KINDS.index(kind)]].double()
        return mean_interval(answers[:, 0] - answers[:, 1])


def ablation_curves(
    orders: Sequence[SecondOrder], images, classifier: Tensor | dict[str, Tensor], **options
) -> AblationCurves | dict[str, AblationCurves]:
    """The four ablations of figure 3.3 for fitted layers, from one pass over images (pixels, label).

    classifier: [C, E], or several by name, for as many curves; then an image's target may be a dictionary with a label for each.
    Nothing is run again: stored effects are replaced in the representation. Images whose effect is
    "large" are those beyond the threshold that `fit` found on its own images, as in the published code. Raises ValueError where
    the layers are of different models, conventions or units, or a label is no row of the classifier.
    """
    if not isinstance(classifier, dict):
        return ablation_curves(orders, images, {"": classifier}, **options)[""]
    clip, significant = check_alike(orders), Moments()
    scores = {name: Rows() for name in classifier}
    classifiers = {name: clip.vectors(each, "a classifier") for name, each in classifier.items()}

    def found(batch: Batch) -> dict[str | None, Tensor]:
        whole = _representation(batch, orders)
        changes, shares = [], []
        for k, order in enumerate(orders):
            fitted = order.rank_one
            centred = batch_effects(batch, orders, k).less(fitted.centre)
            large = (centred.norms() > fitted.thresholds).to(whole)
            every, beyond = centred.summed(), centred.summed(large)
            changes.append([every, every - beyond, beyond, every - centred.along(fitted.lines) @ fitted.directions])
            shares.append(large.mean(1))
        rows = [torch.zeros_like(whole), *(change for layer in changes for change in layer)]
        rows += [sum(layer[kind] for layer in changes) for kind in range(len(KINDS))]
        answers = {None: torch.stack(shares, 1)}
        for name, each in classifiers.items():
            labels = batch.targets[name] if isinstance(batch.targets, Mapping) else batch.targets
            answers[name] = torch.stack([_right_and_margin(whole - row, labels, each) for row in rows], 1)
        return answers

    def view(batch: Batch, name: str | None) -> Tensor:
        return batch.once("ablated", lambda: found(batch))[name]

    asked = [(rows, lambda batch, name=name: (view(batch, name), batch.numbers)) for name, rows in scores.items()]
    feed(clip, images, [*asked, (significant, lambda batch: view(batch, None))], **options)
    layers, beyond = [order.layer for order in orders], significant.mean.tolist()
    return {name: _curves(layers, each.rows, beyond) for name, each in scores.items()}


def _curves(layers: list[int], scores: Tensor, significant: list[float]) -> AblationCurves:
    """scores: whether each image is classified rightly, and its margin, under each ablation, [K, 1 + kinds x (layers + 1), 2]."""
    (baseline, *rest), n = scores.double().mean(0).tolist(), len(KINDS)
    by_layer, together = rest[:-n], rest[-n:]
    curves = [{kind: [row[what] for row in by_layer[k::n]] for k, kind in enumerate(KINDS)} for what in (0, 1)]
    both = {kind: tuple(row) for kind, row in zip(KINDS, together)}
    return AblationCurves(layers, *curves, both, tuple(baseline), significant, scores[..., 0] > 0)


class Indirect(NamedTuple):
    """Zero-shot classification while the neurons of a layer are held still."""

    accuracy: float
    margin: float
    right: Tensor  # bool [K images]


def indirect_ablation(clip: Clip, images, classifier: Tensor, layer: int, means: Tensor, **options) -> Indirect:
    """Accuracy and margin when all neurons of a layer stand at their means [N, M] and later layers run again (table 3.1)."""
    scores, classifier = Rows(), clip.vectors(classifier, "a classifier")

    def view(batch: Batch) -> tuple[Tensor, Tensor]:
        whole = encode_without(clip, batch.pixels, layer, means)
        return _right_and_margin(whole / whole.norm(dim=-1, keepdim=True), batch.targets, classifier), batch.numbers

    feed(clip, images, [(scores, view)], **options)
    return Indirect(*scores.rows.double().mean(0).tolist(), scores.rows[:, 0] > 0)


COEFFICIENTS = ("direction", "published", "projection")


def text_ablation(
    order: SecondOrder,
    images,
    classifier: Tensor,
    pools: dict[str, SparseTexts],
    sizes: Sequence[int],
    coefficient: str = "direction",
    **options,
) -> dict[str, dict[str, list[float]]]:
    """Accuracy and margin when each effect becomes b + x r', r' the direction rebuilt from its first texts (thesis, figure 3.4).

    coefficient: what x is. "direction": <phi - b, r>, as the thesis writes it. "published": <phi - b, r'>, as its code does,
    which shrinks the effect while r' is short. "projection": <phi - b, r'> / |r'|^2, the projection on r'. Returns for each
    pool {"accuracy", "margin"}, see `AblationCurves`, at each size. Raises ValueError for another coefficient.
    """
    if coefficient not in COEFFICIENTS:
        raise ValueError(f"coefficient must be one of {', '.join(COEFFICIENTS)}, got {coefficient!r}")
    fitted, scores, tables = order.rank_one, Moments(), []
    classifier = order.clip.vectors(classifier, "a classifier")
    for texts in pools.values():
        for size in sizes:
            rebuilt = texts.reconstruct(size).to(order.values)
            lines = fitted.lines if coefficient == "direction" else Lines(order, rebuilt)
            if coefficient == "projection":
                squares = rebuilt.square().sum(1, keepdim=True)
                rebuilt = torch.where(negligible(squares, torch.ones(()), rebuilt.dtype), 0, rebuilt / squares)
            tables.append((lines, rebuilt))

    def view(batch: Batch) -> Tensor:
        centred = batch_effects(batch, [order], 0).less(fitted.centre)
        rest = _representation(batch, [order]) - centred.summed()
        return torch.stack(
            [_right_and_margin(rest + centred.along(lines) @ rebuilt, batch.targets, classifier) for lines, rebuilt in tables], 1
        )

    feed(order.clip, images, [(scores, view)], **options)
    found = scores.mean.unflatten(0, (len(pools), len(sizes)))
    return {name: {"accuracy": row[:, 0].tolist(), "margin": row[:, 1].tolist()} for name, row in zip(pools, found)}


def _representation(batch: Batch, orders: Sequence[SecondOrder]) -> Tensor:
    """[B, E], in the unit of the effects."""
    whole = batch.once_for_all("representation", lambda: batch_flow(batch, orders).representation, lambda found: found.nbytes)
    return whole / whole.norm(dim=-1, keepdim=True) if orders[0].relative else whole


def _right_and_margin(representation: Tensor, labels: Tensor, classifier: Tensor) -> Tensor:
    """Is the right class the closest, and its score less the best other one's: [B, 2]."""
    labels = checked_labels(labels, classifier).to(representation.device)[:, None]
    scores = representation @ classifier.to(representation).T
    right = scores.gather(1, labels)
    margin = right - scores.scatter(1, labels, -torch.inf).amax(1, keepdim=True)
    return torch.cat([(scores.argmax(1, keepdim=True) == labels).to(margin), margin], 1)
