"""Explorers in JupyterLab, moved as a reader moves them. How long they took is written to build/browser/latency.json."""

import json
import statistics

import nbformat
import pytest
from browser.conftest import ERRORS, OUT, ROOT, run_all, serious_faults, watched

pytestmark = pytest.mark.browser

# When a control moved, when the busy sign came, when the sentence, picture or map changed; in ms of the page's own clock.
STOPWATCH = """(box) => {
  const told = (what) => (box.told ??= []).push([what, performance.now()]);
  const words = () => box.querySelector('.iu-status')?.textContent;
  const picture = () => box.querySelector('.iu-view img')?.src;
  const map = () => box.querySelector('.iu-patches')?.getAttribute('aria-label');
  let was = [words(), picture(), map()];
  for (const event of ['change', 'click']) box.addEventListener(event, () => told('moved'), true);
  new MutationObserver(() => {
    if (box.classList.contains('iu-waiting') && !box.waits) told('busy');
    box.waits = box.classList.contains('iu-waiting');
    const now = [words(), picture(), map()];
    ['words', 'picture', 'map'].forEach((what, k) => now[k] !== was[k] && told(what));
    was = now;
  }).observe(box, {subtree: true, childList: true, attributes: true, characterData: true});
}"""

CELLS = "window.jupyterapp.shell.currentWidget.content.widgets.map(cell => [cell.model.id, cell.model.type])"


class Watch:
    """An explorer in the page, and how long its answers take."""

    def __init__(self, page, box):
        self.page, self.box, self.taken = page, box, {}
        box.evaluate(STOPWATCH)

    def move(self, action, until: str = "words", seconds: int = 30) -> None:
        """Do something, and wait until that part of the explorer has changed and the busy sign is gone."""
        self.box.evaluate("(box) => { box.told = [] }")
        action()
        self.page.wait_for_function(
            "([box, until]) => box.told.some(([what]) => what === until) && !box.classList.contains('iu-waiting')",
            arg=[self.box.element_handle(), until],
            timeout=1000 * seconds,
        )
        told = self.box.evaluate("(box) => box.told")
        start = next(at for what, at in told if what == "moved")
        for part in ("busy", "words", "picture", "map"):
            times = [at - start for what, at in told if what == part]
            if times:
                self.taken.setdefault(part, []).append(times[-1 if part != "busy" else 0])

    def report(self, name: str) -> dict:
        found = {
            part: {"median": round(statistics.median(times)), "worst": round(max(times)), "moves": len(times)}
            for part, times in self.taken.items()
        }
        file = OUT / "latency.json"
        every = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps(every | {name: found}, indent=2))
        print(name, found)
        return found


def notebook(*cells: str):
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}  # or Lab asks for one
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells], metadata=kernel)


HEADS = notebook(
    "import interp_utils as iu\nclip = iu.load_clip('sandbox', device='cpu')\n"
    "task = iu.datasets.load_task('sandbox', clip.preprocess, 6)",
    "iu.widgets.head_explorer(clip, task.images, task.classes, 'a picture of a fish')",
    "import time\ntime.sleep(0)",
)


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_the_head_explorer(chromium, lab, theme):
    page = watched(chromium.new_context(viewport={"width": 1280, "height": 1000}))
    cells = run_all(page, lab({"heads.ipynb": HEADS})("heads.ipynb"))
    page.evaluate(f"() => window.jupyterapp.commands.execute('apputils:change-theme', {{theme: '{theme}'}})")
    box = cells.locator(".iu-explorer").first
    grid = box.get_by_role("grid", name="heads")
    grid.wait_for()
    assert not box.locator(".iu-view img").is_visible(), "the figure stands in for views that cannot run"
    watch = Watch(page, box)
    for head in ("L9H5", "L0H0", "L7H2", "L6H3", "L9H0"):
        watch.move(lambda head=head: grid.get_by_role("button", name=f"{head}:").click())
        assert box.locator(".iu-status").inner_text().startswith(f"{head} adds")
    cell = grid.get_by_role("button", name="L9H0:")
    cell.focus()
    for key, head in (("ArrowUp", "L8H0"), ("ArrowRight", "L8H1"), ("Home", "L0H0"), ("End", "L9H5")):
        page.keyboard.press(key)
        box.get_by_text(f"{head} adds").wait_for()
        assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith(head)
    image = box.get_by_label("image", exact=True)
    for k in (5, 0, 3):
        watch.move(lambda k=k: image.select_option(index=k))
    text = box.get_by_label("text", exact=True)
    for odd in ("$\\frac{1}{$", "<b>猫 🐈</b>", "a picture of a cat"):
        watch.move(lambda odd=odd: (text.fill(odd), text.press("Enter")))
        assert odd in box.locator(".iu-status").inner_text()
    watch.move(lambda: (text.fill("   "), text.press("Enter")))
    assert "Error" in box.locator(".iu-status").inner_text()
    watch.move(lambda: (text.fill("a picture of a dog"), text.press("Enter")))
    slider = box.get_by_role("slider", name="head")
    there = page.evaluate(CELLS)
    for part in (slider, image, cell):
        part.focus()
        for key in ("x", "m", "b"):
            page.keyboard.press(key)
    assert page.evaluate(CELLS) == there, "a key cut, changed or added a cell"
    patch = box.locator(".iu-patches [role=gridcell]").nth(20)
    patch.hover()
    assert box.locator(".iu-said").last.inner_text().startswith("row 3, column 5: ")
    box.scroll_into_view_if_needed()
    page.screenshot(path=OUT / f"heads_{theme.split()[1].lower()}.png")
    page.set_viewport_size({"width": 700, "height": 1000})
    page.screenshot(path=OUT / f"heads_{theme.split()[1].lower()}_700.png")
    taken = watch.report(f"head explorer, {theme}")
    assert taken["busy"]["worst"] <= 100 and page.errors == []
    assert not (faults := serious_faults(page, ".iu-explorer")), faults
    assert cells.locator(ERRORS).count() == 0


def test_without_anywidgets_part_of_jupyter_controls_and_picture_stay(chromium, lab):
    page = watched(chromium.new_context())
    cells = run_all(page, lab({"heads.ipynb": HEADS}, without=("anywidget",))("heads.ipynb"))
    box = cells.locator(".iu-explorer").first
    assert box.locator(".iu-view img").is_visible()
    box.get_by_label("image", exact=True).select_option(index=4)
    before = box.locator(".iu-view img").get_attribute("src")
    page.wait_for_function("(was) => document.querySelector('.iu-view img').src !== was", arg=before)
    page.screenshot(path=OUT / "heads_without_views.png")


def test_notebook_01(chromium, lab):
    """Run All; the zero-shot explorer at its ends, with odd text and with a prompt that is none."""
    name = "01_opening_the_black_box.ipynb"
    page = watched(chromium.new_context(viewport={"width": 1280, "height": 1000}))
    cells = run_all(page, lab({name: nbformat.read(ROOT / "notebooks" / name, 4)})(name), seconds=570)
    assert page.get_by_text("get notified about").count() == 0, "a prompt for news"
    errors = cells.locator(ERRORS.split(",")[0])
    assert errors.count() == 0, errors.first.inner_text()
    box = cells.locator(".iu-explorer").first
    box.scroll_into_view_if_needed()
    watch = Watch(page, box)
    image, names, prompt = (box.get_by_label(label, exact=True) for label in ("image", "names", "prompt"))
    last = image.locator("option").count() - 2  # the one after it is the reader's own
    for k in (last, 0, 2, 1):
        watch.move(lambda k=k: image.select_option(index=k), until="picture")
    typed = [
        "fish, cat",
        ", ".join(f"name {k}" for k in range(24)),
        "$\\frac{1}{$, $5, 猫, 🐈",
        "<b>dog</b>, a & b",
        "dog, cat, fish, tree",
    ]
    for odd in typed:
        watch.move(lambda odd=odd: (names.fill(odd), names.press("Enter")), until="picture")
        assert "Error" not in box.locator(".iu-status").inner_text()
    watch.move(lambda: (prompt.fill("a drawing of a {}"), prompt.press("Enter")), until="picture")
    watch.move(lambda: (prompt.fill("no place for it"), prompt.press("Enter")))
    assert "Error" in box.locator(".iu-status").inner_text() and box.locator(".iu-view.iu-stale img").is_visible()
    page.screenshot(path=OUT / "01_error.png")
    watch.move(lambda: (prompt.fill("{}"), prompt.press("Enter")))
    taken = watch.report("zero-shot explorer")
    assert taken["busy"]["worst"] <= 100 and page.errors == []
