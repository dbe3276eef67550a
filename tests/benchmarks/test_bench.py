"""Every line of the benchmark runs at its smallest size, where ours and the published way must give the same answer."""

import json
from functools import partial

import pytest
from benchmarks.bench import MARKS, measure, put_in, table
from benchmarks.entries import ENTRIES, tower
from benchmarks.measure import exponent

SMALL = partial(tower, small=True)


@pytest.mark.parametrize("name", ENTRIES)
def test_both_ways_give_the_same_answer(name):
    entry = ENTRIES[name]
    found = measure(entry, entry.least, 1, SMALL)
    assert min(found["time_ratio"], found["memory_ratio"], *found["seconds"].values()) > 0
    assert found["memory_ratio"] <= entry.goals.get("memory_ratio", 1e9)
    assert f"| {entry.what} |" in table({name: json.loads(json.dumps(found))}, 1)
