"""Checks of arguments that many functions share."""

from numbers import Integral

import torch
from torch import Tensor


def finite(values: Tensor) -> bool:
    """Whether no value is infinite or nan: what `isfinite().all()` says, but without a mask as large as the values."""
    return values.numel() == 0 or all(edge.isfinite() for edge in values.detach().aminmax())


def checked_count(name: str, value: int, most: int | None = None, least: int = 1) -> int:
    """The value of an argument that counts something. Raises ValueError unless it is a whole number from `least` to `most`."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):
        bounds = f"at least {least}" if most is None else f"between {least} and {most}"
        raise ValueError(f"{name} must be {'' if whole else 'a whole number, '}{bounds}, got {value!r}")
    return int(value)


def checked_numbers(name: str, numbers: Tensor) -> Tensor:
    """Integers [B], as a tensor. Raises ValueError for anything else, booleans among them: they choose, they do not count."""
    numbers = torch.as_tensor(numbers)
    if numbers.ndim != 1 or numbers.is_floating_point() or numbers.dtype == torch.bool:
        raise ValueError(f"{name} must be integers [B], got {numbers.dtype} of shape {list(numbers.shape)}")
    return numbers.long()
