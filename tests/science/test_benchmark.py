"""Naming methods are scored against the known truth: a planted method, chance, and a small part of the saved table."""

from types import SimpleNamespace

import pytest
import torch

from interp_utils import sandbox, science
from interp_utils.science import benchmark
from interp_utils.science.methods import METHODS, singular_vectors

N = len(sandbox.FACTS)


def prompt(k):
    return sandbox.prompts(*sandbox.FACTS[k])[0]


def test_the_strongest_fact_scores_one_and_names_dealt_out_are_chance():
    truth = torch.rand(9, N, generator=torch.Generator().manual_seed(0))
    truth[:, 0] = -1
    best, chance = benchmark.strengths([[prompt(k)] for k in truth.argmax(1).tolist()], truth)
    assert torch.equal(best, torch.ones(9)) and chance.max() < 0.9
    one, same = benchmark.strengths([[prompt(7), prompt(3)]] * 9, truth)
    assert torch.allclose(one, truth[:, 7] / truth.amax(1)) and torch.allclose(one, same), "one name for all is chance"
    assert benchmark.strengths([[prompt(0)]] * 9, truth)[0].max() == 0, "a fact that makes the unit answer less"
    assert benchmark.strengths([[]] * 9, truth)[0].max() == 0
    with pytest.raises(ValueError, match="'a unicorn' is no text of the pool"):
        benchmark.strengths([["a unicorn"]] * 9, truth)
    with pytest.raises(ValueError, match="each of 9 units, got 8"):
        benchmark.strengths([[prompt(0)]] * 8, truth)


def test_intervals_are_over_units_and_trainings():
    rng = torch.Generator().manual_seed(0)

    def score(shifts, n):
        parts = {f"clip {k}": {"drives": torch.stack([0.5 + s + 0.1 * torch.randn(n, generator=rng), torch.zeros(n)])} for k, s in
                 enumerate(shifts)}  # fmt: skip
        return science.NameScore(parts)

    alike, apart = score((0, 0, 0), 400), score((-0.2, 0, 0.2), 400)
    low, high = alike.interval("drives")
    assert 0.6 < (high - low) / (2 * 1.96 * 0.1 / 1200**0.5) < 2.5 and low < 0.5 < high, "units of all three trainings"
    assert apart.interval("drives")[1] - apart.interval("drives")[0] > 0.2, "trainings that differ make it wide"
    gap, low, high = alike.lead(None, "drives")
    assert gap == pytest.approx(alike.mean("drives")) and low > 0.45
    assert alike.lead(alike, "drives") == (0, 0, 0)


@pytest.fixture(scope="module")
def few():
    return benchmark.seen_of("sandbox-1", "heads", 120)


def test_a_small_part_of_the_table_comes_out_again(few):
    """Names from a fifth of the images, judged by the saved truth; and part of the truth from a tenth of its images."""
    saved = science.saved_scores("heads")
    assert saved.keys() == METHODS.keys() and METHODS.keys() - science.saved_scores("neurons").keys() == {"weights alone"}
    for method in ("principal direction", "non-negative coding", "mean similarity"):
        again, then = science.score_names(METHODS[method], "heads", ["sandbox-1"], 120), saved[method].found["sandbox-1"]
        for judge in benchmark.JUDGES:
            assert abs(again.mean(judge) - then[judge][0].mean().item()) < 0.12, (method, judge)
    exact = science.score_names(singular_vectors, "heads", ["sandbox-1"], 120), saved["weights alone"].found["sandbox-1"]
    assert abs(exact[0].mean("writes") - exact[1]["writes"][0].mean().item()) < 0.03, "it reads no image"
    truth, then = benchmark.measured_truth("sandbox-1", "heads", 250), benchmark.truth_of("sandbox-1", "heads")
    common = [k for k, (factor, _) in enumerate(sandbox.FACTS) if factor in ("scene", "light", "style", "count", "weather")]
    for judge in benchmark.JUDGES:
        pair = torch.stack([each[judge][:, common].flatten() for each in (truth, then)])
        assert torch.corrcoef(pair)[0, 1] > 0.85, judge


def test_a_readers_own_method_takes_ten_lines(few):
    def longest(seen, texts, vectors):
        strongest = seen.effects.norm(dim=-1).argmax(0)  # of each unit, the image that moves it most
        match = seen.representations[strongest] @ (vectors - vectors.mean(0)).T
        return [[texts[k]] for k in match.argmax(1).tolist()]

    score = science.score_names(longest, "heads", ["sandbox-1"], 120)
    assert score.lead(None, "drives")[1] > 0 and str(score).startswith("drives ") and score.seconds["sandbox-1"] < 5
    with pytest.raises(ValueError, match="a method returns some of the texts"):
        science.score_names(lambda seen, texts, vectors: [["mine"]] * len(seen.units), "heads", ["sandbox-1"], 120)


def planted(kind):
    """Units that write along one text each, more or less by the image."""
    texts = [prompt(k) for k in range(0, N, 5)]
    vectors = torch.nn.functional.normalize(torch.randn(len(texts), 64, generator=torch.Generator().manual_seed(1)), dim=-1)
    strength = torch.randn(400, len(texts), generator=torch.Generator().manual_seed(2)).exp()
    noise = 0.02 * torch.randn(400, len(texts), 64, generator=torch.Generator().manual_seed(3))
    whole = torch.nn.functional.normalize((strength[..., None] * vectors).sum(1), dim=-1)
    effects, units = strength[..., None] * vectors + noise, [(0, k) for k in range(len(texts))]
    return science.Seen(SimpleNamespace(), kind, units, effects, whole), (texts, vectors)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "weights alone"])
def test_every_method_names_what_was_planted(name):
    seen, (texts, vectors) = planted("heads")
    named = METHODS[name](seen, texts, vectors)
    right = sum(row[0] == text for row, text in zip(named, texts)) / len(texts)
    assert right > 0.9 if name != "ranked by activation" else right > 0.4


def test_weights_alone_are_those_of_heads():
    seen, pool = planted("neurons")
    with pytest.raises(ValueError, match="are those of heads"):
        singular_vectors(seen, *pool)
