import numpy as np
import pytest
import torch
from small_clips import noise

from interp_utils import heads, neurons, science
from interp_utils.checks import checked_count, checked_numbers, finite


def test_counts_are_whole_numbers_within_bounds():
    assert checked_count("k", np.int64(3), 3) == 3 and checked_count("k", 0, least=0) == 0
    for wrong, most in ((0, None), (-3, None), (4, 3)):
        with pytest.raises(ValueError, match=f"k must be .*, got {wrong}"):
            checked_count("k", wrong, most)
    for wrong in (2.0, True, "3", None):
        with pytest.raises(ValueError, match="k must be a whole number, at least 1, got"):
            checked_count("k", wrong)


def test_numbers_are_integers():
    assert checked_numbers("numbers", [3, 1]).tolist() == [3, 1]
    for wrong in (torch.tensor([True]), torch.tensor([1.0]), torch.tensor(3), torch.ones(2, 2).long()):
        with pytest.raises(ValueError, match="numbers must be integers"):
            checked_numbers("numbers", wrong)


@pytest.mark.parametrize("wrong", [0, -1, -3])
def test_a_size_that_python_would_count_from_the_end_is_refused(tiny, wrong):
    span = heads.textspan(torch.randn(20, 4, generator=torch.Generator().manual_seed(0)), torch.eye(4), list("abcd"), 3)
    texts = neurons.SparseTexts(list("abcd"), torch.eye(4), torch.eye(4), torch.arange(4)[:, None], torch.ones(4, 1))
    moved = [
        lambda: heads.kind_shares(span, ["kind"] * 4, wrong),
        lambda: heads.heads_about({(0, 0): span}, ["kind"] * 4, ["kind"], size=wrong),
        lambda: heads.neighbours(torch.eye(4), 0, wrong),
        lambda: texts.of(0, wrong),
        lambda: neurons.named_facts(texts, wrong),
        lambda: neurons.spurious_words(texts, torch.ones(4), wrong),
        lambda: heads.remove_cue(tiny, [], torch.eye(4), [(0, 0)], 2, random_heads=wrong),
        lambda: science.register_neurons(tiny, noise(tiny, 1), 0.0, 0, wrong),
    ] + ([lambda: science.top_masks(torch.ones(4), [wrong])] if wrong else [])
    for call in moved:
        with pytest.raises(ValueError, match=f"must be .*, got {wrong}"):
            call()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.bool])
def test_finite_says_what_a_mask_of_all_values_says(dtype):
    plain = torch.ones(3, 4).to(dtype)
    cases = [plain, plain[:0]]
    if dtype.is_floating_point:
        for bad in (float("nan"), float("inf"), float("-inf")):
            cases.append(plain.index_fill(1, torch.tensor([2]), bad))
        cases.append(torch.full((2,), torch.finfo(dtype).max, dtype=dtype))  # whose sum is not finite
    assert [finite(case) for case in cases] == [bool(case.isfinite().all()) for case in cases]
