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
    clip: Clip, images: Sequence, heads: Sequence[Head], ln: str | None = None, **options
) -> dict[Head | None, Tensor]:
    """What some heads write for every image, [K, E] each, and under None the whole representation, for `neighbours`.

    Row k belongs to image k: one that the pass left out has nan.
    """
    rows = {head: Rows() for head in [None, *heads]}

    def view(head):
        return lambda batch: (batch.representation if head is None else batch.heads[:, *head], batch.numbers)

    feed(clip, images, [(rows[head], view(head)) for head in rows], ln=ln, **options)
    features = {}
    for head, row in rows.items():
        features[head] = row.rows.new_full((int(row.numbers.max()) + 1, clip.d_embed), float("nan"))
        features[head][row.numbers] = row.rows
    return features


def neighbours(features: Tensor, query: int, k: int = 8) -> list[int]:
    """Numbers of the k images, other than the query, with the highest inner product with it (thesis, figure 2.5).

    features: [K, E], uncentred, as in the thesis, nan for images that were left out. Raises IndexError for a query that is none.
    """
    if not 0 <= query < len(features) or features[query].isnan().any():
        raise IndexError(f"no image {query}: there are {len(features)}, or it was left out")
    scores = (features @ features[query]).nan_to_num(nan=-float("inf"))
    scores[query] = -float("inf")
    return scores.topk(min(checked_count("k", k), int(scores.isfinite().sum()))).indices.tolist()


def shared_factors(specs: Sequence[Spec], query: int, found: Sequence[int]) -> dict[str, float]:
    """Share of the found sandbox images that agree with the query in each factor; nan where it is not to be seen.

    Images that do not show one value of a factor (colour without colour, the place of several things) do not count for it.
    """
    shared = {}
    for factor in FACTORS:
        seen = [specs[k] for k in found if factor in specs[k].shown and factor in specs[query].shown]
        same = sum(getattr(spec, factor) == getattr(specs[query], factor) for spec in seen)
        shared[factor] = same / len(seen) if seen else float("nan")
    return shared


def shared_by_neighbours(features: Tensor, specs: Sequence[Spec], factor: str, queries: Sequence[int], k: int = 8) -> list[float]:
    """For each query, the share of its k `neighbours` among sandbox images that agree with it in a factor.

    Queries for which that is not to be seen are left out.
    """
    shares = [shared_factors(specs, query, neighbours(features, query, k))[factor] for query in queries]
    return [share for share in shares if share == share]
