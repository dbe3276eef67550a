"""What direct effects cost where many tokens are read out, beside the plain forward pass.

python tests/benchmarks/bench_effective_rows.py
"""

import sys
from pathlib import Path

import open_clip
import torch
from open_clip.model import CLIP

sys.path.insert(0, str(Path(__file__).parents[1]))
from conftest import SMALL_TEXT, noise, randomise
from measure import ratio

import interp_utils as iu
from interp_utils.heads import direct_effects

TOWERS = ("ViT-B-16-SigLIP2", "PE-Core-B-16", "ViT-B-16")  # the last as a mean of patches


def clip_of(name: str) -> iu.Clip:
    """A tower of ViT-B/16's size with random weights, beside a small text tower."""
    vision = open_clip.get_model_config(name)["vision_cfg"]
    if name == "ViT-B-16":
        vision["pool_type"] = "avg"
    return iu.Clip(randomise(CLIP(768, vision, SMALL_TEXT)), name=name, check=False)


@torch.no_grad()
def time_ratio(name: str, repeats: int = 5) -> float:
    """Seconds for the effects of all heads over seconds for a plain forward pass, batch 16, pair by pair."""
    clip = clip_of(name)
    pixels = noise(clip, 16)
    return ratio(lambda: direct_effects(clip, pixels).heads(), lambda: clip.encode_image(pixels), repeats)


if __name__ == "__main__":
    for name in TOWERS:
        print(f"{name}: {time_ratio(name):.2f} forward passes (goal: at most 1.6)")
