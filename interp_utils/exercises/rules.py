"""What an answer may lean on: torch and Python, not this package, which does the exercise already."""

import dis
from collections.abc import Callable
from functools import partial
from inspect import isclass, isfunction, ismodule
from types import CodeType

OWN = ("__main__", "builtins")  # what a notebook defines
ESCAPES = {"__import__", "importlib", "eval", "exec", "compile", "globals", "vars", "sys", "inspect", "gc", "__builtins__"}
FORBIDDEN = {
    "global": ESCAPES,
    "import": {"interp_utils", *ESCAPES},
    "attribute": {"__globals__", "__builtins__", "__closure__", "__code__", "sys"},
}


def stands_in(answer: Callable) -> bool:
    """Whether the answer is the line of the notebook that calls the folded solution, and nothing else."""
    name, code = getattr(answer, "__name__", ""), getattr(answer, "__code__", None)
    return code is not None and code.co_names == ("iu", "exercises", "solutions", name) and code.co_nlocals == code.co_argcount


def borrowed(answer: Callable) -> list[str]:
    """Names by which an answer, or a helper of its own, reaches this package or hides what it calls."""
    found, seen, rest = set(), set(), [("", answer)]
    while rest:
        name, value = rest.pop()
        root = _root(value)
        if id(value) in seen:
            continue
        seen.add(id(value))
        if root == "interp_utils":
            found.add(name)
        elif isfunction(value) and root in OWN:
            outside = [cell.cell_contents for cell in value.__closure__ or ()]
            outside += [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
            rest += [(name, each) for each in outside]
            for used, kind in _names(value.__code__):
                if used.split(".")[0] in FORBIDDEN[kind]:
                    found.add(used)
                elif kind == "global" and used in value.__globals__:
                    rest.append((used, value.__globals__[used]))
        elif isclass(value) and root in OWN:
            rest += [(name, each) for each in vars(value).values()]
        elif isinstance(value, partial):
            rest += [(name, each) for each in (value.func, *value.args, *value.keywords.values())]
        elif isinstance(value, dict | list | tuple | set):
            rest += [(name, each) for each in (value.values() if isinstance(value, dict) else value)]
    return sorted(found)


def _root(value) -> str:
    module = value.__name__ if ismodule(value) else getattr(value, "__module__", None) or type(value).__module__
    return str(module).split(".")[0]


def _names(code: CodeType):
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield step.argval, "global"
        elif step.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            yield step.argval, "attribute"
        elif step.opname == "IMPORT_NAME":
            yield step.argval, "import"
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
