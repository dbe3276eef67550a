"""From what a pickle wrote down to tensors: the few names that mean anything, and storages decoded from their raw bytes."""

import io
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from .inert import Budget, Node, key, read_inert

DICTS = ("collections.OrderedDict", "dnnlib.util.EasyDict")
PARAMETERS = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")
ARRAYS = ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct")
SCALARS = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
STORAGES = {
    "torch.DoubleStorage": torch.float64, "torch.FloatStorage": torch.float32, "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16, "torch.LongStorage": torch.int64, "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16, "torch.CharStorage": torch.int8, "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}  # fmt: skip
MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001  # of the old format of torch.save
MOST_AXES, TENSOR = 32, 500  # axes of a tensor; bytes that one takes beside its numbers

Find = Callable[[Any], Tensor]  # what a pickle names as a storage -> its numbers, flat


@contextmanager
def unpickling_errors(path: Path, kind: str) -> Iterator[None]:
    """Every error inside becomes an UnpicklingError that names the file: its content decides what goes wrong."""
    try:
        yield
    except Exception as error:
        reason = str(error).strip().split("\n")[0][:300] or type(error).__name__
        raise UnpicklingError(f"{path.name} cannot be read as {kind}: {reason}") from error


def what(value: Any) -> str:
    """A value in an error message."""
    return repr(value)[:80] if isinstance(value, Node) else type(value).__name__


def as_dict(value: Any, budget: Budget) -> dict | None:
    """A dict, also where it was made by one of the known names; None for other values."""
    if isinstance(value, dict):
        return value
    if not isinstance(value, Node) or value.name not in DICTS or value.args is None:
        return None
    start = value.args[0] if value.args else ()
    if not isinstance(start, dict | list | tuple):
        return None
    budget.spend(100 * (1 + len(start) + len(value.pairs)))
    pairs = [*(start.items() if isinstance(start, dict) else start), *value.pairs]
    if not all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in pairs):
        return None
    return {key(name): item for name, item in pairs}


def tensor(value: Any, find: Find, budget: Budget) -> Tensor:
    """The tensor that a pickle describes. Raises ValueError for anything else, and for views that reach beyond their storage."""
    for _ in range(2):
        if isinstance(value, Node) and value.args and value.name in PARAMETERS:
            value = value.args[0]
    if isinstance(value, Node) and value.args is not None:
        if value.name == "torch._utils._rebuild_tensor_v2":
            storage, offset, size, stride = value.args[:4]
            for axes in (size, stride):
                if not isinstance(axes, tuple | list) or len(axes) > MOST_AXES or any(type(n) is not int for n in axes):
                    raise ValueError(f"a tensor whose size or stride is {what(axes)}")
            flat = find(storage)
            if math.prod(size) > len(flat):
                raise ValueError(f"size {size} of a storage with {len(flat)} numbers")
            budget.spend(TENSOR + math.prod(size) * flat.element_size())  # views are copied sooner or later
            return flat.as_strided(tuple(size), tuple(stride), offset)  # refuses what lies outside
        if value.name in ARRAYS or value.name in SCALARS:
            array = _array(value)
            budget.spend(TENSOR + array.nbytes)
            return torch.from_numpy(array.copy())
    raise ValueError(f"{what(value)} is not a tensor")


def _array(node: Node) -> np.ndarray:
    if node.name in SCALARS:
        (kind, content), shape, fortran = node.args, (), False
    else:
        _, shape, kind, fortran, content = node.state
    if not isinstance(kind, Node) or kind.name != "numpy.dtype" or not isinstance(content, bytes):
        raise ValueError(f"array of {what(kind)} in {what(content)}")
    if not isinstance(shape, tuple) or len(shape) > MOST_AXES:
        raise ValueError(f"array whose shape is {what(shape)}")
    name, order = kind.args[0], kind.state[1] if kind.state is not None else "="
    if not isinstance(name, str) or name[:1] not in tuple("fiub") or len(name) > 3 or order not in ("<", "=", "|"):
        raise ValueError(f"array of type {str(name)[:20]!r} with byte order {what(order)}")
    return np.frombuffer(content, np.dtype(name)).reshape(shape, order="F" if fortran else "C")


def announced(names: list, budget: Budget) -> dict[str, tuple[torch.dtype, int]]:
    """Type and count of each storage, by its key, from torch's persistent ids.

    Raises ValueError for other ids, and for storages that would not fit into the file.
    """
    found = {}
    for name in names:
        if not isinstance(name, tuple) or len(name) not in (5, 6) or name[0] != "storage" or name[5:] not in ((), (None,)):
            raise ValueError(f"a storage was expected, got {what(name)}")
        _, kind, place, _, count = name[:5]
        dtype = STORAGES.get(kind.name) if isinstance(kind, Node) else None
        if not isinstance(place, str) or dtype is None or type(count) is not int or not 0 <= count * dtype.itemsize <= budget.size:
            count = count if type(count) is int else what(count)
            raise ValueError(f"storage {what(kind)} announces {count} numbers in a file of {budget.size} bytes")
        if found.setdefault(place, (dtype, count)) != (dtype, count):
            raise ValueError("a storage is announced twice, differently")
    return found


def numbers(file: BinaryIO, dtype: torch.dtype, count: int, budget: Budget) -> Tensor:
    """The next `count` numbers of a file, flat. Raises ValueError where it ends before them."""
    budget.spend(TENSOR + count * dtype.itemsize)
    if count == 0:
        return torch.empty(0, dtype=dtype)
    content = bytearray(count * dtype.itemsize)
    if file.readinto(content) != len(content):
        raise ValueError(f"cut off: {len(content)} bytes of a storage were announced")
    return torch.frombuffer(content, dtype=dtype)


def read_old_format(file: BinaryIO, budget: Budget) -> tuple[Any, dict[str, Tensor]]:
    """Content and storages of a file in the old format of torch.save: five pickles, then each storage as count and raw bytes."""
    names: list = []
    magic, version, machine = (read_inert(file, budget) for _ in range(3))
    if magic != MAGIC or version != VERSION or not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise ValueError("not a file of torch.save, or one from a big-endian machine")
    content, order = read_inert(file, budget, names), read_inert(file, budget)
    kinds = announced(names, budget)
    if not isinstance(order, list) or not all(isinstance(place, str) and place in kinds for place in order):
        raise ValueError("its list of storages does not fit its content")
    storages = {}
    for place in order:
        dtype, count = kinds[place]
        if int.from_bytes(file.read(8), "little", signed=True) != count:
            raise ValueError(f"cut off, or a storage does not have the {count} numbers that were announced")
        storages[place] = numbers(file, dtype, count, budget)
    return content, storages


def in_storages(storages: dict[str, Tensor]) -> Find:
    """Finds storages by torch's persistent ids."""

    def find(node: Any) -> Tensor:
        if not isinstance(node, Node) or node.name != "<persistent>" or node.args[0][2] not in storages:
            raise ValueError(f"storage {what(node)} is not in the file")
        return storages[node.args[0][2]]

    return find


def in_bytes(budget: Budget) -> Find:
    """Finds storages that stand as bytes in the pickle, each a file of torch.save of its own."""
    known: dict[int, Tensor] = {}

    def find(node: Any) -> Tensor:
        if id(node) not in known:
            if not isinstance(node, Node) or node.name != "torch.storage._load_from_bytes" or not isinstance(node.args[0], bytes):
                raise ValueError(f"storage {what(node)}")
            left = budget.left
            content, storages = read_old_format(io.BytesIO(node.args[0]), budget)
            known[id(node)] = in_storages(storages)(content)
            budget.left = left - TENSOR - sum(storage.nbytes for storage in storages.values())  # the pickles around are gone
        return known[id(node)]

    return find
