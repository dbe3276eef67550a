"""Imports of chapter 4 point one way."""

import ast
from pathlib import Path

import interp_utils as iu

ROOM = Path(iu.rosetta.__file__).parent
BELOW = {"generators": (), "matching": ("generators",), "editing": ("matching",), "judging": ("matching", "editing")}


def imported(path):
    """Where a file imports from within the package: the instruction, and the absolute name."""
    here = ["interp_utils", *path.relative_to(ROOM.parent).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield node, ".".join(here[: len(here) - node.level + 1] + ([node.module] if node.module else []))


def test_rooms_import_only_those_below_them():
    for room, below in BELOW.items():
        files = sorted((ROOM / room).glob("*.py"))
        assert len(files) > 3
        for path in files:
            for node, name in imported(path):
                parts = name.split(".")
                if parts[:2] == ["interp_utils", "rosetta"]:
                    assert parts[2] in (room, *below), f"{path.name} imports {name}"
                elif room != "judging":  # which judges where the truth is known
                    assert "sandbox" not in [*parts, *(alias.name for alias in node.names)], f"{path.name} imports {name}"
                assert node.col_offset == 0, f"{path.name} hides the import of {name} in a function"
