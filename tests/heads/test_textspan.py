import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import textspan as plain
from small_clips import noise, real_clip, tiny_clip

import interp_utils as iu
from interp_utils.heads import HeadMoments, head_moments, reconstruction_accuracy, textspan, top_images
from interp_utils.moments import Moments, Rows
from interp_utils.stream import feed


def example(seed, n=60, width=12, rank=8, pool=30):
    generator = torch.Generator().manual_seed(seed)
    spread = torch.logspace(0, -1.5, rank)[:, None] * torch.randn(rank, width, generator=generator)
    c = torch.randn(n, rank, generator=generator) @ spread + 0.3 * torch.randn(1, rank, generator=generator) @ spread
    return c, torch.nn.functional.normalize(torch.randn(pool, width, generator=generator), dim=-1)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([None, 3, 6, 8]))
def test_equals_algorithm_1_in_data_space(seed, rank):
    c, texts = example(seed)
    span = textspan(c, texts, [str(k) for k in range(30)], size=6, rank=rank)
    picks, projected = plain.textspan(c.double(), texts.double(), 6, rank)
    assert span.indices == picks[: len(span.indices)] and len(span.indices) == min(6, rank or 8)
    torch.testing.assert_close(span.reconstruct(c.double()) - c.double().mean(0), projected, atol=1e-6, rtol=1e-6)
    share = projected.square().sum() / (c - c.mean(0)).square().sum()
    assert span.explained.sum().item() == pytest.approx(share.item(), abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_smaller_sizes_are_prefixes_and_the_basis_is_orthonormal(seed):
    c, texts = example(seed)
    names = [str(k) for k in range(30)]
    long, short = textspan(c, texts, names, 20), textspan(c, texts, names, 3)
    assert long.texts[:3] == short.texts and len(long.texts) == 8, "eight texts span the eight dimensions of the head"
    torch.testing.assert_close(long.directions @ long.directions.T, torch.eye(8, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(long.reconstruct(c), c, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(long.reconstruct(c, 3), short.reconstruct(c))
    assert long.explained.sum().item() == pytest.approx(1, abs=1e-6)


def test_a_known_head_is_named():
    """A head that writes two of the texts' directions, one three times as strongly, is described by these two."""
    texts = torch.nn.functional.normalize(torch.randn(40, 16, generator=torch.Generator().manual_seed(0)), dim=-1)
    signal = torch.randn(500, 2, generator=torch.Generator().manual_seed(1)) * torch.tensor([3.0, 1.0])
    span = textspan(signal @ texts[[7, 21]], texts, [f"text {k}" for k in range(40)], size=10)
    assert span.texts[0] == "text 7" and len(span.texts) == 2 and span.explained.sum() > 0.999
    second = textspan(signal @ texts[[7, 21]], texts, [f"text {k}" for k in range(40)], size=10, normalised=True)
    assert second.explained[0] >= span.explained[0], "the normalised criterion is the explained variance itself"


def test_equal_texts_are_picked_once_and_a_still_head_has_none():
    c, texts = example(0)
    span = textspan(c, torch.cat([texts, texts]), [str(k) for k in range(60)], 12)
    assert len({k % 30 for k in span.indices}) == len(span.indices)
    still = textspan(torch.ones(5, 12), texts, [str(k) for k in range(30)], 4)
    assert still.texts == [] and torch.allclose(still.reconstruct(torch.ones(2, 12)), torch.ones(2, 12))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(1e-12, 1e12), st.sampled_from([torch.float32, torch.float64]))
def test_a_head_that_writes_the_same_for_all_images_gets_no_text(seed, scale, dtype):
    """Whatever it writes, at any scale, and also where it writes the same only up to rounding."""
    generator = torch.Generator().manual_seed(seed)
    _, texts = example(seed)
    row = (scale * torch.randn(12, generator=generator, dtype=torch.float64)).to(dtype)
    rounding = 1 + torch.finfo(dtype).eps * torch.randint(-2, 3, (50, 12), generator=generator)
    for rows in (row.expand(50, 12), row * rounding):
        for normalised in (False, True):
            span = textspan(rows, texts, [str(k) for k in range(30)], 6, normalised=normalised)
            assert span.texts == [] and len(span.explained) == 0 and span.directions.shape == (0, 12)
            torch.testing.assert_close(span.reconstruct(rows[:2]), rows[:2], atol=0, rtol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1e-20, 1e-6, 1.0, 1e9]))
def test_neither_scale_nor_mean_nor_length_of_texts_decides(seed, scale):
    c, texts = example(seed)
    c, names = c.double(), [str(k) for k in range(30)]
    span = textspan(c - c.mean(0), texts, names, 5)
    assert textspan(scale * (c - c.mean(0)), texts, names, 5).indices == span.indices
    assert textspan(c - c.mean(0), scale * texts, names, 5).indices == span.indices
    assert (span.explained > 0).all() and span.explained.sum() <= 1 + 1e-9
    away = 1e7 * c.std() * torch.nn.functional.normalize((c - c.mean(0))[0], dim=0)  # within what the head spans
    far = textspan(c - c.mean(0) + away, texts, names, 5)
    assert far.indices == span.indices
    torch.testing.assert_close(far.explained, span.explained, atol=1e-4, rtol=1e-4)


def test_texts_beyond_what_a_head_writes_are_not_picked():
    generator = torch.Generator().manual_seed(0)
    c = torch.zeros(50, 12)
    c[:, :4] = torch.randn(50, 4, generator=generator)
    texts = torch.zeros(9, 12)
    texts[:, 4:] = torch.randn(9, 8, generator=generator)
    assert textspan(c, texts, list("abcdefghi"), 5).texts == []
    texts[2, 0] = 1
    assert textspan(c, texts, list("abcdefghi"), 5).texts == ["c"]


def test_bad_input():
    c, texts = example(0)
    names = [str(k) for k in range(30)]
    for wrong in (-3, 0, 2.0, True):
        with pytest.raises(ValueError, match="size must be .*at least 1, got"):
            textspan(c, texts, names, size=wrong)
        with pytest.raises(ValueError, match="rank must be .*at least 1, got"):
            textspan(c, texts, names, rank=wrong)
    span = textspan(c, texts, names, 4)
    with pytest.raises(ValueError, match="size must be at least 0, got -1"):
        span.reconstruct(c, -1)
    torch.testing.assert_close(span.reconstruct(c, 0), c.mean(0).expand_as(c))
    with pytest.raises(ValueError, match="got 0 texts"):
        textspan(c, texts[:0], [])
    with pytest.raises(ValueError, match="got 2 texts, 30 features"):
        textspan(c, texts, ["a", "b"])
    with pytest.raises(ValueError, match="not finite"):
        textspan(c, texts * float("nan"), [str(k) for k in range(30)])
    with pytest.raises(ValueError, match="not finite"):
        textspan(c * float("inf"), texts, [str(k) for k in range(30)])


@pytest.fixture(scope="module")
def small():
    clip = tiny_clip()
    images = [(image, k % 5) for k, image in enumerate(noise(clip, 40))]
    generator = torch.Generator().manual_seed(3)
    return clip, images, torch.randn(25, clip.d_embed, generator=generator), torch.randn(5, clip.d_embed, generator=generator)


@pytest.mark.parametrize("ln", ["centered", "split"])
def test_streamed_moments_are_those_of_the_data(small, ln):
    clip, images, texts, _ = small
    rows = Rows()
    feed(clip, images, [(rows, lambda b: (b.heads, b.numbers))], ln=ln)
    moments = head_moments(clip, images, ln=ln, batch_size=7)
    for (layer, head), seen in moments.items():
        data = HeadMoments.of(rows.rows[:, layer, head])
        torch.testing.assert_close(seen.mean @ seen.basis, data.mean, atol=1e-6, rtol=1e-4)
        assert data.basis is None and seen.basis.shape == (seen.second.shape[0], clip.d_embed)
        torch.testing.assert_close(seen.basis.T @ seen.second @ seen.basis, data.second, atol=1e-6, rtol=1e-4)
        names = [str(k) for k in range(25)]
        assert textspan(seen, texts, names, 4).texts == textspan(data, texts, names, 4).texts
        assert seen.second.shape[0] < clip.d_embed
    assert list(head_moments(clip, images, [1])) == [(1, head) for head in range(4)]


@pytest.mark.parametrize("keep_mlps", [False, True])
def test_reconstruction_accuracy_by_hand(small, keep_mlps):
    clip, images, texts, classifier = small
    names = [str(k) for k in range(25)]
    spans = {h: textspan(m, texts, names, 6) for h, m in head_moments(clip, images, [1]).items()}
    found = reconstruction_accuracy(clip, images, classifier, {"pool": spans}, [2, 6], keep_mlps)["pool"]
    if not keep_mlps:  # the mean of the rest is what the mean representation leaves over
        mean = iu.stream.collect(clip, images, lambda batch: batch.representation).mean(0)
        assert reconstruction_accuracy(clip, images, classifier, {"pool": spans}, [2, 6], mean=mean)["pool"] == found
    fx = iu.heads.direct_effects(clip, torch.stack([image for image, _ in images]))
    length = fx.total().norm(dim=1)
    heads, layers = fx.heads([1])[:, 0] / length[:, None, None], fx.layers() / length[:, None, None]
    kept = layers[:, [0, 2, 4]].sum(1) if keep_mlps else 0
    rest = layers.sum(1) - heads.sum(1) - kept
    for size, accuracy in zip([2, 6], found):
        replaced = sum(spans[1, k].reconstruct(heads[:, k], size) for k in range(4))
        guess = ((replaced + rest.mean(0) + kept) @ classifier.T).argmax(1)
        assert accuracy == pytest.approx((guess == torch.arange(40) % 5).float().mean().item(), abs=1e-6)


def test_reconstruction_refuses_what_it_cannot_score(small):
    clip, images, texts, classifier = small
    spans = {"pool": {(1, 0): textspan(head_moments(clip, images, [1])[1, 0], texts, [str(k) for k in range(25)], 3)}}
    for sizes in ([], [6, 2], [0, 1]):
        with pytest.raises(ValueError, match="sizes must rise"):
            reconstruction_accuracy(clip, images, classifier, spans, sizes)
    with pytest.raises(ValueError, match="leave mean out"):
        reconstruction_accuracy(clip, images, classifier, spans, [2], keep_mlps=True, mean=torch.zeros(24))
    with pytest.raises(ValueError, match="label 4, but the classifier has 3"):
        reconstruction_accuracy(clip, images, classifier[:3], spans, [2])
    with pytest.raises(ValueError, match="same heads"):
        reconstruction_accuracy(clip, images, classifier, {**spans, "other": {}}, [2])


def test_all_texts_of_all_heads_rebuild_the_representation(small):
    """With every head of every layer at its numerical rank, and MLPs kept, nothing is lost."""
    clip, images, _, classifier = small
    texts = torch.randn(60, clip.d_embed, generator=torch.Generator().manual_seed(5))
    spans = {h: textspan(m, texts, [str(k) for k in range(60)], 24) for h, m in head_moments(clip, images).items()}
    labels = (clip.encode_image(torch.stack([image for image, _ in images])) @ classifier.T).argmax(1).tolist()
    relabelled = [(image, label) for (image, _), label in zip(images, labels)]
    assert reconstruction_accuracy(clip, relabelled, classifier, {"p": spans}, [24], keep_mlps=True)["p"][0] >= 0.97


def test_top_images_by_hand(small):
    clip, images, texts, _ = small
    spans = {h: textspan(m, texts, [str(k) for k in range(25)], 3) for h, m in head_moments(clip, images, [0]).items()}
    best = top_images(clip, images, spans, texts, k=4, batch_size=9)
    fx = iu.heads.direct_effects(clip, torch.stack([image for image, _ in images]))
    heads = fx.heads() / fx.total().norm(dim=1)[:, None, None, None]
    for (layer, head), numbers in best.items():
        scores = heads[:, layer, head] @ texts[spans[layer, head].indices].T
        assert torch.equal(numbers, scores.argsort(0, descending=True)[:4])


def test_mean_of_moments_needs_no_second():
    mean = Moments()
    mean.update(torch.ones(2, 3))
    assert mean.mean.tolist() == [1, 1, 1]


@pytest.mark.parametrize("ln", ["centered", "split"])
def test_on_a_real_architecture(ln):
    """ViT-B-32: 66 coordinates a head instead of 512 dimensions, the same picks as from the outputs themselves."""
    clip = real_clip("ViT-B-32", 3)
    images, names = list(noise(clip, 24)), [str(k) for k in range(40)]
    texts = torch.nn.functional.normalize(torch.randn(40, clip.d_embed, generator=torch.Generator().manual_seed(0)), dim=-1)
    rows = Rows()
    feed(clip, images, [(rows, lambda b: (b.heads[:, 2, 3], b.numbers))], ln=ln, batch_size=12)
    seen = head_moments(clip, images, [2], ln=ln, batch_size=12)[2, 3]
    assert seen.second.shape[0] == clip.d_head + (1 if ln == "centered" else 3)
    from_data, from_moments = (textspan(source, texts, names, 8) for source in (rows.rows, seen))
    assert from_data.indices == from_moments.indices == plain.textspan(rows.rows.double(), texts.double(), 8)[0]
