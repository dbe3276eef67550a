"""TextSpan (thesis, algorithm 1): a basis of texts for what a head writes, found from moments alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..checks import checked_count
from ..hooks import compute_dtype
from ..models import Clip
from ..moments import Moments, TopK
from ..rounding import epsilon
from ..stream import Asked, feed, in_pass
from .ablation import checked_labels
from .direct import head_basis

Head = tuple[int, int]  # layer, head
NOISE = 25  # in units of the precision's epsilon: rounding errors of a model's outputs lie below


@dataclass(frozen=True)
class TextSpan:
    """Texts whose directions span what a head writes, in the order of selection: the first k are the result for size k."""

    indices: list[int]  # into the pool
    texts: list[str]
    directions: Tensor  # [m, E], orthonormal, float64
    explained: Tensor  # [m], share of the head's variance that each direction adds
    mean: Tensor  # [E], of the head's output

    def reconstruct(self, contributions: Tensor, size: int | None = None) -> Tensor:
        """The head's mean plus the projection on the first `size` directions, [..., E] -> [..., E]."""
        size = size if size is None else checked_count("size", size, least=0)
        basis, mean = self.directions[:size].to(contributions), self.mean.to(contributions)
        return mean + (contributions - mean) @ basis.T @ basis

    def overlap(self, other: "TextSpan") -> float:
        """Mean squared cosine of the principal angles between the spans of the first ten texts: 0 apart, 1 the same."""
        products = self.directions[:10] @ other.directions[:10].T
        return (products.square().sum() / max(min(products.shape), 1)).item()


@dataclass(frozen=True)
class HeadMoments:
    """Mean [k] and covariance [k, k] of coordinates y, where the head writes y @ basis, basis [k, E].

    Without a basis the coordinates are the joint space itself. eps: relative rounding error of what the moments were taken of.
    """

    mean: Tensor
    covariance: Tensor
    basis: Tensor | None = None
    eps: float = epsilon(torch.float32)

    @property
    def second(self) -> Tensor:
        """The uncentred second moment, [k, k]."""
        return self.covariance + torch.outer(self.mean, self.mean)

    @classmethod
    def of(cls, contributions: Tensor) -> "HeadMoments":
        """From a data matrix [K, E]."""
        moments = Moments(second=True)
        moments.update(contributions)
        return cls(moments.mean, moments.covariance, eps=moments.eps)


def head_moments(
    clip: Clip, images: Sequence, layers: list[int] | None = None, ln: str | None = None, **options
) -> dict[Head, HeadMoments]:
    """Moments of what each head of some layers writes, divided by the representation's length, in one pass.

    Kept are (d+1) x (d+1) numbers for a head of width d, not E x E, nor a row for each image; E x E where a tower pools by several
    attention heads, through which each head writes in more directions than it is wide. options: those of `feed`.
    """
    statistics, found = ask_moments(clip, layers, ln)
    feed(clip, images, statistics, ln=ln, **options)
    return found()


def ask_moments(clip: Clip, layers: list[int] | None = None, ln: str | None = None) -> Asked:
    """What `head_moments` asks of a pass."""
    layers = list(range(clip.n_layers)) if layers is None else layers
    moments, basis = Moments(second=True), head_basis(clip, layers, ln)

    def found() -> dict[Head, HeadMoments]:
        mean, covariance = moments.mean.cpu(), moments.covariance.cpu()
        return {
            (layer, head): HeadMoments(
                mean[k, head], covariance[k, head], None if basis is None else basis[k, head].double().cpu(), moments.eps
            )
            for k, layer in enumerate(layers)
            for head in range(clip.n_heads)
        }

    return Asked([(moments, lambda batch: batch.head_coordinates[:, layers])], found)


def textspan(
    contributions_or_moments: Tensor | HeadMoments,
    text_features: Tensor,
    texts: Sequence[str],
    size: int = 60,
    rank: int | None = None,
    normalised: bool = False,
) -> TextSpan:
    """Greedy search for the texts along which a head varies most (thesis, algorithm 1), in float64.

    contributions_or_moments: a head's outputs [K, E] or their `HeadMoments`; text_features: [T, E], unit rows.
    rank: project the texts on so many leading right singular vectors of the uncentred outputs; None takes the numerical rank.
    The published 80 is more than that: the rest is float noise, which streamed moments do not have.
    normalised: compare the variance along unit directions (explained variance, eq. 2.7) instead of the published <c, t>, whose
    variance grows with the length of the projected text. Gives fewer than `size` texts when they span all, and none for a head
    that writes the same for all images, but for rounding.
    Raises ValueError for an empty pool, another number of texts than features, a size or rank below 1, and values that are not
    finite.
    """
    size = checked_count("size", size)
    rank = rank if rank is None else checked_count("rank", rank)
    text_features = text_features.detach().cpu().double()
    if len(texts) == 0 or len(texts) != len(text_features):
        raise ValueError(f"need a feature for each of at least one text, got {len(texts)} texts, {len(text_features)} features")
    moments = contributions_or_moments
    if isinstance(moments, Tensor):
        moments = HeadMoments.of(moments.cpu())
    width = (moments.mean if moments.basis is None else moments.basis).shape[-1]
    if text_features.ndim != 2 or text_features.shape[1] != width:
        raise ValueError(f"need text features [T, {width}], as wide as what the head writes, got {list(text_features.shape)}")
    if not all(part.isfinite().all() for part in (text_features, moments.mean, moments.covariance)):
        raise ValueError("the head's moments or the text features are not finite")
    basis, covariance = moments.basis, moments.covariance
    mean = moments.mean if basis is None else moments.mean @ basis
    whole = covariance.trace() if basis is None else (covariance * (basis @ basis.T)).sum()  # the head's, also beyond the span
    if whole <= (NOISE * moments.eps) ** 2 * mean.square().sum():
        return TextSpan([], [], mean.new_zeros(0, len(mean)), torch.zeros(0), mean)
    span = _span(moments, rank, whole)  # [r, E]
    inward = span.T if basis is None else basis @ span.T  # coordinates -> span, [k, r]
    covariance = inward.T @ covariance @ inward
    projected = text_features @ span.T  # [T, r]
    squared = projected.square().sum(1)  # of each text, less what is taken
    variance = ((projected @ covariance) * projected).sum(1)
    floor = 1e-10 * text_features.square().sum(1)  # of a text with less in the span, or less left, the direction is rounding
    indices, directions, explained, rest = [], [], [], covariance
    for _ in range(min(size, len(texts))):
        left = squared > floor
        criterion = torch.where(left, variance / torch.where(left, squared, 1) if normalised else variance, -1)
        best = criterion.argmax().item()
        if not left[best] or variance[best] <= 1e-13 * whole * squared[best]:
            break
        direction = projected[best]
        for taken in directions * 2:  # twice, so that the basis stays orthonormal to the last digit
            direction = direction - (direction @ taken) * taken
        direction = direction / direction.norm()
        along = projected @ direction  # <text, direction>, for the texts less what is taken just as well
        push = rest @ direction
        gain = direction @ push
        variance = variance - 2 * along * (projected @ push) + along.square() * gain
        squared = squared - along.square()
        rest = rest - torch.outer(push, direction) - torch.outer(direction, push) + gain * torch.outer(direction, direction)
        indices.append(best)
        directions.append(direction)
        explained.append((gain / whole).item())
    found = torch.stack(directions) @ span if directions else span[:0]
    return TextSpan(indices, [texts[k] for k in indices], found, torch.tensor(explained), mean)


def _span(moments: HeadMoments, rank: int | None, whole: Tensor) -> Tensor:
    """Leading right singular vectors of the uncentred outputs, [r, E], from a root of their second moment."""
    values, vectors = torch.linalg.eigh(moments.covariance)
    rows = torch.cat([values.clamp(min=0).sqrt()[:, None] * vectors.T, moments.mean[None]])  # rows.T @ rows is the second moment
    _, sizes, directions = torch.linalg.svd(rows if moments.basis is None else rows @ moments.basis, full_matrices=False)
    if rank is not None:
        return directions[:rank]
    return directions[sizes > max(NOISE * moments.eps * sizes[0], 3e-7 * whole.sqrt())]  # the latter is what eigh tells from 0


def top_images(
    clip: Clip, images: Sequence, spans: dict[Head, TextSpan], text_features: Tensor, k: int = 4, ln: str | None = None, **options
) -> dict[Head, Tensor]:
    """Numbers of the images with the highest <c_head, text>, for each text of each head (thesis, figures 2.4 and A.5).

    text_features: those of the pool that the spans were chosen from. Returns [k, m] for each head, best image first.
    """
    statistics, found = ask_tops(clip, spans, text_features, k)
    feed(clip, images, statistics, ln=ln, **options)
    return found()


def ask_tops(clip: Clip, spans: dict[Head, TextSpan], text_features: Tensor, k: int = 4) -> Asked:
    """What `top_images` asks of a pass."""
    best = {head: TopK(k) for head in spans}
    text_features = clip.vectors(text_features)
    wanted = {head: text_features[span.indices] for head, span in spans.items()}

    def view(head):
        return lambda batch: (batch.heads[:, *head] @ wanted[head].to(batch.heads).T, batch.numbers)

    return Asked([(best[head], view(head)) for head in spans], lambda: {head: top.images for head, top in best.items()})


def reconstruction_accuracy(
    clip: Clip,
    images: Sequence,
    classifier: Tensor,
    spans: dict[str, dict[Head, TextSpan]],
    sizes: Sequence[int],
    keep_mlps: bool = False,
    ln: str | None = None,
    mean: Tensor | None = None,
    **options,
) -> dict[str, list[float]]:
    """Zero-shot accuracy when heads are replaced by their projection on their texts (thesis, figures 2.3 and A.1).

    images: items (pixels, label); classifier: [C, E]; spans: for each pool, the spans of the same heads; sizes: rising. All
    other terms of the representation are replaced by their means; keep_mlps leaves embedding and MLPs as they are, as the
    published code does. mean: [E], the mean representation of the images that the spans come from, each of unit length; where it
    is given, the other terms' mean is what it leaves over, and one pass does. Returns, for each pool, the accuracy at each size.
    Raises ValueError for pools of different heads, sizes that do not rise, labels that are no class, and a mean with keep_mlps.
    """
    if list(sizes) != sorted(set(sizes)) or min(sizes, default=0) < 1:
        raise ValueError(f"sizes must rise from at least 1, got {list(sizes)}")
    heads = sorted(next(iter(spans.values())))
    if any(sorted(pool) != heads for pool in spans.values()):
        raise ValueError("all pools need spans of the same heads")
    if keep_mlps and mean is not None:
        raise ValueError("with keep_mlps the mean of the other terms takes a pass of its own; leave mean out")
    layers, numbers = torch.tensor(heads).T
    scores = Moments()

    def others(batch):  # what is not replaced by texts
        chosen = batch.heads[:, layers, numbers].sum(1)
        if keep_mlps:
            kept = batch.layers[:, [k for k, label in enumerate(batch.effects.labels) if not label.startswith("attention")]].sum(1)
            return batch.representation - kept - chosen, kept
        return batch.representation - chosen, torch.zeros_like(chosen)

    if mean is None:
        rest = Moments()
        feed(clip, images, [(rest, lambda batch: others(batch)[0])], ln=ln, **in_pass(1, options))
        mean_of_rest = rest.mean
    else:
        first = next(iter(spans.values()))
        mean_of_rest = mean.cpu().double() - sum(first[head].mean for head in heads)
    text, tables = clip.vectors(classifier, "a classifier").to(compute_dtype(clip)), []
    for by_head in spans.values():
        mean = torch.stack([by_head[head].mean for head in heads]).to(text)
        basis = torch.zeros(len(heads), sizes[-1], clip.d_embed).to(text)
        for k, head in enumerate(heads):
            rows = by_head[head].directions[: sizes[-1]]
            basis[k, : len(rows)] = rows.to(text)
        tables.append((mean, basis, basis @ text.T))

    def correct(batch):
        labels = checked_labels(batch.targets, text)
        constant = (mean_of_rest.to(text) + others(batch)[1]) @ text.T
        rows = []
        for mean, basis, says in tables:
            along = torch.einsum("bhE,hmE->bhm", batch.heads[:, layers, numbers] - mean, basis)
            logits, start = constant + mean.sum(0) @ text.T, 0
            for size in sizes:
                logits = logits + torch.einsum("bhm,hmC->bC", along[..., start:size], says[:, start:size])
                rows.append(logits.argmax(1) == labels)
                start = size
        return torch.stack(rows, 1).float()

    feed(clip, images, [(scores, correct)], ln=ln, **in_pass(2, options))
    accuracy = scores.mean.unflatten(0, (len(spans), len(sizes)))
    return {pool: row.tolist() for pool, row in zip(spans, accuracy)}
