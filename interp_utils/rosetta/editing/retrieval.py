"""Images found by the maps of shared units: a query in one model's maps, a collection that another saw (thesis, section 4.6)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .guidance import Pairs, resized


def similarities(pairs: Pairs, queries: Sequence[Tensor], collection: Sequence[Tensor]) -> Tensor:
    """How alike the maps of paired units are, [Q, N]: the mean over pairs of the cosine of their maps, as eq. 4.6 takes it.

    queries: maps of all layers of `pairs.a`, [Q, units, h, w]; collection: those of `pairs.b`, [N, units, h, w]. Maps are centred
    on their mean over the mining images. The largest in a row is retrieved: no pixel is compared, no model saw both sides.
    Raises ValueError for no pairs and for maps of other units.
    """
    for maps, units in ((queries, pairs.a), (collection, pairs.b)):
        if [layer.shape[1] for layer in maps] != list(units.counts):
            raise ValueError(f"need maps of {dict(zip(units.layers, units.counts))}, got {[list(layer.shape) for layer in maps]}")
    if not len(pairs):
        raise ValueError(f"no pairs of {pairs.a.model} and {pairs.b.model} to compare by")
    total = 0
    for i, j, rows, columns, members in pairs.by_layers():
        sides = queries[i][:, rows], collection[j][:, columns]
        size = tuple(max(pair) for pair in zip(sides[0].shape[2:], sides[1].shape[2:]))
        ours, theirs = (
            F.normalize((resized(maps, size) - pairs.means[members, side].to(maps)[:, None, None]).flatten(2), dim=2)
            for side, maps in enumerate(sides)
        )
        total = total + torch.einsum("qpx,npx->qn", ours, theirs.to(ours))
    return (total / len(pairs)).cpu()
