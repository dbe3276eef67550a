"""What texts name, and in which parts they can be tested."""

from interp_utils import science
from interp_utils.sandbox import first


def test_every_single_thing_names_its_fact_and_is_its_own_part():
    things = science.single_things()
    assert [first.read(text) for text in things] == [[fact] for fact in science.FACTS]
    assert all(science.parts_named(text) == [text] for text in things)


def test_a_text_that_names_two_things_has_two_parts():
    assert sorted(map(str, (first.read(part) for part in science.parts_named("a red dog")))) == sorted(
        map(str, ([fact] for fact in first.read("a red dog")))
    )
    assert science.parts_named("nothing of this world") == []


def test_the_pool_keeps_single_things_and_adds_each_pair_once():
    texts = science.one_or_two_things(["a dog", "a red dog on the beach", "something else"])
    assert texts[0] == "a dog" and "a red dog on the beach" not in texts and "something else" not in texts
    pairs = [frozenset(first.read(text)) for text in texts[1:]]
    n_objects = len(first.FACTORS["object"])
    assert {len(pair) for pair in pairs} == {2} and len(pairs) == n_objects * (len(science.FACTS) - n_objects)
    assert frozenset([("object", "dog"), ("colour", "red")]) in pairs


def test_phrases_of_a_photograph():
    assert science.phrases("a photo of a dog on a beach with a ball") == ["a dog", "a beach", "a ball"]
    assert science.phrases("an old picture of snow") == ["snow"]
    assert science.phrases("snow") == ["snow"]
