"""The notebooks, their copies for a class, and the marks that copies get."""

import re
import sys
from copy import deepcopy
from functools import cache
from pathlib import Path
from textwrap import indent

import nbformat
import pytest
import torch
from IPython.core.inputtransformer2 import TransformerManager

import interp_utils as iu

from .answers import cheats

HERE = Path(__file__).parents[2] / "notebooks"
sys.path.insert(0, str(HERE))
import copies  # noqa: E402
import precheck  # noqa: E402

CHAPTERS = copies.chapters()
each_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)


@cache
def authored(path):
    return nbformat.read(path, as_version=4)


@cache
def _copy(path, purpose):
    return copies.copy_of(path, purpose)


def copy(path, purpose):
    return deepcopy(_copy(path, purpose))


def tagged(notebook, tag):
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", ())]


def marks(submitted, source):
    """Points by exercise, as nbgrader gives them: the answers as handed in, the checks as the teacher has them."""
    space = {"torch": torch, "iu": iu, "__name__": "__main__"}
    found = {}
    for answer, check in zip(tagged(submitted, "exercise"), tagged(source, "check"), strict=True):
        try:
            exec(answer.source, space)
            exec(check.source, space)
            found[copies.name_of(answer)] = check.metadata.nbgrader.points
        except Exception:
            found[copies.name_of(answer)] = 0
    return found


def answered(path, body_of):
    notebook = copy(path, "student")
    for cell in tagged(notebook, "exercise"):
        cell.source = cell.source.replace(copies.STUB, indent(body_of(cell), "    "))
    return notebook


@each_chapter
def test_an_exercise_stands_as_its_chapter_needs_it(path):
    cells = authored(path).cells
    places = [k for k, cell in enumerate(cells) if "exercise" in cell.metadata.get("tags", ())]
    assert len(places) >= (5 if path.stem.startswith("05") else 6)
    for number, k in enumerate(places, 1):
        said, name = cells[k - 1].source, copies.name_of(cells[k])
        given, answer = copies.parts_of(name)
        block = said[said.index(f"### Exercise {number}: ") :]
        assert re.search(r"\*Difficulty [123] of 3, importance [123] of 3, about \d+ minutes\.\*", block)
        assert re.findall(r"<summary>(.*?)</summary>", block) == ["Hint 1", "Hint 2", "Solution"]
        assert f"```python\n{answer}\n```" in block, "the folded solution is the one in interp_utils.exercises.solutions"
        assert cells[k].source.startswith(given) and len(cells[k].source.splitlines()) == len(given.splitlines()) + 3
        assert cells[k + 1].source == f"iu.exercises.check({name})" and "check" in cells[k + 1].metadata.tags
        used = next(cell for cell in cells[k + 2 :] if cell.cell_type == "code")
        assert re.search(rf"\b{name}\(", used.source), f"{name} is not used in the next code cell"
        assert cells[k + 1].metadata.nbgrader.points == int(re.search(r"Difficulty (\d)", block)[1])
    last = cells[max(k for k, cell in enumerate(cells) if cell.cell_type == "markdown")].source
    quiz = last[last.index("## Quiz") :]
    assert quiz.count("<summary>Answer</summary>") == 3 and "**Project.**" in quiz


@each_chapter
@pytest.mark.parametrize("purpose", ["student", "solutions"])
def test_the_committed_copy_is_what_make_would_write(path, purpose):
    committed = HERE / purpose / path.name
    assert committed.exists(), f"make {purpose}"
    assert committed.read_text() == nbformat.writes(copy(path, purpose)) + "\n", f"make {purpose}"


@pytest.mark.parametrize("purpose", ["student", "solutions"])
def test_there_is_one_copy_of_each_chapter(purpose):
    assert sorted(path.name for path in (HERE / purpose).iterdir()) == [path.name for path in CHAPTERS], f"make {purpose}"


@each_chapter
def test_a_student_copy_holds_no_solution_and_no_output(path):
    notebook, solved = copy(path, "student"), copy(path, "source")
    text = nbformat.writes(notebook)
    assert "SOLUTION" not in text and "HIDDEN" not in text and "<summary>Solution" not in text
    assert "iu.exercises.solutions" not in text and "iu.exercises.grade" not in text
    assert not any(cell.get("outputs") for cell in notebook.cells)
    for cell in tagged(authored(path), "exercise"):
        assert copies.answer_of(cell).strip() not in text
    assert precheck.grade_ids(notebook) == precheck.grade_ids(solved) and max(precheck.grade_ids(notebook).values()) == 1
    marked = [cell for cell in notebook.cells if cell.metadata.get("nbgrader")]
    assert all(cell.metadata.nbgrader.locked != cell.metadata.nbgrader.solution for cell in marked)
    assert all("skip-execution" in cell.metadata.tags for cell in notebook.cells if cell.cell_type == "code" and cell not in marked)


@each_chapter
def test_solutions_get_full_marks_and_an_empty_copy_none(path):
    source = copy(path, "source")
    full = {copies.name_of(a): c.metadata.nbgrader.points for a, c in zip(tagged(source, "exercise"), tagged(source, "check"))}
    assert sum(full.values()) > 0 and min(full.values()) > 0
    assert marks(copy(path, "solutions"), source) == full
    assert set(marks(copy(path, "student"), source).values()) == {0}


@each_chapter
@pytest.mark.parametrize("which", range(7))
def test_a_cheat_gets_no_point(path, which):
    def body(cell):
        name = copies.name_of(cell)
        return cheats(name, re.search(r"\((.*)\)", cell.source)[1])[which]

    assert set(marks(answered(path, body), copy(path, "source")).values()) == {0}


def test_run_all_of_a_student_copy_stops_at_its_first_exercise():
    notebook, space = copy(HERE / "02_attention_heads.ipynb", "student"), {"display": print, "__name__": "__main__"}
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    first = code.index(tagged(notebook, "check")[0])
    for cell in code[:first]:
        exec(TransformerManager().transform_cell(cell.source), space)
    with pytest.raises(AssertionError, match="frozen_effects: not written yet"):
        exec(code[first].source, space)


def test_the_precheck_finds_answers_that_lean_on_cells_that_are_not_run():
    released = copy(CHAPTERS[0], "student")
    leaning = answered(CHAPTERS[0], lambda cell: "return unit(images) @ unit(texts).T")  # `unit` is the chapter's
    said = precheck.problems(leaning, released)
    assert len(said) >= 6 and all("uses `unit`" in each or "uses `images`" in each or "uses `texts`" in each for each in said)
    helper = nbformat.v4.new_code_cell("def unit(x):\n    return x / x.norm(dim=-1, keepdim=True)\nimages = texts = None")
    leaning.cells.insert(2, helper)  # a cell of the student's own is run
    assert precheck.problems(leaning, released) == []
    helper.metadata["tags"] = ["skip-execution"]
    assert precheck.problems(leaning, released) == said


def test_the_precheck_finds_what_would_be_marked_unfairly():
    released = copy(CHAPTERS[0], "student")
    assert precheck.problems(released, released) == []
    assert precheck.problems(copy(CHAPTERS[0], "solutions"), released) == []
    bare = copy(CHAPTERS[0], "student")
    for cell in bare.cells:
        cell.metadata.pop("nbgrader", None)
    assert len(precheck.problems(bare, released)) == len(precheck.grade_ids(released))
    twice = copy(CHAPTERS[0], "student")
    twice.cells.append(tagged(twice, "check")[0])
    assert ["is there 2 times" in said for said in precheck.problems(twice, released)] == [True]
    honest = ["x = torch.ones(3)\nx[0] = 2", "if x:\n    %matplotlib inline\nimport torch", "not Python at all"]
    crooked = [
        "iu.exercises.grade = print",
        "iu = None",
        "setattr(iu.exercises, 'grade', print)",
        "torch.allclose = lambda *a: True",
    ]
    crooked += ["if iu:\n    %time\niu = None"]
    crooked += ["import sys\nsys.modules['interp_utils.exercises'] = None", "def torch():\n    pass", "import numpy as torch"]
    assert [precheck.overwritten(each) for each in honest] == [[]] * 3
    assert all(precheck.overwritten(each) for each in crooked)
