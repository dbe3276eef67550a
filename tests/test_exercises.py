"""Checks that stand in a notebook pass for its solution and fail on the stub and on plausible wrong answers.

Those of `interp_utils.exercises` have their tests in tests/exercises.
"""

import re
from pathlib import Path

import nbformat
import pytest
import torch

import interp_utils as iu

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
WRONG = {  # answers that a reader may well give
    "sign_flip_p": [
        "return ((flips * change).mean(1).abs() >= change.mean().abs()).float().mean().item()",
        "return ((flips * change).mean(1) > 0).float().mean().item()",
        "return (change <= 0).float().mean().item()",
    ],
    "recovered_share": [
        "return (circuit.mean() / whole.mean()).item()",
        "return ((circuit - empty) / (whole - empty)).mean().item()",
    ],
    "ridge_with_constant": [
        "return torch.linalg.solve(x.T @ x + penalty * torch.eye(x.shape[1]).to(x), x.T @ y), torch.zeros(y.shape[1]).to(x)",
        "ones = torch.cat([x, torch.ones_like(x[:, :1])], 1)\n"
        "    found = torch.linalg.solve(ones.T @ ones + penalty * torch.eye(ones.shape[1]).to(x), ones.T @ y)\n"
        "    return found[:-1], found[-1]",
        "weights = torch.linalg.solve(x.T @ x + penalty * torch.eye(x.shape[1]).to(x), x.T @ y)\n"
        "    return weights, y.mean(0) - x.mean(0) @ weights",
    ],
    "into_register": [
        "moved = activations.clone()\n    moved[:, -1, neurons] = activations[:, :-1, neurons].amax(1)\n"
        "    moved[:, :-1, neurons] = 0\n    return moved",
        "moved = activations.clone()\n    moved[:, -1, neurons] = activations[:, 1:-1, neurons].mean(1)\n"
        "    moved[:, 1:-1, neurons] = 0\n    return moved",
        "activations[:, -1, neurons] = activations[:, 1:-1, neurons].amax(1)\n    activations[:, 1:-1, neurons] = 0\n"
        "    return activations",
    ],
}


def exercises():
    for path in NOTEBOOKS:
        cells = nbformat.read(path, as_version=4).cells
        answers = [cell.source for cell in cells if "exercise" in cell.metadata.get("tags", [])]
        checks = [cell.source for cell in cells if "check" in cell.metadata.get("tags", [])]
        assert len(answers) == len(checks)
        for answer, check in zip(answers, checks):
            if "iu.exercises.check(" in check:
                continue
            yield pytest.param(answer, check, id=re.search(r"def (\w+)", answer)[1])


@pytest.mark.parametrize("answer,check", exercises())
def test_check_tells_right_from_wrong(answer, check):
    def run(source):
        torch.manual_seed(0)
        exec(source + "\n" + check, {"torch": torch, "iu": iu})

    name = re.search(r"def (\w+)", answer)[1]
    before, solution, after = re.split(r" *### (?:BEGIN|END) SOLUTION\n?", answer)
    run(answer)
    assert solution.strip()
    for body in ("return None", *WRONG[name]):
        with pytest.raises(AssertionError):
            run(f"{before}    {body}\n{after}")


def test_every_wrong_answer_belongs_to_an_exercise():
    assert {parameter.id for parameter in exercises()} == set(WRONG)
