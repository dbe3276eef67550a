"""A list that can be searched, and what is kept of a reader's moves."""

import ipywidgets
import pytest
import traitlets
from small_clips import noise

from interp_utils import plots, widgets
from interp_utils.widgets import controls
from interp_utils.widgets.controls import Search, selection

UNITS = [("7: + a dog", 7), ("2: - snow", 2), ("5: + a dog in the snow", 5)]


@pytest.fixture
def cell(monkeypatch):
    """Says in which cell we are; forgets what was picked before."""
    now = {"cell": 1}
    monkeypatch.setattr(controls, "_cell", lambda: now["cell"])
    monkeypatch.setattr(controls, "_left", {})
    yield now
    for trait in selection.trait_names():
        setattr(selection, trait, None)


def test_a_search_leaves_what_holds_the_text_and_chooses_the_first():
    units, seen = Search(UNITS, 7, "unit"), []
    units.observe(lambda change: seen.append(change["new"]), "value")
    units.find.value = "SNOW"
    assert [value for _, value in units.choose.options] == [2, 5] and units.value == 2
    units.choose.value = 5
    units.find.value = "dog"
    assert units.value == 5, "what is chosen stays if it is found"
    assert seen == [2, 5]
    units.find.value = "a ship"
    assert "a ship" in units.said.value and units.value == 5 and len(units.choose.options) == 2
    units.value = 2
    assert units.choose.value == 2 and units.find.value == "" and units.options == UNITS, "a program's choice ends the search"


def test_only_what_exists_can_be_chosen():
    units = Search(UNITS, 7, "unit")
    with pytest.raises(traitlets.TraitError, match="no unit 99999"):
        units.value = 99999
    assert units.value == 7
    units.options = [("1: nothing", 1)]
    assert units.value == units.choose.value == 1


def test_a_search_that_changes_nothing_is_answered():
    explorer = widgets.Explorer(lambda unit: (plots.Picture(figsize=(1, 1)), f"unit {unit}"), unit=Search(UNITS, 7, "unit"))
    answers = explorer.manners.answers
    explorer.controls["unit"].find.value = "dog"
    assert explorer.manners.answers > answers and explorer.alt == "unit 7"


def numbers(start: int = 1, most: int = 9):
    def draw(number, text):
        if number > 8:
            raise ValueError(f"no {number}")
        return plots.Picture(figsize=(1, 1)), f"number {number}, {text}"

    listed = ipywidgets.Dropdown(options=range(most + 1), value=start)
    return widgets.Explorer(draw, number=listed, text=ipywidgets.Text("a"))


def test_a_cell_that_is_run_again_goes_on_where_the_reader_was(cell):
    first = numbers()
    first.controls["number"].value = 2
    assert numbers().alt == "number 1, a", "what the cell itself sets is its start"
    cell["cell"] = 2
    first.controls["number"].value = 5
    first.controls["text"].value = "b"
    assert numbers().alt == "number 5, b"
    assert numbers(most=3).alt == "number 1, a", "other arguments, another explorer"
    assert numbers().alt == "number 1, a"


@pytest.mark.parametrize("number", [9, 99])
def test_where_the_reader_was_and_nothing_is_any_more(cell, number):
    first = numbers()
    cell["cell"] = 2
    first.controls["number"].value = 5
    controls._left[first._memory.kind] = first._memory.arguments, {"text": "b", "number": number}
    again = numbers()
    assert again.alt == "number 1, a" and "Error" not in again.status.value


def test_a_head_that_is_picked_is_what_others_open_with(tiny, cell):
    images, features = [(image, 0) for image in noise(tiny, 3)], {None: noise(tiny, 3).flatten(1)}
    features |= {(0, 1): features[None], (1, 3): features[None]}
    grid = widgets.head_explorer(tiny, images, ["a cat"], "a dog")
    assert widgets.neighbour_explorer(images, features).controls["head"].value == (0, 1), "nothing has been picked"
    cell["cell"] = 2
    grid.views[0].picked = tiny.n_heads + 3
    assert selection.head == (1, 3)
    later = widgets.neighbour_explorer(images, features)
    assert later.controls["head"].value == (1, 3) and "L1H3" in later.alt
    cell["cell"] = 3
    later.controls["head"].value = (0, 1)
    assert widgets.head_explorer(tiny, images, ["a cat"], "a dog").alt.startswith("L0H1 adds")
    grid.views[0].picked = 0
    assert widgets.neighbour_explorer(images, features).controls["head"].value == (0, 1), "it has no L0H0; it stays where it was"
