"""The numbers of a block's parts: layer norms, attention by head, and the last linear layer of an MLP."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class NotCovered(NotImplementedError):
    """A tower, or a part of one, that no family describes; its text says why."""


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
        centred = x - x.mean(-1, keepdim=True)  # `var` gives the same, a dozen times slower on a CPU
        return (centred.square().mean(-1) + self.eps).rsqrt()

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


def by_head(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """w x + b with w [H, d, D] and b [H, d]: [B, n, D] -> [B, H, n, d]."""
    return F.linear(x, w.flatten(0, 1), b.flatten()).unflatten(-1, w.shape[:2]).transpose(1, 2)


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

    @property
    def turns(self) -> bool:
        """Whether queries and keys are more than linear in the attention's input."""
        return not (self.turn_q is unchanged and self.turn_k is unchanged)

    @property
    def normed(self) -> bool:
        """Whether a norm stands between the heads' outputs and the stream."""
        return self.inner is not None or self.after is not None

    def pattern(self, x: Tensor, queries: list[int] | None = None, heads: list[int] | slice = slice(None)) -> Tensor:
        """Where heads look from all or some tokens, [B, H, n, N], rows sum to one, from the attention's input [B, N, D]."""
        if queries is not None and not self.turns:  # keys need not be built, and their bias adds the same to all tokens and cancels
            query = by_head(x[:, queries], self.w_q[heads], self.b_q[heads])
            folded = torch.einsum("bhnd,hdD->bhnD", query * query.shape[-1] ** -0.5, self.w_k[heads])
            scores = (folded.flatten(1, 2) @ x.mT).unflatten(1, folded.shape[1:3])  # one product for all heads
            return scores.softmax(-1)
        query, key = self._asked(x, heads)
        query = query if queries is None else query[:, :, queries]
        return (query @ key.mT * query.shape[-1] ** -0.5).softmax(-1)

    def _asked(self, x: Tensor, heads: list[int] | slice) -> tuple[Tensor, Tensor]:
        """Queries and keys, [B, H, N, d], as their products are taken."""
        query, key = by_head(x, self.w_q[heads], self.b_q[heads]), by_head(x, self.w_k[heads], self.b_k[heads])
        return self.turn_q(query), self.turn_k(key)

    def values(self, x: Tensor, heads: list[int] | slice = slice(None)) -> Tensor:
        """What each token offers to each head, [B, H, N, d]."""
        return by_head(x, self.w_v[heads], self.b_v[heads])

    def mixed(self, x: Tensor, n_tokens: int | None = None, heads: list[int] | slice = slice(None)) -> Tensor:
        """Values averaged at the first tokens or at all, [B, H, n, d]: `pattern(x) @ values(x)`, but no pattern is kept."""
        query, key = self._asked(x, heads)
        return F.scaled_dot_product_attention(query[:, :, :n_tokens], key, self.values(x, heads))

    def linear(self) -> tuple[Tensor, Tensor]:
        """The way from the heads' outputs to the stream but for the scales of `frozen`: w [D, H, d] and biases [J, D].

        Token i is written scale_i w outputs_i + shares_i biases. J is 1, or 2 where a norm comes after.
        """
        if not self.normed:
            return self.w_o, self.b_o[None]
        w, b = self.w_o.flatten(1), self.b_o
        if self.inner is not None:
            w, b = self.inner.fold(w.T).T, b + w @ self.inner.bias
        biases = b[None]
        if self.after is not None:
            w, biases = self.after.unscaled(w), torch.stack([self.after.unscaled(b), self.after.bias])
        return w.unflatten(1, self.w_o.shape[1:]), biases

    def frozen(self, mixed: Tensor) -> tuple[Tensor, Tensor]:
        """Of heads' outputs [B, H, n, d]: the norms' scale of what heads write [B, n] and the biases' shares [B, n, J]."""
        ones = torch.ones_like(mixed[:, 0, :, 0])
        if not self.normed:
            return ones, ones[..., None]
        joined = _side_by_side(mixed)
        inner = ones if self.inner is None else self.inner.scale(joined)
        if self.after is None:
            return inner, ones[..., None]
        normed = joined if self.inner is None else self.inner(joined)
        after = self.after.scale(normed @ self.w_o.flatten(1).T + self.b_o)
        return inner * after, torch.stack([after, ones], -1)

    def write(self, mixed: Tensor) -> Tensor:
        """What heads' outputs [B, H, n, d] add to the stream, [B, n, D]."""
        if not self.normed:
            return F.linear(_side_by_side(mixed), self.w_o.flatten(1), self.b_o)
        (scale, shares), (w, biases) = self.frozen(mixed), self.linear()
        return _side_by_side(mixed) @ w.flatten(1).T * scale[..., None] + shares @ biases

    def effective(self, x: Tensor, rho: Tensor, queries: list[int] | None = None) -> tuple[Tensor, Tensor]:
        """Where heads look on behalf of a weighted sum of tokens: rows [B, K, H, N], norms' scales included.

        x: the attention's input [B, N, D]; rho: weights [B, K, n] of all tokens, or of some. The second is how much of the biases
        that sum holds, [B, K, J]. Patterns of few images exist at a time.
        """
        size = len(self.w_q) * x.shape[1] * (x.shape[1] if queries is None else len(queries))
        rows, shares = [], []
        for few, weights in zip(x.split(max(1, PORTION // size)), rho.split(max(1, PORTION // size))):
            pattern = self.pattern(few, queries)
            if self.normed:
                scale, share = self.frozen(pattern @ self.values(few))
                shares.append(weights @ share)
                weights = weights * scale[:, None]
            else:
                shares.append(weights.sum(-1, keepdim=True))
            rows.append(torch.einsum("bkn,bhnm->bkhm", weights, pattern))
        return torch.cat(rows), torch.cat(shares)

    def carried(self, x: Tensor, rows: Tensor) -> Tensor:
        """Values averaged with effective rows, [B, K, H, d]."""
        seen = (rows.flatten(1, 2) @ x).unflatten(1, rows.shape[1:3])  # one product for all heads
        return torch.einsum("bkhD,hdD->bkhd", seen, self.w_v) + rows.sum(-1, keepdim=True) * self.b_v

    def sent(self, carried: Tensor, shares: Tensor) -> Tensor:
        """What all heads write of that, [B, K, D]."""
        w, biases = self.linear()
        return carried.flatten(2) @ w.flatten(1).T + shares @ biases


def _side_by_side(mixed: Tensor) -> Tensor:
    """Heads' outputs [B, H, n, d] as the output projection takes them, [B, n, H d]; so a product with it copies no weights."""
    return mixed.transpose(1, 2).flatten(2)


PORTION = 2**24  # numbers of attention patterns that exist at the same time


@dataclass(frozen=True)
class LastLinear:
    """The last linear layer of an MLP: what enters it are the neurons."""

    w_out: Tensor  # [M, D], with the layer scale if there is one
    b_out: Tensor  # [D]
    after: Norm | None = None  # over what was written, before it is added to the stream

    def linear(self) -> tuple[Tensor, Tensor, Tensor]:
        """The way to the stream but for the scale of `frozen`: w [M, D], b [D], and c [D], which is not scaled."""
        if self.after is None:
            return self.w_out, self.b_out, torch.zeros_like(self.b_out)
        return self.after.unscaled(self.w_out.T).T, self.after.unscaled(self.b_out), self.after.bias

    def frozen(self, neurons: Tensor) -> Tensor:
        """What scales w and b at each token, [B, n], for neurons [B, n, M]."""
        if self.after is None:
            return torch.ones_like(neurons[..., 0])
        return self.after.scale(neurons @ self.w_out + self.b_out)

    def write(self, neurons: Tensor) -> Tensor:
        """What neurons [B, n, M] add to the stream, [B, n, D]."""
        w, b, c = self.linear()
        return (neurons @ w + b) * self.frozen(neurons)[..., None] + c

    def moved(self, neurons: Tensor, few: list[int], means: Tensor) -> Tensor:
        """By how much that changes when one of n neurons at a time stands at its mean [N, M], [B, n, N, D]."""
        change = (means[:, few].to(neurons) - neurons[..., few]).movedim(-1, 1)  # [B, n, N]
        if self.after is None:
            return change[..., None] * self.w_out[few][:, None]
        whole = self.write(neurons)
        one = torch.eye(neurons.shape[-1]).to(neurons)[few]
        return torch.stack([self.write(neurons + part[..., None] * unit) - whole for part, unit in zip(change.unbind(1), one)], 1)
