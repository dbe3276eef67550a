import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp_utils.moments import GroupMeans, Moments, Rows, TopK


def make(n=23, units=3, width=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(-4, 5, (n, units, width), generator=generator).float() / 4  # ties happen
    return values, torch.randint(-1, 3, (n,), generator=generator)


def feed(statistics, values, groups, numbers):
    moments, by_group, top, rows = statistics
    moments.update(values[numbers])
    by_group.update(values[numbers], groups[numbers])
    top.update(values[numbers].sum(-1), numbers)
    rows.update(values[numbers], numbers)


def fresh():
    return Moments(second=True), GroupMeans(3), TopK(5), Rows()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_shards_in_any_order_give_what_one_pass_gives(seed):
    values, groups = make(seed=seed)
    once = fresh()
    feed(once, values, groups, torch.arange(len(values)))
    rng = np.random.default_rng(seed)
    shards = np.array_split(rng.permutation(len(values)), rng.integers(1, 6))
    merged = fresh()
    for shard in shards:
        part = fresh()
        for batch in np.array_split(shard, rng.integers(1, 4)):
            if len(batch):
                feed(part, values, groups, torch.from_numpy(batch))
        for whole, own in zip(merged, part):
            whole.merge(own)
    torch.testing.assert_close(merged[0].covariance, once[0].covariance)
    torch.testing.assert_close(merged[1].mean, once[1].mean, equal_nan=True)
    assert torch.equal(merged[2].images, once[2].images) and torch.equal(merged[2].values, once[2].values)
    assert torch.equal(merged[3].rows, once[3].rows) and torch.equal(merged[3].numbers, torch.arange(len(values)))


def test_against_plain_formulas():
    values, groups = make()
    moments, by_group, top, _ = statistics = fresh()
    feed(statistics, values, groups, torch.arange(len(values)))
    for unit in range(3):
        covariance = torch.cov(values[:, unit].T.double(), correction=0)
        torch.testing.assert_close(moments.covariance[unit], covariance)
        best = sorted(range(len(values)), key=lambda k: (-values[k, unit].sum().item(), k))[:5]
        assert top.images[:, unit].tolist() == best
    for group in range(3):
        torch.testing.assert_close(by_group.mean[group], values[groups == group].double().mean(0))
    assert by_group.counts.sum() == (groups >= 0).sum()


def test_a_balanced_design_is_split_exactly():
    """A full factorial design with additive effects: the uncorrected shares of the factors add up to one."""
    generator = torch.Generator().manual_seed(0)
    sizes, width = (2, 3, 4), 5
    effects = [torch.randn(size, width, generator=generator) for size in sizes]
    cells = torch.cartesian_prod(*map(torch.arange, sizes))
    values = sum(effect[cells[:, k]] for k, effect in enumerate(effects))[:, None]
    shares = []
    for k, size in enumerate(sizes):
        means = GroupMeans(size)
        means.update(values, cells[:, k])
        centred = effects[k] - effects[k].mean(0)
        shares.append(means.explained_variance(corrected=False).item())
        expected = centred.square().sum() / size / (values - values.mean(0)).square().sum(-1).mean()
        assert shares[-1] == pytest.approx(expected.item(), abs=1e-6)
    assert sum(shares) == pytest.approx(1, abs=1e-6)


def test_random_groups_explain_nothing_after_the_correction():
    generator = torch.Generator().manual_seed(0)
    raw, corrected = [], []
    for _ in range(50):
        means = GroupMeans(30)
        means.update(torch.randn(200, 1, 3, generator=generator), torch.randint(0, 30, (200,), generator=generator))
        raw.append(means.explained_variance(corrected=False).item())
        corrected.append(means.explained_variance().item())
    assert np.mean(raw) > 0.1 and abs(np.mean(corrected)) < 0.02
    still = GroupMeans(2)
    still.update(torch.ones(6, 1, 3), torch.tensor([0, 1, 0, 1, 0, 1]))
    assert still.explained_variance().item() == 0


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="not finite"):
        Moments().update(torch.tensor([[float("nan")]]))
    with pytest.raises(ValueError, match="groups below 2"):
        GroupMeans(2).update(torch.ones(3, 1), torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match="at least 1"):
        TopK(0)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_rows_follow_their_images_through_batches_and_merges(seed):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 9, (23, 3), generator=generator).float()  # ties happen
    rows = torch.randn(23, 4, 3, generator=generator)  # four numbers of each image, for each unit
    shards = np.array_split(np.random.default_rng(seed).permutation(23), 4)
    merged, parts = TopK(5), [TopK(5) for _ in shards]
    for part, shard in zip(parts, map(torch.from_numpy, shards)):
        for batch in shard.split(3):
            part.update(scores[batch], batch, rows[batch])
        merged.merge(part)
    merged.merge(TopK(5))  # one that saw nothing
    assert merged.rows.shape == (5, 4, 3)
    for unit in range(3):
        best = sorted(range(23), key=lambda k: (-scores[k, unit].item(), k))[:5]
        assert merged.images[:, unit].tolist() == best
        assert torch.equal(merged.rows[:, :, unit], rows[best, :, unit])
    few = TopK(5)
    few.update(scores[:2], torch.tensor([8, 4]), rows[:2])
    assert few.rows.shape == (2, 4, 3) and few.values.shape == (2, 3)
    without = TopK(5)
    without.update(scores, torch.arange(23))
    assert without.rows is None and torch.equal(without.images, merged.images)


def test_rows_of_single_scores():
    top = TopK(2)
    top.update(torch.tensor([1.0, 3, 2]), [10, 11, 12], torch.tensor([[1.0, -1], [3, -3], [2, -2]]))
    assert top.images.tolist() == [11, 12] and top.rows.tolist() == [[3, -3], [2, -2]]
