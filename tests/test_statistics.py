"""Exact tests against their plain definition, and the family-wise error where a t-test exceeds its level."""

import numpy as np
import pytest
from scipy.stats import permutation_test, ttest_1samp

from interp_utils.statistics import holm, interval, mean_interval, sign_flip_p


@pytest.mark.parametrize("n", [3, 8, 13])
def test_sign_flips_count_all_choices_of_signs(n):
    rng = np.random.default_rng(n)
    for change in (rng.normal(0.3, 1, n), rng.integers(-2, 4, n), np.ones(n), np.zeros(n)):
        plain = permutation_test((change,), np.sum, permutation_type="samples", alternative="greater", n_resamples=np.inf)
        assert sign_flip_p(change) == pytest.approx(plain.pvalue)
    assert sign_flip_p(np.full(n, 0.1)) == 2.0**-n


def test_equals_count_whatever_the_rounding():
    change = np.array([0.1, 0.2, 0.3, -0.3, 0.1, 0.1, -0.2])  # many sums that are equal but for the last digit
    assert sign_flip_p(change) == sign_flip_p(np.rint(10 * change)) == sign_flip_p(change[::-1] / 3)


def test_sign_flips_refuse_what_they_cannot_do():
    for change in ([1.0, 2.0], np.ones(41), [1.0, np.nan, 2.0], np.ones((3, 3))):
        with pytest.raises(ValueError, match="need at least 3 pairs, at most 40"):
            sign_flip_p(change)


def test_the_family_wise_error_keeps_its_level_where_twins_could_be_swapped():
    """Skewed answers, and a unit that is on or off in pairs that differ; with t-tests on the latter Holm errs too often."""
    rng, errors = np.random.default_rng(0), []
    for _ in range(500):
        skewed = rng.lognormal(sigma=2, size=(50, 12)) - rng.lognormal(sigma=2, size=(50, 12))
        switched = rng.choice([-1, 1], (50, 12)) + 0.01 * rng.normal(size=(50, 12))
        t = ttest_1samp(switched, 0, axis=1, alternative="greater").pvalue
        errors.append([min(holm(p)) < 0.05 for p in ([*map(sign_flip_p, skewed)], [*map(sign_flip_p, switched)], t)])
    skewed, switched, t = np.mean(errors, 0)
    room = 3 * (0.05 * 0.95 / 500) ** 0.5
    assert max(skewed, switched) <= 0.05 + room < t


def test_holm_keeps_the_level_over_all_tests():
    assert holm([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.09, 0.09, 0.5])
    rng = np.random.default_rng(0)
    false = np.mean([min(holm(rng.random(50))) < 0.05 for _ in range(2000)])
    assert abs(false - 0.05) < 0.015


def test_an_interval_covers_what_was_sampled():
    rng = np.random.default_rng(0)
    samples = rng.exponential(size=(200, 40, 2))  # of two things at once
    found = np.array([interval(lambda rows, x=x: x[rows].mean(0), len(x), resamples=200) for x in samples])  # [200, low or high, 2]
    covered = ((found[:, 0] < 1) & (found[:, 1] > 1)).mean()
    assert 0.85 < covered < 0.98
    values = np.array([1.0, np.nan, 2.0, 3.0])
    assert np.isfinite(interval(lambda rows: values[rows].sum(), 4)).all(), "a draw without a value does not count"
    with pytest.raises(ValueError, match="at least 3 of what was sampled"):
        interval(np.mean, 2)


def test_a_mean_with_its_interval_formats_both_and_knows_three_standard_errors():
    found = mean_interval([1.0, 2.0, 3.0])
    half = 1.96 / 3**0.5
    assert tuple(found) == pytest.approx((2, half)) and (found.mean, found.half) == tuple(found)
    assert f"{found:.1f}" == "2.0 ± 1.1" and f"{mean_interval([0.1, 0.2, 0.3]):.0%}" == "20 ± 11%"
    assert f"{found:+.1f}" == "+2.0 ± 1.1", "half a width has no sign"
    edge = 2 - 3 / 3**0.5
    assert found.above(edge - 0.01) and not found.above(edge + 0.01)
    assert found.below(4 - edge + 0.01) and not found.below(4 - edge - 0.01)
