"""The judges of drawn images agree with rendered ones, of which everything is known."""

import pytest
import torch

from interp_utils import load_clip, rosetta, sandbox
from interp_utils.rosetta import judges

FIRST = 10**9


def rendered(start, n):
    specs = [sandbox.zoo.data.generator_spec(FIRST + start + k) for k in range(n)]
    return specs, *rosetta.drawn_images(specs)


def test_object_masks_find_objects_they_were_not_fitted_to():
    model = rosetta.load_unit_model("sandbox/clip_resnet", device="cpu")
    _, images, masks = rendered(0, 80)
    judge = judges.ObjectMasks(model, images, masks)
    _, images, masks = rendered(5000, 40)
    found = judge(images)
    assert found.shape == masks.shape
    iou = ((found > 0.5) & masks).sum((1, 2)) / ((found > 0.5) | masks).sum((1, 2))
    assert iou.mean() > 0.6
    (middle, area), (true_middle, true_area) = judges.places(found > 0.5), judges.places(masks)
    assert (middle - true_middle).abs().mean() < 0.03
    assert (area / true_area).median() == pytest.approx(1, abs=0.25)


def test_object_masks_take_all_positions_where_maps_are_small():
    _, images, masks = rendered(0, 30)
    judge = judges.ObjectMasks(rosetta.load_unit_model("sandbox/mae_vit", device="cpu"), images, masks)  # 8 x 8 maps
    assert judge(images).shape == masks.shape


def test_places_are_shares_of_the_side():
    masks = torch.zeros(2, 8, 16)
    masks[0, 2:4, 4:8] = 1
    middle, area = judges.places(masks)
    torch.testing.assert_close(middle[0], torch.tensor([6 / 16, 3 / 8]))
    assert area[0].item() == pytest.approx(8 / 128) and middle[1].isnan().all()


def test_factor_probabilities_name_what_is_there():
    specs, images, _ = rendered(9000, 30)
    clip = load_clip("sandbox-first", device="cpu")
    for factor in ("object", "scene"):
        found = judges.factor_probabilities(clip, images, factor)
        torch.testing.assert_close(found.sum(1), torch.ones(30))
        right = torch.tensor([sandbox.first.FACTORS[factor].index(getattr(spec, factor)) for spec in specs])
        assert (found.argmax(1) == right).float().mean() > 0.9


def test_the_same_place_correlates_and_a_mirrored_one_does_not():
    _, images, masks = rendered(3000, 30)
    assert [r for r, *_ in judges.same_place(masks, masks)] == pytest.approx([1, 1])
    (across, low, high), (down, *_) = judges.same_place(masks, masks.flip(2))
    assert across == pytest.approx(-1, abs=1e-3) and down == pytest.approx(1) and low <= across <= high
    empty = masks.clone()
    empty[3] = False
    assert [r for r, *_ in judges.same_place(masks, empty)] == pytest.approx([1, 1])
    with pytest.raises(ValueError, match="at least 3"):
        judges.same_place(masks[:2], masks[:2])


def test_places_that_have_nothing_to_do_with_each_other_have_an_interval_about_zero():
    _, images, masks = rendered(3000, 40)
    turned = [judges.same_place(masks, masks.roll(k, 0)) for k in range(1, 11)]
    holds = [low < 0 < high for places in turned for _, low, high in places]
    assert sum(holds) >= 15, "of 20 intervals one is expected to miss"
    assert all(high - low > 0.3 for places in turned for _, low, high in places), "forty images tell no more"


def test_share_named_counts_what_clip_says():
    specs, images, _ = rendered(4000, 20)
    clip = load_clip("sandbox-first", device="cpu")
    names = [spec.object for spec in specs]
    assert judges.share_named(clip, images, names) > 0.9
    assert judges.share_named(clip, images, ["ship"] * 20) < 0.1


def test_unseen_styles_keep_the_masks():
    specs, images, masks = rendered(6000, 2)
    negative, same = rosetta.drawn_images(specs, "negative")
    torch.testing.assert_close(negative, 1 - images)
    assert torch.equal(same, masks)
