import pytest
import torch

from interp_utils import rosetta, widgets


@pytest.fixture(scope="module")
def zoo():
    reference = rosetta.load_unit_model("sandbox/big_gan", "cpu")
    models = {name: rosetta.load_unit_model(name, "cpu") for name in ("sandbox/viewers/resnet", "sandbox/viewers/clip_resnet")}
    found = rosetta.correlate(reference, [*models.values(), reference], reference.sample(24, seed=0))
    matches = dict(zip(models, found))
    return reference, models, reference.sample(2, seed=3), matches, rosetta.build_dictionary(found[:2], found[2])


def test_dictionary_explorer_at_both_ends(zoo):
    reference, models, latents, _, dictionary = zoo
    explorer, seen = widgets.dictionary_explorer(reference, models, latents, dictionary), set()
    concepts = dictionary.concepts()
    for concept in (0, len(concepts) - 1):
        explorer.controls["concept"].value = concept
        assert [name for name, _ in explorer.controls["entry"].options] == [each.unit for each in concepts[concept]]
        for entry in (0, len(concepts[concept]) - 1):
            explorer.controls["entry"].value = entry
            unit, count = concepts[concept][entry], len(concepts[concept])
            counted = f"{count} unit;" if count == 1 else f"{count} units;"
            assert explorer.alt.startswith(f"concept {concept}, {counted} {unit.unit} correlates")
            assert f"resnet {unit.correlations['sandbox/viewers/resnet']:.2f}" in explorer.alt
            seen.add(explorer.png)
    assert len(seen) >= 2, "moving a control did not change the picture"


def test_unit_explorer_goes_through_the_reference(zoo):
    reference, models, latents, matches, _ = zoo
    explorer = widgets.unit_explorer(reference, models, latents, matches, ("sandbox/viewers/resnet", 3))
    for model in models:
        explorer.controls["model"].value = model
        for unit in (0, len(matches[model].b) - 1):
            explorer.controls["unit"].value = unit
            through = matches[model].matrix[:, unit].argmax().item()
            assert explorer.alt.startswith(f"through {reference.units.names[through]} of big_gan: ")
            for name, match in matches.items():
                partner = unit if name == model else match.matrix[through].argmax().item()
                value = match.matrix[through, partner].item()
                assert f"{name.split('/')[-1]} {match.b.names[partner]} {value:.2f}" in explorer.alt
                pair = torch.tensor([through, partner])
                buddies = (rosetta.best_buddies(match.matrix) == pair).all(1).any()
                said = explorer.alt.split(f"{match.b.names[partner]} {value:.2f}")[1].startswith(" (no best buddies)")
                assert said != bool(buddies)


def test_a_reference_that_sees_works_on_images(zoo):
    _, models, _, _, _ = zoo
    one, two = models.values()
    images = torch.rand(6, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    match, own = rosetta.correlate(one, [two, one], images)
    dictionary = rosetta.build_dictionary([match], own)
    figure, sentence = widgets.draw_concept(one, {two.name: two}, images[:2], dictionary, 0, 0)
    assert sentence.startswith("concept 0,") and figure.png()[:4] == b"\x89PNG"


def test_what_is_not_there_is_refused(zoo):
    reference, models, latents, matches, dictionary = zoo
    with pytest.raises(IndexError, match="no concept 999"):
        widgets.draw_concept(reference, models, latents, dictionary, 999, 0)
    with pytest.raises(IndexError, match="no unit 480: sandbox/viewers/resnet has 480"):
        widgets.draw_partners(reference, models, latents, matches, "sandbox/viewers/resnet", 480)
    with pytest.raises(ValueError, match="a correlation for each model"):
        widgets.unit_explorer(reference, models, latents, {})


def test_edit_explorer_at_its_extremes(zoo, monkeypatch):
    reference, _, latents, matches, dictionary = zoo
    own = rosetta.correlate(reference, reference, reference.sample(24, seed=0))
    steps = []
    real = widgets.editing.edit

    def short(*args, **options):
        steps.append(options["steps"])
        return real(*args, **(options | {"steps": 3}))

    monkeypatch.setattr(widgets.editing, "edit", short)
    explorer = widgets.edit_explorer(reference, own, dictionary, latents)
    assert explorer.alt.startswith(f"shift right, all concepts, {len(dictionary)} units")
    pictures = {explorer.png}
    for what in ("remove", "strengthen", "copy and paste", "zoom in"):
        explorer.controls["what"].value = what
        explorer.controls["concept"].value = len(dictionary.concepts()) - 1
        assert explorer.alt.startswith(f"{what}, concept {len(dictionary.concepts()) - 1}, ")
        explorer.controls["image"].value = explorer.controls["image"].max
        pictures.add(explorer.png)
    assert len(pictures) == 5 and set(steps) == {40}
    with pytest.raises(ValueError, match="unknown edit 'melt'"):
        widgets.draw_edit(reference, own, dictionary, latents, "melt", None, 0)
    with pytest.raises(IndexError, match="no image 2"):
        widgets.draw_edit(reference, own, dictionary, latents, "remove", None, 2)


def test_an_edit_comes_nearer_to_what_was_asked_for(zoo):
    reference, _, latents, _, dictionary = zoo
    own = rosetta.correlate(reference, reference, reference.sample(24, seed=0))
    _, sentence = widgets.draw_edit(reference, own, dictionary, latents, "shift right", None, 0, steps=15)
    before, after = (float(part.split()[-2]) for part in sentence.split("maps ")[1].split(", "))
    assert after < before
