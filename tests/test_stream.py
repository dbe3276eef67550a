import pytest
import torch
from conftest import count_hooks, noise
from torch.utils.data import DataLoader, TensorDataset

from interp_utils.moments import Moments, Rows
from interp_utils.stream import feed


def dataset(clip, n=7):
    return [(image, k) for k, image in enumerate(noise(clip, n))]


def test_many_statistics_from_one_forward_pass_a_batch(tiny, monkeypatch):
    passes = []
    encode = tiny.encode_image
    monkeypatch.setattr(tiny, "encode_image", lambda pixels: passes.append(len(pixels)) or encode(pixels))
    heads, layers, rows = Moments(), Moments(second=True), Rows()
    views = [(heads, lambda b: b.heads), (layers, lambda b: b.layers), (rows, lambda b: (b.representation, b.numbers))]
    feed(tiny, dataset(tiny), views, batch_size=3)
    assert passes == [3, 3, 1]
    expected = torch.nn.functional.normalize(encode(noise(tiny, 7)), dim=-1)
    torch.testing.assert_close(rows.rows, expected)
    torch.testing.assert_close(layers.mean.sum(0), expected.double().mean(0), atol=1e-5, rtol=1e-4)
    assert heads.mean.shape == (2, 4, 24) and count_hooks(tiny.model) == 0


def test_shards_and_batch_sizes_do_not_matter(tiny):
    data, once = dataset(tiny), Moments(second=True)
    feed(tiny, data, [(once, lambda b: b.heads)])
    merged = Moments(second=True)
    for numbers in ([6, 1, 4], [0, 5], [3, 2]):
        part = Moments(second=True)
        feed(tiny, data, [(part, lambda b: b.heads)], batch_size=2, numbers=numbers)
        merged.merge(part)
    torch.testing.assert_close(merged.covariance, once.covariance, atol=1e-7, rtol=1e-4)


def test_numbers_name_the_images_of_the_dataset(tiny):
    rows = Rows()
    feed(tiny, dataset(tiny), [(rows, lambda b: (b.targets, b.numbers))], numbers=[5, 2, 6], batch_size=2)
    assert rows.rows.tolist() == [2, 5, 6] and rows.numbers.tolist() == [2, 5, 6]


def test_images_without_targets_and_empty_sets(tiny):
    mean = Moments()
    feed(tiny, list(noise(tiny, 3)), [(mean, lambda b: b.representation)])
    assert mean.count == 3
    with pytest.raises(ValueError, match="no images"):
        feed(tiny, [], [])


def test_an_error_in_a_view_leaves_nothing_hooked(tiny):
    with pytest.raises(ZeroDivisionError):
        feed(tiny, dataset(tiny), [(Moments(), lambda b: b.heads / (1 // 0))])
    assert count_hooks(tiny.model) == 0


def test_batches_of_a_loader_are_taken_as_they_come(tiny):
    pixels, seen = noise(tiny, 7), []
    loader = DataLoader(TensorDataset(pixels, torch.arange(7) * 10), batch_size=4)
    rows, plain = Rows(), Rows()
    views = [(rows, lambda b: (b.representation, b.numbers)), (Moments(), lambda b: seen.append(b.targets.tolist()) or b.layers)]
    feed(tiny, loader, views, batch_size=2)
    feed(tiny, dataset(tiny), [(plain, lambda b: (b.representation, b.numbers))])
    torch.testing.assert_close(rows.rows, plain.rows)
    assert seen == [[0, 10, 20, 30], [40, 50, 60]] and rows.numbers.tolist() == list(range(7))
    shuffled, order = Rows(), torch.tensor([4, 0, 6, 5])
    feed(tiny, DataLoader(TensorDataset(pixels, torch.arange(7)), 3, sampler=order), [(shuffled, lambda b: (b.targets, b.numbers))])
    assert shuffled.rows.tolist() == order.tolist() and shuffled.numbers.tolist() == [0, 1, 2, 3], "numbered as they come"
    with pytest.raises(ValueError, match="numbers choose among the images of a dataset"):
        feed(tiny, loader, [], numbers=[1])
    with pytest.raises(ValueError, match="no images"):
        feed(tiny, DataLoader(TensorDataset(pixels[:0])), [])


def test_views_of_a_batch_share_what_they_compute_once(tiny):
    computed = []

    def view(batch):
        first = batch.once(("sum", 1), lambda: computed.append(1) or batch.pixels.flatten(1).sum(1))
        again = batch.once(("sum", 1), lambda: pytest.fail("computed twice"))
        other = batch.once(("sum", 2), lambda: 2 * first)
        assert again is first
        return torch.stack([first, other], 1)

    rows = [Moments(), Moments()]
    feed(tiny, dataset(tiny), [(statistic, view) for statistic in rows], batch_size=3)
    assert len(computed) == 3, "once for each batch, whatever the number of views"
    sums = noise(tiny, 7).flatten(1).sum(1).double().mean()
    torch.testing.assert_close(rows[0].mean, torch.stack([sums, 2 * sums]), atol=1e-4, rtol=1e-5)
    nothing = []
    feed(tiny, dataset(tiny, 2), [(Moments(), lambda b: b.once("none", lambda: nothing.append(1)) or b.pixels)] * 2)
    assert len(nothing) == 1, "None is a result too"


def test_datasets_of_one_tensor(tiny):
    rows, targets = Rows(), []
    images = TensorDataset(noise(tiny, 5))
    feed(tiny, images, [(rows, lambda b: targets.append(b.targets) or (b.representation, b.numbers))], batch_size=2)
    assert targets == [None] * 3 and rows.numbers.tolist() == list(range(5))
    torch.testing.assert_close(rows.rows, torch.nn.functional.normalize(tiny.encode_image(noise(tiny, 5)), dim=-1))
    again = Rows()
    feed(tiny, DataLoader(images, batch_size=5), [(again, lambda b: (b.representation, b.numbers))])
    torch.testing.assert_close(again.rows, rows.rows)
