"""What a latent stands for is what is drawn, and no axis of z gives it away."""

import pytest
import torch

from interp_utils.sandbox import known
from interp_utils.sandbox.known import latents, train


def test_latents_are_cut_off_and_their_factors_fill_their_ranges():
    z = known.sample(4000, torch.Generator().manual_seed(0))
    found = known.factors(z)
    assert z.abs().max() <= 1 and z.std() == pytest.approx(latents._STD, abs=0.01)
    assert found.sizes.min() >= latents.SMALL and found.sizes.max() <= latents.LARGE
    assert found.places.min() > 0 and found.places.max() < latents.SIZE
    shares = (found.present > 0.5).float().mean(0)
    assert 0.88 < shares[0] < 0.96 and 0.26 < shares[1] < 0.38, "none, one or two objects"
    for choice, names in ((found.scenes, known.SCENES), (found.colours, known.COLOURS)):
        assert torch.allclose(choice.sum(1), torch.ones(len(z)), atol=1e-5)
        assert (choice.argmax(1).bincount(minlength=len(names)) > len(z) / len(names) / 2).all()
    with pytest.raises(ValueError, match=r"need latents \[B, 32\]"):
        known.factors(z[:, :5])


def test_no_axis_of_z_is_a_factor():
    z = known.sample(4000, torch.Generator().manual_seed(1))
    x = known.factors(z).places[:, 0, 0]
    r = torch.corrcoef(torch.cat([z, x[:, None]], 1).T)[-1, :-1].abs()
    assert r.max() < 0.7 and (r > 0.05).sum() > 5


def test_masks_are_where_objects_are():
    z, kinds = known.sample(60, torch.Generator().manual_seed(2)), torch.arange(60) % len(known.KINDS)
    found = known.factors(z)
    image, masks = known.picture(found, kinds)
    assert image.shape == (60, 3, 64, 64) and 0 <= image.min() and image.max() <= 1
    sure = found.present[:, 0] == 1
    points = torch.arange(64) + 0.5
    x = (masks[:, 0] * points).sum((1, 2)) / masks[:, 0].sum((1, 2))
    assert (x - found.places[:, 0, 0])[sure].abs().max() < 8
    assert masks[found.present[:, 1] == 0, 1].max() == 0
    moved = found._replace(places=found.places + torch.tensor([6.0, 0.0]))
    _, after = known.picture(moved, kinds)
    there = (after[:, 0] * points).sum((1, 2)) / after[:, 0].sum((1, 2))
    inner = sure & (found.places[:, 0, 0] + 6 + found.sizes / 2 < 64) & (found.places[:, 0, 0] - found.sizes / 2 > 0)
    assert inner.sum() > 10 and (there - x)[inner].sub(6).abs().max() < 0.2


def test_small_steps_in_z_are_small_steps_in_pixels():
    z = known.sample(20, torch.Generator().manual_seed(3))
    kinds = torch.zeros(20, dtype=torch.long)
    step = 1e-3 * torch.randn(20, latents.Z, generator=torch.Generator().manual_seed(4))
    near, far = (known.picture(known.factors(z + k * step), kinds)[0] for k in (1, 30))
    start = known.picture(known.factors(z), kinds)[0]
    assert (near - start).abs().mean() < 0.2 * (far - start).abs().mean()


def test_a_run_that_was_stopped_goes_on_and_learns(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "MAPPING_SIZE", 32)
    monkeypatch.setattr(train, "quality", lambda *args: {})
    channels = (16, 12, 8, 8, 8)

    def trained(folder, lengths):
        (tmp_path / folder).mkdir()
        for steps in lengths:
            torch.manual_seed(0)
            net = known.KnownBigGAN(channels)
            monkeypatch.setattr(train.math, "cos", lambda angle: 1.0)  # a rate that does not depend on the length
            train.train_mapping(net, tmp_path / folder, 3)
            ready = train.train_drawing(net, tmp_path / folder, steps, size=4)
        return ready

    once, twice = trained("once", [6]), trained("twice", [3, 6])
    for a, b in zip(once.parameters(), twice.parameters()):
        torch.testing.assert_close(a, b)
    assert once(known.sample(2), torch.eye(len(known.KINDS))[:2]).shape == (2, 3, 64, 64)


def test_the_finish_goes_on_where_it_stopped_and_asks_as_much_as_the_pixels(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "quality", lambda *args: {})
    monkeypatch.setattr(train.math, "cos", lambda angle: 1.0)
    asked = []

    def finished(folder, lengths):
        (tmp_path / folder).mkdir()
        for steps in lengths:
            torch.manual_seed(0)
            ready = train.train_finishing(known.KnownBigGAN((16, 12, 8, 8, 8)), tmp_path / folder, steps, size=2)
        return ready

    once, twice = finished("once", [4]), finished("twice", [2, 4])
    for a, b in zip(once.parameters(), twice.parameters()):
        torch.testing.assert_close(a, b)

    # what reaches the drawn pixels, with and without the second half, seen at the last layer's output
    class Drawn(known.KnownBigGAN):
        def forward(self, z, c):
            drawn = super().forward(z, c)
            if drawn.requires_grad:
                drawn.register_hook(lambda gradient: asked.append(gradient.flatten(1).norm(dim=1)))
            return drawn

    for share in (0.0, 100.0):
        monkeypatch.setattr(train, "SHARE", share)
        torch.manual_seed(0)
        (tmp_path / str(share)).mkdir()
        train.train_finishing(Drawn((16, 12, 8, 8, 8)), tmp_path / str(share), 1, size=2)
    torch.testing.assert_close(asked[1] / asked[0], torch.full((2,), 100.0), rtol=0.03, atol=0)


def test_the_loss_is_zero_for_the_picture_alone_and_objects_count_more():
    target, masks = known.picture(known.factors(known.sample(4, torch.Generator().manual_seed(6))), torch.arange(4))
    assert train.drawing_loss(target, target, masks) == 0
    inside = masks.amax(1, keepdim=True)
    on, off = (train.drawing_loss(target + 0.1 * part, target, masks) for part in (inside > 0.5, inside < 0.5))
    share = (inside > 0.5).float().mean()
    assert on / share > off / (1 - share)
