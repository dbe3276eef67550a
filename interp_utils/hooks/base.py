"""What all hooks share: installing and removing them, precision, and the way out into the joint space."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import get_ident

import torch
from torch import Tensor, nn

from ..models import Clip
from ..towers import Attention, Block, FinalNorm, LastLinear, Norm, run_uncompiled

Hooks = Sequence[tuple[nn.Module, Callable]]


@contextmanager
def forward_hooks(hooks: Hooks, before: Hooks = ()) -> Iterator[None]:
    """Install forward hooks for the duration of a `with` block; they are gone after it, also after an exception.

    hooks: modules, each with a function of (module, arguments, output); before: with a function of (module, arguments), which is
    called before the module runs. What a function returns takes the place of the output, or the first argument. They see only
    what the installing thread runs: JupyterLab may run the callbacks of two widgets on one model at once. Modules under
    `torch.compile` run as plain ones meanwhile. Raises RuntimeError at the end where a hook never ran.
    """
    owner, handles, silent = get_ident(), [], dict(enumerate(module for module, _ in [*hooks, *before]))

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
            for k, (module, hook) in enumerate(before, len(hooks)):
                handles.append(module.register_forward_pre_hook(only_here(k, hook)))
            yield
        finally:
            for handle in handles:
                handle.remove()
    if silent:
        first = type(next(iter(silent.values()))).__name__
        raise RuntimeError(
            f"{len(silent)} of {len(hooks) + len(before)} hooks never ran (the first: on {first}), so "
            "nothing was read or changed there. Run the model inside the block, in the same thread, past that module; a traced "
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


Place = tuple[nn.Module, bool]  # a module, and whether its input is meant, rather than its output


def attention_input(block: Block) -> Place:
    """Where to find what a block's attention reads."""
    return (block.whole, True) if block.reads is None else (block.reads, False)


def reading(visits: Sequence[tuple[Place, Callable[[Tensor], None]]]) -> tuple[list, list]:
    """For `forward_hooks`: call each visitor with what is at its place."""
    after = [(module, lambda _, args, x, visitor=visitor: visitor(x)) for (module, early), visitor in visits if not early]
    before = [(module, lambda _, args, visitor=visitor: visitor(args[0])) for (module, early), visitor in visits if early]
    return after, before


def for_class_token(clip: Clip) -> list:
    """For `before` of `forward_hooks`: the last MLP serves the class token alone, where nothing else is read out of its layer.

    What leaves the layer is right for that token and no other, so where any hook is installed already, this gives none.
    """
    if clip.tower.final is None or any(each._forward_hooks or each._forward_pre_hooks for each in clip.model.modules()):
        return []
    return [(clip.tower.blocks[-1].middle, lambda module, args: args[0][:, :1])]


@torch.no_grad()
def visit(clip: Clip, pixels: Tensor, visits: Sequence[tuple[Place, Callable[[Tensor], None]]]) -> None:
    """Run the image tower, call each visitor with what is at its place, and end the pass after the last one of the list."""

    def last(x):
        visits[-1][1](x)
        raise _Enough

    with forward_hooks(*reading([*visits[:-1], (visits[-1][0], last)])):
        try:
            clip.encode_image(pixels)
        except _Enough:
            pass


def compute_dtype(clip: Clip) -> torch.dtype:
    """Precision of what we compute ourselves: the model's own, but at least float32. Raises RuntimeError under autocast."""
    clip.refuse_autocast()
    return torch.float64 if clip.dtype == torch.float64 else torch.float32


def close(found: Tensor, expected: Tensor, dtype: torch.dtype) -> bool:
    """Do two ways to compute [B, ...] agree, but for rounding in this precision? What is not finite passes."""
    eps = torch.finfo(dtype).eps
    if torch.get_float32_matmul_precision() != "highest":
        eps = max(eps, torch.finfo(torch.bfloat16).eps)
    off, size = (x.flatten(1).norm(dim=1) for x in (found - expected, expected))
    return not (off > eps**0.5 * size).any()


def attention_weights(clip: Clip, layer: int) -> Attention:
    """Query, key, value and output parameters of a layer, by head, in the precision of `compute_dtype`."""
    return clip.tower.blocks[layer].attention()


def neuron_weights(clip: Clip, layer: int) -> LastLinear:
    """Output weights of the neurons of a layer, in the precision of `compute_dtype`."""
    return clip.tower.blocks[layer].last_linear()


def attention_norm(clip: Clip, layer: int) -> Norm | None:
    """The layer norm of what the attention of a layer reads, in the precision of `compute_dtype`; None: it reads the stream."""
    return clip.tower.blocks[layer].norm()


def final_norm(clip: Clip) -> FinalNorm:
    """The last layer norm and the projection into the joint space.

    Raises NotImplementedError for a tower that is not read out at its class token alone.
    """
    tower = clip.tower
    if tower.final is None:
        raise NotImplementedError(
            f"{clip.name} ({tower.family}) reads out many tokens, so there is no one stream that its last norm and projection read"
        )
    return tower.final()


def project(clip: Clip, stream: Tensor) -> Tensor:
    """The last layer norm and the projection, [..., D] -> [..., E]; of the class token's final stream: the representation.

    Raises NotImplementedError for a tower that is not read out at its class token alone; `read` serves all.
    """
    return final_norm(clip)(stream)


def read(clip: Clip, stream: Tensor) -> Tensor:
    """The representation [B, E] that the tower would read out of a stream [B, N, D] of all tokens."""
    tower, stream = clip.tower, stream.to(compute_dtype(clip))
    return tower.read_out(stream)(stream) if tower.final is None else tower.final()(stream[:, 0])


def checked_output(clip: Clip, found: Tensor, representation: Tensor) -> None:
    """Raises RuntimeError where the representation that the model gave is not what its final stream is read out as."""
    if not close(found, representation.to(found), clip.dtype):
        raise RuntimeError(
            f"{clip.name} does not give out the projection of what its tower reads out of the final stream, so no sum of parts "
            "equals it: its image tower or its `encode_image` does more, or an edit changes what comes after the last block"
        )
