"""The measures of table 4.1 are those of an image, not of a batch, and what they are called."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from interp_utils import rosetta
from interp_utils.rosetta import quality


@pytest.fixture(scope="module")
def distance():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()).eval()
    return quality.perceptual(rosetta.UnitModel(model, ["1"], size=24))


def test_measures_of_each_image_against_their_definitions(distance):
    torch.manual_seed(0)
    images, targets = torch.rand(3, 3, 24, 24), torch.rand(3, 3, 24, 24)
    images[1] = 0.9 * targets[1]
    found = quality.image_quality(images, targets, distance)
    torch.testing.assert_close(found["PSNR"], -10 * (images - targets).square().mean((1, 2, 3)).log10())
    assert found["SSIM"].argmax() == 1 and found["distance"].argmin() == 1
    mean = {"kernel_size": 7, "stride": 1}
    a, b = images, targets
    mean_a, mean_b = F.avg_pool2d(a, **mean), F.avg_pool2d(b, **mean)
    var_a, var_b = F.avg_pool2d(a * a, **mean) - mean_a**2, F.avg_pool2d(b * b, **mean) - mean_b**2
    cov = F.avg_pool2d(a * b, **mean) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    ssim = ((2 * mean_a * mean_b + c1) * (2 * cov + c2)) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    torch.testing.assert_close(found["SSIM"], ssim.mean((1, 2, 3)), atol=2e-2, rtol=0)  # torchmetrics leaves out borders
    alone = quality.image_quality(images[1:2], targets[1:2], distance)
    for name in found:
        torch.testing.assert_close(found[name][1:2], alone[name])


def test_values_beyond_the_range_are_cut_off(distance):
    targets = torch.zeros(1, 3, 24, 24)
    assert quality.image_quality(targets - 0.4, targets, distance)["PSNR"].isinf()
    with pytest.raises(ValueError, match="same size as targets"):
        quality.image_quality(targets, targets[..., :20], distance)
