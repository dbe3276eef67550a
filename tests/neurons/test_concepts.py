import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from small_clips import noise, tiny_model
from torch.utils.data import TensorDataset

import interp_utils as iu
from interp_utils.neurons import (
    SparseTexts,
    contribution_scores,
    discover_concepts,
    important_neurons,
    second_order,
    sparse_texts,
)


def plain_scores(texts, neurons, importance):
    """Thesis, equation 3.4, as a double loop."""
    scores = [0.0] * len(texts.texts)
    for neuron, weight in zip(neurons, importance):
        for j, gamma in zip(texts.indices[neuron].tolist(), texts.weights[neuron].tolist()):
            if j >= 0:
                scores[j] += gamma * float(weight)
    return torch.tensor(scores, dtype=texts.weights.dtype)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 8))
def test_contribution_scores_equal_the_double_loop(seed, k):
    generator = torch.Generator().manual_seed(seed)
    indices = torch.stack([torch.randperm(15, generator=generator)[:6] for _ in range(8)])
    weights = torch.randn(8, 6, dtype=torch.double, generator=generator)
    ended = torch.rand(8, 6, generator=generator) < 0.2
    indices[ended], weights[ended] = -1, 0
    texts = SparseTexts([str(j) for j in range(15)], torch.eye(15), torch.zeros(8, 15), indices, weights)
    neurons, importance = torch.randperm(8, generator=generator)[:k], torch.randn(k, generator=generator)
    found = contribution_scores(texts, neurons, importance)
    torch.testing.assert_close(found, plain_scores(texts, neurons.tolist(), importance))
    torch.testing.assert_close(contribution_scores(texts, neurons, -2 * importance), -2 * found)


def test_an_exhausted_code_adds_nothing_to_the_first_text():
    weights = torch.tensor([[1.0, 9.0]])  # a weight that no text stands behind must not count
    texts = SparseTexts(["a", "b", "c"], torch.eye(3), torch.zeros(1, 3), torch.tensor([[2, -1]]), weights)
    assert contribution_scores(texts, torch.tensor([0]), torch.tensor([2.0])).tolist() == [0, 0, 2]


def test_important_neurons_are_those_of_largest_absolute_match():
    directions = torch.tensor([[1.0, 0], [0, -3], [0, 2], [0.5, 0.5]])
    assert important_neurons(directions, torch.tensor([0.0, 1]), 3).tolist() == [1, 2, 3]
    assert important_neurons(directions, torch.tensor([-1.0, 0]), 1).tolist() == [0]
    assert important_neurons(directions, torch.tensor([0.0, 1]).double(), 4).tolist() == [1, 2, 3, 0]
    for k in (0, 5):
        with pytest.raises(ValueError, match=f"k must be between 1 and 4, got {k}"):
            important_neurons(directions, torch.ones(2), k)


@pytest.mark.parametrize("ln", ["centered", "split"])
@pytest.mark.parametrize("signed", [False, True])
def test_concepts_of_an_image_equal_plain_loops(ln, signed):
    clip = iu.Clip(tiny_model(layers=3).double())
    order = second_order(clip, 0, ln, relative=True).fit(TensorDataset(noise(clip, 31).double()), top=5)
    pool = F.normalize(torch.randn(50, clip.d_embed, dtype=torch.double, generator=torch.Generator().manual_seed(0)), dim=1)
    texts = sparse_texts(order.directions, pool, [f"text {j}" for j in range(50)], size=6)
    pixels = noise(clip, 6, seed=8).double()
    found = discover_concepts(order, texts, pixels, 7, signed)
    effects, counts, against = order.effects(pixels), [], 0
    assert len(found) == 6
    for concepts, effect in zip(found, effects):
        active = [n for n in range(clip.d_mlp) if (effect[n] - order.mean[n]).norm() > order.thresholds[n]]
        x = [(effect[n] - order.mean[n]) @ order.directions[n] for n in active]
        importance = x if signed else [(effect[n] - order.mean[n]).norm() for n in active]
        against += sum(value < 0 for value in x)
        assert concepts.active.tolist() == active
        scores = plain_scores(texts, active, importance)
        torch.testing.assert_close(concepts.scores, scores)
        best = [j for j in scores.argsort(descending=True)[:7].tolist() if scores[j] > 0]
        assert concepts.texts == [(f"text {j}", pytest.approx(scores[j].item())) for j in best]
        counts.append(len(active))
    assert min(counts) < max(counts) < clip.d_mlp and against > 0, "the images and the two kinds of importance differ"
    positive = int((found[0].scores > 0).sum())
    assert len(discover_concepts(order, texts, pixels[:1], 999, signed)[0].texts) == positive, "what nothing speaks for is left out"
    for k in (0, -2):
        with pytest.raises(ValueError, match="k must be at least 1"):
            discover_concepts(order, texts, pixels, k)
    with pytest.raises(RuntimeError, match="call fit"):
        discover_concepts(second_order(clip, 0), texts, pixels)
