import numpy as np
import pytest
import torch
from reference import direct_effects as plain
from small_clips import count_hooks, noise, real_clip, tiny_model

import interp_utils as iu
from interp_utils.heads import direct_effects
from interp_utils.hooks import edited_blocks, edited_neurons, forward_hooks
from interp_utils.hooks.interventions import extra_token

REAL = {"ViT-B-32-quickgelu": 4, "ViT-B-16": 2, "ViT-L-14": 2, "ViT-H-14": 2}  # layers that are built, of 12, 24 and 32


def relative(a, b):
    return ((a - b).norm() / b.norm()).item()


@pytest.mark.parametrize("name,n_layers", REAL.items())
def test_sums_to_the_representation_on_real_architectures(name, n_layers):
    clip = real_clip(name, n_layers)
    for dtype, bound in ((torch.float32, 1e-5), (torch.float64, 1e-10)):
        clip.model.to(dtype)
        pixels = noise(clip, n=1).to(dtype)
        expected = clip.encode_image(pixels)
        for ln in ("centered", "split"):
            fx = direct_effects(clip, pixels, ln)
            layers, heads = fx.layers(), fx.heads()
            assert layers.shape == (1, 2 * n_layers + 1, clip.d_embed)
            assert heads.shape == (1, n_layers, clip.n_heads, clip.d_embed)
            assert relative(fx.total(), expected) < bound
            assert relative(heads.sum(2), layers[:, 1::2]) < bound
            assert relative(heads.sum((1, 2)) + layers[:, 0::2].sum(1), expected) < bound
            if dtype == torch.float32:
                tokens = fx.tokens()
                assert tokens.shape == (1, clip.grid[0] * clip.grid[1] + 1, clip.d_embed)
                assert relative(tokens.sum(1), heads.sum((1, 2))) < bound
                assert relative(fx.head_tokens(1, 2).sum(1), heads[:, 1, 2]) < bound


@pytest.mark.parametrize("precision,bound", [("fp32", 1e-5), ("fp64", 1e-10)])
def test_sums_to_the_representation_on_the_sandbox(precision, bound):
    sandbox = iu.load_clip("sandbox", device="cpu", precision=precision)
    pixels = torch.stack([iu.sandbox.to_pixels(iu.sandbox.render(seed).pixels) for seed in range(8)])
    expected = sandbox.encode_image(pixels)
    for ln in ("centered", "split"):
        fx = direct_effects(sandbox, pixels, ln)
        others = fx.layers()[:, 0::2].sum(1)
        assert relative(fx.total(), expected) < bound
        assert relative(fx.heads().sum((1, 2)) + others, expected) < bound
        assert relative(fx.tokens().sum(1) + others, expected) < bound


@pytest.mark.parametrize("ln", ["centered", "split"])
@pytest.mark.parametrize("vision", [{}, {"ls_init_value": 0.5}, {"no_ln_pre": True}, {"layers": 3, "width": 48, "head_width": 12}])
def test_every_view_equals_brute_force(ln, vision):
    clip = iu.Clip(tiny_model(**vision).double())
    pixels = noise(clip, n=3).double()
    heads, others = plain.effects(clip, pixels, ln)
    fx = direct_effects(clip, pixels, ln)
    torch.testing.assert_close(fx.heads(), heads.sum(3))
    torch.testing.assert_close(fx.heads([1]), heads.sum(3)[:, [1]])
    torch.testing.assert_close(plain.head_effects(clip, pixels, ln), (heads.sum(3), others))
    torch.testing.assert_close(fx.tokens(), heads.sum((1, 2)))
    torch.testing.assert_close(fx.layers()[:, 1::2], heads.sum((2, 3)))
    torch.testing.assert_close(fx.layers()[:, 0::2], others)
    for layer in range(clip.n_layers):
        for head in range(clip.n_heads):
            torch.testing.assert_close(fx.head_tokens(layer, head), heads[:, layer, head])
    text = torch.randn(5, clip.d_embed, dtype=torch.float64)
    own = {(0, 1): text[:2], (1, 3): text[2:], (1, 0): text[1:]}
    for (layer, head), found in fx.head_token_scores(own).items():
        torch.testing.assert_close(found, heads[:, layer, head] @ own.pop((layer, head)).T)
    assert not own, "a head that was asked for and not scored"
    torch.testing.assert_close(fx.scores(text, over="head_token"), heads @ text.T)
    torch.testing.assert_close(fx.scores(text, over="token"), heads.sum((1, 2)) @ text.T)
    torch.testing.assert_close(fx.scores(text, over="head"), heads.sum(3) @ text.T)
    torch.testing.assert_close(fx.scores(text, over="layer"), fx.layers() @ text.T)


def test_head_tokens_equal_brute_force_on_a_real_architecture():
    clip = real_clip("ViT-B-32-quickgelu")
    pixels = noise(clip, n=1)
    heads, _ = plain.effects(clip, pixels, "centered")
    fx = direct_effects(clip, pixels)
    for layer, head in ((0, 0), (5, 11), (11, 3)):
        assert relative(fx.head_tokens(layer, head), heads[:, layer, head]) < 1e-5
    text = torch.randn(2, clip.d_embed)
    assert relative(fx.scores(text, over="head_token"), heads @ text.T) < 1e-5


def test_images_of_a_batch_do_not_mix(tiny):
    pixels = noise(tiny, n=4)
    together = direct_effects(tiny, pixels).heads()
    alone = torch.cat([direct_effects(tiny, image[None]).heads() for image in pixels])
    torch.testing.assert_close(together, alone)


def test_attention_is_a_distribution(tiny):
    attention = direct_effects(tiny, noise(tiny)).attention
    assert attention.min() >= 0
    torch.testing.assert_close(attention.sum(-1), torch.ones(2, tiny.n_layers, tiny.n_heads))


@pytest.mark.parametrize("dtype,bound", [(torch.bfloat16, 0.05), (torch.float16, 0.005)])
def test_half_precision_models(dtype, bound):
    clip = iu.Clip(tiny_model().to(dtype))
    pixels = noise(clip)
    fx = direct_effects(clip, pixels)
    assert relative(fx.total(), clip.encode_image(pixels).float()) < bound
    assert fx.heads().dtype == torch.float32
    assert relative(fx.tokens().sum(1), fx.heads().sum((1, 2))) < 1e-2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype,bound", [(torch.float32, 1e-4), (torch.bfloat16, 0.05), (torch.float16, 0.005)])
def test_on_a_gpu(dtype, bound):
    clip = iu.Clip(tiny_model().to("cuda", dtype))
    fx = direct_effects(clip, noise(clip))
    assert fx.heads().device.type == "cuda"
    assert relative(fx.total(), clip.encode_image(noise(clip)).float()) < bound


def test_nothing_is_left_hooked(tiny):
    direct_effects(tiny, noise(tiny)).tokens()
    assert count_hooks(tiny.model) == 0
    broken = tiny.model.visual.transformer.resblocks[1].mlp
    original, broken.forward = broken.forward, lambda x: (_ for _ in ()).throw(RuntimeError("boom"))
    with pytest.raises(RuntimeError, match="boom"):
        direct_effects(tiny, noise(tiny))
    assert count_hooks(tiny.model) == 0
    broken.forward = original
    direct_effects(tiny, noise(tiny))


def add_up(fx):
    whole, read_out = fx.heads().sum((1, 2)), torch.eye(fx.clip.d_embed)
    torch.testing.assert_close(fx.tokens().sum(1), whole)
    torch.testing.assert_close(fx.scores(read_out, over="token").sum(1), whole)
    torch.testing.assert_close(fx.scores(read_out, over="head_token").sum((1, 2, 3)), whole)
    torch.testing.assert_close(fx.head_tokens(1, 2).sum(1), fx.heads()[:, 1, 2])
    torch.testing.assert_close(fx.head_token_scores({(1, 2): read_out})[1, 2].sum(1), fx.heads()[:, 1, 2])
    return whole + fx.layers()[:, 0::2].sum(1)


def refuses(fx, *more):
    text = torch.eye(fx.clip.d_embed)
    views = [
        fx.tokens,
        lambda: fx.head_tokens(1, 2),
        lambda: fx.head_token_scores({(1, 2): text}),
        lambda: fx.scores(text, "token"),
        lambda: fx.scores(text, "head_token"),
    ]
    for view in (*views, *more):
        with pytest.raises(RuntimeError, match="no longer add up: read them under the same edits and with the same weights"):
            view()


def test_effects_own_their_pixels(tiny):
    buffer = noise(tiny)
    expected = tiny.encode_image(buffer)
    fx = direct_effects(tiny, buffer)
    buffer.normal_()
    torch.testing.assert_close(add_up(fx), expected)


def anyones_hook(clip):
    return forward_hooks([(clip.visual.transformer.resblocks[0].ls_2, lambda module, args, output: 2 * output)])


@pytest.mark.parametrize("edit", [lambda clip: edited_neurons(clip, 0, torch.zeros_like), extra_token, anyones_hook])
def test_effects_are_of_the_model_as_it_was_when_they_were_made(tiny, edit):
    before = direct_effects(tiny, noise(tiny))
    with edit(tiny):
        inside, expected = direct_effects(tiny, noise(tiny)), tiny.encode_image(noise(tiny))
        torch.testing.assert_close(add_up(inside), expected)
        refuses(before)
    refuses(inside)
    torch.testing.assert_close(inside.total(), expected)  # what was recorded stays
    torch.testing.assert_close(add_up(before), tiny.encode_image(noise(tiny)))


def test_edits_of_what_attention_writes_have_no_heads_to_share_them(tiny):
    for edit in (lambda inputs, output: 0 * output, lambda inputs, output: output + 1):
        with edited_blocks(tiny, {1: edit}, {}), pytest.raises(RuntimeError, match="an edit changes what its attention writes"):
            direct_effects(tiny, noise(tiny))
    with edited_blocks(tiny, {}, {1: torch.zeros_like}):
        torch.testing.assert_close(direct_effects(tiny, noise(tiny)).total(), tiny.encode_image(noise(tiny)))


def test_the_last_mlp_serves_the_class_token_alone_unless_another_hook_looks(tiny):
    last, seen = tiny.visual.transformer.resblocks[-1], []
    layer_norm, forward = last.ln_2, last.ln_2.forward
    layer_norm.forward = lambda x: seen.append(list(x.shape)) or forward(x)
    alone = direct_effects(tiny, noise(tiny))
    assert seen == [[2, 1, 32]]
    with forward_hooks([(last, lambda module, args, output: seen.append(list(output.shape)))]):
        torch.testing.assert_close(direct_effects(tiny, noise(tiny)).layers(), alone.layers())
    assert seen[-2:] == [[2, 17, 32], [2, 17, 32]]
    iu.hooks.record_neurons(tiny, tiny.pixels(noise(tiny)), [0])
    iu.hooks.record_neurons(tiny, tiny.pixels(noise(tiny)), [1])
    assert seen[-2:] == [[2, 1, 32], [2, 17, 32]], "of the last layer's neurons all are asked for"
    with iu.hooks.neurons.neurons_recorded(tiny, [0]), forward_hooks([(last, lambda *_: None)]):
        tiny.encode_image(noise(tiny))
    assert seen[-1] == [2, 17, 32], "whoever runs the model may look there"


@pytest.mark.parametrize("part", ["in_proj_weight", "out_proj.weight"])
def test_effects_of_a_model_that_was_trained_since_are_refused(tiny, part):
    fx, expected = direct_effects(tiny, noise(tiny)), tiny.encode_image(noise(tiny))
    with torch.no_grad():
        for block in tiny.visual.transformer.resblocks:
            block.attn.get_parameter(part).mul_(1.5)
    refuses(fx, *([fx.heads] if part == "out_proj.weight" else []))
    torch.testing.assert_close(fx.total(), expected)


def test_the_model_is_untouched(tiny):
    before = tiny.encode_image(noise(tiny))
    weights = {name: value.clone() for name, value in tiny.model.state_dict().items()}
    fx = direct_effects(tiny, noise(tiny))
    fx.scores(torch.randn(2, tiny.d_embed), over="head_token")
    assert torch.equal(tiny.encode_image(noise(tiny)), before)
    assert all(torch.equal(value, weights[name]) for name, value in tiny.model.state_dict().items())


def test_bad_input_says_what_to_do(tiny):
    good = noise(tiny)
    with pytest.raises(ValueError, match=r"need pixels of shape \[B, 3, 32, 32\], got \[2, 3, 32, 31\]"):
        direct_effects(tiny, good[..., :-1])
    with pytest.raises(ValueError, match="need pixels of shape"):
        direct_effects(tiny, good[:0])
    good[0, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="finite"):
        direct_effects(tiny, good)
    with pytest.raises(ValueError, match="finite"):
        direct_effects(tiny, torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    with pytest.raises(ValueError, match="'centered' or 'split'"):
        direct_effects(tiny, noise(tiny), ln="none")
    fx = direct_effects(tiny, noise(tiny))
    with pytest.raises(IndexError, match="no head L2H0"):
        fx.head_tokens(2, 0)
    with pytest.raises(ValueError, match="over must be"):
        fx.scores(torch.randn(1, tiny.d_embed), over="neuron")
    for text in (torch.randn(1, 5), torch.randn(0, tiny.d_embed)):
        with pytest.raises(ValueError, match="need text features"):
            fx.scores(text)
