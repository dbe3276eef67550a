"""The thesis's generators: documented architectures in full size on the meta device, behaviour on small ones."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from small_generators import SMALL_BIG, SMALL_STYLE, SMALL_XL

from interp_utils.rosetta.generators import (
    BigGAN,
    StyleGAN2,
    StyleGAN2Config,
    StyleGANXL,
    big_gan,
    registry,
)


def seeded(build, config):
    """A small model in double precision whose parts that start at zero do something."""
    torch.manual_seed(0)
    model = build(config).double().eval()
    with torch.no_grad():
        for name, value in [*model.named_parameters(), *model.named_buffers()]:
            if value.numel() and not value.any():
                value.normal_(std=0.3)
            if "running_vars" in name:
                value.uniform_(0.5, 2)
    return model


def latents(n, d, kinds=0):
    z = torch.randn(n, d, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return (z, F.one_hot(torch.arange(n) % kinds, kinds).double()) if kinds else (z,)


def meta(build, *config):
    with torch.device("meta"):
        return build(*config)


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


def shapes(model):
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def test_big_gan_deep_256_has_the_documented_weights():
    model = meta(BigGAN)
    found = shapes(model)
    assert count(model) == 55_880_833 and len(found) == 602
    # The public file has 234,411,737 bytes; besides its numbers there are names and keys, some 200 bytes for each tensor.
    assert 150 < (234_411_737 - sum(4 * math.prod(shape) for shape in found.values())) / len(found) < 250
    expected = {
        "embeddings.weight": (128, 1000), "generator.gen_z.weight_orig": (32768, 256), "generator.gen_z.weight_u": (32768,),
        "generator.layers.0.bn_0.running_means": (51, 2048), "generator.layers.0.bn_0.scale.weight_orig": (2048, 256),
        "generator.layers.0.conv_0.weight_orig": (512, 2048, 1, 1), "generator.layers.3.conv_3.weight_orig": (1024, 512, 1, 1),
        "generator.layers.8.snconv1x1_theta.weight_orig": (64, 512, 1, 1), "generator.layers.8.gamma": (1,),
        "generator.layers.8.snconv1x1_o_conv.weight_v": (256,), "generator.layers.12.conv_1.weight_orig": (64, 64, 3, 3),
        "generator.bn.weight": (128,), "generator.conv_to_rgb.weight_orig": (128, 128, 3, 3), "generator.conv_to_rgb.bias": (128,),
    }  # fmt: skip
    assert {name: found[name] for name in expected} == expected
    layers = registry.big_gan_layers(model)
    assert len(layers) == 12 * 4 + 4 + 1 and layers[-1] == "generator.conv_to_rgb" and "generator.layers.12.conv_3" in layers


def test_style_gan2_has_the_documented_weights():
    assert count(meta(StyleGAN2)) == 30_034_338
    large = StyleGAN2Config(channels=(512,) * 5 + (256, 128, 64, 32))
    assert count(meta(StyleGAN2, large)) == 30_370_060  # as NVIDIA prints for faces at 1024 pixels
    model = meta(StyleGAN2)
    found = shapes(model)
    channels = {4: 512, 8: 512, 16: 512, 32: 512, 64: 512, 128: 256, 256: 128}
    expected = {"mapping.w_avg": (512,), "synthesis.b4.const": (512, 4, 4)}
    expected |= {f"mapping.fc{k}.weight": (512, 512) for k in range(8)} | {f"mapping.fc{k}.bias": (512,) for k in range(8)}
    for size, c in channels.items():
        before = channels.get(size // 2)
        inputs = {"conv1": (c, c, 3), "torgb": (3, c, 1)} | ({"conv0": (c, before, 3)} if before else {})
        expected[f"synthesis.b{size}.resample_filter"] = (4, 4)
        for layer, (c_out, c_in, kernel) in inputs.items():
            fields = {"weight": (c_out, c_in, kernel, kernel), "bias": (c_out,)}
            fields |= {"affine.weight": (c_in, 512), "affine.bias": (c_in,)}
            if layer != "torgb":
                fields |= {"noise_const": (size, size), "noise_strength": (), "resample_filter": (4, 4)}
            expected |= {f"synthesis.b{size}.{layer}.{field}": shape for field, shape in fields.items()}
    assert found == expected and model.synthesis.n_styles == 14
    assert registry.style_gan2_layers(model) == [
        f"synthesis.b{size}.{layer}" for size in list(channels)[1:] for layer in ("conv0", "conv1", "torgb")
    ]


XL_LAYERS = (
    "L0_36_1024 L1_36_1024 L2_36_1024 L3_36_1024 L4_36_1024 L5_36_1024 L6_36_1024 L7_36_1024 L9_36_1024 L10_52_1024 "
    "L11_52_1024 L12_52_1024 L13_52_1024 L14_52_1024 L15_84_1024 L16_84_1024 L17_84_1024 L18_84_1024 L19_84_1024 L20_148_1024 "
    "L21_148_861 L22_148_724 L23_148_609 L24_148_609 L25_276_512 L26_276_431 L27_276_362 L28_276_304 L29_276_256 "
    "L30_256_256 L31_256_3"
).split()


def test_style_gan_xl_256_has_the_documented_layers():
    model = meta(StyleGANXL)
    names = [layer.name for layer in model.synthesis.plan]
    assert names == XL_LAYERS and model.synthesis.n_styles == 32  # a number is skipped where a stage begins
    found = shapes(model)
    # Parameters of the mapping network as others list them for this family: 320,000, 20,544, 66,048 and 262,656.
    parts = [count(part) for part in (model.mapping.embed, model.mapping.embed_proj, model.mapping.fc0, model.mapping.fc1)]
    assert parts == [320_000, 20_544, 66_048, 262_656] and found["mapping.w_avg"] == (1000, 512)
    fields = {"affine.weight", "affine.bias", "weight", "bias", "magnitude_ema", "up_filter", "down_filter"}
    for layer in names[:-1]:
        assert {name.removeprefix(f"synthesis.{layer}.") for name in found if f".{layer}." in name} == fields
    assert "synthesis.L31_256_3.up_filter" not in found and found["synthesis.L31_256_3.weight"] == (3, 256, 1, 1)
    assert {name for name in found if ".input." in name} == {
        f"synthesis.input.{field}" for field in ("weight", "affine.weight", "affine.bias", "transform", "freqs", "phases")
    }
    rates = {layer.name: (layer.before.rate, layer.after.rate) for layer in model.synthesis.plan}
    assert found["synthesis.L20_148_1024.up_filter"] == (24,) and rates["L20_148_1024"] == (64, 128)  # four times up, two down
    assert found["synthesis.L20_148_1024.down_filter"] == (12,) and model.synthesis.L20_148_1024.up == 4
    crops = registry.style_gan_xl_crops(model)
    assert set(crops) == {f"synthesis.{name}" for name in ["input", *names[:-2]]}
    assert registry.style_gan_xl_layers(model) == ["synthesis", "synthesis.input", *(f"synthesis.{name}" for name in names)]


MODELS = {
    "big": (BigGAN, SMALL_BIG, (6, 5), (2, 3, 16, 16)),
    "style": (StyleGAN2, SMALL_STYLE, (12,), (2, 3, 16, 16)),
    "xl": (StyleGANXL, SMALL_XL, (5, 4), (2, 3, 32, 32)),
}


@pytest.mark.parametrize("name", MODELS)
def test_images_are_a_differentiable_function_of_each_latent_alone(name):
    build, config, sizes, shape = MODELS[name]
    model = seeded(build, config)
    inputs = latents(2, *sizes)
    inputs[0].requires_grad_()
    images = model(*inputs)
    assert images.shape == shape and images.isfinite().all() and images.std() > 1e-3
    images[0].square().sum().backward()
    assert inputs[0].grad[0].abs().min() > 0 and not inputs[0].grad[1].any()  # nothing leaks between the images of a batch
    torch.testing.assert_close(images[1:], model(*(value[1:] for value in inputs)))
    assert not model.state_dict().keys() ^ build(config).state_dict().keys()


@pytest.mark.parametrize("name", ["style", "xl"])
def test_styles_can_be_optimised_layer_by_layer(name):
    build, config, sizes, _ = MODELS[name]
    model, inputs = seeded(build, config), latents(2, *sizes)
    ws = model.mapping(*inputs)
    assert ws.shape == (2, model.synthesis.n_styles, 12)
    torch.testing.assert_close(model.synthesis(ws), model(*inputs))
    free = ws.detach().clone().requires_grad_()
    model.synthesis(free).square().sum().backward()
    used = free.grad.abs().sum((0, 2)) > 0
    assert used.all()
    mean = model.mapping.w_avg if name == "style" else model.mapping.w_avg[[0, 1]]
    torch.testing.assert_close(model.mapping(*inputs, psi=0.0)[:, 0], mean.expand(2, -1))
    torch.testing.assert_close(model.mapping(*inputs, psi=0.7)[:, 3], mean + 0.7 * (ws[:, 3] - mean))


def flipped(value):
    return value.flip(-1)


def test_style_gan2_is_centred_a_mirrored_generator_draws_mirrored_images():
    model = seeded(StyleGAN2, SMALL_STYLE)
    (z,) = latents(2, 12)
    images = model(z)
    with torch.no_grad():
        for name, value in [*model.named_parameters(), *model.named_buffers()]:
            if name.endswith(("conv0.weight", "conv1.weight", "const", "noise_const")):
                value.copy_(flipped(value))
    torch.testing.assert_close(model(z), flipped(images))
    assert (images - flipped(images)).abs().max() > 0.1


def test_style_gan_xl_is_centred_a_mirrored_generator_draws_mirrored_images():
    model = seeded(StyleGANXL, SMALL_XL)
    inputs = latents(2, 5, 4)
    images = model(*inputs)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if ".L" in name and value.ndim == 4:
                value.copy_(flipped(value))
        model.synthesis.input.transform[0, 0] = -1  # the waves are looked at in a mirror
    torch.testing.assert_close(model(*inputs), flipped(images))
    assert (images - flipped(images)).abs().max() > 0.05


def test_style_gan_xl_moves_with_its_waves_without_aliasing():
    config = replace(SMALL_XL, stages=(16, 64), most_channels=16)
    model = seeded(StyleGANXL, config)
    inputs = latents(1, 5, 4)
    with torch.no_grad():
        model.synthesis.input.affine.weight.zero_()
        model.synthesis.input.affine.bias.copy_(torch.tensor([1.0, 0, 0, 0]))
        images = model(*inputs)
        model.synthesis.input.transform[0, 2] = 3 / 64  # of an image's width: three pixels, less than one of the first map
        moved = model(*inputs)
    inner = images[..., 8:-8, 8:-8]
    difference = (moved[..., 8:-8, 5:-11] - inner).square().mean().sqrt() / inner.std()
    assert difference < 0.05 < (moved[..., 8:-8, 8:-8] - inner).square().mean().sqrt() / inner.std()


def test_fourier_features_by_hand():
    model = seeded(StyleGANXL, SMALL_XL)
    features = model.synthesis.input
    w = latents(1, 12)[0]
    with torch.no_grad():
        features.weight.copy_(math.sqrt(8) * torch.eye(8))
        found = features(w)[0]
        cos, sin, x, y = (t := features.affine(w)[0]) / t[:2].norm()
    row, column, channel = 4, 20, 3
    at = torch.tensor([column + 0.5 - 18, row + 0.5 - 18]).double() / 16  # from the centre, in image widths
    turned = torch.stack([cos * (at[0] - x) - sin * (at[1] - y), sin * (at[0] - x) + cos * (at[1] - y)])
    expected = torch.sin(2 * math.pi * (features.freqs[channel] @ turned + features.phases[channel]))
    assert features.freqs[channel].norm() < 2  # inside the band: no damping
    torch.testing.assert_close(found[channel, row, column], expected)


def test_noise_of_style_gan2_is_fixed_or_drawn_anew():
    model = seeded(StyleGAN2, SMALL_STYLE)
    (z,) = latents(2, 12)
    assert torch.equal(model(z), model(z))
    assert not torch.allclose(model(z, noise="random"), model(z, noise="random"))
    with pytest.raises(ValueError, match="'fixed' or 'random'"):
        model(z, noise="const")


def test_style_gan2_with_classes_has_a_mean_style_for_each():
    model = seeded(StyleGAN2, replace(SMALL_STYLE, kinds=3))
    z, c = latents(3, 12, 3)
    w = model.mapping(z, c)
    assert not torch.allclose(model.mapping(z, c.roll(1, 0)), w)
    torch.testing.assert_close(model.mapping(z, c, psi=0.0)[:, 5], model.mapping.w_avg)
    torch.testing.assert_close(model.mapping(z, c, psi=0.7), model.mapping.w_avg[:, None] * 0.3 + 0.7 * w)
    torch.testing.assert_close(model.synthesis(w[:, 0]), model(z, c), msg="one style for all layers")
    with pytest.raises(ValueError, match="needs class weights"):
        model(z)
    with pytest.raises(ValueError, match="has no classes"):
        seeded(StyleGAN2, SMALL_STYLE)(z, c)


def test_batch_norm_of_big_gan_knows_each_truncation():
    model = seeded(BigGAN, SMALL_BIG)
    norm, x, condition = model.generator.layers[0].bn_0, torch.randn(2, 32, 3, 3).double(), torch.randn(2, 12).double()
    gain, bias = (layer(condition)[:, :, None, None] for layer in (norm.scale, norm.offset))
    for truncation, rows in ((1.0, {50: 1.0}), (0.4, {20: 1.0}), (0.0, {0: 1.0}), (0.505, {25: 0.75, 26: 0.25})):
        mean, var = (sum(share * stats[row] for row, share in rows.items()) for stats in (norm.running_means, norm.running_vars))
        plain = F.batch_norm(x, mean, var, eps=1e-4)
        torch.testing.assert_close(norm(x, truncation, condition), plain * (1 + gain) + bias)
    with pytest.raises(ValueError, match=r"0\.\.1"):
        model(*latents(2, 6, 5), truncation=1.5)


def test_first_map_of_big_gan_comes_row_by_row_with_channels_last():
    model, found = seeded(BigGAN, SMALL_BIG), []
    handle = model.generator.layers[0].register_forward_pre_hook(lambda module, args: found.append(args[0]))
    z, c = latents(2, 6, 5)
    model(z, c)
    handle.remove()
    condition = torch.cat([z, c @ model.embeddings.weight.T], 1)  # z before the class
    numbers = model.generator.gen_z(condition)
    assert found[0].shape == (2, 32, 4, 4) and numbers.shape == (2, 16 * 32)
    torch.testing.assert_close(found[0][1, 5, 2, 3], numbers[1, (2 * 4 + 3) * 32 + 5])
    torch.testing.assert_close(found[0].mean((2, 3)), numbers.unflatten(1, (16, 32)).mean(1))


def test_attention_of_big_gan_by_hand():
    torch.manual_seed(0)
    attention, x = big_gan.SelfAttention(16, 1e-4).double().eval(), torch.randn(1, 16, 4, 4).double()
    attention.gamma.data.fill_(2.0)
    queries, keys, values = (getattr(attention, f"snconv1x1_{name}")(x) for name in ("theta", "phi", "g"))
    keys, values = (part.unflatten(2, (2, 2)).unflatten(4, (2, 2)).amax((3, 5)).flatten(2)[0] for part in (keys, values))
    expected = x.clone()
    for row in range(4):
        for column in range(4):
            weights = (queries[0, :, row, column] @ keys).softmax(0)
            found = attention.snconv1x1_o_conv((values @ weights)[None, :, None, None])
            expected[0, :, row, column] += 2 * found[0, :, 0, 0]
    torch.testing.assert_close(attention(x), expected)


def test_blocks_of_big_gan_keep_their_first_channels_and_are_normalised():
    model = seeded(BigGAN, SMALL_BIG)
    block, x, condition = model.generator.layers[1], torch.randn(1, 32, 4, 4).double(), torch.randn(1, 12).double()
    with torch.no_grad():
        block.conv_3.weight_orig.zero_()
        block.conv_3.bias.zero_()
        block.conv_3.weight_u.fill_(1.0)
    block.conv_3.weight_orig.data[0, 0, 0, 0] = 1e-30  # a norm of zero has no direction
    torch.testing.assert_close(block(x, 1.0, condition)[:, 1:], x[:, 1:16].repeat_interleave(2, 2).repeat_interleave(2, 3))
    conv = model.generator.conv_to_rgb
    conv(torch.zeros(1, 8, 3, 3).double())
    assert abs(torch.linalg.matrix_norm(conv.weight.flatten(1), 2) - 1) < 0.05
