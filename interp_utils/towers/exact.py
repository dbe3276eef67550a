"""The exact sum of any described tower: embedding, heads, tokens, MLPs and neurons, through every read-out."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import get_ident

import torch
from torch import Tensor, nn

from .base import Mismatch, ReadOut, Tower
from .compiled import run_uncompiled
from .parts import Attention, numbers


@dataclass
class Streams:
    """What one pass through a tower wrote, for all tokens, in float32 or better."""

    first: Tensor  # [B, N, D]
    inputs: list[Tensor]  # of each layer's attention, [B, N, D]
    attentions: list[Tensor]  # what each layer's attention adds, [B, N, D]
    mlps: list[Tensor]  # what each layer's MLP adds, [B, N, D]
    neurons: list[Tensor]  # what enters the last linear layer of each MLP, [B, N, M]
    final: Tensor  # [B, N, D]
    representation: Tensor  # [B, E], what the model itself gave


@contextmanager
def hooked(after: list[tuple[nn.Module, Callable]], before: list[tuple[nn.Module, Callable]]) -> Iterator[None]:
    """For a `with` block, call keep(output) after, and keep(input) before a module runs; what was compiled runs as plain code."""
    handles, owner = [], get_ident()  # another thread may run the model at the same time

    def here(keep, x) -> None:
        if get_ident() == owner:
            keep(x)

    with run_uncompiled:
        try:
            for module, keep in after:
                handles.append(module.register_forward_hook(lambda module, args, output, keep=keep: here(keep, output)))
            for module, keep in before:
                handles.append(module.register_forward_pre_hook(lambda module, args, keep=keep: here(keep, args[0])))
            yield
        finally:
            for handle in handles:
                handle.remove()


@torch.no_grad()
def run(tower: Tower, encode: Callable[[], Tensor], neurons: bool = True) -> Streams:
    """Call `encode()`, which runs the tower once on some pixels and returns its representation, and keep what was written."""
    first, whole, reads, writes, mlps, acts = ([] for _ in range(6))
    module, start = tower.stream

    def into(kept):
        return lambda x: kept.append(numbers(x).clone())

    before = [(module, lambda x: first.append(numbers(start(x)).clone()))]
    before += [(block.whole, into(whole)) for block in tower.blocks if block.reads is None]
    before += [(block.last, into(acts)) for block in tower.blocks if neurons]
    forward = [(block.reads, into(reads)) for block in tower.blocks if block.reads is not None]
    forward += [(block.writes, into(writes)) for block in tower.blocks] + [(block.mlp, into(mlps)) for block in tower.blocks]
    final = []
    forward += [(tower.blocks[-1].whole, into(final))] if tower.blocks else []
    with hooked(forward, before):
        representation = encode()
    inputs = reads or whole
    kept = [len(each) for each in (first, inputs, writes, mlps)]
    if kept != [1, len(tower.blocks), len(tower.blocks), len(tower.blocks)]:
        raise Mismatch("the tower did not run each of its blocks once, so nothing can be said of what they write")
    return Streams(first[0], inputs, writes, mlps, acts, (final or first)[0], numbers(representation))


class Effects:
    """Direct effects of one batch on the representation, layer norms, pooling attention and queries frozen; they sum to it.

    Keeps what was written, [B, N, D] for each layer; a view is built when asked for. The output bias of an attention layer is
    shared equally by its heads, and within a head by the tokens. The constant of the read-out is part of the embedding.
    """

    def __init__(self, tower: Tower, streams: Streams):
        self.tower, self.streams = tower, streams
        self.read_out: ReadOut = tower.read_out(streams.final)

    def embedding(self) -> Tensor:
        """Effect of the tokens as they enter the first block, and the constant, [B, E]."""
        return self.read_out.out(self.read_out.rho @ self.streams.first) + self.read_out.constant

    def pool_heads(self) -> Tensor:
        """What each head of the pooling attention takes of the final streams, [B, K, E]; K = 1 where none attends."""
        return torch.einsum("bkn,bnD,kDE->bkE", self.read_out.rho, self.streams.final, self.read_out.matrix)

    def mlps(self) -> Tensor:
        """Effect of each MLP, [B, L, E]."""
        return self._stacked([self.read_out.out(self.read_out.rho @ written) for written in self.streams.mlps])

    def attentions(self) -> Tensor:
        """Effect of each attention, all heads together, as the model wrote it, [B, L, E]."""
        return self._stacked([self.read_out.out(self.read_out.rho @ written) for written in self.streams.attentions])

    def heads(self) -> Tensor:
        """Effect of each head, [B, L, H, E], from recomputed attention."""
        return self._stacked([self._heads(layer) for layer in range(len(self.tower.blocks))], self.tower.n_heads)

    def tokens(self) -> Tensor:
        """Effect of each token through all heads of all layers, [B, N, E]."""
        shape = (*self.streams.first.shape[:2], self.read_out.matrix.shape[-1])
        effects = self.streams.first.new_zeros(shape)
        for layer in range(len(self.tower.blocks)):
            attention, rows, bias = self._rows(layer)
            w, values = attention.linear()[0], attention.values(self.streams.inputs[layer])
            for row, matrix in zip(rows.unbind(1), self.read_out.matrix):  # read-out by read-out: [B, N, D] at most
                effects = effects + torch.einsum("bhnd,Dhd->bnD", row[..., None] * values, w) @ matrix
            effects = effects + bias[:, None] / shape[1]
        return effects

    def head_tokens(self, layer: int, head: int) -> Tensor:
        """Effect of each token through one head, [B, N, E]; sums over tokens to `heads()[:, layer, head]`."""
        attention, rows, bias = self._rows(layer)
        through = torch.einsum("Dd,kDE->kdE", attention.linear()[0][:, head], self.read_out.matrix)
        value = attention.values(self.streams.inputs[layer], [head])[:, 0]
        effects = torch.einsum("bkn,bnd,kdE->bnE", rows[:, :, head], value, through)
        return effects + bias[:, None] / (self.tower.n_heads * value.shape[1])

    def neurons(self, layer: int) -> tuple[Tensor, Tensor]:
        """First-order effects of the neurons of a layer: how much of each the read-outs take [B, K, M], and directions [K, M, E].

        Their products, summed over K and M, are the MLP's effect but for its bias.
        """
        last, acts = self.tower.blocks[layer].last_linear(), self.streams.neurons[layer]
        taken = (self.read_out.rho * last.frozen(acts)[:, None]) @ acts
        return taken, torch.einsum("mD,kDE->kmE", last.linear()[0], self.read_out.matrix)

    def neuron_bias(self, layer: int) -> Tensor:
        """What the biases of an MLP's last linear layer add, [B, E]."""
        last, acts, rho = self.tower.blocks[layer].last_linear(), self.streams.neurons[layer], self.read_out.rho
        _, b, c = last.linear()
        scaled = (rho * last.frozen(acts)[:, None]).sum(-1)
        return self.read_out.out(scaled[..., None] * b + rho.sum(-1)[..., None] * c)

    def total(self) -> Tensor:
        """Sum of embedding, heads, MLPs and the pool's MLP, [B, E]: equals the representation."""
        total = self.embedding() + self.heads().sum((1, 2)) + self.mlps().sum(1)
        return total if self.read_out.pool_mlp is None else total + self.read_out.pool_mlp

    def _rows(self, layer: int) -> tuple[Attention, Tensor, Tensor]:
        """Attention of a layer, its effective rows [B, K, H, N], and its biases' effect [B, E]."""
        attention = self.tower.blocks[layer].attention()
        rows, shares = attention.effective(self.streams.inputs[layer], self.read_out.rho)
        return attention, rows, self.read_out.out(shares @ attention.linear()[1])

    def _heads(self, layer: int) -> Tensor:
        attention, rows, bias = self._rows(layer)
        carried = attention.carried(self.streams.inputs[layer], rows)
        return head_effects(attention, carried, self.read_out.matrix) + bias[:, None] / self.tower.n_heads

    def _stacked(self, effects: list[Tensor], *more: int) -> Tensor:
        if effects:
            return torch.stack(effects, 1)
        return self.streams.first.new_zeros(len(self.streams.first), 0, *more, self.read_out.matrix.shape[-1])


def head_effects(attention: Attention, carried: Tensor, matrix: Tensor) -> Tensor:
    """What each head writes, biases left out, of its values averaged for each read-out [B, K, H, d]: [B, H, E]."""
    written = torch.einsum("bkhd,Dhd->bkhD", carried, attention.linear()[0])
    return torch.einsum("bkhD,kDE->bhE", written, matrix)


@torch.no_grad()
def decompose(tower: Tower, encode: Callable[[], Tensor]) -> Effects:
    """The exact sum of what `encode()`, which runs the tower once, gives."""
    return Effects(tower, run(tower, encode))
