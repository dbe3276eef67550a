"""Every explorer under ipywidgets 7.7.1, which Colab has: what it displays, and what it says and shows once it is moved.

In a kernel of its own that finds this version first, in build/; no browser takes part.
"""

import subprocess
import sys

import nbclient
import pytest
from browser.conftest import OUT, ROOT
from browser.explorers import EXPLORERS, notebook

pytestmark = pytest.mark.browser

VERSION = "7.7.1"
HELPERS = '''
import base64
import html
import io

import ipywidgets
from PIL import Image

OWN = "my own image"


def shown(explorer):
    """The picture's bytes; alt text, sentence and the controls' state agree."""
    data, about = explorer._repr_mimebundle_()
    picture = base64.b64decode(data["image/png"])
    assert Image.open(io.BytesIO(picture)).width > 100
    assert about["image/png"]["alt"] == explorer.alt and html.escape(explorer.alt) in explorer.status.value
    assert "Error" not in explorer.alt and "iu-stale" not in explorer.view._dom_classes
    return picture


def elsewhere(control):
    """A control, a trait of it, and a value that it can be given."""
    control = getattr(control, "choose", control)  # of a list that can be searched
    if isinstance(control, ipywidgets.Dropdown):
        last = len(control.options) - (OWN in control._options_values) - 1
        return control, "index", 0 if control.index == last else last
    if isinstance(control, ipywidgets.Text):
        return control, "value", "a drawing of {}" if "{}" in control.value else "a dog, a cat"
    return control, "value", control.min if control.value == control.max else control.max


def move_all(explorer):
    """By Python, then as a browser that shows the views moves; how many different sentences and pictures there were."""
    said, pictures = {explorer.alt}, {shown(explorer)}
    moves = [each for each in explorer.controls.values() if not isinstance(each, ipywidgets.FileUpload)]
    for each in moves:
        control, trait, value = elsewhere(each)
        setattr(control, trait, value)
        said.add(explorer.alt)
        pictures.add(shown(explorer))
        assert base64.b64encode(explorer.png).decode() in explorer.view.value
        assert explorer.alt in html.unescape(explorer.view.value), "the picture in the page has its alt text"
    explorer.manners.set_state({"live": True})
    assert explorer.view.layout.display == "none", "a figure beside the views"
    filled, before = [view.get_state() for view in explorer.views], explorer.alt
    control, trait, value = elsewhere(moves[0])
    explorer.manners._handle_custom_msg({"moves": [[control.model_id, {trait: value}]]}, [])
    assert explorer.alt != before and [view.get_state() for view in explorer.views] != filled, "no answer to a browser"
    shown(explorer)
    return len(said), len(pictures)


def give(explorer, name, content):
    """A file as the front end of ipywidgets 7 sends it."""
    about = {"name": name, "type": "image/png", "size": len(content), "lastModified": 0}
    explorer.controls["own"].set_state({"metadata": [about], "data": [memoryview(content)], "_counter": 1})


def photo():
    file = io.BytesIO()
    Image.new("RGB", (300, 200), (200, 30, 30)).save(file, "png")
    return file.getvalue()
'''
MOVE = """
made = _
assert ipywidgets.__version__ == {version!r}
said, pictures = move_all(made)
assert said > 1 and pictures > 1, (said, pictures)
if "own" in made.controls:
    before = made.alt
    give(made, "red.png", photo())
    assert made.alt != before and made.controls["image"].value == OWN
    shown(made)
"""


@pytest.fixture(scope="module")
def older():
    """The folder of ipywidgets 7.7.1, installed there once."""
    folder = OUT / f"ipywidgets-{VERSION}"
    if not (folder / "ipywidgets").is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--retries=1", "--no-deps", "--target", folder]
        done = subprocess.run([*command, f"ipywidgets=={VERSION}", "ipython-genutils"], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"ipywidgets {VERSION} cannot be had here: {done.stderr.strip().splitlines()[-1]}")
    return folder


def test_every_explorer_is_displayed_and_moved(older, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{older}:{ROOT}")
    cells = [part for code in EXPLORERS.values() for part in (code.strip(), MOVE.format(version=VERSION))]
    ran = notebook(HELPERS, *cells)
    nbclient.NotebookClient(ran, timeout=300).execute()  # raises what a cell raises
    for name, cell in zip(EXPLORERS, ran.cells[1::2], strict=True):
        widget, note = (output for output in cell.outputs if output.output_type == "display_data")
        assert {"application/vnd.jupyter.widget-view+json", "image/png"} <= set(widget.data), name
        sentence = note.data["text/plain"]
        assert sentence and widget.metadata["image/png"]["alt"] == sentence and "iu-note" in note.data["text/html"], name
