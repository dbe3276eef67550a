"""The shell of all explorers, and the views that answer in the browser."""

import sys
from types import SimpleNamespace

import ipywidgets
import pytest
import torch
from small_clips import noise

from interp_utils import plots, widgets
from interp_utils.heads import direct_effects
from interp_utils.widgets import base, views
from interp_utils.widgets.base import counted


class Counted:
    """A drawing function that counts its calls, and keeps what its explorer looked like meanwhile."""

    def __init__(self):
        self.calls, self.explorer, self.classes = 0, None, ()

    def __call__(self, number: int):
        self.calls += 1
        if self.explorer:
            self.classes = self.explorer.view._dom_classes
        if number > 8:
            raise ValueError(f"no {number}")
        figure = plots.Picture(figsize=(1, 1))
        if number == 8:
            figure.png = lambda: 1 / 0  # an error of the drawing itself
        return figure, f"number {number}"


@pytest.fixture
def counter():
    drawn = Counted()
    drawn.explorer = widgets.Explorer(drawn, number=ipywidgets.IntText(1))
    return drawn


def test_a_picture_is_dimmed_while_the_kernel_works(counter):
    counter.explorer.controls["number"].value = 2
    assert "iu-busy" in counter.classes and "iu-busy" not in counter.explorer.view._dom_classes
    assert counter.explorer.manners.answers == 2


@pytest.mark.parametrize("number", [8, 9])
def test_after_an_error_the_old_picture_is_greyed_below_the_message(counter, number):
    explorer = counter.explorer
    before = explorer.view.value
    explorer.controls["number"].value = number
    assert "Error" in explorer.status.value and "Error" in explorer.alt, "sentence and alt agree"
    assert explorer.view.value == before and "iu-stale" in explorer.view._dom_classes
    assert explorer.children.index(explorer.status) < explorer.children.index(explorer.view)
    assert explorer.manners.answers == 2, "the busy sign goes after an error as well"
    explorer.controls["number"].value = 3
    assert "Error" not in explorer.status.value and "iu-stale" not in explorer.view._dom_classes


def test_what_is_shown_is_not_drawn_again(counter):
    counter.explorer.refresh({"new": 1})
    assert counter.calls == 1
    counter.explorer.refresh()
    assert counter.calls == 2, "somebody asked for it"


def test_several_controls_move_at_once():
    calls = []

    def draw(a, b):
        calls.append((a, b))
        return plots.Picture(figsize=(1, 1)), "sum"

    explorer = widgets.Explorer(draw, a=ipywidgets.IntText(1), b=ipywidgets.IntText(2))
    explorer.move(a=3, b=4)
    assert calls == [(1, 2), (3, 4)]


def test_a_picture_is_kept_under_ipywidgets_7_too(counter, monkeypatch):
    """Its widgets have no `_repr_mimebundle_`, and display themselves in a way that stores no picture."""
    monkeypatch.delattr(ipywidgets.Widget, "_repr_mimebundle_", raising=False)
    data, about = counter.explorer._repr_mimebundle_()
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == counter.explorer.model_id
    assert data["image/png"] and about["image/png"]["alt"] == "number 1"


def test_a_note_beside_the_picture_says_what_it_shows_and_where_its_page_is(explorer, monkeypatch):
    said = []
    monkeypatch.setattr(base, "display", lambda data, metadata=None, raw=False: said.append(data))
    explorer.controls["text"].value = "a <dog>"
    explorer._ipython_display_()
    picture, note = said
    assert "image/png" in picture and "Run this cell" in note["text/html"]
    assert "a &lt;dog&gt;" in note["text/html"] and 'data-atlas="heads/L' in note["text/html"]
    assert note["text/plain"] == explorer.alt


def test_moves_that_come_together_are_drawn_once(counter):
    explorer = counter.explorer
    number = explorer.controls["number"]
    explorer._moves(explorer.manners, {"moves": [[number.model_id, {"value": value}] for value in (2, 3, 4)]}, [])
    assert counter.calls == 2 and explorer.alt == "number 4"


def test_a_browser_sees_a_sketch_first_and_all_of_it_once_a_reader_rests():
    def said(how):
        return lambda number: f"{how} {number}"

    explorer = widgets.Explorer(
        lambda number: (plots.Picture(figsize=(1, 1)), f"drawn {number}"), [views.UnitCard()], said("sketch"), finer=said("whole"),
        number=ipywidgets.IntText(1),
    )  # fmt: skip
    assert explorer.alt == "drawn 1" and not explorer.manners.finer
    explorer.manners.live = True
    explorer.controls["number"].value = 2
    assert explorer.alt == "sketch 2" and explorer.manners.finer
    explorer.manners.rested = 1
    assert explorer.alt == "whole 2" and not explorer.manners.finer
    assert explorer._repr_mimebundle_()[1]["image/png"]["alt"]


def test_colab_is_asked_to_let_views_in(monkeypatch):
    asked = []
    output = SimpleNamespace(enable_custom_widget_manager=lambda: asked.append(1))
    monkeypatch.setitem(sys.modules, "google.colab", SimpleNamespace(output=output))
    widgets.Explorer(lambda: (plots.Picture(figsize=(1, 1)), "nothing"))
    assert asked


def test_counts_are_in_english():
    assert (counted(1, "unit"), counted(2, "unit"), counted(0, "unit")) == ("1 unit", "2 units", "0 units")


@pytest.fixture
def explorer(tiny):
    return widgets.head_explorer(tiny, list(noise(tiny, 3)), ["a cat", "a ship"], "a dog")


def test_the_grid_and_the_map_hold_the_numbers_of_every_head(tiny, explorer):
    grid, patches = explorer.views
    effects = direct_effects(tiny, noise(tiny, 3)[1:2])
    explorer.controls["image"].value = 1
    direction, length = widgets.text_direction(tiny, "a dog", ["a cat", "a ship"]), effects.total()[0].norm()
    scores = effects.heads()[0] @ direction / length
    assert torch.allclose(torch.tensor(grid.scores["score"]), scores.flatten(), rtol=0.01, atol=1e-6)
    tokens = effects.head_tokens(1, 2)[0, 1:] @ direction / length
    place = patches.names.index("L1H2")
    assert torch.allclose(torch.tensor(patches.maps[place]).flatten(), tokens, rtol=0.01, atol=1e-6)
    assert patches.image.startswith("data:image/webp") and patches.alt == "image 1"


def test_a_head_picked_in_the_grid_moves_all_and_a_slider_moves_the_grid(tiny, explorer):
    grid, patches = explorer.views
    before = grid.scores, patches.maps
    grid.picked = tiny.n_heads + 2
    assert (explorer.controls["layer"].value, explorer.controls["head"].value) == (1, 2)
    assert explorer.alt.startswith("L1H2 adds") and patches.picked == grid.picked
    explorer.controls["head"].value = 3
    assert grid.picked == patches.picked == tiny.n_heads + 3
    assert before[0] is grid.scores and before[1] is patches.maps, "another head needs no new numbers"


def test_no_figure_is_drawn_where_a_browser_shows_the_views(explorer):
    drawn, draw = [], explorer.draw
    explorer.draw = lambda **values: drawn.append(values) or draw(**values)
    explorer.manners.live = True  # as a browser says
    assert explorer.view.layout.display == "none"
    explorer.controls["head"].value = 2
    assert not drawn and "H2 adds" in explorer.alt and "H2 adds" in explorer.status.value
    data, about = explorer._repr_mimebundle_()
    assert drawn and about["image/png"]["alt"] == explorer.alt, "what is saved is what is shown"
    explorer.manners.live = False
    assert explorer.view.layout.display is None and "H2 adds" in explorer.view.value


def test_without_views_the_figure_stays_in_a_browser(counter):
    counter.explorer.manners.live = True
    counter.explorer.controls["number"].value = 5
    assert "number 5" in counter.explorer.view.value and counter.explorer.view.layout.display is None


@pytest.mark.parametrize("name", [*views.NAMES, "heat", "nodes", "shrink", "manners", "page"])
def test_a_view_is_one_short_file_that_asks_nothing_of_the_network(name):
    text = (views.files(views.__name__) / f"{name}.js").read_text(encoding="utf-8")
    assert text.startswith("//") and text.count("\n") < 200
    assert not any(word in text for word in ("http:", "https:", "fetch(", "innerHTML")), "text goes in as text"
    whole = views.source(name)
    assert "import " not in whole.replace("// ", ""), "an import that was not put in place"
