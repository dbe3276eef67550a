"""What the shipped CLIP of the sandbox reaches: enough to study, and not everything."""

import pytest

import interp_utils as iu
from interp_utils import sandbox
from interp_utils.sandbox.report import REPORTED, chance

FLOORS = {"object": 0.75, "scene": 0.85, "count": 0.7, "light": 0.75, "style": 0.55, "weather": 0.45, "colour": 0.25}


@pytest.fixture(scope="module")
def clip():
    return iu.load_clip("sandbox", device="cpu")


def test_zero_shot_accuracy_of_the_shipped_weights(clip):
    right = sandbox.zero_shot_correct(clip, 300, seed=7)
    report = {factor: correct.float().mean().item() for factor, correct in right.items()}
    errors = {factor: (report[factor] * (1 - report[factor]) / len(correct)) ** 0.5 for factor, correct in right.items()}
    assert report.keys() == set(REPORTED)
    assert all(report[factor] > floor for factor, floor in FLOORS.items()), report
    assert all(report[factor] > chance(factor) + 3 * errors[factor] for factor in REPORTED), "nothing is at chance"
    assert report["object"] < 0.97 and report["colour"] < 0.8, "the world is hard enough for tables to move"
    assert len(right["object"]) == 300 > len(right["colour"]) > len(right["place"]) > 0, "colour in photos, place of one object"


def test_an_untrained_copy_is_at_chance():
    untrained = iu.Clip(sandbox.clip.build(), tokenizer=sandbox.clip.tokenizer())
    report = sandbox.zero_shot_report(untrained, 100, seed=7)
    assert report["object"] < 0.05 and report["scene"] < 0.3


def test_other_tokens_than_those_of_captions_are_unknown(clip):
    assert iu.texts.knows(clip, ["a red dog at night", "a photosynthesis seminar"]) == [True, False]


def test_late_attention_says_what_is_seen(clip):
    """Without the direct effects of the last four attention layers accuracy falls; without those of all earlier ones it stays."""
    images, classifier = sandbox.factor_images("scene", 150, seed=5), sandbox.zero_shot_classifier(clip, "scene")
    late, early = (iu.heads.ablate_attention(clip, layers) for layers in (range(6, 10), range(6)))
    parts = {"nothing": iu.heads.Ablation(), "late": late, "early": early}
    found = {name: accuracy.overall for name, accuracy in iu.heads.accuracy_under(clip, images, classifier, parts).items()}
    assert found["late"] < found["nothing"] - 0.2 and found["early"] > found["nothing"] - 0.05, found
