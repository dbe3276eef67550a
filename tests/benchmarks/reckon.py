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
from small_clips import SMALL_TEXT  # noqa: E402

# Images a second on one H100, batches of 128: a plain pass, one with moments of all heads, one with the effects of all heads.
MEASURED = {
    "ViT-B-16": {"float32": (1219, 883, 790), "bfloat16": (9744, 2841, 1949)},
    "ViT-L-14": {"float32": (276, 238, 225), "bfloat16": (2594, 1065, 807)},
    "ViT-H-14": {"float32": (136, 128, 125), "bfloat16": (1376, 827, 650)},
}
BYTES = {"float32": 4, "bfloat16": 2}
READ = 988  # photographs of 640 x 427 a second that eight processes read there, the time of starting them included
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


def duration(images: int, passes: list[float], gpus: int) -> str:
    """Of both passes, for the process that has most batches; whoever is slower, the GPU or who reads for it, decides."""
    most = min(images, ceil(ceil(images / BATCH) / gpus) * BATCH)
    seconds = sum(most / min(rate, READ) for rate in passes)
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"


def tables() -> str:
    """Times and sizes in Markdown."""
    found = {name: Sizes(name) for name in MEASURED}
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
        for precision, speeds in MEASURED[name].items():
            cells = [name, precision, *(f"{rate:,}" for rate in speeds)]
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
