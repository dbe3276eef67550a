"""On Colab the set-up cell installs this package from a tag and upgrades nothing that is there."""

import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import nbformat
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "notebooks"))
import address  # noqa: E402

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Colab's image of 19 August 2026 (github.com/googlecolab/backend-info, pip-freeze.txt): what this package and the packages that it
# adds there ask for. torch comes from another list of theirs, torchvision is the version that belongs to it.
PYTHON = "3.13"
COLAB = {
    "h5py": "3.16.0", "huggingface-hub": "1.27.0", "ipywidgets": "7.7.1", "matplotlib": "3.10.0", "msgpack": "1.2.1",
    "numpy": "2.1.3", "packaging": "26.3", "pillow": "11.3.0", "regex": "2025.11.3", "safetensors": "0.8.0",
    "scikit-learn": "1.6.1", "scipy": "1.16.3", "timm": "1.0.28", "tqdm": "4.67.3", "typing-extensions": "4.16.0",
    "wcwidth": "0.8.2", "torch": "2.11.0", "torchvision": "0.26.0",
}  # fmt: skip


def asks_for(name: str, requirements: list[str]):
    """Pairs of who asks and what for, of this package and of what Colab would install with it."""
    seen, rest = set(), [(name, Requirement(each)) for each in requirements]
    while rest:
        who, wanted = rest.pop()
        what = canonicalize_name(wanted.name)
        if wanted.marker and not wanted.marker.evaluate({"extra": "", "python_version": PYTHON, "sys_platform": "linux"}):
            continue
        yield who, wanted
        if what not in COLAB and what not in seen:
            seen.add(what)
            rest += [(what, Requirement(each)) for each in metadata.requires(what) or ()]


def test_an_install_upgrades_nothing_that_colab_has():
    asked = list(asks_for(PROJECT["name"], PROJECT["dependencies"]))
    upgraded = [f"{who} asks for {wanted}, Colab has {COLAB[canonicalize_name(wanted.name)]}" for who, wanted in asked
                if canonicalize_name(wanted.name) in COLAB
                and not wanted.specifier.contains(COLAB[canonicalize_name(wanted.name)])]  # fmt: skip
    assert upgraded == [] and {canonicalize_name(wanted.name) for _, wanted in asked} >= COLAB.keys()
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(PYTHON)


def test_a_floor_that_colab_lacks_would_be_found():
    numbers = Requirement("numpy>=99")
    assert not numbers.specifier.contains(COLAB["numpy"])
    assert [str(wanted) for _, wanted in asks_for("x", ["numpy>=99"])] == ["numpy>=99"]


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").rglob("[0-9]*.ipynb")), ids=lambda path: "/".join(path.parts[-2:]))
def test_a_notebook_names_the_address_of_pyproject(path):
    first, setup = nbformat.read(path, as_version=4).cells[:2]
    assert f"https://colab.research.google.com/github/{address.REPOSITORY}/blob/main/{path.relative_to(ROOT)})" in first.source
    assert address.INSTALL in setup.source and setup.source == address.addressed(setup.source)
    assert f"git+{address.ADDRESS}" in setup.source


def test_one_line_moves_all_addresses(monkeypatch):
    monkeypatch.setattr(address, "ADDRESS", "https://github.com/else/where")
    monkeypatch.setattr(address, "REPOSITORY", "else/where")
    monkeypatch.setattr(address, "PACKAGE", "interp-utils @ git+https://github.com/else/where@v9")
    pages = [path.read_text() for path in address.PAGES]
    pages += [cell.source for cell in nbformat.read(ROOT / "notebooks/01_opening_the_black_box.ipynb", as_version=4).cells]
    moved = [address.addressed(page) for page in pages]
    assert any(
        "else/where" in page for page in moved[: len(address.PAGES)]
    ) and '%pip install -q "interp-utils @ git+https://github.com/else/where@v9"' in "".join(moved)
    old = re.escape("/".join(PROJECT["urls"]["Repository"].split("/")[-2:]))
    assert not re.search(old, "\n".join(moved)), "an address that nothing would move"


def test_pages_name_the_address_of_pyproject():
    assert all(page.read_text() == address.addressed(page.read_text()) for page in address.PAGES), "make notebooks"
