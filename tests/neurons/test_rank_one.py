import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_clips import count_hooks, noise, tiny_model
from torch.utils.data import DataLoader, TensorDataset

import interp_utils as iu
from interp_utils import stream
from interp_utils.neurons import first_direction, fit, second_order, spread

CONVENTIONS = [("centered", False), ("centered", True), ("split", False), ("split", True)]


@pytest.fixture(scope="module")
def clip():
    return iu.Clip(tiny_model(layers=3).double())


@pytest.fixture(scope="module")
def images(clip):
    return TensorDataset(noise(clip, 20).double())


def plain_fit(effects, top):
    """The thesis's recipe, neuron by neuron, from all effects [images, M, E]."""
    mean = effects.mean(0)
    centred = effects - mean
    distances = centred.norm(dim=-1)
    directions, top_images, top_share = torch.zeros_like(mean), [], []
    for neuron in range(effects.shape[1]):
        best = sorted(range(len(effects)), key=lambda k: -distances[k, neuron].item())[:top]
        rows = centred[best, neuron]
        _, values, vectors = torch.linalg.svd(rows, full_matrices=False)
        along = (rows @ vectors[0]).tolist()
        more = sum(each > 0 for each in along) - len(along) / 2
        directions[neuron] = vectors[0] if (more or max(along, key=abs)) > 0 else -vectors[0]
        top_images.append(best)
        top_share.append(values[0] ** 2 / values.square().sum())
    top_images = torch.tensor(top_images).T
    return mean, directions, distances.gather(0, top_images), top_images, torch.stack(top_share)


def assert_same(fitted, mean, directions, top_norms, top_images, top_share):
    torch.testing.assert_close(fitted.mean, mean, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(fitted.directions, directions, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(fitted.top_norms, top_norms, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(fitted.thresholds, top_norms[-1], rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(fitted.top_share, top_share, rtol=1e-7, atol=1e-9)
    assert torch.equal(fitted.top_images, top_images)


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("ln,relative", CONVENTIONS)
def test_fit_equals_the_plain_recipe(clip, images, layer, ln, relative):
    order = second_order(clip, layer, ln, relative).fit(images, top=9, batch_size=8)
    effects = order.effects(images.tensors[0])
    assert_same(order.fitted, *plain_fit(effects, 9))
    torch.testing.assert_close(order.directions.norm(dim=1), torch.ones(clip.d_mlp, dtype=torch.double))
    assert order.thresholds is order.fitted.thresholds and order.mean is order.fitted.mean
    on = order.on(images.tensors[0]).less(order.fitted.centre)
    torch.testing.assert_close(on.along(order.fitted.lines), ((effects - order.mean) * order.directions).sum(-1))
    torch.testing.assert_close(on.vectors(), effects - effects.mean(0))


def test_of_fewer_images_than_top_all_count(clip, images):
    few = TensorDataset(images.tensors[0][:10])
    order = second_order(clip, 0).fit(few, top=100)
    assert order.fitted.top_norms.shape == (10, clip.d_mlp)
    assert_same(order.fitted, *plain_fit(order.effects(few.tensors[0]), 10))


@pytest.mark.parametrize("ln", ["centered", "split"])
def test_batches_loaders_and_company_do_not_matter(clip, images, ln, monkeypatch):
    alone = [second_order(clip, layer, ln).fit(images, top=9).fitted for layer in (0, 1)]
    together = [second_order(clip, layer, ln) for layer in (0, 1)]
    passes, encode = [], clip.encode_image
    monkeypatch.setattr(clip, "encode_image", lambda pixels: passes.append(len(pixels)) or encode(pixels))
    for kept, runs in ((None, 2), (stream.memory(images), 1)):
        fit(together, images, top=9, batch_size=5, kept=kept)
        assert passes == [5, 5, 5, 5] * runs, "once a batch for all layers; for both passes where memory holds the first"
        passes.clear()
    loaded = second_order(clip, 0, ln).fit(DataLoader(images, batch_size=4), top=9)
    for found, expected in [*zip((order.fitted for order in together), alone), (loaded.fitted, alone[0])]:
        fields = (expected.mean, expected.directions, expected.top_norms, expected.top_images, expected.top_share)
        assert_same(found, *fields)


def test_the_order_of_the_images_does_not_matter(clip, images):
    shuffle = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    first = second_order(clip, 0).fit(images, top=9).fitted
    again = second_order(clip, 0).fit(TensorDataset(images.tensors[0][shuffle]), top=9).fitted
    assert_same(again, first.mean, first.directions, first.top_norms, again.top_images, first.top_share)
    assert torch.equal(shuffle[again.top_images], first.top_images)


def test_a_neuron_that_writes_nothing_has_no_direction(images):
    still = iu.Clip(tiny_model(layers=3).double())
    still.visual.transformer.resblocks[0].mlp.c_proj.weight[:, 3] = 0
    order = second_order(still, 0).fit(images, top=9)
    assert not order.directions[3].any() and not order.mean[3].any() and order.thresholds[3] == 0
    assert order.fitted.top_share[3] == 0
    numbers = spread(order, images)
    for values in (order.directions, order.fitted.top_share, numbers.along, numbers.share, numbers.participation):
        assert values.isfinite().all()
    torch.testing.assert_close(order.directions.norm(dim=1).sum(), torch.tensor(still.d_mlp - 1.0, dtype=torch.double))


@pytest.mark.parametrize("ln,relative", CONVENTIONS)
def test_spread_is_that_of_the_plain_covariance(clip, images, ln, relative):
    order = second_order(clip, 0, ln, relative).fit(images, top=9)
    others = noise(clip, 30, seed=5).double()
    numbers = spread(order, TensorDataset(others), batch_size=7)
    effects = order.effects(others) - order.on(others).residue[:, None]
    centred = (effects - effects.mean(0)).movedim(0, 1)
    values = torch.linalg.eigvalsh(centred.mT @ centred / len(others))
    along = torch.einsum("nbE,nE->nb", centred, order.directions).square().mean(1)
    torch.testing.assert_close(numbers.share, (values[:, -1] / values.sum(1)).float())
    torch.testing.assert_close(numbers.along, (along / values.sum(1)).float())
    torch.testing.assert_close(numbers.participation, (values.sum(1) ** 2 / values.square().sum(1)).float())
    assert numbers.rank == len(order.heads) == 8 and (values[:, :-8] < 1e-9 * values[:, -1:]).all()
    assert (numbers.along <= numbers.share + 1e-6).all() and (numbers.share <= 1).all()
    assert (numbers.participation >= 1).all() and (numbers.participation <= numbers.rank).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 12))
def test_first_direction_is_the_first_singular_vector_with_the_majority_sign(seed, n, width):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(3, n, width, dtype=torch.double, generator=generator) + torch.randn(3, 1, width, generator=generator)
    direction, share = first_direction(rows)
    _, values, vectors = torch.linalg.svd(rows, full_matrices=False)
    torch.testing.assert_close(share, values[:, 0] ** 2 / values.square().sum(1))
    torch.testing.assert_close(direction.norm(dim=1), torch.ones(3, dtype=torch.double))
    torch.testing.assert_close((rows @ direction[..., None]).norm(dim=1)[:, 0], values[:, 0], rtol=1e-6, atol=1e-8)
    for along in (rows @ direction[..., None])[..., 0].tolist():
        more = 2 * sum(each > 0 for each in along) - n
        assert more > 0 or (more == 0 and max(along, key=abs) > 0)
    torch.testing.assert_close(first_direction(-rows)[0], -direction, rtol=1e-6, atol=1e-6)
    turn, _ = torch.linalg.qr(torch.randn(width, width, dtype=torch.double, generator=generator))
    turned, same = first_direction(7 * rows @ turn)
    torch.testing.assert_close(same, share)
    if n == 1 or width == 1 or (values[:, 0] > 1.01 * values[:, 1]).all():  # else the direction itself is uncertain
        torch.testing.assert_close(turned, direction @ turn, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 5, 9), (1, 9, 5), (1, 5, 5)])
def test_rows_of_zeros_have_no_direction(shape):
    rows = torch.cat([torch.zeros(shape), torch.ones(shape)])
    direction, share = first_direction(rows)
    assert not direction[0].any() and share[0] == 0
    torch.testing.assert_close(direction[1], torch.full(shape[2:], shape[2] ** -0.5))
    assert share[1].item() == pytest.approx(1)


def test_unlike_layers_are_not_fitted_together(clip, images):
    for other in (
        second_order(clip, 1, "split"),
        second_order(clip, 1, relative=True),
        second_order(iu.Clip(tiny_model(layers=3).double()), 1),
    ):
        with pytest.raises(ValueError, match="of one model, with the same ln and relative"):
            fit([second_order(clip, 0), other], images)
    with pytest.raises(ValueError, match="k must be at least 1"):
        second_order(clip, 0).fit(images, top=0)
    with pytest.raises(ValueError, match="no images"):
        second_order(clip, 0).fit(TensorDataset(images.tensors[0][:0]))
    with pytest.raises(RuntimeError, match="call fit"):
        spread(second_order(clip, 0), images)


def test_what_is_not_finite_is_named_and_leaves_no_hooks(images):
    broken = iu.Clip(tiny_model(layers=3).double())
    pixels = images.tensors[0].clone()
    pixels[13, 0, 4, 4] = float("nan")
    with pytest.raises(ValueError, match="pixels must be finite"):
        second_order(broken, 0).fit(TensorDataset(pixels), batch_size=6)
    broken.visual.transformer.resblocks[1].mlp.c_fc.weight[5, 5] = float("nan")
    order = second_order(broken, 0)
    with pytest.raises(ValueError, match="not finite"):
        order.fit(images)
    assert count_hooks(broken.model) == 0 and order.fitted is None


def test_equal_images_give_no_direction_at_all():
    """In single precision, and in batches of different size, equal images differ by rounding: that is no spread."""
    clip = iu.Clip(tiny_model(layers=3))
    same = TensorDataset(noise(clip, 1).expand(21, -1, -1, -1))
    for ln, relative in CONVENTIONS:
        order = second_order(clip, 1, ln, relative).fit(same, top=9, batch_size=8)
        assert (order.directions == 0).all() and (order.fitted.top_share == 0).all() and order.mean.norm() > 0
        found = spread(order, same, batch_size=5)
        assert all((part == 0).all() for part in (found.along, found.share, found.participation))
