"""What second-order effects cost: lengths for all neurons beside the plain forward pass, and the memory of a rank-one fit.

python tests/benchmarks/bench_second_order.py
"""

import sys
from pathlib import Path

import torch
from torch.utils.data import TensorDataset

sys.path.insert(0, str(Path(__file__).parents[1]))
from conftest import noise, real_clip
from measure import peak_bytes, ratio, seconds

from interp_utils.neurons import second_order

LAYER, BATCH, TOP = 9, 32, 8


@torch.no_grad()
def time_ratio(clip) -> float:
    """Seconds for the lengths of all neurons' effects over seconds for a plain forward pass, batch 32, pair by pair."""
    pixels, order = noise(clip, BATCH), second_order(clip, LAYER)
    print(f"{order}; factor of all neurons, once: {seconds(lambda: order.factor):.2f} s")
    return ratio(lambda: order.norms(pixels), lambda: clip.encode_image(pixels))


@torch.no_grad()
def memory_of_fit(clip, n: int) -> int:
    """Peak memory of a rank-one fit of one layer to n images, the images themselves not counted."""
    order, images = second_order(clip, LAYER), TensorDataset(noise(clip, n))
    order.factor  # noqa: B018  as above, once
    peak = peak_bytes(lambda: order.fit(images, TOP, batch_size=8))
    print(f"fit to {n} images: peak {peak / 1e6:.1f} MB")
    return peak


if __name__ == "__main__":
    clip = real_clip("ViT-B-32")
    print(f"time: {time_ratio(clip):.2f} forward passes (goal: at most 1.5)")
    print(f"memory of a fit to twice the images: {memory_of_fit(clip, 64) / memory_of_fit(clip, 32):.2f} times (goal: 1.00)")
