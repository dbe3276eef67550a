from collections import Counter

import numpy as np
import pytest
import torch

import interp_utils as iu
from interp_utils.sandbox.first import clip as sandbox_clip
from interp_utils.sandbox.first import world

FLOORS = {"object": 0.85, "colour": 0.9, "texture": 0.95, "count": 0.8, "place": 0.8, "scene": 0.97, "style": 0.97}


def test_zero_shot_accuracy_of_the_shipped_weights(sandbox):
    report = iu.sandbox.first.zero_shot_report(sandbox, n_images=1500, seed=7)
    assert report.keys() == FLOORS.keys()
    assert all(report[factor] >= floor for factor, floor in FLOORS.items()), report


def test_report_is_reproducible_and_near_chance_without_training():
    untrained = iu.Clip(sandbox_clip.build(), tokenizer=sandbox_clip.tokenizer())
    report = iu.sandbox.first.zero_shot_report(untrained, n_images=300, seed=1)
    assert report == iu.sandbox.first.zero_shot_report(untrained, n_images=300, seed=1)
    assert report["object"] < 0.15 and report["scene"] < 0.3
    with pytest.raises(ValueError, match="n must be at least 1"):
        iu.sandbox.first.zero_shot_report(untrained, n_images=0)


def test_pixels_are_what_preprocess_gives(sandbox):
    image = iu.sandbox.first.render(11)
    assert torch.equal(iu.sandbox.first.to_pixels(image.pixels), sandbox.preprocess(image.image))
    assert sandbox.preprocess(image.image.resize((200, 120)).convert("RGBA")).shape == (3, 64, 64)


def test_factor_images():
    images = iu.sandbox.first.factor_images("colour", 50, scene="sea")
    pixels, label = images[3]
    assert pixels.shape == (3, 64, 64) and label == world.FACTORS["colour"].index(images.specs[3].colour)
    assert {spec.style for spec in images.specs} == {"photo"} and {spec.scene for spec in images.specs} == {"sea"}
    with pytest.raises(ValueError, match="unknown factor"):
        iu.sandbox.first.factor_images("mood", 3)


def test_spurious_animals_groups():
    test = Counter(iu.sandbox.first.spurious_animals("test", 80)[k][1] for k in range(80))
    assert test == {(0, 0): 20, (0, 1): 20, (1, 2): 20, (1, 3): 20}
    train = iu.sandbox.first.spurious_animals("train", 4000)
    groups = Counter((s.category == "water animal", s.scene in world.WATER_SCENES) for s in train.specs)
    assert (groups[True, True] + groups[False, False]) / 4000 == pytest.approx(0.95, abs=0.015)
    assert not {spec.seed for spec in train.specs} & {spec.seed for spec in iu.sandbox.first.spurious_animals("test", 4000).specs}
    with pytest.raises(ValueError, match="split must be"):
        iu.sandbox.first.spurious_animals("val", 4)


def test_segmentation_and_pairs():
    pixels, mask = iu.sandbox.first.segmentation_images(4)[2]
    assert pixels.shape == (3, 64, 64) and mask.dtype == torch.bool and 0.02 < mask.float().mean() < 0.6
    pair = iu.sandbox.first.object_pair("horse", "car", 10)
    assert [pair[k][1] for k in range(10)] == [0, 1] * 5
    assert [spec.object for spec in pair.specs[:2]] == ["horse", "car"]


def test_evaluation_images_are_not_training_images():
    trained = np.stack([iu.sandbox.first.render(iu.sandbox.first.training(seed)).pixels for seed in range(50)])
    tested = iu.sandbox.first.factor_images("object", 50)
    for k in range(50):
        assert not (trained == iu.sandbox.first.render(tested.specs[k]).pixels).all((1, 2, 3)).any()
