"""What an image tower is: blocks that write to a residual stream, and read-outs that are linear in it once scales are frozen.

    representation = constant + sum over read-outs k of (sum over tokens i of rho[k, i] x[i]) @ matrix[k]   (+ pool MLP)

x [B, N, D] is the stream that leaves the last block. N counts all tokens: those that are no patches come first.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .parts import Attention, LastLinear, Norm


class Mismatch(RuntimeError):
    """A tower that does something else than its description says; its text names the part."""


@dataclass(frozen=True)
class Block:
    """Where one block of a tower can be read, and its numbers, which are taken from the model whenever they are asked for."""

    whole: nn.Module  # from the stream that enters to the stream that leaves
    reads: nn.Module | None  # its output is what attention reads; None: attention reads the stream itself
    writes: nn.Module  # its output is what attention adds to the stream
    middle: nn.Module  # its input is the stream between attention and MLP
    mlp: nn.Module  # its output is what the MLP adds to the stream
    last: nn.Linear  # the last linear layer of the MLP: its input are the neurons
    attention: Callable[[], Attention]
    last_linear: Callable[[], LastLinear]
    norm: Callable[[], Norm | None]  # of what attention reads; None: attention reads the stream itself
    run: Callable[[Tensor], Tensor]  # the whole block, stream to stream [B, N, D], as the tower runs it
    feed: Callable[[Tensor], Tensor]  # from the stream between attention and MLP to what the MLP adds, [..., D]
    first: tuple[nn.Module, nn.Linear, Callable] | None  # norm, linear layer and activation of an MLP without gate; else None


@dataclass(frozen=True)
class ReadOut:
    """How one batch was read out: scales, pooling attention and queries are frozen at what they were."""

    rho: Tensor  # [B, K, N], how much each read-out takes of each token
    matrix: Tensor  # [K, D, E], the same for all images
    constant: Tensor  # [B, E]
    pool_mlp: Tensor | None = None  # [B, E], what an MLP adds to the pooled vector

    def out(self, taken: Tensor) -> Tensor:
        """What each read-out took, [B, K, D], in the joint space, [B, E]."""
        return torch.einsum("bkD,kDE->bE", taken, self.matrix)

    def __call__(self, stream: Tensor) -> Tensor:
        """The representation [B, E] of the stream [B, N, D] that it was made of."""
        found = self.out(self.rho @ stream) + self.constant
        return found if self.pool_mlp is None else found + self.pool_mlp


@dataclass(frozen=True)
class FinalNorm:
    """The last layer norm and the projection into the joint space of a tower that is read out at its class token."""

    gamma: Tensor  # [D]
    beta: Tensor  # [D]
    eps: float
    proj: Tensor  # [D, E]
    bias: Tensor  # [E]

    def __call__(self, x: Tensor) -> Tensor:
        """[..., D] -> [..., E]"""
        return F.layer_norm(x, self.gamma.shape, self.gamma, self.beta, self.eps) @ self.proj + self.bias


@dataclass(frozen=True)
class Embedding:
    """How a tower makes its first stream from patches: a linear layer, a class token before them, positions and a norm."""

    kernel: nn.Conv2d
    first: Tensor  # [D]
    positions: Tensor  # [N, D]
    norm: nn.Module


@dataclass(frozen=True)
class Tower:
    """An image tower as its family describes it."""

    family: str
    blocks: tuple[Block, ...]
    stream: tuple[nn.Module, Callable[[Tensor], Tensor]]  # a module, and what makes the first stream [B, N, D] of its input
    read_out: Callable[[Tensor], ReadOut]  # of the stream [B, N, D] that leaves the last block
    n_heads: int
    grid: tuple[int, int]
    image_size: tuple[int, int]
    d_embed: int
    n_prefix: int  # tokens that are no patches, before the patches
    final: Callable[[], FinalNorm] | None = None  # where only the first token is read out, a class token; else None
    embedding: Callable[[], Embedding] | None = None  # where the first stream is made that way; else None
