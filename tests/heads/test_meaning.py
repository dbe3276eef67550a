"""What must be true of the shipped sandbox CLIP: names fit the truth, cues can be removed, neighbours share a property."""

from math import comb

import pytest
import torch
from small_clips import noise

import interp_utils as iu
from interp_utils import heads
from interp_utils.moments import Rows
from interp_utils.stream import feed
from interp_utils.texts import load_pool

LATE = [6, 7, 8, 9]
KIND = {"category": "object", "family": "object"}


@pytest.fixture(scope="module")
def pool(sandbox):
    texts, kinds = load_pool("sandbox")
    return texts, [KIND.get(kind, kind) for kind in kinds], sandbox.encode_text(texts)


@pytest.fixture(scope="module")
def spans(sandbox, pool):
    texts, _, features = pool
    moments = heads.head_moments(sandbox, iu.sandbox.spurious_animals("train", 250), LATE)
    return {head: heads.textspan(seen, features, texts) for head, seen in moments.items()}


@pytest.fixture(scope="module")
def animals(sandbox):
    task = iu.datasets.load_groups("sandbox", None, "test", 300)
    return task, sandbox.encode_text(task.classes, task.templates)


def test_removing_scene_heads_takes_the_cue_away(sandbox, spans, pool, animals):
    task, classifier = animals
    chosen = heads.heads_about(spans, pool[1], ["scene"])
    assert chosen == [(6, 0), (7, 1), (8, 0), (9, 5)]
    train = iu.sandbox.spurious_animals("train", 100)
    found = heads.remove_cue(sandbox, task.images, classifier, chosen, 4, means=train, random_heads=4)
    gap = {name: (land - away + sea - ashore) / 2 for name, (land, away, ashore, sea) in ((k, f.groups) for k, f in found.items())}
    assert gap["base"] > 0.1 and abs(gap["heads"]) < 0.06
    assert found["heads"].worst_group > found["base"].worst_group and found["heads"].overall >= found["base"].overall


def test_answers_are_what_accuracy_averages(sandbox, animals):
    task, classifier = animals
    some = torch.utils.data.Subset(task.images, range(24))
    tries = {"nothing": heads.Ablation(), "MLPs": heads.ablate_mlps(sandbox)}
    for mode in ("direct", "forward"):
        means = heads.accuracy_under(sandbox, some, classifier, tries, mode, n_groups=4)
        right, groups = heads.answers_under(sandbox, some, classifier, tries, mode)
        assert groups.tolist() == [task.images[k][1][1] for k in range(24)]
        for name, found in means.items():
            assert right[name].dtype == torch.bool and right[name].double().mean().item() == pytest.approx(found.overall)
            assert [right[name][groups == g].double().mean().item() for g in range(4)] == pytest.approx(found.groups)
    plain = heads.answers_under(sandbox, [(pixels, label) for pixels, (label, _) in (some[k] for k in range(8))], classifier, tries)
    assert plain.groups.tolist() == [0] * 8 and plain.right["MLPs"].shape == (8,)


def test_random_heads_are_late_and_distinct(sandbox):
    drawn = heads.draw_heads(sandbox, 5, 30, seed=1)
    assert len(drawn) == 30 and all(len(set(each)) == 5 for each in drawn)
    assert {layer for each in drawn for layer, _ in each} == set(LATE) and drawn == heads.draw_heads(sandbox, 5, 30, seed=1)


def test_no_head_and_too_few_heads(sandbox, spans, pool, animals):
    task, classifier = animals
    assert heads.heads_about(spans, pool[1], ["moods"]) == []
    with pytest.raises(ValueError, match="no head to ablate"):
        heads.remove_cue(sandbox, task.images, classifier, [], 4)
    with pytest.raises(ValueError, match="cannot draw 40 random heads from the 24"):
        heads.remove_cue(sandbox, task.images, classifier, [(7, 0)], 4, random_heads=40)


def test_authors_heads_exist_in_their_models():
    import open_clip

    for name, chosen in heads.AUTHOR_HEADS.items():
        config = open_clip.get_model_config(name.split("/")[0])["vision_cfg"]
        n_heads = config["width"] // config.get("head_width", 64)
        assert len(set(chosen)) == len(chosen)
        assert all(config["layers"] - 4 <= layer < config["layers"] and 0 <= head < n_heads for layer, head in chosen)


def test_our_choice_of_heads_beside_the_authors():
    from types import SimpleNamespace

    clip = SimpleNamespace(name="ViT-B-16/laion2b_s34b_b88k", n_layers=12, n_heads=12)
    theirs = heads.AUTHOR_HEADS[clip.name]
    same = heads.compare_with_author(clip, theirs)
    assert set(same.both) == set(theirs) and same.only_ours == same.only_authors == []
    assert same.expected == pytest.approx(7 * 7 / 48) and same.p == pytest.approx(1 / comb(48, 7))
    some = heads.compare_with_author(clip, [(11, 3), (10, 10), (8, 0)])
    assert some.both == [(10, 10), (11, 3)] and some.only_ours == [(8, 0)] and len(some.only_authors) == 5
    assert some.p == pytest.approx((comb(7, 2) * 41 + comb(7, 3)) / comb(48, 3))
    assert heads.compare_with_author(clip, []).p == 1
    with pytest.raises(ValueError, match=r"not heads of the last 4 layers.*\(2, 0\)"):
        heads.compare_with_author(clip, [(2, 0)])
    with pytest.raises(ValueError, match="the author chose no heads of sandbox; of these: ViT-B-16"):
        heads.compare_with_author(SimpleNamespace(name="sandbox", n_layers=8, n_heads=4), [])


def test_names_fit_the_truth_beyond_chance(sandbox, spans, pool):
    shares = heads.factor_shares(sandbox, 300, layers=LATE)
    common = sum(share for factor, share in shares.items() if factor not in ("place", "size", "colour"))  # of all images
    assert (common < 1.05).all() and (common > 0.3).all()
    named = [next(iter(heads.kind_shares(span, pool[1]))) for span in spans.values()]
    true = [max(shares, key=lambda factor: shares[factor][layer - 6, head]) for layer, head in spans]
    agree, chance = heads.agreement(named, true)
    assert agree > 0.75 and agree > chance + 0.15


def test_agreement_and_chance():
    assert heads.agreement(["a", "a", "b", "b"], ["a", "a", "b", "c"]) == (0.75, 0.375)
    with pytest.raises(ValueError, match="at least one"):
        heads.agreement([], [])


def test_factor_shares_are_the_analysis_of_variance(sandbox):
    shares = heads.factor_shares(sandbox, 120, layers=[7], batch_size=64)
    specs = [iu.sandbox.balanced(10**9 + k) for k in range(120)]
    images = iu.sandbox.SandboxImages(specs, lambda image: 0)
    rows = Rows()
    feed(sandbox, images, [(rows, lambda batch: (batch.heads[:, 7, 3], batch.numbers))])
    written = rows.rows.double()
    groups = [[k for k, spec in enumerate(specs) if spec.scene == scene] for scene in iu.sandbox.FACTORS["scene"]]
    within = sum((written[group] - written[group].mean(0)).square().sum() for group in groups)
    whole = (written - written.mean(0)).square().sum()
    expected = 1 - within / (120 - 10) / (whole / 119)  # epsilon squared
    assert shares["scene"][0, 3].item() == pytest.approx(expected.item(), abs=1e-4)


def test_neighbours_share_what_the_head_is_about(sandbox):
    images = iu.sandbox.factor_images("object", 250)
    features = heads.head_features(sandbox, images, [(7, 1)])
    by_head, by_whole = [], []
    for query in range(40):
        for found, key in ((by_head, (7, 1)), (by_whole, None)):
            near = torch.nn.functional.normalize(features[key], dim=1)
            numbers = heads.neighbours(near, query, 8)
            assert query not in numbers and len(numbers) == 8
            found.append(heads.shared_factors(images.specs, query, numbers)["scene"])
    assert torch.tensor(by_head).mean() > torch.tensor(by_whole).mean() + 0.2
    assert heads.neighbours(features[None][:3], 0, 8) in ([1, 2], [2, 1])
    with pytest.raises(IndexError, match="no image 250"):
        heads.neighbours(features[None], 250)


def test_factors_that_an_image_does_not_show_are_not_shared():
    spec = iu.sandbox.Spec
    specs = [spec(), spec(colour="blue"), spec(style="sepia"), spec(count=3), spec(others=(("ship", "red"),))]
    shared = heads.shared_factors(specs, 0, [1, 2, 3, 4])
    assert shared["colour"] == 1 / 2, "blue and, of the three, red; sepia and a second kind of object hide it"
    assert shared["place"] == 1 and shared["object"] == 1 and shared["scene"] == 1 and shared["count"] == 2 / 3
    assert heads.shared_factors(specs, 2, [0, 1])["colour"] != heads.shared_factors(specs, 2, [0, 1])["colour"], "nan"


def test_maps_by_hand(tiny):
    pixels, texts = noise(tiny, 3), torch.randn(6, 24, generator=torch.Generator().manual_seed(2))
    fx = iu.heads.direct_effects(tiny, pixels)
    tokens = sum(fx.head_tokens(layer, head) for layer in range(2) for head in range(4))[:, 1:]
    maps = heads.token_maps(fx, texts)
    torch.testing.assert_close(maps, (tokens @ texts.T).mT.unflatten(-1, tiny.grid), atol=1e-5, rtol=1e-4)
    relative = heads.relative_maps(fx, texts[0], texts[1])
    torch.testing.assert_close(relative, maps[:, 0] - maps[:, 1], atol=1e-5, rtol=1e-4)

    span = heads.textspan(fx.heads()[:, 1, 2], texts, list("abcdef"), 2)
    most, least, maps = heads.basis_maps(fx, 1, 2, span, texts, texts[3:])
    scores = fx.heads()[:, 1, 2] @ texts[span.indices].T
    for k in range(3):
        assert most[k] == span.indices[scores[k].argmax()] and least[k] == span.indices[scores[k].argmin()]
        expected = fx.head_tokens(1, 2)[k, 1:] @ (texts[most[k]] - texts[3:].mean(0))
        torch.testing.assert_close(maps[k, 0].flatten(), expected, atol=1e-5, rtol=1e-4)


def test_maps_find_the_object(sandbox):
    images = iu.sandbox.segmentation_images(60)
    pixels, masks = (torch.stack(each) for each in zip(*(images[k] for k in range(60))))
    masks = masks.float().unflatten(1, (8, 8)).unflatten(3, (8, 8)).mean((2, 4))
    classifier = iu.sandbox.zero_shot_classifier(sandbox, "object")
    kinds = [iu.sandbox.FACTORS["object"].index(spec.object) for spec in images.specs]
    maps = heads.token_maps(iu.heads.direct_effects(sandbox, pixels), classifier - classifier.mean(0))
    own = maps[torch.arange(60), kinds]
    on, off = (own * masks).sum() / masks.sum(), (own * (1 - masks)).sum() / (1 - masks).sum()
    assert on > 0 and on > 2 * off
