"""Ratios are taken within a round, errors have no figures, and a table finds its place in a document."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests import bench, table
from loadtests.bench import Measured
from loadtests.chaos import DOCUMENT as RELIABILITY
from loadtests.gateway import fault_of, flat
from loadtests.open_loop import percentile
from loadtests.report import DOCUMENT

RUNS = [
    Measured("nginx", "small", 0, cpu=10e-6, rate=1000.0),
    Measured("triage", "small", 0, cpu=15e-6, rate=900.0),
    Measured("nginx", "small", 1, cpu=20e-6, rate=500.0),
    Measured("triage", "small", 1, cpu=24e-6, rate=450.0),
    Measured("nginx", "small", 2, cpu=10e-6, rate=1000.0),
    Measured("triage", "small", 2, cpu=14e-6, rate=900.0),
    Measured("caddy", "small", 0, error="3 read errors"),
    Measured("caddy", "small", 1, cpu=50e-6, rate=100.0),
]


def test_ratios_are_taken_within_a_round() -> None:
    assert bench.ratios(RUNS, "triage", "small") == pytest.approx([1.5, 1.2, 1.4])
    assert bench.ratios(RUNS, "caddy", "small") == pytest.approx([2.5])


def test_a_row_shows_the_median_and_the_spread() -> None:
    (row,) = [row for row in bench.rows(RUNS) if row[1] == "triage"]
    assert row[2:6] == ["15.0", "1.40", "(1.20-1.50)", "≤ 1.5"]


def test_one_wrong_round_takes_all_figures_of_a_peer() -> None:
    (row,) = [row for row in bench.rows(RUNS) if row[1] == "caddy"]
    assert row[2] == "error"
    assert not any(row[3:])
    assert bench.errors(RUNS) == ["caddy, small GET: 3 read errors (1 of its rounds)"]


def test_tables_have_as_many_cells_as_their_head() -> None:
    rows = bench.rows(RUNS)
    assert all(len(row) == len(bench.HEAD) for row in rows)
    assert len(table.plain(bench.HEAD, rows).splitlines()) == len(rows) + 2
    assert table.markdown(("a", "b"), [("1", "2")]) == "| a | b |\n| --- | --: |\n| 1 | 2 |"


def test_a_table_is_put_between_its_marks(tmp_path: Path) -> None:
    path = tmp_path / "figures.md"
    path.write_text("before\n<!-- bench -->\nold\n<!-- end of bench -->\nafter\n")
    table.put(path, "bench", "new\n")
    assert path.read_text() == "before\n<!-- bench -->\nnew\n<!-- end of bench -->\nafter\n"
    with pytest.raises(ValueError, match="no place for idle"):
        table.put(path, "idle", "new")


@pytest.mark.parametrize(
    "name", ["bench", "latency", "overload", "idle", "slow_instance", "faults", "instances", "stall"]
)
def test_the_document_has_a_place_for_every_load_test(name: str) -> None:
    document = DOCUMENT.read_text()
    assert document.count(f"<!-- {name} -->") == document.count(f"<!-- end of {name} -->") == 1


@pytest.mark.parametrize("name", ["chaos", "how_soon", "healthy_day", "control_cost"])
def test_the_document_of_reliability_has_a_place_for_its_own(name: str) -> None:
    document = RELIABILITY.read_text()
    assert document.count(f"<!-- {name} -->") == document.count(f"<!-- end of {name} -->") == 1


def test_percentiles_are_values_that_were_measured() -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.5) == 3.0
    assert percentile([1.0], 0.99) == 1.0
    assert percentile([], 0.5) != percentile([], 0.5)


def test_a_fault_is_named_by_its_proxy_status() -> None:
    status = b'Proxy-Status: triage; error=connection_limit_reached; details="queue-full"'
    head = b"HTTP/1.1 503 Service Unavailable\r\n" + status + b"\r\n\r\n"
    assert fault_of(head) == "queue-full"
    assert fault_of(b"HTTP/1.1 200 OK\r\n\r\n") is None


def test_flat_memory_may_breathe() -> None:
    assert flat(100 * 2**20, 106 * 2**20)
    assert not flat(100 * 2**20, 108 * 2**20)
