"""The saved tables of chapter 4 are what the code gives: their first rows are made again."""

import pytest
import torch

from interp_utils import rosetta
from interp_utils.sandbox.known import tables, units


@pytest.fixture(scope="module")
def own():
    generator = units.styles(rosetta.load_unit_model(units.NAME))
    return rosetta.correlate(generator, generator, generator.sample(160), batch_size=32)


@pytest.mark.parametrize("row", ["right, Rosetta", "remove, same correlation, in w"])
def test_saved_edits_are_what_the_code_gives(own, row):
    saved = tables.saved("edits")
    n = len(saved[row]["growth"])
    found = tables.edits_by(own, saved, n, first=3, only=(row,))[row]
    for measure in ("right", "down", "growth"):
        torch.testing.assert_close(found[measure], saved[row][measure][:3], atol=0.05, rtol=0.1, equal_nan=True)
    edit = row.split(",")[0]
    assert (rosetta.success(edit, found) == rosetta.success(edit, {m: v[:3] for m, v in saved[row].items()})).sum() >= 2
