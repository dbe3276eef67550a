"""What the benchmarks measure with: processor time in pairs, peak memory, forward passes, and growth."""

import math
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median

from torch.profiler import ProfilerActivity, profile

from interp_utils import Clip


def seconds(run: Callable) -> float:
    """Processor time of one call of `run()`: what others do on the machine does not count."""
    start = time.process_time()
    run()
    return time.process_time() - start


def times(runs: dict[str, Callable], repeats: int) -> dict[str, list[float]]:
    """Processor times of each run, in turn, so that what drifts meets all alike; of several, a first round is not counted."""
    found = {name: [] for name in runs}
    for _ in range(repeats + (repeats > 1)):
        for name, run in runs.items():
            found[name].append(seconds(run))
    return {name: each[-repeats:] for name, each in found.items()}


def ratio(ours: Sequence[float], theirs: Sequence[float], work: float = 1) -> tuple[float, tuple[float, float]]:
    """Median of the ratio of two times, pair by pair, and its least and largest; work: how many times more ours had to do."""
    ratios = [a / b / work for a, b in zip(ours, theirs, strict=True)]
    return median(ratios), (min(ratios), max(ratios))


def with_peak(run: Callable) -> tuple[object, int]:
    """What `run()` gives, and the most bytes that its tensors and, apart from them, Python and NumPy held at once."""
    tracemalloc.start()
    try:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
            found = run()
            beside = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    now = peak = 0
    events = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return found, peak + beside


@contextmanager
def counted_passes(clip: Clip | None, images: int) -> Iterator[Callable[[], float]]:
    """For a `with` block, count how often `images` images go through the image tower; a pass that ends early counts in part.

    It counts at the MLPs' activation functions: whoever runs a block, as a whole or step by step, calls them.
    """
    blocks, through = [] if clip is None else clip.tower.blocks, [0]

    def count(module, args):
        through[0] += len(args[0])

    handles = [block.first[-1].register_forward_pre_hook(count) for block in blocks]
    try:
        yield lambda: through[0] / max(images * len(blocks), 1)
    finally:
        for handle in handles:
            handle.remove()


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Slope of log cost over log size, by least squares: 1 for what grows in proportion, 0 for what does not grow."""
    x, y = ([math.log(value) for value in values] for values in (sizes, costs))
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y)) / sum((a - mean_x) ** 2 for a in x)
