"""The known generator ships, draws what its latents stand for, and takes part in chapter 4 in z and in w."""

import pytest
import torch
import torch.nn.functional as F

from interp_utils import load_clip, rosetta
from interp_utils.sandbox import known
from interp_utils.sandbox.known import mining, reader, report, train, units
from interp_utils.sandbox.known.generator import UpConv


@pytest.fixture(scope="module")
def generator():
    return rosetta.load_unit_model("sandbox/known_big_gan", device="cpu")


def test_it_draws_what_its_latents_stand_for(generator):
    found = train.quality(generator.model, n=60)
    assert found["psnr"] > 22 and found["on objects"] > 18, "in dB; the mean picture has 14"
    blank = rosetta.load_unit_model("sandbox/known_big_gan", device="cpu", pretrained=False)
    assert train.quality(blank.model, n=20)["psnr"] < 15


def test_styles_draw_the_same_and_keep_the_class(generator):
    in_w = units.styles(generator)
    z, c = generator.sample(3, seed=4)
    w, same = in_w.sample(3, seed=4)
    assert torch.equal(c, same) and torch.equal(w, units.style(generator, z)) and w.shape == (3, 256)
    torch.testing.assert_close(in_w(w, c)[0], generator(z, c)[0])
    assert in_w.units.counts == generator.units.counts
    other = in_w(w, c.roll(1, 1))[0]
    assert (other - in_w(w, c)[0]).abs().mean() > 0.01
    with pytest.raises(TypeError, match="need a generator of the sandbox"):
        units.styles(rosetta.load_unit_model("sandbox/viewers/resnet", device="cpu"))


def test_weights_that_are_not_there_say_how_to_make_them(tmp_path):
    with pytest.raises(FileNotFoundError, match="interp_utils.sandbox.known.train"):
        units.load(tmp_path / "none.safetensors")
    with pytest.raises(FileNotFoundError, match="interp_utils.sandbox.known.reader"):
        reader.load_reader(tmp_path / "none.safetensors")


def test_chosen_latents_show_one_whole_object_where_it_was_asked_for():
    z, c, found = mining.chosen(12, seed=3, size=(30, 36), across=(20, 30))
    assert z.shape == (12, 32) and c.sum() == 12 and (c.argmax(1) == torch.arange(12) % 10).all()
    assert (found.present == torch.tensor([1.0, 0.0])).all()
    assert ((30 <= found.sizes) & (found.sizes <= 36)).all()
    assert ((20 <= found.places[:, 0, 0]) & (found.places[:, 0, 0] <= 30)).all()


def test_clip_recognises_what_it_draws(generator):
    z, c, _ = mining.chosen(60, seed=8, size=(26, 48))
    clip, drawn = load_clip("sandbox", device="cpu"), generator(z, c)[0]
    named, told = (report.named(clip, drawn, c.argmax(1), *among) for among in ((), (known.KINDS,)))
    assert told.float().mean() > 0.9 and (told | ~named).all(), "who is best of 144 is best of ten"
    blank = rosetta.load_unit_model("sandbox/known_big_gan", device="cpu", pretrained=False)
    assert report.named(clip, blank(z, c)[0], c.argmax(1), known.KINDS).float().mean() < 0.3, "chance is one in ten"


@pytest.fixture(scope="module")
def judge():
    return reader.load_reader()


@pytest.mark.parametrize("drawn", [False, True])
def test_the_reader_reads_exact_and_drawn_pictures(generator, judge, drawn):
    z, c, found = mining.chosen(60, seed=5, size=(26, 48), across=(14, 50), down=(14, 50))
    image, masks = known.picture(found, c.argmax(1))
    if drawn:
        image = generator(z, c)[0]
    read, true = judge.read(image), masks.amax(1) > 0.5
    seen = read.masks > 0.5
    iou = (seen & true).sum((1, 2)) / (seen | true).sum((1, 2))
    assert iou.mean() > 0.8
    right = {name: (getattr(read, name).argmax(1) == goal).float().mean() for name, goal in (
        ("object", c.argmax(1)), ("scene", found.scenes.argmax(1)), ("colour", found.colours.argmax(1)),
        ("count", torch.ones(60, dtype=torch.long)),
    )}  # fmt: skip
    assert min(right.values()) > 0.85, right


def test_the_judge_says_what_stayed_and_what_went(generator, judge):
    z, c, found = mining.chosen(12, seed=6)
    image, _ = known.picture(found, c.argmax(1))
    judged = mining.Judged(judge, image)
    still = judged(image)
    assert still["growth"].min() == 1 and still["right"].abs().max() == 0 and still["object"].min() == 1
    moved, _ = known.picture(found._replace(places=found.places + torch.tensor([16.0, 0.0])), c.argmax(1))
    after = judged(moved)
    assert rosetta.success("right", after).float().mean() > 0.8 and after["scene"].mean() > 0.9
    gone, _ = known.picture(found._replace(present=torch.zeros(12, 2)), c.argmax(1))
    assert rosetta.success("remove", judged(gone)).all()
    twice = found._replace(present=torch.ones(12, 2), places=torch.tensor([[16.0, 32.0], [48.0, 32.0]]).expand(12, 2, 2))
    assert rosetta.success("copy", judged(known.picture(twice, c.argmax(1))[0])).float().mean() > 0.8
    larger, _ = known.picture(found._replace(sizes=2 * found.sizes), c.argmax(1))
    assert rosetta.success("zoom", judged(larger)).float().mean() > 0.8


def test_units_that_follow_the_object_are_found_against_the_truth(generator):
    """Against the plain way: correlation of one unit's maps with masks brought to their size."""
    in_w = units.styles(generator)
    r = mining.with_objects(in_w, n=20, seed=3)
    z = known.sample(20, torch.Generator().manual_seed(3))
    c = F.one_hot(torch.arange(20) % 10, 10).float()
    masks = known.picture(known.factors(z), c.argmax(1))[1].amax(1, keepdim=True)
    unit = int(r.argmax())
    maps = rosetta.unit_map(generator(z, c)[1], generator.units, unit)
    cells = F.adaptive_avg_pool2d(masks, maps.shape[1:])[:, 0]
    plain = torch.corrcoef(torch.stack([maps.flatten(), cells.flatten()]))[0, 1]
    assert r[unit].item() == pytest.approx(plain.item(), abs=1e-4) and plain > 0.6


@pytest.mark.parametrize("size", [(2, 2), (5, 8), (7, 3)])
def test_a_convolution_of_a_map_at_twice_its_size_is_the_plain_one(size):
    layer = UpConv(3, 2).double()
    small = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    plain = F.conv2d(F.interpolate(small, scale_factor=2), layer.weight, layer.bias, padding=1)
    found, weights = layer(small), torch.randn_like(plain)
    torch.testing.assert_close(found, plain)
    wanted = small, layer.weight, layer.bias
    for ours, theirs in zip(*(torch.autograd.grad((each * weights).sum(), wanted) for each in (found, plain))):
        torch.testing.assert_close(ours, theirs)
