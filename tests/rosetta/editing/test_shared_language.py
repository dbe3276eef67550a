"""Models that share units can be translated into each other: images found, and one generator led by another."""

import pytest
import torch
from torch import nn

from interp_utils import rosetta


class Dots(nn.Module):
    """z [B, 4]: places of a red and a green dot -> [B, 3, 32, 32]; its two units are the dots, in the order it is told."""

    def __init__(self, order):
        super().__init__()
        self.brightness, self.order = nn.Parameter(torch.ones(())), order
        self.conv = nn.Identity()

    def forward(self, z):
        side = torch.linspace(-1, 1, 32)
        x, y = (z[:, k::2, None, None] for k in (0, 1))
        dots = self.brightness * torch.exp(-((side - x).square() + (side[:, None] - y).square()) / 0.1)
        dots = self.conv(dots[:, self.order])[:, self.order]
        return torch.cat([dots, 0 * dots[:, :1]], 1) * 2 - 1


def dots(order, name):
    def sampler(n, random, kind):
        return (torch.rand(n, 4, generator=random) * 1.2 - 0.6,)

    return rosetta.Generator(Dots(order).eval().requires_grad_(False), ["conv"], sampler, name=name)


@pytest.fixture(scope="module")
def world():
    seeing = nn.Sequential(nn.AvgPool2d(2), nn.Identity())
    seeing.add_module("anchor", nn.Conv2d(3, 3, 1, bias=False))
    seeing.anchor.weight.data = torch.eye(3)[:, :, None, None]
    seen = rosetta.UnitModel(seeing.eval().requires_grad_(False), ["anchor"], (0.0,) * 3, (1.0,) * 3, 32, name="eye")
    first, second = dots([0, 1], "first"), dots([1, 0], "second")
    return first, second, seen, *(rosetta.correlate(g, seen, g.sample(40)) for g in (first, second))


def test_similar_images_are_found_by_what_units_show(world):
    first, _, seen, match, _ = world
    pairs = rosetta.matched_pairs(match, k=1)
    latents = first.sample(30, seed=5)
    images, maps = first(*latents)
    found = rosetta.similarities(pairs, maps, seen(images.clamp(0, 1)))
    assert found.shape == (30, 30) and torch.equal(found.argmax(1), torch.arange(30)), "each finds itself"
    red = pairs[pairs.numbers[:, 0] == 0]
    by_red = rosetta.similarities(red, maps, seen(images.clamp(0, 1))).fill_diagonal_(-1)
    z = latents[0]
    distance = (z[:, None] - z[None]).square()
    nearest = by_red.argmax(1)
    rows = torch.arange(30)
    assert distance[rows, nearest, :2].sum(1).mean() < 0.3 * distance[:, :, :2].sum(2).mean(), "alike in the dot that was asked for"
    assert distance[rows, nearest, 2:].sum(1).mean() > 0.6 * distance[:, :, 2:].sum(2).mean(), "and not in the other"
    one = rosetta.similarities(pairs[:1], maps, seen(images.clamp(0, 1)))
    two = rosetta.similarities(pairs[1:], maps, seen(images.clamp(0, 1)))
    torch.testing.assert_close((one + two) / 2, found)
    with pytest.raises(ValueError, match="no pairs of first and eye"):
        rosetta.similarities(pairs[:0], maps, seen(images.clamp(0, 1)))
    with pytest.raises(ValueError, match="need maps of"):
        rosetta.similarities(pairs, [maps[0][:, :1]], seen(images.clamp(0, 1)))


def test_a_generator_is_led_by_another_through_a_model_that_sees(world):
    first, second, _, match, other = world
    pairs = rosetta.translated_pairs(match, other, k=1)
    assert pairs.a == second.units and pairs.b == first.units
    assert pairs.numbers.tolist() == [[0, 1], [1, 0]], "their units are in another order"
    images, maps = first(*first.sample(4, seed=7))
    found = rosetta.invert(second, rosetta.Guidance(pairs, maps, "instance"), second.sample(4, seed=8), alpha=0, steps=200, lr=0.05)
    assert (found.images - images).abs().mean() < 0.02
    with pytest.raises(ValueError, match="need matches with one model"):
        rosetta.translated_pairs(match, rosetta.correlate(first, first, first.sample(10)))
