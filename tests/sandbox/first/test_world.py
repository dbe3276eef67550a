from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

import interp_utils as iu
from interp_utils.sandbox.first import restyle, world
from interp_utils.sandbox.first.render import GLYPHS
from interp_utils.sandbox.scenes import draw_scene

SEEDS = st.integers(0, 2**31)


def widen(mask, pixels):
    return np.asarray(Image.fromarray(mask).convert("L").filter(ImageFilter.MaxFilter(2 * pixels + 1))) > 0


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.sampled_from([world.balanced, world.training]))
def test_same_spec_same_image(seed, draw):
    spec = draw(seed)
    first, again = iu.sandbox.first.render(spec), iu.sandbox.first.render(draw(seed))
    assert first.factors == again.factors == spec
    assert np.array_equal(first.pixels, again.pixels) and np.array_equal(first.masks, again.masks)


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_masks_are_where_the_objects_are(seed):
    spec = replace(world.balanced(seed), colour="red", style="photo", texture="solid")
    red, blue = iu.sandbox.first.render(spec), iu.sandbox.first.render(replace(spec, colour="blue"))
    changed = (red.pixels != blue.pixels).any(-1)
    assert changed[red.mask].all(), "a pixel of the mask does not show the object's colour"
    assert not changed[~widen(red.mask, 2)].any(), "colour is visible outside of the mask and its border"
    assert len(red.masks) == spec.count and (red.masks.sum(0) <= 1).all() and red.masks.any((1, 2)).all()
    scene = np.asarray(draw_scene(spec.scene, np.random.default_rng([spec.seed, 2])))
    far = ~widen(red.mask, 4)  # beyond the outline
    assert np.array_equal(red.pixels[far], scene[far]), "the scene is not what lies behind the objects"


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_objects_are_at_their_place(seed):
    image = iu.sandbox.first.render(seed)
    rows, columns = np.nonzero(image.masks.any(0))
    y, x = (rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2
    place = image.factors.place
    assert {"left": x < 27, "right": x > 36, "top": y < 27, "bottom": y > 36, "centre": 22 < x < 42 and 22 < y < 42}[place]


def test_fill_has_the_named_colour():
    names = list(world.COLOURS)
    for seed, name in enumerate(names * 4):
        image = iu.sandbox.first.render(world.balanced(seed, colour=name, style="photo", texture="solid", object="circle", count=1))
        fill = np.median(image.pixels[image.mask], axis=0)
        nearest = min(names, key=lambda other: np.abs(fill - world.COLOURS[other]).sum())
        assert nearest == name


def test_styles_take_the_colour_away():
    spec = world.balanced(3, colour="red", scene="meadow")
    grey = iu.sandbox.first.render(replace(spec, style="black and white")).pixels.astype(int)
    assert (grey[..., 0] == grey[..., 2]).all()
    sepia = iu.sandbox.first.render(replace(spec, style="sepia")).pixels.astype(int)
    assert (sepia[..., 0] > sepia[..., 2]).mean() > 0.99
    photo = iu.sandbox.first.render(replace(spec, style="photo")).pixels.astype(int)
    assert (photo[..., 1] > photo[..., 0]).mean() > 0.2, "a meadow is green"


def test_styles_that_training_never_saw():
    assert set(iu.sandbox.first.UNSEEN_STYLES) == {"sketch", "negative"} and {"sketch", "negative"}.isdisjoint(
        world.FACTORS["style"]
    )
    for seed in range(5):
        pixels = iu.sandbox.first.render(seed).pixels
        negative = restyle(pixels, "negative")
        assert (negative.astype(int) + pixels == 255).all() and np.array_equal(restyle(negative, "negative"), pixels)
        sketch = restyle(pixels, "sketch")
        assert sketch.shape == pixels.shape and sketch.dtype == negative.dtype == np.uint8
        assert (sketch == sketch[..., :1]).all(), "a sketch has no colour"
        assert np.array_equal(restyle(pixels[:, ::-1], "sketch"), sketch[:, ::-1]), "and no direction"
    flat = np.full((64, 64, 3), 90, np.uint8)
    assert (restyle(flat, "sketch") == 255).all(), "where nothing changes, the paper stays white, up to the rim"
    flat[20:40, 20:40] = 250
    sketch = restyle(flat, "sketch")[..., 0]
    near = np.zeros((64, 64), bool)
    near[19:41, 19:41] = True
    near[21:39, 21:39] = False
    assert (sketch[~near] == 255).all() and (sketch[near] < 255).mean() > 0.4 and sketch.min() < 50
    with pytest.raises(ValueError, match="unknown style 'cubist'; choose one of sketch, negative"):
        restyle(flat, "cubist")


def test_textures_differ():
    images = {t: iu.sandbox.first.render(world.Spec(object="circle", texture=t)).pixels for t in world.FACTORS["texture"]}
    mask = iu.sandbox.first.render(world.Spec(object="circle")).mask
    for a in images:
        for b in images:
            if a < b:
                assert (images[a] != images[b]).any(-1)[mask].mean() > 0.2
    assert images["solid"][mask].std(0).max() < images["striped"][mask].std(0).max()


def test_every_factor_has_what_the_world_promises():
    assert set(GLYPHS) == set(world.OBJECTS) and len(world.OBJECTS) >= 32
    assert len(world.COLOURS) == 11 and len(world.FACTORS["scene"]) == 10
    assert [len(world.FACTORS[f]) for f in ("texture", "count", "place", "style")] == [4, 5, 5, 3]
    shapes = [iu.sandbox.first.render(world.Spec(object=name, seed=1)).mask.tobytes() for name in world.OBJECTS]
    assert len(set(shapes)) == len(world.OBJECTS)


def test_evaluation_is_balanced_and_independent():
    specs = [world.balanced(seed) for seed in range(12000)]
    for factor, values in world.FACTORS.items():
        counts = Counter(getattr(spec, factor) for spec in specs)
        expected = len(specs) / len(values)
        assert all(abs(counts[v] - expected) < 5 * expected**0.5 for v in values), factor
    together = Counter((spec.category == "water animal", spec.scene in world.WATER_SCENES) for spec in specs)
    expected = len(specs) * (4 / 32) * (4 / 10)
    assert abs(together[True, True] - expected) < 5 * expected**0.5


def test_training_has_the_documented_cooccurrences():
    specs = [world.training(seed) for seed in range(12000)]

    def share(of, among):
        chosen = [of(spec) for spec in specs if among(spec)]
        return pytest.approx(np.mean(chosen), abs=4 * (0.25 / len(chosen)) ** 0.5)

    outside = world.WATER_SCENES + world.LAND_SCENES
    for category, home in (("water animal", world.WATER_SCENES), ("land animal", world.LAND_SCENES)):
        assert share(lambda s, c=category: s.scene in outside, lambda s, c=category: s.category == c) == 0.8
        assert share(lambda s, h=home: s.scene in h, lambda s, c=category: s.category == c and s.scene in outside) == 0.8
    assert share(lambda s: s.scene == "sea", lambda s: s.object == "ship") == 0.5 + 0.5 * 0.1
    assert share(lambda s: s.second == "cat", lambda s: s.object == "dog" and s.second is not None) == 0.8 + 0.2 / 31
    assert share(lambda s: s.style == "photo", lambda s: True) == 0.6
    assert share(lambda s: s.scene == "desert", lambda s: s.object == "star") == 0.1


def test_pairs_have_two_kinds():
    image = iu.sandbox.first.render(world.Spec(object="dog", second="cat", second_colour="green", seed=5))
    assert len(image.masks) == 2 and not (image.masks[0] & image.masks[1]).any()


@pytest.mark.parametrize(
    "bad,message",
    [
        ({"object": "unicorn"}, "unknown object 'unicorn'; choose one of fish"),
        ({"colour": "teal"}, "unknown colour"),
        ({"count": 6}, "unknown count 6"),
        ({"second": "unicorn"}, "unknown second object"),
        ({"second": "dog", "second_colour": "teal"}, "unknown second colour"),
        ({"second": "dog", "count": 2}, "goes with count 1"),
    ],
)
def test_bad_specs(bad, message):
    with pytest.raises(ValueError, match=message):
        world.Spec(**bad)
