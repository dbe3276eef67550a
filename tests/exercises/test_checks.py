"""Every check passes the folded solution, and refuses the stub, plausible wrong answers and ways around the exercise."""

import inspect
import re
from functools import cache, partial
from pathlib import Path
from textwrap import indent

import pytest
import torch

import interp_utils as iu
from interp_utils import exercises
from interp_utils.exercises import check, grade, rules, solutions

from .answers import CHEATS, WRONG, cheats

NAMES = [name for name, value in vars(solutions).items() if inspect.isfunction(value)]


@cache
def signature_of(name):
    """The part of a solution that the reader is given: `def` and the comments under it."""
    return re.match(r"def .*\n(?:    #.*\n)*", inspect.getsource(getattr(solutions, name)))[0]


def parameters_of(name):
    return ", ".join(inspect.signature(getattr(solutions, name)).parameters)


def defined(name, source):
    """The function that a cell with this source defines in a notebook."""
    solution = getattr(solutions, name)
    space = {"torch": torch, "iu": iu, "__name__": "__main__", "kept": {"it": solution}}
    exec(f"def helper(*a):\n    return iu.exercises.solutions.{name}(*a)\n", space)
    exec(source, space)
    return space[name]


def answered(name, body):
    return defined(name, signature_of(name) + indent(body, "    "))


@pytest.mark.parametrize("name", NAMES)
def test_a_check_passes_the_solution_and_nothing_else(name):
    right = defined(name, inspect.getsource(getattr(solutions, name)))
    check(right)
    grade(right, name)
    refused = [*WRONG[name], *cheats(name, parameters_of(name))]
    assert len(WRONG[name]) >= 3 and len(CHEATS[name]) >= 2
    for body in ("raise NotImplementedError()", "pass", *refused):
        for asked in (check, partial(grade, name=name)):
            if asked is check and body.startswith("return iu.exercises.solutions."):
                continue  # in the reader's copy it stands in
            with pytest.raises(AssertionError, match=f"^{name}: ") as said:
                asked(answered(name, body))
            assert len(str(said.value)) > len(name) + 20, body


@pytest.mark.parametrize("name", NAMES)
def test_each_usual_mistake_is_told_apart_in_words(name):
    said = set()
    for body in WRONG[name]:
        with pytest.raises(AssertionError) as error:
            check(answered(name, body), seed=0)
        said.add(re.sub(r" \(the same case again.*", "", str(error.value)))
    assert len(said) >= min(3, len(WRONG[name])), said
    assert f"{name}: not the right numbers" not in said, "a usual mistake that nobody explains"


def test_the_folded_solution_stands_in_for_the_reader_but_not_for_the_mark(capsys):
    line = answered("worst_group", f"return iu.exercises.solutions.worst_group({parameters_of('worst_group')})")
    check(line)
    assert capsys.readouterr().out == "worst_group: the folded solution stands in for yours\n"
    with pytest.raises(AssertionError, match="write it yourself"):
        grade(line, "worst_group")


def test_a_failed_check_names_a_case_that_fails_again():
    lucky = answered("worst_group", "right = (guesses == labels).float()\nreturn right[groups == groups[0]].mean().item()")
    with pytest.raises(AssertionError, match=r"seed=(\d+)") as first:
        grade(lucky, "worst_group")
    seed = int(re.search(r"seed=(\d+)", str(first.value))[1])
    with pytest.raises(AssertionError, match=f"seed={seed}"):
        check(lucky, seed=seed)


def test_one_exercise_does_not_answer_another():
    easy = defined("running_totals", inspect.getsource(solutions.running_totals))
    easy.__name__ = "pursue"
    with pytest.raises(AssertionError, match="^pursue: "):
        grade(easy, "pursue")
    with pytest.raises(ValueError, match="no exercise 'pursuit'"):
        grade(easy, "pursuit")


def test_only_an_exercise_can_be_checked():
    with pytest.raises(ValueError, match="no exercise 'len'"):
        check(len)
    rooms = [getattr(exercises, path.stem) for path in Path(solutions.__file__).parent.glob("[a-z]*.py")]
    assert [name for name in NAMES if sum(hasattr(room, name) for room in rooms) != 1] == []
    assert set(NAMES) == set(WRONG) == set(CHEATS)


@pytest.mark.parametrize("reach", [
    "def f(x, omp=iu.neurons.omp):\n    return omp(x)",
    "class Own:\n    def go(self, x):\n        return iu.neurons.omp(x)\ndef f(x):\n    return Own().go(x)",
    "def made():\n    omp = iu.neurons.omp\n    def f(x):\n        return omp(x)\n    return f\nf = made()",
    "import functools\nomp = functools.partial(iu.neurons.omp)\ndef f(x):\n    return omp(x)",
    "def f(x):\n    return torch.sys.modules['interp_utils']",
    "def f(x):\n    return [eval('iu') for _ in x]",
    "clip = iu.setup\ndef f(x):\n    return (lambda: clip)()",
])  # fmt: skip
def test_borrowed_code_is_found_wherever_it_hides(reach):
    space = {"torch": torch, "iu": iu, "__name__": "__main__"}
    exec(reach, space)
    assert rules.borrowed(space["f"])


def test_torch_and_helpers_of_ones_own_are_no_loan():
    space = {"torch": torch, "__name__": "__main__"}
    exec(
        "def unit(x):\n    return x / x.norm()\ndef f(module, x):\n    module.eval()\n    return torch.nn.functional.gelu(unit(x))",
        space,
    )
    assert rules.borrowed(space["f"]) == []
