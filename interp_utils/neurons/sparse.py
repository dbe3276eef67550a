"""Sparse text for neurons: each direction as a sum of few texts, by orthogonal matching pursuit (thesis, section 3.4)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..checks import checked_count, finite
from ..rounding import negligible

CHUNK = 512  # targets that are coded at the same time


def omp(targets: Tensor, atoms: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Orthogonal matching pursuit for many targets at once (Pati et al. 1993; thesis, section 3.4).

    targets: [n, E]; atoms: [T, E], of any length. Each step takes, for each target, the atom with the largest absolute inner
    product with what is left, then fits all weights anew: the picks and weights of scikit-learn's `orthogonal_mp`. Returns
    indices [n, size] and weights [n, size] in the order of selection; once nothing is left of a target, or its best atom
    depends on those taken, index -1 and weight 0.
    Raises ValueError for sizes below 1 or above T, other widths, and values that are not finite.
    """
    if targets.ndim != 2 or atoms.ndim != 2 or targets.shape[1] != atoms.shape[1]:
        raise ValueError(f"need targets [n, E] and atoms [T, E] of one width, got {list(targets.shape)} and {list(atoms.shape)}")
    size = checked_count("size", size, len(atoms))
    if not (finite(targets) and finite(atoms)):
        raise ValueError("targets or atoms are not finite; check the directions and the text features")
    atoms = atoms.to(targets)
    parts = [_omp(targets[start : start + CHUNK], atoms, size) for start in range(0, len(targets), CHUNK)]
    return torch.cat([indices for indices, _ in parts]), torch.cat([weights for _, weights in parts])


def _omp(targets: Tensor, atoms: Tensor, size: int) -> tuple[Tensor, Tensor]:
    n, floor = len(targets), torch.finfo(targets.dtype).eps
    indices = torch.full((n, size), -1, device=targets.device)
    basis = targets.new_zeros(n, size, targets.shape[1])  # orthonormal, spans the atoms taken
    triangle = torch.eye(size, dtype=targets.dtype, device=targets.device).expand(n, -1, -1).clone()  # atoms = triangle^T basis
    along = targets.new_zeros(n, size)  # of the target, in that basis
    rest, going = targets.clone(), targets.norm(dim=1) > 0
    for step in range(size):
        match = (rest @ atoms.T).abs_()
        if step:
            match.scatter_(1, indices[:, :step].clamp(min=0), -1.0)
        score, best = match.max(1)
        new, taken = atoms[best], basis[:, :step]
        coordinates, left = targets.new_zeros(n, step), new
        for _ in range(2):  # twice, so that the basis stays orthonormal to the last digit
            more = torch.einsum("nsE,nE->ns", taken, left)
            coordinates, left = coordinates + more, left - torch.einsum("nsE,ns->nE", taken, more)
        length = left.norm(dim=1)
        going = going & (score > floor * targets.norm(dim=1) * new.norm(dim=1)) & (length > floor**0.5 * new.norm(dim=1))
        if not going.any():
            break
        left = torch.where(going[:, None], left / length.clamp(min=1e-30)[:, None], 0)
        triangle[:, :step, step] = torch.where(going[:, None], coordinates, 0)
        triangle[:, step, step] = torch.where(going, length, 1)
        basis[:, step] = left
        along[:, step] = (rest * left).sum(1)
        rest = rest - along[:, step, None] * left
        indices[:, step] = torch.where(going, best, -1)
    weights = torch.linalg.solve_triangular(triangle, along[..., None], upper=True)[..., 0]
    return indices, weights


def text_atoms(text_features: Tensor, scaling: str = "unit") -> Tensor:
    """Atoms [T, E] from unit text vectors [T, E]: as they are ("unit"), or scaled as in the thesis's code ("published").

    "unit": the M_text(t) of the thesis's text. "published": 100 times the texts, less their mean over the pool, each axis then
    divided by its length over the pool and multiplied by 100. Such atoms depend on the pool and are not of unit length.
    Raises ValueError for another scaling.
    """
    if scaling == "unit":
        return text_features
    if scaling != "published":
        raise ValueError(f"scaling must be 'unit' or 'published', got {scaling!r}")
    mean, count = text_features.mean(0), len(text_features)
    centred = 100 * (text_features - mean)
    lengths = centred.norm(dim=0)
    still = negligible(lengths, 100 * count**0.5 * mean.abs(), text_features.dtype)  # an axis on which no text differs
    return torch.where(still, 0, 100 * centred / torch.where(still, 1, lengths))


@dataclass(frozen=True)
class SparseTexts:
    """Few texts for each of n directions."""

    texts: list[str]  # the pool
    atoms: Tensor  # [T, E], the vectors of the pool
    directions: Tensor  # [n, E], what is described
    indices: Tensor  # [n, m], into the pool, in the order of selection; -1 where the direction needed no more
    weights: Tensor  # [n, m]

    def of(self, neuron: int, k: int = 4) -> list[tuple[str, float]]:
        """The k texts of largest absolute weight and their weights, largest first (thesis, tables 3.2 and B.1)."""
        weights, k = self.weights[neuron], checked_count("k", k)
        order = weights.abs().argsort(descending=True)[:k]
        return [(self.texts[self.indices[neuron, j]], weights[j].item()) for j in order.tolist() if self.indices[neuron, j] >= 0]

    def reconstruct(self, size: int | None = None) -> Tensor:
        """The directions rebuilt from their first `size` texts, their weights fitted anew: [n, E].

        Raises ValueError for more texts than there are.
        """
        most = self.indices.shape[1]
        size = checked_count("size", most if size is None else size, most)
        rebuilt = []
        for start in range(0, len(self.directions), CHUNK):
            chosen = self.indices[start : start + CHUNK, :size]
            taken = torch.where((chosen >= 0)[..., None], self.atoms[chosen], 0)  # [n, size, E]
            basis, triangle = torch.linalg.qr(taken.mT)
            basis = torch.where(triangle.diagonal(dim1=1, dim2=2).abs()[:, None] > 0, basis, 0)
            along = torch.einsum("nEs,nE->ns", basis, self.directions[start : start + CHUNK])
            rebuilt.append(torch.einsum("nEs,ns->nE", basis, along))
        return torch.cat(rebuilt)

    def cosine(self, size: int | None = None) -> float:
        """Mean cosine of the directions with what `reconstruct` makes of them."""
        return torch.cosine_similarity(self.directions, self.reconstruct(size)).mean().item()


def sparse_texts(
    directions: Tensor, text_features: Tensor, texts: Sequence[str], size: int = 128, scaling: str = "unit"
) -> SparseTexts:
    """Describe each direction [n, E] by `size` texts with signed weights (thesis, section 3.4).

    text_features: [T, E], unit rows; scaling: see `text_atoms`.
    Raises ValueError for an empty pool, another number of texts than features, and what `omp` raises.
    """
    if len(texts) == 0 or len(texts) != len(text_features):
        raise ValueError(f"need a feature for each of at least one text, got {len(texts)} texts, {len(text_features)} features")
    atoms = text_atoms(text_features.to(directions), scaling)
    return SparseTexts(list(texts), atoms, directions, *omp(directions, atoms, size))
