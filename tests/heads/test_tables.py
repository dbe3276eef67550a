"""Numbers of chapter 2's tables, from cases that can be counted by hand."""

import pytest
import torch

from interp_utils import heads, sandbox, texts


def test_an_ablation_curve_is_the_accuracy_with_terms_at_their_mean():
    generator = torch.Generator().manual_seed(0)
    terms, classifier = torch.randn(40, 5, 6, generator=generator), torch.randn(7, 6, generator=generator)
    labels = (terms.sum(1) @ classifier.T).argmax(1)
    labels[:10] = -1
    found = heads.ablation_curve(terms, labels, classifier, [3, 1], also=[4])
    for gone, accuracy in zip(([4], [4, 3], [4, 3, 1]), found, strict=True):
        plain = terms.clone()
        plain[:, gone] = terms[:, gone].mean(0)
        right = (plain.sum(1) @ classifier.T).argmax(1)[10:] == labels[10:]
        assert accuracy == pytest.approx(100 * right.double().mean().item())
    assert heads.ablation_curve(terms, labels, classifier, [])[0] == 100
    with pytest.raises(ValueError, match="a term must be .*, got 5"):
        heads.ablation_curve(terms, labels, classifier, [5])
    for wrong in (labels[:3], torch.full((40,), -1)):
        with pytest.raises(ValueError, match="need a label for each image, at least one not negative"):
            heads.ablation_curve(terms, wrong, classifier, [1])


def test_names_are_judged_where_a_head_has_a_role():
    shares = torch.tensor([[0.5, 0.1, 0.3, 0.05], [0.1, 0.4, 0.25, 0.3]])  # of two factors, for four heads
    blank = torch.tensor([0.2, 0.35])
    which, has_role = heads.roles(shares, blank)
    assert which.tolist() == [0, 1, 0, 1]
    assert has_role.tolist() == [True, True, False, False], "twice the next, and more than in an untrained copy"
    table = heads.naming_table(["a", "a", "a", "b"], shares, blank, 1, ("a", "b"))
    assert table["late, with a role"] == (1, 0, 0, 100)
    assert table["late, all"] == pytest.approx((3, 200 / 3, 100 * (2 * 1 + 1 * 2) / 9, 200 / 3))
    assert table["earlier, with a role"] == (1, 100, 100, 100)
    assert "earlier, with a role" not in heads.naming_table(["a"] * 4, shares, blank, 0, ("a", "b")), "of none there is no rate"
    with pytest.raises(ValueError, match="need a name for each of 4 heads, got 3"):
        heads.naming_table(["a"] * 3, shares, blank, 1, ("a", "b"))


def test_top_images_are_asked_for_the_fact_of_the_first_text():
    specs = [sandbox.balanced(k, scene=("forest", "city")[k % 2]) for k in range(6)]
    pool = [sandbox.prompts("scene", "forest")[0], sandbox.prompts("scene", "city")[0]]
    outputs = torch.randn(30, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([3.0, 1, 1, 1])
    span = heads.textspan(outputs, torch.eye(4)[:2], pool, 2)
    assert span.texts[0] == pool[0]
    found = heads.top_hits({(0, 0): span}, {(0, 0): torch.tensor([[0, 1], [1, 1], [2, 1]])}, specs)[0, 0]
    assert found == ("scene", [True, False, True], 0.5)


def test_heads_about_a_kind_are_found_in_the_last_layers(tiny):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(8, 3, *tiny.image_size, generator=generator)
    pool = texts.Pool(["a dog", "a cat", "the sea"], ["object", "object", "scene"])
    both = [heads.late_heads_about(tiny, images, pool, [kind], share=0.5, size=2) for kind in ("object", "scene")]
    every = {(layer, head) for layer in range(max(tiny.n_layers - 4, 0), tiny.n_layers) for head in range(tiny.n_heads)}
    assert set(both[0]) | set(both[1]) == every, "one of two kinds explains half"


def test_neighbours_share_what_the_features_are_about():
    specs = [sandbox.balanced(k, scene=sandbox.FACTORS["scene"][k % 3]) for k in range(30)]
    features = torch.eye(3)[torch.arange(30) % 3]
    assert heads.shared_by_neighbours(features, specs, "scene", range(5), k=4) == [1.0] * 5
    seen = [k for k in range(30) if "place" in specs[k].shown]
    assert len(heads.shared_by_neighbours(features, specs, "place", range(30), k=9)) <= len(seen) < 30
