"""Chapter 2's numbers of a dataset as the published code takes them: every head's output on every image is kept, then used."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from interp_utils import Clip

from .direct_effects import head_effects


class Found(NamedTuple):
    mean: Tensor  # [L, H, E], of each head's output
    second: Tensor  # [L, H, E, E], its uncentred second moment
    top: Tensor  # [k, L, H, T], numbers of the images with the highest scores
    accuracies: list[float]  # with attention of the first 0, 1, ..., L layers at its mean, then with embedding and MLPs at theirs


@torch.no_grad()
def dataset_pass(clip: Clip, batches: Sequence[tuple[Tensor, Tensor]], text: Tensor, classifier: Tensor, k: int) -> Found:
    """One pass over (pixels, labels): table 2.1 and figures 2.2 and 2.4, and what TextSpan needs."""
    kept = []
    for pixels, _ in batches:
        heads, others = head_effects(clip, pixels)
        length = (heads.sum((1, 2)) + others.sum(1)).norm(dim=1)
        kept.append((heads / length[:, None, None, None], others / length[:, None, None]))
    heads, others = (torch.cat(part) for part in zip(*kept))  # [K, L, H, E] and [K, L+1, E]
    labels = torch.cat([labels for _, labels in batches])

    def accuracy(first_layers: int, mlps: bool) -> float:
        chosen = [heads[:, first_layers:].sum((1, 2)), heads[:, :first_layers].mean(0).sum((0, 1))]
        chosen.append(others.mean(0).sum(0) if mlps else others.sum(1))
        return ((sum(chosen) @ classifier.T).argmax(1) == labels).double().mean().item()

    accuracies = [accuracy(layers, False) for layers in range(clip.n_layers + 1)] + [accuracy(0, True)]
    exact = heads.double()
    second = torch.einsum("klhe,klhf->lhef", exact, exact) / len(heads)
    top = (heads @ text.T).argsort(dim=0, descending=True, stable=True)[:k]
    return Found(exact.mean(0), second, top, accuracies)
