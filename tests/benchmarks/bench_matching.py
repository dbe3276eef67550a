"""What matching two models' units costs, beside resizing every pair of layers to the larger size.

python tests/benchmarks/bench_matching.py
"""

import time
from statistics import median

import torch
import torch.nn.functional as F
from measure import peak_bytes

from interp_utils.rosetta import Correlation, Units, load_unit_model

# Channels and sizes of a StyleGAN2-like generator that stops at 64 pixels: two convolutions for each size, and its RGB output.
STYLE = [(512, 4), (3, 4), *((channels, size) for size in (8, 16, 32, 64) for channels in (512, 512, 3))]


def style_maps(n: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(n, channels, size, size, generator=generator) for channels, size in STYLE]


def streamed(a: list[torch.Tensor], b: list[torch.Tensor]) -> torch.Tensor:
    """Ours."""
    units = [Units(name, tuple(map(str, range(len(maps)))), tuple(m.shape[1] for m in maps)) for name, maps in (("a", a), ("b", b))]
    found = Correlation(*units)
    found.update(a, b)
    return found.matrix


def resized(a: list[torch.Tensor], b: list[torch.Tensor]) -> torch.Tensor:
    """Each pair of layers at the larger of their sizes, as eqs. 4.1 and 4.2 are written."""

    def scaled(maps, size):
        large = maps if maps.shape[2] == size else F.interpolate(maps, size=(size, size), mode="bilinear", align_corners=False)
        rows = large.transpose(0, 1).flatten(1)
        rows = rows - rows.mean(1, keepdim=True)
        return rows / rows.norm(dim=1, keepdim=True)

    sizes = [[max(x.shape[2], y.shape[2]) for y in b] for x in a]
    return torch.cat([torch.cat([scaled(x, s) @ scaled(y, s).T for y, s in zip(b, row)], 1) for x, row in zip(a, sizes)])


@torch.no_grad()
def main(n: int = 32, repeats: int = 2):
    generator = torch.Generator().manual_seed(1)
    model = load_unit_model("resnet50", device="cpu", pretrained=False)
    a, b = style_maps(n), model(torch.rand(n, 3, 224, 224, generator=generator))
    runs, seconds, found = {"streamed": streamed, "resized": resized}, {"streamed": [], "resized": []}, {}
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            found[name] = run(a, b)
            seconds[name].append(time.perf_counter() - start)
    print("seconds", {name: [round(s, 2) for s in times] for name, times in seconds.items()})
    ratio = median(slow / fast for fast, slow in zip(*seconds.values()))
    print(f"time: {ratio:.1f} times faster (goal: at least 10)")
    plain = found["resized"].nan_to_num()  # 0 / 0 where a random unit never fires
    print(f"largest difference: {(found['streamed'] - plain).abs().max().item():.1e}")
    peaks = [peak_bytes(lambda run=run: run(a, b)) for run in runs.values()]
    print("peak MB", [round(peak / 1e6) for peak in peaks])
    print(f"memory: {peaks[0] / peaks[1]:.3f} of resizing (goal: below 0.25)")


if __name__ == "__main__":
    main()
