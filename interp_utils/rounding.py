"""What rounding alone can make of numbers."""

import torch
from torch import Tensor

# In units of a precision's epsilon, what share of a number is lost when it is written down, and in a short computation.
WRITING, COMPUTING = 0.5, 8


def epsilon(dtype: torch.dtype) -> float:
    """Relative rounding error of numbers; below single precision that of single, for their steps are coarse but no noise."""
    return torch.finfo(torch.float32 if dtype.is_floating_point and dtype.itemsize < 8 else torch.float64).eps


def negligible(spread: Tensor, size: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Where a spread, a difference or a deviation, is no more than a short computation's rounding of numbers of some size."""
    return spread <= COMPUTING * epsilon(dtype) * size
