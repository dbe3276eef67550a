import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from interp_utils.neurons import (
    Attack,
    SparseTexts,
    attack,
    class_direction,
    drawable,
    drop_synonyms,
    most_fooling,
    sandbox_painter,
    similar_words,
    spurious_words,
    success,
    template_writer,
)
from interp_utils.sandbox import FACTORS, prompts, render
from interp_utils.sandbox.paint import describe, paint, read
from interp_utils.sandbox.world import CATEGORIES, OBJECTS

OPTIONAL = {factor: st.sampled_from(values) for factor, values in FACTORS.items() if factor != "object"}


@st.composite
def facts(draw):
    """An object and some of what `describe` can say of it; other objects go where nothing is said of number, size and place."""
    found = {"object": draw(st.sampled_from(OBJECTS))}
    for factor, values in OPTIONAL.items():
        if draw(st.booleans()):
            found[factor] = draw(values)
    if not {"count", "size", "place"} & found.keys() and draw(st.booleans()):
        others = draw(
            st.lists(st.sampled_from([name for name in OBJECTS if name != found["object"]]), min_size=1, max_size=2, unique=True)
        )
        found |= dict(zip(("second", "third"), others))
    return found


@settings(max_examples=300, deadline=None)
@given(facts())
def test_a_description_is_read_as_it_was_meant(meant):
    seen = read(describe(meant))
    expected = [("object" if factor in ("second", "third") else factor, value) for factor, value in meant.items()]
    assert sorted(map(str, seen)) == sorted(map(str, expected))
    assert [value for factor, value in seen if factor == "object"][0] == meant["object"], "the true object comes first"
    assert read("  " + describe(meant).upper().replace(" ", "  ") + "!") == seen


@settings(max_examples=60, deadline=None)
@given(facts(), st.integers(0, 1000))
def test_a_painted_image_shows_what_is_named(meant, seed):
    images = paint(describe(meant), 2, seed)
    for image in images:
        others = [meant[key] for key in ("second", "third") if key in meant]
        assert all(getattr(image.factors, factor) == value for factor, value in meant.items() if factor not in ("second", "third"))
        assert [kind for kind, _ in image.factors.others] == others
    again = paint(describe(meant), 3, seed)
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(images, again))
    assert not np.array_equal(again[0].pixels, again[2].pixels)


def test_descriptions_in_plain_words():
    assert describe({"object": "dog", "scene": "sea"}) == "a dog on the sea"
    whole = {"object": "fish", "count": 3, "texture": "dotted", "colour": "red", "size": "large", "scene": "room", "style": "sepia"}
    assert describe(whole) == "a sepia photo of three large dotted red fish in a room"
    assert describe({"object": "scissors", "second": "apple"}) == "a pair of scissors and an apple"
    assert describe({"object": "dog", "second": "apple", "third": "ship"}) == "a dog and an apple and a ship"
    assert read("An ice cream among trees, below snowy peaks") == [
        ("object", "ice cream"),
        ("scene", "forest"),
        ("scene", "mountains"),
    ]
    assert read("a caravan, a starling, a bobcat and a bulldog") == [], "parts of words mean nothing"
    for factor, values in FACTORS.items():
        for value in values:
            for text in prompts(factor, value):
                assert (factor, value) in read(text), text


def test_what_is_not_said_is_left_to_chance():
    images = [image.factors for image in paint("a red cat", 60, 5)]
    assert {(spec.object, spec.colour) for spec in images} == {("cat", "red")}
    assert {spec.scene for spec in images} == set(FACTORS["scene"]) and {spec.count for spec in images} == {1, 2, 3, 4}
    assert not {spec.seed for spec in images} & {image.factors.seed for image in paint("a red cat", 60, 6)}
    pair = paint("a red dog and a blue cat", 1)[0].factors
    assert (pair.object, pair.colour, pair.others, pair.count) == ("dog", "red", (("cat", "blue"),), 1)
    assert paint("a dog beside another dog")[0].factors.others == ()


@pytest.mark.parametrize(
    "text,message",
    [
        ("something red", "names no object of the sandbox; name one of fish"),
        ("", "names no object"),
        ("a dog, a cat, a horse and a cow", "names dog, cat, horse, cow; one image can show three"),
        ("a dog on the sea in the forest", "names 'sea' and 'forest'"),
        ("two dogs, three dogs", "names 2 and 3"),
        ("a striped dog, plain", "names 'striped' and 'plain'"),
    ],
)
def test_what_cannot_be_painted_is_named(text, message):
    with pytest.raises(ValueError, match=message):
        paint(text)


WORDS = [text for fact in [("scene", "sea"), ("colour", "red"), ("count", 3), ("texture", "striped")] for text in prompts(*fact)]
WORDS += ["a ship", "cats", "a tool", "a dog", "fish", "something unheard of"]


def test_the_writer_says_the_true_object_and_only_what_the_words_name():
    meant = {fact for word in WORDS for fact in read(word)}
    tools = {("object", name) for name in CATEGORIES["tool"]}
    seen = set()
    for seed in range(3):
        descriptions = template_writer(WORDS, "dog", "ship", 50, seed)
        assert len(descriptions) == 50
        for text in descriptions:
            found = read(text)
            assert found[0][1] == "dog" or found[0][0] != "object"
            assert ("object", "dog") in found and ("object", "ship") not in found and "ship" not in text
            assert set(found) - {("object", "dog")} <= meant | tools
            image = paint(text)[0].factors
            assert image.object == "dog" and {kind for kind, _ in image.others} <= {"cat", "fish", *CATEGORIES["tool"]}
            seen |= set(found)
        assert descriptions == template_writer(WORDS, "dog", "ship", 50, seed)
        assert descriptions != template_writer(WORDS, "dog", "ship", 50, seed + 10)
    assert seen >= {("scene", "sea"), ("colour", "red"), ("count", 3), ("texture", "striped"), ("object", "cat")} | tools
    assert template_writer([], "dog", "ship", 2, 0) == ["a dog"] * 2
    assert template_writer(["an animal of the land"], "dog", "ship", 1, 0) == ["a dog"]
    member = template_writer(["land animals"], "dog", "cat", 40, 0)
    assert set(member) == {f"a dog and a {name}" for name in ("horse", "spider", "cow")}, "neither the true nor the wrong one"
    company = template_writer(["a cat", "a cow", "a horse", "three objects"], "dog", "ship", 60, 0)
    assert {len(read(text)) for text in company} == {2, 3} and "three dogs" in company, "two others at most, and beside one dog"


def test_words_that_cannot_be_drawn_are_told_apart():
    words = ["a cat", "the", "dogs", "land animals", "stylish", "on the left", "left of", "a ship", "at night"]
    assert drawable(words, "dog", "ship") == ["a cat", "land animals", "on the left", "at night"]
    assert drawable([], "dog", "ship") == []


def test_synonyms_are_dropped():
    vectors = {"truck": [1, 0], "lorry": [0.8, 0.6], "road": [0.6, 0.8], "Trucks": [0, 1], "leaf": [-1, 0], "street": [0.59, 0.81]}

    def encode(texts):
        return F.normalize(torch.tensor([vectors[text] for text in texts], dtype=torch.float), dim=1)

    words = ["street", "lorry", "Trucks", "leaf", "road", "truck"]
    assert drop_synonyms(words, "truck", encode, threshold=0.595, centre=0) == ["street", "leaf"]
    assert drop_synonyms(words, "truck", encode, threshold=0.7, centre=0) == ["street", "leaf", "road"], "the order is kept"
    assert drop_synonyms(words, "truck", encode, threshold=0.7, n=1, centre=0) == ["street"]
    assert drop_synonyms(words, "truck", encode, threshold=2) == ["street", "lorry", "leaf", "road"], "names of the class go always"
    assert drop_synonyms([], "truck", encode) == []


def test_synonyms_are_told_apart_where_all_cosines_are_high():
    """Text vectors of a CLIP lie in a narrow cone: any two of 3,000 words have a cosine between 0.6 and 0.9."""
    generator = torch.Generator().manual_seed(0)
    topics = torch.randn(3001, 20, generator=generator) @ torch.randn(20, 512, generator=generator)
    own = F.normalize(topics / 20**0.5 + 1.5 * torch.randn(3001, 512, generator=generator), dim=1)
    words, near = [f"word {k}" for k in range(3000)], [5, 17, 2999]
    for k in near:
        own[k] = F.normalize(own[3000] + 0.6 * own[k], dim=0)
    common = F.normalize(torch.randn(512, generator=generator), dim=0)
    vectors = dict(zip([*words, "wrong"], F.normalize(0.74**0.5 * common + 0.26**0.5 * own, dim=1)))

    def encode(texts):
        return torch.stack([vectors[text] for text in texts])

    rest = [word for k, word in enumerate(words) if k not in near]
    some = encode(rest[::10])
    cosines = (some @ some.T)[~torch.eye(len(some), dtype=bool)]
    assert 0.6 < cosines.min() < 0.7 and 0.8 < cosines.max() < 0.9
    assert drop_synonyms(words, "wrong", encode, centre=0) == [], "as they are, all of them look like synonyms"
    assert drop_synonyms(words, "wrong", encode) == rest[:25]
    assert drop_synonyms(words, "wrong", encode, n=3000) == rest
    few = words[:40]
    assert drop_synonyms(few, "wrong", encode, n=40) == [word for word in few if word in rest], "some dozens will do"
    assert drop_synonyms(few, "wrong", encode, n=40, centre=encode(words).mean(0)) == [word for word in few if word in rest]


def test_a_name_within_another_word_is_no_synonym():
    def encode(texts):
        return torch.eye(9)[: len(texts)] if len(texts) > 1 else torch.eye(9)[8:]

    words = ["a scarf on a carpet", "sports cars", "CAR", "a cart", "location"]
    assert drop_synonyms(words, "car", encode) == ["a scarf on a carpet", "a cart", "location"]
    assert drop_synonyms(words, "cat", encode) == words
    for n in (0, -1):
        with pytest.raises(ValueError, match="n must be at least 1"):
            drop_synonyms(words, "car", encode, n=n)


def test_an_attack_keeps_and_drops_whole_words(sandbox):
    def writer(*_):
        return ["a dog in a shipyard", "hotdogs", "a dog and two ships", "dogs"]

    found = attack(
        sandbox, "dog", "ship", ["x"], writer, lambda texts, *_: [sandbox_painter(["a dog"], 1, 0)[0]] * len(texts), 4, 1
    )
    assert set(found.descriptions) == {"a dog in a shipyard", "dogs"}


def test_words_of_neurons_and_words_of_texts(sandbox):
    vector = class_direction(sandbox, "dog", "ship")
    torch.testing.assert_close(vector, sandbox.encode_text(["ship"])[0] - sandbox.encode_text(["dog"])[0], atol=1e-5, rtol=1e-5)
    generator = torch.Generator().manual_seed(0)
    directions = F.normalize(torch.randn(30, sandbox.d_embed, generator=generator), dim=1)
    indices = torch.stack([torch.randperm(12, generator=generator)[:3] for _ in range(30)])
    weights = torch.randn(30, 3, generator=generator)
    names = [f"text {j}" for j in range(12)]
    texts = SparseTexts(names, torch.randn(12, sandbox.d_embed, generator=generator), directions, indices, weights)
    match = directions @ vector
    for k, neurons in ((5, None), (30, None), (5, torch.tensor([3, 8]))):
        chosen = match.abs().argsort(descending=True)[:k] if neurons is None else neurons
        scores = torch.zeros(12)
        for n in chosen.tolist():
            for j, gamma in zip(indices[n].tolist(), weights[n].tolist()):
                scores[j] += gamma * match[n]
        expected = [names[j] for j in scores.argsort(descending=True).tolist() if scores[j] > 0]
        assert spurious_words(texts, vector, k, neurons) == expected and 0 < len(expected) < 12
    order = (texts.atoms @ vector).argsort(descending=True).tolist()
    assert similar_words(names, texts.atoms, vector) == [names[j] for j in order]


def test_an_attack_equals_a_plain_computation(sandbox):
    told = []

    def writer(words, true, wrong, n, seed):
        told.append((list(words), true, wrong, n, seed))
        return [*template_writer(words, true, wrong, n, seed), "a cat", "a dog and a ship", "A DOG in a room"]

    found = attack(sandbox, "dog", "ship", WORDS, writer, sandbox_painter, n_texts=4, per_text=3, seed=2)
    assert told == [(WORDS, "dog", "ship", 50, 2)]
    assert len(found.images) == len(found.descriptions) == len(found.scores) == 12
    written = {text for text in writer(WORDS, "dog", "ship", 50, 2) if "dog" in text.lower() and "ship" not in text}
    assert set(found.descriptions) <= written
    shown, induced = (sandbox.encode_text([name])[0] for name in ("dog", "ship"))
    for image, score in zip(found.images, found.scores):
        whole = F.normalize(sandbox.encode_image(sandbox.preprocess(image)[None])[0], dim=0)
        assert score.item() == pytest.approx((whole @ induced - whole @ shown).item(), abs=1e-5)
    assert found.success == pytest.approx(100 * np.mean([score > 0 for score in found.scores.tolist()]))
    again = attack(sandbox, "dog", "ship", WORDS, template_writer, sandbox_painter, n_texts=4, per_text=3, seed=2)
    repeated = attack(sandbox, "dog", "ship", WORDS, template_writer, sandbox_painter, n_texts=4, per_text=3, seed=2)
    assert again.descriptions == repeated.descriptions and torch.equal(again.scores, repeated.scores)
    other = attack(sandbox, "dog", "ship", WORDS, template_writer, sandbox_painter, n_texts=4, per_text=3, seed=3)
    assert other.descriptions != again.descriptions


def test_all_attacking_images_show_the_true_object_and_never_the_wrong_one(sandbox):
    for true, wrong in (("dog", "ship"), ("hammer", "wrench"), ("tooth", "wizard hat")):
        drawn = []

        def painter(descriptions, per_text, seed, drawn=drawn):
            images = [paint(text, per_text, seed + 1000 * k) for k, text in enumerate(descriptions)]
            drawn += [image.factors for few in images for image in few]
            own = sandbox_painter(descriptions, per_text, seed)
            assert all(np.array_equal(np.asarray(a), b.pixels) for few, many in zip(own, images) for a, b in zip(few, many))
            return own

        found = attack(sandbox, true, wrong, WORDS + prompts("object", wrong), template_writer, painter, 5, 2)
        assert len(drawn) == len(found.images) == 10 and len({spec.seed for spec in drawn}) == 10
        assert {spec.object for spec in drawn} == {true}
        assert wrong not in {kind for spec in drawn for kind, _ in spec.others}
        assert all(np.array_equal(np.asarray(image), render(spec).pixels) for image, spec in zip(found.images, drawn))


def paint_instead(name):
    return lambda descriptions, per_text, seed: sandbox_painter([f"a {name}"] * len(descriptions), per_text, seed)


def credulous(images, true, wrong):
    return [True] * len(images)


def test_images_of_the_wrong_thing_would_fool_it(sandbox):
    """The score says what it should: images of a ship score above zero, images of a dog below."""

    honest, cheated = (
        attack(sandbox, "dog", "ship", ["a key"], template_writer, paint_instead(name), 4, 5, judge=credulous)
        for name in ("dog", "ship")
    )
    assert honest.success < 15 and cheated.success > 85 and honest.dropped == cheated.dropped == 0
    assert attack(sandbox, "dog", "ship", ["a key"], template_writer, sandbox_painter, 99, 1).descriptions


def test_images_that_show_the_wrong_thing_or_not_the_true_one_are_dropped(sandbox):
    """Every third copy shows what the description says; a ship fools the classifier and yet is no success."""

    def careless(descriptions, per_text, seed):
        texts = ["a dog and a key", "a key", "a dog and a ship"]
        return [[sandbox_painter([texts[k % 3]], 1, seed + k)[0][0] for k in range(per_text)] for _ in descriptions]

    made = attack(sandbox, "dog", "ship", ["a key"], lambda *_: ["a dog", "dogs"], careless, 2, 6)
    assert len(made.images) == len(made.scores) == len(made.descriptions) == 4
    assert len(made.drawn) == 12 and made.dropped == 8
    assert all(image.info["shows"] == {"dog", "key"} for image in made.images)
    assert made.success == pytest.approx(100 * (made.scores > 0).sum().item() / 12)
    none = attack(sandbox, "dog", "ship", ["a key"], lambda *_: ["a dog"], paint_instead("ship"), 1, 3)
    assert none.images == [] and none.dropped == 3 and none.success == 0


def test_whoever_does_not_say_what_it_shows_needs_another_judge(sandbox):
    def plain(descriptions, per_text, seed):
        return [[Image.new("RGB", (64, 64))] * per_text for _ in descriptions]

    with pytest.raises(ValueError, match="do not say what they show; pass a judge.*object_detector"):
        attack(sandbox, "dog", "ship", ["a key"], template_writer, plain, 1, 1)
    verdict = attack(sandbox, "dog", "ship", ["a key"], template_writer, plain, 2, 2, judge=lambda *_: [True, False, False, True])
    assert verdict.dropped == 2 and verdict.descriptions == [verdict.drawn[0], verdict.drawn[3]]
    with pytest.raises(ValueError, match="shorter"):
        attack(sandbox, "dog", "ship", ["a key"], template_writer, plain, 1, 2, judge=lambda *_: [True])
    with pytest.raises(ValueError, match="drew none of 1 descriptions"):
        attack(sandbox, "dog", "ship", ["a key"], template_writer, lambda texts, *_: [[] for _ in texts], 1, 2)


def test_success_has_a_spread_over_attacks_and_over_descriptions():
    def made(*fooling, drawn=4):
        texts = [f"text {k}" for k in range(len(fooling))]
        scores = torch.cat([torch.tensor([1.0] * n + [-1.0] * (drawn - 1 - n)) for n in fooling])  # one of each was dropped
        kept = [text for text in texts for _ in range(drawn - 1)]
        return Attack(kept, [None] * len(kept), scores, [text for text in texts for _ in range(drawn)])

    attacks = [made(1, 3), made(0, 0), made(2, 0)]
    assert [each.success for each in attacks] == [50, 0, 25] and attacks[0].by_description == {"text 0": 25, "text 1": 75}
    found = success(attacks)
    assert found.mean == pytest.approx(25) and found.std == pytest.approx(np.std([50, 0, 25]))
    assert found.error == pytest.approx(np.std([25, 75, 0, 0, 50, 0], ddof=1) / 6**0.5)
    assert (found.dropped, found.drawn) == (6, 24)
    assert success([made(1)]).std == 0 and np.isnan(success([made(1)]).error), "one description has no spread to go by"
    with pytest.raises(ValueError, match="at least one"):
        success([])


def test_an_attack_without_words_or_descriptions(sandbox):
    with pytest.raises(ValueError, match="no words to write about"):
        attack(sandbox, "dog", "ship", [], template_writer, sandbox_painter)
    for useless in ("a cat in a room", "a dog on a ship"):
        with pytest.raises(ValueError, match="none of 50 descriptions names 'dog' and not 'ship'; the first: .'" + useless):
            attack(sandbox, "dog", "ship", ["x"], lambda *_, text=useless: [text] * 50, sandbox_painter)
    with pytest.raises(ValueError, match="none of 0 descriptions"):
        attack(sandbox, "dog", "ship", ["x"], lambda *_: [], sandbox_painter)


def test_the_writer_does_not_touch_the_global_random_state():
    random.seed(1)
    before = random.random()
    random.seed(1)
    template_writer(WORDS, "dog", "ship", 5, 0)
    assert random.random() == before


def test_a_colour_belongs_to_the_object_that_comes_next():
    for text, first, second in (
        ("a dog and a blue cat", ("dog", None), ("cat", "blue")),
        ("a red dog and a ship", ("dog", "red"), ("ship", None)),
        ("a red dog and a red ship", ("dog", "red"), ("ship", "red")),
        ("a dog, something green", ("dog", "green"), (None, None)),
    ):
        for drawn in paint(text, 4):
            spec = drawn.factors
            kind, colour = spec.others[0] if spec.others else (None, None)
            assert (spec.object, kind) == (first[0], second[0])
            assert first[1] in (None, spec.colour) and second[1] in (None, colour)
    assert len({drawn.factors.colour for drawn in paint("a dog and a blue cat", 20)}) > 3
    for text in ("a red blue dog", "two dogs and a cat"):
        with pytest.raises(ValueError, match="names"):
            paint(text)


def test_the_image_that_fools_most_comes_with_its_description():
    def made(scores):
        return Attack([f"text {score}" for score in scores], [f"image {score}" for score in scores], torch.tensor(scores), [])

    assert most_fooling([made([-1.0, 0.2]), made([0.5, 0.1])]) == ("image 0.5", "text 0.5")
    assert most_fooling([made([-1.0])]) is None and most_fooling([Attack([], [], torch.empty(0), ["a dog"])]) is None
