"""Where neurons are active, alone or as an ensemble that segments (thesis, section 3.5, table 3.4 and figure 3.7)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..checks import checked_count
from ..hooks import compute_dtype, visit_neurons
from ..models import Clip
from .second_order import SecondOrder

WEIGHTINGS = ("equal", "signed", "random")


def activation_maps(clip: Clip, pixels: Tensor, layer: int, neurons) -> Tensor:
    """Activations of some neurons on the patches, after the activation function: [B, n, rows, columns]."""
    found = []
    visit_neurons(clip, clip.pixels(pixels), lambda _, p: found.append(p[:, clip.n_prefix :, neurons].mT), [layer])
    return found[0].unflatten(-1, clip.grid)


def segmenter(orders: Sequence[SecondOrder], classifier: Tensor, k: int = 200, weighting: str = "equal", seed: int = 0):
    """Heat maps of the predicted class from the neurons that matter for it, for `segmentation.evaluate` (thesis, table 3.4).

    orders: fitted layers, whose neurons compete together; classifier: [C, E], text vectors of the classes. For each image the
    class closest to it picks the k neurons with the largest |<r, t_class>|; the map is the mean of their activations.
    weighting: "equal", as published; "signed" multiplies each neuron by <r, t_class>, so that those that speak against the
    class count against it; "random" takes k random neurons. The published threshold is 0.5, without clipping.
    Raises ValueError for another weighting, or k below 1 or above the number of neurons.
    """
    clip, directions = orders[0].clip, torch.cat([order.directions for order in orders])
    if weighting not in WEIGHTINGS:
        raise ValueError(f"weighting must be one of {', '.join(WEIGHTINGS)}, got {weighting!r}")
    k = checked_count("k", k, len(directions))
    text = clip.vectors(classifier, "a classifier").to(directions)
    match = text @ directions.T  # [C, n]
    if weighting == "random":
        draw = torch.rand(match.shape, generator=torch.Generator().manual_seed(seed)).to(match)
        chosen = draw.topk(k).indices
    else:
        chosen = match.abs().topk(k).indices
    weight = match.gather(1, chosen) if weighting == "signed" else torch.ones_like(match[:, :k])
    weights = torch.zeros_like(match).scatter(1, chosen, weight / k)  # of each neuron, for each class
    by_layer = weights.split([order.values.shape[1] for order in orders], 1)
    layers = [order.layer for order in orders]

    @torch.no_grad()
    def heatmap_fn(pixels: Tensor) -> Tensor:
        predicted = (clip.encode_image(pixels).to(compute_dtype(clip)) @ text.T).argmax(1)
        total = 0

        def add(layer: int, activations: Tensor) -> None:
            nonlocal total
            mine = by_layer[layers.index(layer)][predicted]
            total = total + torch.einsum("bnm,bm->bn", activations[:, clip.n_prefix :], mine)

        visit_neurons(clip, clip.pixels(pixels), add, layers)
        return total.unflatten(1, clip.grid)

    return heatmap_fn
