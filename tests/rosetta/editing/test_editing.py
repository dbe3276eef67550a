"""Edits of maps are what they say, and the latent that is found draws them."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from interp_utils import rosetta
from interp_utils.rosetta.matching import Units


def one_hot_map(side, row, column):
    maps = torch.zeros(1, 1, side, side)
    maps[..., row, column] = 1
    return maps


def test_a_shift_is_relative_to_the_map():
    maps = [one_hot_map(4, 1, 1), one_hot_map(8, 2, 2)]
    right = rosetta.shift(0.25)(maps)
    assert torch.equal(right[0], one_hot_map(4, 1, 2)) and torch.equal(right[1], one_hot_map(8, 2, 4))
    up_left = rosetta.shift(-0.25, -0.25)(maps)
    assert torch.equal(up_left[0], one_hot_map(4, 0, 0)) and torch.equal(up_left[1], one_hot_map(8, 0, 0))
    flat = rosetta.shift(0.25, -0.5)([torch.ones(1, 2, 4, 4)])[0]
    assert flat.sum() == 2 * 3 * 2 and flat[..., :2, 1:].min() == 1, "what comes in is zero"
    with pytest.raises(ValueError, match="between -1 and 1"):
        rosetta.shift(8)


def test_zoom_is_enlarging_and_cropping():
    maps = [torch.randn(2, 3, 8, 8), torch.randn(2, 1, 4, 4)]
    for old, new in zip(maps, rosetta.zoom(2)(maps)):
        side = old.shape[2]
        large = F.interpolate(old, scale_factor=2, mode="bilinear", align_corners=False)
        torch.testing.assert_close(new, large[..., side // 2 : side // 2 + side, side // 2 : side // 2 + side])
    torch.testing.assert_close(rosetta.zoom(1)(maps)[0], maps[0])
    with pytest.raises(ValueError, match="at least 1"):
        rosetta.zoom(0.5)


def test_copy_and_paste_makes_two_of_what_is_in_the_middle():
    maps = one_hot_map(8, 3, 3) + one_hot_map(8, 3, 4)
    found = rosetta.copy_paste(0.25)([maps])[0]
    expected = sum(one_hot_map(8, 3, column) for column in (1, 2, 5, 6))
    assert torch.equal(found, expected)


def test_setting_units_touches_those_alone():
    units = Units("g", ("x", "y"), (2, 3))
    maps = [torch.randn(2, 2, 4, 4), torch.randn(2, 3, 8, 8)]
    before = [layer.clone() for layer in maps]
    removed = rosetta.set_units(units, [1, 4])(maps)
    assert torch.equal(removed[0][:, 0], maps[0][:, 0]) and torch.equal(removed[1][:, :2], maps[1][:, :2])
    assert torch.equal(removed[0][:, 1], maps[0][:, 1].amin((1, 2), keepdim=True).expand(2, 4, 4))
    stronger = rosetta.set_units(units, [2], 3.0)(maps)
    assert torch.equal(stronger[1][:, 0], 3 * maps[1][:, 0]) and torch.equal(stronger[0], maps[0])
    assert all(torch.equal(a, b) for a, b in zip(maps, before)), "the maps given are left as they were"
    with pytest.raises(IndexError, match=r"g has 5 units, not \[5\]"):
        rosetta.set_units(units, [5])
    with pytest.raises(ValueError, match="'minimum' or a factor"):
        rosetta.set_units(units, [0], "maximum")


class Blob(nn.Module):
    """z [B, 3]: place across, place down, size -> a bright blob on black, [B, 3, 32, 32]."""

    def __init__(self):
        super().__init__()
        self.brightness = nn.Parameter(torch.ones(()))
        self.conv = nn.Identity()

    def forward(self, z):
        side = torch.linspace(-1, 1, 32)
        x, y, size = (value[:, None, None] for value in z.T)
        distance = (side - x).square() + (side[:, None] - y).square()
        blob = self.conv((self.brightness * torch.exp(-distance / (0.08 * size.exp())))[:, None])
        return blob.expand(-1, 3, -1, -1) * 2 - 1


@pytest.fixture(scope="module")
def blob():
    def sampler(n, random, kind):
        return (torch.rand(n, 3, generator=random) * 0.6 - 0.3,)

    return rosetta.Generator(Blob().eval().requires_grad_(False), ["conv"], sampler, name="blob")


@pytest.fixture(scope="module")
def pairs(blob):
    return rosetta.own_pairs(rosetta.correlate(blob, blob, blob.sample(64)), [0])


def test_shifting_the_map_shifts_what_is_drawn(blob, pairs):
    """The generator's latents are the truth: a shift by a quarter of the side adds half of -1..1 to x and nothing to y and size."""
    start = blob.sample(4, seed=2)
    found = rosetta.edit(blob, pairs, start, rosetta.shift(0.25), alpha=0, steps=300, lr=0.02)
    moved = found.result.latents[0] - start[0]
    torch.testing.assert_close(moved[:, 0], torch.full((4,), 16 / 31), atol=0.06, rtol=0)
    assert moved[:, 1:].abs().max() < 0.15
    torch.testing.assert_close(found.before, blob(*start)[0])
    torch.testing.assert_close(found.after, blob(*found.result.latents)[0])


def test_zooming_the_map_enlarges_what_is_drawn(blob, pairs):
    start = (torch.zeros(1, 3),)
    found = rosetta.edit(blob, pairs, start, rosetta.zoom(2), alpha=0, steps=300, lr=0.05)
    assert found.result.latents[0][0, 2].exp() == pytest.approx(4, rel=0.15), "twice the width is four times the variance"


def test_the_start_holds_when_the_regulariser_is_strong(blob, pairs):
    start = blob.sample(2, seed=2)
    found = rosetta.edit(blob, pairs, start, rosetta.shift(0.25), alpha=1e3, steps=100, lr=0.02)
    assert (found.result.latents[0] - start[0]).abs().max() < 0.05
    other = blob.sample(2, seed=9)
    found = rosetta.edit(blob, pairs, start, rosetta.shift(0.25), start=other, alpha=1e3, steps=100, lr=0.02)
    assert (found.result.latents[0] - other[0]).abs().max() < 0.05


def test_pairs_with_another_model_are_refused(blob, pairs):
    strange = rosetta.Pairs(pairs.a, Units("other", ("conv",), (1,)), pairs.numbers, pairs.means, pairs.stds)
    with pytest.raises(ValueError, match="own_pairs"):
        rosetta.edit(blob, strange, blob.sample(1), rosetta.zoom())
