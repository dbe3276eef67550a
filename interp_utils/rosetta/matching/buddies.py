"""Mutual nearest neighbours among the units of two models, and the controls that say what their number means."""

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
    if k < 1 or rule not in ("mutual", "published"):
        raise ValueError(f"need k of at least 1 and rule 'mutual' or 'published', got {k} and {rule!r}")
    n_rows, n_columns = corr.shape
    near_rows = corr.topk(min(1 if rule == "published" else k, n_columns), dim=1).indices  # [A, k]
    near_columns = corr.topk(min(k, n_rows), dim=0).indices  # [k, C]
    ours = torch.arange(n_rows, device=corr.device)[:, None] * n_columns + near_rows
    theirs = near_columns * n_columns + torch.arange(n_columns, device=corr.device)
    both = ours[torch.isin(ours, theirs)].sort().values
    pairs = torch.stack([both // n_columns, both % n_columns], 1)
    return pairs[corr[pairs[:, 0], pairs[:, 1]] > 0]


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
