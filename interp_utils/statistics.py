"""Tests and intervals that chapters share."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike

MOST = 40  # differences that are flipped exactly: two halves of 2^20 sums each


def sign_flip_p(change: ArrayLike) -> float:
    """One-sided p of the mean of paired differences [n]: the share of all 2^n choices of signs that give as much (Fisher 1935).

    Exact where the two of a pair could be swapped, whatever the distribution of the answers, so the smallest p is 2^-n. Differences
    that are skewed about a mean of zero are another null, for which no test of a mean keeps its level (Bahadur and Savage 1956):
    ask for a large effect too. Raises ValueError for fewer than 3 or more than 40 differences, and values that are not finite.
    """
    change = _numbers(change)
    if change.ndim != 1 or not 3 <= len(change) <= MOST or not np.isfinite(change).all():
        raise ValueError(f"need at least 3 pairs, at most {MOST}, all finite; got differences of shape {list(change.shape)}")
    half = len(change) // 2
    first, second = _signed_sums(change[:half]), np.sort(_signed_sums(change[half:]))
    least = change.sum() - 1e-9 * np.abs(change).sum()  # so that rounding does not decide between equals
    return float((len(second) - np.searchsorted(second, least - first)).sum() / 2.0 ** len(change))


def interval(statistic: Callable[[np.ndarray], ArrayLike], n: int, resamples: int = 1000, seed: int = 0) -> np.ndarray:
    """95 percent interval of statistic(rows) by bootstrap: [2, ...], the 2.5 and 97.5 percentiles over draws of n rows of n.

    rows: [n] numbers of what was sampled (images, units), with repetition; draws in which a value is nan do not count for it.
    Raises ValueError for fewer than 3 rows.
    """
    if n < 3:
        raise ValueError(f"need at least 3 of what was sampled for an interval, got {n}")
    rng = np.random.default_rng(seed)
    drawn = [_numbers(statistic(rng.integers(n, size=n))) for _ in range(resamples)]
    return np.nanquantile(drawn, [0.025, 0.975], axis=0)


class Interval(NamedTuple):
    """A mean and half the width of its 95 percent interval; a format for numbers gives both: f"{found:.1f}" is "79.1 ± 3.8"."""

    mean: float
    half: float

    def __format__(self, spec: str) -> str:
        scale, spec, unit = (100, spec[:-1] + "f", "%") if spec.endswith("%") else (1, spec, "")
        return f"{scale * self.mean:{spec}} ± {scale * self.half:{spec.lstrip('+')}}{unit}"

    def above(self, value: float) -> bool:
        """Whether the mean is more than three standard errors above a value."""
        return self.mean - 3 / 1.96 * self.half > value

    def below(self, value: float) -> bool:
        """Whether the mean is more than three standard errors below a value."""
        return self.mean + 3 / 1.96 * self.half < value


def mean_interval(values: ArrayLike) -> Interval:
    """Mean of values [n] and half the width of its 95 percent interval, 1.96 standard errors.

    Raises ValueError for fewer than 3 values, and for values that are not finite.
    """
    values = _numbers(values)
    if values.ndim != 1 or len(values) < 3 or not np.isfinite(values).all():
        raise ValueError(f"need at least 3 numbers, all finite; got an array of shape {list(values.shape)}")
    return Interval(float(values.mean()), float(1.96 * values.std(ddof=1) / len(values) ** 0.5))


def holm(p: Sequence[float]) -> list[float]:
    """P-values corrected so that, over all tests together, a false one is accepted at most at the stated level (Holm 1979)."""
    p = _numbers(p)
    order, corrected, highest = p.argsort(), np.empty(len(p)), 0.0
    for rank, k in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - rank) * p[k]))
        corrected[k] = highest
    return corrected.tolist()


def _numbers(values: ArrayLike) -> np.ndarray:
    """An array of floats, also of a tensor on a GPU or with a gradient."""
    return np.asarray(values.detach().cpu() if isinstance(values, torch.Tensor) else values, float)


def _signed_sums(values: np.ndarray) -> np.ndarray:
    """Sums of the values under all choices of signs, [2^n]."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return sums
