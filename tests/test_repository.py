"""The notebooks are committed executed, clean and light; the README names what exists."""

import ast
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
    shown = [cell.source.splitlines() for cell in code if not cell.source.startswith("# @title")]  # those are folded
    most_lines, widest = 12, 88
    assert max(map(len, shown)) <= most_lines and max(len(line) for lines in shown for line in lines) <= widest
    assert any("assert" in cell.source for cell in code)
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert not re.search(r"^[A-Z_]+[0-9]*$|TODO|FIXME", prose, re.M), "a place that waits for its text"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_says_where_it_stands(path):
    """Links to the one before and the next, what a reader needs, the times, which the README repeats; references."""
    prose = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]
    first, place = prose[0], NOTEBOOKS.index(path)
    near = NOTEBOOKS[max(place - 1, 0) : place] + NOTEBOOKS[place + 1 : place + 2]
    assert all(f"]({other.name})" in first for other in near)
    assert "**You need**" in first and re.search(r"\*\*Time:\*\* .* to read, ", first)
    minutes = re.search(r"(\d+) minutes to run", first)[1]
    assert re.search(rf"\(notebooks/{path.name}\) \|.*\| {minutes} min \|$", (ROOT / "README.md").read_text(), re.M)
    assert any("**References.** [Thesis](http" in text for text in prose)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_can_be_read_in_one_sitting(path):
    cells = nbformat.read(path, as_version=4).cells
    prose = [cell.source for cell in cells if cell.cell_type == "markdown"]
    most_cells, most_words, sections = (60, 2000, 4) if path.stem.startswith("05") else (75, 3000, 5)
    assert len(cells) <= most_cells and len(" ".join(prose).split()) <= most_words
    assert sum("**What to see.**" in text for text in prose) >= sections


def defined(body):
    """Names that statements at the top of a cell give a lasting meaning; loops count, functions keep their own."""
    for statement in body:
        if isinstance(statement, ast.Assign):
            names = [x for to in statement.targets for x in ast.walk(to) if isinstance(x, ast.Name)]
            yield from (x.id for x in names if isinstance(x.ctx, ast.Store) and x.id not in SCRATCH)
        elif isinstance(statement, ast.FunctionDef | ast.ClassDef):
            yield statement.name
        for part in ("body", "orelse") if isinstance(statement, ast.If | ast.For | ast.With) else ():
            yield from defined(getattr(statement, part, []))


def looped(body):
    """Names of loops at the top of a cell, which outlive it."""
    for statement in body:
        if isinstance(statement, ast.For):
            yield from (x.id for x in ast.walk(statement.target) if isinstance(x, ast.Name) and x.id not in SCRATCH)
        if isinstance(statement, ast.If | ast.For | ast.With):
            yield from looped([*statement.body, *getattr(statement, "orelse", [])])


SCRATCH = {"row", "found", "said", "ours", "_"}  # of one line in a loop


@pytest.mark.parametrize("path", [path for path in NOTEBOOKS if path.stem.startswith("05")], ids=lambda path: path.stem)
def test_a_name_means_one_thing_in_a_notebook(path):
    cells, where = nbformat.read(path, as_version=4).cells, {}
    for number, cell in enumerate(cells):
        if cell.cell_type == "code" and not cell.source.startswith("# @title Setup"):
            for name in set(defined(ast.parse(cell.source).body)):
                assert name not in where, f"cell {number} uses {name} again, which cell {where[name]} defined"
                where[name] = number
    for number, cell in enumerate(cells):
        if cell.cell_type == "code" and not cell.source.startswith("# @title Setup"):
            again = {*looped(ast.parse(cell.source).body)} & {*where}
            assert not again, f"cell {number} loops over {again}, which another cell defines"


@pytest.mark.parametrize("path", [path for path in NOTEBOOKS if path.stem.startswith("05")], ids=lambda path: path.stem)
def test_a_section_ends_in_a_verdict(path):
    prose = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]
    for text in prose:
        if "**What to see.**" in text:
            assert re.search(r"^\*Thesis, .*(reproduced|partly|not here).*\*$", text, re.M)
    assert sum("*Thesis, " in text for text in prose) >= 3


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.name)
def test_links_lead_somewhere(page):
    text = page.read_text()
    links = re.findall(r"\]\((?!http)([^)#]+)\)", text) + re.findall(r"^\[\w+\]: (\S+)$", text, re.M)
    assert all((page.parent / link).exists() for link in links), links


def test_pictures_need_no_network():
    """Every picture of a page or a notebook lies in the repository, relative to who shows it."""
    pages = [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("data/*.md")]
    texts = [(page, page.read_text()) for page in pages]
    for path in ROOT.glob("notebooks/**/*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            outputs = [output.get("data", {}).get("text/html", "") for output in cell.get("outputs", ())]
            texts += [(path, text) for text in (cell.source if cell.cell_type == "markdown" else "", *outputs)]
    found = [
        (page, place) for page, text in texts for place in re.findall(r"!\[[^]]*\]\(([^) ]+)|<img[^>]*src=[\"']([^\"']+)", text)
    ]
    assert len(found) > 20
    for page, places in found:
        place = "".join(places)
        assert place.startswith("data:") or (page.parent / place).is_file(), (page, place)


def test_a_public_name_of_chapters_2_and_3_means_one_thing():
    rooms = (iu.heads, iu.neurons, iu.segmentation, iu.explainers, iu.plots, iu.widgets, iu.hooks, iu.datasets)
    meanings: dict[str, list] = {}
    for room in rooms:
        own = [name for name, value in vars(room).items() if getattr(value, "__module__", None) == room.__name__]
        for name in getattr(room, "__all__", own):
            meanings.setdefault(name, []).append(getattr(room, name))
    twice = [name for name, values in meanings.items() if any(value is not values[0] for value in values)]
    assert twice == [] and len(meanings) > 150
