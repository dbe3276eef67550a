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


def test_saved_places_are_what_the_code_gives():
    row = "photo, trained"
    saved = tables.saved("layout")
    n = len(saved[row]["x"])
    found = tables.layout(n, first=4, only=(row,))[row]
    torch.testing.assert_close(found["x"], saved[row]["x"][:4])
    gaps = [(found[f"found {axis}"] - saved[row][f"found {axis}"][:4]).abs() for axis in "xy"]
    assert (torch.stack(gaps).amax(0) < 0.08).sum() >= 3


def test_saved_inversions_are_what_the_code_gives():
    rows = "perceptual loss, 80 steps", "+ all, 80 steps"
    saved = tables.saved("inversion")
    found = tables.inversion(len(saved[rows[0]]["PSNR"]), first=2, only=rows)
    for row in rows:
        torch.testing.assert_close(found[row]["PSNR"], saved[row]["PSNR"][:2], atol=0.5, rtol=0)


def test_saved_best_buddies_are_what_the_code_gives():
    name = "sandbox/viewers/clip_resnet"
    saved, found = tables.saved("buddies"), tables.buddies(names=(name,), seeds=1)
    for which in ("trained", "untrained"):
        row = f"{name}, {which}, taken out"
        for measure, room in (("pairs", 0.05), ("above", 0.15), ("mean", 0.05)):
            assert found[row][measure][0].item() == pytest.approx(saved[row][measure][0].item(), rel=room), (which, measure)
