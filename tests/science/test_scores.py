"""Claims against a known truth."""

import numpy as np
import pytest
import torch

from interp_utils import science
from interp_utils.sandbox import FACTS


def read(text):
    return [FACTS[int(word)] for word in text.split()]


@pytest.fixture
def true():
    table = torch.zeros(5, len(FACTS), dtype=torch.bool)
    table[1, [0, 1]] = table[2, 3] = table[3, 4] = True
    return table


def test_precision_and_recall_count_facts_of_the_chosen_units(true):
    claims = [(1, "0 9"), (2, "3"), (4, "8")]
    score = science.score_claims([claims], true, [1, 2, 3], read)
    assert score.counts.tolist() == [[1, 2, 2], [1, 1, 1], [0, 0, 1]], "unit 4 is none of them"
    assert score.rates().tolist() == [2 / 3, 2 / 4]
    assert score.rates([0, 0]).tolist() == [1 / 2, 1 / 2]
    assert str(score).startswith("3; 67% (") and "; 50% (" in str(score)


def test_draws_are_pooled(true):
    two = science.score_claims([[(1, "0")], [(1, "9")]], true, [1, 2, 4], read)
    assert two.rates().tolist() == [1 / 2, 1 / 6]
    assert str(two).startswith("1; "), "claims of a draw"


def test_a_lead_is_a_difference_with_its_interval_over_units(true):
    right = science.score_claims([[(k, str(f)) for k, f in true.nonzero().tolist()]], true, [1, 2, 3], read)
    wrong = science.score_claims([[(1, "9"), (2, "9"), (3, "9")]], true, [1, 2, 3], read)
    assert right.lead(wrong, "precision") == (1.0, 1.0, 1.0)
    lead, low, high = right.lead(science.score_claims([[(1, "0 1")]], true, [1, 2, 3], read), "recall")
    assert lead == pytest.approx(1 / 2) and 0 <= low < lead < high <= 1
    with pytest.raises(ValueError, match="'precision' or 'recall', got 'f1'"):
        right.lead(wrong, "f1")


def test_no_claim_has_no_precision(true):
    none = science.score_claims([[]], true, [1, 2, 3], read)
    assert np.isnan(none.rates()[0]) and none.rates()[1] == 0
