"""Random cases for a check, how an answer is asked, and how its result is judged in words."""

from collections.abc import Callable, Iterable
from inspect import signature
from numbers import Real

import torch
from torch import Tensor


class Case:
    """One random case: draws of sizes and numbers that follow from a seed; every second case is in double precision."""

    def __init__(self, seed: int):
        self.generator = torch.Generator().manual_seed(seed)
        self.dtype = (torch.float32, torch.float64)[self.whole(0, 1)]

    def whole(self, least: int, most: int) -> int:
        return int(torch.randint(least, most + 1, (), generator=self.generator))

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=self.dtype)

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.generator, dtype=self.dtype)

    def numbers(self, below: int, *shape: int) -> Tensor:
        return torch.randint(below, shape, generator=self.generator)

    def order(self, n: int) -> Tensor:
        return torch.randperm(n, generator=self.generator)


def ask(answer: Callable, *arguments):
    """What the answer returns. Raises AssertionError when it fails, returns nothing, or changes an argument."""
    before = [each.clone() if isinstance(each, Tensor) else each for each in arguments]
    try:
        found = answer(*arguments)
    except NotImplementedError:
        raise AssertionError("not written yet") from None
    except Exception as error:
        shapes = ", ".join(f"{list(a.shape)}" if isinstance(a, Tensor) else type(a).__name__ for a in arguments)
        raise AssertionError(f"stops with {type(error).__name__}: {error}; the arguments were {shapes}") from error
    for name, was, now in zip(signature(answer).parameters, before, arguments):
        same = not isinstance(was, Tensor) or torch.equal(was, now)
        assert same, f"changes its argument `{name}`; work on a copy (`clone`)"
    assert found is not None, "returns nothing yet"
    return found


def judge(found, wanted, mistakes: Iterable[tuple[str, object]] = (), otherwise: str = "not the right numbers") -> None:
    """Pass a result that equals `wanted`; else say which of the usual `mistakes` (words, their result) it equals."""
    if isinstance(wanted, Tensor):
        shape = list(wanted.shape)
        assert isinstance(found, Tensor), f"return a tensor {shape}, not a {type(found).__name__}"
        assert found.shape == wanted.shape, f"return a tensor {shape}, not {list(found.shape)}"
        assert found.dtype == wanted.dtype, f"keep the precision: {wanted.dtype} came in, {found.dtype} came out"
    else:
        one = isinstance(found, Real) or (isinstance(found, Tensor) and found.ndim == 0)
        assert one, f"return one number, not a {type(found).__name__}"
        assert found == found, "the result is not a number (nan): something was divided by zero"
    if _equal(found, wanted):
        return
    for words, value in mistakes:
        if _equal(found, value):
            raise AssertionError(words)
    raise AssertionError(otherwise)


def apart(wanted: float, mistakes: Iterable[tuple[str, object]]) -> bool:
    """Whether no usual mistake gives what is wanted by chance."""
    return all(abs(float(value) - wanted) > 1e-2 for _, value in mistakes)


def together(found, *names: str) -> tuple:
    """The results that an answer returns together, one for each name. Raises AssertionError where it returns something else."""
    right = isinstance(found, tuple | list | Tensor) and getattr(found, "ndim", 1) and len(found) == len(names)
    assert right, f"return two results, {' and '.join(names)}, not this {type(found).__name__}"
    return tuple(found)


def _equal(found, other) -> bool:
    found, other = torch.as_tensor(found).double(), torch.as_tensor(other).double()
    return found.shape == other.shape and torch.allclose(found, other, rtol=1e-3, atol=2e-5)
