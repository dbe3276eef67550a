"""Images of the sandbox do not depend on torch's default precision."""

import sys

import numpy as np
import torch

import interp_utils as iu
from interp_utils.sandbox import known
from interp_utils.sandbox.known.reader import load_reader
from interp_utils.sandbox.world import natural


def drawn():
    several = [natural(seed) for seed in range(60)]
    images = [iu.sandbox.render(spec).pixels for spec in several]
    z = known.sample(6, torch.Generator().manual_seed(0))
    picture, masks = known.picture(known.factors(z), torch.arange(6))
    reader = load_reader().read(picture)
    generator = iu.rosetta.load_unit_model("sandbox/known_big_gan", device="cpu")
    seen = iu.rosetta.load_unit_model("sandbox/viewers/dino_vit", device="cpu")
    return np.stack(images), z, picture, masks, reader.masks, generator(*generator.sample(2, seed=1))[0], seen(picture)[0]


def test_images_are_the_same_under_another_default_precision():
    single = drawn()
    torch.set_default_dtype(torch.float64)
    try:
        double = drawn()
    finally:
        torch.set_default_dtype(torch.float32)
    for ours, theirs in zip(single, double, strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(np.asarray(theirs, float), np.asarray(ours, float), atol=1e-5)


def test_an_image_is_drawn_once_and_each_reader_gets_a_copy(monkeypatch):
    render = sys.modules["interp_utils.sandbox.render"]
    monkeypatch.setattr(render, "KEPT", 5)
    monkeypatch.setattr(render, "_kept", {})
    drawn, draw = [], render.draw
    monkeypatch.setattr(render, "draw", lambda specs, masks: drawn.extend(specs) or draw(specs, masks))
    specs = [natural(seed) for seed in range(4)]
    first, again = (iu.sandbox.rendered(specs + specs[:1]) for _ in range(2))
    assert drawn == specs
    for one, other, spec in zip(first, again, specs + specs[:1], strict=True):
        assert np.array_equal(one.pixels, other.pixels) and np.array_equal(one.masks, other.masks) and other.factors == spec
        one.pixels[:] = 0
        one.masks[:] = False
        assert other.pixels.any() and other.masks.any()
    iu.sandbox.rendered([natural(seed) for seed in range(4, 9)])
    assert np.array_equal(iu.sandbox.render(specs[0]).pixels, again[0].pixels)
    assert drawn.count(specs[0]) == 2, "the oldest make room"
