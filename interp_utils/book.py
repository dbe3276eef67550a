"""The course as pages to read without a kernel or a network: python -m interp_utils.book, after `make book`'s atlas or without.

Notebooks as they were executed, with formulas as MathML, a page of all sections to search, and links between them. The atlas lies
beside them in `atlas/`, where it was written there.
"""

import argparse
import html
import posixpath
import re
import shutil
from pathlib import Path

import nbformat
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters import markdown2html
from pygments.formatters import HtmlFormatter

from .widgets.base import RUN

ROOT = Path(__file__).parents[1]
PAGES = {"docs/glossary.md": "glossary.html", "data/README.md": "data.html"}  # besides the notebooks
SECTIONS = "All sections"
_MATH = re.compile(r"\$\$(.+?)\$\$|\$([^$<>\n]+)\$", re.S)
_CODE = re.compile(r"(<pre.*?</pre>|<code.*?</code>)", re.S)
_BADGE = re.compile(r"\[!\[Open in Colab\]\([^)]*\)\]\([^)]*\)\s*")
_ANCHOR = re.compile(r'<a class="anchor-link"[^>]*>.*?</a>')
_PICTURE = re.compile(r'<img src="(?!data:)([^":]+)"')
_NOTE = re.compile(rf' data-atlas="([^"]+)">(.*?) {re.escape(RUN)}</p>', re.S)
_LINK = re.compile(r'<a href="([^"]+)"([^>]*)>(.*?)</a>', re.S)
_SECTION = re.compile(r'<h([23]) id="([^"]+)">(.*?)</h\1>(.*?)(?=<h[23] id=|\Z)', re.S)


def write(out: str | Path, root: Path = ROOT) -> list[Path]:
    """Write the pages of all notebooks, of `PAGES` and an index into a folder; returns them, the index first."""
    out, exporter = Path(out), HTMLExporter(template_name="basic")
    out.mkdir(parents=True, exist_ok=True)
    sources = sorted((root / "notebooks").glob("*.ipynb"))
    names = {f"notebooks/{path.name}": f"{path.stem}.html" for path in sources} | PAGES
    bodies = {}
    for path in sources:
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = _BADGE.sub("", cell.source)
        bodies[f"notebooks/{path.name}"] = exporter.from_notebook_node(notebook)[0]
    for page in PAGES:
        bodies[page] = markdown2html((root / page).read_text(encoding="utf-8"))
        for picture in _PICTURE.findall(bodies[page]):
            (out / picture).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / posixpath.dirname(page) / picture, out / picture)
    bodies = {source: _ANCHOR.sub("", body) for source, body in bodies.items()}
    titles = {source: _words(re.search(r"<h1[^>]*>(.*?)</h1>", body, re.S)[1]) for source, body in bodies.items()}
    nav = [("index.html", SECTIONS), *((names[source], titles[source]) for source in bodies)]
    nav += [("atlas/index.html", "atlas")] if (out / "atlas" / "index.html").exists() else []
    written = [out / "index.html"]
    for source, body in bodies.items():
        written.append(out / names[source])
        written[-1].write_text(_page(titles[source], _to_atlas(_linked(mathml(body), source, names), out), nav), encoding="utf-8")
    (out / "book.css").write_text(_css(), encoding="utf-8")
    written[0].write_text(_page(SECTIONS, _index(bodies, names, titles), nav), encoding="utf-8")
    return written


def mathml(body: str) -> str:
    """Formulas between dollars as MathML, but not those of code."""

    def drawn(found: re.Match) -> str:
        formula = html.unescape(found[1] or found[2]).replace(r"\arg\min", r"\text{arg min}")
        return convert(formula, display="block" if found[1] else "inline")

    parts = _CODE.split(body)
    return "".join(part if k % 2 else _MATH.sub(drawn, part) for k, part in enumerate(parts))


def _linked(body: str, source: str, names: dict[str, str]) -> str:
    """Links to files of the course lead to their pages; of files without a page the words stay."""

    def lead(found: re.Match) -> str:
        address, _, place = found[1].partition("#")
        if not address or re.match(r"\w+:", address):
            return found[0]
        page = names.get(posixpath.normpath(posixpath.join(posixpath.dirname(source), address)))
        return f'<a href="{page}{"#" + place if place else ""}"{found[2]}>{found[3]}</a>' if page else found[3]

    return _LINK.sub(lead, body)


def _to_atlas(body: str, out: Path) -> str:
    """The note below an explorer leads to what it shows in the atlas, where there is one."""

    def lead(found: re.Match) -> str:
        pages = [page for page in (f"atlas/{found[1]}", "atlas/index.html") if (out / page).exists()]
        link = f' <a href="{pages[0]}">See it in the atlas</a>.' if pages else ""
        return f">{found[2]}{link}</p>"

    return _NOTE.sub(lead, body)


def _index(bodies: dict[str, str], names: dict[str, str], titles: dict[str, str]) -> str:
    """All sections, each with its words to search in."""
    lists = []
    for source, body in bodies.items():
        items = "".join(
            f'<li data-words="{html.escape(_words(re.sub("<img[^>]*>", "", text)).lower()[:6000])}">'
            f'<a href="{names[source]}#{place}">{html.escape(_words(title))}</a></li>'
            for _, place, title, text in _SECTION.findall(body)
        )
        lists.append(f'<h2><a href="{names[source]}">{html.escape(titles[source])}</a></h2><ul>{items}</ul>')
    return f"<h1>{SECTIONS}</h1>{_SEARCH}{''.join(lists)}"


def _words(markup: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", markup)).replace("¶", " ").split())


def _page(title: str, body: str, nav: list[tuple[str, str]]) -> str:
    here = {title: ' aria-current="page"'}
    body = body.replace("<table", '<table tabindex="0"')  # so that keys can move one that is wider than the page
    links = "".join(f'<li><a href="{address}"{here.get(words, "")}>{html.escape(words)}</a></li>' for address, words in nav)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        '<link rel="icon" href="data:,"><link rel="stylesheet" href="book.css"></head>'
        f'<body><nav aria-label="pages"><ul>{links}</ul></nav><main>{body}</main></body></html>'
    )


def _css() -> str:
    light, dark = (HtmlFormatter(style=style).get_style_defs(".highlight") for style in ("xcode", "github-dark"))
    return f"{_CSS}{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n.highlight {{ background: none !important; }}\n"


_SEARCH = """<p><label>search <input id="search" type="search"></label></p><script>
document.getElementById("search").addEventListener("input", (event) => {
  const wanted = event.target.value.toLowerCase().split(/\\s+/);
  for (const item of document.querySelectorAll("[data-words]")) {
    const words = item.textContent.toLowerCase() + " " + item.dataset.words;
    item.hidden = !wanted.every((word) => words.includes(word));
  }
});</script>"""
_CSS = """html { color-scheme: light dark; font-family: system-ui, sans-serif; line-height: 1.5; background: #fff; color: #1b1b1b; }
a { color: #0b57d0; }
body { display: grid; grid-template-columns: 13rem minmax(0, 54rem); justify-content: center; gap: 2rem; margin: 1rem; }
nav ul { list-style: none; padding: 0; position: sticky; top: 1rem; }
nav li { margin: 0.4rem 0; }
nav a[aria-current] { color: inherit; font-weight: 600; text-decoration: none; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; padding: 0.5rem; border-left: 3px solid #8886; margin: 0.4rem 0; }
.highlight pre { border-left: 0; background: #8881; }
img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
table { display: block; max-width: 100%; overflow-x: auto; border-collapse: collapse; }
td, th { padding: 0.1rem 0.6rem; text-align: left; overflow-wrap: break-word; }
math[display="block"] { overflow-x: auto; max-width: 100%; }
.prompt { display: none; }
@media (max-width: 800px) { body { display: block; } nav ul { position: static; columns: 2; } }
@media (prefers-color-scheme: dark) { html { background: #121212; color: #e8e8e8; } a { color: #8ab4f8; } }
@media (prefers-color-scheme: dark) { img { filter: brightness(0.85); } } /* figures are white */
"""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m interp_utils.book", description="Write the course as pages.")
    parser.add_argument("--out", default="build/book", help="the folder to write")
    pages = write(parser.parse_args(arguments).out)
    print(f"{len(pages)} pages; open {pages[0]}")


if __name__ == "__main__":
    main()
