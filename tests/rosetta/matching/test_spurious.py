"""A match that comes from position alone looks like one of content, and the controls catch it."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from interp_utils import rosetta
from interp_utils.rosetta import Correlation, Units, best_buddies, correlate


class Planted(nn.Module):
    """Images [B, 3, 16, 16] -> three maps: the red channel, a bright middle in every image, and red within that middle."""

    def __init__(self, size, noise):
        super().__init__()
        self.weight, self.size, self.noise = nn.Parameter(torch.ones(())), size, noise
        self.maps = nn.Identity()
        side = torch.linspace(-1, 1, 16)
        self.middle = torch.exp(-(side.square() + side[:, None].square()) / 0.2)

    def forward(self, x):
        red = x[:, 0] * self.weight
        middle = self.middle + 0.1 * x[:, self.noise]  # of a channel of its own, so that two models share the place alone
        return F.adaptive_avg_pool2d(self.maps(torch.stack([red, middle, red * self.middle], 1)), self.size)


def planted(name, size=16, noise=1):
    return rosetta.UnitModel(Planted(size, noise).eval().requires_grad_(False), ["maps"], (0.0,) * 3, (1.0,) * 3, 16, name=name)


@pytest.fixture(scope="module")
def images():
    return torch.rand(48, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_position_alone_matches_and_is_caught_by_both_controls(images):
    a, b = planted("a", noise=1), planted("b", noise=2)
    seen, shuffled, content = (
        correlate(a, b, images, **how).matrix for how in ({}, {"shuffled": True}, {"without_position": True})
    )
    spurious, real = (1, 1), (0, 0)
    assert seen[spurious] > 0.95 and seen[real] > 0.99
    assert {spurious, real} <= {tuple(pair) for pair in best_buddies(seen, 1).tolist()}, "by itself, one is as good as the other"
    assert shuffled[spurious] > 0.9 and shuffled[real] < 0.2, "other images do not harm a match of position"
    assert content[spurious].abs() < 0.2 and content[real] > 0.99, "without position, only the real one is left"


def test_taking_position_out_is_taking_the_mean_map_out(images):
    a, b = planted("a"), planted("b", 8)
    maps_a, maps_b = a(images)[0], b(images)[0]
    whole = Correlation(a.units, b.units)
    whole.update([maps_a[:20]], [maps_b[:20]])
    whole.update([maps_a[20:]], [maps_b[20:]])
    found = whole.without_position([maps_a.mean(0)], [maps_b.mean(0)]).matrix
    large = F.interpolate(maps_b, size=16, mode="bilinear", align_corners=False)
    rows = [(each - each.mean(0)).movedim(1, 0).flatten(1).double() for each in (maps_a, large)]
    torch.testing.assert_close(found.double(), torch.corrcoef(torch.cat(rows))[:3, 3:], atol=1e-4, rtol=0)
    torch.testing.assert_close(correlate(a, b, images, batch_size=7, without_position=True).matrix, found, atol=1e-4, rtol=0)
    assert (found - whole.matrix).abs().max() > 0.05


def test_a_unit_that_is_nothing_but_position_has_no_correlation_left():
    fixed = torch.rand(1, 1, 6, 6).expand(10, -1, -1, -1)
    varying = torch.rand(10, 1, 6, 6)
    match = Correlation(Units("a", ("x",), (1,)), Units("b", ("y",), (1,)))
    match.update([fixed], [fixed + 1e-3 * varying])
    assert match.matrix > 0.99 and match.without_position([fixed[0]], [fixed[0] + 1e-3 * varying.mean(0)]).matrix == 0


def test_a_cosine_has_no_position_to_take_out(images):
    with pytest.raises(ValueError, match="choose published or without_position"):
        correlate(planted("a"), planted("b"), images, published=True, without_position=True)
