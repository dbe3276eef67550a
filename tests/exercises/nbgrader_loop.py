"""The whole way of a class through nbgrader: hand out, fill in, look over, mark, give back, export. Run by `make grade-test`.

nbgrader lives in an environment of its own, build/nbgrader; the notebooks run in this one. CLASS=30 marks a class of that size.
"""

import csv
import json
import os
import re
import subprocess
import sys
import time
import venv
from pathlib import Path
from textwrap import indent

import nbformat
import pytest

from .answers import cheats
from .test_copies import HERE, copies, precheck, tagged

NAME, ROOT = "02_attention_heads", HERE.parent
STUDENTS = int(os.environ.get("CLASS", 6))


@pytest.fixture(scope="module")
def nbgrader():
    home = ROOT / "build/nbgrader"
    if not (home / "bin/nbgrader").exists():
        venv.create(home, with_pip=True)
        made = subprocess.run([home / "bin/pip", "install", "-q", "nbgrader==0.9.6"], capture_output=True, text=True)
        if made.returncode:
            pytest.skip(f"no environment for nbgrader can be made here: {made.stderr[-300:]}")
    return home / "bin/nbgrader"


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A folder with the source of one assignment, a kernel that is this Python, and nbgrader's settings."""
    course = tmp_path_factory.mktemp("course")
    target = course / f"source/{NAME}/{NAME}.ipynb"
    target.parent.mkdir(parents=True)
    nbformat.write(copies.copy_of(HERE / f"{NAME}.ipynb", "source"), target)
    kernel = course / "jupyter/kernels/python3"
    kernel.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "Python 3", "language": "python"}))
    patient = "c.ExecutePreprocessor.timeout = c.ExecutePreprocessor.startup_timeout = c.ExecutePreprocessor.iopub_timeout = 600\n"
    (course / "nbgrader_config.py").write_text("c = get_config()\nc.CourseDirectory.course_id = 'vision'\n" + patient)
    return course


def hand_in(course, student, notebook):
    target = course / f"submitted/{student}/{NAME}/{NAME}.ipynb"
    target.parent.mkdir(parents=True)
    nbformat.write(notebook, target)


def filled(course, body_of):
    """The notebook that was handed out, with answers in it."""
    notebook = nbformat.read(course / f"release/{NAME}/{NAME}.ipynb", as_version=4)
    for cell in tagged(notebook, "exercise"):
        body = body_of(copies.name_of(cell), re.search(r"\((.*)\)", cell.source)[1])
        cell.source = cell.source.replace(copies.STUB, body)
    return notebook


def test_a_class_is_marked(nbgrader, course, capsys):
    def do(*words):
        env = {**os.environ, "JUPYTER_PATH": str(course / "jupyter"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        env["PATH"] = f"{nbgrader.parent}:{env['PATH']}"  # it calls alembic
        done = subprocess.run([nbgrader, *words], cwd=course, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]

    do("generate_assignment", NAME)
    ours, theirs = copies.copy_of(HERE / f"{NAME}.ipynb", "student"), filled(course, lambda *_: copies.STUB)
    code = [[cell.source for cell in each.cells if cell.cell_type == "code"] for each in (ours, theirs)]
    assert code[0] == code[1], "what nbgrader hands out is what `make student` writes"

    right = filled(course, lambda name, _: copies.parts_of(name)[1])
    hand_in(course, "empty", filled(course, lambda *_: copies.STUB))
    crooked = (0, 2, 5)[: STUDENTS - 2]
    for which in crooked:  # a constant or the module, the folded solution, a helper that calls it
        hand_in(course, f"cheat{which}", filled(course, lambda *exercise, which=which: indent(cheats(*exercise)[which], "    ")))
    for number in range(STUDENTS - 1 - len(crooked)):
        hand_in(course, f"right{number}", right)
    assert precheck.main(course) == 0
    stripped = filled(course, lambda *_: copies.STUB)
    for cell in stripped.cells:
        cell.metadata.pop("nbgrader", None)
    assert precheck.problems(stripped, theirs), "a copy without metadata would be a silent zero"

    started = time.monotonic()
    do("autograde", NAME)
    took = time.monotonic() - started
    do("generate_feedback", NAME)
    do("export", "--to", str(course / "grades.csv"))
    with open(course / "grades.csv") as file:
        grades = {row["student_id"]: (float(row["score"]), float(row["max_score"])) for row in csv.DictReader(file)}
    full = sum(cell.metadata.nbgrader.points for cell in tagged(ours, "check"))
    assert len(grades) == STUDENTS and full > 0
    for student, grade in grades.items():
        assert grade == (full if student.startswith("right") else 0, full), student
        said = Path(course / f"feedback/{student}/{NAME}/{NAME}.html").read_text()
        assert student != "empty" or "not written yet" in said
    with capsys.disabled():
        print(f"\nmarked {STUDENTS} copies of {NAME} in {took:.0f} s, {took / STUDENTS:.1f} s each")
