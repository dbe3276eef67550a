import pytest
import torch
import torch.nn.functional as F
from small_clips import count_hooks, noise, tiny_model
from torch.utils.data import TensorDataset

import interp_utils as iu
from interp_utils.datasets import load_masks
from interp_utils.neurons import activation_maps, fit, second_order, segmenter
from interp_utils.segmentation import evaluate


@pytest.fixture(scope="module")
def clip():
    return iu.Clip(tiny_model(layers=3, image_size=(32, 48)).double())


@pytest.fixture(scope="module")
def orders(clip):
    found = [second_order(clip, layer, relative=True) for layer in (1, 0)]
    fit(found, TensorDataset(noise(clip, 15).double()), top=5)
    return found


@torch.no_grad()
def activations(clip, pixels, layer):
    """What leaves the activation function of a layer, [B, N+1, M], from a hook of our own."""
    found = []
    handle = clip.visual.transformer.resblocks[layer].mlp.gelu.register_forward_hook(lambda module, args, out: found.append(out))
    clip.encode_image(pixels)
    handle.remove()
    return found[0]


def test_maps_are_the_activations_on_the_patches(clip):
    pixels = noise(clip, 3).double()
    for layer in range(3):
        seen = activations(clip, pixels, layer)
        maps = activation_maps(clip, pixels, layer, [7, 100, 0])
        assert maps.shape == (3, 3, 4, 6)
        for row in range(4):
            for column in range(6):
                torch.testing.assert_close(maps[:, :, row, column], seen[:, 1 + 6 * row + column][:, [7, 100, 0]])
    assert count_hooks(clip.model) == 0


@pytest.mark.parametrize("weighting", ["equal", "signed", "random"])
@pytest.mark.parametrize("k", [1, 9, 256])
def test_segmenter_equals_a_plain_loop(clip, orders, weighting, k):
    pixels = noise(clip, 5, seed=4).double()
    whole = clip.encode_image(pixels)
    common = F.normalize(whole.mean(0), dim=0)
    classifier = F.normalize(whole - torch.outer(whole @ common, common), dim=1)  # what is special of each image
    found = segmenter(orders, classifier, k, weighting, seed=3)(pixels)
    neurons = [(order.layer, n, order.directions[n]) for order in orders for n in range(clip.d_mlp)]
    draw = torch.rand(5, 256, generator=torch.Generator().manual_seed(3))
    guesses = (whole @ classifier.T).argmax(1).tolist()
    assert len(set(guesses)) > 1
    for image, guess, heat in zip(pixels, guesses, found):
        match = torch.stack([r @ classifier[guess] for _, _, r in neurons])
        chosen = (draw[guess] if weighting == "random" else match.abs()).argsort(descending=True)[:k].tolist()
        expected = torch.zeros(4, 6).double()
        seen = {layer: activations(clip, image[None], layer)[0, 1:] for layer in (0, 1)}
        for place in chosen:
            layer, neuron, _ = neurons[place]
            expected += seen[layer][:, neuron].reshape(4, 6) * (match[place] if weighting == "signed" else 1) / k
        torch.testing.assert_close(heat, expected)
    assert found.shape == (5, 4, 6) and count_hooks(clip.model) == 0


def test_choices(clip, orders):
    pixels, classifier = noise(clip, 2).double(), torch.randn(6, clip.d_embed, generator=torch.Generator().manual_seed(0))
    equal, signed = (segmenter(orders, classifier, 20, weighting)(pixels) for weighting in ("equal", "signed"))
    assert not torch.allclose(equal, signed, rtol=0.05)
    draws = [segmenter(orders, classifier, 20, "random", seed)(pixels) for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1]) and not torch.allclose(draws[0], draws[2], rtol=0.05)
    swapped = segmenter(orders[::-1], classifier, 20)(pixels)
    torch.testing.assert_close(swapped, equal)
    for k in (0, 257):
        with pytest.raises(ValueError, match=f"k must be between 1 and 256, got {k}"):
            segmenter(orders, classifier, k)
    with pytest.raises(ValueError, match="one of equal, signed, random, got 'sum'"):
        segmenter(orders, classifier, 5, "sum")
    with pytest.raises(RuntimeError, match="call fit"):
        segmenter([second_order(clip, 0)], classifier)


def test_evaluated_on_masks_of_the_sandbox(sandbox):
    orders = [second_order(sandbox, layer, relative=True) for layer in (3, 4)]
    fit(orders, iu.sandbox.factor_images("object", 24, seed=1), top=5)
    task = load_masks("sandbox", 6)
    classifier = sandbox.encode_text(task.classes, task.templates)
    setting = {"threshold": 0.5, "clip_negatives": False}
    maps = [segmenter(orders, classifier, 30, name) for name in ("equal", "random")]
    equal, drawn = (evaluate(heatmap, task.images, sandbox, **setting) for heatmap in maps)
    assert equal != drawn and all(0 < value < 100 for value in (*equal.values(), *drawn.values()))
    image, _ = task.images[0]
    pixels = sandbox.preprocess(image)[None]
    guess = F.normalize(sandbox.encode_image(pixels), dim=-1) @ classifier.T
    alone = segmenter(orders, classifier[guess.argmax()][None], 30)  # a classifier of the predicted class alone
    assert evaluate(alone, [task.images[0]], sandbox, **setting) == evaluate(maps[0], [task.images[0]], sandbox, **setting)
