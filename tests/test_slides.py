"""Slides are made of tagged cells: short texts, pictures, no exercise."""

import re
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parents[1] / "notebooks"
sys.path.insert(0, str(HERE))
import slides  # noqa: E402

each_chapter = pytest.mark.parametrize("path", sorted(HERE.glob("0*.ipynb")), ids=lambda path: path.stem)


@each_chapter
def test_slides_fit_on_a_screen(path):
    made = slides.slides_of(path).cells
    texts = [cell.source for cell in made if cell.cell_type == "markdown"]
    assert 20 <= len(made) <= 60 and len(texts) >= 10
    for text in texts:
        assert len(text.split()) <= 130, text
        assert not re.search(r"Exercise \d|<summary>Solution|References|Open in Colab|\]\((?!http)", text), text
    for cell in made:
        shown = [output for output in cell.get("outputs", ()) if {"image/png", "text/html"} & output.get("data", {}).keys()]
        assert cell.cell_type == "markdown" or shown, f"nothing to look at: {cell.source}"


def test_slides_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr(slides, "OUT", tmp_path)
    path = next(HERE.glob("01_*.ipynb"))
    page = slides.write(path).read_text()
    assert page.count("<section") > 20 and "data:image/png;base64" in page and "What to see" in page
    assert "iu.exercises" not in page and "import torch" not in page, "code stays out"


def test_a_text_cell_is_cut_at_its_headings_and_where_a_screen_is_full():
    lines = ["**What to see.** A, see [there](other.ipynb).", "## 2. Next", "B", "### Exercise 3: write", "C", "## Quiz", "D"]
    text = "\n\n".join([*lines, "**Project.** E", "**References.** F"])
    assert slides.parts(text) == ["**What to see.** A, see there.", "## 2. Next\n\nB", "## Quiz\n\nD"]
    long = ["word " * 60 + "a", "word " * 40 + "b", "word " * 20 + "c"]
    assert [piece[-1] for piece in slides.parts("\n\n".join(long))] == ["a", "c"]
