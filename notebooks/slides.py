"""Slides of a chapter, from the cells of its notebook that are tagged `slide`: nothing in them is edited by hand.

python notebooks/slides.py      build/slides/NAME.html, one a notebook that has such cells; open it in a browser

Of a code cell its output is shown, of a text cell its sections, cut into screens; exercises, projects and references stay out. The
pages load reveal.js from the network; the presenter's view is the key S.
"""

import re
from pathlib import Path

import nbformat
from nbconvert import SlidesExporter
from nbformat import NotebookNode

HERE = Path(__file__).parent
OUT = HERE.parent / "build/slides"
MOST = 90  # words on a screen; a longer paragraph has one to itself
LEFT_OUT = re.compile(r"^(### Exercise|\*\*(Project|References|You need)).*", re.M | re.S)


def parts(text: str) -> list[str]:
    """The sections of a text cell that belong on slides: each up to what is left out."""
    text = re.sub(r"^\[!\[Open in Colab.*\n", "", text, flags=re.M)
    text = re.sub(r"\[([^\]]+)\]\((?!http)[^)]+\)", r"\1", text)  # links to files, which lie elsewhere
    found = (LEFT_OUT.sub("", part).strip() for part in re.split(r"^(?=#{1,3} )", text, flags=re.M))
    return [screen for part in found for screen in screens(part)]


def screens(part: str) -> list[str]:
    """A section in pieces of whole paragraphs that fit on a screen."""
    pieces = []
    for paragraph in filter(None, part.split("\n\n")):
        if pieces and len(f"{pieces[-1]} {paragraph}".split()) <= MOST:
            pieces[-1] += "\n\n" + paragraph
        else:
            pieces.append(paragraph)
    return pieces


def slides_of(path: Path) -> NotebookNode:
    """A notebook of one cell a slide."""
    notebook = nbformat.read(path, as_version=4)
    slides = []
    for cell in notebook.cells:
        if "slide" not in cell.metadata.get("tags", ()):
            continue
        if cell.cell_type == "markdown":
            slides += [nbformat.v4.new_markdown_cell(part, id=f"{cell.id}-{k}") for k, part in enumerate(parts(cell.source))]
        else:
            slides.append(cell)
    for slide in slides:
        slide.metadata["slideshow"] = {"slide_type": "slide"}
    notebook.cells = slides
    return notebook


def write(path: Path) -> Path | None:
    """Write the slides of a notebook and say where; None where no cell is tagged."""
    slides, target = slides_of(path), OUT / f"{path.stem}.html"
    if not slides.cells:
        return None
    page, _ = SlidesExporter(exclude_input=True, reveal_scroll=True).from_notebook_node(slides)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page, encoding="utf-8")
    return target


if __name__ == "__main__":
    for path in sorted(HERE.glob("[0-9]*.ipynb")):
        print(path.name, "->", write(path) or "no slides: no cell is tagged `slide`")
