"""The ways to read a representation out of the tokens' final streams."""

from collections.abc import Callable

import torch
from torch import Tensor

from .base import ReadOut
from .parts import Norm


def pooled(stream: Tensor, share: Tensor, before: Norm | None, after: Norm | None, matrix: Tensor, bias: Tensor) -> ReadOut:
    """A weighted mean of the tokens, normed before or after (or both), times a matrix [D, E] plus bias [E].

    share: [N], one-hot for a class token.
    """
    rho, constant, whole = share.to(stream).expand(len(stream), -1), torch.zeros_like(stream[:, 0]), matrix
    if before is not None:
        rho, constant = rho * before.scale(stream), constant + share.sum() * before.bias
    mean = torch.einsum("n,bnD->bD", share.to(stream), stream if before is None else before(stream))
    if after is not None:
        whole, scale = after.fold(matrix), after.scale(mean)[:, None]
        rho, constant = rho * scale, constant @ whole * scale + after.bias @ matrix
    else:
        constant = constant @ whole
    whole = whole if before is None else before.fold(whole)
    return ReadOut(rho[:, None], whole[None], constant + bias)


def attended(
    stream: Tensor,
    before: Norm | None,
    query: Callable[[Tensor], Tensor],
    key: Callable[[Tensor], Tensor],
    values: tuple[Tensor, Tensor],
    out: tuple[Tensor, Tensor],
    after: Norm | None,
    head: tuple[Tensor, Tensor],
    mlp: Callable[[Tensor], Tensor] | None = None,
    first: int = 0,
) -> ReadOut:
    """One query attends to the tokens from `first` on with P heads; then an MLP, a norm and a linear layer, as far as there are.

    before: norm of the tokens. query, key: normed tokens [B, n, D] -> [B or 1, P, d] and [B, P, n, d], scaled by
    d**-0.5 here. values: w [P, d, D] and b [P, d]; out: w [F, P, d] and b [F]; head: w [F, E] and b [E].
    """
    (w_v, b_v), (w_o, b_o), (matrix, bias) = values, out, head
    tokens = stream[:, first:]
    normed = tokens if before is None else before(tokens)
    keys = key(normed)
    attention = (torch.einsum("bpd,bpnd->bpn", query(normed).expand(len(keys), -1, -1), keys) * keys.shape[-1] ** -0.5).softmax(-1)
    mixed = torch.einsum("bpd,pkd->bpk", attention @ normed, w_v) + b_v
    vector = torch.einsum("bpd,Fpd->bF", mixed, w_o) + b_o
    added = torch.zeros_like(vector) if mlp is None else mlp(vector)
    rho, folded = attention, matrix
    constant = torch.einsum("pd,Fpd->F", b_v + (0 if before is None else w_v @ before.bias), w_o) + b_o
    scale = 1.0
    if after is not None:
        folded, scale = after.fold(matrix), after.scale(vector + added)[:, None]
        bias = bias + after.bias @ matrix
    if before is not None:
        rho = rho * before.scale(tokens)[:, None]
    if after is not None:
        rho = rho * scale[:, None]
    inward = w_v.mT if before is None else torch.stack([before.fold(each) for each in w_v.mT])  # [P, D, d]
    through = inward @ torch.einsum("Fpd,FE->pdE", w_o, folded)
    rho = torch.nn.functional.pad(rho, (first, 0))
    pool_mlp = None if mlp is None else added @ folded * scale
    return ReadOut(rho, through, constant @ folded * scale + bias + torch.zeros_like(vector @ folded), pool_mlp)
