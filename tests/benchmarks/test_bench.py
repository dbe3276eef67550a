"""Every line of the benchmark runs at its smallest size, where ours and the published way must give the same answer."""

import json
from functools import partial

import pytest
from benchmarks.bench import ROOT, measure, table
from benchmarks.cases import tower
from benchmarks.entries import ENTRIES
from benchmarks.measure import exponent
from benchmarks.page import put_in
from benchmarks.reckon import tables

SMALL = partial(tower, small=True)


@pytest.mark.parametrize("name", ENTRIES)
def test_both_ways_give_the_same_answer(name):
    entry = ENTRIES[name]
    found = measure(entry, entry.least, 1, SMALL)
    assert min(found["time_ratio"], found["memory_ratio"], *found["seconds"].values()) > 0
    assert found["memory_ratio"] <= 3 * entry.goals.get("memory_ratio", 1e9), "ten times the images ask for nearly as much memory"
    assert f"| {entry.what} |" in table({name: json.loads(json.dumps(found))}, 1)


def test_growth_is_the_power_of_a_size():
    assert exponent([10, 20, 40], [3, 12, 48]) == pytest.approx(2)
    assert exponent([10, 20, 40], [3, 3, 3]) == pytest.approx(0)


def test_a_table_takes_the_place_of_the_one_before(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- times -->\nold\n<!-- end of times -->\nafter\n")
    assert put_in(page, "times", "| new |") == "old"
    assert page.read_text() == "before\n<!-- times -->\n| new |\n<!-- end of times -->\nafter\n"
    with pytest.raises(ValueError, match="put the lines <!-- sizes --> and <!-- end of sizes --> where it belongs"):
        put_in(page, "sizes", "")


def test_the_page_says_what_is_reckoned(tmp_path):
    page = tmp_path / "scale.md"
    page.write_text((ROOT / "docs" / "scale.md").read_text())
    assert put_in(page, "reckoned", "") == tables(), "run python tests/benchmarks/reckon.py"
