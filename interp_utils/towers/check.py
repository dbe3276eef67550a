"""The self-check: on two images of noise, a tower must do what its description says, whatever its parts are called."""

from collections.abc import Callable

import torch
from torch import Tensor

from .base import Mismatch, Tower
from .exact import hooked
from .parts import Attention, numbers

TOLERANCE = 1e-4  # of the norm, in float32


def tolerance(dtype: torch.dtype) -> float:
    """By which share two ways to compute the same may differ in this precision."""
    if dtype == torch.float32 and torch.get_float32_matmul_precision() != "highest":
        dtype = torch.bfloat16
    return max(TOLERANCE, torch.finfo(dtype).eps ** 0.5) if dtype in (torch.float16, torch.bfloat16) else TOLERANCE


def noise(size: tuple[int, int], like: Tensor) -> Tensor:
    """Two images of noise, the same every time, [2, 3, H, W], on the device and in the precision of a parameter."""
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float32).to(like)


@torch.no_grad()
def check(tower: Tower, encode: Callable[[], Tensor], dtype: torch.dtype) -> None:
    """Compare a tower with its description while `encode()` runs it once; costs little more than that pass.

    Attention is recomputed from each layer's input, the MLP from its neurons, the stream from what both add, all at three
    tokens; the representation from all tokens. Raises Mismatch that names the part which does something else.
    """
    bound, seen, final, ran = tolerance(dtype), {}, [], []
    first, start = tower.stream

    def compare(found: Tensor, expected: Tensor, size: Tensor, where: str) -> None:
        if not ((found - expected).norm() <= bound * size.norm()):
            off = ((found - expected).norm() / size.norm()).item()
            raise Mismatch(f"{where} (off by {off:.2g} of it on two images of noise, where rounding explains {bound:.2g})")

    def probes(x: Tensor) -> list[int]:
        return sorted({0, x.shape[1] // 2, x.shape[1] - 1})

    def enters(layer):
        def keep(x):
            seen[layer, "stream"] = numbers(x)[:, probes(x)].clone()
            if tower.blocks[layer].reads is None:
                reads(layer)(x)

        return keep

    def reads(layer):
        def keep(x):
            seen[layer, "attention"] = _recomputed(tower.blocks[layer].attention(), numbers(x), probes(x))

        return keep

    def neurons(layer):
        def keep(x):
            seen[layer, "MLP"] = tower.blocks[layer].last_linear().write(numbers(x)[:, probes(x)])

        return keep

    def writes(layer, kind, says):
        def keep(x):
            written, said = numbers(x)[:, probes(x)], seen.pop((layer, kind), None)
            if said is not None and (layer, "stream") in seen:
                where = f"{says} of block {layer} do not give what it adds to the stream: {_PARTS}"
                compare(said, written, written, where)
                seen[layer, "stream"] = seen[layer, "stream"] + written
                ran.append((layer, kind))

        return keep

    def between(layer):
        def keep(x):
            if (layer, "stream") in seen:
                middle = numbers(x)[:, probes(x)]
                where = f"the MLP of block {layer} does not read the stream that its attention left: {_PARTS}"
                compare(seen[layer, "stream"], middle, middle, where)

        return keep

    def leaves(layer):
        def keep(x):
            out, found = numbers(x)[:, probes(x)], seen.pop((layer, "stream"))
            if ran[-2:] != [(layer, "attention"), (layer, "MLP")]:
                raise Mismatch(f"block {layer} does not run its attention and then its MLP, where hooks can see them: {_PARTS}")
            compare(found, out, out, f"block {layer} adds more to the stream than its attention and its MLP: {_PARTS}")
            if layer == len(tower.blocks) - 1:
                final.append(numbers(x).clone())

        return keep

    before = [(block.whole, enters(layer)) for layer, block in enumerate(tower.blocks)]
    before += [(block.middle, between(layer)) for layer, block in enumerate(tower.blocks)]
    before += [(block.last, neurons(layer)) for layer, block in enumerate(tower.blocks)]
    if not tower.blocks:
        before.append((first, lambda x: final.append(numbers(start(x)).clone())))
    after = [(block.reads, reads(layer)) for layer, block in enumerate(tower.blocks) if block.reads is not None]
    after += [(block.writes, writes(layer, "attention", "the projections")) for layer, block in enumerate(tower.blocks)]
    after += [(block.mlp, writes(layer, "MLP", "the neurons")) for layer, block in enumerate(tower.blocks)]
    after += [(block.whole, leaves(layer)) for layer, block in enumerate(tower.blocks)]
    with hooked(after, before):
        given = encode()
    if len(ran) != 2 * len(tower.blocks) or len(final) != 1:
        raise Mismatch(
            "its blocks did not run once each, in their order, where hooks can see them: a traced, exported or patched tower; take "
            "the model that it was made from"
        )
    _check_read_out(tower, final[0], given, compare)


_PARTS = (
    "a gated, patched or wrapped part, another norm than layer norm, or quantised weights; take such a part out, merge an adapter "
    "into the weights, or load the plain model"
)


def _check_read_out(tower: Tower, final: Tensor, given, compare) -> None:
    if not isinstance(given, Tensor):
        raise Mismatch(f"its encode_image gives a {type(given).__name__}, no tensor of representations [B, E]")
    found, given = tower.read_out(final)(final), numbers(given)
    if found.shape != given.shape:
        raise Mismatch(f"its encode_image gives {list(given.shape)} for two images, its image tower {list(found.shape)}")
    normed, unit = (torch.nn.functional.normalize(each, dim=-1) for each in (found, given))
    why = "its last norm, pooling or projection do something else"
    if (given - unit).norm() < 1e-2 * unit.norm() and (normed - unit).norm() < 1e-2 * unit.norm():
        why = "it gives representations of unit length; take the normalisation out of encode_image"
    compare(found, given, given, f"its encode_image does not give what its image tower's final stream is read out as: {why}")


def _recomputed(attention: Attention, x: Tensor, probes: list[int]) -> Tensor:
    pattern = attention.pattern(x, probes)
    seen = (pattern.flatten(1, 2) @ x).unflatten(1, pattern.shape[1:3])  # one product for all heads
    mixed = torch.einsum("bhnD,hdD->bhnd", seen, attention.w_v) + attention.b_v[:, None]
    return attention.write(mixed)
