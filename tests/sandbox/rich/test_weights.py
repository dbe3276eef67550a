"""What the shipped CLIP of the rich sandbox reaches: enough to study, and not everything."""

import pytest

import interp_utils as iu
from interp_utils.sandbox import rich
from interp_utils.sandbox.rich.report import REPORTED, chance

FLOORS = {"object": 0.75, "scene": 0.85, "count": 0.7, "light": 0.75, "style": 0.55, "weather": 0.45, "colour": 0.25}


@pytest.fixture(scope="module")
def clip():
    return iu.load_clip("sandbox-rich", device="cpu")


def test_zero_shot_accuracy_of_the_shipped_weights(clip):
    report = rich.zero_shot_report(clip, 500, seed=7)
    assert report.keys() == set(REPORTED)
    assert all(report[factor][0] > floor for factor, floor in FLOORS.items()), report
    assert all(report[factor][0] > chance(factor) + 3 * report[factor][1] for factor in REPORTED), "nothing is at chance"
    assert report["object"][0] < 0.97 and report["colour"][0] < 0.8, "the world is hard enough for tables to move"


def test_an_untrained_copy_is_at_chance():
    untrained = iu.Clip(rich.clip.build(), tokenizer=rich.clip.tokenizer())
    report = rich.zero_shot_report(untrained, 300, seed=7)
    assert report["object"][0] < 0.05 and report["scene"][0] < 0.3


def test_other_tokens_than_those_of_captions_are_unknown(clip):
    assert iu.texts.knows(clip, ["a red dog at night", "a photosynthesis seminar"]) == [True, False]


def test_late_attention_says_what_is_seen(clip):
    """Without the direct effects of the last four attention layers accuracy falls; without those of all earlier ones it stays."""
    images, classifier = rich.factor_images("scene", 300, seed=5), rich.zero_shot_classifier(clip, "scene")
    late, early = (iu.heads.ablate_attention(clip, layers) for layers in (range(6, 10), range(6)))
    parts = {"nothing": iu.heads.Ablation(), "late": late, "early": early}
    found = {name: accuracy.overall for name, accuracy in iu.heads.accuracy_under(clip, images, classifier, parts).items()}
    assert found["late"] < found["nothing"] - 0.2 and found["early"] > found["nothing"] - 0.05, found
