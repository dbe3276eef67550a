"""How far claims about units are true: precision and recall against known facts, with intervals over units."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ..statistics import interval
from .truth import claimed_facts


@dataclass(frozen=True)
class ClaimScore:
    """What one or several draws of claims about the same U units have in common with the truth."""

    counts: np.ndarray  # [U, 3]: claims that are true, claims, true facts; summed over draws
    draws: int

    def rates(self, rows=slice(None)) -> np.ndarray:
        """Precision, the share of claimed facts that are true, and recall, the share of true facts that are claimed: [2].

        rows: the units to count, by default all. nan where nothing is claimed, or nothing is true.
        """
        right, claimed, true = self.counts[rows].sum(0)
        return np.array([right / claimed if claimed else np.nan, right / true if true else np.nan])

    def interval(self) -> np.ndarray:
        """95 percent, bootstrap over units, [2, 2]: low and high, each of precision and recall."""
        return interval(self.rates, len(self.counts))

    def lead(self, other: "ClaimScore", which: str) -> tuple[float, float, float]:
        """How far "precision" or "recall" is above another score of the same units, and the ends of its interval over units."""
        if which not in (names := ("precision", "recall")):
            raise ValueError(f"which must be 'precision' or 'recall', got {which!r}")
        k = names.index(which)

        def change(rows):
            return self.rates(rows)[k] - other.rates(rows)[k]

        return float(change(slice(None))), *interval(change, len(self.counts)).tolist()

    def __str__(self) -> str:
        """ "30; 97% (90-100); 15% (11-19)": claims of a draw, precision and recall with their intervals."""
        rates = zip(self.rates(), *self.interval())
        shares = [f"{value:.0%} ({100 * low:.0f}-{100 * high:.0f})" for value, low, high in rates]
        return "; ".join([f"{self.counts[:, 1].sum() / self.draws:.0f}", *shares])


def score_claims(
    draws: Sequence[Iterable[tuple[int, str]]], true: Tensor, units: Sequence[int], read: Callable[[str], list]
) -> ClaimScore:
    """Score draws of claims (unit, text) on some of the units: true, bool [all units, F]; read: the facts that a text names."""
    units, truth = list(units), true[list(units)]
    tables = [claimed_facts(claims, len(true), read)[units] for claims in draws]
    counts = sum(np.stack([(t & truth).sum(1), t.sum(1), truth.sum(1)], 1).astype(float) for t in tables)
    return ClaimScore(counts, len(tables))
