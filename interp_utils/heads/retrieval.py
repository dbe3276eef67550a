"""Property-based retrieval (thesis, section 2.4): neighbours of an image in the eyes of one head."""

from collections.abc import Sequence

from torch import Tensor

from ..checks import checked_count
from ..models import Clip
from ..moments import Rows
from ..sandbox.world import FACTORS, Spec
from ..stream import feed
from .textspan import Head


def head_features(
    clip: Clip, images: Sequence, heads: Sequence[Head], ln: str = "centered", **options
) -> dict[Head | None, Tensor]:
    """What some heads write for every image, [K, E] each, and under None the whole representation, for `neighbours`."""
    rows = {head: Rows() for head in [None, *heads]}

    def view(head):
        return lambda batch: (batch.representation if head is None else batch.heads[:, *head], batch.numbers)

    feed(clip, images, [(rows[head], view(head)) for head in rows], ln=ln, **options)
    return {head: row.rows for head, row in rows.items()}


def neighbours(features: Tensor, query: int, k: int = 8) -> list[int]:
    """Numbers of the k images, other than the query, with the highest inner product with it (thesis, figure 2.5).

    features: [K, E], uncentred, as in the thesis. Raises IndexError for a query that is not there.
    """
    if not 0 <= query < len(features):
        raise IndexError(f"no image {query}: there are {len(features)}")
    scores = features @ features[query]
    scores[query] = -float("inf")
    return scores.topk(min(checked_count("k", k), len(features) - 1)).indices.tolist()


def shared_factors(specs: Sequence[Spec], query: int, found: Sequence[int]) -> dict[str, float]:
    """Share of the found sandbox images that agree with the query in each factor."""
    return {
        factor: sum(getattr(specs[k], factor) == getattr(specs[query], factor) for k in found) / len(found) for factor in FACTORS
    }
