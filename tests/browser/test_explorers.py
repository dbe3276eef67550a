"""Explorers in JupyterLab, moved as a reader moves them. How long they took is written to build/browser/latency.json."""

import io
import time

import nbformat
import numpy as np
import pytest
from browser.conftest import ERRORS, IDLE, OUT, ran_all, serious_faults, serving, watched
from browser.explorers import ANSWERED, EXPLORERS, Watch, notebook
from PIL import Image

pytestmark = pytest.mark.browser

CELLS = "window.jupyterapp.shell.currentWidget.content.widgets.map(cell => [cell.model.id, cell.model.type])"
TOP_AND_BOTTOM = """(image) => {
  const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight), context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  return [0.1, 0.9].map((y) => [...context.getImageData(canvas.width / 2, y * canvas.height, 1, 1).data]);
}"""
RUN_AGAIN = """(k) => {
  window.jupyterapp.shell.currentWidget.content.activeCellIndex = k;
  return window.jupyterapp.commands.execute("notebook:run-cell");
}"""
FAST_MOVES = """([box, moves]) => {
  const cells = [...box.querySelectorAll('.iu-cell')], images = box.querySelector('select');
  box.told = [];
  for (let k = 0; k < moves; k++) {
    cells[(7 * k + 3) % cells.length].click();
    images.selectedIndex = (k + 1) % images.options.length;
    images.dispatchEvent(new Event('change', {bubbles: true}));
  }
}"""
THEME = "(theme) => window.jupyterapp.commands.execute('apputils:change-theme', {theme: `JupyterLab ${theme}`})"
SAVE = "() => window.jupyterapp.commands.execute('docmanager:save')"
ODD = ["$\\frac{1}{$, $5", "<b>dog</b>, a & b", "猫, 🐈", "a dog, " + "a very long name, " * 3 + "a cat"]


@pytest.fixture(scope="module")
def page(chromium, tmp_path_factory):
    """JupyterLab with every explorer, each in a cell of its own."""
    cells, folder = notebook(*(code.strip() for code in EXPLORERS.values())), tmp_path_factory.mktemp("lab")
    with serving(folder, {"explorers.ipynb": cells}) as address:
        page = watched(chromium.new_context(viewport={"width": 1280, "height": 1000}))
        page.address, page.folder = address, folder / "notebooks"
        errors = ran_all(page, address("explorers.ipynb")).locator(ERRORS)
        assert errors.count() == 0, errors.first.inner_text()
        yield page
        page.context.close()


@pytest.fixture
def explorer(page, request):
    """The explorer of a name; afterwards neither the page nor the kernel has had an error."""
    box = page.locator(".jp-Cell").nth([*EXPLORERS].index(request.param)).locator(".iu-explorer")
    box.wait_for()
    watch = Watch(page, box)
    yield watch
    watch.report(f"{request.node.name.split('[')[0]}, {request.param}")
    assert page.errors == []
    errors = page.locator(ERRORS)
    assert errors.count() == 0, errors.first.inner_text()


def put_on(page, theme: str) -> None:
    """Change JupyterLab's theme, and wait for its splash to be gone: it would be removed twice by two changes at once."""
    page.evaluate(THEME, theme)
    light = str(theme == "Light").lower()
    page.wait_for_function(
        f"() => document.body.dataset.jpThemeLight === '{light}' && !document.getElementById('jupyterlab-splash')"
    )


def show(page, box, name: str) -> None:
    """Pictures of an explorer in light and dark, wide and narrow, to be looked at."""
    for theme in ("Light", "Dark"):
        put_on(page, theme)
        for width in (1280, 700):
            page.set_viewport_size({"width": width, "height": 1000})
            box.scroll_into_view_if_needed()
            box.screenshot(path=OUT / f"{name}_{theme.lower()}_{width}.png")
    put_on(page, "Light")
    page.set_viewport_size({"width": 1280, "height": 1000})


def photo(megabytes: int = 12) -> bytes:
    """A photograph as a telephone takes it: noisy, and turned by a quarter, as its EXIF says; upright it is red above blue."""
    rng, file, exif = np.random.default_rng(0), io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    grain = rng.integers(0, 256, (3000, 4000), dtype=np.uint8)
    smooth = Image.new("RGB", (4000, 3000), (230, 0, 0))
    smooth.paste((0, 0, 230), (2000, 0, 4000, 3000))
    Image.blend(smooth, Image.fromarray(grain).convert("RGB"), 0.5).save(file, "jpeg", quality=98, exif=exif)
    assert file.tell() > 1e6 * megabytes
    return file.getvalue()


def seconds_to_read(photo: bytes) -> float:
    """How long this machine takes now to read a photo and to make it small."""
    started = time.perf_counter()
    Image.open(io.BytesIO(photo)).convert("RGB").resize((1024, 768))
    return time.perf_counter() - started


@pytest.mark.parametrize("explorer", [*EXPLORERS], indirect=True)
def test_every_control_to_its_ends(page, explorer, request):
    explorer.to_the_ends()
    show(page, explorer.box, request.node.callspec.params["explorer"])


@pytest.mark.parametrize("theme", ["Dark", "Light"])
def test_accessibility(page, theme):
    put_on(page, theme)
    assert not (faults := serious_faults(page, ".iu-explorer")), faults


@pytest.mark.parametrize("explorer", ["zero-shot", "concepts"], indirect=True)
def test_a_readers_own_photo_and_a_file_that_is_none(explorer):
    start = explorer.words
    explorer.give("holiday.jpg", photo())
    assert explorer.words != start and "Error" not in explorer.words
    assert explorer.taken["words"][-1] < 10_000 * seconds_to_read(photo()), "ten times what reading it alone takes"
    above, below = explorer.box.locator(".iu-plain").evaluate(TOP_AND_BOTTOM)
    assert above[0] > above[2] + 50 and below[2] > below[0] + 50, "it is not upright"
    explorer.give("notes.jpg", b"no image")
    assert "notes.jpg" in explorer.words and explorer.box.locator(".iu-stale .iu-plain").is_visible()
    chooser = explorer.box.get_by_label("image", exact=True)
    explorer.move(lambda: chooser.select_option(index=1))
    assert "Error" not in explorer.words


@pytest.mark.parametrize("explorer", ["head"], indirect=True)
def test_heads_are_picked_in_the_grid_and_patches_tell_their_values(page, explorer):
    box = explorer.box
    grid = box.get_by_role("grid", name="heads")
    assert not box.locator(".iu-view img").is_visible(), "the figure stands in for views that cannot run"
    for head in ("L9H5", "L0H0", "L7H2", "L6H3", "L9H0"):
        explorer.move(grid.get_by_role("button", name=f"{head}:").click, until=("words",))
        assert explorer.words.startswith(f"{head} adds")
    cell = grid.get_by_role("button", name="L9H0:")
    cell.focus()
    for key, head in (("ArrowUp", "L8H0"), ("ArrowRight", "L8H1"), ("Home", "L0H0"), ("End", "L9H5")):
        page.keyboard.press(key)
        box.get_by_text(f"{head} adds").wait_for()
        assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith(head)
    there = page.evaluate(CELLS)
    for part in (box.get_by_role("slider", name="head"), box.get_by_label("image", exact=True), cell):
        part.focus()
        for key in ("x", "m", "b"):
            page.keyboard.press(key)
    assert page.evaluate(CELLS) == there, "a key cut, changed or added a cell"
    box.locator(".iu-patches [role=gridcell]").nth(20).hover()
    assert box.locator(".iu-said").last.inner_text().startswith("row 3, column 5: ")


@pytest.mark.parametrize("explorer", ["head"], indirect=True)
def test_of_fast_moves_the_last_is_drawn(page, explorer):
    """Heads and images by turns, faster than any kernel can draw them."""
    moves, heads = 15, 6
    layer, head = divmod((7 * (moves - 1) + 3) % 60, heads)
    page.evaluate(FAST_MOVES, [explorer.box.element_handle(), moves])
    page.wait_for_function(ANSWERED, arg=[explorer.box.element_handle(), ("words",)])
    explorer.box.get_by_text(f"L{layer}H{head} adds").wait_for()
    page.wait_for_timeout(500)  # for what might come late
    assert explorer.words.startswith(f"L{layer}H{head} adds")
    picked = explorer.box.locator("[role=gridcell][aria-selected=true] .iu-cell")
    assert picked.get_attribute("title") == f"L{layer}H{head}"
    sliders = [explorer.box.get_by_role("slider", name=name) for name in ("layer", "head")]
    assert [float(slider.get_attribute("aria-valuenow")) for slider in sliders] == [layer, head]
    chosen = explorer.box.get_by_label("image", exact=True).evaluate("(select) => select.value")
    assert explorer.box.locator(".iu-map img").get_attribute("alt") == chosen == f"image {moves % 6}"
    drawn = explorer.box.evaluate("(box) => box.told.filter(([what]) => what === 'words').length")
    assert drawn <= 3, f"{drawn} of {2 * moves} moves were drawn"


@pytest.mark.parametrize(
    "explorer, field, wrong, right",
    [("head", "text", "   ", "a dog"), ("zero-shot", "names", "a dog", "a dog, a cat"), ("zero-shot", "prompt", "no place", "{}")],
    indirect=["explorer"],
)
def test_odd_text_and_wrong_text(explorer, field, wrong, right):
    for odd in ODD if field != "prompt" else ("a drawing of {}", "$5 of {}, 猫"):
        explorer.type(field, odd)
        assert "Error" not in explorer.words
    explorer.type(field, wrong)
    assert "Error" in explorer.words and explorer.box.locator(".iu-stale:visible").count() == 1
    stale = explorer.box.locator(".iu-stale:visible").element_handle()
    explorer.page.wait_for_function("(part) => getComputedStyle(part).opacity < 0.5", arg=stale)  # it fades
    explorer.type(field, right)
    assert "Error" not in explorer.words and explorer.box.locator(".iu-stale").count() == 0


@pytest.mark.parametrize("explorer", ["head"], indirect=True)
def test_a_head_that_was_picked_stays_when_its_cell_is_run_again_and_is_what_others_open_with(page, explorer):
    explorer.type("text", "a picture of a tree")
    head = "L8H0" if not explorer.words.startswith("L8H0") else "L9H5"  # the neighbours' explorer knows these two
    explorer.move(explorer.box.get_by_role("grid", name="heads").get_by_role("button", name=f"{head}:").click, until=("words",))
    said = explorer.words
    for name in ("head", "neighbours"):
        k = [*EXPLORERS].index(name)
        page.evaluate(RUN_AGAIN, k)
        box = page.locator(".jp-Cell").nth(k).locator(".iu-explorer")
        box.locator(".iu-status").wait_for()
        page.wait_for_function(IDLE)
        if name == "head":
            assert box.locator(".iu-status").inner_text() == said and "tree" in said
        else:
            assert f"by {head} /" in box.locator(".iu-status").inner_text()


@pytest.mark.parametrize("state", ["with", "without"])
def test_a_saved_notebook_is_opened_again(page, state):
    """Without running it, as the course's settings save it, with the widgets' state, and as others do: a picture and a note."""
    said = [box.locator(".iu-status").inner_text() for box in page.locator(".iu-explorer").all()]
    page.evaluate(SAVE)
    page.wait_for_function("() => !window.jupyterapp.shell.currentWidget.context.model.dirty")
    saved = nbformat.read(page.folder / "explorers.ipynb", 4)
    if state == "without":
        del saved.metadata["widgets"]
    nbformat.write(saved, page.folder / f"{state}.ipynb")  # of another name, or it would find its kernel again
    again = watched(page.context)
    again.goto(page.address(f"{state}.ipynb"))
    again.wait_for_function(IDLE)
    cells = again.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook")
    if state == "with":
        again.wait_for_function(f"() => document.querySelectorAll('.iu-saved').length === {len(said)}")
        assert [box.locator(".iu-status").inner_text() for box in cells.locator(".iu-explorer").all()] == said
        banner = "(box) => getComputedStyle(box, '::before').content"
        assert "Run this cell" in cells.locator(".iu-saved").first.evaluate(banner)
        cells.locator(".iu-patches [role=gridcell]").nth(20).hover()  # the views answer by themselves
        assert cells.locator(".iu-views").nth([*EXPLORERS].index("head")).get_by_text("row 3, column 5: ").count() == 1
    else:
        cells.locator(".jp-RenderedImage img").nth(len(said) - 1).wait_for()
        assert cells.locator(".jp-RenderedImage img:visible").count() == cells.locator(".iu-note:visible").count() == len(said)
        assert all("Run this cell" in note for note in cells.locator(".iu-note").all_inner_texts())
    assert cells.get_by_text("Error displaying widget").count() == 0 and again.errors == []
    again.screenshot(path=OUT / f"saved_{state}_state.png")
    again.close()


def test_without_anywidgets_part_of_jupyter_controls_and_picture_stay(chromium, tmp_path):
    page = watched(chromium.new_context())
    cells = notebook(EXPLORERS["zero-shot"].strip(), EXPLORERS["head"].strip())
    with serving(tmp_path, {"heads.ipynb": cells}, without=("anywidget",)) as address:
        box = ran_all(page, address("heads.ipynb")).locator(".iu-explorer").last
        assert box.locator(".iu-view img").is_visible()
        before = box.locator(".iu-view img").get_attribute("src")
        box.get_by_label("image", exact=True).select_option(index=4)
        page.wait_for_function("([box, was]) => box.querySelector('.iu-view img').src !== was", arg=[box.element_handle(), before])
        box.screenshot(path=OUT / "head_without_views.png")
