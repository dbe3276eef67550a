"""What all hooks share: installing and removing them, precision, and the way out into the joint space."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import get_ident

import torch
from torch import Tensor, nn

from ..models import Clip


@contextmanager
def forward_hooks(hooks: list[tuple[nn.Module, Callable]]) -> Iterator[None]:
    """Install forward hooks for the duration of a `with` block; they are gone after it, also after an exception.

    They see only what the installing thread runs: JupyterLab may run the callbacks of two widgets on one model at once.
    """
    owner, handles = get_ident(), []

    def only_here(hook):
        return lambda *args: hook(*args) if get_ident() == owner else None

    try:
        for module, hook in hooks:
            handles.append(module.register_forward_hook(only_here(hook)))
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Enough(Exception):
    """Ends a forward pass early."""


@torch.no_grad()
def visit(clip: Clip, pixels: Tensor, visits: list[tuple[nn.Module, Callable[[Tensor], None]]]) -> None:
    """Run the image tower, call each visitor with its module's output, and end the pass after the last one of the list."""

    def stop(module, args, output):
        raise _Enough

    hooks = [(module, lambda module, args, output, visitor=visitor: visitor(output)) for module, visitor in visits]
    with forward_hooks([*hooks, (visits[-1][0], stop)]):
        try:
            clip.encode_image(pixels)
        except _Enough:
            pass


def compute_dtype(clip: Clip) -> torch.dtype:
    """Precision of what we compute ourselves: the model's own, but at least float32."""
    return torch.float64 if clip.dtype == torch.float64 else torch.float32


@dataclass(frozen=True)
class FinalNorm:
    """The last layer norm and the projection into the joint space."""

    gamma: Tensor  # [D]
    beta: Tensor  # [D]
    eps: float
    proj: Tensor  # [D, E]


def final_norm(clip: Clip) -> FinalNorm:
    """Parameters of `ln_post` and `proj` in the precision of `compute_dtype`."""
    norm, dtype = clip.visual.ln_post, compute_dtype(clip)
    return FinalNorm(norm.weight.to(dtype), norm.bias.to(dtype), norm.eps, clip.visual.proj.to(dtype))


def project(clip: Clip, stream: Tensor) -> Tensor:
    """The last layer norm and the projection, [..., D] -> [..., E]; of the class token's final stream: the representation."""
    norm = final_norm(clip)
    return torch.nn.functional.layer_norm(stream, norm.gamma.shape, norm.gamma, norm.beta, norm.eps) @ norm.proj
