"""Look at what a class handed in before nbgrader marks it: a cell without its metadata would be a silent zero.

python notebooks/precheck.py COURSE      reads COURSE/release/NAME/NAME.ipynb and COURSE/submitted/*/NAME/NAME.ipynb

Prints what is wrong with whose copy, and exits with 1 if anything is.
"""

import ast
import sys
from collections import Counter
from pathlib import Path

import nbformat
from nbformat import NotebookNode

OURS = ("iu", "torch")  # what checks are made of


def grade_ids(notebook: NotebookNode) -> Counter:
    return Counter(cell.metadata.nbgrader.grade_id for cell in notebook.cells if "nbgrader" in cell.metadata)


def problems(submitted: NotebookNode, released: NotebookNode) -> list[str]:
    """What keeps a copy from being marked fairly, one sentence each."""
    wanted, found = grade_ids(released), grade_ids(submitted)
    said = [f"no cell {each!r}: it was deleted, or a tool dropped its metadata; copy the answer into a fresh notebook"
            for each in wanted if each not in found]  # fmt: skip
    said += [f"cell {each!r} is there {n} times; keep one" for each, n in found.items() if n > 1]
    for number, cell in enumerate(submitted.cells):
        if cell.cell_type == "code" and "setup" != cell.metadata.get("nbgrader", {}).get("grade_id"):
            said += [f"cell {number} writes to `{name}`, which the checks use: look at it" for name in overwritten(cell.source)]
    return said


def overwritten(source: str) -> list[str]:
    """Names of `iu` or `torch`, or below them, that a cell gives another value; what is no Python is passed over."""
    lines = ["pass" if line.lstrip().startswith(("%", "!")) else line for line in source.splitlines()]
    try:
        tree = ast.parse("\n".join(lines))
    except SyntaxError:
        return []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            found.add(ast.unparse(node))
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("setattr", "delattr", "patch", "reload"):
            found |= {ast.unparse(each) for each in node.args[:1]}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {each.asname or each.name for each in node.names if each.name not in ("torch", "interp_utils")}
    return sorted(name for name in found if name.split(".")[0].split("[")[0] in OURS or "sys.modules" in name)


def main(course: Path) -> int:
    copies, wrong = sorted(course.glob("submitted/*/*/*.ipynb")), 0
    for path in copies:
        released = nbformat.read(course / "release" / path.parent.name / path.name, as_version=4)
        for problem in problems(nbformat.read(path, as_version=4), released):
            print(f"{path.parts[-3]}, {path.name}: {problem}")
            wrong = 1
    print(f"{len(copies)} copies looked at")
    return wrong


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])) if len(sys.argv) == 2 else __doc__)
