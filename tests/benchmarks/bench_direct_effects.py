"""What direct effects cost, beside the plain forward pass and beside the full tensor.

python tests/benchmarks/bench_direct_effects.py
"""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from conftest import noise, real_clip
from measure import peak_bytes, ratio

from interp_utils.heads import direct_effects


@torch.no_grad()
def time_ratio(repeats: int = 5) -> float:
    """Seconds for per-head effects over seconds for a plain forward pass, ViT-B-16, batch 16, pair by pair."""
    clip = real_clip("ViT-B-16")
    pixels = noise(clip, 16)

    return ratio(lambda: direct_effects(clip, pixels).heads(), lambda: clip.encode_image(pixels), repeats)


@torch.no_grad()
def memory_share() -> float:
    """Peak memory of head-token scores for 8 texts over the size of the full tensor, ViT-L-14, one image."""
    clip = real_clip("ViT-L-14")
    pixels, texts = noise(clip, 1), torch.randn(8, clip.d_embed)
    tokens = clip.grid[0] * clip.grid[1] + 1
    full = 4 * clip.n_layers * tokens * clip.n_heads * clip.d_model
    peak = peak_bytes(lambda: direct_effects(clip, pixels).scores(texts, over="head_token"))
    print(f"peak {peak / 1e6:.1f} MB, forward pass alone {peak_bytes(lambda: clip.encode_image(pixels)) / 1e6:.1f} MB")
    print(f"full [layer, token, head, width] tensor {full / 1e6:.1f} MB")
    return peak / full


if __name__ == "__main__":
    print(f"memory: {memory_share():.3f} of the full tensor (goal: at most 0.05)")
    print(f"time: {time_ratio():.2f} forward passes (goal: at most 1.4)")
