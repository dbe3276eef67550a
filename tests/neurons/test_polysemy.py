from types import SimpleNamespace

import numpy as np
import pytest
import torch

from interp_utils.neurons import (
    Drives,
    SparseTexts,
    drives,
    named_facts,
    naming_interval,
    naming_score,
    polysemy,
    second_order,
    shares_true,
    with_hypernyms,
)
from interp_utils.sandbox import FACTS, balanced, facts_of, prompts


def shows(spec, factor, value):
    """Can the fact be seen in the image? (Colour only in photos, place and size only of a single object.)"""
    return (factor, value) in facts_of(spec)


PLANTED = [  # what makes each neuron's coefficient large
    lambda spec: 5.0 * shows(spec, "object", "dog"),
    lambda spec: 5.0 * shows(spec, "scene", "sea") + 5.0 * shows(spec, "colour", "red"),
    lambda spec: 0.0,
    lambda spec: -5.0 * shows(spec, "texture", "striped"),
    lambda spec: 5.0 * shows(spec, "count", 3),
    lambda spec: 5.0 * (shows(spec, "weather", "fog") and shows(spec, "style", "sepia")),
]


@pytest.fixture
def planted(sandbox, monkeypatch):
    """A stand-in for a fitted layer whose coefficients x are known functions of the facts, beside a little noise."""

    def batch_effects(batch, orders, k):
        specs = [balanced(10**9 + number) for number in batch.numbers.tolist()]
        noise = [np.random.default_rng(spec.seed).normal(size=len(PLANTED)) for spec in specs]
        x = torch.tensor([[plant(spec) for plant in PLANTED] for spec in specs]) + 0.3 * torch.tensor(np.array(noise))
        return SimpleNamespace(less=lambda centre: SimpleNamespace(along=lambda lines: x))

    monkeypatch.setattr(polysemy, "batch_effects", batch_effects)
    fitted = SimpleNamespace(centre=None, lines=None)
    return SimpleNamespace(clip=sandbox, rank_one=fitted)


def test_the_planted_facts_are_found_and_no_others(planted, monkeypatch):
    monkeypatch.setattr(polysemy, "TOP", 30)
    found = drives(planted, n_images=2000)
    facts = [{(factor, value) for factor, value, _ in found.of(neuron)} for neuron in range(len(PLANTED))]
    assert facts == [
        {("object", "dog"), ("category", "land animal"), ("family", "animal")},  # what a dog is, is as frequent at least
        {("scene", "sea"), ("colour", "red")},
        set(),
        set(),  # what speaks against the direction does not drive it, and much else does no more than usual
        {("count", 3)},
        {("weather", "fog"), ("style", "sepia")},
    ]
    assert found.driven.shape == found.lift.shape == (len(PLANTED), len(FACTS))


def test_lifts_are_ratios_of_frequencies(planted, monkeypatch):
    monkeypatch.setattr(polysemy, "TOP", 30)
    found = drives(planted, n_images=900, batch_size=100)
    specs = [balanced(10**9 + k) for k in range(900)]
    noise = np.array([np.random.default_rng(spec.seed).normal(size=len(PLANTED)) for spec in specs])
    for neuron in (0, 2, 5):
        x = np.array([PLANTED[neuron](spec) for spec in specs]) + 0.3 * noise[:, neuron]
        best = [specs[k] for k in np.argsort(-x)[:30]]
        for k, fact in enumerate(FACTS):
            there, overall = (np.mean([shows(spec, *fact) for spec in group]) for group in (best, specs))
            assert found.lift[neuron, k].item() == pytest.approx(there / overall if overall else 0, rel=1e-5)
    listed = found.of(5)
    assert [lift for *_, lift in listed] == sorted((lift for *_, lift in listed), reverse=True) and len(listed) == 2


def test_lift_and_level_are_both_asked_for(planted, monkeypatch):
    def with_(top=30, lift=2.0, level=0.01):
        for name, value in (("TOP", top), ("LIFT", lift), ("LEVEL", level)):
            monkeypatch.setattr(polysemy, name, value)
        return drives(planted, n_images=900)

    assert not with_(lift=50.0).driven.any(), "no fact is fifty times as frequent as usual"
    assert with_(lift=3.5).of(5) == [("weather", "fog", pytest.approx(4, abs=0.4))]
    assert not with_(top=1).driven.any(), "one image proves nothing"
    loose = with_(lift=1.0, level=1e9)
    assert (loose.driven == (loose.lift >= 1)).all() and loose.driven[2].sum() > 10


def test_naming_scores_of_hand_made_tables():
    driven, named = torch.zeros(4, len(FACTS), dtype=torch.bool), torch.zeros(4, len(FACTS), dtype=torch.bool)
    driven[0, 3] = driven[1, 3] = driven[2, 7] = driven[2, 8] = True
    named[0, 3] = named[1, 5] = named[2, 7] = True  # two hits, one miss; facts 3 of neuron 1 and 8 of neuron 2 stay unnamed
    score = naming_score(Drives(torch.ones(4, len(FACTS)), driven), named)
    assert (score.precision, score.recall) == (pytest.approx(2 / 3), pytest.approx(2 / 4))
    dealt = 1 / 4 * 2 + 1 / 4 * 1  # fact 3 is named for a quarter of the neurons and drives two, fact 7 drives one
    assert (score.precision_chance, score.recall_chance) == (pytest.approx(dealt / 3), pytest.approx(dealt / 4))
    perfect = naming_score(Drives(torch.ones(4, len(FACTS)), driven), driven)
    assert perfect.precision == perfect.recall == 1 and perfect.precision_chance < 1
    alike = torch.zeros(4, len(FACTS), dtype=torch.bool)
    alike[:, 3] = True
    same = naming_score(Drives(torch.ones(4, len(FACTS)), driven), alike)
    assert same.precision == same.precision_chance == pytest.approx(0.5), "texts that are all the same name by chance alone"


def test_chance_is_what_shuffled_texts_score_on_average():
    generator = torch.Generator().manual_seed(0)
    driven = torch.rand(40, len(FACTS), generator=generator) < 0.1
    named = (torch.rand(40, len(FACTS), generator=generator) < 0.05) | (driven & (torch.rand(40, 1, generator=generator) < 0.5))
    score = naming_score(Drives(torch.ones(40, len(FACTS)), driven), named)
    rounds = [
        naming_score(Drives(torch.ones(40, len(FACTS)), driven), named[torch.randperm(40, generator=generator)]) for _ in range(300)
    ]
    assert np.mean([shuffled.precision for shuffled in rounds]) == pytest.approx(score.precision_chance, rel=0.05)
    assert np.mean([shuffled.recall for shuffled in rounds]) == pytest.approx(score.recall_chance, rel=0.05)
    assert score.precision > 2 * score.precision_chance


def test_what_a_driving_object_belongs_to_drives_with_it():
    driven = torch.zeros(3, len(FACTS), dtype=torch.bool)
    driven[0, FACTS.index(("object", "dog"))] = driven[1, FACTS.index(("scene", "sea"))] = True
    driven[2, FACTS.index(("object", "hammer"))] = True
    wide = with_hypernyms(Drives(torch.ones(3, len(FACTS)), driven))
    facts = [{(factor, value) for factor, value, _ in wide.of(neuron)} for neuron in range(3)]
    assert facts[0] == {("object", "dog"), ("category", "land animal"), ("family", "animal")}
    assert facts[1] == {("scene", "sea")} and facts[2] == {("object", "hammer"), ("category", "tool")}, "tools have no family"
    assert driven.sum() == 3, "the argument stays as it is"


def coded(texts, indices, weights):
    n = len(indices)
    return SparseTexts(texts, torch.eye(len(texts)), torch.zeros(n, len(texts)), torch.tensor(indices), torch.tensor(weights))


def test_every_prompt_of_the_sandbox_names_its_fact():
    assert {"object", "scene", "category", "family"} <= {factor for factor, _ in FACTS}
    texts = [(text, fact) for fact in FACTS for text in prompts(*fact)]
    pool = [text if k % 2 else text.upper() for k, (text, _) in enumerate(texts)]
    named = named_facts(coded(pool, [[k] for k in range(len(pool))], [[1.0]] * len(pool)), k=1)
    for row, (_, fact) in zip(named, texts):
        assert [FACTS[k] for k in row.nonzero()[:, 0].tolist()] == [fact]


def test_named_facts_take_the_texts_of_largest_positive_weight():
    pool = ["a dog", "a picture of the sea", "a red object", "fish", "a thing that the sandbox does not know", "dogs"]
    indices = [[0, 1, 2, 3], [4, 5, 0, 1], [2, -1, -1, -1]]
    weights = [[0.1, -9.0, 3.0, 2.0], [5.0, 1.0, 0.5, 0.2], [1.0, 0.0, 0.0, 0.0]]

    def facts(k):
        return [[FACTS[f] for f in row.nonzero()[:, 0].tolist()] for row in named_facts(coded(pool, indices, weights), k)]

    dog, fish, red, sea = ("object", "dog"), ("object", "fish"), ("colour", "red"), ("scene", "sea")
    assert facts(4) == [[fish, dog, red], [dog, sea], [red]]
    assert facts(2) == [[fish, red], [dog], [red]] and facts(1) == [[red], [], [red]]


def test_an_unfitted_layer_is_refused(sandbox):
    with pytest.raises(RuntimeError, match="call fit"):
        drives(second_order(sandbox, 3), n_images=4)


def test_the_interval_of_a_precision_is_over_neurons():
    rng = np.random.default_rng(0)
    named, driven = (torch.from_numpy(rng.random((200, 30)) < share) for share in (0.1, 0.3))
    table = Drives(driven.float(), driven)
    low, high = naming_interval(table, named, 300)
    assert low < naming_score(table, named).precision < high and high - low < 0.15
    none = torch.zeros_like(named)
    assert naming_interval(table, none, 20) == (0, 0), "where nothing is named"


def test_texts_are_held_against_their_own_image_and_all():
    specs = [balanced(5, object="dog", scene="sea"), balanced(6, object="cat", scene="sea")]
    sea, dog = prompts("scene", "sea")[0], prompts("object", "dog")[-1].upper()
    own, every = shares_true([[sea, dog], [dog]], specs)
    assert own.tolist() == [1, 0] and every.tolist() == [0.75, 0.5]
    assert shares_true([[], [sea]], specs)[0].tolist() == [0, 1]
    with pytest.raises(ValueError, match="got 1 lists and 2 images"):
        shares_true([[sea]], specs)
    with pytest.raises(ValueError, match="'zebra crossing' is no prompt"):
        shares_true([["zebra crossing"], []], specs)
