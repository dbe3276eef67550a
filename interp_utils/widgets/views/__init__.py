"""Views that run in a browser, each one ES module: as widgets in a notebook, and on pages without a kernel.

A module exports `render({model, el})`, as anywidget asks. It may import another by a line of its own; browsers open neither the
modules of a widget nor those of a page on a disk from other files, so `source` puts an imported module in the line's place.
"""

import base64
import io
import re
import sys
from importlib.resources import files

import anywidget
import traitlets
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from ...plots import unnormalise

NAMES = ("head_grid", "patch_map", "unit_card", "concept_board", "before_after", "pair_view")
LIMIT = 4.0  # standard deviations of full colour on a concept board
CSS = files(__name__).joinpath("views.css").read_text(encoding="utf-8")
_IMPORT = re.compile(r'^import (\w+) from "\./(\w+)\.js";$', re.M)


def source(name: str) -> str:
    """A view's ES module with what it imports in it."""
    text = files(__name__).joinpath(f"{name}.js").read_text(encoding="utf-8")
    return _IMPORT.sub(lambda found: f"const {found[1]} = {_closed(found[2])};", text)


def _closed(name: str) -> str:
    """A view as an expression, its own names hidden."""
    return "(() => {\n" + source(name).replace("export default", "return") + "})()"


def page_script() -> str:
    """All views and the host for pages, as a plain script: browsers refuse modules of a page that is opened from a disk."""
    views = ",\n".join(f"{name}: {_closed(name)}" for name in NAMES)
    host = files(__name__).joinpath("page.js").read_text(encoding="utf-8")
    return f"(() => {{\nconst views = {{\n{views}\n}};\n{host}}})();\n"


def rounded(values: Tensor) -> list:
    """Numbers of three digits in nested lists, as views take them."""
    if values.ndim > 1:
        return [rounded(part) for part in values]
    return [float(f"{value:.3g}") for value in values.tolist()]


def picture(pixels: Tensor):
    """Preprocessed pixels [3, H, W] as a PIL image to look at."""
    return to_pil_image(unnormalise(pixels).movedim(-1, 0))


def address(pixels: Tensor) -> str:
    """Preprocessed pixels [3, H, W] as an address that holds the picture itself."""
    return encoded(picture(pixels))


def encoded(image) -> str:
    """A PIL image as an address that holds it."""
    drawn = io.BytesIO()
    image.save(drawn, "webp", quality=90)
    return "data:image/webp;base64," + base64.b64encode(drawn.getvalue()).decode()


class HeadGrid(anywidget.AnyWidget):
    """Layers x heads, each cell coloured by a number; `picked` is the cell's number, layer * heads + head."""

    _esm, _css = source("head_grid"), CSS
    rows, columns = traitlets.Int(1).tag(sync=True), traitlets.Int(1).tag(sync=True)
    first = traitlets.Int(0).tag(sync=True)  # layer of the first row
    scores = traitlets.Dict().tag(sync=True)  # by name, lists of rows * columns numbers
    shown, label = traitlets.Unicode().tag(sync=True), traitlets.Unicode().tag(sync=True)
    picked = traitlets.Int(0).tag(sync=True)
    notes, links = traitlets.List().tag(sync=True), traitlets.List().tag(sync=True)


class PatchMap(anywidget.AnyWidget):
    """An image under a map of numbers, one a patch; `picked` of several maps is shown."""

    _esm, _css = source("patch_map"), CSS
    image, alt = traitlets.Unicode().tag(sync=True), traitlets.Unicode().tag(sync=True)
    maps, names = traitlets.List().tag(sync=True), traitlets.List().tag(sync=True)  # [n][rows][columns]; n, or none
    picked = traitlets.Int(0).tag(sync=True)
    limit = traitlets.Float(0.0).tag(sync=True)  # the value of full colour; 0 for the largest of the map


class UnitCard(anywidget.AnyWidget):
    """Texts with a bar each, and images with a map each."""

    _esm, _css = source("unit_card"), CSS
    label = traitlets.Unicode().tag(sync=True)
    texts, images = traitlets.List().tag(sync=True), traitlets.List().tag(sync=True)
    percent = traitlets.Bool(False).tag(sync=True)


class ConceptBoard(anywidget.AnyWidget):
    """Images, each beside the maps of one unit in every model; a place that is pointed at is read in all of them."""

    _esm, _css = source("concept_board"), CSS
    units, images = traitlets.List().tag(sync=True), traitlets.List().tag(sync=True)
    limit, measure = traitlets.Float(LIMIT).tag(sync=True), traitlets.Unicode().tag(sync=True)


class BeforeAfter(anywidget.AnyWidget):
    """An image before and after an edit, one wiped over the other, and maps on one scale."""

    _esm, _css = source("before_after"), CSS
    before, after = traitlets.Unicode().tag(sync=True), traitlets.Unicode().tag(sync=True)
    alt, maps = traitlets.Unicode().tag(sync=True), traitlets.List().tag(sync=True)


class PairView(anywidget.AnyWidget):
    """Pairs of images that differ in one thing, and a unit's answers to both."""

    _esm, _css = source("pair_view"), CSS
    unit, text = traitlets.Unicode().tag(sync=True), traitlets.Unicode().tag(sync=True)
    pairs, answers = traitlets.List().tag(sync=True), traitlets.List().tag(sync=True)  # shown; [[on, off]] of all


class Manners(anywidget.AnyWidget):
    """What an explorer needs of the browser: a busy sign, the last of fast moves, names of its controls, keys that stay its own.

    live: whether a browser runs this, and so the other views; parts: the numbers of all that a reader can move; upload: that of the
    control for files, as ipywidgets 8 has it; finer: whether what is shown can be drawn in more detail, which `rested` asks for.
    `done` says that the kernel has answered.
    """

    _esm, _css = source("manners"), CSS
    live = traitlets.Bool(False).tag(sync=True)
    answers = traitlets.Int(0).tag(sync=True)
    parts, moving = traitlets.List().tag(sync=True), traitlets.Bool(False).tag(sync=True)
    upload = traitlets.Unicode().tag(sync=True)
    finer, rested = traitlets.Bool(False).tag(sync=True), traitlets.Int(0).tag(sync=True)

    def done(self) -> None:
        self.answers += 1


def let_in_colab() -> None:
    """Colab shows widgets that are not ipywidgets' own once a session has asked for them."""
    if "google.colab" in sys.modules:
        sys.modules["google.colab"].output.enable_custom_widget_manager()
