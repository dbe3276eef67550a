import pytest
import torch
from torch import nn

import interp_utils as iu
from interp_utils import rosetta
from interp_utils.sandbox.first.world import balanced


class Painted(nn.Module):
    """A model whose units are known functions of the image: its red channel at full size, and the mean of all, halved."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.red, self.grey = nn.Identity(), nn.AvgPool2d(2)

    def forward(self, x):
        return self.red(x[:, :1] * self.scale), self.grey(x)


@pytest.fixture
def painted():
    return rosetta.UnitModel(Painted().eval(), ["red", "grey"], (0.0,) * 3, (1.0,) * 3, 8)


def test_iou_of_a_unit_that_is_the_mask_is_one(painted):
    images = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.5
    mask = torch.zeros(6, 8, 8, dtype=torch.bool)
    mask[:, 2:4, 4:8] = True
    images[:, 0][mask] = 1.0
    masks = torch.stack([mask, torch.zeros_like(mask)], 1)
    for size in (2, 6):
        iou = rosetta.mask_iou(painted, images, masks, batch_size=size)
        assert iou.shape == (4, 2) and iou[0, 0] == 1 and iou[1, 0] == 1, "the red unit, and the halved red one"
        assert iou[3, 0] < 0.5 and not iou[:, 1].any(), "blue knows nothing, and an empty mask is never covered"


def test_iou_counts_cells_over_all_images(painted):
    images = torch.zeros(2, 3, 8, 8)
    images[0, 0, 0, :4], images[1, 0, 1, :4] = 1.0, 0.5  # eight high cells, four of them in the mask
    mask = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
    mask[0, 0, 0, :4], mask[1, 0, 5, :4] = True, True
    assert rosetta.mask_iou(painted, images, mask)[0, 0] == pytest.approx(4 / 12)


def test_factor_shares_find_the_factor_that_moves_a_unit(painted):
    specs = [balanced(10**9 + k, scene=("sea", "desert")[k % 2], style="photo") for k in range(40)]
    model = rosetta.UnitModel(Painted().eval(), ["red", "grey"], (0.0,) * 3, (1.0,) * 3, 64)
    shares = rosetta.factor_shares(model, specs)
    assert "style" not in shares and shares["scene"].shape == (4,)
    assert shares["scene"][0] > 0.8 and shares["count"].abs().max() < 0.5, "deserts are redder than the sea"


def test_images_and_units_come_as_asked():
    images, masks = rosetta.drawn_images([balanced(1), balanced(2)])
    drawn = iu.sandbox.first.render(balanced(2))
    assert images.shape == (2, 3, 64, 64) and 0 <= images.min() and images.max() <= 1
    assert torch.equal((images[1] * 255).round().byte().movedim(0, -1), torch.from_numpy(drawn.pixels))
    assert torch.equal(masks[1], torch.from_numpy(drawn.mask))
    units = rosetta.Units("m", ("a", "b"), (2, 3))
    maps = [torch.randn(4, 2, 8, 8), torch.randn(4, 3, 2, 2)]
    assert torch.equal(rosetta.unit_map(maps, units, 1), maps[0][:, 1])
    assert torch.equal(rosetta.unit_map(maps, units, 2), maps[1][:, 0])
    with pytest.raises(IndexError, match="no unit 5: m has 5"):
        rosetta.unit_map(maps, units, 5)
