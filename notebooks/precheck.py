"""Look at what a class handed in before nbgrader marks it: a cell without its metadata would be a silent zero, and so would be an
answer that uses what only a cell defines that is not run then.

python notebooks/precheck.py COURSE      reads COURSE/release/NAME/NAME.ipynb and COURSE/submitted/*/NAME/NAME.ipynb

Prints what is wrong with whose copy, and exits with 1 if anything is.
"""

import ast
import builtins
import re
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
    said += [f"the answer in {each!r} uses `{name}`, which no cell defines that is run for marking; copy it into the answer's cell"
             for each, name in missing(submitted)]  # fmt: skip
    return said


def parsed(source: str) -> ast.AST:
    """A cell's source without the lines for IPython; what is no Python is empty."""
    try:
        return ast.parse(re.sub(r"^(\s*)[%!].*", r"\1pass", source, flags=re.M))
    except SyntaxError:
        return ast.parse("")


def given(tree: ast.AST) -> set[str]:
    """All names that a cell gives a meaning, wherever in it."""
    found = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
    found |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    found |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.ExceptHandler)}
    imports = [each for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom) for each in node.names]
    return found | {(each.asname or each.name).split(".")[0] for each in imports}


def missing(notebook: NotebookNode) -> list[tuple[str, str]]:
    """Pairs of an answer's cell and a name in it that no cell defines that is run for marking."""
    run = [cell for cell in notebook.cells if cell.cell_type == "code" and "skip-execution" not in cell.metadata.get("tags", ())]
    known = {*dir(builtins), "display", "get_ipython"}.union(*(given(parsed(cell.source)) for cell in run))
    answers = [cell for cell in run if cell.metadata.get("nbgrader", {}).get("solution")]
    used = [(cell.metadata.nbgrader.grade_id, node) for cell in answers for node in ast.walk(parsed(cell.source))]
    return sorted({(each, node.id) for each, node in used if isinstance(node, ast.Name) and node.id not in known})


def overwritten(source: str) -> list[str]:
    """Names of `iu` or `torch`, or below them, that a cell gives another value."""
    found = set()
    for node in ast.walk(parsed(source)):
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
