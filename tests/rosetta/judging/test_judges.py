import pytest
import torch

from interp_utils.rosetta import judges


def test_places_are_shares_of_the_side():
    masks = torch.zeros(2, 8, 16)
    masks[0, 2:4, 4:8] = 1
    middle, area = judges.places(masks)
    torch.testing.assert_close(middle[0], torch.tensor([6 / 16, 3 / 8]))
    assert area[0].item() == pytest.approx(8 / 128) and middle[1].isnan().all()
