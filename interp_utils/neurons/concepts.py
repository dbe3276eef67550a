"""Concepts in an image, and words for a direction, from the sparse texts of many neurons (thesis, eq. 3.4 and figure B.1)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..checks import checked_count
from ..hooks import NeuronFlow
from .second_order import SecondOrder
from .sparse import SparseTexts


def important_neurons(directions: Tensor, vector: Tensor, k: int) -> Tensor:
    """Numbers of the k neurons with the largest |<direction, vector>|, largest first (thesis, section 3.5).

    directions: [n, E]; vector: [E]. Raises ValueError for k below 1 or above n.
    """
    k = checked_count("k", k, len(directions))
    return (directions @ vector.to(directions)).abs().topk(k).indices


def contribution_scores(texts: SparseTexts, neurons: Tensor, importance: Tensor) -> Tensor:
    """How much some neurons, each with its importance, speak for each text of the pool: [T] (thesis, eq. 3.4).

    w_j = sum over n of weight_nj * importance_n. For a classification direction v the importance is <v, r_n>; for an image
    it is the length of the neuron's effect. neurons: [k], numbers in `texts`; importance: [k].
    """
    indices, weights = texts.indices[neurons], texts.weights[neurons] * importance.to(texts.weights)[:, None]
    scores = texts.weights.new_zeros(len(texts.texts))
    return scores.index_add_(0, indices.clamp(min=0).flatten(), torch.where(indices >= 0, weights, 0).flatten())


@dataclass(frozen=True)
class Concepts:
    """What the neurons of a layer say about one image."""

    active: Tensor  # numbers of the neurons whose effect exceeds its threshold
    scores: Tensor  # [T], of each text of the pool
    texts: list[tuple[str, float]]  # the texts of highest score above 0, best first; none where no neuron is active


def discover_concepts(
    order: SecondOrder,
    texts: SparseTexts,
    pixels: Tensor,
    k: int = 10,
    signed: bool = False,
    flow: NeuronFlow | None = None,
) -> list[Concepts]:
    """The k texts that the active neurons of each image of a batch speak for most (thesis, figure B.1).

    order: fitted; texts: of its directions. A neuron is active where its effect, less the mean, is longer than its threshold,
    that is among the top 100 of the fitted images; it counts with that length. signed=True counts with x, the coefficient
    along its direction, instead: then a neuron that writes against its direction speaks against its texts. flow: as
    `SecondOrder.on` takes it.
    """
    fitted, k = order.rank_one, checked_count("k", k)
    centred = order.on(pixels, flow).less(fitted.centre)
    norms = centred.norms()
    importance = centred.along(fitted.lines) if signed else norms
    found = []
    for row, strength in zip(norms > fitted.thresholds, importance):
        active = row.nonzero()[:, 0]
        scores = contribution_scores(texts, active, strength[active])
        best = scores.topk(min(k, len(scores)))
        said = [(texts.texts[j], score) for score, j in zip(*(part.tolist() for part in best)) if score > 0]
        found.append(Concepts(active, scores, said))
    return found
