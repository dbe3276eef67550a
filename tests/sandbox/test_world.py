import pickle
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from interp_utils import sandbox
from interp_utils.sandbox import world
from interp_utils.sandbox.render import SIZES, _layout

SEEDS = st.integers(0, 2**31)


def plain(spec, **changes):
    """The spec without what lies over the objects or hides their colour."""
    return replace(spec, style="photo", weather="clear", light="day", texture="plain", **changes)


def widen(mask, pixels):
    return np.asarray(Image.fromarray(mask).convert("L").filter(ImageFilter.MaxFilter(2 * pixels + 1))) > 0


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.sampled_from([world.balanced, world.natural]))
def test_same_spec_same_image_alone_or_in_a_batch(seed, draw):
    spec = draw(seed)
    alone, again = sandbox.render(spec), sandbox.rendered([world.balanced(1), draw(seed), world.balanced(2)])[1]
    assert alone.factors == again.factors == spec
    assert np.array_equal(alone.pixels, again.pixels) and np.array_equal(alone.masks, again.masks)


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_masks_are_where_the_objects_are(seed):
    spec = plain(world.balanced(seed), colour="red")
    red, blue = sandbox.render(spec), sandbox.render(replace(spec, colour="blue"))
    changed = (red.pixels != blue.pixels).any(-1)
    assert changed[red.mask].all(), "a pixel of the mask does not show the object's colour"
    assert not changed[~widen(red.mask, 3)].any(), "colour is visible outside of the mask and its border"
    assert len(red.masks) == spec.count and (red.masks.sum(0) <= 1).all() and red.masks.any((1, 2)).all()


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_objects_are_at_their_place(seed):
    spec = world.balanced(seed, count=1)
    thing = _layout(spec).things[0]
    for position, low, high in ((thing.x, "left", "right"), (thing.y, "top", "bottom")):
        offset = position - 32
        assert (offset < -3) == (low in spec.place) and (offset > 3) == (high in spec.place)
    smallest, largest = SIZES[spec.size]
    assert smallest <= thing.size <= largest


@pytest.mark.parametrize("relation", world.RELATIONS)
def test_relations_hold_in_the_picture(relation):
    for seed in range(12):
        spec = world.Spec(object="heart", others=(("star", "blue"),), relation=relation, seed=seed)
        image = sandbox.render(spec)
        (y, x), (other_y, other_x) = (np.argwhere(mask).mean(0) for mask in image.masks)
        alone = sandbox.render(replace(spec, others=(("circle", "blue"),)))
        assert len(image.masks) == 2 and not (image.masks[0] & image.masks[1]).any()
        assert {
            "left of": x < other_x - 8,
            "right of": x > other_x + 8,
            "above": y < other_y - 8,
            "below": y > other_y + 8,
            "in front of": np.array_equal(image.masks[0], alone.masks[0]),  # whole, whatever stands behind it
        }[relation]


def test_what_is_in_front_hides_what_is_behind():
    both = world.Spec(object="square", others=(("circle", "blue"),), relation="in front of", seed=3)
    hidden = sandbox.render(both).masks[1].sum()
    assert hidden < 0.95 * sandbox.render(replace(both, object="paper plane")).masks[1].sum() or hidden < 0.9 * 3.14 * 12**2


def test_fill_has_the_named_colour():
    names = list(world.COLOURS)
    for seed, name in enumerate(names * 3):
        image = sandbox.render(plain(world.balanced(seed, colour=name, object="circle", count=1)))
        fill = np.median(image.pixels[image.mask], axis=0)
        assert min(names, key=lambda other: np.abs(fill - world.COLOURS[other]).sum()) == name


def test_style_light_and_weather_are_seen():
    spec = plain(world.balanced(3, colour="red", scene="meadow"))
    photo = sandbox.render(spec).pixels.astype(int)
    grey = sandbox.render(replace(spec, style="black and white")).pixels.astype(int)
    sepia = sandbox.render(replace(spec, style="sepia")).pixels.astype(int)
    assert (grey[..., 0] == grey[..., 2]).all() and (sepia[..., 0] >= sepia[..., 2]).all() and (photo[..., 1] > photo[..., 0]).any()
    night, dusk = (sandbox.render(replace(spec, light=light)).pixels.astype(int) for light in ("night", "dusk"))
    assert night.mean() < 0.75 * photo.mean() and (dusk[..., 2] <= photo[..., 2]).all()
    fog = sandbox.render(replace(spec, weather="fog")).pixels.astype(int)
    assert fog.std() < 0.75 * photo.std()
    for weather in ("rain", "snow"):
        changed = (sandbox.render(replace(spec, weather=weather)).pixels != photo).any(-1)
        assert 0.01 < changed.mean() < 0.2


def test_textures_differ():
    images = {t: sandbox.render(world.Spec(object="circle", texture=t)) for t in world.FACTORS["texture"]}
    mask = images["plain"].mask
    for a in images:
        for b in images:
            assert a >= b or (images[a].pixels != images[b].pixels).any(-1)[mask].mean() > 0.15


def test_the_world_has_more_facts_than_its_clip_has_dimensions():
    facts = sum(map(len, world.FACTORS.values())) + len(world.CATEGORIES) + len(world.FAMILIES) + len(world.RELATIONS)
    assert len(world.OBJECTS) == len(set(world.OBJECTS)) >= 120 and len(world.CATEGORIES) >= 20 and facts > 200
    shapes = {sandbox.render(world.Spec(object=name, seed=1)).mask.tobytes() for name in world.OBJECTS}
    assert len(shapes) == len(world.OBJECTS)
    single = torch.from_numpy(np.stack([sandbox.render(world.balanced(k, count=1)).mask for k in range(300)]))
    assert 0.18 < single.float().mean() < 0.3


def test_evaluation_is_balanced_and_independent():
    specs = [world.balanced(seed) for seed in range(12000)]
    for factor, values in world.FACTORS.items():
        counts, expected = Counter(getattr(spec, factor) for spec in specs), len(specs) / len(values)
        assert all(abs(counts[v] - expected) < 5 * expected**0.5 for v in values), factor
    together = Counter((spec.colour == "red", spec.scene in world.WATER_SCENES) for spec in specs)
    expected = len(specs) / 11 * 0.4
    assert abs(together[True, True] - expected) < 5 * expected**0.5


def test_training_has_the_documented_cooccurrences():
    specs = [world.natural(seed) for seed in range(12000)]

    def share(of, among):
        chosen = [of(spec) for spec in specs if among(spec)]
        return pytest.approx(np.mean(chosen), abs=4.5 * (0.25 / len(chosen)) ** 0.5)

    for category, home in world.HOME.items():
        at_home = world.HOME_SHARE + (1 - world.HOME_SHARE) * len(home) / 10
        assert share(lambda s, h=home: s.scene in h, lambda s, c=category: s.category == c) == at_home, category
    assert share(lambda s: s.scene == "desert", lambda s: s.category == "shape") == 0.1
    assert share(lambda s: s.style == "photo", lambda s: True) == world.PHOTO_SHARE
    assert share(lambda s: s.count > 1, lambda s: True) == world.COPIES
    assert share(lambda s: len(s.others) == 1, lambda s: True) == world.PAIR
    assert all(spec.weather == "clear" for spec in specs if spec.scene in world.INDOORS)
    near = share(lambda s: world.CATEGORY_OF[s.others[0][0]] == s.category, lambda s: bool(s.others))
    assert near == world.COMPANION_SHARE + (1 - world.COMPANION_SHARE) * 0.04


@pytest.mark.parametrize(
    "bad,message",
    [
        ({"object": "unicorn"}, "unknown object 'unicorn'; choose one of fish"),
        ({"colour": "teal"}, "unknown colour"),
        ({"count": 6}, "unknown count 6"),
        ({"relation": "inside"}, "unknown relation 'inside'"),
        ({"others": (("unicorn", "red"),)}, "others are pairs"),
        ({"others": (("cat", "red"),), "count": 2}, "go with count 1"),
        ({"others": (("dog", "red"),)}, "of different kinds"),
    ],
)
def test_bad_specs(bad, message):
    with pytest.raises(ValueError, match=message):
        world.Spec(**bad)


def test_only_what_is_shown_is_a_label():
    assert sandbox.factor_label(world.Spec(colour="red"), "colour") == 0
    assert sandbox.factor_label(world.Spec(colour="red", style="sepia"), "colour") == -1
    assert sandbox.factor_label(world.Spec(count=2), "place") == -1 and sandbox.factor_label(world.Spec(count=2), "count") == 1
    assert sandbox.factor_label(world.Spec(others=(("cat", "red"),)), "object") == -1
    assert sandbox.factor_label(world.Spec(), "category") == list(world.CATEGORIES).index("land animal")


def test_tasks():
    images = sandbox.factor_images("colour", 30, scene="sea")
    assert {spec.style for spec in images.specs} == {"photo"} and {spec.scene for spec in images.specs} == {"sea"}
    assert images[3][0].shape == (3, 64, 64) and images[3][1] == world.FACTORS["colour"].index(images.specs[3].colour)
    loader = torch.utils.data.DataLoader(torch.utils.data.Subset(images, [3, 5]), batch_size=2)
    assert torch.equal(next(iter(loader))[0][0], images[3][0]), "a batch drawn at once is the same"
    biased = sandbox.factor_images("scene", 400, biased=True)
    assert any(spec.others for spec in biased.specs) and biased.specs != sandbox.factor_images("scene", 400).specs
    groups = Counter(sandbox.spurious_animals("test", 80)[k][1] for k in range(80))
    assert groups == {(0, 0): 20, (0, 1): 20, (1, 2): 20, (1, 3): 20}
    train = sandbox.spurious_animals("train", 2000)
    own = [(s.category == "water animal") == (s.scene in world.WATER_SCENES) for s in train.specs]
    assert np.mean(own) == pytest.approx(0.95, abs=0.02)
    pixels, mask = sandbox.segmentation_images(4)[2]
    assert mask.dtype == torch.bool and mask.any() and pixels.shape == (3, 64, 64)
    pair = sandbox.object_pair("horse", "car", 10)
    assert [pair[k][1] for k in range(10)] == [0, 1] * 5
    for dataset in (images, biased, train, pair, sandbox.factor_images("object", 3, unseen_style="sketch")):
        assert torch.equal(pickle.loads(pickle.dumps(dataset))[1][0], dataset[1][0])
    for call, message in (
        (lambda: sandbox.factor_images("mood", 3), "unknown factor"),
        (lambda: sandbox.factor_images("object", 0), "n must be at least 1"),
        (lambda: sandbox.factor_images("object", 3, unseen_style="cubist"), "unknown style"),
        (lambda: sandbox.spurious_animals("val", 4), "split must be"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
