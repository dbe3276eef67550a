"""The whole way of a class through nbgrader: hand out, fill in, look over, mark, give back, export. Run by `make grade-test`.

Chapter 2 has a class: right answers, an empty copy, each kind of cheat, an endless loop; the others a right copy, an empty one and
a cheat. CLASS=30 adds right copies of chapter 2 until it has that many.
"""

import csv
import os
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from .answers import cheats
from .test_copies import CHAPTERS, HERE, answered, copies, copy, precheck, tagged

ROOT = HERE.parent
BIN = ROOT / "build/nbgrader/bin"
CLASS = next(path for path in CHAPTERS if path.stem.startswith("02"))
STUDENTS = int(os.environ.get("CLASS", 0))


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A course's folder, as `notebooks/copies.py source` writes it."""
    if not (BIN / "nbgrader").exists():
        pytest.fail("nbgrader is not there: make grader")
    course = tmp_path_factory.mktemp("course")
    subprocess.run([sys.executable, HERE / "copies.py", "source", course], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    return course


def started(course: Path, *words: str) -> subprocess.Popen:
    """nbgrader as after `source build/nbgrader/bin/activate`; the notebooks' kernel takes this checkout's package."""
    env = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([BIN / "nbgrader", *words], cwd=course, env=env, stderr=subprocess.PIPE, text=True)


def processor() -> float:
    """Seconds of a processor that finished processes have taken."""
    times = os.times()
    return times.children_user + times.children_system


def finished(process: subprocess.Popen) -> None:
    _, said = process.communicate()
    assert process.returncode == 0, said[-3000:]


def hand_in(course: Path, student: str, path: Path, notebook) -> None:
    target = course / f"submitted/{student}/{path.stem}/{path.name}"
    target.parent.mkdir(parents=True)
    nbformat.write(notebook, target)


def cheat(path: Path, which: int):
    def body(cell):
        name = copies.name_of(cell)
        return cheats(name, cell.source.split("(", 1)[1].split(")")[0])[which]

    return answered(path, body)


def hung(path: Path):
    """Right answers but for the first, which never ends."""
    notebook = copy(path, "solutions")
    cell = tagged(notebook, "exercise")[0]
    cell.source = cell.source.split("\n")[0] + "\n    while True:\n        pass"
    return notebook


def marked(course: Path, path: Path) -> dict[str, float]:
    """What each student got, of 1, and what all were told."""
    finished(started(course, "generate_feedback", path.stem))
    finished(started(course, "export", "--to", str(course / "grades.csv")))
    with open(course / "grades.csv") as file:
        rows = [row for row in csv.DictReader(file) if row["assignment"] == path.stem]
    handed_in = {each.parts[-3] for each in course.glob(f"submitted/*/{path.stem}/*.ipynb")}
    assert {row["student_id"] for row in rows if (course / f"autograded/{row['student_id']}/{path.stem}").exists()} == handed_in
    return {row["student_id"]: float(row["score"]) / float(row["max_score"]) for row in rows if row["student_id"] in handed_in}


def told(course: Path, student: str, path: Path) -> str:
    return (course / f"feedback/{student}/{path.stem}/{path.stem}.html").read_text()


def test_a_class_is_marked(course, capsys):
    path = CLASS
    finished(started(course, "generate_assignment", path.stem))
    released, ours = nbformat.read(course / f"release/{path.stem}/{path.name}", as_version=4), copy(path, "student")
    code = [[cell.source for cell in each.cells if cell.cell_type == "code"] for each in (ours, released)]
    assert code[0] == code[1], "what nbgrader hands out is what `make student` writes"

    hand_in(course, "empty", path, released)
    hand_in(course, "hung", path, hung(path))
    for which in range(7):
        hand_in(course, f"cheat{which}", path, cheat(path, which))
    for number in range(max(1, STUDENTS - 9)):
        hand_in(course, f"right{number}", path, copy(path, "solutions"))
    assert precheck.main(course) == 1, "two cheats use names that nobody defines"

    alone = 1 + max(1, STUDENTS - 9)
    began, used = time.monotonic(), processor()
    finished(started(course, "autograde", path.stem, "--student", "[er]*"))
    each = f"{(time.monotonic() - began) / alone:.1f} s a copy, {(processor() - used) / alone:.1f} s of a processor"
    began = time.monotonic()
    for process in [started(course, "autograde", path.stem, "--student", which) for which in ("hung", "cheat*")]:
        finished(process)  # both at once
    both = time.monotonic() - began

    grades, points = marked(course, path), [cell.metadata.nbgrader.points for cell in tagged(copy(path, "source"), "check")]
    assert len(grades) == 9 + max(1, STUDENTS - 9)
    for student, share in grades.items():
        right = {"right": 1, "hung": 1 - points[0] / sum(points)}.get(student.rstrip("0123456789"), 0)
        assert share == pytest.approx(right), student
    assert "not written yet" in told(course, "empty", path) and "CellTimeoutError" in told(course, "hung", path)
    with capsys.disabled():
        print(f"\n{path.stem}: {each}; seven cheats in one process beside an endless loop in another: {both:.0f} s")


@pytest.mark.parametrize("path", [path for path in CHAPTERS if path != CLASS], ids=lambda path: path.stem)
def test_every_chapter_is_marked(course, path, capsys):
    finished(started(course, "generate_assignment", path.stem))
    hand_in(course, "empty", path, copy(path, "student"))
    hand_in(course, "right", path, copy(path, "solutions"))
    hand_in(course, "cheat0", path, cheat(path, 0))
    began = time.monotonic()
    finished(started(course, "autograde", path.stem))
    took, grades = time.monotonic() - began, marked(course, path)
    assert grades == {student: float(student == "right") for student in grades} and "right" in grades
    assert told(course, "right", path) and told(course, "empty", path)
    with capsys.disabled():
        print(f"\n{path.stem}: {took / len(grades):.1f} s a copy")
