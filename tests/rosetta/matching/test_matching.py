import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from interp_utils.rosetta import Correlation, PublishedCorrelation, Units, correlate_maps
from interp_utils.rosetta.matching.correlation import home
from interp_utils.rosetta.matching.resizing import LayerMaps, reduced, resizing_matrix

SIZES = [((7, 7), (16, 16)), ((16, 16), (7, 7)), ((5, 5), (5, 5)), ((4, 4), (64, 64)), ((3, 8), (6, 11)), ((5, 9), (8, 4))]


def resize(maps, size):
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)


def common(a, b):
    size = [max(pair) for pair in zip(a.shape[2:], b.shape[2:])]
    return resize(a, size), resize(b, size)


def pearson(a, b):
    """Eq. 4.2 as it is written: both at the larger size, all images and positions side by side."""
    rows = [maps.transpose(0, 1).flatten(1) for maps in common(a, b)]
    return torch.corrcoef(torch.cat(rows))[: len(rows[0]), len(rows[0]) :]


def maps(n, units, size, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, units, *size, generator=generator, dtype=dtype)
    return (x + x.mean((2, 3), keepdim=True) * 5 + 3 * torch.arange(units)[:, None, None]).relu()  # means differ, some zeros


def sums(parts, a=3, b=4):
    found = Correlation(Units("a", ("x",), (a,)), Units("b", ("y",), (b,)))
    for left, right in parts:
        found.update([left], [right])
    return found


@pytest.mark.parametrize("size_a, size_b", SIZES)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 2e-6), (torch.float64, 1e-12)])
def test_correlation_is_pearson_of_maps_resized_to_the_larger_size(size_a, size_b, dtype, tolerance):
    a, b = maps(20, 3, size_a, 0, dtype), maps(20, 4, size_b, 1, dtype)
    b = b + 3 * resize(a[:, [0]], size_b)  # so that there is something to find
    found = correlate_maps([(a[:11], b[:11]), (a[11:], b[11:])])
    exact = pearson(a.double(), b.double())
    assert found.dtype == dtype and exact[0].min() > 0.1
    torch.testing.assert_close(found.double(), exact, atol=tolerance, rtol=0)


def test_large_means_do_not_drown_the_correlation():
    a, b = maps(16, 3, (7, 7), 0, torch.float32), maps(16, 4, (14, 14), 1, torch.float32)
    b = b + resize(a[:, [0]], (14, 14)) + 300
    torch.testing.assert_close(correlate_maps([(a, b)]).double(), pearson(a.double(), b.double()), atol=1e-4, rtol=0)


def test_a_layer_with_itself_has_a_unit_diagonal():
    a = maps(6, 5, (9, 9), 0, torch.float32)
    found = correlate_maps([(a[:2], a[:2]), (a[2:], a[2:])])
    torch.testing.assert_close(found.diagonal(), torch.ones(5), atol=1e-6, rtol=0)
    torch.testing.assert_close(found, found.T)
    assert (found - torch.eye(5)).abs().max() > 0.01


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(9)), cuts=st.sets(st.integers(1, 8)), split=st.integers(0, 9))
def test_neither_order_nor_batches_nor_merging_matter(order, cuts, split):
    a, b = maps(9, 3, (4, 4), 0), maps(9, 4, (6, 6), 1)
    edges = [0, *sorted(cuts | ({split} - {0, 9})), 9]
    parts = [(a[order[s:e]], b[order[s:e]]) for s, e in zip(edges, edges[1:])]
    first = sums([part for part, start in zip(parts, edges) if start < split])
    first.merge(sums([part for part, start in zip(parts, edges) if start >= split]))
    assert first.count == 9
    torch.testing.assert_close(first.matrix, pearson(a, b), atol=1e-12, rtol=0)


@pytest.mark.parametrize("small, large", [((7, 7), (16, 16)), ((3, 5), (9, 5)), ((4, 4), (64, 32))])
def test_resizing_has_its_adjoint_and_its_squares(small, large):
    a, b = maps(2, 3, small, 0), maps(2, 3, large, 1)
    torch.testing.assert_close((resize(a, large) * b).sum((2, 3)), (a * reduced(b, small)).sum((2, 3)))
    mean, squares = LayerMaps(a).moments(large)
    grown = resize(a, large)
    torch.testing.assert_close(mean + a.mean((0, 2, 3)), grown.mean((0, 2, 3)))
    torch.testing.assert_close(squares, (grown - grown.mean((0, 2, 3), keepdim=True)).square().sum((0, 2, 3)))
    torch.testing.assert_close(resizing_matrix(small[0], large[0]).sum(1), torch.ones(large[0], dtype=torch.float64))


@pytest.mark.parametrize("value", [0.0, 0.1, 1234.5])
def test_a_unit_that_never_varies_has_correlation_zero(value):
    a, b = maps(20, 3, (4, 4), 0, torch.float32), maps(20, 4, (7, 7), 1, torch.float32)
    a[:, 1], b[:, 2] = value, value
    found = correlate_maps([(a[:9], b[:9]), (a[9:], b[9:])])
    assert (found[1] == 0).all() and (found[:, 2] == 0).all()
    assert found.isfinite().all() and (found[0, [0, 1, 3]] != 0).all()


def test_several_layers_are_all_pairs_of_layers():
    layers = [maps(5, 3, (4, 4), 0), maps(5, 2, (9, 9), 1)], [maps(5, 4, (6, 6), 2), maps(5, 1, (9, 9), 3)]
    found = Correlation(Units("a", ("p", "q"), (3, 2)), Units("b", ("r", "s"), (4, 1)))
    found.update(*layers)
    rows = [torch.cat([pearson(a, b) for b in layers[1]], 1) for a in layers[0]]
    torch.testing.assert_close(found.matrix, torch.cat(rows), atol=1e-12, rtol=0)
    assert found.a.names == ["p.0", "p.1", "p.2", "q.0", "q.1"] and found.b.slices[1] == slice(4, 5)


def test_saved_sums_load_and_go_on(tmp_path):
    a, b = maps(9, 3, (4, 4), 0), maps(9, 4, (6, 6), 1)
    found = sums([(a[:5], b[:5])])
    found.save(tmp_path / "c.safetensors")
    loaded = Correlation.load(tmp_path / "c.safetensors")
    assert (loaded.a, loaded.b, loaded.count) == (found.a, found.b, 5) and torch.equal(loaded.matrix, found.matrix)
    loaded.merge(sums([(a[5:], b[5:])]))
    torch.testing.assert_close(loaded.matrix, pearson(a, b), atol=1e-12, rtol=0)


@pytest.mark.parametrize("device, free, kept", [("cuda", 40, "cuda"), ("cuda", 39, "cpu"), ("mps", 1000, "cpu"), ("cpu", 0, "cpu")])
def test_sums_for_which_a_gpu_has_no_room_stay_in_main_memory(device, free, kept, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10**12))
    assert home(torch.device(device), 20).type == kept


def test_published_similarity_is_the_batch_cosine_of_standardised_maps_and_is_not_pearson():
    a, b = maps(12, 3, (4, 4), 0), maps(12, 4, (7, 7), 1)
    a[:, 2] = 1.5  # never varies: 0 / 0 becomes 0
    batches = [slice(0, 4), slice(4, 8), slice(8, 12)]

    def standardised(x):
        spread = torch.stack([x[batch].var((0, 2, 3)) for batch in batches]).mean(0).sqrt()
        mean = torch.stack([x[batch].mean((0, 2, 3)) for batch in batches]).mean(0)
        return ((x - mean[:, None, None]) / spread[:, None, None]).nan_to_num()

    plain = 0
    for batch in batches:
        left, right = common(standardised(a)[batch], standardised(b)[batch])
        products = torch.einsum("naxy,nbxy->ab", left, right)
        lengths = torch.outer(left.square().sum((0, 2, 3)), right.square().sum((0, 2, 3))).sqrt()
        plain = plain + (products / lengths).nan_to_num() / 3
    units = Units("a", ("x",), (3,)), Units("b", ("y",), (4,))
    found = PublishedCorrelation(*units, a.mean((0, 2, 3)), b.mean((0, 2, 3)))
    for batch in batches:
        found.update([a[batch]], [b[batch]])
    torch.testing.assert_close(found.matrix, plain, atol=1e-12, rtol=0)
    assert (found.matrix - correlate_maps([(a, b)])).abs().max() > 0.01 and (found.matrix[2] == 0).all()


def test_wrong_maps_are_refused():
    a, b = maps(4, 3, (4, 4), 0), maps(4, 4, (6, 6), 1)
    with pytest.raises(ValueError, match="at least one batch"):
        correlate_maps([])
    with pytest.raises(ValueError, match="equally many images"):
        correlate_maps([(a, b[:2])])
    with pytest.raises(ValueError, match="need maps"):
        correlate_maps([(a, b), (a, b[:, :2])])
    with pytest.raises(ValueError, match="need maps"):
        correlate_maps([(a[0], b[0])])
    with pytest.raises(ValueError, match="changed their size"):
        correlate_maps([(a, b), (a, resize(b, (7, 7)))])
    for bad in (torch.nan, torch.inf):
        wrong = b.clone()
        wrong[1, 2, 0, 0] = bad
        with pytest.raises(ValueError, match="not finite"):
            correlate_maps([(a, wrong)])
    with pytest.raises(ValueError, match="no images"):
        _ = sums([]).matrix
    with pytest.raises(ValueError, match="different models"):
        sums([(a, b)]).merge(sums([(b, a)], 4, 3))
    with pytest.raises(ValueError, match="different size"):
        sums([(a, b)]).merge(sums([(a, resize(b, (7, 7)))]))
