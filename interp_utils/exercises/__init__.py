"""Exercises: `check` tells a reader what is wrong with an answer, `grade` gives a teacher the mark."""

import secrets
from collections.abc import Callable
from inspect import isfunction

from . import beyond, circuits, heads, hypotheses, neurons, opening, rosetta, solutions
from .cases import Case
from .rules import borrowed, stands_in

__all__ = ["check", "grade", "solutions"]


def check(answer: Callable, seed: int | None = None) -> None:
    """Try an answer on random cases and say that it is right. Raises AssertionError, in words, when it is not.

    Which exercise it answers, its name says. One that still calls the folded solution is not tried. seed: None draws new cases.
    Raises ValueError where there is no exercise of this name.
    """
    if stands_in(answer):
        return print(f"{answer.__name__}: the folded solution stands in for yours")
    name = getattr(answer, "__name__", type(answer).__name__)
    _examine(answer, name, 10, seed)
    print(f"{name}: right")


def grade(answer: Callable, name: str, seed: int | None = None) -> None:
    """As `check`, for the exercise of this name, on more cases; the folded solution does not stand in.

    Raises AssertionError, which costs the points; ValueError where there is no exercise of this name.
    """
    _examine(answer, name, 30, seed)


def _examine(answer: Callable, name: str, n_cases: int, seed: int | None) -> None:
    chapters = (opening, heads, neurons, rosetta, hypotheses, circuits, beyond)
    chapter = next((each for each in chapters if hasattr(solutions, name) and hasattr(each, name)), None)
    if chapter is None:
        raise ValueError(f"there is no exercise {name!r}; give `check` the function of the exercise, under its name")
    assert isfunction(answer), f"{name}: write a plain function, not a {type(answer).__name__}"
    used = ", ".join(f"`{each}`" for each in borrowed(answer))
    assert not used, f"{name}: write it yourself, with torch and Python alone; the answer uses {used}"
    first = secrets.randbits(32) if seed is None else seed
    for number in range(first, first + n_cases):
        try:
            getattr(chapter, name)(answer, Case(number))
        except AssertionError as wrong:
            raise AssertionError(f"{name}: {wrong} (the same case again: seed={number})") from wrong.__cause__
