"""Chapter 4's calls for the thesis's own generators, on generators of their classes that are small."""

import pytest
import torch
from small_generators import SMALL_STYLE, SMALL_XL

from interp_utils import rosetta
from interp_utils.rosetta.generators import StyleGAN2, StyleGANXL, registry
from interp_utils.rosetta.judging import published

SHORT = {"n_mined": 12, "batch_size": 4}


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(registry, "StyleGAN2", lambda: StyleGAN2(SMALL_STYLE))
    monkeypatch.setattr(registry, "StyleGANXL", lambda: StyleGANXL(SMALL_XL))
    return lambda name: rosetta.load_unit_model(name, device="cpu", pretrained=False)


@pytest.fixture
def models():
    names = "resnet", "clip_resnet"
    return {name: rosetta.load_unit_model(f"sandbox/viewers/{name}", device="cpu", pretrained=False) for name in names}


def test_photographs_lead_a_generator(small, models):
    torch.manual_seed(0)
    found = published.led_by_photographs(
        small("stylegan2_cat"), list(models.values()), torch.rand(2, 3, 64, 64), **SHORT, steps=6, lr=0.1
    )
    assert found.images.shape[0] == 2
    assert (found.history["match"][-1] > found.history["match"][0]).all(), "the maps come nearer to those of the photographs"


def test_a_style_draws_what_its_latent_draws(small):
    generator = small("stylegan_xl")
    z, c = generator.sample(2, seed=3)
    w = generator.model.mapping(z, c)[:, 0]
    images, _ = published.by_style(generator)(w)
    expected = (generator.model(z, c) + 1) / 2
    assert torch.allclose(images, expected, atol=1e-5)


def test_the_table_has_every_row_and_starts_at_the_mean_style_of_the_class(small, models):
    torch.manual_seed(0)
    generator = small("stylegan_xl")
    generator.model.mapping.w_avg.normal_()
    blank = {"resnet": rosetta.load_unit_model("sandbox/viewers/resnet", device="cpu", pretrained=False, seed=1)}
    kinds = torch.tensor([0, 3])
    target = published.by_style(generator)(generator.model.mapping.w_avg[kinds])[0].clamp(0, 1)
    table = published.inversion_of_photographs(
        generator, models, blank, target, kinds, **SHORT, steps=(0, 4), distance=lambda a, b: (a - b).abs().mean((1, 2, 3))
    )
    losses = ("perceptual loss", "+ resnet", "+ clip_resnet", "+ all", "+ all, untrained")
    assert set(table) == {f"{loss}, {n} steps" for loss in losses for n in (0, 4)}
    assert table["perceptual loss, 0 steps"]["PSNR"].min() > 60, "the mean style of its class draws the target"
