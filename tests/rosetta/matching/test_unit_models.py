from functools import partial

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

import interp_utils as iu
from interp_utils.rosetta import (
    Correlation,
    Generator,
    PublishedCorrelation,
    UnitModel,
    best_buddies,
    correlate,
    correlate_maps,
    load_unit_model,
    quality,
    truncated_latents,
)


def count_hooks(model) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def images(n=2, side=32, seed=0):
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def resnet50():
    return load_unit_model("resnet50", device="cpu", pretrained=False)


class Pixels(nn.Module):
    """Four units: the three colours, blurred at half the size, and one that is not shared."""

    def __init__(self, seed=0):
        super().__init__()
        self.first = nn.Conv2d(3, 3, 3, padding=1)
        self.last = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(3, 4, 1))
        with torch.no_grad():
            self.last[1].weight.copy_(torch.cat([torch.eye(3), torch.randn(1, 3)])[:, :, None, None])

    def forward(self, x):
        return self.last(x).relu_() + F.avg_pool2d(self.first(x), 2).sum(1, keepdim=True)


class Painter(nn.Module):
    """z -> images; its first units are the colours of the image at a quarter of the size. Writes over its own maps."""

    def __init__(self, kinds=0):
        super().__init__()
        self.dense = nn.Linear(5 + kinds, 5 * 16, bias=False)
        self.body = nn.Conv2d(5, 5, 1)

    def forward(self, z, c=None):
        x = self.body(self.dense(z if c is None else torch.cat([z, c], 1)).unflatten(1, (5, 4, 4)))
        colours = x[:, [2, 0, 1]].tanh()
        x.zero_()
        return F.interpolate(colours, size=(16, 16), mode="bilinear", align_corners=False)


def see(**options) -> UnitModel:
    torch.manual_seed(0)
    return UnitModel(Pixels().eval(), ["first", "last"], size=16, **options)


def paint(kinds=0) -> Generator:
    torch.manual_seed(1)
    return Generator(Painter(kinds).eval(), ["body"], truncated_latents(5, kinds), name="painter")


def test_resnet50_has_3840_units_in_four_stages_after_the_relu(resnet50):
    maps = resnet50(images())
    assert [list(layer.shape) for layer in maps] == [[2, 256, 56, 56], [2, 512, 28, 28], [2, 1024, 14, 14], [2, 2048, 7, 7]]
    assert len(resnet50.units) == len(resnet50.unit_names) == 3840 and resnet50.unit_names[256 + 512 + 17] == "layer3.17"
    assert all(layer.min() == 0 and layer.max() > 0 and not layer.requires_grad for layer in maps)
    with torch.no_grad():
        pixels = resnet50.normalised(images())
        last = resnet50.model.forward_features(pixels)
        block = resnet50.model.layer4[2]
        inside = block.act1(block.bn1(block.conv1(last)))
    torch.testing.assert_close(maps[3], last)
    assert block.bn3.weight.min() == 1 and inside.isfinite().all()  # an untrained control has open residual blocks
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    grown = F.interpolate(images(), size=(224, 224), mode="bicubic", align_corners=False)
    torch.testing.assert_close(pixels, (grown - mean[:, None, None]) / std[:, None, None])


@pytest.mark.parametrize("name, licence", [("dino_resnet50", "apache-2.0"), ("clip_rn50", "mit")])
def test_other_resnets_have_the_same_units(name, licence):
    model = load_unit_model(name, device="cpu", pretrained=False)
    assert model.layers == ("layer1", "layer2", "layer3", "layer4") and model.units.counts == (256, 512, 1024, 2048)
    assert model.licence == licence and model.source in (iu.rosetta.matching.zoo.DINO_URL, "hf-hub:timm/resnet50_clip.openai")
    assert (model.mean[0] == 0.485) == (name == "dino_resnet50")


def test_vit_units_are_hidden_mlp_units_of_the_patches():
    model = load_unit_model("dino_vitb16", device="cpu", pretrained=False)
    found = []
    handle = model.model.blocks[3].mlp.fc1.register_forward_hook(lambda module, args, output: found.append(output))
    maps = model(images(1))
    handle.remove()
    assert sum(layer.shape[1] for layer in maps) == 36864 and model.layers[3] == "blocks.3.mlp.act"
    assert {tuple(layer.shape) for layer in maps} == {(1, 3072, 14, 14)}
    row, column = 2, 5
    torch.testing.assert_close(maps[3][0, :, row, column], F.gelu(found[0][0, 1 + row * 14 + column]))


def test_mae_is_that_vit_under_another_licence():
    model = load_unit_model("mae_vitb16", device="cpu", pretrained=False)
    assert len(model.layers) * model.model.blocks[0].mlp.fc1.out_features == 36864
    assert model.licence == "cc-by-nc-4.0" and model.source == "hf-hub:timm/vit_base_patch16_224.mae"


def test_any_timm_resnet_or_vit_has_units():
    assert load_unit_model("timm/resnet18", device="cpu", pretrained=False).units.counts == (64, 128, 256, 512)
    registers = load_unit_model("timm/vit_wee_patch16_reg1_gap_256", device="cpu", pretrained=False)
    assert registers(images(1))[0].shape == (1, registers.model.blocks[0].mlp.fc1.out_features, 16, 16)


def test_untrained_models_follow_the_seed_and_leave_random_numbers_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, same, other = (load_unit_model("sandbox/viewers/resnet", device="cpu", pretrained=False, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    weights = [next(each.model.parameters()) for each in (one, same, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_large_maps_in_half_precision_are_finite():
    model = UnitModel(nn.Sequential(nn.Conv2d(3, 4, 1)).half().eval().requires_grad_(False), ["0"], size=64, name="half")
    model.model[0].bias.fill_(100)
    maps = model(torch.rand(2, 3, 64, 64))[0]
    assert maps.sum() == torch.inf and maps.isfinite().all(), "only the sum in half precision overflows"


def test_unknown_names_and_architectures_are_refused():
    with pytest.raises(ValueError, match="close: .*resnet50"):
        load_unit_model("resnet_50")
    with pytest.raises(ValueError, match="close: .*timm/vit_base_patch16_224"):
        load_unit_model("timm/vit_base_patch16_244")
    with pytest.raises(ValueError, match="close: .*timm/resnet50"):
        load_unit_model("timm/resnet50.nosuch", pretrained=False)
    with pytest.raises(NotImplementedError, match="ConvNeXt"):
        load_unit_model("timm/convnext_atto", pretrained=False)


@pytest.mark.parametrize("wrong, message", [
    (torch.rand(1, 3, 32, 48), "square"), (torch.rand(3, 32, 32), "need images"), (torch.zeros(0, 3, 8, 8), "need images"),
    (torch.full((1, 3, 8, 8), torch.nan), "finite"), (torch.ones(1, 3, 8, 8, dtype=torch.uint8), "floating"),
    (torch.rand(1, 3, 8, 8) * 4 - 2, "normalises them itself"), (torch.rand(1, 3, 8, 8) * 255, "normalises them itself"),
])  # fmt: skip
def test_wrong_images_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        see()(wrong)


@pytest.mark.parametrize("wrong", [torch.rand(2, 3, 8, 8).numpy(), Image.new("RGB", (8, 8)), [torch.rand(3, 8, 8)]])
def test_arrays_and_pil_images_are_refused_with_the_way_to_make_them_tensors(wrong):
    with pytest.raises(TypeError, match=r"need a tensor of images \[B, 3, H, W\] in 0..1, got .*to_tensor"):
        see()(wrong)


def test_whoever_cuts_images_off_at_0_and_1_refuses_those_that_never_were_there():
    distance = quality.perceptual(see())
    plain = images(side=64)
    for wrong in (plain * 255, plain * 4 - 2):
        for pair in ((wrong, plain), (plain, wrong)):
            with pytest.raises(ValueError, match="need images in 0..1, got"):
                quality.image_quality(*pair, distance)
    plain[0, 0, 0, :2] = 3  # a few values beyond are what generators draw
    assert quality.image_quality(plain, plain, distance)["PSNR"].shape == (len(plain),)


def test_model_is_untouched_and_hooks_are_gone_also_after_errors():
    model = see()
    before = {name: tensor.clone() for name, tensor in model.model.state_dict().items()}
    model(images())
    assert count_hooks(model.model) == 0
    model.model.last[1].bias.data[2] = torch.nan
    with pytest.raises(ValueError, match="layer last of custom .*not finite"):
        model(images())
    assert count_hooks(model.model) == 0
    model.model.last[1].bias.data[2] = before["last.1.bias"][2]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.model.state_dict().items())
    flat = UnitModel(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2)).eval(), ["1"], size=8, name="flat")
    with pytest.raises(NotImplementedError, match=r"layer 1 of flat gives \[2, 2\]"):
        flat(images())
    assert count_hooks(flat.model) == 0


def test_models_that_cannot_be_recorded_are_refused():
    with pytest.raises(ValueError, match="call model.eval"):
        UnitModel(Pixels(), ["first"])
    with pytest.raises(ValueError, match="not found: .'second'"):
        UnitModel(Pixels().eval(), ["first", "second"])
    idle = Pixels()
    idle.spare = nn.Conv2d(3, 1, 1)
    idle.eval()
    with pytest.raises(ValueError, match="never ran spare"):
        UnitModel(idle, ["first", "spare"], size=16)(images())


def test_maps_are_what_the_layer_gave_even_if_the_model_writes_over_them():
    model, pixels = see(), images()
    torch.testing.assert_close(model(pixels)[1], model.model.last(model.normalised(pixels)))
    assert model(pixels)[1].min() < 0


def test_generator_samples_are_reproducible_and_in_range():
    painter = paint(kinds=3)
    z, c = painter.sample(50, seed=4)
    assert z.shape == (50, 5) and z.abs().max() <= 1 and c.shape == (50, 3) and (c.sum(1) == 1).all() and (c.sum(0) > 0).all()
    assert torch.equal(z, painter.sample(50, seed=4)[0]) and not torch.equal(z, painter.sample(50, seed=5)[0])
    assert (painter.sample(5, kind=1)[1].argmax(1) == 1).all() and len(paint().sample(5)) == 1
    drawn, (maps,) = painter(z, c)
    torch.testing.assert_close(drawn * 2 - 1, painter.model(z, c))
    assert 0 <= drawn.min() < drawn.max() <= 1 and maps.shape == (50, 5, 4, 4) and maps.abs().max() > 0
    assert painter.units.names == [f"body.{k}" for k in range(5)] and count_hooks(painter.model) == 0
    for wrong in (partial(painter.sample, 0), partial(painter.sample, 2, kind=3), partial(paint().sample, 2, kind=0)):
        with pytest.raises(ValueError):
            wrong()


def test_a_seed_gives_the_same_latents_with_every_release_of_torch():
    z = truncated_latents(32)(400, torch.Generator().manual_seed(3), None)[0]
    normal = torch.randn(400, 32, generator=torch.Generator().manual_seed(3))  # whose numbers stay, unlike those of torch.nn.init
    inside = normal.abs() <= 1
    assert torch.equal(z[inside], normal[inside]) and not inside.all() and z.abs().max() <= 1
    assert (z.std() - 0.5397).abs() < 0.02 and (z[~inside].std() - 0.5397).abs() < 0.02  # what was drawn again as well


def test_generator_is_differentiable_in_its_latents():
    painter = paint()
    z = painter.sample(2)[0].requires_grad_()
    drawn, (maps,) = painter(z)
    (drawn.sum() + maps.square().sum()).backward()
    assert z.grad.abs().min() > 0


def test_shared_units_of_a_painter_and_a_viewer_are_best_buddies():
    painter, viewer = paint(), see()
    latents = painter.sample(40, seed=1)
    found = correlate(painter, viewer, latents, batch_size=16)
    assert found.count == 40 and (found.a.model, found.b.layers) == ("painter", ("first", "last"))
    pairs = {(found.a.names[i], found.b.names[j]) for i, j in best_buddies(found.matrix, 1).tolist()}
    assert {("body.2", "last.0"), ("body.0", "last.1"), ("body.1", "last.2")} <= pairs
    drawn, (maps,) = painter(*latents)
    exact = torch.cat([correlate_maps([(maps, layer)]) for layer in viewer(drawn)], 1)
    torch.testing.assert_close(found.matrix, exact, atol=1e-5, rtol=0)


def test_several_models_and_the_generator_itself_in_one_pass():
    painter, viewer = paint(3), see()
    latents = painter.sample(20)
    passes = []
    handle = painter.model.register_forward_hook(lambda *args: passes.append(len(args[2])))
    painter.units  # noqa: B018  counts its units with a pass of its own
    passes.clear()
    found = correlate(painter, [viewer, painter], latents, batch_size=10)
    handle.remove()
    assert passes == [10, 10]
    torch.testing.assert_close(found[0].matrix, correlate(painter, viewer, latents).matrix, atol=1e-5, rtol=0)
    torch.testing.assert_close(found[1].matrix.diagonal(), torch.ones(5), atol=1e-5, rtol=0)


def test_two_viewers_are_correlated_on_given_images(resnet50):
    model, pixels = see(), images(7, side=16)
    found = correlate(model, model, pixels, batch_size=3)
    torch.testing.assert_close(found.matrix.diagonal(), torch.ones(7), atol=1e-5, rtol=0)
    with_targets = torch.utils.data.TensorDataset(pixels, torch.arange(7))
    torch.testing.assert_close(correlate(model, see(name="twin"), with_targets).matrix, found.matrix, atol=1e-5, rtol=0)
    assert correlate(model, resnet50, pixels[:2]).matrix.shape == (7, 3840)


def test_shuffled_images_are_the_control():
    painter, viewer = paint(), see()
    latents = painter.sample(48)
    true, shuffled = (correlate(painter, viewer, latents, shuffled=choice).matrix for choice in (False, True))
    assert true[2, 3] > 0.9 and shuffled[2, 3].abs() < 0.3  # unit last.0 sees the colour that body.2 paints
    with pytest.raises(ValueError, match="one image"):
        correlate(painter, viewer, painter.sample(17), batch_size=16, shuffled=True)


def test_published_similarity_on_models():
    painter, viewer = paint(), see()
    latents = painter.sample(12)
    found = correlate(painter, viewer, latents, batch_size=4, published=True)
    assert isinstance(found, PublishedCorrelation)
    drawn, (maps,) = painter(*latents)
    layer = viewer(drawn)[1]
    by_hand = PublishedCorrelation(painter.units, viewer.units, found.centres[0], found.centres[1])
    torch.testing.assert_close(found.centres[1][3:], layer.mean((0, 2, 3)).double(), atol=1e-6, rtol=0)
    for k in range(0, 12, 4):
        by_hand.update([maps[k : k + 4]], [part[k : k + 4] for part in viewer(drawn)])
    torch.testing.assert_close(found.matrix, by_hand.matrix, atol=1e-5, rtol=0)
    exact = correlate(painter, viewer, latents)
    assert isinstance(exact, Correlation) and (exact.matrix - found.matrix).abs().max() > 1e-3


def test_published_similarity_neither_cuts_pixels_off_nor_crops_margins():
    viewer, draw = see(), lambda model, z, c: 9 * model(z)  # far beyond -1..1
    painter = Generator(paint().model, ["body"], truncated_latents(5), draw, crops={"body": lambda maps: maps[..., 1:-1, 1:-1]})
    latents = painter.sample(8, seed=2)
    drawn, whole = painter(*latents, crop=False)
    assert drawn.min() < -1 and drawn.max() > 2 and painter(*latents)[1][0].shape[2] == whole[0].shape[2] - 2
    seen = viewer(drawn, drawn=True)
    centres = torch.cat([maps.mean((0, 2, 3)) for maps in whole]), torch.cat([maps.mean((0, 2, 3)) for maps in seen])
    by_hand = PublishedCorrelation(painter.units, viewer.units, *centres)
    for part in (slice(0, 4), slice(4, 8)):
        by_hand.update([maps[part] for maps in whole], [maps[part] for maps in seen])
    found = correlate(painter, viewer, latents, batch_size=4, published=True)
    torch.testing.assert_close(found.matrix, by_hand.matrix, atol=1e-5, rtol=0)
    exact = correlate(painter, viewer, latents)  # of what a picture on a screen shows
    cut = torch.cat([correlate_maps([(painter(*latents)[1][0], maps)]) for maps in viewer(drawn.clamp(0, 1))], 1)
    torch.testing.assert_close(exact.matrix, cut, atol=1e-5, rtol=0)


def test_passes_that_make_no_sense_are_refused():
    painter, viewer = paint(), see()
    with pytest.raises(TypeError, match="must see images"):
        correlate(viewer, painter, images())
    with pytest.raises(ValueError, match="a generator needs latents"):
        correlate(painter, viewer, images())
    with pytest.raises(ValueError, match="no images"):
        correlate(viewer, viewer, images(0))


def test_sandbox_models_have_units():
    counts = {"resnet": 480, "dino_resnet": 480, "clip_resnet": 960, "dino_vit": 3072, "mae_vit": 3072}
    for name, count in counts.items():
        model = iu.rosetta.load_unit_model(f"sandbox/viewers/{name}", device="cpu", pretrained=False)
        assert len(model.units) == count and model.mean == (0.5, 0.5, 0.5) and model.size == 64
    for name in ("big_gan", "known_big_gan"):
        generator = iu.rosetta.load_unit_model(f"sandbox/{name}", device="cpu", pretrained=False)
        latents = generator.sample(4, kind=2)
        assert len(generator.layers) == 9 and torch.equal(generator(*latents)[0], generator(*latents)[0])
        assert correlate(generator, model, latents).matrix.abs().max() > 0.1
