"""The recipes of the viewers stop and go on, their parts do what they say, and files that are wrong are refused."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

import interp_utils as iu
from interp_utils.sandbox import training, viewers
from interp_utils.sandbox.known import KINDS
from interp_utils.sandbox.tasks import to_pixels
from interp_utils.sandbox.viewers import (
    curves,
    data,
    models,
    probes,
    train_clip_resnet,
    train_dino,
    train_mae,
    train_supervised,
)
from interp_utils.sandbox.weights import save
from interp_utils.sandbox.world import OBJECTS

RECIPES = {  # module, run(out)
    "supervised": (train_supervised, lambda out: [train_supervised.run(out, 3, 4)]),
    "mae": (train_mae, lambda out: train_mae.run(out, 3, 4)),
    "clip_resnet": (train_clip_resnet, lambda out: [train_clip_resnet.run(out, 3, 4).visual]),
    "dino_vit": (train_dino, lambda out: [train_dino.run("vit", out, 3, 4, warm=0.4)]),
    "dino_resnet": (train_dino, lambda out: [train_dino.run("resnet", out, 3, 4, warm=0.4)]),
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
    module, run = RECIPES[recipe]
    name = "cut_out_batch" if module is train_dino else "training_batch"
    draw, drawn = getattr(module, name), []
    monkeypatch.setattr(training.Checkpoint, "every_seconds", 0)
    monkeypatch.setattr(train_dino, "settle", lambda backbone: backbone.eval())

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


def test_a_curve_goes_on_where_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(curves, "probe", lambda *args: {"object": 0.25})
    curve = curves.Curve(tmp_path / "x.csv", 64)
    curve.load_state_dict({"minutes": 30.0})
    curve.report(10, nn.Identity())
    again = curves.Curve(tmp_path / "x.csv", 64)
    again.load_state_dict(curve.state_dict())
    again.report(20, nn.Identity())
    rows = (tmp_path / "x.csv").read_text().split()
    assert rows == ["images,minutes,object", "640,30.0,0.250", "1280,30.0,0.250"]


def test_images_and_labels():
    images, labels = data.balanced_images(40, 5, KINDS)
    assert images.shape == (40, 3, 64, 64) and images.dtype == torch.uint8
    assert [OBJECTS[k] for k in labels["object"]] == list(KINDS) * 4
    images, labels = data.balanced_images(300, 5)
    assert len(set(labels["object"])) > 100, "all kinds without a choice"
    assert {len(set(labels[factor])) for factor in ("texture", "light")} == {4, 3}
    pixels, specs = data.training_batch(2, 200)
    assert torch.equal(pixels, data.training_batch(2, 200)[0]) and not torch.equal(pixels, data.training_batch(3, 200)[0])
    named = data.object_labels(specs)
    assert [k == -1 for k in named] == [bool(spec.others) for spec in specs] and 20 < (named == -1).sum() < 90
    assert all(OBJECTS[k] == spec.object for k, spec in zip(named, specs) if k >= 0)


def test_a_stock_holds_training_images(monkeypatch):
    monkeypatch.setattr(data, "ProcessPoolExecutor", lambda mp_context: ThreadPoolExecutor())  # new processes take seconds to start
    stock = data.Stock(30, part=20)
    pixels, seen = data.cut_out_batch(0, 30)
    torch.manual_seed(0)
    some, where = stock(0, 200)
    torch.testing.assert_close(to_pixels(stock.pixels), pixels)
    assert torch.equal(stock.seen, seen)
    chosen = (some[:, None] - pixels[None]).abs().flatten(2).amax(2).argmin(1)
    torch.testing.assert_close(some, pixels[chosen])
    assert torch.equal(where, seen[chosen]) and len(set(chosen.tolist())) > 20, "any of them, with the mask of its own"


def test_a_linear_probe_tests_on_images_that_it_did_not_train_on():
    rng = np.random.default_rng(0)
    x, noise = rng.standard_normal((600, 40)), rng.integers(4, size=600)
    assert probes.linear_probe(x, noise, 300) < 0.4, "labels that have nothing to do with the features are not learned"
    signs = np.where(x[:, 0] > 0, 2, 1)
    assert probes.linear_probe(x, signs, 300) > 0.85
    hidden = np.where(np.arange(600) % 2 == 0, -1, signs)  # what is hidden counts neither in training nor in the test
    assert probes.linear_probe(np.where(hidden[:, None] == -1, -100 * x, x), hidden, 300) > 0.8


def test_crops_turn_mirror_and_zoom():
    torch.manual_seed(0)
    ramp = torch.linspace(-1, 1, 64).expand(200, 3, 64, 64).contiguous()
    anywhere = torch.ones(200, 1, 64, 64, dtype=torch.bool)
    small = train_dino.crops(ramp, anywhere, 32, (0.1, 0.4), 0.35)
    width = (small[:, 0, 16, -1] - small[:, 0, 16, 0]).abs() / 2 * 32 / 31
    assert small.shape == (200, 3, 32, 32) and 0.2 < width.median() < 0.7
    assert 60 < (small[:, 0, 16, -1] < small[:, 0, 16, 0]).sum() < 140, "half are mirrored"
    slope = (small[:, 0, -1, 16] - small[:, 0, 0, 16]) / (small[:, 0, 16, -1] - small[:, 0, 16, 0])
    angle = slope.atan().abs()
    assert 0.2 < angle.quantile(0.9) < 0.6, "turned by up to a third of a radian and more where a crop is not square"


def test_a_crop_holds_some_of_the_object():
    torch.manual_seed(0)
    seen = torch.zeros(300, 1, 64, 64, dtype=torch.bool)
    rows, columns = torch.randint(4, 60, (2, 300))
    for k, (row, column) in enumerate(zip(rows, columns)):
        seen[k, 0, row - 2 : row + 2, column - 2 : column + 2] = True
    pixels = seen.float().expand(-1, 3, -1, -1)
    shown = train_dino.crops(pixels, seen, 32, (0.25, 0.6), 0.0).amax((1, 2, 3)) > 0.5
    assert shown.float().mean() > 0.97
    anywhere = torch.ones_like(seen)
    assert (train_dino.crops(pixels, anywhere, 32, (0.25, 0.6), 0.0).amax((1, 2, 3)) > 0.5).float().mean() < 0.8


def test_objects_are_put_into_other_scenes():
    torch.manual_seed(0)
    pixels, seen = data.cut_out_batch(10**5, 100)
    moved = train_dino.elsewhere(pixels, seen, 0.8)
    assert torch.equal(torch.where(seen, moved, 0), torch.where(seen, pixels, 0)), "what is seen of objects stays"
    other = (moved != pixels).flatten(1).any(1)
    assert 65 < other.sum() < 95, "most of the images have another scene, the rest is as it was"


def test_colours_that_are_jittered():
    torch.manual_seed(0)
    grey = train_dino.recolour(torch.full((400, 3, 2, 2), 0.5), math.pi, 0.2)
    torch.testing.assert_close(grey[:, 0], grey[:, 2], msg="grey has no colour to change")
    red = torch.tensor([1.0, -1, -1])[:, None, None].expand(400, 3, 2, 2)
    turned = train_dino.recolour(red, math.pi, 0.2)[:, :, 0, 0]
    assert 40 < (turned.std(1) < 1e-4).sum() < 120, "a fifth lose their colour"
    shares = torch.bincount(turned[turned.std(1) > 1e-4].argmax(1), minlength=3) / 400
    assert shares.min() > 0.15, "hues turn all the way round"
    still = train_dino.recolour(red, 0.3, 0.0)
    assert still[:, 0].mean() > 0 and still.argmax(1).max() == 0


def test_views_get_harder():
    pixels, seen = data.cut_out_batch(10**5, 60)
    red = torch.tensor([1.0, -1, -1])[:, None, None].expand_as(pixels)
    first, last = (
        torch.stack([train_dino.views(red, torch.ones_like(seen), 1, 32, (0.5, 1.0), step)])[0].mean((2, 3))
        for step in (0, train_dino.HARDER[1])
    )
    assert (first.argmax(1) == 0).float().mean() > (last.argmax(1) == 0).float().mean() + 0.2


def test_the_teacher_uses_every_prototype():
    torch.manual_seed(0)
    scores = torch.randn(300, 16) * 0.2 + torch.linspace(-0.2, 0.2, 16)
    targets = train_dino.sinkhorn(scores, rounds=30)
    torch.testing.assert_close(targets.sum(1), torch.ones(300))
    assert targets.mean(0).max() < 1.3 / 16 < (scores / 0.05).softmax(1).mean(0).max()


def test_contrast_is_least_where_two_crops_of_an_image_agree():
    torch.manual_seed(0)
    x = torch.randn(20, 32)
    alike, apart = train_dino.contrast_loss(torch.cat([x, x])), train_dino.contrast_loss(torch.randn(40, 32))
    assert alike < 1 < apart


def test_blur_takes_fine_detail_from_some():
    torch.manual_seed(0)
    checks = (torch.arange(32) % 2 - 0.5).expand(200, 3, 32, 32)
    left = train_dino.blur(checks, 0.3)[:, 0, 16, 10:20].std(1) / checks[0, 0, 16, 10:20].std()
    sharp = (left > 0.999).float().mean()
    assert abs(sharp - 0.7) < 0.12 and left.min() < 0.3


def test_correlation_loss_sees_columns_that_say_the_same():
    torch.manual_seed(0)
    x = torch.randn(2000, 8)
    assert train_dino.correlation_loss(3 * x + 5) < 0.05, "scale and mean do not count"
    assert train_dino.correlation_loss(x[:, :1].expand(-1, 8)).item() == pytest.approx(7, abs=1e-3)
    assert train_dino.correlation_loss(torch.cat([x[:, :4], -x[:, :4]], 1)).item() == pytest.approx(1, abs=0.05)


def test_settling_measures_batch_statistics_of_whole_images():
    torch.manual_seed(0)
    backbone = models.BUILDERS["dino_resnet"]()
    pixels = data.training_batch(10**5, 100)[0]
    ready, before = train_dino.settle(backbone, batches=2), training.frozen_copy(backbone).eval()
    in_training = backbone.train()(pixels)
    assert (ready(pixels) - in_training).abs().mean() < 0.3 * (before(pixels) - in_training).abs().mean()
    torch.testing.assert_close(ready(pixels)[:1], ready(pixels[:1]), atol=1e-4, rtol=1e-3, msg="an image depends on its batch")


def test_a_held_checkpoint_is_kept_for_a_longer_run(tmp_path):
    seen = []
    net = nn.Linear(1, 1)
    for steps in (4, 8):
        path = tmp_path / f"{steps}.pt"
        if steps == 8:
            (tmp_path / "4.held.pt").rename(path)
        update = lambda step: seen.append(step) or {"loss": 0.0}  # noqa: E731
        training.loop("x", training.Checkpoint(path, net=net), steps, update, keep=3)
    assert seen == [0, 1, 2, 3] + [3, 4, 5, 6, 7], "it goes on from the last step of the full rate"


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


def test_dino_loss_compares_other_crops():
    targets = torch.eye(4)[None, :2].repeat(2, 1, 1)  # two large crops of two images: prototypes 0 and 1
    right = 20 * torch.eye(4)[None, :2].repeat(6, 1, 1)
    assert train_dino.dino_loss(right, targets) < 1e-3
    assert train_dino.dino_loss(right.flip(1), targets) > 10
    alone = right.clone()
    alone[1:] = 0  # only the first crop is right: it is compared with the second target alone
    assert train_dino.dino_loss(alone, targets).item() == pytest.approx(9 / 10 * math.log(4), rel=1e-3)


def test_a_masked_autoencoder_keeps_a_quarter_and_scores_the_rest():
    pixels = torch.arange(2 * 3 * 64 * 64).float().reshape(2, 3, 64, 64)
    target = train_mae.patches(pixels)
    assert torch.equal(target[1, 9].reshape(3, 8, 8), pixels[1, :, 8:16, 8:16]), "patch 9 is in row 1, column 1"
    encoder = models.vit().eval()
    tokens, kept = train_mae.encode(encoder, pixels / 1e5, masked=0.0)
    full = encoder.forward_features(pixels / 1e5)
    torch.testing.assert_close(tokens[:, 1:], full[:, 1:].gather(1, kept[..., None].expand(-1, -1, 128)), atol=1e-4, rtol=1e-4)
    tokens, kept = train_mae.encode(encoder, pixels / 1e5)
    assert tokens.shape == (2, 17, 128) and models.mae_decoder()(tokens, kept).shape == target.shape
    painted = target.clone()
    painted[0, kept[0]] += 100  # what was seen does not count
    assert train_mae.masked_error(target, painted, kept) == 0
    assert train_mae.masked_error(target, target + 2, kept).item() == pytest.approx(4)


def test_masked_error_of_what_is_hidden():
    torch.manual_seed(0)
    encoder, decoder = models.vit(), models.mae_decoder()
    errors = train_mae.error_report(encoder, decoder, 20)
    assert errors["masked error"] > errors["mean-pixel error"] > 0.1, "an untrained one does worse than the mean colour"


def test_viewers_are_known_to_chapter_4():
    for name in models.BUILDERS:
        model = iu.rosetta.load_unit_model(f"sandbox/viewers/{name}", device="cpu", pretrained=False)
        assert len(model.sizes if hasattr(model, "sizes") else model.layers) > 0


def test_wrong_weight_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown viewer 'vgg'; choose one of resnet"):
        viewers.load("vgg")
    path = tmp_path / "weights.safetensors"
    with pytest.raises(FileNotFoundError, match=r"viewers\.train_dino vit"):
        viewers.load("dino_vit", path)
    save(models.BUILDERS["dino_resnet"](), path)
    assert viewers.load("dino_resnet", path).training is False
    with pytest.raises(ValueError, match="does not hold the weights of mae_vit"):
        viewers.load("mae_vit", path)
