"""Ours beside the published ways, and passes over datasets beside bare forward passes: time, memory, passes, growth.

    python tests/benchmarks/bench.py [--quick] [--readme] [NAME ...]

Every line compares two ways to the same answer, which is asserted, on the same inputs in the same process, with random weights
(costs do not depend on them). Writes build/bench.json, with --readme the README's table too; of single entries it prints alone.
--quick takes a quarter of each size once, to see that all runs; its numbers go to build/bench-quick.json.
"""

import argparse
import json
import os
import platform
import re
import sys
from pathlib import Path

os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # the profiler tells of its starts and ends otherwise
os.environ.setdefault("TQDM_DISABLE", "1")
import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from benchmarks.cases import Entry, tower  # noqa: E402
from benchmarks.entries import ENTRIES  # noqa: E402
from benchmarks.measure import counted_passes, exponent, ratio, seconds, times, with_peak  # noqa: E402
from benchmarks.page import put_in  # noqa: E402


def measure(entry: Entry, sizes: dict[str, int], repeats: int, tower=tower) -> dict:
    """What bench.json holds of one entry: see `docs/scale.md`. Raises AssertionError where the two answers differ."""
    case, memory = entry.case(tower, **sizes), {}
    runs = {"theirs": case.theirs, "ours": case.ours} | ({"bare": case.bare} if case.clip else {})
    found = times(runs, repeats)
    with counted_passes(case.clip, case.images) as count:
        ours, memory["ours"] = with_peak(case.ours)
        passes = count()
    theirs, memory["theirs"] = with_peak(case.theirs)
    case.same(ours, theirs)
    time_ratio, interval = ratio(found["ours"], found["theirs"], case.work)
    result = {"time_ratio": time_ratio, "time_interval": interval, "memory_ratio": memory["ours"] / memory["theirs"]}
    result |= {"forward_passes": passes, "exponents": {}, "published_exponents": {}, "sizes": sizes, "memory_bytes": memory}
    result |= {"seconds": {who: min(each) for who, each in found.items()}}
    if passes:
        result["pass_cost"], result["pass_interval"] = ratio(found["ours"], found["bare"], passes)
    return result


def grow(entry: Entry, full: dict, tower=tower) -> dict[str, dict[str, float]]:
    """Exponents by which the time of ours and of the published way grows with each size, from a quarter of it to all."""
    found = {"exponents": {}, "published_exponents": {}}
    for dimension in entry.grows:
        most = entry.sizes[dimension]
        sizes, costs = [most // 4, most // 2, most], {"ours": [], "theirs": []}
        for size in sizes[:2]:
            case = entry.case(tower, **entry.sizes | {dimension: size})
            for who, run in (("ours", case.ours), ("theirs", case.theirs)):
                costs[who].append(seconds(run))
        for who, key in (("ours", "exponents"), ("theirs", "published_exponents")):
            found[key][dimension] = exponent(sizes, [*costs[who], full["seconds"][who]])
    return found


def machine() -> str:
    """Processor, system and torch, in words."""
    info = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*: (.+)", info.read_text()) if info.exists() else None
    processor = named[1] if named else platform.processor() or platform.machine()
    return f"{processor}, one thread, {platform.system()}, torch {torch.__version__}"


def table(results: dict[str, dict], repeats: int) -> str:
    """The README's table."""
    head = [
        "| what | beside | time | memory | forward passes | one pass costs | time grows with |",
        "|---|---|---|---|---|---|---|",
    ]
    rows = []
    for name, found in results.items():
        low, high = found["time_interval"]
        growth = ", ".join(f"{what}^{power:.1f}" for what, power in found["exponents"].items())
        cells = [ENTRIES[name].what, ENTRIES[name].than, f"{found['time_ratio']:.2g} ({low:.2g} to {high:.2g})"]
        cells += [f"{found['memory_ratio']:.2g}", f"{found['forward_passes']:.3g}" if found["forward_passes"] else "none"]
        rows.append("| " + " | ".join([*cells, f"{found['pass_cost']:.2f}" if "pass_cost" in found else "", growth]) + " |")
    note = (
        f"Time and memory: ours as a share of the other, at the same answers; medians of {repeats} pairs, with the least and the "
        f"largest. One pass: in bare forward passes of the model. Processor time on {machine()}."
    )
    return "\n".join([*head, *rows, "", note])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="entries, by default all")
    parser.add_argument("--quick", action="store_true", help="a quarter of each size, once")
    parser.add_argument("--readme", action="store_true", help="write the table into README.md")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(ENTRIES)
    if unknown or (arguments.readme and (arguments.quick or arguments.names)):
        parser.error(f"no entries {sorted(unknown)}; there are {', '.join(ENTRIES)}" if unknown else "--readme wants all, in full")
    torch.set_num_threads(1)
    repeats, results = 1 if arguments.quick else 3, {}
    for name, entry in ENTRIES.items():
        if arguments.names and name not in arguments.names:
            continue
        sizes = {key: max(size // 4, entry.least[key]) for key, size in entry.sizes.items()} if arguments.quick else entry.sizes
        found = measure(entry, sizes, repeats)
        results[name] = found if arguments.quick else found | grow(entry, found)
        goals = {} if arguments.quick else entry.goals  # which are meant for the full sizes
        for key, most in goals.items():
            print(f"{name}: {key} {found[key]:.2f}, {'reached' if found[key] <= most else 'MISSED'}: at most {most}", flush=True)
        print(table({name: results[name]}, repeats).splitlines()[2], flush=True)
    if arguments.names:
        return
    out = ROOT / "build" / ("bench-quick.json" if arguments.quick else "bench.json")
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(results, indent=1) + "\n")
    if arguments.readme:
        put_in(ROOT / "README.md", "table of make bench", table(results, repeats))


if __name__ == "__main__":
    main()
