import pytest
import torch
from small_clips import count_hooks, noise, tiny_model

import interp_utils as iu
from interp_utils import science
from interp_utils.hooks import edited_blocks, edited_neurons
from interp_utils.hooks.interventions import run_with_attention


def model():
    return iu.Clip(tiny_model(layers=4, ls_init_value=0.7).double())


def means_of(clip, layer, n=8):
    return iu.neurons.token_means(clip, noise(clip, n, seed=9).double(), layer)


def projections(clip, layer, inputs):
    attn = clip.visual.transformer.resblocks[layer].attn
    parts = (inputs @ attn.in_proj_weight.T + attn.in_proj_bias).unflatten(-1, (3, clip.n_heads, clip.d_head))
    return parts.permute(2, 0, 3, 1, 4)


def test_running_with_its_own_attention_changes_nothing():
    clip = model()
    pixels = noise(clip).double()
    for layer in (0, 2):
        stream = clip.visual._embeds(pixels)
        for block in clip.visual.transformer.resblocks[:layer]:
            stream = block(stream)
        found, patterns = run_with_attention(clip, layer, stream)
        torch.testing.assert_close(found, clip.encode_image(pixels))
        again, used = run_with_attention(clip, layer, stream, patterns)
        torch.testing.assert_close(again, found)
        assert len(used) == len(patterns) == 4 - layer and all(map(torch.equal, used, patterns))
        torch.testing.assert_close(patterns[0].sum(-1), torch.ones_like(patterns[0][..., 0]))


@torch.no_grad()
def test_both_effects_equal_brute_force():
    """Patterns frozen from outside, by replacing what each attention layer of the untouched model writes."""
    clip, layer, neuron = model(), 1, 5
    pixels, means = noise(clip).double(), means_of(clip, layer)
    patterns, moved = {}, {}

    def keep(into, later):
        def edit(inputs, output):
            q, k, _ = projections(clip, later, inputs)
            into[later] = (q @ k.mT * clip.d_head**-0.5).softmax(-1)
            return output

        return edit

    def freeze(later):
        def edit(inputs, output):
            block = clip.visual.transformer.resblocks[later]
            mixed = (patterns[later] @ projections(clip, later, inputs)[2]).transpose(1, 2).flatten(2)
            return block.ls_1.gamma * (
                mixed @ block.attn.out_proj.weight.T + block.attn.out_proj.bias
            )  # not ls_1(): it has our hook

        return edit

    def hold(activations):
        activations = activations.clone()
        activations[..., neuron] = means[:, neuron]
        return activations

    with edited_blocks(clip, {later: keep(patterns, later) for later in (2, 3)}, {}):
        base = clip.encode_image(pixels)
    with edited_neurons(clip, layer, hold), edited_blocks(clip, {later: keep(moved, later) for later in (2, 3)}, {}):
        total = base - clip.encode_image(pixels)
    with edited_neurons(clip, layer, hold), edited_blocks(clip, {later: freeze(later) for later in (2, 3)}, {}):
        frozen = base - clip.encode_image(pixels)

    found = science.attention_effects(clip, pixels, layer, means, [3, neuron, 7], chunk=2)
    torch.testing.assert_close(found.total[:, 1], total)
    torch.testing.assert_close(found.frozen[:, 1], frozen)
    torch.testing.assert_close(found.mediated[:, 1], total - frozen)
    shift = torch.stack([(moved[later] - patterns[later])[:, :, 0].abs().sum(-1) / 2 for later in (2, 3)])
    torch.testing.assert_close(found.moved[:, 1], shift.transpose(0, 1))
    torch.testing.assert_close(found.total, iu.neurons.indirect_effects(clip, pixels, layer, means, [3, neuron, 7]))
    assert found.mediated.norm() > 1e-3, "this model's attention does depend on the neuron"
    assert count_hooks(clip.model) == 0


def test_nothing_is_mediated_where_attention_looks_everywhere_alike():
    clip = model()
    with torch.no_grad():
        for block in clip.visual.transformer.resblocks:
            block.attn.in_proj_weight[: 2 * clip.d_model] = 0
            block.attn.in_proj_bias[: 2 * clip.d_model] = 0
    found = science.attention_effects(clip, noise(clip).double(), 0, means_of(clip, 0), [1, 2])
    assert found.mediated.abs().max() < 1e-12 and found.moved.abs().max() < 1e-12 and found.share.max() < 1e-9
    assert found.total.norm() > 1e-3


def test_all_is_mediated_by_a_neuron_that_only_keys_read():
    """It writes along two dimensions that are otherwise empty, which values do not read and keys do."""
    clip = iu.Clip(tiny_model(layers=2).double())
    first, last = clip.visual.transformer.resblocks
    with torch.no_grad():
        for part in (clip.visual.ln_pre, first.attn.out_proj, first.mlp.c_proj):
            part.weight[:2], part.bias[:2] = 0, 0
        first.mlp.c_proj.weight[:, 4] = 0
        first.mlp.c_proj.weight[0, 4], first.mlp.c_proj.weight[1, 4] = 1e-3, -1e-3  # small, so that the norm's scale stays
        last.attn.in_proj_weight[2 * clip.d_model :, :2] = 0
    pixels, means = noise(clip, 1).double(), means_of(clip, 0)
    iu.hooks.visit_neurons(clip, pixels, lambda _, p: means[0].copy_(p[0, 0]), [0])  # the class token keeps its activations
    found = science.attention_effects(clip, pixels, 0, means, [4])
    assert found.mediated.norm() > 100 * found.frozen.norm() and found.share.item() > 0.99


def test_the_last_layer_has_no_attention_after_it():
    clip = model()
    with pytest.raises(ValueError, match="attention after it"):
        science.attention_effects(clip, noise(clip).double(), 3, means_of(clip, 3), [0])
