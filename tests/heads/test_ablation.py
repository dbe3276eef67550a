import pytest
import torch
from small_clips import count_hooks, noise, tiny_model
from torch.nn.functional import normalize

import interp_utils as iu
from interp_utils.heads import Ablation, ablate_attention, ablate_class_token, ablate_heads, ablate_mlps, accuracy_under
from interp_utils.heads.ablation import _direct, _forward, _OutputMeans, _written
from interp_utils.hooks import forward_hooks, visit_attention_inputs
from interp_utils.stream import Batch, feed


@pytest.fixture(params=[{}, {"ls_init_value": 0.5}], ids=["plain", "layer scale"])
def clip(request):
    return iu.Clip(tiny_model(**request.param))


def everything(clip):
    return {
        "nothing": Ablation(),
        "heads": ablate_heads([(0, 1), (1, 2), (1, 3)]),
        "layer": ablate_attention(clip, [1]),
        "mlps": ablate_mlps(clip),
        "class token": ablate_class_token(clip),
        "mix": ablate_heads([(0, 0)]) | Ablation(mlps=frozenset([1]), class_token=frozenset([1])),
    }


def ablated(clip, images, ablation, prepare, means=None):
    pixels = torch.stack(images)
    first, scores = prepare(clip, [ablation], means == "zero")
    if first:
        feed(clip, images, first, ln="centered")
    return scores(Batch(clip, pixels, None, torch.arange(len(pixels)), "centered"))[0]


@pytest.mark.parametrize("prepare", [_direct, _forward])
@pytest.mark.parametrize("name", ["nothing", "heads", "layer", "mlps", "class token", "mix"])
def test_the_mean_of_one_image_changes_nothing(clip, prepare, name):
    image = list(noise(clip, 1))
    same = ablated(clip, image, everything(clip)[name], prepare)
    torch.testing.assert_close(same, normalize(clip.encode_image(image[0][None]), dim=-1), atol=2e-5, rtol=1e-4)


def test_direct_equals_replaced_terms(clip):
    images = list(noise(clip, 5))
    fx = iu.heads.direct_effects(clip, torch.stack(images))
    layers, length = fx.layers(), fx.total().norm(dim=1)
    layers = layers / length[:, None, None]
    for marked, ablation in (([3], ablate_attention(clip, [1])), ([0, 2, 4], ablate_mlps(clip))):
        expected = layers.clone()
        expected[:, marked] = layers[:, marked].mean(0)
        torch.testing.assert_close(ablated(clip, images, ablation, _direct), expected.sum(1), atol=1e-5, rtol=1e-4)
    zeroed = ablated(clip, images, ablate_attention(clip, [1]), _direct, means="zero")
    torch.testing.assert_close(zeroed, layers.sum(1) - layers[:, 3], atol=1e-5, rtol=1e-4)
    own = sum(fx.head_tokens(layer, head)[:, 0] for layer in range(2) for head in range(4)) / length[:, None]
    expected = layers.sum(1) - own + own.mean(0)
    torch.testing.assert_close(ablated(clip, images, ablate_class_token(clip), _direct), expected, atol=1e-5, rtol=1e-4)


def test_forward_equals_a_model_run_by_hand(clip):
    images, blocks = torch.stack(list(noise(clip, 5))), clip.visual.transformer.resblocks

    def by_hand(pixels, edit):
        x = clip.visual._embeds(pixels)
        for layer, block in enumerate(blocks):
            attention = block.ls_1(block.attention(block.ln_1(x)))
            x = x + edit(("attention", layer), attention)
            mlp = block.ls_2(block.mlp(block.ln_2(x)))
            x = x + edit(("mlp", layer), mlp)
        return normalize(clip.visual.ln_post(x[:, 0]) @ clip.visual.proj, dim=-1)

    with torch.no_grad():
        outputs = {}
        by_hand(images, lambda key, out: outputs.setdefault(key, out))

        def replaced(keys):
            return by_hand(images, lambda key, out: outputs[key].mean(0).expand_as(out) if key in keys else out)

        found = ablated(clip, list(images), ablate_attention(clip, [0]), _forward)
        torch.testing.assert_close(found, replaced([("attention", 0)]), atol=2e-5, rtol=1e-4)
        found = ablated(clip, list(images), ablate_mlps(clip), _forward)
        torch.testing.assert_close(found, replaced([("mlp", 0), ("mlp", 1)]), atol=2e-5, rtol=1e-4)
        heads = ablate_heads([(1, 0), (1, 1)]) | ablate_heads([(1, 2), (1, 3)])
        assert heads == ablate_attention(clip, [1])
        found = ablated(clip, list(images), ablate_heads([(0, 1)]), _forward, means="zero")
        w_o = blocks[0].attn.out_proj.weight.clone()
        try:  # a head writes nothing when its columns of W_O are zero; its share of the bias goes by hand
            blocks[0].attn.out_proj.weight[:, 8:16] = 0
            blocks[0].attn.out_proj.bias.mul_(3 / 4)
            expected = normalize(clip.encode_image(images), dim=-1)
        finally:
            blocks[0].attn.out_proj.weight.copy_(w_o)
            blocks[0].attn.out_proj.bias.mul_(4 / 3)
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


def test_layers_before_the_first_ablated_one_run_once(tiny):
    """Once for the means and once for all ablations together, however many they are."""
    runs, (first, last) = [0, 0], tiny.visual.transformer.resblocks

    def count(place):
        def hook(*args):
            runs[place] += 1

        return hook

    data, ablations = [(image, 0) for image in noise(tiny, 3)], {head: ablate_heads([(1, head)]) for head in range(4)}
    with forward_hooks([(first, count(0)), (last, count(1))]):
        accuracy_under(tiny, data, torch.eye(24)[:2], ablations, mode="forward")
    assert runs == [2, 1 + len(ablations)]


@pytest.mark.parametrize("mode", ["direct", "forward"])
def test_accuracy_counts_what_the_ablated_model_says(clip, mode):
    generator = torch.Generator().manual_seed(0)
    classifier = torch.randn(3, clip.d_embed, generator=generator)
    data = [(image, (k % 3, k % 2)) for k, image in enumerate(noise(clip, 9))]
    found = accuracy_under(clip, data, classifier, everything(clip), mode=mode, n_groups=2, batch_size=4)
    pixels = [image for image, _ in data]
    prepare = _direct if mode == "direct" else _forward
    for name, ablation in everything(clip).items():
        right = (ablated(clip, pixels, ablation, prepare) @ classifier.T).argmax(1) == torch.arange(9) % 3
        assert found[name].overall == pytest.approx(right.float().mean().item())
        assert found[name].groups == pytest.approx([right[::2].float().mean().item(), right[1::2].float().mean().item()])
        assert found[name].worst_group == min(found[name].groups)
    assert count_hooks(clip.model) == 0


@pytest.mark.parametrize("mode", ["direct", "forward"])
def test_numbers_choose_among_the_images_and_not_among_other_means(clip, mode):
    classifier = torch.randn(5, clip.d_embed, generator=torch.Generator().manual_seed(0))
    data = [(image, k % 5) for k, image in enumerate(noise(clip, 30))]
    others = [(image, 0) for image in 3 * noise(clip, 8, seed=1)]
    numbers = list(range(9, 29))  # most of which `others` does not have
    found = accuracy_under(clip, data, classifier, everything(clip), mode, others, numbers=numbers, batch_size=7)
    chosen = [data[k] for k in numbers]
    assert found == accuracy_under(clip, chosen, classifier, everything(clip), mode, others)
    for means in (None, data):
        own = accuracy_under(clip, data, classifier, everything(clip), mode, means, numbers=numbers)
        assert own == accuracy_under(clip, chosen, classifier, everything(clip), mode)


def test_a_run_with_a_file_keeps_nothing_else_of_a_pass(tiny, tmp_path, monkeypatch):
    images, passes, encode = [(pixels, 0) for pixels in noise(tiny, 5)], [], tiny.encode_image
    classifier = normalize(torch.randn(3, tiny.d_embed, generator=torch.Generator().manual_seed(0)), dim=1)
    monkeypatch.setattr(tiny, "encode_image", lambda pixels: passes.append(len(pixels)) or encode(pixels))
    found = []
    for path, runs in ((None, 1), (tmp_path / "run.safetensors", 2)):
        found.append(accuracy_under(tiny, images, classifier, {"MLPs": ablate_mlps(tiny)}, save_to=path)["MLPs"])
        assert passes == [5] * runs, "without one a small set runs the model once"
        passes.clear()
    assert found[0].overall == found[1].overall


def test_bad_input(tiny):
    data, classifier = [(image, 0) for image in noise(tiny, 2)], torch.eye(24)[:2]
    for ablation, message in (
        (ablate_heads([(0, 4)]), "no head L0H4"),
        (Ablation(mlps=frozenset([2])), "no layer 2"),
        (ablate_heads([(1, 0)]) | ablate_class_token(tiny), "overlap"),
    ):
        with pytest.raises(ValueError, match=message):
            accuracy_under(tiny, data, classifier, {"bad": ablation})
    with pytest.raises(ValueError, match="mode must be"):
        accuracy_under(tiny, data, classifier, {"base": Ablation()}, mode="both")
    with pytest.raises(ValueError, match="label 7"):
        accuracy_under(tiny, [(data[0][0], 7)], classifier, {"base": Ablation()})
    with pytest.raises(ValueError, match="label -1.*no labels"):
        accuracy_under(tiny, [(data[0][0], -1)], classifier, {"base": Ablation()})
    with pytest.raises(ValueError, match="cannot zero the embedding"):
        accuracy_under(tiny, data, classifier, {"m": ablate_mlps(tiny)}, mode="forward", means="zero")
    assert count_hooks(tiny.model) == 0


def test_what_the_class_token_adds_is_its_direct_effect(clip):
    """Bias share included, which only zeroing shows: a mean takes it back out."""
    pixels, seen = noise(clip, 3), {}
    visit_attention_inputs(clip, pixels, lambda layer, x: seen.update({layer: x}))
    fx = iu.heads.direct_effects(clip, pixels)
    for layer in range(2):
        written = _written(clip, layer, seen[layer], seen[layer], (), own=True)
        assert (written[:, 1:] == 0).all()
        torch.testing.assert_close(fx._joint(written[:, 0]), fx.class_token()[:, layer], atol=1e-5, rtol=1e-4)


def test_a_memory_holds_the_images_that_are_averaged_and_no_others(tiny, monkeypatch):
    images, means = ([(pixels, 0) for pixels in noise(tiny, 5, seed)] for seed in (0, 1))
    passes, encode, kept = [], tiny.encode_image, iu.stream.memory(means)
    monkeypatch.setattr(tiny, "encode_image", lambda pixels: passes.append(len(pixels)) or encode(pixels))
    tries, text = {"heads": ablate_heads([(0, 1)])}, torch.eye(24)[:3]
    expected = iu.heads.answers_under(tiny, images, text, tries, means=means)
    pool = iu.texts.Pool(["a", "b"], ["scene", "light"])
    monkeypatch.setattr(tiny, "encode_text", lambda texts: torch.eye(24)[: len(texts)])
    for runs in (1, 0):
        passes.clear()
        iu.heads.late_heads_about(tiny, means, pool, ["scene"], kept=kept, size=2)
        assert passes == [5] * runs
        found = iu.heads.answers_under(tiny, images, text, tries, means=means, kept=kept)
        assert passes == [5] * (runs + 1), "the images that are classified"
        assert torch.equal(found.right["heads"], expected.right["heads"])


def test_output_means_add_up_over_shards(tiny):
    images, ablations = noise(tiny, 6), list(everything(tiny).values())
    once, first, second = (_OutputMeans(tiny, ablations) for _ in range(3))
    once.update(images)
    first.update(images[4:])
    second.update(images[:4])
    first.merge(second)
    assert first.members.keys() == once.members.keys() and len(once.members) > 0
    for key, whole in once.members.items():
        torch.testing.assert_close(first.members[key].mean, whole.mean, atol=1e-6, rtol=1e-5)
