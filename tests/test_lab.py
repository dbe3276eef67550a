"""The reader's copies of the notebooks are theirs."""

import json
import sys

import pytest

from interp_utils import lab


@pytest.fixture
def course(tmp_path):
    (tmp_path / "notebooks").mkdir()
    for name in ("02_b.ipynb", "01_a.ipynb", "execute.py"):
        (tmp_path / "notebooks" / name).write_text(name)
    return tmp_path


def test_copies_are_made_once_and_never_written_over(course):
    assert lab.copies(course) == []
    mine = course / lab.COPIES
    assert sorted(file.name for file in mine.iterdir()) == ["01_a.ipynb", "02_b.ipynb"], "helpers stay out of sight"
    (mine / "01_a.ipynb").write_text("my own work")
    (course / "notebooks" / "02_b.ipynb").write_text("a new edition")
    assert [file.name for file in lab.copies(course)] == ["01_a.ipynb", "02_b.ipynb"]
    assert (mine / "01_a.ipynb").read_text() == "my own work" and (mine / "02_b.ipynb").read_text() == "02_b.ipynb"


def test_the_first_notebook_opens_without_a_prompt_for_news(course):
    lab.copies(course)
    started = lab.command(course)
    assert started[0] == sys.executable and started[-1].endswith(f"/lab/tree/{lab.COPIES}/01_a.ipynb")
    settings = json.loads((lab.SETTINGS / "overrides.json").read_text())
    assert settings["@jupyterlab/apputils-extension:notification"]["fetchNews"] == "false"


def test_git_ignores_the_copies():
    assert f"{lab.COPIES}/" in (lab.ROOT / ".gitignore").read_text().splitlines()
