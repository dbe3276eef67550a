"""Modules under `torch.compile` pass hooks by; while anyone reads a model, they run as plain code."""

from threading import Lock

import torch
from torch import nn


class _Uncompiled:
    """While anyone is inside, what was compiled runs as plain Python: compiled code passes hooks by.

    The compiler has one switch for the whole process, so the first thread in turns it and the last one out turns it back.
    """

    def __init__(self):
        self.lock, self.inside = Lock(), 0

    def __enter__(self) -> None:
        with self.lock:
            if self.inside == 0:
                self.stance = torch.compiler.set_stance("force_eager")
            self.inside += 1

    def __exit__(self, *error) -> None:
        with self.lock:
            self.inside -= 1
            if self.inside == 0:
                self.stance.__exit__(None, None, None)


run_uncompiled = _Uncompiled()


def original(module: nn.Module) -> nn.Module:
    """The module that `torch.compile` wrapped, or the module itself."""
    return getattr(module, "_orig_mod", module)
