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


def large_mean(mean, dtype, n=400, seed=0):
    generator = torch.Generator().manual_seed(seed)
    groups = torch.randint(0, 2, (n,), generator=generator)
    values = torch.randn(n, 3, 4, generator=generator, dtype=torch.float64) + 2 * groups[:, None, None]
    return (values + mean).to(dtype), groups


@pytest.mark.parametrize("mean", [0.0, 1e7, -1e8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_large_mean_takes_no_digits_from_spread(mean, dtype):
    values, groups = large_mean(mean, dtype)
    moments, merged, by_group = Moments(second=True), Moments(second=True), GroupMeans(2)
    halves = [GroupMeans(2), GroupMeans(2)]
    for k, part in enumerate(torch.arange(len(values)).split(37)):
        moments.update(values[part])
        by_group.update(values[part], groups[part])
        halves[k % 2].update(values[part], groups[part])
        own = Moments(second=True)
        own.update(values[part])
        merged.merge(own)
    halves[1].merge(halves[0])
    centred = values.double() - values.double().mean(0)
    expected = torch.einsum("bue,buf->uef", centred, centred) / len(values)
    for found in (moments, merged):
        torch.testing.assert_close(found.covariance, expected, atol=1e-6, rtol=1e-6)
    if dtype == torch.float64:  # of float32 at 1e8 the spread is that of rounding
        plain = GroupMeans(2)
        plain.update(values - mean, groups)
        for found in (by_group, halves[1]):
            torch.testing.assert_close(found.explained_variance(), plain.explained_variance(), atol=1e-6, rtol=1e-6)
            torch.testing.assert_close(found.variance, plain.variance, atol=1e-6, rtol=1e-6)


def test_covariance_with_other_values():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(50, 2, 3, generator=generator, dtype=torch.float64) + 1e6
    y = x[..., :2] * torch.tensor([2.0, -1]) + torch.randn(50, 2, 2, generator=generator, dtype=torch.float64)
    whole, parts = Moments(second=True), [Moments(second=True), Moments(second=True)]
    whole.update(x, y)
    for part, rows in zip(parts, (slice(30, 50), slice(0, 30))):
        part.update(x[rows], y[rows])
    parts[0].merge(parts[1])
    for found in (whole, parts[0]):
        for unit in range(2):
            expected = torch.cov(torch.cat([x[:, unit], y[:, unit]], 1).T, correction=0)[:3, 3:]
            torch.testing.assert_close(found.covariance[unit], expected, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(found.second, torch.einsum("bue,buf->uef", x, y) / 50, rtol=1e-12, atol=0)
    with pytest.raises(ValueError, match="gathers images of shapes"):
        whole.update(x)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(-1e6, 1e6), st.sampled_from([torch.float32, torch.float64]))
def test_what_never_varies_has_no_variance(seed, scale, dtype):
    generator = torch.Generator().manual_seed(seed)
    row = (scale * torch.randn(2, 3, generator=generator, dtype=torch.float64)).to(dtype)
    moments, groups = Moments(second=True), GroupMeans(2)
    for n in (7, 13, 1):
        moments.update(row.expand(n, 2, 3))
        groups.update(row.expand(n, 2, 3), torch.arange(n) % 2)
    assert not moments.varies.any() and (groups.variance == 0).all() and (groups.explained_variance() == 0).all()
    alive = torch.stack([row, row * (1 + 1e-3)]) if scale else torch.randn(2, 2, 3)
    moments.update(alive), groups.update(alive, torch.tensor([0, 1]))
    assert abs(scale) < 1e-30 or (moments.varies.all() and (groups.variance > 0).all())


def test_rows_own_what_they_keep():
    batch = torch.randn(8, 32, 16)
    rows, numbers = Rows(), torch.arange(8)
    rows.update(batch[:, 3], numbers)
    kept = rows.parts[0][0]
    assert kept.untyped_storage().nbytes() == kept.numel() * 4, "a view would keep all 32 heads alive"
    expected = batch[:, 3].clone()
    batch.zero_(), numbers.zero_()
    assert torch.equal(rows.rows, expected) and rows.numbers.tolist() == list(range(8))


KINDS = {
    "moments": (lambda: Moments(), lambda s, v, n: s.update(v)),
    "second": (lambda: Moments(second=True), lambda s, v, n: s.update(v)),
    "groups": (lambda: GroupMeans(9), lambda s, v, n: s.update(v, n)),
    "top": (lambda: TopK(3), lambda s, v, n: s.update(v, n)),
    "rows": (lambda: Rows(), lambda s, v, n: s.update(v, n)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_does_not_fit_is_refused_and_changes_nothing(kind):
    make, update = KINDS[kind]
    statistic, numbers = make(), torch.arange(4)
    with pytest.raises(ValueError, match="no images yet"):
        _ = statistic.rows if kind == "rows" else statistic.mean if kind != "top" else statistic._seen()
    update(statistic, torch.ones(4, 2, 3), numbers)
    for wrong in (float("nan"), float("inf")):
        values = torch.ones(4, 2, 3)
        values[2, 1, 0] = wrong
        with pytest.raises(ValueError, match="not finite"):
            update(statistic, values, numbers)
    with pytest.raises(ValueError, match=r"gathers images of shapes \[\[2, 3\].*got shapes \[\[2, 1\]"):
        update(statistic, torch.ones(4, 2, 1), numbers)  # which broadcasts
    for numbers_, message in ((torch.arange(3), "as many rows"), (torch.ones(4), "integers"), (torch.ones(4).bool(), "integers")):
        if kind not in ("moments", "second"):
            with pytest.raises(ValueError, match=message):
                update(statistic, torch.ones(4, 2, 3), numbers_)
    other = make()
    update(other, torch.ones(4, 2, 1), numbers)
    with pytest.raises(ValueError, match="gathers images of shapes"):
        statistic.merge(other)
    for other_kind, (other_make, _) in KINDS.items():
        if other_kind != kind:
            with pytest.raises(ValueError, match="cannot merge"):
                statistic.merge(other_make())
    assert statistic.count == 4


def test_settings_must_agree():
    for mine, theirs in ((TopK(3), TopK(1)), (GroupMeans(3), GroupMeans(2)), (Moments(second=True), Moments())):
        with pytest.raises(ValueError, match="cannot merge"):
            mine.merge(theirs)
    top = TopK(2)
    top.update(torch.ones(3), torch.arange(3), torch.ones(3, 4))
    with pytest.raises(ValueError, match="gathers images of shapes"):
        top.update(torch.ones(3), torch.arange(3))
    with pytest.raises(ValueError, match="need rows"):
        TopK(2).update(torch.ones(3, 5), torch.arange(3), torch.ones(3, 4, 1))
    with pytest.raises(ValueError, match="only means were kept"):
        moments = Moments()
        moments.update(torch.ones(2, 3))
        _ = moments.covariance


def test_shares_of_images_are_exact():
    """Means of zeros and ones are counts over counts, however the images came, so that equal accuracies are equal."""
    right = torch.tensor([1.0, 0, 1, 1, 0, 1, 1])
    for order in (range(7), [1, 0, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1, 0]):
        means, moments = GroupMeans(1), Moments()
        for k in order:
            means.update(right[k : k + 1, None], torch.tensor([0])), moments.update(right[k : k + 1])
        assert means.overall.item() == means.mean.item() == moments.mean.item() == 5 / 7


def test_groups_without_an_image():
    means = GroupMeans(2)
    means.update(torch.ones(3, 2, 1), torch.full((3,), -1))
    assert means.mean.isnan().all() and (means.explained_variance() == 0).all() and means.counts.sum() == 0
    means.update(torch.arange(6.0).reshape(3, 2, 1) + 1e6, torch.tensor([0, -1, 1]))
    assert means.counts.tolist() == [1, 1] and means.variance.tolist() == [4, 4]
