"""The long tables of chapter 4 compare what they say they do."""

import pytest
import torch

from interp_utils import rosetta
from interp_utils.sandbox.known import factors, mining, reader, tables, units


@pytest.fixture(scope="module")
def mined():
    return mining.mine(("sandbox/viewers/resnet", "sandbox/viewers/clip_resnet"), n=64)


@pytest.fixture(scope="module")
def r(mined):
    return mining.with_objects(mined.generator, n=40)


def test_controls_are_as_many_other_units(mined, r):
    blank = mining.mine(("sandbox/viewers/resnet", "sandbox/viewers/clip_resnet"), n=32, pretrained=False, own=mined.own)
    sets = tables.unit_sets(mined, r, [blank])
    chosen = set(sets["Rosetta"].tolist())
    assert set(sets) == {"Rosetta", "random 0", "random 1", "random 2", "same correlation", "untrained 0"}
    for name in ("random 0", "random 1", "random 2", "same correlation"):
        assert len(sets[name]) == len(set(sets[name].tolist())) == len(chosen) and not chosen & set(sets[name].tolist())
    assert len(sets["untrained 0"]) <= len(chosen)
    apart = {name: (r[sets[name]] - r[sets["Rosetta"]]).abs().mean() for name in ("same correlation", "random 0")}
    assert apart["same correlation"] < 0.5 * apart["random 0"]
    single = tables.object_sets(mined, r, [blank])
    assert all(len(numbers) == tables.FEW for numbers in single.values())
    assert r[single["Rosetta"][0]] == r[mined.dictionary.units].max() and not chosen & set(single["same correlation"].tolist())
    assert (r[single["same correlation"]] - r[single["Rosetta"]]).abs().mean() < 0.2


def test_objects_that_the_reader_finds_serve_as_well_as_the_true_ones(mined, r):
    read = mining.with_objects(mined.generator, n=40, reader=reader.load_reader())
    assert torch.corrcoef(torch.stack([r, read]))[0, 1] > 0.97


def test_images_to_edit_are_read_as_one_object_in_the_middle():
    generator = rosetta.load_unit_model(units.NAME)
    z, c = mining.read_as_single(generator, 12)
    known = factors(z)
    assert z.shape == (12, 32) and (c.sum(1) == 1).all()
    assert ((known.places[:, 0] - 32).abs() < 12).float().mean() > 0.9 and ((known.present > 0.5).sum(1) == 1).float().mean() > 0.9
    with pytest.raises(ValueError, match="only 0 single objects"):
        mining.read_as_single(generator, 1, area=(0.9, 1.0))


def test_the_partner_that_taught_a_gan_is_left_out():
    assert set(mining.SEEING) - set(mining.PARTNERS[mining.GAN]) == {"sandbox/viewers/resnet"}


def test_a_dictionary_of_one_class_is_mined_on_that_class():
    one, all_kinds = (mining.mine(("sandbox/viewers/resnet",), n=48, kind=kind) for kind in (1, None))
    assert one.matches[0].count == 48
    assert 0 < one.dictionary.overlap(all_kinds.dictionary)["units"] < 1


def test_restyled_pictures_are_what_they_are_called():
    image = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(tables.restyled(image, "negative"), 1 - image, atol=1 / 255, rtol=0)
    sketch = tables.restyled(torch.full((1, 3, 64, 64), 0.3), "sketch")
    assert sketch.min() == 1, "no edge, no line"


def test_above_chance_counts_what_shuffled_images_do_not_reach():
    seen, shuffled = 0.1 * torch.rand(20, 20), 0.1 * torch.rand(20, 20)
    seen[3, 4] = seen[7, 2] = 0.9
    found = tables.above_chance(seen, shuffled)
    assert 2 <= found["above"] < found["pairs"]
    same = tables.above_chance(shuffled, shuffled)
    assert same["above"] <= 0.06 * same["pairs"]
