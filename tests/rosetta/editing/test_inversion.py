"""Guidance is eq. 4.6, inversion is eq. 4.7 with the thesis's schedule, and neither loses anything when it is stopped."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from small_generators import SMALL_STYLE
from torch import nn

from interp_utils import rosetta
from interp_utils.rosetta.editing import inversion
from interp_utils.rosetta.generators import StyleGAN2, style_gan2_layers
from interp_utils.rosetta.matching import Correlation, Units


class Drawing(nn.Module):
    """z [B, 6] -> images [B, 3, 8, 8]: smooth, and different in each latent."""

    def __init__(self):
        super().__init__()
        self.first, self.up, self.last = nn.Linear(6, 5 * 16), nn.ConvTranspose2d(5, 4, 2, stride=2), nn.Conv2d(4, 3, 1)

    def forward(self, z):
        return self.last(self.up(self.first(z).unflatten(1, (5, 4, 4))).tanh()).tanh()


@pytest.fixture(scope="module")
def drawing():
    torch.manual_seed(0)
    model = Drawing().eval().requires_grad_(False)
    return rosetta.Generator(model, ["up", "last"], rosetta.truncated_latents(6), name="drawing")


@pytest.fixture(scope="module")
def seeing():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)).eval().requires_grad_(False)
    return rosetta.UnitModel(model, ["0", "2"], size=16, name="seeing")


@pytest.fixture(scope="module")
def match(drawing, seeing):
    return rosetta.correlate(drawing, seeing, drawing.sample(40), batch_size=16)


def test_scores_average_to_the_correlation_over_the_mining_images(drawing, seeing, match):
    """Eq. 4.6 with dataset statistics is eq. 4.2, one image at a time: the mean over images is Pearson's r."""
    pairs = rosetta.matched_pairs(match, torch.cartesian_prod(torch.arange(len(match.a)), torch.arange(len(match.b))))
    images, maps = drawing(*drawing.sample(40))
    scores = rosetta.Guidance(pairs, seeing(images.clamp(0, 1))).scores(maps)
    assert scores.shape == (40, len(match.a) * len(match.b))
    torch.testing.assert_close(scores.mean(0), match.matrix.flatten(), atol=1e-4, rtol=1e-3)


def test_instance_form_is_the_cosine_of_centred_maps(drawing, seeing, match):
    pairs = rosetta.matched_pairs(match, [[5, 3]])  # layer "last", its unit 1, and layer "0", its unit 3
    images, maps = drawing(*drawing.sample(3))
    targets = seeing(images.clamp(0, 1))
    a = F.interpolate(maps[1][:, 1:2], (16, 16), mode="bilinear", align_corners=False) - pairs.means[0, 0]
    b = targets[0][:, 3:4] - pairs.means[0, 1]
    expected = (a * b).sum((2, 3)) / (a.square().sum((2, 3)) * b.square().sum((2, 3))).sqrt()
    torch.testing.assert_close(rosetta.Guidance(pairs, targets, "instance").scores(maps), expected)


def test_distance_form_is_the_dataset_form_less_what_grows(drawing, seeing, match):
    pairs = rosetta.own_pairs(rosetta.correlate(drawing, drawing, drawing.sample(40)), [0, 3, 6])
    _, maps = drawing(*drawing.sample(4, seed=2))
    _, targets = drawing(*drawing.sample(4, seed=3))
    product, ours, theirs = (rosetta.Guidance(pairs, b).scores(a) for a, b in ((maps, targets), (maps, maps), (targets, targets)))
    distance = rosetta.Guidance(pairs, targets, "distance").scores(maps)
    torch.testing.assert_close(distance, product - ours / 2 - theirs / 2)
    torch.testing.assert_close(rosetta.Guidance(pairs, maps, "distance").scores(maps), torch.zeros(4, 3))


def test_pairs_keep_their_order_and_subsets_theirs(drawing, seeing, match):
    pairs = rosetta.matched_pairs(match, [[6, 7], [0, 0], [5, 1]])
    images, maps = drawing(*drawing.sample(2))
    targets = seeing(images.clamp(0, 1))
    whole = rosetta.Guidance(pairs, targets).scores(maps)
    assert torch.equal(rosetta.Guidance(pairs[[2, 0]], targets).scores(maps), whole[:, [2, 0]])
    one_target = rosetta.Guidance(pairs, [layer[:1] for layer in targets]).scores(maps)
    torch.testing.assert_close(one_target[0], whole[0])
    assert not torch.allclose(one_target[1], whole[1])


def test_units_that_never_varied_have_no_pairs():
    units = Units("a", ("x",), (2,))
    found = Correlation(units, Units("b", ("y",), (2,)))
    maps = torch.randn(4, 2, 3, 3)
    maps[:, 1] = 2
    found.update([maps], [maps[:, :1].repeat(1, 2, 1, 1)])
    assert set(rosetta.matched_pairs(found, k=2).numbers[:, 0].tolist()) == {0}
    with pytest.raises(ValueError, match=r"never varied.*\('x.1', 'y.0'\).*leave them out"):
        rosetta.matched_pairs(found, [[1, 0]])
    with pytest.raises(ValueError, match=r"need pairs \[P, 2\]"):
        rosetta.matched_pairs(found, [1, 0])


def test_rosetta_pairs_are_those_of_the_dictionary(drawing, seeing, match):
    own = rosetta.correlate(drawing, drawing, drawing.sample(40), batch_size=16)
    dictionary = rosetta.build_dictionary([match], own)
    (pairs,) = rosetta.rosetta_pairs(dictionary, [match])
    assert torch.equal(pairs.numbers, torch.stack([dictionary.units, dictionary.partners[:, 0]], 1))


def test_schedule_of_the_thesis():
    rates = [inversion.schedule(step, 1000) for step in (0, 25, 50, 400, 750, 875, 1000)]
    assert rates == pytest.approx([0, 0.5, 1, 1, 1, 0.5, 0])


def squared(target):
    return lambda images: (images - target).square().sum((1, 2, 3))


def test_reconstruction_alone_finds_the_image(drawing):
    target, _ = drawing(*drawing.sample(3, seed=5))
    found = rosetta.invert(drawing, [], drawing.sample(3, seed=6), squared(target), alpha=0, steps=400, lr=0.05)
    assert (found.images - target).abs().max() < 0.02
    assert found.history["loss"].shape == (401, 3) and "match" not in found.history
    torch.testing.assert_close(drawing(*found.latents)[0], found.images)


def test_guidance_raises_the_match_and_brings_the_image_nearer(drawing, seeing, match):
    target, own = drawing(*drawing.sample(4, seed=5))
    guide = rosetta.Guidance(rosetta.matched_pairs(match), seeing(target.clamp(0, 1)), "instance")
    start = drawing.sample(4, seed=6)
    found = rosetta.invert(drawing, guide, start, steps=300, lr=0.05, alpha=0)
    assert (found.history["match"][-1] > found.history["match"][0] + 0.1).all()
    torch.testing.assert_close(found.history["match"][-1], found.scores.mean(1))
    before, after = ((images - target).square().mean((1, 2, 3)) for images in (drawing(*start)[0], found.images))
    assert (after < 0.5 * before).all(), "matched units place the content"
    for ours, theirs in zip(found.maps, drawing(*found.latents)[1]):
        torch.testing.assert_close(ours, theirs)


def test_rows_of_a_batch_do_not_influence_each_other(drawing, seeing, match):
    target, _ = drawing(*drawing.sample(1, seed=5))
    guide = rosetta.Guidance(rosetta.matched_pairs(match), seeing(target.clamp(0, 1)))
    starts = drawing.sample(3, seed=6)
    together = rosetta.invert(drawing, guide, starts, squared(target), steps=20, lr=0.05)
    for k in range(3):
        alone = rosetta.invert(drawing, guide, (starts[0][k : k + 1],), squared(target), steps=20, lr=0.05)
        torch.testing.assert_close(together.latents[0][k], alone.latents[0][0], atol=1e-4, rtol=1e-4)
    assert together.best == together.history["loss"][-1].argmin()


@pytest.mark.parametrize(("regulariser", "power"), [("l1", 1), ("l2", 2)])
def test_regulariser_is_the_distance_from_the_origin(drawing, regulariser, power):
    target, _ = drawing(*drawing.sample(2, seed=5))
    z, origin = drawing.sample(2, seed=6)[0], torch.full((1, 6), 0.3)
    options = {"regulariser": regulariser, "origin": origin, "steps": 150, "lr": 0.05}
    weak, strong = (rosetta.invert(drawing, [], (z,), squared(target), alpha=alpha, **options) for alpha in (0.0, 1e4))
    torch.testing.assert_close(weak.history["regulariser"][0], (z - 0.3).abs().pow(power).mean(1))
    assert (strong.latents[0] - 0.3).abs().max() < 0.05 < (weak.latents[0] - 0.3).abs().max()
    torch.testing.assert_close(weak.history["loss"][0], weak.history["reconstruction"][0])


def test_a_stopped_inversion_goes_on_as_if_it_had_not_been(drawing, tmp_path):
    target, _ = drawing(*drawing.sample(2, seed=5))
    calls = []

    def stopping(images):
        calls.append(1)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return squared(target)(images)

    start, file = drawing.sample(2, seed=6), tmp_path / "state.pt"
    whole = rosetta.invert(drawing, [], start, squared(target), steps=20)
    with pytest.raises(KeyboardInterrupt):
        rosetta.invert(drawing, [], start, stopping, steps=20, checkpoint=file)
    assert file.exists() and not any(module._forward_hooks for module in drawing.model.modules())
    for other, steps in ((drawing.sample(1), 20), (drawing.sample(2, seed=7), 20), (start, 21)):
        with pytest.raises(ValueError, match="keeps another run"):
            rosetta.invert(drawing, [], other, squared(target), steps=steps, checkpoint=file)
    parts = rosetta.invert(drawing, [], start, stopping, steps=20, checkpoint=file)
    assert torch.equal(parts.latents[0], whole.latents[0]) and torch.equal(parts.history["loss"], whole.history["loss"])
    assert not file.exists()


def test_it_stops_early_when_nothing_moves(drawing):
    found = rosetta.invert(drawing, [], drawing.sample(1), lambda images: 0 * images.sum((1, 2, 3)), alpha=0, steps=90, patience=5)
    assert len(found.history["loss"]) == 7


def test_wrong_goals_are_refused(drawing, seeing, match):
    start = drawing.sample(1)
    with pytest.raises(ValueError, match="nothing to match"):
        rosetta.invert(drawing, [], start)
    with pytest.raises(ValueError, match="'l1' or 'l2'"):
        rosetta.invert(drawing, [], start, squared(torch.zeros(1)), regulariser="l3")
    with pytest.raises(ValueError, match="not finite at step 0; use a lower learning rate"):
        rosetta.invert(drawing, [], start, lambda images: images.sum((1, 2, 3)) * float("nan"))
    pairs = rosetta.matched_pairs(match)
    with pytest.raises(ValueError, match="form must be"):
        rosetta.Guidance(pairs, seeing(torch.rand(1, 3, 8, 8)), "batch")
    with pytest.raises(ValueError, match="no pairs"):
        rosetta.Guidance(pairs[:0], seeing(torch.rand(1, 3, 8, 8)))
    with pytest.raises(ValueError, match="3 targets and 4 latents"):
        rosetta.invert(drawing, rosetta.Guidance(pairs, seeing(torch.rand(3, 3, 8, 8))), drawing.sample(4))
    with pytest.raises(ValueError, match="no latents"):
        rosetta.correlate(drawing, seeing, ())
    with pytest.raises(ValueError, match=r"need maps of \{'0': 6, '2': 6\}, got \[6\]"):
        rosetta.Guidance(pairs, seeing(torch.rand(1, 3, 8, 8))[:1])


def test_perceptual_distance_is_zero_for_the_image_and_has_a_gradient(seeing):
    target = torch.rand(2, 3, 16, 16)
    distance = rosetta.PerceptualDistance(seeing, target)
    torch.testing.assert_close(distance(target), torch.zeros(2), atol=1e-6, rtol=0)
    other = torch.rand(2, 3, 16, 16, requires_grad=True)
    found = distance(other)
    assert (found > 0.01).all()
    found.sum().backward()
    assert other.grad.abs().sum() > 0
    maps = [F.normalize(layer, dim=1) for layer in seeing(target)], [F.normalize(layer, dim=1) for layer in seeing(other.detach())]
    by_hand = sum((a - b).square().sum(1).mean((1, 2)) for a, b in zip(*maps)) / 2
    torch.testing.assert_close(found.detach(), by_hand)


def test_style_space_starts_where_the_mapping_ends():
    model = StyleGAN2(replace(SMALL_STYLE, kinds=3)).eval().requires_grad_(False)
    generator = rosetta.Generator(model, style_gan2_layers(model, 4), rosetta.truncated_latents(SMALL_STYLE.d, 3), name="style")
    styles = rosetta.style_space(generator, lambda m, z, c: m.mapping(z, c)[:, 0], lambda m, w: m.synthesis(w))
    torch.testing.assert_close(styles(*styles.sample(2, seed=3))[0], generator(*generator.sample(2, seed=3))[0])
    assert styles.units.counts == generator.units.counts and styles.sample(2)[0].shape == (2, generator.model.d_z)
