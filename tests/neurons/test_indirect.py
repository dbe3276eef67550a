import pytest
import torch
from small_clips import count_hooks, noise, real_clip, tiny_model
from torch.utils.data import TensorDataset

import interp_utils as iu
from interp_utils.fingerprints import fingerprint
from interp_utils.heads import direct_effects
from interp_utils.hooks import edited_neurons, final_norm, neuron_weights, run_from, stream_after
from interp_utils.neurons import encode_without, first_order, fit_indirect, indirect_ablation, indirect_effects, token_means


@pytest.fixture(scope="module")
def clip():
    return iu.Clip(tiny_model(layers=3).double())


@pytest.fixture(scope="module")
def images(clip):
    return TensorDataset(noise(clip, 13).double(), torch.arange(13) % 5)


def activations(clip, pixels, layer):
    return stream_after(clip, pixels, layer)[0]


def by_running_it(clip, pixels, layer, means, neurons):
    """M(I) less M(I) of the whole model with one neuron replaced, [B, n, E]."""
    effects = []
    for neuron in neurons:

        def edit(p, neuron=neuron):
            p = p.clone()
            p[..., neuron] = means[:, neuron]
            return p

        with torch.no_grad(), edited_neurons(clip, layer, edit):
            effects.append(clip.encode_image(pixels))
    return clip.encode_image(pixels)[:, None] - torch.stack(effects, 1)


@pytest.mark.parametrize("tower", [{}, {"ls_init_value": 0.5}, {"no_ln_pre": True}])
def test_first_order_effects_sum_to_the_direct_effect_of_the_mlp(tower):
    clip = iu.Clip(tiny_model(layers=3, **tower).double())
    pixels = noise(clip, 3).double()
    fx, norm = direct_effects(clip, pixels), final_norm(clip)
    for layer in range(3):
        parts = first_order(clip, pixels, layer)
        std = fx.stream.final.std(-1, correction=0, keepdim=True)  # with eps it is a little more
        std = (std.square() + norm.eps).sqrt()
        bias = neuron_weights(clip, layer).b_out
        bias = norm.gamma * (bias - bias.mean()) / std @ norm.proj
        torch.testing.assert_close(parts.sum(1), fx.mlps()[:, layer] - bias)
        activation = activations(clip, pixels, layer)[:, 0, 5, None]
        written = neuron_weights(clip, layer).w_out[5]
        by_hand = activation * norm.gamma * (written - written.mean()) / std @ norm.proj
        torch.testing.assert_close(parts[:, 5], by_hand)


def test_token_means(clip, images):
    for layer in range(3):
        expected = activations(clip, images.tensors[0], layer).mean(0)
        torch.testing.assert_close(token_means(clip, images, layer, batch_size=5), expected)
        assert expected.shape == (17, clip.d_mlp)
    together = token_means(clip, images, {2, 0}, batch_size=5)
    assert list(together) == [0, 2] and torch.equal(together[0], token_means(clip, images, 0, batch_size=5))


@pytest.mark.parametrize("tower", [{}, {"ls_init_value": 0.5}])
def test_indirect_effects_equal_running_the_whole_model(tower):
    clip = iu.Clip(tiny_model(layers=3, **tower).double())
    pixels, neurons = noise(clip, 2).double(), [0, 127, 40, 41, 3]
    for layer in range(3):
        means = token_means(clip, list(noise(clip, 6, seed=1).double()), layer)
        expected = by_running_it(clip, pixels, layer, means, neurons)
        for chunk in (2, 16):
            torch.testing.assert_close(indirect_effects(clip, pixels, layer, means, neurons, chunk), expected)
            assert expected.norm(dim=-1).min() > 1e-8, "these neurons do something"
    assert count_hooks(clip.model) == 0


def test_a_neuron_at_its_mean_has_no_effect(clip, images):
    one = images.tensors[0][:1]
    for layer in range(3):
        means = token_means(clip, list(one), layer)
        assert indirect_effects(clip, one, layer, means, [0, 9, 99]).abs().max() < 1e-12
        torch.testing.assert_close(encode_without(clip, one, layer, means), clip.encode_image(one))
    still = iu.Clip(tiny_model(layers=3).double())
    still.visual.transformer.resblocks[1].mlp.c_proj.weight[:, 9] = 0
    effects = indirect_effects(still, one, 1, torch.zeros(17, still.d_mlp).double(), [8, 9])
    assert effects[:, 1].abs().max() < 1e-12 and effects[:, 0].abs().max() > 1e-6


def test_the_last_layers_effect_is_read_from_the_class_token_alone(clip, images):
    """No attention comes after the last layer: means of the patches do not count."""
    pixels, means = images.tensors[0][:2], token_means(clip, images, 2)
    elsewhere = means.clone()
    elsewhere[1:] += 1
    torch.testing.assert_close(indirect_effects(clip, pixels, 2, elsewhere, [4]), indirect_effects(clip, pixels, 2, means, [4]))
    before = indirect_effects(clip, pixels, 1, token_means(clip, images, 1), [4])
    moved = token_means(clip, images, 1) + (torch.arange(17) > 0)[:, None]
    assert not torch.allclose(indirect_effects(clip, pixels, 1, moved, [4]), before, rtol=1e-2)


def test_running_on_from_any_layer_gives_the_representation(clip, images):
    pixels = images.tensors[0][:2]
    for layer in range(3):
        torch.testing.assert_close(run_from(clip, layer + 1, stream_after(clip, pixels, layer)[1]), clip.encode_image(pixels))


@torch.no_grad()
def test_on_a_real_architecture():
    clip, streams = real_clip("ViT-B-32"), []
    pixels = noise(clip, 1)
    keep = [(block, lambda module, args, output: streams.append(output)) for block in clip.visual.transformer.resblocks]
    with iu.hooks.forward_hooks(keep):
        whole = clip.encode_image(pixels)
    for layer, stream in enumerate(streams):
        assert ((run_from(clip, layer + 1, stream) - whole).norm() / whole.norm()).item() < 1e-5
    means = activations(clip, pixels, 9)[0] + 100  # so that the difference is not lost in float32
    found, expected = indirect_effects(clip, pixels, 9, means, [5, 3071]), by_running_it(clip, pixels, 9, means, [5, 3071])
    assert ((found - expected).norm() / expected.norm()).item() < 1e-4


@pytest.mark.parametrize("relative", [False, True])
def test_fit_indirect_equals_the_plain_recipe(clip, images, relative, monkeypatch):
    pixels, neurons = images.tensors[0], [3, 77, 126]
    means = token_means(clip, images, 1)
    effects = by_running_it(clip, pixels, 1, means, neurons)
    if relative:
        effects = effects / clip.encode_image(pixels).norm(dim=1)[:, None, None]
    for portion, batch_size in ((2, 5), (64, 13)):
        monkeypatch.setattr(iu.neurons.indirect, "PORTION", portion)
        fitted = fit_indirect(clip, images, 1, means, neurons, 7, relative, batch_size=batch_size)
        assert fitted.neurons == neurons and fitted.rank == clip.d_embed
        for k in range(3):
            centred = effects[:, k] - effects[:, k].mean(0)
            torch.testing.assert_close(fitted.mean[k], effects[:, k].mean(0), rtol=1e-6, atol=1e-9)
            rows = centred[centred.norm(dim=1).argsort(descending=True)[:7]]
            _, values, vectors = torch.linalg.svd(rows, full_matrices=False)
            sign = 1 if (rows @ vectors[0] > 0).sum() > 3 else -1
            torch.testing.assert_close(fitted.directions[k], sign * vectors[0], rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(fitted.top_share[k], values[0] ** 2 / values.square().sum())
            variances = torch.linalg.svdvals(centred).square()
            torch.testing.assert_close(fitted.share[k], (variances[0] / variances.sum()).float())
            torch.testing.assert_close(fitted.participation[k], (variances.sum() ** 2 / variances.square().sum()).float())


def test_fit_indirect_goes_on_in_each_portion(clip, images, monkeypatch, tmp_path):
    monkeypatch.setattr(iu.neurons.indirect, "PORTION", 2)
    means, passes, encode = token_means(clip, images, 1), [], clip.encode_image
    plain = fit_indirect(clip, images, 1, means, [3, 77, 126], 7)
    saved = fit_indirect(clip, images, 1, means, [3, 77, 126], 7, save_to=tmp_path / "run.safetensors")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["run.1.safetensors", "run.2.safetensors"]
    monkeypatch.setattr(clip, "encode_image", lambda pixels: passes.append(1) or encode(pixels))
    again = fit_indirect(clip, images, 1, means, [3, 77, 126], 7, save_to=tmp_path / "run.safetensors")
    assert not passes, "finished files are read"
    for found in (saved, again):
        assert fingerprint(found) == fingerprint(plain)


def test_a_whole_layer_at_its_means(clip, images):
    pixels, labels = images.tensors
    mean = torch.nn.functional.normalize(clip.encode_image(pixels).mean(0), dim=0)
    classifier = torch.randn(5, clip.d_embed, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    classifier = classifier - torch.outer(classifier @ mean, mean)  # blind to what all images have in common
    for layer in range(3):
        means = token_means(clip, list(noise(clip, 6, seed=1).double()), layer)
        block = clip.visual.transformer.resblocks[layer]
        constant = block.mlp.c_proj(means)
        with torch.no_grad(), iu.hooks.forward_hooks([(block.mlp.c_proj, lambda m, a, out, c=constant: c.expand_as(out))]):
            expected = clip.encode_image(pixels)
        torch.testing.assert_close(encode_without(clip, pixels, layer, means), expected)
        assert not torch.allclose(expected, clip.encode_image(pixels), rtol=1e-2)
        scores = torch.nn.functional.normalize(expected, dim=1) @ classifier.T
        margins = [row[label] - row[torch.arange(5) != label].max() for row, label in zip(scores, labels)]
        by_hand = (scores.argmax(1) == labels).double().mean().item(), torch.stack(margins).mean().item()
        found = indirect_ablation(clip, images, classifier, layer, means, batch_size=4)
        assert found[:2] == pytest.approx(by_hand) and found.accuracy == found.right.double().mean().item()
    with pytest.raises(ValueError, match="label 4, but the classifier has 3"):
        indirect_ablation(clip, images, classifier[:3], 0, token_means(clip, images, 0))
    assert count_hooks(clip.model) == 0


@pytest.mark.parametrize("relative", [False, True])
def test_equal_images_have_no_indirect_effect(relative):
    clip = iu.Clip(tiny_model(layers=3))
    same = TensorDataset(noise(clip, 1).expand(11, -1, -1, -1))
    means = token_means(clip, same, 0, batch_size=4)
    found = fit_indirect(clip, same, 0, means, [3, 8, 120], top=5, relative=relative, batch_size=3)
    for part in (found.directions, found.top_share, found.share, found.participation):
        assert (part == 0).all(), "what is left of the neurons is rounding"
    with pytest.raises(ValueError, match="top must be at least 1"):
        fit_indirect(clip, same, 0, means, [3], top=0)
