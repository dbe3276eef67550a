"""Planted units, whose truth is known by construction, go through the same test as heads and neurons."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu

import interp_utils as iu
from interp_utils import heads, neurons, science, statistics
from interp_utils.sandbox import FACTORS, FACTS, factor_images, prompts, rendered, to_pixels
from interp_utils.science import twins
from interp_utils.science.named import parts_named as parts

PARTS = {fact: prompts(*fact)[0] for fact in FACTS}


@pytest.fixture(scope="module")
def sandbox():
    return iu.load_clip("sandbox", device="cpu")


def planted(clip, *rules):
    """Units that answer with 1 plus noise where a rule on the spec holds. Specs are told from their pixels, drawn anew."""

    def vectors(batch):
        rows = [[float(rule(known[pixels.sum().item()])) for rule in rules] for pixels in batch.pixels.cpu()]
        answers = torch.tensor(rows)
        noise = torch.randn(answers.shape, generator=torch.Generator().manual_seed(int(batch.pixels.abs().sum())))
        return (answers + 0.05 * noise)[..., None]

    known = {}
    ones = torch.ones(len(rules), 1)
    return known, science.Units(clip, [f"planted {k}" for k in range(len(rules))], vectors, lambda text: ones)


def pairs_of(known, monkeypatch):
    """`painted_pairs`, and every spec that it draws becomes known to the planted units."""

    def watched(specs):
        images = rendered(specs)
        known.update((to_pixels(image.pixels).sum().item(), image.factors) for image in images)
        return images

    monkeypatch.setattr(twins, "rendered", watched)
    return science.painted_pairs


def specs_of(monkeypatch, text, n, seed=0):
    """The specs that `painted_pairs` draws for a text: true ones, and their twins."""
    seen = []
    monkeypatch.setattr(twins, "rendered", lambda specs: seen.append(list(specs)) or rendered(specs))
    on, off = science.painted_pairs(text, n, seed)
    assert on.shape == off.shape == (n, 3, 64, 64) and not torch.equal(on, off)
    return seen


@pytest.mark.parametrize(("text", "named"), [
    ("a red dog", {"colour": "red", "object": "dog"}), ("a beach", {"scene": "beach"}),
    ("three cats", {"count": 3, "object": "cat"}), ("an object on the left", {"place": "left"}),
])  # fmt: skip
def test_twins_differ_in_what_the_text_names_alone(monkeypatch, text, named):
    true, others = specs_of(monkeypatch, text, 12)
    for one, twin in zip(true, others):
        assert all(getattr(one, f) == value != getattr(twin, f) for f, value in named.items())
        assert replace(twin, **named) == one
        assert "colour" not in named or one.style == "photo"
        assert "place" not in named or one.count == 1
    assert len({spec.light for spec in true}) == 3, "scenes of all kinds"


def test_a_twin_of_a_category_is_any_object_outside(monkeypatch):
    for text, kind in (("an animal", "family"), ("a water animal", "category")):
        true, others = specs_of(monkeypatch, text, 25)
        fact = science.facts_named(text)[0]
        belong = [[fact in iu.sandbox.facts_of(replace(spec, others=())) for spec in each] for each in (true, others)]
        assert fact[0] == kind
        assert all(belong[0]) and not any(belong[1])
        assert len({spec.object for spec in true}) > 3 and all(replace(b, object=a.object) == a for a, b in zip(true, others))


def test_pairs_of_another_text_and_seed_have_other_scenes(monkeypatch):
    seeds = [{spec.seed for spec in specs_of(monkeypatch, *asked)[0]} for asked in (("a dog", 8), ("a cat", 8), ("a dog", 8, 1))]
    assert len(set.union(*seeds)) == 24 and seeds[0] == {spec.seed for spec in specs_of(monkeypatch, "a dog", 8)[0]}


@pytest.mark.parametrize("text", ["hello", "a dog and a cat", "a dog left of a cat", "a red and blue dog"])
def test_what_one_pair_cannot_show_is_told(text):
    with pytest.raises(ValueError, match="name one object"):
        science.painted_pairs(text, 3)


def test_a_planted_unit_is_accepted_for_its_factor_and_rejected_for_others(sandbox, monkeypatch):
    known, units = planted(sandbox, lambda s: s.colour == "red", lambda s: s.object == "dog" and s.colour == "red", lambda s: False)
    draw = pairs_of(known, monkeypatch)
    texts = ["a red dog", "a striped cat", *parts("a red dog"), *parts("a striped cat")]
    measured = science.measure([units], draw, {text: torch.ones(sandbox.d_embed) for text in texts}, n=12)
    assert measured["a red dog"].shape == (2, 12, 3)
    rates = torch.tensor([1 / 11, 1 / (11 * 144), 0])
    spread = (rates * (1 - rates) + 0.05**2).sqrt()
    bars = torch.full((3,), 0.5)
    findings = science.investigate(measured, {k: ["a red dog", "a striped cat"] for k in range(3)}, spread, bars, parts)
    red, conjunction, nothing = findings[::2]
    assert red.verdict == "refined" and red.claims == [PARTS["colour", "red"]]
    assert [part.accepted for part in red.parts] == [True, False]
    assert conjunction.verdict == "accepted" and conjunction.claims == ["a red dog"], "only both together move it"
    assert nothing.verdict == "rejected" and not nothing.claims
    assert all(finding.verdict == "rejected" for finding in findings[1::2])
    assert red.whole.auc == 1.0 and red.whole.interval[0] <= red.whole.effect <= red.whole.interval[1]
    with pytest.raises(KeyError, match="no measurement for 'a green dog'"):
        science.investigate(measured, {0: ["a green dog"]}, spread, bars, parts)


def test_a_sum_of_small_answers_is_no_conjunction():
    """A text that changes two things moves a unit by the sum; it must reach two bars."""
    noise = 0.02 * torch.randn(2, 16, 1, generator=torch.Generator().manual_seed(0))
    steps = {"a red dog": 0.8, PARTS["colour", "red"]: 0.4, PARTS["object", "dog"]: 0.4}
    measured = {text: noise + torch.tensor([step, 0.0])[:, None, None] for text, step in steps.items()}
    ones = torch.ones(1)
    findings = science.investigate(measured, {0: ["a red dog"]}, ones, 0.5 * ones, parts)
    assert findings[0].whole.effect > 0.5 and findings[0].verdict == "rejected"
    assert science.investigate(measured, {0: ["a red dog"]}, ones, 0.3 * ones, parts)[0].verdict == "accepted"


def test_statistics_equal_their_definitions():
    generator = torch.Generator().manual_seed(0)
    on, off = torch.randn(15, generator=generator) + 1, torch.randn(15, generator=generator)
    off[3] = on[5]  # a tie
    found, change = science.paired_statistics(on, off, 2.0), (on - off).double()
    assert found["effect"] == pytest.approx(change.mean().item() / 2)
    assert found["cohens_d"] == pytest.approx((change.mean() / change.std()).item())
    assert found["auc"] == pytest.approx(mannwhitneyu(on.double().numpy(), off.double().numpy()).statistic / 15**2)
    low, high = found["interval"]
    assert 0.5 * 3.9 < (high - low) / (change.std() / 15**0.5 / 2).item() < 1.2 * 3.9, "about two standard errors to each side"
    flipped = science.paired_statistics(off, on, 2.0)
    assert found["p"] == statistics.sign_flip_p(change) and flipped["p"] == pytest.approx(1 - found["p"] + 2**-15)
    assert flipped["auc"] == pytest.approx(1 - found["auc"])
    with pytest.raises(ValueError, match="at least 3 pairs"):
        science.paired_statistics(on[:2], off[:2], 1.0)


def test_a_test_has_the_same_numbers_alone_and_among_others():
    """Of texts with different numbers of pairs, of which one differs by the same in all."""
    generator, spread = torch.Generator().manual_seed(0), torch.tensor([0.5, 2.0])
    measured = {text: torch.randn(2, n, 2, generator=generator) for text, n in (("a cat", 9), ("a dog", 16), ("a fish", 9))}
    measured["a fish"][:, :, 1] = torch.tensor([1.0, 0.25])[:, None]
    found = science.investigate(measured, dict.fromkeys(range(2), list(measured)), spread, 0 * spread, lambda text: [text])
    assert [(f.whole.unit, f.whole.text) for f in found] == [(unit, text) for unit in range(2) for text in measured]
    for each in (f.whole for f in found):
        alone = science.paired_statistics(*measured[each.text][:, :, each.unit], spread[each.unit].item())
        assert (each.effect, each.interval, each.cohens_d, each.auc) == tuple(list(alone.values())[:4])
    assert found[-1].whole.cohens_d == float("inf")


def test_pairs_that_all_differ_by_the_same_are_no_accident():
    still, up = torch.full((5,), 0.3), torch.full((5,), 0.9)
    same, more, less = (science.paired_statistics(*pair, 1.0) for pair in ((still, still), (up, still), (still, up)))
    assert (same["cohens_d"], same["p"]) == (0, 1)
    assert (more["cohens_d"], more["p"], more["auc"]) == (float("inf"), 1 / 32, 1), "five pairs have 32 choices of signs"
    assert (less["cohens_d"], less["p"], less["auc"]) == (float("-inf"), 1, 0)
    assert more["interval"] == pytest.approx((0.6, 0.6))


def test_units_that_do_not_vary_and_empty_questions_are_told(sandbox):
    still = torch.tensor([1.0, 0.0])
    with pytest.raises(ValueError, match=r"do not vary: \[1\]"):
        science.effects({"a dog": torch.rand(2, 4, 2)}, still)
    with pytest.raises(ValueError, match="0 texts"):
        science.effects({}, torch.ones(2))
    with pytest.raises(ValueError, match="does not vary"):
        science.paired_statistics(torch.rand(5), torch.rand(5), 0.0)
    with pytest.raises(ValueError, match="0 texts"):
        science.measure([science.head_units(sandbox, [(5, 1)])], science.painted_pairs, {})
    with pytest.raises(ValueError, match="0 kinds of units"):
        science.measure([], science.painted_pairs, {"a dog": torch.ones(sandbox.d_embed)})


def findings_on(changes):
    """Of one unit, whose answers to the pairs of as many texts differ by changes [T, n], in a unit of measurement of 1."""
    measured = {f"text {k}": torch.tensor(np.stack([row, 0 * row]))[..., None] for k, row in enumerate(changes)}
    return measured, science.investigate(measured, {0: list(measured)}, torch.ones(1), torch.tensor([0.7]), lambda text: [text])


def test_differences_skewed_about_zero_do_not_pass_the_bar():
    """No test of a mean keeps its level there, this neither; a large effect in a fixed unit is another hurdle."""
    rng = np.random.default_rng(0)
    families = [1 - rng.exponential(size=(30, 15)) for _ in range(20)]
    found = [findings_on(changes)[1] for changes in families]
    significant = np.mean([any(finding.whole.p < 0.05 for finding in family) for family in found])
    accepted = np.mean([any(finding.claims for finding in family) for family in found])
    assert accepted <= 0.05 < significant


def test_too_few_pairs_for_so_many_tests_are_told():
    changes = np.random.default_rng(0).random((40, 9)) + 1
    with pytest.raises(ValueError, match="with 9 pairs of images none of 40 tests can pass 0.05: measure at least 10"):
        findings_on(changes)
    assert all(finding.claims for finding in findings_on(np.hstack([changes, changes[:, :1]]))[1])


def test_a_head_answers_by_its_direct_effect_within_what_it_can_write(sandbox):
    units = science.head_units(sandbox, [(5, 1), (7, 3)])
    text = sandbox.encode_text(["a dog"])[0]
    directions = units.directions(text)
    assert torch.allclose(directions.norm(dim=1), torch.ones(2), atol=1e-5)
    on, off = science.painted_pairs("a dog", 4)
    measured = science.measure([units], science.painted_pairs, {"a dog": text, "a cat": text}, n=4)
    pixels = torch.cat([on, off])
    fx = heads.direct_effects(sandbox, pixels)
    written = fx.heads() / fx.total().norm(dim=-1)[:, None, None, None]
    by_hand = torch.stack([written[:, 5, 1] @ directions[0], written[:, 7, 3] @ directions[1]], 1)
    assert torch.allclose(measured["a dog"].flatten(0, 1), by_hand, atol=1e-5)
    constant = directions[0] - torch.linalg.pinv(heads.head_basis(sandbox)[5, 1]) @ heads.head_basis(sandbox)[5, 1] @ directions[0]
    assert constant.norm() < 1e-3, "the direction lies in the span of the head"


def test_spread_is_the_standard_deviation_of_whole_answers(sandbox):
    images = torch.cat(science.painted_pairs("a dog", 20))
    fx = heads.direct_effects(sandbox, images)
    written = fx.heads([5])[:, 0, 1] / fx.total().norm(dim=-1, keepdim=True)
    expected = (written - written.mean(0)).square().sum(1).mean().sqrt()
    assert science.spread(science.head_units(sandbox, [(5, 1)]), images)[0].item() == pytest.approx(expected.item(), rel=1e-4)


def test_a_neuron_answers_by_its_second_order_coefficient(sandbox):
    images = torch.cat(science.painted_pairs("a dog", 20))
    order = neurons.second_order(sandbox, 5, relative=True).fit(images, top=10)
    units = science.neuron_units(order, [3, 8])
    measured = science.measure([units], science.painted_pairs, {"a dog": torch.ones(sandbox.d_embed)}, n=20)["a dog"]
    phi = order.effects(images, [3, 8]) - order.mean[[3, 8]]
    assert torch.allclose(measured.flatten(0, 1), torch.einsum("bnE,nE->bn", phi, order.directions[[3, 8]]), atol=1e-5)
    assert units.names == ["L5N3", "L5N8"]
    whole = torch.einsum("bnE,nE->bn", phi, order.directions[[3, 8]])
    assert torch.allclose(science.spread(units, images), whole.std(0, correction=0), rtol=1e-3)


def test_heads_and_neurons_of_two_layers_share_one_run_of_the_model(sandbox, monkeypatch):
    orders = [neurons.second_order(sandbox, layer, relative=True) for layer in (4, 5)]
    neurons.fit(orders, factor_images("object", 40), top=10)
    units = [science.head_units(sandbox, [(5, 1), (7, 0)]), *(science.neuron_units(order, [3, 8]) for order in orders)]
    texts = {text: sandbox.encode_text([text])[0] for text in ("a dog", "a cat", "a beach")}
    alone = [science.measure([each], science.painted_pairs, texts, n=4) for each in units]
    runs, encode = [], type(sandbox).encode_image
    monkeypatch.setattr(type(sandbox), "encode_image", lambda self, pixels: runs.append(len(pixels)) or encode(self, pixels))
    together = science.measure(units, science.painted_pairs, texts, n=4)
    assert runs == [24], "three texts, four pairs"
    for text in texts:
        torch.testing.assert_close(together[text], torch.cat([each[text] for each in alone], -1), atol=1e-6, rtol=1e-4)


def test_several_kinds_of_units_are_judged_in_one_run_of_the_model(sandbox, monkeypatch):
    order = neurons.second_order(sandbox, 5, relative=True).fit(factor_images("object", 40), top=10)
    kinds = [science.head_units(sandbox, [(5, 1), (7, 0)]), science.activation_units(order, [3, 8])]
    kinds.append(science.neuron_units(order, [3, 8]))
    alone = torch.cat([science.fact_differences(each, 70) for each in kinds])
    runs, encode = [], type(sandbox).encode_image
    monkeypatch.setattr(type(sandbox), "encode_image", lambda self, pixels: runs.append(len(pixels)) or encode(self, pixels))
    assert science.fact_differences(kinds, 70).allclose(alone, atol=1e-4) and alone.std() > 0.1
    assert runs == [64, 6]


def test_differences_by_fact_find_what_was_planted(sandbox):
    """A number keeps its sign; a vector has a length that chance does not inflate."""
    generator = torch.Generator().manual_seed(0)

    def vectors(batch):
        holds = (batch.targets[:, list(FACTORS).index("style")] == FACTORS["style"].index("sepia")).float()
        noise = torch.randn(len(holds), 2, 16, generator=generator)
        noise[:, 0, 0] += 8 * holds
        return noise

    units = science.Units(sandbox, ["sepia", "nothing"], vectors, None)
    found = science.fact_differences(units, 600)
    sepia = FACTS.index(("style", "sepia"))
    spread = (16 + 64 * 2 / 9) ** 0.5
    assert found[0, sepia] == pytest.approx(8 / spread, rel=0.15)
    common = [k for k, (factor, _) in enumerate(FACTS) if factor not in ("object", "category", "colour")]
    assert found[1, common].max() < 0.35, "600 images of pure noise in 16 dimensions would give lengths up to 0.9"
    one = science.Units(sandbox, ["dark"], lambda batch: -vectors(batch)[:, :1, :1], None)
    assert science.fact_differences(one, 400)[0, sepia] < -1


def test_claims_become_a_table_of_facts():
    claims = [(0, "a red dog"), (1, "a beach")]
    table = science.claimed_facts(claims, 3, science.facts_named)
    assert table.sum() == 3 and table[0, FACTS.index(("object", "dog"))] and not table[2].any()


def test_retrieved_pairs_put_similar_images_side_by_side(sandbox):
    items = [(pixels, 0) for pixels in torch.cat([*science.painted_pairs("a beach", 20), *science.painted_pairs("a red star", 20)])]
    reference = [text for fact in FACTS for text in prompts(*fact)[:1]]
    draw = science.retrieved_pairs(sandbox, items, reference)
    on, off = draw("a beach", 6, 0)
    direction = sandbox.encode_text(["a beach"])[0] - sandbox.encode_text(reference).mean(0)
    match = [torch.nn.functional.normalize(sandbox.encode_image(part), dim=-1) @ direction for part in (on, off)]
    assert match[0].min() > match[1].max()
    features = torch.nn.functional.normalize(sandbox.encode_image(torch.stack([pixels for pixels, _ in items])), dim=-1)
    unit = direction / direction.norm()
    low = (features @ unit).argsort()[:40]
    images = torch.nn.functional.normalize(sandbox.encode_image(on), dim=-1)
    change = features[low] - images[:, None]
    distances = (change - (change @ unit)[..., None] * unit).norm(dim=-1)  # all but along the text
    chosen = [next(k for k, place in enumerate(low) if torch.equal(items[place][0], twin)) for twin in off]
    assert len(set(chosen)) == 6, "no image is the twin of two"
    total = distances[range(6), chosen].sum()
    assert total >= distances.min(1).values.sum() - 1e-4, "nearest each for itself would be a little closer"
    for k in range(6):
        for j in range(k):
            swapped = chosen[:j] + [chosen[k]] + chosen[j + 1 : k] + [chosen[j]] + chosen[k + 1 :]
            assert total <= distances[range(6), swapped].sum() + 1e-4, "no exchange of twins brings pairs closer"
        free = distances[k].clone()
        free[chosen] = torch.inf
        assert distances[k, chosen[k]] <= free.min() + 1e-4, "nor does any image that is left"
    assert torch.equal(draw("a beach", 6, 0)[0], on) and not torch.equal(draw("a beach", 6, 1)[0], on)
    with pytest.raises(ValueError, match="need at least 400 images"):
        draw("a beach", 100)


def test_no_image_of_searched_pairs_is_run_twice(sandbox):
    items = [(pixels, 0) for pixels in torch.cat(science.painted_pairs("a beach", 16))]
    draw = science.retrieved_pairs(sandbox, items, ["a beach", "a dog", "a star"])
    units = [science.head_units(sandbox, [(3, 0), (5, 1)])]
    texts = {text: sandbox.encode_text([text])[0] for text in ("a beach", "a red dog", "two stars")}
    expected = science.measure(units, lambda *asked: draw(*asked), texts, n=8)  # pair by pair
    seen = []
    hook = sandbox.visual.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    found = science.measure(units, draw, texts, n=8)
    hook.remove()
    assert 0 < sum(seen) <= 32 and list(found) == list(texts)
    assert all(torch.allclose(found[text], expected[text], atol=1e-5) for text in texts)
