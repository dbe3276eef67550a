"""Mutual nearest neighbours among the units of two models, and the controls that say what their number means."""

from collections.abc import Sequence

import torch
from torch import Tensor


def best_buddies(corr: Tensor, k: int = 5, rule: str = "mutual") -> Tensor:
    """Pairs (row, column) of units that are among each other's k nearest neighbours (thesis, eq. 4.3), [P, 2] in row order.

    corr: correlations [A, C]; for units of one model with themselves take them out first with `fill_diagonal_(-1)`. Only
    positive correlations count. rule: "mutual", or "published" for that of the published code: the column's unit must be the
    row's very nearest, and the row's unit among the column's k nearest.
    Raises ValueError for an empty matrix, values that are not finite, k below 1 or another rule.
    """
    if corr.ndim != 2 or corr.numel() == 0 or not corr.isfinite().all():
        raise ValueError(f"need a matrix of finite correlations, got shape {list(corr.shape)}")
    n_rows, n_columns = corr.shape
    values, near_rows = corr.topk(min(max(k, 1), n_columns), dim=1)
    return mutual(near_rows, values, corr.topk(min(max(k, 1), n_rows), dim=0).indices.T, k, rule)[0]


def mutual(near_rows: Tensor, values: Tensor, near_columns: Tensor, k: int, rule: str) -> tuple[Tensor, Tensor]:
    """`best_buddies` of neighbours: of each row [A, k] with their correlations, and of each column [C, k], nearest first.

    Gives the pairs [P, 2] and their correlations [P].
    """
    if k < 1 or rule not in ("mutual", "published"):
        raise ValueError(f"need k of at least 1 and rule 'mutual' or 'published', got {k} and {rule!r}")
    n_columns, n = len(near_columns), 1 if rule == "published" else k
    ours = torch.arange(len(near_rows), device=near_rows.device)[:, None] * n_columns + near_rows[:, :n]
    theirs = near_columns[:, :k] * n_columns + torch.arange(n_columns, device=near_rows.device)[:, None]
    both = torch.isin(ours, theirs.reshape(-1)) & (values[:, :n] > 0)
    numbers, order = ours[both].sort()
    return torch.stack([numbers // n_columns, numbers % n_columns], 1), values[:, :n][both][order]


def buddy_summary(corr: Tensor, k: int = 5) -> dict[str, float]:
    """How many best buddies there are: "pairs", the rows that have one ("units"), and the pairs' mean correlation ("mean").

    Any matrix has mutual neighbours, so read these beside those of shuffled images (`correlate(..., shuffled=True)`) and of an
    untrained model (`load_unit_model(name, pretrained=False)`). Without a pair the mean is 0.
    """
    pairs = best_buddies(corr, k)
    values = corr[pairs[:, 0], pairs[:, 1]]
    return {"pairs": len(pairs), "units": len(pairs[:, 0].unique()), "mean": values.mean().item() if len(pairs) else 0.0}


def stability(corr: Tensor, other: Tensor, k: int = 5) -> float:
    """Jaccard index of the best buddies found on two disjoint samples of images: 1 where both find the same pairs.

    Raises ValueError for correlations of different units.
    """
    if corr.shape != other.shape:
        raise ValueError(f"need correlations of the same units, got {list(corr.shape)} and {list(other.shape)}")
    first, second = ({tuple(pair) for pair in best_buddies(matrix, k).tolist()} for matrix in (corr, other))
    return len(first & second) / max(len(first | second), 1)


def overlap_beyond_hubs(first: Tensor, second: Tensor, matches: Sequence[Tensor], k: int = 5) -> tuple[int, float, float]:
    """Units of a model that two selections share, how many chance gives, and its standard deviation: (shared, expected, sd).

    first, second: bool [C], such as the partners in dictionaries of two references; matches: correlations [A, C] with either. Hubs
    are best buddies of many units, so they come back wherever one looks. Chance therefore deals the second selection anew among
    units that have as many best buddies in either matching (hypergeometric in each group; Mantel and Haenszel 1959).
    Raises ValueError for selections and matches of other units.
    """
    n_units = len(first)
    if any(match.shape[1] != n_units for match in matches) or second.shape != first.shape or len(matches) != 2:
        raise ValueError(f"need selections and two matches of the same units, got {[len(first), len(second)]} and {len(matches)}")
    degrees = [best_buddies(match, k)[:, 1].cpu().bincount(minlength=n_units) for match in matches]
    groups = torch.stack(degrees, 1).unique(dim=0, return_inverse=True)[1]
    size, ours, theirs = (groups.bincount(weights=w.double().cpu()) for w in (torch.ones(n_units), first, second))
    expected = ours * theirs / size
    variance = expected * (size - ours) * (size - theirs) / (size * (size - 1).clamp(min=1))
    return int((first & second).sum()), expected.sum().item(), variance.sum().sqrt().item()
