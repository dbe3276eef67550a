"""What the benchmarks measure with: seconds, ratios of pairs, and peak memory."""

import time
from statistics import median

from torch.profiler import ProfilerActivity, profile


def seconds(run) -> float:
    """Wall-clock time of one call of `run()`."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def ratio(ours, plain, repeats: int = 5) -> float:
    """Median of the ratio of two times, measured pair by pair after a first call of each; prints the pairs."""
    ours(), plain()
    pairs = [(seconds(ours), seconds(plain)) for _ in range(repeats)]
    print("ours, plain (s):", [(round(a, 2), round(b, 2)) for a, b in pairs])
    return median(a / b for a, b in pairs)


def peak_bytes(run) -> int:
    """Most bytes that the CPU allocator held at once for tensors made by `run()`."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        run()
    events = [e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak
