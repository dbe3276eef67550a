import pytest
import torch
from small_clips import count_hooks, noise, tiny_model

import interp_utils as iu
from interp_utils import science
from interp_utils.hooks import stream_after


@pytest.fixture
def clip():
    return iu.Clip(tiny_model(layers=3).double())


@pytest.fixture
def means(clip):
    return {layer: iu.neurons.token_means(clip, noise(clip, 8, seed=9).double(), layer) for layer in range(3)}


@torch.no_grad()
def run(clip, pixels, means, ablated):
    """The model by hand, with some neurons at their means."""
    x = clip.visual._embeds(pixels)
    for layer, block in enumerate(clip.visual.transformer.resblocks):
        x = x + block.attention(block.ln_1(x))
        p = block.mlp.gelu(block.mlp.c_fc(block.ln_2(x)))
        for where, neuron in ablated:
            if where == layer:
                p[..., neuron] = means[layer][:, neuron]
        x = x + block.mlp.c_proj(p)
    return clip.visual.ln_post(x[:, 0]) @ clip.visual.proj


@pytest.mark.parametrize("first,second", [((0, 3), (0, 9)), ((0, 3), (2, 9)), ((1, 0), (0, 0))])
def test_interaction_equals_brute_force(clip, means, first, second):
    pixels, read_out = noise(clip, 3).double(), torch.randn(3, clip.d_embed).double()
    none, one, two, both = (
        (run(clip, pixels, means, ablated) * read_out).sum(1) for ablated in ([], [first], [second], [first, second])
    )
    found = science.pair_interaction(clip, pixels, read_out, means, first, second)
    torch.testing.assert_close(found, (none - both) - (none - one) - (none - two))
    torch.testing.assert_close(found, science.pair_interaction(clip, pixels, read_out, means, second, first))
    assert found.abs().max() > 1e-5 and count_hooks(clip.model) == 0


def test_a_neuron_backs_itself_up(clip, means):
    """Ablated twice is ablated once, so the interaction of a neuron with itself is minus its effect."""
    pixels, read_out = noise(clip).double(), torch.randn(clip.d_embed).double()
    effect = ((run(clip, pixels, means, []) - run(clip, pixels, means, [(1, 4)])) * read_out).sum(1)
    torch.testing.assert_close(science.pair_interaction(clip, pixels, read_out, means, (1, 4), (1, 4)), -effect)


def near_means(clip, pixels, layers, size):
    """Means so close to the activations of one image that all effects are of first order."""
    generator = torch.Generator().manual_seed(2)
    found = {}
    for layer in layers:
        activations = stream_after(clip, pixels, layer)[0][0]
        found[layer] = activations - size * torch.randn(activations.shape, generator=generator, dtype=activations.dtype)
    return found


def test_estimates_are_exact_for_small_ablations(clip):
    pixels, read_out = noise(clip, 1).double(), torch.randn(clip.d_embed).double()
    near = near_means(clip, pixels, (0, 1), 1e-4)
    none = run(clip, pixels, near, [])
    effects = science.attributions(clip, pixels, read_out, near, 1)
    for neuron in (2, 7):
        exact = ((none - run(clip, pixels, near, [(1, neuron)])) * read_out).sum(1)
        torch.testing.assert_close(effects[:, neuron], exact, rtol=1e-2, atol=1e-12)
    for layer, neuron in ((0, 7), (1, 7)):
        row = science.interaction_row(clip, pixels, read_out, near, (0, 2), layer)
        exact = science.pair_interaction(clip, pixels, read_out, near, (0, 2), (layer, neuron))
        torch.testing.assert_close(row[:, neuron], exact, rtol=2e-2, atol=1e-14)


def test_estimates_rank_pairs_as_brute_force_does(clip, means):
    pixels, read_out = noise(clip, 4).double(), torch.randn(clip.d_embed).double()
    before = science.attributions(clip, pixels, read_out, means, 0)
    row = science.interaction_row(clip, pixels, read_out, means, (0, 2), 0, before)
    others = [n for n in range(0, clip.d_mlp, 5) if n != 2]
    exact = torch.stack([science.pair_interaction(clip, pixels, read_out, means, (0, 2), (0, n)) for n in others], 1)
    estimate = row[:, others]
    assert torch.corrcoef(torch.stack([estimate.flatten(), exact.flatten()]))[0, 1] > 0.9


def test_only_what_comes_before_can_be_ablated_meanwhile(clip, means):
    with pytest.raises(ValueError, match="or before it"):
        science.attributions(clip, noise(clip).double(), torch.randn(clip.d_embed), means, 0, [(1, 2)])
