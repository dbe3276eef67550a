"""What an image tower is: blocks that write to a residual stream, and read-outs that are linear in it once scales are frozen.

    representation = constant + sum over read-outs k of (sum over tokens i of rho[k, i] x[i]) @ matrix[k]   (+ pool MLP)

x [B, N, D] is the stream that leaves the last block. N counts all tokens: those that are no patches come first.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class NotCovered(NotImplementedError):
    """A tower, or a part of one, that no family describes; its text says why."""


class Mismatch(RuntimeError):
    """A tower that does something else than its description says; its text names the part."""


def numbers(parameter: Tensor) -> Tensor:
    """A parameter as we compute with it: detached, in its own precision, but at least float32."""
    return parameter.detach().to(torch.promote_types(parameter.dtype, torch.float32))


def bias_of(module: nn.Linear) -> Tensor:
    """The bias of a linear layer, zeros where it has none."""
    return numbers(module.bias) if module.bias is not None else numbers(module.weight).new_zeros(len(module.weight))


@dataclass(frozen=True)
class Norm:
    """A layer norm: linear in its input once the standard deviation is frozen."""

    weight: Tensor  # [D]
    bias: Tensor  # [D]
    eps: float

    @classmethod
    def of(cls, module: nn.Module) -> "Norm | None":
        """The numbers of a layer norm; None for an Identity."""
        if isinstance(module, nn.Identity):
            return None
        return cls(numbers(module.weight), numbers(module.bias), module.eps)

    def __call__(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)

    def scale(self, x: Tensor) -> Tensor:
        """What the input is divided by, inverted: [..., D] -> [...]."""
        return (x.var(-1, correction=0) + self.eps).rsqrt()

    def fold(self, matrix: Tensor) -> Tensor:
        """Centring, weight and the matrix [D, ...] behind them, as one matrix: x is to be multiplied by `scale` as well."""
        weighted = torch.einsum("d,d...->d...", self.weight, matrix)
        return weighted - weighted.mean(0, keepdim=True)

    def unscaled(self, written: Tensor) -> Tensor:
        """Columns [D, ...] centred and weighted: what the norm makes of them but for its scale and bias."""
        return torch.einsum("d,d...->d...", self.weight, written - written.mean(0, keepdim=True))


def checked_norm(module: nn.Module, where: str) -> None:
    """Raises NotCovered unless it is a layer norm with weight and bias, or nothing at all."""
    plain = isinstance(module, nn.LayerNorm) and module.weight is not None and module.bias is not None
    if not plain and not isinstance(module, nn.Identity):
        raise NotCovered(f"its {where} is a {type(module).__name__}, which is no layer norm with weight and bias")


def unchanged(x: Tensor) -> Tensor:
    """The positions of a tower that adds them to its tokens: queries and keys stay as they are."""
    return x


@dataclass(frozen=True)
class Attention:
    """One layer's attention by head: H heads of width d on a residual stream of width D."""

    w_q: Tensor  # [H, d, D]
    b_q: Tensor  # [H, d]
    w_k: Tensor  # [H, d, D]
    b_k: Tensor  # [H, d]
    w_v: Tensor  # [H, d, D]
    b_v: Tensor  # [H, d]
    w_o: Tensor  # [D, H, d], with the layer scale if there is one
    b_o: Tensor  # [D]
    turn_q: Callable[[Tensor], Tensor] = unchanged  # norms and rotary positions of the queries [B, H, N, d]
    turn_k: Callable[[Tensor], Tensor] = unchanged  # and of the keys
    inner: Norm | None = None  # over the outputs of all heads side by side [H d], before w_o
    after: Norm | None = None  # over what was written, before it is added to the stream

    def pattern(self, x: Tensor, queries: list[int] | None = None) -> Tensor:
        """Where each head looks from all or some tokens, [B, H, n, N], from the attention's input [B, N, D]."""
        if queries is not None and self.turn_q is unchanged and self.turn_k is unchanged:  # keys need not be built
            query = torch.einsum("bnD,hdD->bhnd", x[:, queries], self.w_q) + self.b_q[:, None]
            folded = torch.einsum("bhnd,hdD->bhnD", query * query.shape[-1] ** -0.5, self.w_k)
            scores = (folded.flatten(1, 2) @ x.mT).unflatten(1, folded.shape[1:3])  # one product for all heads
            return scores.softmax(-1)  # the keys' bias adds the same to all tokens and cancels
        query = self.turn_q(torch.einsum("bnD,hdD->bhnd", x, self.w_q) + self.b_q[:, None])
        key = self.turn_k(torch.einsum("bnD,hdD->bhnd", x, self.w_k) + self.b_k[:, None])
        query = query if queries is None else query[:, :, queries]
        return (query @ key.mT * query.shape[-1] ** -0.5).softmax(-1)

    def values(self, x: Tensor) -> Tensor:
        """What each token offers to each head, [B, H, N, d]."""
        return torch.einsum("bnD,hdD->bhnd", x, self.w_v) + self.b_v[:, None]

    def linear(self) -> tuple[Tensor, Tensor, Tensor]:
        """The way from the heads' outputs to the stream but for the scales of `frozen`: w [D, H, d], b [D] and c [D].

        Token i is written scale_i w outputs_i + after_i b + c.
        """
        w, b, c = self.w_o.flatten(1), self.b_o, torch.zeros_like(self.b_o)
        if self.inner is not None:
            w, b = self.inner.fold(w.T).T, b + w @ self.inner.bias
        if self.after is not None:
            w, b, c = self.after.unscaled(w), self.after.unscaled(b), self.after.bias
        return w.unflatten(1, self.w_o.shape[1:]), b, c

    def frozen(self, mixed: Tensor) -> tuple[Tensor, Tensor]:
        """Scales of the two norms for heads' outputs [B, H, n, d]: of what heads write and of the bias b, both [B, n]."""
        joined = mixed.transpose(1, 2).flatten(2)  # [B, n, H d]
        ones = torch.ones_like(joined[..., 0])
        inner = ones if self.inner is None else self.inner.scale(joined)
        if self.after is None:
            return inner, ones
        normed = joined if self.inner is None else self.inner(joined)
        after = self.after.scale(normed @ self.w_o.flatten(1).T + self.b_o)
        return inner * after, after

    def write(self, mixed: Tensor) -> Tensor:
        """What heads' outputs [B, H, n, d] add to the stream, [B, n, D]."""
        (scale, after), (w, b, c) = self.frozen(mixed), self.linear()
        return torch.einsum("bhnd,Dhd->bnD", mixed, w) * scale[..., None] + after[..., None] * b + c


@dataclass(frozen=True)
class LastLinear:
    """The last linear layer of an MLP: what enters it are the neurons."""

    w: Tensor  # [D, M], with the layer scale if there is one
    b: Tensor  # [D]
    after: Norm | None = None  # over what was written, before it is added to the stream

    def linear(self) -> tuple[Tensor, Tensor, Tensor]:
        """As `Attention.linear`: w [D, M], b [D], c [D]."""
        if self.after is None:
            return self.w, self.b, torch.zeros_like(self.b)
        return self.after.unscaled(self.w), self.after.unscaled(self.b), self.after.bias

    def frozen(self, neurons: Tensor) -> Tensor:
        """What scales w and b at each token, [B, n], for neurons [B, n, M]."""
        if self.after is None:
            return torch.ones_like(neurons[..., 0])
        return self.after.scale(neurons @ self.w.T + self.b)

    def write(self, neurons: Tensor) -> Tensor:
        """What neurons [B, n, M] add to the stream, [B, n, D]."""
        w, b, c = self.linear()
        return (neurons @ w.T + b) * self.frozen(neurons)[..., None] + c


@dataclass(frozen=True)
class Block:
    """Where one block of a tower can be read, and its numbers, which are taken from the model whenever they are asked for."""

    whole: nn.Module  # from the stream that enters to the stream that leaves
    reads: nn.Module | None  # its output is what attention reads; None: attention reads the stream itself
    writes: nn.Module  # its output is what attention adds to the stream
    middle: nn.Module  # its input is the stream between attention and MLP
    mlp: nn.Module  # its output is what the MLP adds to the stream
    last: nn.Module  # the last linear layer of the MLP: its input are the neurons
    attention: Callable[[], Attention]
    last_linear: Callable[[], LastLinear]


@dataclass(frozen=True)
class ReadOut:
    """How one batch was read out: scales, pooling attention and queries are frozen at what they were."""

    rho: Tensor  # [B, K, N], how much each read-out takes of each token
    matrix: Tensor  # [K, D, E], the same for all images
    constant: Tensor  # [B, E]
    pool_mlp: Tensor | None = None  # [B, E], what an MLP adds to the pooled vector


@dataclass(frozen=True)
class Tower:
    """An image tower as its family describes it."""

    family: str
    blocks: tuple[Block, ...]
    stream: tuple[nn.Module, Callable[[Tensor], Tensor]]  # a module, and what makes the first stream [B, N, D] of its input
    read_out: Callable[[Tensor], ReadOut]  # of the stream [B, N, D] that leaves the last block
    n_heads: int
    grid: tuple[int, int]
    n_prefix: int  # tokens that are no patches, before the patches
