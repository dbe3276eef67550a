import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp_utils.sandbox.first import Caption, Spec, caption, prompts, training, truth
from interp_utils.sandbox.first.captions import facts_of, noun_phrase
from interp_utils.sandbox.first.world import (
    CATEGORIES,
    CATEGORY_OF,
    FACTORS,
    LAND_SCENES,
    NEUTRAL_SCENES,
    TOLD_BY_SCENE,
    WATER_SCENES,
)

WORDS = {"striped": ("texture", "striped"), "forest": ("scene", "forest"), "sepia": ("style", "sepia"), "left": ("place", "left")}


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**6))
def test_captions_tell_what_is_told_and_claim_what_they_say(seed):
    spec = training(seed)
    said = caption(spec, np.random.default_rng(seed))
    assert truth([said], [spec], told=True)[0, 0]
    assert set(said.facts) <= set(facts_of(spec, told=True))
    for word, fact in WORDS.items():
        if word in said.text.split():
            assert fact in said.facts
    assert len(said.text.split()) <= 20


def test_only_animals_away_from_home_are_told_wrong():
    away, told_by_scene = 0, 0
    for seed in range(3000):
        spec = training(seed)
        wrong = set(facts_of(spec, told=True)) ^ set(facts_of(spec))
        home = {"water animal": WATER_SCENES, "land animal": LAND_SCENES}
        names = [n for n in (spec.object, spec.second) if n and CATEGORY_OF[n] in home]
        stray = [n for n in names if spec.scene not in home[CATEGORY_OF[n]] + NEUTRAL_SCENES]
        if not stray:
            assert not wrong
        elif names == stray == [spec.object]:
            away, told_by_scene = away + 1, told_by_scene + bool(wrong)
            assert not wrong or {factor for factor, _ in wrong} == {"category"}
    assert away > 50 and abs(told_by_scene / away - TOLD_BY_SCENE) < 0.15


def test_truth_follows_the_facts():
    dog, pair = Spec(object="dog", count=2, scene="sea"), Spec(object="dog", second="ship")
    sepia = Spec(object="dog", colour="red", style="sepia")
    captions = [
        Caption("dogs", (("object", "dog"),)),
        Caption("a land animal at sea", (("category", "land animal"), ("scene", "sea"))),
        Caption("a dog and a ship", (("object", "dog"), ("object", "ship"))),
        Caption("something red", (("colour", "red"),)),
    ]
    expected = [[1, 1, 1], [1, 0, 0], [0, 1, 0], [1, 0, 0]]
    assert truth(captions, [dog, pair, sepia]).astype(int).tolist() == expected


@pytest.mark.parametrize(
    "arguments,text",
    [
        (("dog", 1), "a dog"),
        (("apple", 1, ("red",)), "a red apple"),
        (("apple", 1, ("orange",)), "an orange apple"),
        (("ice cream", 1), "an ice cream"),
        (("fish", 3, ("striped", "blue"), "three"), "three striped blue fish"),
        (("scissors", 1, ("black",)), "a black pair of scissors"),
        (("scissors", 2, (), "two"), "two pairs of scissors"),
        (("letter A", 4), "letters A"),
        (("water animal", 2), "water animals"),
        (("dog", 1, (), "a single"), "a single dog"),
    ],
)
def test_grammar(arguments, text):
    assert noun_phrase(*arguments) == text


def test_every_value_has_prompts_of_its_own():
    values = [(f, v) for f in FACTORS for v in FACTORS[f]] + [("category", c) for c in (*CATEGORIES, "animal")]
    sets = [tuple(prompts(*value)) for value in values]
    assert all(len(texts) >= 2 for texts in sets)
    assert len({text for texts in sets for text in texts}) == sum(map(len, sets)), "two values share a prompt"
    with pytest.raises(ValueError, match="unknown factor"):
        prompts("mood", "happy")
