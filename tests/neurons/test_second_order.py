import open_clip
import pytest
import torch
from reference.second_order import effects
from small_clips import count_hooks, noise, real_clip, tiny_model

import interp_utils as iu
from interp_utils.neurons import SecondOrder, curve_layers, late_layers, second_order


def relative(a, b):
    return ((a - b).norm() / b.norm()).item()


@pytest.mark.parametrize("ln", ["centered", "split"])
@pytest.mark.parametrize("tower", [{}, {"ls_init_value": 0.5}, {"layers": 4, "no_ln_pre": True}])
def test_effects_equal_brute_force_on_small_towers(tower, ln):
    clip = iu.Clip(tiny_model(**{"layers": 3, **tower}).double())
    pixels = noise(clip, 3).double()
    for layer in range(clip.n_layers - 1):
        order, everyone = second_order(clip, layer, ln), list(range(clip.d_mlp))
        by_hand = effects(clip, pixels, layer, ln, everyone)
        assert relative(order.effects(pixels), by_hand) < 1e-10
        assert relative(order.effects(pixels, [5, 1]), by_hand[:, [5, 1]]) < 1e-10
        assert relative(order.norms(pixels), by_hand.norm(dim=-1)) < 1e-9
        on = order.on(pixels)
        assert relative(on.summed(), by_hand.sum(1)) < 1e-10
        weights = torch.rand(3, clip.d_mlp, dtype=torch.double, generator=torch.Generator().manual_seed(0))
        assert relative(on.summed(weights), (weights[..., None] * by_hand).sum(1)) < 1e-10
        vectors = torch.randn(clip.d_mlp, clip.d_embed, dtype=torch.double, generator=torch.Generator().manual_seed(1))
        lines = iu.neurons.Lines(order, vectors)
        assert relative(on.along(lines), (by_hand * vectors).sum(-1)) < 1e-10
    assert count_hooks(clip.model) == 0


@pytest.mark.parametrize("name,n_layers,layer", [("ViT-B-32-quickgelu", 12, 9), ("ViT-L-14", 6, 3)])
def test_effects_equal_brute_force_on_real_architectures(name, n_layers, layer):
    clip = real_clip(name, n_layers)
    pixels, chosen = noise(clip, 1), [0, 17, 999, clip.d_mlp - 1]
    for ln in ("centered", "split"):
        order = second_order(clip, layer, ln)
        by_hand = effects(clip, pixels, layer, ln, chosen)
        assert relative(order.effects(pixels, chosen), by_hand) < 1e-5
        assert relative(order.norms(pixels)[:, chosen], by_hand.norm(dim=-1)) < 1e-5


@pytest.mark.parametrize("ln", ["centered", "split"])
def test_effects_equal_brute_force_on_the_sandbox(sandbox, ln):
    pixels = torch.stack([iu.sandbox.to_pixels(iu.sandbox.render(seed).pixels) for seed in range(2)])
    chosen = list(range(0, sandbox.d_mlp, 5))
    for layer in (0, 5):
        order = second_order(sandbox, layer, ln)
        by_hand = effects(sandbox, pixels, layer, ln, chosen)
        assert relative(order.effects(pixels, chosen), by_hand) < 1e-5
        assert relative(order.norms(pixels)[:, chosen], by_hand.norm(dim=-1)) < 1e-5


@torch.no_grad()
def whole_mlp(clip, pixels, layer, ln):
    """The whole output of an MLP layer pushed through the later heads; constants shared among blocks, not neurons."""
    visual, L, x = clip.visual, clip.n_layers, clip.visual._embeds(pixels)
    for number, block in enumerate(visual.transformer.resblocks):
        x = x + block.ls_1(block.attention(block.ln_1(x)))
        mlp = block.ls_2(block.mlp(block.ln_2(x)))
        x = x + mlp
        if number == layer:
            output = mlp if ln == "split" else mlp - block.ls_2(block.mlp.c_proj.bias)
    norm, final, total = visual.ln_post, x[:, 0], 0

    def visit(after, inputs):
        nonlocal total
        if after <= layer:
            return
        block, weights = visual.transformer.resblocks[after], iu.hooks.attention_weights(clip, after)
        pattern, stream = weights.pattern(inputs, [0])[:, :, 0], streams[after]
        s, m = (stream.var(-1, correction=0, keepdim=True) + block.ln_1.eps).sqrt(), stream.mean(-1, keepdim=True)
        c = 1 + 2 * after
        own = output.mean(-1, keepdim=True) if ln == "centered" else m / c
        normed = block.ln_1.weight * (output - own) / s + (block.ln_1.bias / c if ln == "split" else 0)
        value = torch.einsum("bhn,bnD,hdD->bhd", pattern, normed, weights.w_v) + (weights.b_v / c if ln == "split" else 0)
        total = total + torch.einsum("bhd,Dhd->bD", value, weights.w_o) + (weights.b_o / c if ln == "split" else 0)

    streams = {}
    keep = [
        (block.ln_1, lambda module, args, output, number=number: streams.update({number: args[0]}))
        for number, block in enumerate(visual.transformer.resblocks)
    ]
    with iu.hooks.forward_hooks(keep):
        clip.encode_image(pixels)
    iu.hooks.visit_attention_inputs(clip, pixels, visit)
    std = (final.var(-1, correction=0, keepdim=True) + norm.eps).sqrt()
    if ln == "centered":
        return norm.weight * (total - total.mean(-1, keepdim=True)) / std @ visual.proj
    share = sum(1 / ((1 + 2 * after) * (1 + 2 * L)) for after in range(layer + 1, L))
    return (norm.weight * (total - share * final.mean(-1, keepdim=True)) / std + share * norm.bias) @ visual.proj


@pytest.mark.parametrize("ln", ["centered", "split"])
def test_neurons_sum_to_the_whole_mlp(ln, sandbox):
    pixels = torch.stack([iu.sandbox.to_pixels(iu.sandbox.render(seed).pixels) for seed in range(4)])
    real = real_clip("ViT-B-32-quickgelu")
    for clip, batch, layer in ((sandbox, pixels, 4), (real, noise(real, 1), 9)):
        assert relative(second_order(clip, layer, ln).on(batch).summed(), whole_mlp(clip, batch, layer, ln)) < 1e-5


def test_relative_effects_are_shares_of_the_length(tiny):
    pixels = noise(tiny, 3)
    length = tiny.encode_image(pixels).norm(dim=-1)[:, None, None]
    for ln in ("centered", "split"):
        whole = second_order(tiny, 0, ln).effects(pixels)
        torch.testing.assert_close(second_order(tiny, 0, ln, relative=True).effects(pixels), whole / length, rtol=1e-4, atol=1e-6)


def test_bad_input_is_refused(tiny):
    with pytest.raises(ValueError, match="no second-order effect"):
        second_order(tiny, 1)
    with pytest.raises(IndexError, match="no layer 2"):
        second_order(tiny, 2)
    with pytest.raises(ValueError, match="'centered' or 'split'"):
        second_order(tiny, 0, "both")
    order = second_order(tiny, 0)
    with pytest.raises(ValueError, match="pixels of shape"):
        order.effects(torch.zeros(1, 3, 31, 32))
    with pytest.raises(ValueError, match="finite"):
        order.norms(torch.full((1, 3, 32, 32), float("nan")))
    for name in ("directions", "mean", "thresholds"):
        with pytest.raises(RuntimeError, match="fit"):
            getattr(order, name)
    assert isinstance(order, SecondOrder) and "128 neurons through 4 later heads" in repr(order)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype,bound", [(torch.float32, 1e-4), (torch.bfloat16, 0.05)])
def test_on_a_gpu(dtype, bound):
    clip, here = real_clip("ViT-B-32-quickgelu"), None
    pixels = noise(clip, 2)
    here = second_order(clip, 9).effects(pixels, [0, 5])
    there = iu.Clip(clip.model.to("cuda", dtype))
    assert relative(second_order(there, 9).effects(pixels, [0, 5]).float().cpu(), here) < bound


@pytest.mark.parametrize(
    ("name", "late"),
    [("ViT-B-16", [8, 9, 10]), ("ViT-B-32", [8, 9, 10]), ("ViT-L-14", [20, 21, 22]), ("ViT-H-14", [28, 29, 30])],
)
def test_three_late_layers_whatever_the_depth(name, late):
    n_layers = open_clip.get_model_config(name)["vision_cfg"]["layers"]
    drawn = curve_layers(n_layers)
    assert late_layers(n_layers) == late and set(late) <= set(drawn)
    assert drawn == sorted(set(drawn)) and drawn[-1] == n_layers - 2, "the last layer has no second-order effects"
    assert drawn == list(range(11)) if n_layers == 12 else len(drawn) == 8


def test_a_model_too_shallow_for_three_late_layers():
    assert late_layers(4) == curve_layers(4) == [0, 1, 2]
    with pytest.raises(ValueError, match="n_layers must be at least 4"):
        late_layers(3)
