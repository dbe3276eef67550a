"""Imports point one way: from a room to those below it."""

import ast
import re
from functools import cache
from pathlib import Path

import nbformat

import interp_utils

ROOT = Path(interp_utils.__file__).parent

# From the bottom up; what stands in one line does not import one another. The sandbox's world lies below the rooms that score
# themselves by its truth; its small models of chapter 4 lie above `rosetta`, with which they register themselves by name.
LAYERS = [
    {"checks", "rounding", "statistics", "images", "tokens", "fingerprints", "saved", "processes", "exercises", "lab"},
    {"towers", "plots", "items", "accumulating", "runs"},
    {"loading", "moments"},
    {"models"},
    {"hooks", "thesis"},
    {"stream"},
    {"sandbox"},
    {"datasets"},
    {"texts", "presets", "segmentation_scores", "explainers"},
    {"heads"},
    {"neurons", "rosetta", "segmentation"},
    {"science", "downloads"},
    {"sandbox.known", "doctor", "verify", "widgets"},
    {"sandbox.viewers", "atlas", "collecting", "book"},
    {"sandbox.adversarial", "collect"},
]
ENTRIES = {"doctor"}  # what must run where little is installed, and imports late so as to say what is missing


def room(parts: list[str]) -> str:
    """The room of a module, given as the parts of its name after the package's."""
    return ".".join(parts[:2]) if ".".join(parts[:2]) in {"sandbox.adversarial", "sandbox.viewers", "sandbox.known"} else parts[0]


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def arrows() -> list[tuple]:
    """(room, room it imports from, file and line, whether inside a function) of every import within the package."""
    modules = {path.relative_to(ROOT).with_suffix("").parts: path for path in ROOT.rglob("*.py")}
    found, names = [], {parts[:-1] if parts[-1] == "__init__" else parts for parts in modules}
    for parts, path in modules.items():
        if len(parts) == 1 and parts[0] in ("__init__", "__main__"):
            continue  # the package itself puts everything together
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").split(".")[0] == "interp_utils"):
                inside = (node.module or "").split(".") if node.module else []
                base = [*parts[: len(parts) - node.level], *inside] if node.level else inside[1:]
                for alias in node.names:
                    target = [*base, alias.name] if (*base, alias.name) in names else base
                    if target and room(target) != room(list(parts)):
                        where = f"{path.relative_to(ROOT)}:{node.lineno}"
                        found.append((room(list(parts)), room(target), where, node.col_offset > 0))
    return found


def test_no_import_points_up():
    height = {name: k for k, layer in enumerate(LAYERS) for name in layer}
    found = arrows()
    assert len(found) > 200 and {each[0] for each in found} <= set(height), "every room has its layer above"
    up = [f"{where}: {user} imports {used}" for user, used, where, _ in found if height[used] >= height[user]]
    assert not up, "\n".join(up)


def test_no_import_between_rooms_hides_in_a_function():
    hidden = [f"{where}: {user} imports {used}" for user, used, where, inside in arrows() if inside and user not in ENTRIES]
    assert not hidden, "\n".join(hidden)


def test_what_all_rooms_stand_on_knows_none_of_them():
    below = {"models": {"checks", "loading", "tokens", "towers"}, "moments": {"accumulating", "checks", "rounding"}}
    below |= {"hooks": {"models", "towers"}, "stream": {"accumulating", "items", "moments", "processes", "runs"}}
    for user, allowed in below.items():
        assert {used for each, used, *_ in arrows() if each == user} <= allowed


OWN_LOOPS = {
    "stream.py": "the one loop over a dataset",
    "sandbox/train_clip.py": "training: batches that are drawn as they are needed, without an end",
    "sandbox/viewers/probes.py": "features of images for a probe, of raw models in their recipe",
    "sandbox/known/reader.py": "a model's own batches, inside one call of it",
    "sandbox/known/report.py": "samples of a generator, drawn once and kept",
    "rosetta/judging/experiments.py": "optimises latents for each batch of images; it keeps what is done in a file",
    "science/hypotheses.py": "pairs that an experiment asked for, not a dataset",
}


def loops_over_data(code: ast.Module):
    """Lines that load batches, or loop over parts of a tensor of images."""
    for node in ast.walk(code):
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "DataLoader":
            yield node.lineno
        for loop in [node] if isinstance(node, ast.For) else getattr(node, "generators", []):
            for call in ast.walk(loop.iter):
                if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "split" and call.args:
                    of, by = ast.unparse(call.func.value), call.args[0]
                    data = any(word in of for word in ("image", "pixels", "distinct", "len(")) or of in ("z", "c")
                    if data and not call.keywords and not (isinstance(by, ast.Constant) and isinstance(by.value, str)):
                        yield call.lineno


def test_no_second_loop_over_a_dataset():
    found = {str(path.relative_to(ROOT)): list(loops_over_data(parsed(path))) for path in ROOT.rglob("*.py")}
    looping = {name for name, lines in found.items() if lines}
    assert looping == set(OWN_LOOPS), "use stream.feed or stream.collect, or say here why not"


def test_no_notebook_loops_over_a_dataset():
    paths, found = sorted((ROOT.parent / "notebooks").glob("*.ipynb")), []
    for path in paths:
        for number, cell in enumerate(nbformat.read(path, as_version=4).cells):
            if cell.cell_type == "code":
                code = re.sub(r"^( *)%.*", r"\1pass", cell.source, flags=re.M)
                found += [f"{path.name}, cell {number}, line {line}" for line in loops_over_data(ast.parse(code))]
    assert len(paths) == 7 and not found, f"use stream.feed or stream.collect in {found}"
