import pytest
import torch
from conftest import count_hooks, noise

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
