"""The saved counts of chapter 5a; that they come out again for one training the notebook asserts."""

import pytest

from interp_utils import science
from interp_utils.science import counted


def test_the_saved_counts_add_up_and_the_test_pays_in_every_training():
    saved = science.saved_counts()
    assert list(saved) == list(counted.CLIPS)
    for kinds in saved.values():
        for kind, n_units in (("heads", 24), ("neurons", 12)):
            found = kinds[kind]
            assert len(found["tested"].counts) == n_units
            assert found["accepted"] + found["refined"] + found["rejected"] == 2 * n_units
            assert found["tested"].rates()[0] > found["untested"].rates()[0] + 0.2, "precision rises"
            assert found["tested"].rates()[1] <= found["untested"].rates()[1], "recall does not"


def test_a_missing_table_says_how_to_get_it_back(tmp_path):
    with pytest.raises(FileNotFoundError, match="git checkout"):
        science.saved_counts(tmp_path / "hypotheses.json")
