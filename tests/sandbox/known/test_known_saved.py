"""The saved tables of chapter 4 are what the code gives: their first rows are made again."""

from functools import cache

import pytest
import torch

from interp_utils import rosetta
from interp_utils.sandbox.known import mining, tables, units


@pytest.fixture(autouse=True, scope="module")
def mined():
    """All tables start from one dictionary, which is mined once here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "mine", cache(tables.mine))
        yield tables.mine()


@pytest.mark.parametrize("row", ["right, Rosetta", "remove, same correlation, in w"])
def test_saved_edits_are_what_the_code_gives(mined, row):
    saved = tables.saved("edits")
    n = len(saved[row]["growth"])
    found = tables.edits_by(mined.own, saved, n, first=3, only=(row,))[row]
    for measure in ("right", "down", "growth"):
        torch.testing.assert_close(found[measure], saved[row][measure][:3], atol=0.05, rtol=0.1, equal_nan=True)
    edit = row.split(",")[0]
    assert (rosetta.success(edit, found) == rosetta.success(edit, {m: v[:3] for m, v in saved[row].items()})).sum() >= 2


def test_saved_edits_of_the_gan_are_what_the_code_gives():
    generator, row, saved = units.styles(rosetta.load_unit_model(mining.GAN)), "right, Rosetta", tables.saved("gan")
    own = rosetta.correlate(generator, generator, generator.sample(160, seed=0), batch_size=32)
    found = tables.edits_by(own, saved, len(saved[row]["growth"]), first=3, only=(row,), of=mining.GAN)[row]
    for measure in ("right", "down", "growth"):
        torch.testing.assert_close(found[measure], saved[row][measure][:3], atol=0.05, rtol=0.1, equal_nan=True)


def test_saved_places_between_generators_are_what_the_code_gives():
    saved = tables.saved("led")
    found = tables.led(len(saved["trained"]["x"]), first=3, only=("trained",))["trained"]
    torch.testing.assert_close(found["x"], saved["trained"]["x"][:3])
    gaps = [(found[f"found {axis}"] - saved["trained"][f"found {axis}"][:3]).abs() for axis in "xy"]
    assert (torch.stack(gaps).amax(0) < 0.08).sum() >= 2


def test_saved_places_are_what_the_code_gives():
    row = "photo, trained"
    saved = tables.saved("layout")
    n = len(saved[row]["x"])
    found = tables.layout(n, first=3, only=(row,))[row]
    torch.testing.assert_close(found["x"], saved[row]["x"][:3])
    gaps = [(found[f"found {axis}"] - saved[row][f"found {axis}"][:3]).abs() for axis in "xy"]
    assert (torch.stack(gaps).amax(0) < 0.08).sum() >= 2


def test_saved_inversions_are_what_the_code_gives():
    rows = "perceptual loss, 80 steps", "+ all, 80 steps"
    saved = tables.saved("inversion")
    found = tables.inversion(len(saved[rows[0]]["PSNR"]), first=1, only=rows)
    for row in rows:
        torch.testing.assert_close(found[row]["PSNR"], saved[row]["PSNR"][:1], atol=0.5, rtol=0)


def test_saved_best_buddies_are_what_the_code_gives():
    name = "sandbox/viewers/clip_resnet"
    saved, found = tables.saved("buddies"), tables.buddies(names=(name,), positions=("taken out",), seeds=1)
    for which in ("trained", "untrained"):
        row = f"{name}, {which}, taken out"
        for measure, room in (("pairs", 0.05), ("above", 0.15), ("mean", 0.05)):
            assert found[row][measure][0].item() == pytest.approx(saved[row][measure][0].item(), rel=room), (which, measure)
