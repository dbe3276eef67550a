"""Circuits in a small model with random weights, against brute force; one of them is planted."""

import pytest
import torch
from small_clips import count_hooks, noise, tiny_model

import interp_utils as iu
from interp_utils import hooks, neurons, science
from interp_utils.heads import direct_effects


@pytest.fixture
def task(tiny):
    direction = torch.randn(tiny.d_embed, generator=torch.Generator().manual_seed(3))
    pixels = noise(tiny, 8)
    logits = torch.nn.functional.normalize(tiny.encode_image(pixels), dim=-1) @ direction
    signs = torch.where(logits > logits.median(), 1.0, -1.0)  # so that the whole model is right more often than not
    return science.Task(pixels, signs, direction)


@pytest.fixture
def means(tiny):
    return science.node_means(tiny, noise(tiny, 10, seed=5), batch_size=4)


def test_nodes_are_numbered_heads_first(tiny):
    assert science.n_nodes(tiny) == 2 * (4 + 128)
    assert [science.node_name(tiny, k) for k in (0, 5, 8, 263)] == ["L0H0", "L1H1", "L0N0", "L1N127"]
    with pytest.raises(IndexError, match="no node 264"):
        science.node_name(tiny, 264)


def test_the_whole_circuit_is_the_model_and_the_empty_one_the_mean(tiny, task, means):
    ends = torch.stack([torch.ones(264), torch.zeros(264)])
    whole, empty = science.run_circuits(tiny, task.pixels, means, ends)
    torch.testing.assert_close(whole, tiny.encode_image(task.pixels), msg="nothing is touched")
    assert torch.allclose(empty, empty[:1].expand_as(empty), atol=1e-6), "all images alike"
    found = science.faithfulness(tiny, task, means, ends)
    assert found.recovered.tolist() == pytest.approx([1.0, 0.0], abs=1e-5)
    assert found.whole_accuracy == found.accuracy[0].item() == (task.logits(whole) > 0).float().mean().item()
    torch.testing.assert_close(found.ends, task.logits(torch.stack([empty, whole])))
    half = (torch.arange(264) % 2)[None].float()
    alone, beside = (science.faithfulness(tiny, task, means, half, ends) for ends in (None, found.ends))
    torch.testing.assert_close(vars(beside), vars(alone))
    assert count_hooks(tiny.model) == 0


def test_masks_in_a_batch_equal_one_by_one(tiny, task, means):
    masks = (torch.rand(5, 264, generator=torch.Generator().manual_seed(0)) > 0.4).float()
    together = science.run_circuits(tiny, task.pixels, means, masks, portion=7)
    for mask, row in zip(masks, together):
        (alone,) = science.run_circuits(tiny, task.pixels, means, mask[None])
        assert torch.allclose(alone, row, atol=1e-5)
    with pytest.raises(ValueError, match="masks of 264 nodes"):
        science.run_circuits(tiny, task.pixels, means, masks[:, :9])


@pytest.mark.parametrize("layer", [0, 1])
def test_one_head_at_its_mean_equals_brute_force(tiny, task, means, layer):
    weights, mean = hooks.attention_weights(tiny, layer), []
    hooks.visit_attention_inputs(
        tiny, noise(tiny, 10, seed=5), lambda _, x: mean.append(hooks.head_outputs(x, weights, [2])[:, 0].mean(0)), [layer]
    )

    def edit(inputs, output):
        return output - hooks.head_outputs(inputs, weights, [2])[:, 0] + mean[0]

    with hooks.edited_blocks(tiny, {layer: edit}, {}):
        by_hand = tiny.encode_image(task.pixels)
    mask = torch.ones(1, 264)
    mask[0, layer * 4 + 2] = 0
    assert torch.allclose(science.run_circuits(tiny, task.pixels, means, mask)[0], by_hand, atol=1e-5)
    assert not torch.allclose(by_hand, tiny.encode_image(task.pixels), atol=1e-3)


def test_one_neuron_at_its_mean_equals_the_indirect_effect(tiny, task, means):
    tokens = neurons.token_means(tiny, noise(tiny, 10, seed=5), 0)
    effect = neurons.indirect_effects(tiny, task.pixels, 0, tokens, [9])[:, 0]
    mask = torch.ones(1, 264)
    mask[0, 8 + 9] = 0
    without = science.run_circuits(tiny, task.pixels, means, mask)[0]
    assert torch.allclose(tiny.encode_image(task.pixels) - without, effect, atol=1e-5)


def test_attribution_is_the_derivative_of_plain_patching(tiny, task, means):
    scores, step = science.patching_scores(tiny, task, means, portion=3), 1e-2
    for node in (0, 6, 20, 200):
        masks = torch.ones(2, 264)
        masks[0, node] += step
        masks[1, node] -= step
        up, down = task.logits(science.run_circuits(tiny, task.pixels, means, masks)).mean(1)
        assert scores[node].item() == pytest.approx(((up - down) / (2 * step)).item(), rel=0.02, abs=2e-5)


def test_pruning_keeps_what_matters_most_in_what_is_left(tiny, task, means):
    sizes, left, expected = [200, 90, 20], torch.ones(264), []
    for size in sizes:
        scores = science.patching_scores(tiny, task, means, left).abs()
        left = science.top_masks(torch.where(left == 1, scores, -1), [size])[0]
        expected.append(left)
    assert torch.equal(science.prune(tiny, task, means, sizes), torch.stack(expected))
    once = science.top_masks(science.patching_scores(tiny, task, means).abs(), sizes)
    assert not torch.equal(once, torch.stack(expected)), "a node's worth changes with what is left"


def test_effect_scores_are_mean_contributions(tiny, task):
    order = neurons.second_order(tiny, 0, relative=True)
    scores = science.effect_scores(task, [order], portion=3)
    fx = direct_effects(tiny, task.pixels)
    length = fx.total().norm(dim=-1)
    weight = task.signs / length
    heads = torch.einsum("blhE,E,b->lh", fx.heads(), task.direction, weight) / len(length)
    assert torch.allclose(scores[:8], heads.flatten(), atol=1e-6)
    first = [neurons.first_order(tiny, task.pixels, layer) for layer in (0, 1)]
    both = first[0] + neurons.second_order(tiny, 0).effects(task.pixels)
    for start, effects in ((8, both), (136, first[1])):
        expected = torch.einsum("bnE,E,b->n", effects, task.direction, weight) / len(length)
        assert torch.allclose(scores[start : start + 128], expected, atol=1e-6)
    deeper = iu.Clip(tiny_model(layers=3))
    with pytest.raises(ValueError, match=r"need the layers 0 to 1, got \[1\]"):
        science.effect_scores(task, [neurons.second_order(deeper, 1)])


@pytest.fixture
def planted():
    """All nodes of a model are silent but one head and three neurons, so these are the circuit of any task."""
    model = tiny_model()
    blocks, width = model.visual.transformer.resblocks, 8
    nodes = [1 * 4 + 2, 8 + 7, 8 + 90, 8 + 128 + 40]  # L1H2, L0N7, L0N90, L1N40
    with torch.no_grad():
        for layer, block in enumerate(blocks):
            heads = [node - 4 * layer for node in nodes if node < 8 and node // 4 == layer]
            kept = torch.zeros(32)
            for head in heads:
                kept[head * width : (head + 1) * width] = 1
            block.attn.out_proj.weight.mul_(kept)
            kept = torch.zeros(128)
            kept[[node - 8 - 128 * layer for node in nodes if node >= 8 and (node - 8) // 128 == layer]] = 3
            block.mlp.c_proj.weight.mul_(kept)
    return iu.Clip(model), nodes


def test_a_planted_circuit_is_found_and_is_all_there_is(planted):
    clip, nodes = planted
    direction = torch.randn(clip.d_embed, generator=torch.Generator().manual_seed(3))
    pixels = noise(clip, 12)
    logits = torch.nn.functional.normalize(clip.encode_image(pixels), dim=-1) @ direction
    task = science.Task(pixels, torch.where(logits > logits.median(), 1.0, -1.0), direction)
    means = science.node_means(clip, pixels)
    scores = science.patching_scores(clip, task, means)
    assert set((scores.abs() > 1e-5 * scores.abs().max()).nonzero()[:, 0].tolist()) == set(nodes)
    masks = torch.cat([science.prune(clip, task, means, [60, 4, 3]), science.top_masks(scores.abs(), [4])])
    assert masks.sum(1).tolist() == [60, 4, 3, 4]
    assert torch.equal(science.prune(clip, task, means, [60, 4, 3], scores), masks[:3]), "as known already"
    assert set(masks[1].nonzero()[:, 0].tolist()) == set(masks[3].nonzero()[:, 0].tolist()) == set(nodes)
    found = science.faithfulness(clip, task, means, masks)
    assert torch.allclose(found.recovered[[0, 1, 3]], torch.ones(3), atol=1e-5)
    assert abs(found.recovered[2] - 1) > 1e-4
    with pytest.raises(ValueError, match="sizes must fall"):
        science.prune(clip, task, means, [3, 4])


def test_what_a_circuit_keeps_has_intervals_over_images(tiny, task, means):
    masks = torch.ones(3, 264)
    masks[0] = 0
    masks[1, :8] = 0  # without heads
    found = science.faithfulness(tiny, task, means, masks)
    assert torch.allclose(found.recovered_interval[:, [0, 2]], torch.tensor([[0.0, 1.0]] * 2), atol=1e-5), "the ends, by definition"
    logits = task.logits(science.run_circuits(tiny, task.pixels, means, masks))
    torch.testing.assert_close(found.right, logits > 0)
    torch.testing.assert_close(found.shares[1], (logits[1] - logits[0].mean()) / (logits[2].mean() - logits[0].mean()))
    low, high = found.recovered_interval[:, 1]
    assert low < found.recovered[1] < high
    error = (found.accuracy * (1 - found.accuracy) / len(task.pixels)).sqrt()
    widths = found.accuracy_interval.diff(dim=0)[0]
    assert torch.allclose(widths[1:], 3.92 * error[1:], atol=2.5 / len(task.pixels)), "about two standard errors to each side"


def test_a_task_that_the_model_fails_has_no_faithfulness(tiny, task, means):
    upside_down = science.Task(task.pixels, -task.signs, task.direction)
    with pytest.raises(ValueError, match="not above that of the empty circuit"):
        science.faithfulness(tiny, upside_down, means, torch.ones(1, 264))
