"""Copies of the notebooks for a class, written from the committed ones: nothing in them is edited by hand.

python notebooks/copies.py student|solutions|all      into notebooks/student, notebooks/solutions
python notebooks/copies.py source FOLDER              FOLDER/source/NAME/NAME.ipynb, what `nbgrader generate_assignment` starts from,
                                                      and FOLDER/nbgrader_config.py if there is none

An exercise is a code cell tagged `exercise` with one line between ### BEGIN SOLUTION and ### END SOLUTION, which calls its solution
in `iu.exercises.solutions`. The next code cell is tagged `check`.
"""

import inspect
import re
import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from interp_utils.exercises import solutions

HERE = Path(__file__).parent
STUB = "    # YOUR CODE HERE\n    raise NotImplementedError()"  # nbgrader's own
REGION = re.compile(r" *### BEGIN SOLUTION\n.*?\n *### END SOLUTION", re.S)
FOLD = re.compile(r"\n*<details><summary>Solution</summary>.*?</details>", re.S)
HIDDEN = '\n### BEGIN HIDDEN TESTS\niu.exercises.grade({0}, "{0}")\n### END HIDDEN TESTS'
CONFIG = """c = get_config()
c.CourseDirectory.course_id = "vision"
c.ExecutePreprocessor.timeout = 60  # seconds a cell: what takes longer is stopped and costs its points, the rest is marked
c.ExecutePreprocessor.startup_timeout = c.ExecutePreprocessor.iopub_timeout = 600  # patience with a busy machine
"""
METADATA = {
    "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
    "language_info": {"name": "python"},
}


def name_of(cell: NotebookNode) -> str:
    """The function that an exercise asks for."""
    return re.search(r"^def (\w+)", cell.source, re.M)[1]


def parts_of(name: str) -> tuple[str, str]:
    """A solution in `interp_utils.exercises`: what the reader is given of it, and the lines that are the answer."""
    source = inspect.getsource(getattr(solutions, name)).rstrip("\n")
    given = re.match(r"def .*\n(?:    #.*\n)*", source)[0]
    return given, source[len(given) :]


def answer_of(cell: NotebookNode) -> str:
    """The lines that solve an exercise."""
    return parts_of(name_of(cell))[1]


def kind_of(cell: NotebookNode, setup: NotebookNode) -> str:
    tags = cell.metadata.get("tags", ())
    return next((kind for kind in ("exercise", "check") if kind in tags), "setup" if cell is setup else cell.cell_type)


def graded(kind: str, name: str, points: int) -> dict:
    """nbgrader's metadata: an exercise is a solution, its check is worth points, and neither check nor set-up can be edited."""
    grade_id = {"exercise": name, "check": f"check_{name}"}.get(kind, kind)
    found = {"schema_version": 3, "grade_id": grade_id, "grade": kind == "check", "solution": kind == "exercise", "task": False}
    return found | {"locked": kind != "exercise"} | ({"points": points} if kind == "check" else {})


def copy_of(path: Path, purpose: str) -> NotebookNode:
    """A notebook without outputs, its exercises empty ("student"), answered ("solutions") or as nbgrader wants them ("source").

    Cells that no mark depends on are tagged `skip-execution`: marking a copy runs set-up, answers, checks and what a student
    added, in seconds. In JupyterLab and Colab they run as ever.
    """
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata = METADATA | {key: value for key, value in notebook.metadata.items() if key in ("accelerator", "colab")}
    setup, name = next(cell for cell in notebook.cells if cell.cell_type == "code"), None
    for cell in notebook.cells:
        kind = kind_of(cell, setup)
        if kind == "markdown":
            text = cell.source if purpose == "solutions" else FOLD.sub("", cell.source)
            cell.source = moved(text, path.name, purpose)
            continue
        cell.outputs, cell.execution_count = [], None
        if kind == "code":
            cell.metadata["tags"] = ["skip-execution"]
            continue
        if kind == "exercise":
            name, answer = name_of(cell), answer_of(cell)
            marked = f"    ### BEGIN SOLUTION\n{answer}\n    ### END SOLUTION"
            before, after = REGION.split(cell.source)
            cell.source = before + {"student": STUB, "source": marked}.get(purpose, answer) + after
        if kind == "check" and purpose == "source":
            cell.source += HIDDEN.format(name)
        cell.metadata["nbgrader"] = graded(kind, name, cell.metadata.get("nbgrader", {}).get("points", 1))
    return notebook


def moved(text: str, name: str, purpose: str) -> str:
    """Links of a text that stands one folder deeper."""
    folder = "student" if purpose == "source" else purpose
    return text.replace("](../", "](../../").replace(f"blob/main/notebooks/{name}", f"blob/main/notebooks/{folder}/{name}")


def chapters() -> list[Path]:
    return sorted(HERE.glob("[0-9]*.ipynb"))


def write(purpose: str, folder: Path) -> None:
    for old in folder.glob("*.ipynb"):
        old.unlink()  # a chapter that is no more
    for path in chapters():
        target = folder / "source" / path.stem / path.name if purpose == "source" else folder / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(copy_of(path, purpose), target)


if __name__ == "__main__":
    what = sys.argv[1] if len(sys.argv) > 1 else "all"
    if what == "source" and len(sys.argv) == 3:
        write("source", Path(sys.argv[2]))
        config = Path(sys.argv[2]) / "nbgrader_config.py"
        config.exists() or config.write_text(CONFIG, encoding="utf-8")
    elif what in ("student", "solutions", "all"):
        for purpose in ("student", "solutions") if what == "all" else (what,):
            write(purpose, HERE / purpose)
    else:
        sys.exit(__doc__)
