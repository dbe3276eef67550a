"""What texts name, and in which parts they can be tested."""

import pytest

from interp_utils import science
from interp_utils.sandbox import FACTORS, FACTS


def test_every_single_thing_names_its_fact_and_is_its_own_part():
    things = science.single_things()
    assert len(set(things)) == len(FACTS) and [science.facts_named(text) for text in things] == [[fact] for fact in FACTS]
    assert all(science.parts_named(text) == [text] for text in things)


def test_a_text_that_names_two_things_has_two_parts():
    named = [science.facts_named(part) for part in science.parts_named("a red dog")]
    assert sorted(named) == [[("colour", "red")], [("object", "dog")]]
    assert science.parts_named("nothing of this world") == []


@pytest.mark.parametrize(("text", "facts"), [
    ("an animal in the forest", [("family", "animal"), ("scene", "forest")]), ("two water animals", [("category", "water animal"),
     ("count", 2)]), ("a plant with chimneys", [("object", "factory")]), ("a picture of a plant", [("category", "plant")]),
])  # fmt: skip
def test_categories_are_named_where_no_object_is(text, facts):
    assert science.facts_named(text) == facts


def test_the_pool_keeps_single_things_and_adds_each_pair_once():
    texts = science.one_or_two_things(["a dog", "a red dog on the beach", "something else"])
    assert texts[0] == "a dog" and "a red dog on the beach" not in texts and "something else" not in texts
    pairs = [frozenset(science.facts_named(text)) for text in texts[1:]]
    others = sum(len(values) for factor, values in FACTORS.items() if factor != "object")
    assert {len(pair) for pair in pairs} == {2} and len(set(pairs)) == len(pairs) == len(FACTORS["object"]) * others
    assert frozenset([("object", "dog"), ("colour", "red")]) in pairs


def test_phrases_of_a_photograph():
    assert science.phrases("a photo of a dog on a beach with a ball") == ["a dog", "a beach", "a ball"]
    assert science.phrases("an old picture of snow") == ["snow"]
    assert science.phrases("snow") == ["snow"]
