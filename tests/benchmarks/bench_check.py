"""What the check of a new Clip costs, beside one plain pass over as many images.

python tests/benchmarks/bench_check.py
"""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from conftest import real_clip
from measure import ratio

from interp_utils import towers


@torch.no_grad()
def time_ratio(repeats: int = 5) -> float:
    """Seconds of the check over seconds of encoding two images, ViT-L-14, pair by pair."""
    clip = real_clip("ViT-L-14")
    pixels = towers.noise(clip.image_size, clip.visual.proj)

    def encode():
        return clip.encode_image(pixels)

    return ratio(lambda: towers.check(clip.tower, encode, clip.dtype), encode, repeats)


if __name__ == "__main__":
    print(f"time: {time_ratio():.2f} passes over two images, the pass itself included (goal: at most 1.3)")
