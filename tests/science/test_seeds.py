"""The saved findings of other trainings come out again, on fewer images."""

import pytest
import torch

import interp_utils as iu
from interp_utils.science import seeds


@pytest.fixture(scope="module")
def other():
    return iu.load_clip("sandbox-1")


@pytest.fixture(scope="module")
def pool(sandbox):
    return iu.texts.understood(sandbox, iu.texts.load_pool("sandbox"))


def test_heads_have_the_saved_factors_and_names(other, pool):
    names, shares = seeds.name_heads(other, pool, 250, 120)
    saved_names, saved_shares = seeds.saved_names()["sandbox-1"]
    late = slice(other.n_heads * (other.n_layers - 4), None)
    both = torch.stack([shares[:, late].flatten(), saved_shares[:, late].flatten()])
    assert both.corrcoef()[0, 1] > 0.9
    same = torch.tensor([a == b for a, b in zip(names[late], saved_names[late])])
    assert same.double().mean() > 0.6
    blank = seeds.saved_names()[seeds.UNTRAINED][1]
    assert saved_shares.amax(1).gt(blank.amax(1)).double().mean() > 0.7


def test_neurons_have_the_saved_numbers(other):
    found, saved = seeds.neuron_findings(other, 60, 60, 300), seeds.saved_neurons()["sandbox-1"]
    for factor in ("light", "category", "object"):
        (lost, half), (lost_then, half_then) = found[factor], saved[factor]
        assert abs(lost - lost_then) < 2 * (half**2 + half_then**2) ** 0.5 + 0.01, factor
    assert abs(found["in one direction"] - saved["in one direction"]) < 0.15
    assert found["right"] > found["by chance"]


def test_answers_without_parts_are_lost_as_saved(other):
    found, saved = seeds.ablation_losses(other, 100), seeds.saved_losses()["sandbox-1"]
    assert found.keys() == saved.keys() == iu.heads.ablations_of_tables(other).keys()
    both = torch.tensor([[found[name], saved[name]] for name in found]).T
    assert both.corrcoef()[0, 1] > 0.95 and (both[0] - both[1]).abs().max() < 15  # five standard errors of a share of 100


def test_the_cue_goes_as_saved(other, pool):
    found, saved = seeds.cue_without_heads(other, pool, 150, 120), seeds.saved_cues()["sandbox-1"]
    for row in (found, saved):
        at_home, away, away_too, home = row.before
        assert at_home - away - away_too + home > 20, "intact it looks at the scene"
        at_home, away, away_too, home = row.after
        assert abs(at_home - away - away_too + home) < 12, "without the heads it does not"
    assert abs(found.heads - saved.heads) <= 1 and abs(found.overall[0] - saved.overall[0]) < 12


def test_an_untrained_copy_is_always_the_same_and_leaves_later_draws_alone():
    weights = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        weights.append(seeds.untrained_copy().visual.transformer.resblocks[0].mlp.c_fc.weight)
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(*weights)


def test_a_missing_file_says_how_to_get_it_back(tmp_path):
    with pytest.raises(FileNotFoundError, match="git checkout"):
        seeds._read(tmp_path / "seeds.json")
