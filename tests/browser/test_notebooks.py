"""Run All of every notebook in JupyterLab, two at a time, with moves of a reader who does not wait; then every explorer is moved.

The kernels are those of a reader but for what `make test` runs whole: image sets hold at most `FEW` images, and assertions and
findings, which few images need not bear out, are left out.
"""

import time

import nbformat
import pytest
from browser.conftest import FAILED, OUT, RAN, ROOT, run_all, serving, watched
from browser.explorers import Watch

pytestmark = pytest.mark.browser

NOTEBOOKS = {path.name.split("_")[0]: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
LONGEST_FIRST = sorted(NOTEBOOKS, key=["03", "05b", "05a", "02", "04", "01", "05c"].index)
FEW = 150
STARTUP = f"""
def only_few():
    import ast
    from dataclasses import replace
    from interp_utils import presets, sandbox

    class Unasserted(ast.NodeTransformer):
        def visit_Assert(self, node):
            return ast.copy_location(ast.Expr(node.test), node)  # which may run a model

    whole = sandbox.SandboxImages.__init__

    def few(images, specs, *rest, **named):
        whole(images, list(specs)[:{FEW}], *rest, **named)

    get_ipython().ast_transformers.append(Unasserted())
    presets.PRESETS["sandbox"] = replace(presets.PRESETS["sandbox"], n_images={FEW}, n_fit={FEW})
    presets.Preset.finding = lambda preset, what, holds: None
    sandbox.SandboxImages.__init__ = few

only_few()
del only_few
"""
SECONDS = 1800  # for all to run, on a busy machine
MOVES = 4  # of each explorer meanwhile
# One step down in an explorer's first list, as a reader makes it; says whether there was one to move.
STEP = """(box) => {
  const list = [...box.querySelectorAll('select')].find((each) => each.options.length > 2);
  if (!list || !box.querySelector('.iu-status')?.textContent || box.classList.contains('iu-waiting')) return false;
  list.selectedIndex = (list.selectedIndex + 1) % (list.options.length - 1);
  list.dispatchEvent(new Event('change', {bubbles: true}));
  return true;
}"""
SETTLED = """(box) => !box.classList.contains('iu-waiting') && !box.querySelector('.iu-busy')
  && !box.querySelector('.iu-status').textContent.includes('a sketch')"""
SEEN = """(box) => ({
  controls: [...box.querySelectorAll('select, input[type=text]')].map((each) => each.value),
  sliders: [...box.querySelectorAll('.noUi-handle')].map((each) => each.getAttribute('aria-valuenow')),
  words: box.querySelector('.iu-status').textContent,
  views: box.querySelector('.iu-views')?.textContent,
  pictures: [...box.querySelectorAll('.iu-views img')].map((each) => each.src),
  bars: [...box.querySelectorAll('.iu-bar, .iu-patches span, .iu-cell')].map((each) => each.getAttribute('style')),
})"""
SHUT_DOWN = "() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()"


class Running:
    """A notebook whose cells all run, and a reader who moves its explorers meanwhile."""

    def __init__(self, page, address: str):
        self.page, self.moves, self.started = page, {}, time.monotonic()
        self.cells = run_all(page, address)

    def ended(self) -> bool:
        """Whether all cells ran, or one failed; where not, each explorer is moved a step."""
        if self.page.evaluate(RAN):
            return True
        for k, box in enumerate(self.explorers):
            if self.moves.get(k, 0) < MOVES and box.evaluate(STEP):
                self.moves[k] = self.moves.get(k, 0) + 1
        return False

    @property
    def explorers(self) -> list:
        return self.cells.locator(".iu-explorer").all()

    @property
    def errors(self) -> list[str]:
        return self.page.evaluate(FAILED) + self.page.errors


@pytest.fixture(scope="module")
def ran(chromium, tmp_path_factory, request):
    """Notebooks after Run All, by number, those that are asked for; the kernels of those without an explorer are gone."""
    asked = {item.callspec.params["name"] for item in request.session.items if item.path == request.path}
    folder, ran, running, todo = tmp_path_factory.mktemp("lab"), {}, {}, [name for name in LONGEST_FIRST if name in asked]
    startup = folder / "ipython" / "profile_default" / "startup" / "00.py"
    startup.parent.mkdir(parents=True)
    startup.write_text(STARTUP)
    files = {path.name: nbformat.read(path, 4) for path in NOTEBOOKS.values()}
    with serving(folder, files, IPYTHONDIR=f"{folder}/ipython") as address:
        started = time.monotonic()
        while todo or running:
            while todo and len(running) < 2:
                name, page = todo.pop(0), watched(chromium.new_context(viewport={"width": 1280, "height": 1000}))
                running[name] = Running(page, address(NOTEBOOKS[name].name))
            time.sleep(1)
            for name in [name for name, each in running.items() if each.ended()]:
                ran[name] = running.pop(name)
                print(f"{name}: Run All {time.monotonic() - ran[name].started:.0f} s")
                if not ran[name].explorers:
                    ran[name].page.evaluate(SHUT_DOWN)
            if time.monotonic() - started > SECONDS:
                pytest.fail(f"after {SECONDS} s: { ({name: each.page.evaluate('window.ran') for name, each in running.items()}) }")
        yield ran


def explorers_of(name: str) -> int:
    """How many a notebook was saved with."""
    outputs = [output for cell in nbformat.read(NOTEBOOKS[name], 4).cells for output in cell.get("outputs", [])]
    return sum("iu-note" in output.get("data", {}).get("text/html", "") for output in outputs)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_run_all_without_an_error(ran, name):
    assert ran[name].errors == [] and len(ran[name].explorers) == explorers_of(name)
    assert ran[name].page.get_by_text("get notified about").count() == 0, "a prompt for news"


@pytest.mark.parametrize("name", [name for name in NOTEBOOKS if explorers_of(name)])
def test_explorers_that_were_moved_while_cells_ran_and_after(ran, name):
    """What such moves leave in the page is what one sees who goes away and comes back once all is quiet; then to all ends."""
    notebook = ran[name]
    assert notebook.moves, "nothing was moved meanwhile"
    for k, box in enumerate(notebook.explorers):
        watch = Watch(notebook.page, box)
        notebook.page.wait_for_function(SETTLED, arg=box.element_handle())
        box.screenshot(path=OUT / f"notebook_{name}_{k}.png")
        seen, lists = box.evaluate(SEEN), box.locator("select").all()
        moved = next((each for each in lists if each.locator("option").count() > 2), lists[0])
        place = moved.evaluate("(list) => list.selectedIndex")
        for there in (0 if place else 1, place):
            watch.move(lambda: moved.select_option(index=there))  # noqa: B023
            notebook.page.wait_for_function(SETTLED, arg=box.element_handle())
        assert box.evaluate(SEEN) == seen
        watch.to_the_ends()
        watch.report(f"notebook {name}, explorer {k + 1}, after Run All")
    assert notebook.errors == []
