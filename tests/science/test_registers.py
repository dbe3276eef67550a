import pytest
import torch
from small_clips import count_hooks, noise, tiny_model

import interp_utils as iu
from interp_utils import science
from interp_utils.hooks import visit_neurons


@pytest.fixture(scope="module")
def pixels():
    return torch.stack([iu.sandbox.to_pixels(iu.sandbox.render(seed).pixels) for seed in range(40)])


@pytest.fixture(scope="module")
def planted(sandbox, pixels):
    return science.plant_outliers(sandbox, pixels, 2, 11, 16 * patches(sandbox, pixels, 2).median().item())


def patches(clip, pixels, layer=-2):
    return science.token_norms(clip, pixels)[:, layer, 1 : 1 + clip.grid[0] * clip.grid[1]]


def test_norms_are_those_of_the_streams():
    clip = iu.Clip(tiny_model(layers=3))
    x = clip.visual._embeds(noise(clip))
    for layer, block in enumerate(clip.visual.transformer.resblocks):
        x = block(x)
        torch.testing.assert_close(science.token_norms(clip, noise(clip))[:, layer], x.norm(dim=-1))


def test_planted_outliers_are_few_long_and_on_flat_patches(sandbox, planted, pixels):
    before, after = patches(sandbox, pixels), patches(planted, pixels)
    outlier = after > 3 * after.median()
    assert not (before > 3 * before.median()).any() and after.max() > 10 * after.median()
    assert 0.01 < outlier.float().mean() < 0.1
    contrast = torch.nn.functional.unfold(pixels, 8, stride=8).var(1)
    assert contrast[outlier].mean() < 0.3 * contrast[~outlier].mean()
    assert torch.equal(sandbox.encode_image(pixels[:2]), iu.load_clip("sandbox", "cpu").encode_image(pixels[:2])), (
        "a copy was changed"
    )


def test_the_search_finds_the_planted_neuron(sandbox, planted, pixels):
    bar = 3 * patches(planted, pixels).median().item()
    found = science.register_neurons(planted, pixels, bar, 8, top=5)
    assert (2, 11) in [neuron for neuron, _ in found] and len(found) == 5, "later neurons that read the long tokens are active too"
    assert science.register_neurons(planted, pixels, bar, 2, top=1)[0][0] == (2, 11), "no neuron reads them before"
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
    with pytest.raises(ValueError, match="no patch token leaves layer 8"):
        science.register_neurons(sandbox, pixels, 3 * patches(sandbox, pixels).median().item(), 8)


def test_the_score_is_the_mean_activation_on_the_outliers():
    clip = iu.Clip(tiny_model(layers=3))
    images, activations = noise(clip, 4), {}
    bar = patches(clip, images, 1).quantile(0.1).item()
    assert (science.token_norms(clip, images)[:, 1, 0] > bar).any(), "so that leaving the class token out matters"
    visit_neurons(clip, images, activations.__setitem__, [0, 1])
    where = (patches(clip, images, 1) > bar).nonzero()
    expected = {
        (layer, n): torch.stack([activations[layer][b, 1 + i, n].abs() for b, i in where]).mean().item()
        for layer in (0, 1)
        for n in range(clip.d_mlp)
    }
    best = sorted(expected, key=expected.get, reverse=True)[:6]
    found = science.register_neurons(clip, images, bar, 1, top=6)
    assert [neuron for neuron, _ in found] == best
    assert found[0][1] == pytest.approx(expected[best[0]], rel=1e-4)


def test_a_register_takes_the_activation_and_leaves_the_rest():
    clip, seen = iu.Clip(tiny_model(layers=2)), {}
    images = noise(clip)
    visit_neurons(clip, images, lambda layer, p: seen.update(intact=p.clone()), [0])
    with science.register_token(clip):
        visit_neurons(clip, images, lambda layer, p: seen.update(empty=p.clone()), [0])
    with science.register_token(clip, [(0, 3), (0, 8)]):
        visit_neurons(clip, images, lambda layer, p: seen.update(moved=p.clone()), [0])
    empty, moved = seen["empty"], seen["moved"]
    assert empty.shape[1] == moved.shape[1] == seen["intact"].shape[1] + 1
    others = [n for n in range(clip.d_mlp) if n not in (3, 8)]
    torch.testing.assert_close(moved[..., others], empty[..., others])
    torch.testing.assert_close(moved[:, 0], empty[:, 0])
    assert (moved[:, 1:-1, [3, 8]] == 0).all()
    torch.testing.assert_close(moved[:, -1, [3, 8]], empty[:, 1:-1, [3, 8]].amax(1))
    assert count_hooks(clip.model) == 0


def test_hooks_are_gone_after_an_exception():
    clip = iu.Clip(tiny_model())
    with pytest.raises(RuntimeError, match="stop"), science.register_token(clip, [(0, 1)]):
        raise RuntimeError("stop")
    assert count_hooks(clip.model) == 0


def test_a_register_takes_the_outliers_off_the_patches(sandbox, planted, pixels):
    before, intact = patches(planted, pixels), patches(sandbox, pixels)
    with science.register_token(planted, [(2, 11)]):
        norms = science.token_norms(planted, pixels)[:, -2]
        total, effects = planted.encode_image(pixels), iu.heads.direct_effects(planted, pixels).total()
    assert norms[:, 1:-1].max() < 1.2 * intact.max() < 0.3 * before.max()
    had = (before > 3 * before.median()).any(1)
    assert norms[had, -1].mean() > 5 * norms[:, 1:-1].median() > 3 * norms[~had, -1].mean(), "the norm went into the register"
    torch.testing.assert_close(effects, total, atol=1e-4, rtol=1e-4)
    true, spoilt = sandbox.encode_image(pixels), planted.encode_image(pixels)
    assert (total - true).norm() < 0.95 * (spoilt - true).norm(), "the representation is closer to the intact one"
