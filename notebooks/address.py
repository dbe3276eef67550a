"""The address of the repository, which pyproject.toml alone names, in badges, set-up cells and pages.

python notebooks/address.py      write it everywhere; `make notebooks` begins with that
"""

import re
import tomllib
from pathlib import Path

import nbformat

HERE = Path(__file__).parent
PROJECT = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ADDRESS = PROJECT["urls"]["Repository"]
REPOSITORY = "/".join(ADDRESS.split("/")[-2:])
PACKAGE = f"{PROJECT['name']} @ git+{ADDRESS}@v{PROJECT['version']}"  # from a tag: what a class runs does not change under it
INSTALL = f'%pip install -q "{PACKAGE}"'
PAGES = [HERE.parent / "README.md", HERE.parent / "docs/teaching.md"]


def addressed(text: str) -> str:
    """A text with this repository's address in its badges, links to notebooks and install lines."""
    text = re.sub(r"(colab\.research\.google\.com/github)/[\w.-]+/[\w.-]+(?=/blob/)", rf"\1/{REPOSITORY}", text)
    text = re.sub(r"https://github\.com/[\w.-]+/[\w.-]+(?=(?:/tree/main)?/notebooks|\.git\b)", ADDRESS, text)
    return re.sub(rf'"{PROJECT["name"]} @ git\+[^"]+"', f'"{PACKAGE}"', text)


def write(notebooks: list[Path]) -> None:
    """Put the address into these notebooks and into all pages."""
    for page in PAGES:
        page.write_text(addressed(page.read_text(encoding="utf-8")), encoding="utf-8")
    for path in notebooks:
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            cell.source = addressed(cell.source)
        nbformat.write(notebook, path)


if __name__ == "__main__":
    write(sorted(HERE.glob("*.ipynb")))
