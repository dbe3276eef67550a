"""What all hooks share: installing and removing them, precision, and the way out into the joint space."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import get_ident

import torch
from torch import Tensor, nn

from ..models import Clip
from ..towers import run_uncompiled


@contextmanager
def forward_hooks(hooks: list[tuple[nn.Module, Callable]]) -> Iterator[None]:
    """Install forward hooks for the duration of a `with` block; they are gone after it, also after an exception.

    They see only what the installing thread runs: JupyterLab may run the callbacks of two widgets on one model at once.
    Modules under `torch.compile` run as plain ones meanwhile. Raises RuntimeError at the end where a hook never ran.
    """
    owner, handles, silent = get_ident(), [], dict(enumerate(module for module, _ in hooks))

    def only_here(k, hook):
        def run(*args):
            if get_ident() != owner:
                return None
            silent.pop(k, None)
            return hook(*args)

        return run

    with run_uncompiled:
        try:
            for k, (module, hook) in enumerate(hooks):
                handles.append(module.register_forward_hook(only_here(k, hook)))
            yield
        finally:
            for handle in handles:
                handle.remove()
    if silent:
        raise RuntimeError(
            f"{len(silent)} of {len(hooks)} hooks never ran (the first: on {type(next(iter(silent.values()))).__name__}), "
            "so nothing was read or changed there. Run the model inside the block, in the same thread, past that module; a traced "
            "or exported model passes its modules by: take the one it was made from"
        )


def changed(edit: Callable[..., Tensor], layer: int, *given: Tensor) -> Tensor:
    """What an edit makes of what a part of a layer gave, the last of `given`, in its precision.

    Raises TypeError where it returns no tensor, which would leave the model as it was, ValueError for another shape.
    """
    new, output = edit(*given), given[-1]
    if not isinstance(new, Tensor):
        what = "None" if new is None else type(new).__name__
        raise TypeError(f"the edit of layer {layer} returned {what}; return the new output, a tensor {list(output.shape)}")
    if new.shape != output.shape:
        raise ValueError(f"the edit of layer {layer} returned {list(new.shape)} for an output {list(output.shape)}")
    return new.to(output.dtype)


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
    """Precision of what we compute ourselves: the model's own, but at least float32. Raises RuntimeError under autocast."""
    clip.refuse_autocast()
    return torch.float64 if clip.dtype == torch.float64 else torch.float32


def parameters(clip: Clip, *wanted: Tensor) -> list[Tensor]:
    """Parameters in the precision of `compute_dtype`, detached: what is computed with them is never differentiated by them."""
    return [each.detach().to(compute_dtype(clip)) for each in wanted]


def close(found: Tensor, expected: Tensor, dtype: torch.dtype) -> bool:
    """Do two ways to compute [B, ...] agree, but for rounding in this precision? What is not finite passes."""
    eps = torch.finfo(dtype).eps
    if torch.get_float32_matmul_precision() != "highest":
        eps = max(eps, torch.finfo(torch.bfloat16).eps)
    off, size = (x.flatten(1).norm(dim=1) for x in (found - expected, expected))
    return not (off > eps**0.5 * size).any()


@dataclass(frozen=True)
class FinalNorm:
    """The last layer norm and the projection into the joint space."""

    gamma: Tensor  # [D]
    beta: Tensor  # [D]
    eps: float
    proj: Tensor  # [D, E]


def final_norm(clip: Clip) -> FinalNorm:
    """Parameters of `ln_post` and `proj`."""
    norm = clip.visual.ln_post
    return FinalNorm(*parameters(clip, norm.weight, norm.bias), norm.eps, *parameters(clip, clip.visual.proj))


def checked_output(clip: Clip, final: Tensor, representation: Tensor) -> Tensor:
    """The class token's final stream [B, D], once the representation that the model gave is known to be its projection."""
    if not close(project(clip, final), representation.to(final), clip.dtype):
        raise RuntimeError(
            f"{clip.name} does not give out the projection of its class token's final stream, so no sum of parts equals it: its "
            "image tower or its `encode_image` does more, or an edit changes what comes after the last block"
        )
    return final


def project(clip: Clip, stream: Tensor) -> Tensor:
    """The last layer norm and the projection, [..., D] -> [..., E]; of the class token's final stream: the representation."""
    norm = final_norm(clip)
    return torch.nn.functional.layer_norm(stream, norm.gamma.shape, norm.gamma, norm.beta, norm.eps) @ norm.proj
