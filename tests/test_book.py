"""The course as pages: links lead to pages, formulas are drawn without a script, and nothing is asked of the network."""

import re

import nbformat
import pytest
from pages import crawl

from interp_utils import book
from interp_utils.widgets.base import RUN

FIRST = """# The first chapter

[![Open in Colab](https://colab.research.google.com/badge.svg)](https://colab.research.google.com/x.ipynb)

Next: [the second](02_b.ipynb#A-part), [words](../docs/glossary.md), [a paper](https://arxiv.org/abs/1), [code](../tests/x.py).

## A sum

It is $a < b_1$, or $$\\sum_i x_i$$ and costs `$5 or $6`.
"""


@pytest.fixture
def root(tmp_path):
    for folder in ("notebooks", "docs", "data/figures"):
        (tmp_path / folder).mkdir(parents=True)
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    picture = nbformat.v4.new_output(
        "display_data", {"image/png": "iVBORw0KGgo="}, metadata={"image/png": {"width": 300, "alt": "a head's texts"}}
    )
    notes = [
        f'<p class="iu-note" data-atlas="{page}">{page} &lt; 1. {RUN}</p>' for page in ("heads/L1H2.html", "neurons/L1N2.html")
    ]
    outputs = [picture, *(nbformat.v4.new_output("display_data", {"text/html": note}) for note in notes)]
    code = nbformat.v4.new_code_cell("1 + 1", outputs=outputs, execution_count=1)
    for name, text in {"01_a": FIRST, "02_b": "# Two\n\n## A part\n\nunicorns"}.items():
        cells = [nbformat.v4.new_markdown_cell(text), code]
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), tmp_path / "notebooks" / f"{name}.ipynb")
    (tmp_path / "docs" / "glossary.md").write_text("# Glossary\n\n[one](../notebooks/01_a.ipynb)\n")
    (tmp_path / "data" / "README.md").write_text("# Data\n\n![a cat](figures/cat.png)\n")
    (tmp_path / "data" / "figures" / "cat.png").write_bytes(b"png")
    return tmp_path


def test_every_page_is_reached_and_asks_nothing_of_the_network(root):
    written = book.write(root / "out", root)
    reached, files = crawl(written[0])
    assert reached == {page.resolve() for page in written} and len(written) == 5
    assert {file.name for file in files} == {"book.css", "cat.png"}
    page = (root / "out" / "01_a.html").read_text()
    assert "colab" not in page
    assert re.search('alt="a head(\'|&#39;)s texts"', page)
    assert "tests/x.py" not in page and "code" in page, "no page, no link, but the words"


def test_formulas_are_mathml_and_money_in_code_stays(root):
    book.write(root / "out", root)
    page = (root / "out" / "01_a.html").read_text()
    assert len(re.findall("<math", page)) == 2 and '<math xmlns="http://www.w3.org/1998/Math/MathML" display="block">' in page
    assert "$5 or $6" in page and "$a" not in page
    assert re.search("<mo>&(lt|#x0003C);</mo>", page), "a sign that HTML takes for a tag"


def test_sections_can_be_searched_by_their_words(root):
    written = book.write(root / "out", root)
    index = written[0].read_text()
    assert re.search(r'data-words="[^"]*unicorns[^"]*"><a href="02_b.html#A-part">A part', index)


def test_the_atlas_is_linked_where_it_is(root):
    page = book.write(root / "out", root)[1]
    assert "L1H2.html &lt; 1.</p>" in page.read_text() and "atlas" not in page.read_text().replace("See it in the atlas", "")
    (root / "out" / "atlas" / "heads").mkdir(parents=True)
    for name in ("index.html", "heads/L1H2.html"):
        (root / "out" / "atlas" / name).write_text("<title>atlas</title>")
    assert len(crawl(book.write(root / "out", root)[0])[0]) == 7
    notes = re.findall('<p class="iu-note">([^<]*)<a href="([^"]+)">See it in the atlas</a>.</p>', page.read_text())
    assert notes == [
        ("heads/L1H2.html &lt; 1. ", "atlas/heads/L1H2.html"),
        ("neurons/L1N2.html &lt; 1. ", "atlas/index.html"),  # not every neuron is in it
    ]
