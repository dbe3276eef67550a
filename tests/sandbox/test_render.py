"""Images of the sandbox do not depend on torch's default precision."""

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
