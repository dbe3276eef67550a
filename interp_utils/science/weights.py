"""What a head could say, from its weights alone: TextSpan without images (cf. Gandelsman thesis, algorithm 1, and work on the
singular vectors of value-output maps, Millidge and Black 2022)."""

import torch

from ..heads.direct import head_basis
from ..heads.textspan import Head, HeadMoments
from ..hooks import attention_norm, attention_weights
from ..models import Clip


def weight_moments(clip: Clip, layers: list[int] | None = None) -> dict[Head, HeadMoments]:
    """Moments of what each head would write if its input were noise, in closed form; `heads.textspan` takes them as they are.

    With an input stream that is isotropic before the layer norm's weight, the head writes A n, n ~ N(0, 1), with the folded map
    A = M W_O W_V diag(gamma), centred as the norm does it. Its second moment A A^T has the squared singular values of A as
    eigenvalues and A's left singular vectors as axes. Raises NotImplementedError where several read-outs take different parts of
    what a head writes, so that its weights alone do not say what reaches the joint space.
    """
    layers, basis = list(range(clip.n_layers)) if layers is None else layers, head_basis(clip, layers, "centered")
    if basis is None:
        raise NotImplementedError(
            f"{clip.name} ({clip.tower.family}) pools by several heads, each of which reads a head differently"
        )
    bases, found = basis.double().cpu()[:, :, : clip.d_head], {}
    for basis, layer in zip(bases, layers):
        norm, values = attention_norm(clip, layer), attention_weights(clip, layer).w_v  # [H, d, D]
        values = (values if norm is None else norm.fold(values.permute(2, 0, 1)).permute(1, 2, 0)).double().cpu()
        for head in range(clip.n_heads):
            found[layer, head] = HeadMoments(torch.zeros(clip.d_head).double(), values[head] @ values[head].T, basis[head])
    return found
