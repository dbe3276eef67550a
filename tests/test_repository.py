"""The notebooks are committed executed, clean and light; the README names what exists."""

import re
from pathlib import Path

import nbformat
import pytest

import interp_utils as iu

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_saved_as_one_clean_run(path):
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not any(output.output_type == "error" for cell in code for output in cell.outputs)
    assert "widgets" not in notebook.metadata
    text = path.read_text()
    assert len(text) < 3_000_000
    assert not re.search(r"/home/|/root/|/tmp/ipykernel", text)
    assert f"blob/main/notebooks/{path.name}" in notebook.cells[0].source
    assert max(len(cell.source.splitlines()) for cell in code) <= 20
    assert any("assert" in cell.source for cell in code)
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert not re.search(r"^[A-Z_]+[0-9]*$|TODO|FIXME", prose, re.M), "a place that waits for its text"


@pytest.mark.parametrize("path", [path for path in NOTEBOOKS if path.stem[:2] < "04"], ids=lambda path: path.stem)
def test_a_chapter_can_be_read_in_one_sitting(path):
    cells = nbformat.read(path, as_version=4).cells
    prose = [cell.source for cell in cells if cell.cell_type == "markdown"]
    assert len(cells) <= 75 and len(" ".join(prose).split()) <= 3000
    assert sum("**What to see.**" in text for text in prose) >= 5


def test_readme_links_lead_somewhere():
    readme = (ROOT / "README.md").read_text()
    links = re.findall(r"\]\((?!http)([^)#]+)\)", readme)
    assert links and all((ROOT / link).exists() for link in links), links


def test_a_public_name_of_chapters_2_and_3_means_one_thing():
    rooms = (iu.heads, iu.neurons, iu.segmentation, iu.explainers, iu.plots, iu.widgets, iu.hooks, iu.datasets)
    meanings: dict[str, list] = {}
    for room in rooms:
        own = [name for name, value in vars(room).items() if getattr(value, "__module__", None) == room.__name__]
        for name in getattr(room, "__all__", own):
            meanings.setdefault(name, []).append(getattr(room, name))
    twice = [name for name, values in meanings.items() if any(value is not values[0] for value in values)]
    assert twice == [] and len(meanings) > 150
