"""What the presets' models cost on this machine's best device: images a second, ratios to the plain forward pass, peak memory.

python tests/benchmarks/bench_device.py [ViT-L-14 ...]

Weights are random; times do not depend on them. Images lie on the device, so that reading and decoding them is left out.
"""

import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from small_clips import noise, real_clip

import interp_utils as iu
from interp_utils.models import best_device
from interp_utils.moments import Moments
from interp_utils.stream import Batch

MODELS = ("ViT-B-32-quickgelu", "ViT-B-16", "ViT-L-14", "ViT-H-14")
GIB = 2**30


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def measured(device: torch.device, run, repeats: int = 5) -> tuple[float, float]:
    """Seconds of the fastest of some calls after a first one, and GiB at the peak (0 where there is no such count)."""
    times = []
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for _ in range(repeats + 1):
        start = time.perf_counter()
        run()
        wait(device)
        times.append(time.perf_counter() - start)
    return min(times[1:]), torch.cuda.max_memory_allocated() / GIB if device.type == "cuda" else 0.0


@torch.no_grad()
def bench(name: str, batch: int, dtype: torch.dtype) -> None:
    device = best_device()
    clip = iu.Clip(real_clip(name).model.to(device, dtype), name=name, check=False)
    pixels = noise(clip, batch).to(device, dtype)
    late = clip.n_layers - 4  # the thesis's layers of neurons lie about there
    heads, order = Moments(second=True), iu.neurons.second_order(clip, late)
    calls = {
        "plain": lambda: clip.encode_image(pixels),
        "effects of all heads": lambda: iu.heads.direct_effects(clip, pixels).heads(),
        "moments of all heads": lambda: heads.update(Batch(clip, pixels, None, torch.arange(batch), "centered").head_coordinates),
        f"norms of the neurons of layer {late}": lambda: order.norms(pixels),
    }
    plain = None
    for what, call in calls.items():
        seconds, peak = measured(device, call)
        plain = plain or seconds
        row = [
            name,
            str(dtype).removeprefix("torch."),
            batch,
            what,
            f"{batch / seconds:.0f}",
            f"{seconds / plain:.2f}",
            f"{peak:.1f}",
        ]
        print("| " + " | ".join(map(str, row)) + " |", flush=True)


if __name__ == "__main__":
    device = best_device()
    about = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    print(f"{device} ({about}), torch {torch.__version__}")
    print("| model | precision | batch | what | images a second | plain passes | peak GiB |\n|---|---|---|---|---|---|---|")
    for name in sys.argv[1:] or MODELS:
        for dtype in (torch.float32, torch.bfloat16) if device.type == "cuda" else (torch.float32,):
            bench(name, 128 if device.type == "cuda" else 8, dtype)
