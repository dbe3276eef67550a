"""Ways to name heads and neurons, all of one form: method(seen, texts, vectors) -> for each unit some texts, the best first.

seen: what may be read of the units, `seen.Seen`; texts: the pool; vectors: its unit rows [T, E]. They are compared by
`benchmark.score_names`. Where a method describes one direction, a head's is its first principal one.
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..heads.direct import head_basis
from ..heads.textspan import textspan
from ..hooks import attention_norm, attention_weights
from ..neurons.sparse import sparse_texts
from .seen import Seen

Method = Callable[[Seen, Sequence[str], Tensor], list[list[str]]]
TOP = 3  # texts for each unit


def text_span(seen: Seen, texts: Sequence[str], vectors: Tensor, rank: int | None = None) -> list[list[str]]:
    """Texts along which the unit's effects vary most (thesis, algorithm 1)."""
    return [textspan(moments, vectors, texts, TOP, rank).texts for moments in seen.moments]


def text_span_of_rank_4(seen: Seen, texts: Sequence[str], vectors: Tensor) -> list[list[str]]:
    """The same, with texts projected on the four leading directions of the unit's effects."""
    return text_span(seen, texts, vectors, 4)


def principal_direction(seen: Seen, texts: Sequence[str], vectors: Tensor) -> list[list[str]]:
    """Texts nearest to the unit's direction, less what all texts of the pool share."""
    return _best(seen.directions @ _centred(vectors).T, texts)


def mean_similarity(seen: Seen, texts: Sequence[str], vectors: Tensor) -> list[list[str]]:
    """Texts nearest to the unit's mean effect."""
    return _best(F.normalize(seen.effects.mean(0), dim=-1) @ vectors.T, texts)


def omp_published(seen: Seen, texts: Sequence[str], vectors: Tensor) -> list[list[str]]:
    """Few texts with signs that add up to the direction, scaled as in the thesis's code (section 3.4); those that add."""
    return _adding(sparse_texts(seen.directions, vectors, texts, 16, "published"))


def omp_centred(seen: Seen, texts: Sequence[str], vectors: Tensor) -> list[list[str]]:
    """The same with the texts less their mean, of unit length."""
    return _adding(sparse_texts(seen.directions, _centred(vectors), texts, 16))


def non_negative_coding(seen: Seen, texts: Sequence[str], vectors: Tensor) -> list[list[str]]:
    """Texts that add up to the direction, none with a minus, few by an L1 penalty (SpLiCE; Bhalla et al. 2024)."""
    atoms = _centred(vectors).double().numpy()
    targets = seen.directions.double().numpy()
    from sklearn.decomposition import sparse_encode  # a second of every start, which few need

    weights = sparse_encode(targets, atoms, algorithm="lasso_cd", alpha=0.2, positive=True, max_iter=20000)
    return _best(torch.from_numpy(weights), texts, least=0)


def ranked_by_activation(seen: Seen, texts: Sequence[str], vectors: Tensor) -> list[list[str]]:
    """Texts that CLIP finds likely on the images with the largest answers, more than for other units (CLIP-Dissect; Oikarinen and
    Weng 2023).

    Soft pointwise mutual information with the paper's temperature 10 and weights 0.998 to 0.97, on the first twentieth of the
    images, at most its 100.
    """
    likely = (10 * seen.representations @ vectors.T).softmax(1)  # of each image, [K, T]
    k = max(1, min(100, len(likely) // 20))
    weight = torch.linspace(0.998, 0.97, k)[:, None]
    top = seen.answers.topk(k, 0).indices.T  # [U, k]
    given = torch.stack([torch.log1p(weight * (likely[rows] - 1)).sum(0) for rows in top])  # [U, T]
    return _best(given - (given.logsumexp(0) - math.log(len(given))), texts)


def singular_vectors(seen: Seen, texts: Sequence[str], vectors: Tensor, coherence: float = 0.3) -> list[list[str]]:
    """Texts for the first singular vector of each head's value-output weights, without any image (SITH; Vaquero et al.).

    Each sign of the vector is coded by non-negative orthogonal matching pursuit whose next text is the one that suits what is left
    and the texts already taken: <rest, text> + coherence * mean <text, taken>. The sign that is coded better counts. Written
    from the paper's description; the weight of the coherence and how the sign is chosen are our guesses.
    """
    if seen.kind != "heads":
        raise ValueError("value-output weights are those of heads")
    atoms, found = _centred(vectors).double(), []
    basis = head_basis(seen.clip, None, "centered").double().cpu()[:, :, : seen.clip.d_head]
    for layer, head in seen.units:
        norm, values = attention_norm(seen.clip, layer), attention_weights(seen.clip, layer).w_v[head]
        values = (values if norm is None else norm.fold(values[None].permute(2, 0, 1)).permute(1, 2, 0)[0]).double().cpu()
        vector = torch.linalg.svd(basis[layer, head].T @ values, full_matrices=False).U[:, 0]
        ends = [_pursued(sign * vector, atoms, coherence) for sign in (1, -1)]
        found.append([texts[k] for k in max(ends, key=lambda end: end[1])[0]])
    return found


def _pursued(target: Tensor, atoms: Tensor, coherence: float) -> tuple[list[int], float]:
    """Numbers of the atoms taken, the one of largest weight first, and how much of the target's length they explain."""
    taken, rest, weights = [], target, torch.zeros(0)
    for _ in range(TOP):
        score = atoms @ rest + (coherence * (atoms @ atoms[taken].T).mean(1) if taken else 0)
        score[taken] = -torch.inf
        taken.append(score.argmax().item())
        weights = torch.linalg.lstsq(atoms[taken].T, target[:, None]).solution[:, 0].clamp(min=0)
        rest = target - weights @ atoms[taken]
    order = weights.argsort(descending=True).tolist()
    return [taken[k] for k in order], 1 - rest.norm().item()


METHODS: dict[str, Method] = {
    "TextSpan": text_span, "TextSpan, rank 4": text_span_of_rank_4, "principal direction": principal_direction,
    "mean similarity": mean_similarity, "OMP, published": omp_published, "OMP, centred": omp_centred,
    "non-negative coding": non_negative_coding, "ranked by activation": ranked_by_activation,
    "weights alone": singular_vectors,
}  # fmt: skip


def _centred(vectors: Tensor) -> Tensor:
    return F.normalize(vectors - vectors.mean(0), dim=-1)


def _best(scores: Tensor, texts: Sequence[str], least: float = -torch.inf) -> list[list[str]]:
    """The texts of largest score of each unit [U, T], as far as it is above `least`."""
    best = scores.topk(TOP, 1)
    return [[texts[k] for k, s in zip(*row) if s > least] for row in zip(best.indices.tolist(), best.values.tolist())]


def _adding(coded) -> list[list[str]]:
    return [[text for text, weight in coded.of(k, 16) if weight > 0][:TOP] for k in range(len(coded.directions))]
