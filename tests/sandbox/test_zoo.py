"""The recipes of the zoo stop and go on, their parts do what they say, and files that are wrong are refused."""

import pytest
import torch
import torch.nn.functional as F
from timm.models.resnet import BasicBlock, ResNet
from torch import nn

from interp_utils.sandbox.zoo import (
    KINDS,
    SCENES,
    big_gan,
    data,
    models,
    projected,
    report,
    style_gan,
    train_clip_resnet,
    train_dino,
    train_generators,
    train_mae,
    train_supervised,
    training,
)


def small_resnet():
    torch.manual_seed(0)
    resnet = ResNet(BasicBlock, (1, 1, 1, 1), num_classes=0, stem_width=4, channels=(4, 4, 4, 4))
    resnet.maxpool = nn.Identity()
    return resnet


RECIPES = {  # module, function that draws a batch, run(out), parts that a stop must not change
    "supervised": (train_supervised, "training_batch", lambda out: [train_supervised.run(out, 3, 4)]),
    "mae": (train_mae, "training_batch", lambda out: train_mae.run(out, 3, 4)),
    "clip_resnet": (train_clip_resnet, "training_batch", lambda out: [train_clip_resnet.run(out, 3, 4).visual]),
    "dino_vit": (train_dino, "training_batch", lambda out: [train_dino.run("vit", out, 3, 4)]),
    "dino_resnet": (train_dino, "training_batch", lambda out: [train_dino.run("resnet", out, 3, 4)]),
    "big": (train_generators, "generator_batch", lambda out: [train_generators.run("big", small_resnet(), out, 3, 8)]),
    "style": (train_generators, "generator_batch", lambda out: [train_generators.run("style", small_resnet(), out, 3, 8)]),
}


@pytest.fixture(autouse=True)
def one_thread():
    """As the recipes run; more would only wait for each other on such small batches."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Stop(Exception):
    pass


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_stopped_recipe_goes_on_as_if_it_had_not_been(recipe, tmp_path, monkeypatch):
    module, name, run = RECIPES[recipe]
    draw, drawn = getattr(module, name), []
    monkeypatch.setattr(training.Checkpoint, "every_seconds", 0)
    monkeypatch.setattr(train_generators, "settle", lambda average: average.eval())

    def batch(k, size):
        drawn.append(k)
        if len(drawn) == 6:
            raise Stop
        return draw(k, size)

    monkeypatch.setattr(module, name, batch)
    whole = run(tmp_path / "whole")
    with pytest.raises(Stop):
        run(tmp_path / "parts")
    parts = run(tmp_path / "parts")
    assert drawn == [0, 1, 2] + [0, 1, 2] + [2], "two steps were done and kept, the third is done again"
    for a, b in zip(whole, parts, strict=True):
        start = a.state_dict()
        assert all(torch.equal(tensor, start[key]) for key, tensor in b.state_dict().items())
    assert run(tmp_path / "parts")[0].training is False and len(drawn) == 7, "a finished run is loaded, not trained again"


def test_a_run_that_diverges_says_so(tmp_path):
    checkpoint = training.Checkpoint(tmp_path / "x.pt", net=nn.Linear(1, 1))
    with pytest.raises(RuntimeError, match=r"x diverged at step 0.*lower learning rate"):
        training.loop("x", checkpoint, 2, lambda step: {"loss": float("nan")})
    assert not (tmp_path / "x.pt").exists()


def test_learning_rate_warms_up_holds_and_ends_at_zero():
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters())
    rates = []
    for step in (0, 4, 50, 80, 100):
        training.set_rate(optimizer, 2.0, step, 100, warm=4, hold=0.6)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.4, 2.0, 2.0, 1.0, 0.0])


@pytest.mark.parametrize("up", [False, True])
def test_modulated_convolution_is_its_definition(up):
    """Karras et al. 2020, eqs. 1 and 3: scale the weights per image, normalise, convolve each image alone."""
    torch.manual_seed(0)
    layer = style_gan.ModulatedConv2d(5, 7, 3, 6, up=up)
    x, w = torch.randn(3, 5, 4, 4), torch.randn(3, 6)
    expected = []
    for image, style in zip(x, layer.affine(w)):
        weight = layer.weight * layer.scale * style[None, :, None, None]
        weight = weight / (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if up:  # zeros in between, convolution, low-pass filter
            wide = F.pad(torch.stack([image, *[torch.zeros_like(image)] * 3], 1).flatten(0, 1)[None], (0, 0))
            wide = F.pixel_shuffle(wide, 2)[..., :-1, :-1]
            expected.append(style_gan.blur(F.conv2d(wide, weight, padding=2), pad=(1, 1), gain=4)[0])
        else:
            expected.append(F.conv2d(image[None], weight, padding=1)[0])
    assert layer(x, w).shape == (3, 7, 8, 8) if up else (3, 7, 4, 4)
    torch.testing.assert_close(layer(x, w), torch.stack(expected), atol=1e-5, rtol=1e-4)


def test_upsampling_keeps_what_is_flat_and_smooths_the_rest():
    flat = style_gan.upsample(torch.ones(1, 2, 6, 6))
    torch.testing.assert_close(flat[..., 2:-2, 2:-2], torch.ones(1, 2, 8, 8))
    point = torch.zeros(1, 1, 5, 5)
    point[..., 2, 2] = 1
    taps = torch.tensor([1.0, 3, 3, 1]) / 4
    torch.testing.assert_close(style_gan.upsample(point)[0, 0, 3:7, 3:7], taps[:, None] * taps)


def test_style_generator_truncation_noise_and_styles():
    torch.manual_seed(0)
    generator = style_gan.StyleGenerator(2, 8, {4: 8, 8: 8, 16: 4}).eval()
    generator.mapping.w_mean.normal_()
    for layer in generator.synthesis.convs:
        layer.noise.strength.data.fill_(0.5)
    z, c = torch.randn(3, 8), F.one_hot(torch.tensor([0, 1, 1]), 2).float()
    assert generator(z, c).shape == (3, 3, 16, 16)
    mean = generator(z, c, truncation=0, noise="fixed")
    torch.testing.assert_close(mean[1], mean[2])
    assert not torch.allclose(mean[0], mean[1], atol=1e-3)
    assert torch.equal(generator(z, c, noise="fixed"), generator(z, c, noise="fixed"))
    assert not torch.equal(generator(z, c), generator(z, c)), "noise is drawn anew"
    w = generator.mapping(z, c)
    ws = w[:, None].repeat(1, generator.synthesis.n_styles, 1)
    assert torch.equal(generator.synthesis(ws, "none"), generator.synthesis(w, "none"))
    ws[:, -1] = 0  # the last style belongs to the last ToRGB alone
    assert not torch.equal(generator.synthesis(ws, "none"), generator.synthesis(w, "none"))
    with pytest.raises(ValueError, match="noise must be"):
        generator(z, c, noise="some")
    assert style_gan.StyleGenerator(0, 8, {4: 8, 8: 8})(z).shape == (3, 3, 8, 8), "without classes"


def test_discriminator_reads_frozen_maps_and_projects_on_the_kind():
    torch.manual_seed(0)
    resnet = small_resnet()
    discriminator = projected.ProjectedDiscriminator(resnet, 2, width=8).eval()
    images, kinds = torch.randn(8, 3, 64, 64), torch.eye(2)[[0] * 8]
    assert discriminator(images, kinds).shape == (8, 5 * 16)
    assert not any(p.requires_grad for p in resnet.parameters()) and not resnet.training
    assert all(not key.startswith("frozen") for key in discriminator.state_dict())
    assert not torch.equal(discriminator(images, kinds), discriminator(images, 1 - kinds))
    before = discriminator(images, kinds)
    resnet.layer4[0].bn2.bias.add_(1)
    after = discriminator(images, kinds)
    assert torch.equal(before[:, :64], after[:, :64]), "the first four heads do not see the last stage"
    assert not torch.equal(before[:, 64:], after[:, 64:]), "the last head does"


def test_sameness_shows_in_the_spread_of_a_group():
    maps = torch.randn(16, 4, 2, 2)
    maps[8:] = maps[8]  # the second group is one image eight times
    spread = projected.with_spread(maps)[:, -1]
    assert spread.shape == (16, 2, 2) and spread[:8].min() > 0.5 and spread[8:].max() < 1e-3
    kinds = data.kinds_of(range(64))
    assert all(len(set(kinds[k : k + 8])) == 1 for k in range(0, 64, 8)) and set(kinds) == set(range(len(KINDS)))


def test_big_generator_uses_every_chunk_and_the_class():
    torch.manual_seed(0)
    generator = big_gan.BigGenerator(3, (16, 8, 8), chunk=4).eval()
    z, c = torch.randn(1, 12), torch.eye(3)[:1]
    image = generator(z, c)
    assert image.shape == (1, 3, 16, 16) and image.abs().max() <= 1
    for k in range(3):
        other = z.clone()
        other[:, 4 * k : 4 * k + 4] += 1
        assert not torch.equal(generator(other, c), image), f"chunk {k}"
    assert not torch.equal(generator(z, torch.eye(3)[1:2]), image)


def test_settling_measures_the_statistics_of_the_average():
    torch.manual_seed(0)
    generator = big_gan.BigGenerator(len(KINDS), (16, 8, 8), chunk=4)
    ready, before = train_generators.settle(generator, batches=20), training.frozen_copy(generator)
    z, c = train_generators.draw(generator, 400)
    in_training = generator.train()(z, c)
    assert (ready(z, c) - in_training).abs().mean() < 0.02 < (before.eval()(z, c) - in_training).abs().mean()
    torch.testing.assert_close(ready(z, c)[:1], ready(z[:1], c[:1]), msg="an image must not depend on its batch")
    style = train_generators.settle(style_gan.StyleGenerator(len(KINDS), 8, {4: 8, 8: 8}))
    w = style.mapping(torch.randn(2000, 8), data.one_hot([2] * 2000))
    torch.testing.assert_close(w.mean(0), style.mapping.w_mean[2], atol=0.1, rtol=0)


def test_masked_autoencoder_keeps_a_quarter_and_scores_the_rest():
    pixels = torch.arange(2 * 3 * 64 * 64).float().reshape(2, 3, 64, 64)
    target = train_mae.patches(pixels)
    assert torch.equal(target[1, 9].reshape(3, 8, 8), pixels[1, :, 8:16, 8:16]), "patch 9 is in row 1, column 1"
    encoder = models.vit().eval()
    tokens, kept = train_mae.encode(encoder, pixels / 1e5, masked=0.0)
    full = encoder.forward_features(pixels / 1e5)
    torch.testing.assert_close(tokens[:, 1:], full[:, 1:].gather(1, kept[..., None].expand(-1, -1, 128)), atol=1e-4, rtol=1e-4)
    tokens, kept = train_mae.encode(encoder, pixels / 1e5)
    assert tokens.shape == (2, 17, 128) and models.MaskedDecoder()(tokens, kept).shape == target.shape
    painted = target.clone()
    painted[0, kept[0]] += 100  # what was seen does not count
    assert train_mae.masked_error(target, painted, kept) == 0
    assert train_mae.masked_error(target, target + 2, kept).item() == pytest.approx(4)


def test_dino_loss_compares_other_crops_and_sees_collapse():
    targets = torch.eye(4)[None, :2].repeat(2, 1, 1)  # two large crops of two images: prototypes 0 and 1
    right = 20 * torch.eye(4)[None, :2].repeat(6, 1, 1)
    assert train_dino.dino_loss(right, targets) < 1e-3
    assert train_dino.dino_loss(right.flip(1), targets) > 10
    alone = right.clone()
    alone[1:] = 0  # only the first crop is right: it is compared with the second target alone
    assert train_dino.dino_loss(alone, targets).item() == pytest.approx(9 / 10 * torch.tensor(4.0).log().item(), rel=1e-3)
    centre = train_dino.Centre()
    scores = torch.randn(2, 8, train_dino.PROTOTYPES) * 0.01
    scores[..., 5] += 3
    for _ in range(60):
        probabilities = centre.targets(scores)
    assert probabilities[..., 5].mean() < 0.1, "a prototype that always wins is centred away"


def test_crops_and_jitter():
    torch.manual_seed(0)
    ramp = torch.linspace(-1, 1, 64).expand(200, 3, 64, 64).contiguous()
    small = train_dino.crops(ramp, 32, (0.1, 0.4))
    width = (small[:, 0, 0, -1] - small[:, 0, 0, 0]).abs() / 2 * 32 / 31
    assert small.shape == (200, 3, 32, 32) and 0.2 < width.min() and width.max() < 0.75
    assert 60 < (small[:, 0, 0, -1] < small[:, 0, 0, 0]).sum() < 140, "half are mirrored"
    grey = train_dino.jitter(torch.full((200, 3, 2, 2), 0.5))
    torch.testing.assert_close(grey[:, 0], grey[:, 2], msg="grey has no colour to change")
    assert grey.std() > 0.1
    red = train_dino.jitter(torch.tensor([1.0, -1, -1])[:, None, None].expand(200, 3, 2, 2))[:, :, 0, 0]
    assert 15 < (red.std(1) < 1e-4).sum() < 65, "a fifth lose their colour"


def test_generator_images_are_what_they_are_called():
    images, kinds = data.generator_batch(3, 64)
    specs = [data.generator_spec(3 * 64 + k) for k in range(64)]
    assert images.shape == (64, 3, 64, 64) and -1 <= images.min() < -0.5 and 0.5 < images.max() <= 1
    assert [KINDS[k] for k in kinds.argmax(1)] == [spec.object for spec in specs]
    assert {spec.scene for spec in specs} == set(SCENES) and {(spec.style, spec.count) for spec in specs} == {("photo", 1)}
    assert torch.equal(images, data.generator_batch(3, 64)[0]) and not torch.equal(images, data.generator_batch(4, 64)[0])
    shares = report.recognised(images, kinds.argmax(1))
    assert shares["all"] > 0.9 and report.recognised(images, (kinds.argmax(1) + 1) % len(KINDS))["all"] < 0.1


def test_wrong_weight_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown model 'vgg'; choose one of resnet"):
        models.load("vgg")
    path = tmp_path / "weights.safetensors"
    with pytest.raises(FileNotFoundError, match="train_dino vit"):
        models.load("dino_vit", path)
    models.save(models.MaskedDecoder(), path)
    assert torch.equal(models.load("mae_decoder", path).out.bias, torch.zeros(192)) is False
    with pytest.raises(ValueError, match="does not hold the weights of big_gan"):
        models.load("big_gan", path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="not a complete safetensors file"):
        models.load("mae_decoder", path)


def test_saving_keeps_the_output(tmp_path):
    torch.manual_seed(0)
    model = models.BUILDERS["resnet"]().train()
    pixels, labels = data.balanced_images(8, 3)
    model(pixels)  # batch statistics that are not the initial ones
    models.save(model, tmp_path / "resnet.safetensors")
    again = models.load("resnet", tmp_path / "resnet.safetensors")
    assert not any(p.requires_grad for p in again.parameters()) and not again.training
    torch.testing.assert_close(again(pixels), model.eval()(pixels), atol=2e-2, rtol=0)


def test_r1_is_the_squared_gradient_of_the_score():
    class Linear(nn.Module):
        def forward(self, x, c):
            return torch.stack([2 * x.sum((1, 2, 3)), 4 * x.sum((1, 2, 3))], 1)  # the mean has a slope of 3 at each pixel

    penalty = train_generators.r1_penalty(Linear(), torch.randn(2, 3, 4, 4), None)
    assert penalty.item() == pytest.approx(9 * 48)

    discriminator = projected.ProjectedDiscriminator(small_resnet(), 2, width=8)
    penalty = train_generators.r1_penalty(discriminator, torch.randn(4, 3, 64, 64), torch.eye(2)[[0] * 4])
    penalty.backward()
    assert all(p.grad is not None for p in discriminator.heads[0].body.parameters()), "it can be minimised"
