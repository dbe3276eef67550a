import pytest
import torch
import torch.nn.functional as F
from small_clips import count_hooks, noise, tiny_model
from torch.utils.data import DataLoader, TensorDataset

import interp_utils as iu
from interp_utils.neurons import KINDS, ablation, ablation_curves, fit, second_order, sparse_texts, text_ablation

CONVENTIONS = [("centered", False), ("centered", True), ("split", False), ("split", True)]


@pytest.fixture(scope="module")
def clip():
    """A model whose neurons write so much that ablations change its predictions."""
    model = tiny_model(layers=3).double()
    for block in model.visual.transformer.resblocks[:2]:
        block.mlp.c_proj.weight.mul_(6)
    return iu.Clip(model)


@pytest.fixture(scope="module")
def classifier(clip):
    """What is special of five images, so that all classes are predicted."""
    whole = clip.encode_image(noise(clip, 24, seed=2).double())
    common = F.normalize(whole.mean(0), dim=0)
    return F.normalize(whole - torch.outer(whole @ common, common), dim=1)[:5]


@pytest.fixture(scope="module")
def images(clip, classifier):
    """Two thirds of the labels are those that the model predicts."""
    pixels = noise(clip, 24, seed=2).double()
    guesses = (clip.encode_image(pixels) @ classifier.T).argmax(1)
    return TensorDataset(pixels, (guesses + (torch.arange(24) % 3 == 2)) % 5)


def fitted(clip, layers=(0, 1), ln="centered", relative=True):
    """Fitted on other images than those that are classified, so that "large" is no definition."""
    orders = [second_order(clip, layer, ln, relative) for layer in layers]
    fit(orders, TensorDataset(noise(clip, 31).double()), top=5)
    return orders


def score(representation, classifier, label):
    """Right, and by how much, for one image."""
    scores = (classifier @ representation).tolist()
    margin = scores[label] - max(s for k, s in enumerate(scores) if k != label)
    return torch.tensor([float(margin > 0), margin])


@torch.no_grad()
def plain_curves(clip, orders, images, classifier):
    """Image by image, from all effects: what each ablation makes of the representation."""
    rows, shares = [], []
    for pixels, label in images:
        whole = clip.encode_image(pixels[None])[0]
        whole = whole / whole.norm() if orders[0].relative else whole
        row, changes, large = [score(whole, classifier, label)], [], []
        for order in orders:
            effects, mean, r = order.effects(pixels[None])[0], order.mean, order.directions
            far = (effects - mean).norm(dim=1) > order.thresholds
            ablated = [mean, torch.where(far[:, None], effects, mean), torch.where(far[:, None], mean, effects)]
            ablated.append(mean + ((effects - mean) * r).sum(1, keepdim=True) * r)
            changes.append(torch.stack([(new - effects).sum(0) for new in ablated]))
            large.append(far.double().mean())
        for change in [*changes, sum(changes)]:
            row += [score(whole + step, classifier, label) for step in change]
        rows.append(torch.stack(row))
        shares.append(torch.stack(large))
    return torch.stack(rows).mean(0), torch.stack(shares).mean(0).tolist()


@pytest.mark.parametrize("ln,relative", CONVENTIONS)
def test_curves_equal_a_plain_computation(clip, images, classifier, ln, relative):
    orders = fitted(clip, (1, 0), ln, relative)
    curves = ablation_curves(orders, images, classifier, batch_size=9)
    expected, significant = plain_curves(clip, orders, images, classifier)
    assert KINDS == ("all", "small norm", "large norm", "first direction") and curves.layers == [1, 0]
    assert curves.baseline == pytest.approx(expected[0].tolist())
    for k, kind in enumerate(KINDS):
        for what, found in enumerate((curves.accuracy, curves.margin)):
            assert found[kind] == pytest.approx(expected[[1 + k, 5 + k], what].tolist(), abs=1e-6)
        assert curves.together[kind] == pytest.approx(expected[9 + k].tolist(), abs=1e-6)
    for kind in KINDS:
        lost = [curves.lost(kind, layer)[0] for layer in (1, 0)] + [curves.lost(kind)[0]]
        kept = [*curves.accuracy[kind], curves.together[kind][0]]
        assert lost == pytest.approx([curves.baseline[0] - accuracy for accuracy in kept], abs=1e-9)
    assert curves.significant == pytest.approx(significant) and 0 < min(significant) and max(significant) < 0.6
    assert count_hooks(clip.model) == 0


def test_ablations_matter_here(clip, images, classifier):
    """The four curves and the layers differ on the tiny model, so the test above tells them apart."""
    curves = ablation_curves(fitted(clip), images, classifier)
    assert len({share for kind in KINDS for share in curves.accuracy[kind]}) > 3 and 0.1 < curves.baseline[0] < 0.9
    margins = [margin for kind in KINDS for margin in curves.margin[kind]] + [curves.baseline[1]]
    assert len({round(margin, 6) for margin in margins}) == 9
    changed = curves.right[:, :1] != curves.right
    assert changed.any() and all(
        curves.lost(kind, layer)[1]
        == pytest.approx(1.96 * (curves.right[:, 0].double() - curves.right[:, column].double()).std() / 24**0.5)
        for column, (layer, kind) in enumerate([(layer, kind) for layer in (0, 1) for kind in KINDS], start=1)
    )
    loss = {kind: abs(curves.margin[kind][0] - curves.baseline[1]) for kind in KINDS}
    assert loss["first direction"] < loss["all"]


def test_one_pass_answers_several_questions(clip, images, classifier):
    orders, turned = fitted(clip), classifier.flip(0)
    items = [(pixels, {"as it is": label, "turned": (label + 1) % len(classifier)}) for pixels, label in images]
    both = ablation_curves(orders, items, {"as it is": classifier, "turned": turned}, batch_size=7)
    relabelled = [(pixels, targets["turned"]) for pixels, targets in items]
    alone = {"as it is": ablation_curves(orders, images, classifier), "turned": ablation_curves(orders, relabelled, turned)}
    assert both.keys() == alone.keys() and both["as it is"].margin["all"] != both["turned"].margin["all"]
    for name, curves in alone.items():
        assert torch.equal(both[name].right, curves.right) and both[name].significant == pytest.approx(curves.significant)
        for kind in KINDS:
            assert both[name].margin[kind] == pytest.approx(curves.margin[kind], abs=1e-6)
            assert both[name].together[kind] == pytest.approx(curves.together[kind], abs=1e-6)
    same = ablation_curves(orders, images, {"as it is": classifier, "again": classifier})
    assert torch.equal(same["again"].right, alone["as it is"].right), "one label serves all questions"


def test_a_loader_gives_the_same(clip, images, classifier):
    orders = fitted(clip)
    once = ablation_curves(orders, images, classifier)
    assert ablation_curves(orders, DataLoader(images, batch_size=7), classifier).margin["all"] == pytest.approx(once.margin["all"])
    alone = ablation_curves(orders[:1], images, classifier)
    assert all(alone.margin[kind][0] == pytest.approx(once.margin[kind][0]) for kind in KINDS)
    assert all(alone.together[kind] == pytest.approx((alone.accuracy[kind][0], alone.margin[kind][0])) for kind in KINDS)


@torch.no_grad()
def plain_text(clip, order, images, classifier, rebuilt, coefficient):
    """Accuracy and margin with each effect replaced by b + x r', and the mean length of x r'."""
    scores, length = [], []
    for pixels, label in images:
        whole = clip.encode_image(pixels[None])[0]
        unit = whole.norm() if order.relative else 1
        effects = order.effects(pixels[None])[0]
        centred = effects - order.mean
        x = {
            "direction": (centred * order.directions).sum(1),
            "published": (centred * rebuilt).sum(1),
            "projection": (centred * rebuilt).sum(1) / rebuilt.square().sum(1),
        }[coefficient]
        length.append((x[:, None] * rebuilt).norm(dim=1).mean().item())
        scores.append(score(whole / unit + (order.mean + x[:, None] * rebuilt - effects).sum(0), classifier, label))
    return *torch.stack(scores).mean(0).tolist(), sum(length) / len(length)


def pools(order, sizes=(20, 60)):
    generator = torch.Generator().manual_seed(4)
    found = {}
    for n in sizes:
        texts = F.normalize(torch.randn(n, order.clip.d_embed, dtype=torch.double, generator=generator), dim=1)
        found[f"{n} texts"] = sparse_texts(order.directions, texts, [str(k) for k in range(n)], size=min(n, 24))
    return found


@pytest.mark.parametrize("ln,relative", [("centered", True), ("split", False)])
@pytest.mark.parametrize("coefficient", ["direction", "published", "projection"])
def test_text_ablation_equals_a_plain_computation(clip, images, classifier, ln, relative, coefficient):
    order = fitted(clip, (0,), ln, relative)[0]
    texts = pools(order)
    found = text_ablation(order, images, classifier, texts, [1, 3, 20], coefficient, batch_size=11)
    assert list(found) == ["20 texts", "60 texts"]
    for name, pool in texts.items():
        expected = [plain_text(clip, order, images, classifier, pool.reconstruct(n), coefficient) for n in (1, 3, 20)]
        assert found[name]["accuracy"] == pytest.approx([accuracy for accuracy, _, _ in expected])
        assert found[name]["margin"] == pytest.approx([margin for _, margin, _ in expected], abs=1e-6)


def test_with_all_texts_the_first_direction_is_back(clip, images, classifier):
    for ln in ("centered", "split"):
        order = fitted(clip, (0,), ln)[0]
        whole = ablation_curves([order], images, classifier).together["first direction"]
        texts = {"60 texts": pools(order)["60 texts"]}
        torch.testing.assert_close(texts["60 texts"].reconstruct(24), order.directions)
        for coefficient in ablation.COEFFICIENTS:
            found = text_ablation(order, images, classifier, texts, [24], coefficient)["60 texts"]
            assert (found["accuracy"][0], found["margin"][0]) == pytest.approx(whole)


def test_the_published_coefficient_shrinks_while_texts_are_few(clip, images, classifier, monkeypatch):
    """With r' = c r the effect along r comes out c^2 times as long, and c times with the coefficient of the thesis's text."""
    order, seen = fitted(clip, (0,))[0], []

    class Shorter:
        def reconstruct(self, size):
            return order.directions / size

    def keep(representation, batch, _):
        seen.append(representation)
        return torch.zeros(len(representation), 2)

    monkeypatch.setattr(ablation, "_right_and_margin", keep)
    for coefficient in ("direction", "published", "projection"):
        text_ablation(order, images, classifier, {"shorter": Shorter()}, [1, 2, 10**9], coefficient, batch_size=24)
    direction, published, projection = (torch.stack(seen[k : k + 3]) for k in (0, 3, 6))
    nothing = direction[2]  # a direction of almost no length leaves the mean effects
    torch.testing.assert_close(projection[:2], torch.stack([direction[0]] * 2))
    torch.testing.assert_close(direction[1] - nothing, (direction[0] - nothing) / 2, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(published[1] - nothing, (direction[0] - nothing) / 4, rtol=1e-4, atol=1e-6)
    lengths = [
        [plain_text(clip, order, images, classifier, pools(order, (60,))["60 texts"].reconstruct(n), kind)[2] for n in (1, 4, 24)]
        for kind in ("published", "projection")
    ]
    assert lengths[0][0] < 0.8 * lengths[1][0] and lengths[0][0] < lengths[0][1] < lengths[0][2]
    assert lengths[0][2] == pytest.approx(lengths[1][2])


def test_bad_input(clip, images, classifier):
    order = fitted(clip, (0,))[0]
    with pytest.raises(ValueError, match="label 4, but the classifier has 3"):
        ablation_curves([order], images, classifier[:3])
    with pytest.raises(ValueError, match="label 4, but the classifier has 3"):
        text_ablation(order, images, classifier[:3], pools(order), [1])
    with pytest.raises(ValueError, match="of one model, with the same ln and relative"):
        ablation_curves([order, *fitted(clip, (1,), relative=False)], images, classifier)
    unlabelled = TensorDataset(images.tensors[0], torch.full((24,), -1))
    with pytest.raises(ValueError, match="label -1, .* have no labels"):
        ablation_curves([order], unlabelled, classifier)
    with pytest.raises(ValueError, match="one of direction, published, projection, got 'norm'"):
        text_ablation(order, images, classifier, pools(order), [1], "norm")
    with pytest.raises(ValueError, match="size must be between 1 and 20, got 21"):
        text_ablation(order, images, classifier, pools(order, (20,)), [21])
    for use in (lambda o: ablation_curves([o], images, classifier), lambda o: text_ablation(o, images, classifier, {}, [])):
        with pytest.raises(RuntimeError, match="call fit"):
            use(second_order(clip, 0))


def test_with_a_memory_what_comes_back_to_the_same_images_runs_no_model(clip, classifier, images, monkeypatch):
    (order,), kept, passes, encode = fitted(clip, (1,)), iu.stream.memory(images), [], clip.encode_image
    texts = {"own": sparse_texts(order.directions, torch.eye(24, dtype=torch.float64), [str(k) for k in range(24)], 3)}
    alone = ablation_curves([order], images, classifier), text_ablation(order, images, classifier, texts, [2])
    monkeypatch.setattr(clip, "encode_image", lambda pixels: passes.append(len(pixels)) or encode(pixels))
    curves = ablation_curves([order], images, classifier, kept=kept)
    assert passes == [24]
    assert text_ablation(order, images, classifier, texts, [2], kept=kept) == alone[1] and passes == [24]
    assert curves.margin == alone[0].margin
    more = TensorDataset(torch.cat([images.tensors[0], noise(clip, 8, seed=3).double()]), torch.zeros(32, dtype=torch.long))
    ablation_curves([order], more, classifier, kept=kept, batch_size=24)
    assert passes == [24, 8] and kept["images"] == 32, "a set that begins with the same images runs the rest"
