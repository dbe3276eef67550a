"""What chapter 2 sees in a batch of `stream.feed`: direct effects, all from one forward pass.

Effects and the representation are divided by the length of each image's representation (thesis, section 2.3), so a score
against a unit text vector is a part of their cosine.
"""

from torch import Tensor

from ..stream import Batch, view
from .direct import DirectEffects, head_basis


def run_effects(batch: Batch) -> DirectEffects:
    """Direct effects of a batch from a run of the model, whatever a `stream.memory` holds."""
    clip, ln = batch.model, batch.ln

    def basis():
        return batch.once_a_pass(("head basis", ln), lambda: head_basis(clip, ln=ln))

    return DirectEffects(clip, batch.pixels, ln, basis)


@view
def effects(batch: Batch) -> DirectEffects:
    """As they are, not divided."""

    def size(found: DirectEffects) -> int:
        stream = [each for each in vars(found.stream).values() if isinstance(each, Tensor)]
        return sum(each.nbytes for each in [found.pixels, *stream])

    return batch.once_for_all(("effects", batch.model.checked_ln(batch.ln)), lambda: run_effects(batch), size)


@view
def total(batch: Batch) -> Tensor:
    """[B, E], of any length."""
    return batch.effects.total()


@view
def length(batch: Batch) -> Tensor:
    """Length of each image's representation, [B, 1]."""
    return batch.total.norm(dim=-1, keepdim=True)


@view
def representation(batch: Batch) -> Tensor:
    """[B, E], unit length."""
    return batch.total / batch.length


@view
def layers(batch: Batch) -> Tensor:
    """[B, 2L+1, E]"""
    return batch.effects.layers() / batch.length[:, None]


@view
def heads(batch: Batch) -> Tensor:
    """[B, L, H, E]"""
    return batch.effects.heads() / batch.length[:, None, None]


@view
def head_coordinates(batch: Batch) -> Tensor:
    """[B, L, H, d+J], see `DirectEffects.head_coordinates`"""
    return batch.effects.head_coordinates() / batch.length[:, None, None]
