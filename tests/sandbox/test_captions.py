import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp_utils import sandbox
from interp_utils.sandbox import captions, world
from interp_utils.sandbox.captions import noun_phrase


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**6))
def test_captions_claim_what_is_told_and_are_read_back(seed):
    spec = world.natural(seed)
    said = sandbox.caption(spec, np.random.default_rng(seed))
    assert set(said.facts) <= set(sandbox.facts_of(spec, told=True)) and sandbox.truth([said], [spec], told=True).all()
    lie = sandbox.Caption("", (*said.facts, ("style", "sepia" if spec.style == "photo" else "photo")))
    assert not sandbox.truth([lie], [spec], told=True).any()
    assert len(said.text.split()) <= 20 and "  " not in said.text
    claimed = {fact for fact in said.facts if fact[0] not in ("category", "family", "relation")}
    read = {fact for fact in sandbox.read(said.text) if fact[0] != "relation"}
    assert claimed <= read, "what a caption claims can be read in it"


def test_only_animals_away_from_home_are_told_wrong():
    away, told_by_scene = 0, 0
    for seed in range(4000):
        spec = world.natural(seed)
        wrong = set(sandbox.facts_of(spec, told=True)) ^ set(sandbox.facts_of(spec))
        home = {"water animal": world.WATER_SCENES, "land animal": world.LAND_SCENES}
        names = [n for n in (spec.object, *(kind for kind, _ in spec.others)) if world.CATEGORY_OF[n] in home]
        stray = [n for n in names if spec.scene not in home[world.CATEGORY_OF[n]] + world.NEUTRAL_SCENES]
        if not stray:
            assert not wrong
        elif names == stray == [spec.object]:
            away, told_by_scene = away + 1, told_by_scene + bool(wrong)
    assert away > 30 and abs(told_by_scene / away - world.TOLD_BY_SCENE) < 4 * 0.5 / away**0.5


@pytest.mark.parametrize(
    "arguments,text",
    [
        (("dog", 1), "a dog"),
        (("apple", 1, ("red",)), "a red apple"),
        (("apple", 1, ("orange",)), "an orange apple"),
        (("hourglass", 1), "an hourglass"),
        (("wrench", 2), "wrenches"),
        (("tooth", 3, ("striped", "blue"), "three"), "three striped blue teeth"),
        (("scissors", 1, ("black",)), "a black pair of scissors"),
        (("scissors", 2, (), "two"), "two pairs of scissors"),
        (("luggage", 1), "luggage"),
        (("dog", 1, (), "a single"), "a single dog"),
    ],
)
def test_grammar(arguments, text):
    assert noun_phrase(*arguments) == text


def test_every_value_has_prompts_of_its_own():
    pairs = [(factor, value) for factor in (*world.FACTORS, "category", "family") for value in sandbox.values(factor)]
    texts = [text for pair in pairs for text in sandbox.prompts(*pair)]
    assert all(sandbox.prompts(*pair) for pair in pairs) and len(set(texts)) == len(texts), "two values share a prompt"
    with pytest.raises(ValueError, match="unknown factor"):
        sandbox.prompts("mood", "happy")


def test_synonyms_belong_to_one_kind():
    words = [word for options in captions.SYNONYMS.values() for word in options]
    assert captions.SYNONYMS.keys() <= set(world.OBJECTS) and len(words) == len(set(words))
    assert set(words).isdisjoint(world.OBJECTS)


def test_descriptions_are_drawn_as_meant():
    facts = {
        "object": "cat",
        "colour": "blue",
        "texture": "striped",
        "count": 2,
        "scene": "forest",
        "light": "night",
        "weather": "snow",
    }
    text = sandbox.describe(facts)
    assert dict(sandbox.read(text)) == facts
    for image in sandbox.paint(text, 3):
        assert all(getattr(image.factors, factor) == value for factor, value in facts.items())
    dogs, again = sandbox.paint("a red puppy behind a ship", 4), sandbox.paint("a red puppy behind a ship", 4)
    for image in dogs:
        assert (image.factors.object, image.factors.relation) == ("ship", "in front of") and image.factors.others == (
            ("dog", "red"),
        )
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(dogs, again))
    assert sandbox.paint("a dog left of a ship")[0].factors.relation == "left of"
    assert len({image.factors.scene for image in sandbox.paint("a dog", 30)}) > 3, "what a text does not say is left to chance"


@pytest.mark.parametrize(
    "text,message",
    [
        ("something red", "names no object"),
        ("a dog, a cat, a ship and a key", "three kinds"),
        ("two dogs and a ship", "several kinds"),
        ("a dog at night by day", "only one of them"),
    ],
)
def test_what_cannot_be_drawn_is_said(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        sandbox.paint(text)
