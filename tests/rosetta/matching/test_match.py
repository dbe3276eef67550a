import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from interp_utils import rosetta, stream
from interp_utils.rosetta import Correlation, Units
from interp_utils.rosetta.matching import passes

COUNTS = (3, 40, 25), (31, 2, 50)


def gathered(*counts):
    """Of two models whose maps have different sizes; some units never vary, some are the same twice."""
    generator = torch.Generator().manual_seed(0)
    sides = []
    for sizes in counts:
        sides.append([torch.randn(6, n, 2 * k + 1, 2 * k + 1, generator=generator) for k, n in enumerate(sizes)])
        sides[-1][1][:, 0] = 3
        sides[-1][2][:, 4] = sides[-1][2][:, 7]
    if counts[0] is counts[1]:
        sides[1] = sides[0]
    units = [Units(name, tuple(f"layer{k}" for k in range(len(sizes))), sizes) for sizes, name in zip(counts, "ab")]
    found = Correlation(*units)
    found.update(*sides)
    return found


@pytest.mark.parametrize("rule", ["mutual", "published"])
def test_a_match_gives_the_best_buddies_of_the_matrix(rule):
    whole = gathered(*COUNTS)
    kept = whole.match(6)
    for k in (1, 3, 6):
        expected = rosetta.best_buddies(whole.matrix, k, rule)
        for found in (kept, whole):
            pairs, values = found.buddies(k, rule)
            assert pairs.tolist() == expected.tolist() and len(pairs) > 5
            torch.testing.assert_close(values, whole.matrix[pairs[:, 0], pairs[:, 1]])
    with pytest.raises(ValueError, match="match with k=7"):
        kept.buddies(7)
    with pytest.raises(ValueError, match="at least 1"):
        whole.match(0)


def test_no_unit_of_a_model_with_itself_is_its_own_neighbour():
    whole = gathered(COUNTS[0], COUNTS[0])
    kept = whole.match(4, itself=True)
    expected = rosetta.best_buddies(whole.matrix.fill_diagonal_(-1), 4)
    assert kept.buddies(4)[0].tolist() == expected.tolist() and (kept.near_a != torch.arange(68)[:, None]).all()
    assert (whole.match(1).near_a[[0, 10]] == torch.tensor([[0], [10]])).all()


def test_statistics_of_pairs_need_no_cross_products():
    whole = gathered(*COUNTS)
    kept = whole.match()
    for found, plain in (
        (rosetta.matched_pairs(kept), rosetta.matched_pairs(whole)),
        (rosetta.matched_pairs(kept, [[5, 60], [1, 3]]), rosetta.matched_pairs(whole, [[5, 60], [1, 3]])),
    ):
        assert torch.equal(found.numbers, plain.numbers)
        assert torch.equal(found.means, plain.means) and torch.equal(found.stds, plain.stds)


class Largest(TorchDispatchMode):
    """The most numbers that one tensor made meanwhile holds."""

    most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for each in out if isinstance(out, tuple | list) else (out,):
            if isinstance(each, torch.Tensor):
                self.most = max(self.most, each.numel())
        return out


def test_matching_builds_no_matrix_and_a_match_keeps_none():
    units = [Units(name, tuple(map(str, range(12))), (64,) * 12) for name in "ab"]
    whole = Correlation(*units)
    whole.update(*([torch.randn(2, 64, 1, 1) for _ in range(12)] for _ in units))
    with Largest() as made:
        kept = whole.match()
    numbers = sum(each.numel() for each in (kept.near_a, kept.values_a, kept.near_b, *kept.sums.values()))
    assert max(made.most, numbers) <= 768 * 768 / 12, "more than one layer's correlations"


def test_models_with_large_sums_are_matched_one_at_a_time(monkeypatch):
    """What is in memory at a time are the sums of one pair of models, and dictionaries keep none of them."""
    alive = weakref.WeakSet()

    class Watched(Correlation):
        def __init__(self, *units):
            assert not alive, "the sums of another pair of models are still there"
            super().__init__(*units)
            alive.add(self)

    torch.manual_seed(0)
    layers = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.Conv2d(8, 9, 3, padding=1)).eval()
    zoo = [rosetta.UnitModel(layers, ["0", "1"], size=8, name=name) for name in ("a", "b", "c")]
    images, fed, feed = torch.rand(12, 3, 8, 8), [], passes.feed
    monkeypatch.setattr(passes, "feed", lambda *args, **options: fed.append(1) or feed(*args, **options))
    together = rosetta.match(zoo[0], [*zoo[1:], zoo[0]], images, k=2)
    assert len(fed) == 1, "small sums share a pass"
    monkeypatch.setattr(passes, "Correlation", Watched)
    monkeypatch.setattr(stream, "MOST", 8 * 17 * 3 * 17 - 1)
    *matches, own = alone = rosetta.match(zoo[0], [*zoo[1:], zoo[0]], images, k=2)
    assert not alive and len(fed) == 4
    for one, other in zip(together, alone):
        assert torch.equal(one.near_a, other.near_a) and torch.equal(one.values_a, other.values_a)
    with pytest.raises(ValueError, match="their own neighbours"):
        rosetta.build_dictionary(matches, matches[0].__class__(**{**vars(own), "itself": False}), k=2)
    found = rosetta.build_dictionary(matches, own, k=2)
    assert len(found) and (found.correlations > 0.999).all(), "the same weights under other names"
    assert torch.equal(rosetta.rosetta_pairs(found, matches)[1].numbers[:, 0], found.units)
