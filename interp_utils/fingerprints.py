"""Fingerprints: what tells whether two runs are the same, from contents alone, so that another process finds the same."""

import hashlib
import types
from collections.abc import Mapping
from enum import Enum
from functools import cached_property, partial
from numbers import Number
from pathlib import PurePath

import numpy as np
import torch
from torch import Tensor, nn

_PACKAGE = __name__.partition(".")[0]


def fingerprint(value) -> str:
    """Hash of what a value holds: of tensors their numbers, of modules their weights, of functions their code and what it uses.

    An object is its class and its attributes, without what `cached_property` keeps; those that a class lists as `identity` where
    it has such. What holds nothing that can be read, such as an open file, counts by its class alone.
    """
    return Hasher().of(value)


class Hasher:
    """Fingerprints of many values, each object's taken once, by `of`; they must not change meanwhile."""

    def __init__(self):
        self.known: dict[int, tuple] = {}  # by id: the object, kept alive, and its hash; of what contains itself a mark

    def of(self, value) -> str:
        if isinstance(value, str | bytes | Number | PurePath | Enum | torch.dtype | torch.device | type(None) | type(...)):
            return f"{type(value).__name__} {value!r}"
        if id(value) not in self.known:
            self.known[id(value)] = value, "itself"
            kind = Tensor if isinstance(value, Tensor) else type(value)  # parameters and other kinds of tensors hold the same
            hashed = hashlib.sha256(kind.__qualname__.encode())
            for part in self._parts(value):
                hashed.update(part if isinstance(part, memoryview) else f"\0{part}".encode())
            self.known[id(value)] = value, hashed.hexdigest()
        return self.known[id(value)][1]

    def _parts(self, value):
        """What the hash of a value is taken of: texts, and the bytes of tensors."""
        if isinstance(value, Tensor | np.ndarray):
            tensor = torch.as_tensor(value).detach().cpu().contiguous()
            yield f"{tensor.dtype} {list(tensor.shape)}"
            yield memoryview(tensor.reshape(-1).view(torch.uint8).numpy())
        elif isinstance(value, nn.Module):
            yield repr(value)
            for name, tensor in value.state_dict().items():
                yield f"{name.replace('_orig_mod.', '')} {self.of(tensor)}"  # which `torch.compile` puts in front
        elif isinstance(value, Mapping):
            yield from (f"{self.of(key)} {self.of(each)}" for key, each in value.items())
        elif isinstance(value, list | tuple):
            yield from map(self.of, value)
        elif isinstance(value, set | frozenset):
            yield from sorted(map(self.of, value))
        elif isinstance(value, types.FunctionType):
            yield from self._code(value.__code__)
            cells = [cell.cell_contents for cell in value.__closure__ or ()]
            yield self.of([cells, value.__defaults__, value.__kwdefaults__])
            if value.__module__.partition(".")[0] != _PACKAGE:  # of our own functions the version says enough
                names = sorted(set(value.__code__.co_names) & set(value.__globals__))
                yield self.of([value.__globals__[name] for name in names])
        elif isinstance(value, partial):
            yield self.of([value.func, value.args, value.keywords])
        elif isinstance(value, types.MethodType):
            yield self.of([value.__func__, value.__self__])
        elif isinstance(value, type | types.ModuleType | types.BuiltinFunctionType):
            yield f"{getattr(value, '__module__', '')} {value.__name__}"
        elif hasattr(value, "__dict__"):
            names = getattr(value, "identity", None) or vars(value)
            cached = {
                name for each in type(value).__mro__ for name, part in vars(each).items() if isinstance(part, cached_property)
            }
            yield from (f"{name} {self.of(getattr(value, name))}" for name in names if name not in cached)

    def _code(self, code: types.CodeType):
        yield code.co_code.hex()
        for constant in code.co_consts:
            yield from self._code(constant) if isinstance(constant, types.CodeType) else [self.of(constant)]
        yield " ".join(code.co_names)
