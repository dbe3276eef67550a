"""The thesis's generators as lists of units, by name, with small models in place of the full ones."""

import pytest
import torch
from small_generators import SMALL_BIG, SMALL_STYLE, SMALL_XL

import interp_utils as iu
from interp_utils.rosetta.generators import (
    GENERATORS,
    BigGAN,
    StyleGAN2,
    StyleGANXL,
    registry,
)


@pytest.fixture
def small(monkeypatch):
    """The registry with small models."""
    for build, config in ((BigGAN, SMALL_BIG), (StyleGAN2, SMALL_STYLE), (StyleGANXL, SMALL_XL)):
        monkeypatch.setattr(registry, build.__name__, lambda build=build, config=config: build(config))


@pytest.mark.parametrize("name", GENERATORS)
def test_generators_join_the_unit_models(name, small):
    generator = iu.rosetta.load_unit_model(name, device="cpu", pretrained=False)
    inputs = generator.sample(3, seed=1)
    assert inputs[0].abs().max() <= 1 and not any(value.requires_grad for value in generator.model.parameters())
    images, maps = generator(*inputs)
    assert images.shape[:2] == (3, 3) and torch.equal(images, generator(*inputs)[0])
    assert len(maps) == len(generator.layers) and len(generator.units) == sum(layer.shape[1] for layer in maps)
    assert generator.licence and generator.source
    viewer = iu.rosetta.load_unit_model("sandbox/viewers/resnet", device="cpu", pretrained=False)
    assert iu.rosetta.correlate(generator, viewer, inputs).matrix.isfinite().all()


def test_style_gan_xl_is_matched_with_truncation_and_without_its_margin(small):
    generator = iu.rosetta.load_unit_model("stylegan_xl", device="cpu", pretrained=False)
    model = generator.model
    model.mapping.w_avg.normal_(generator=torch.Generator().manual_seed(0))
    z, c = generator.sample(2)
    raw = {}
    handles = [part.register_forward_hook(lambda m, i, out, n=n: raw.update({n: out})) for n, part in model.named_modules()]
    images, maps = generator(z, c)
    for handle in handles:
        handle.remove()
    torch.testing.assert_close(images * 2 - 1, model(z, c, psi=0.7))
    for layer, found in zip(generator.layers, maps):
        whole = raw[layer]
        margin = 10 if whole.shape[2] > 32 or (layer != "synthesis" and whole.shape[2] == 36) else 0
        assert torch.equal(found, whole[:, :, margin : whole.shape[2] - margin, margin : whole.shape[3] - margin])
    assert {layer.shape[2] for layer in maps} == {16, 32}


def test_generators_are_fetched_from_pinned_places_only(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "biggan-deep-256-pytorch_model.bin").write_bytes(b"something else")
    monkeypatch.setattr(registry, "BigGAN", lambda: BigGAN(SMALL_BIG))
    with pytest.raises(ValueError, match=f"SHA-256 .* expected {registry.BIG_GAN_SHA256}"):
        iu.rosetta.load_unit_model("biggan_deep256", device="cpu")

    def unreachable(url, path):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    monkeypatch.setattr(registry, "StyleGANXL", lambda: StyleGANXL(SMALL_XL))
    with pytest.raises(OSError, match=r"get the file elsewhere and put it at .*imagenet256\.pkl"):
        iu.rosetta.load_unit_model("stylegan_xl", device="cpu")
    assert len(registry.STYLE_GAN2_REVISION) == 40
