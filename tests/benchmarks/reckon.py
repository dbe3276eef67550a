"""What chapter 2's passes over ImageNet cost on GPUs, reckoned from what was measured: python tests/benchmarks/reckon.py

Writes the tables of docs/scale.md, whose text states the formulas.
"""

import sys
from math import ceil
from pathlib import Path

import open_clip
import torch
from open_clip.model import CLIP
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from benchmarks.page import put_in  # noqa: E402
from conftest import SMALL_TEXT  # noqa: E402

MODELS = ("ViT-B-16", "ViT-L-14", "ViT-H-14")
# ViT-B-16 on one H200, images a second: a plain pass, one with moments of all heads, one with the effects of all heads.
MEASURED = {"float32": (1235, 961, 898), "bfloat16": (10304, 3816, 2726)}
BYTES = {"float32": 4, "bfloat16": 2}
READ = 8 / 3.8e-3  # images a second that eight processes read; 3.8 ms a photograph of 640 x 427 were measured on one core
BATCH = 128
SETS = {"validation": 50_000, "training": 1_281_167}
SPARE = 0.35  # GiB, so that no peak that was measured with moments lies above


class Sizes:
    """Of an image tower, from its configuration alone."""

    def __init__(self, name: str):
        config = open_clip.get_model_config(name)
        with torch.device("meta"):
            model = CLIP(config["embed_dim"], config["vision_cfg"], SMALL_TEXT).eval()
        with FlopCounterMode(display=False) as count, torch.no_grad():
            model.encode_image(torch.zeros(1, 3, model.visual.image_size[0], model.visual.image_size[1], device="meta"))
        blocks = model.visual.transformer.resblocks
        self.flops, self.weights = count.get_total_flops(), sum(p.numel() for p in model.visual.parameters())
        self.layers, self.heads, self.width = len(blocks), blocks[0].attn.num_heads, blocks[0].attn.embed_dim
        self.tokens, self.joint = len(model.visual.positional_embedding), config["embed_dim"]


def rates(model: Sizes, precision: str, base: Sizes) -> list[float]:
    """Images a second of a plain pass, of the first pass and of the second."""
    plain, *passes = MEASURED[precision]
    alone = model.flops / base.flops / plain  # seconds an image
    added = [(1 / each - 1 / plain) * model.layers / base.layers for each in passes]
    return [1 / alone, *(1 / (alone + more) for more in added)]


def duration(images: int, passes: list[float], gpus: int) -> str:
    """Of both passes, for the process that has most batches; whoever is slower, the GPU or who reads for it, decides."""
    most = min(images, ceil(ceil(images / BATCH) / gpus) * BATCH)
    seconds = sum(most / min(rate, READ) for rate in passes)
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"


def tables() -> str:
    """Times and sizes in Markdown."""
    found = {name: Sizes(name) for name in MODELS}
    columns = [f"{each}, {gpus} GPU{'s' * (gpus > 1)}" for each in SETS for gpus in (1, 64)]
    head = ["model", "precision", "plain, images a second", "first pass", "second pass", *columns]
    times = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    head = [
        "model",
        "billion operations an image",
        "GPU memory, float32",
        "bfloat16",
        "moments of all heads",
        "every head's output, kept",
    ]
    sizes = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name, model in found.items():
        for precision in MEASURED:
            speeds = rates(model, precision, found["ViT-B-16"])
            cells = [name, precision, *(f"{rate:,.0f}" for rate in speeds)]
            cells += [duration(images, speeds[1:], gpus) for images in SETS.values() for gpus in (1, 64)]
            times.append("| " + " | ".join(cells) + " |")
        numbers = model.weights + 12 * BATCH * model.tokens * model.width
        memory = [f"{numbers * each / 2**30 + SPARE:.1f} GiB" for each in BYTES.values()]
        moments = 8 * model.layers * model.heads * (model.width // model.heads + 1) ** 2
        kept = 4 * SETS["validation"] * model.layers * model.heads * model.joint
        cells = [name, f"{model.flops / 1e9:.0f}", *memory, f"{moments / 1e6:.0f} MB", f"{kept / 1e9:.0f} GB"]
        sizes.append("| " + " | ".join(cells) + " |")
    return "\n".join([*times, "", *sizes])


if __name__ == "__main__":
    put_in(ROOT / "docs" / "scale.md", "reckoned", tables())
