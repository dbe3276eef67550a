"""TextSpan from moments beside algorithm 1 in data space: 64 heads of width 768, 5,000 images, 3,500 texts, 60 picks.

python tests/benchmarks/bench_textspan.py

Data space is timed on the first heads and scaled to 64 (all heads are of one size); ours runs on all of them.
"""

import time

import torch

from interp_utils.heads import HeadMoments, textspan

HEADS, IMAGES, TEXTS, WIDTH, HEAD_WIDTH, SIZE = 64, 5000, 3500, 768, 64, 60
IN_DATA_SPACE = 2


def head_outputs(head: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A head's coordinates [K, d+1] and basis [d+1, E], with a falling spectrum."""
    generator = torch.Generator().manual_seed(head)
    scale = torch.logspace(0, -1.5, HEAD_WIDTH + 1)
    mean = 0.3 * torch.randn(HEAD_WIDTH + 1, generator=generator)
    y = (torch.randn(IMAGES, HEAD_WIDTH + 1, generator=generator) + mean) * scale
    return y, torch.randn(HEAD_WIDTH + 1, WIDTH, generator=generator) / WIDTH**0.5


def algorithm_1(c: torch.Tensor, r: torch.Tensor) -> list[int]:
    """The thesis's algorithm, in float32 as published: every round builds the [T, K] matrix of inner products."""
    _, s, v = torch.linalg.svd(c, full_matrices=False)
    v = v[s > 3e-6 * s[0]]
    r = r @ v.T @ v
    c, picks = c - c.mean(0), []
    for _ in range(SIZE):
        best = (r @ c.T).std(1).argmax().item()
        picks.append(best)
        unit = r[best] / r[best].norm()
        c, r = c - torch.outer(c @ unit, unit), r - torch.outer(r @ unit, unit)
    return picks


def main():
    texts = torch.nn.functional.normalize(torch.randn(TEXTS, WIDTH, generator=torch.Generator().manual_seed(99)), dim=-1)
    names = [str(k) for k in range(TEXTS)]
    seconds = {"data space": 0.0, "data matrix": 0.0, "streamed moments": 0.0}
    same = 0
    for head in range(HEADS):
        y, basis = head_outputs(head)
        c = y @ basis
        start = time.perf_counter()
        from_data = textspan(c, texts, names, SIZE)
        seconds["data matrix"] += time.perf_counter() - start

        start = time.perf_counter()
        moments = HeadMoments.of(y)  # in the head's own coordinates, as `head_moments` streams them
        from_moments = textspan(HeadMoments(moments.mean, moments.covariance, basis.double()), texts, names, SIZE)
        seconds["streamed moments"] += time.perf_counter() - start
        assert from_data.indices == from_moments.indices
        if head < IN_DATA_SPACE:
            start = time.perf_counter()
            picks = algorithm_1(c, texts)
            seconds["data space"] += time.perf_counter() - start
            same += picks == from_moments.indices
    slow = seconds["data space"] / IN_DATA_SPACE * HEADS
    print(f"same picks in {same} of {IN_DATA_SPACE} heads run in data space")
    print(f"data space {slow:.0f} s for {HEADS} heads (from {IN_DATA_SPACE})")
    for kind in ("data matrix", "streamed moments"):
        print(f"from {kind}: {seconds[kind]:.1f} s, {slow / seconds[kind]:.0f} times faster (goal: at least 30)")


if __name__ == "__main__":
    main()
