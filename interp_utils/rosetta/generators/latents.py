"""Latents that generators draw from."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Sampler = Callable[[int, torch.Generator, int | None], tuple[Tensor, ...]]


def truncated_latents(d_z: int, kinds: int = 0) -> Sampler:
    """Sampler of z [n, d_z], standard normal cut off at -1 and 1 as in the published matching, and one-hot classes [n, kinds].

    kinds: 0 for a generator without classes, which gets z alone. Without a `kind` each sample's class is random.
    """

    def sample(n: int, generator: torch.Generator, kind: int | None) -> tuple[Tensor, ...]:
        z = torch.randn(n, d_z, generator=generator, dtype=torch.float32)
        while (outside := z.abs() > 1).any():  # by hand: what nn.init.trunc_normal_ gives a seed moves with the release of torch
            z = torch.where(outside, torch.randn(n, d_z, generator=generator, dtype=torch.float32), z)
        if not kinds:
            if kind is not None:
                raise ValueError("this generator has no classes")
            return (z,)
        if kind is not None and not 0 <= kind < kinds:
            raise ValueError(f"need a class below {kinds}, got {kind}")
        chosen = torch.randint(kinds, (n,), generator=generator) if kind is None else torch.full((n,), kind)
        return z, F.one_hot(chosen, kinds).float()

    return sample
