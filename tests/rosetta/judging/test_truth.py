import pytest
import torch
from torch import nn

from interp_utils import rosetta


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


def test_a_unit_comes_by_its_number_in_the_model():
    units = rosetta.Units("m", ("a", "b"), (2, 3))
    maps = [torch.randn(4, 2, 8, 8), torch.randn(4, 3, 2, 2)]
    assert torch.equal(rosetta.unit_map(maps, units, 1), maps[0][:, 1])
    assert torch.equal(rosetta.unit_map(maps, units, 2), maps[1][:, 0])
    with pytest.raises(IndexError, match="no unit 5: m has 5"):
        rosetta.unit_map(maps, units, 5)
