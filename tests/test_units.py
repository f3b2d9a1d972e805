"""Durations, sizes and ratios: read, written back, and said to people."""

import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy import units

ANY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a slow machine is no failure


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("5s", 5.0),
        ("1.5s", 1.5),
        ("10m", 600.0),
        ("1h", 3600.0),
        ("24h", 86400.0),
        ("90d", 7776000.0),
        ("0s", 0.0),
        ("5 s", 5.0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert units.parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64KiB", 65536),
        ("8KiB", 8192),
        ("512MB", 512_000_000),
        ("2GB", 2_000_000_000),
        ("1.5GiB", 1610612736),
        ("0B", 0),
        ("1kB", 1000),
        ("1TiB", 1024**4),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert units.parse_size(text) == size


def test_ratios() -> None:
    assert units.parse_ratio("20%") == 0.2
    assert units.parse_ratio("0.5%") == 0.005


@pytest.mark.parametrize(
    "text", ["", "5", "s", "5x", "-5s", "5s5s", "1e3s", "٥s", "5 0s", "99999999999999d", "5%"]
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError):
        units.parse_duration(text)


@pytest.mark.parametrize("text", ["", "64", "64K", "64kib", "-1B", "1mb", "99999999999TiB", "5s"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError):
        units.parse_size(text)


@pytest.mark.parametrize("text", ["", "20", "0.2", "20 percent", "%"])
def test_what_is_no_ratio(text: str) -> None:
    with pytest.raises(ValueError):
        units.parse_ratio(text)


@pytest.mark.parametrize("text", ["250ms", "5s", "90s", "10m", "1h", "24h", "90d", "0s", "1.5s", "0.5ms"])
def test_durations_are_written_as_they_were_read(text: str) -> None:
    assert units.write_duration(units.parse_duration(text)) == text


@pytest.mark.parametrize("text", ["64KiB", "512MB", "2GB", "100MB", "1500B", "0B", "1GiB"])
def test_sizes_are_written_as_they_were_read(text: str) -> None:
    assert units.write_size(units.parse_size(text)) == text


@ANY
@given(st.integers(0, units.LARGEST))
def test_any_size_comes_back(size: int) -> None:
    assert units.parse_size(units.write_size(size)) == size


@ANY
@given(st.integers(0, 5 * 10**7), st.sampled_from(["ms", "s", "m"]))
def test_any_duration_comes_back(number: int, unit: str) -> None:
    seconds = units.parse_duration(f"{number}{unit}")
    assert units.parse_duration(units.write_duration(seconds)) == seconds


@ANY
@given(st.integers(0, 100_000))
def test_any_ratio_comes_back(number: int) -> None:
    ratio = units.parse_ratio(f"{number / 1000}%")
    assert units.parse_ratio(units.write_ratio(ratio)) == pytest.approx(ratio)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.689, "689 ms"),
        (0.0003, "0.3 ms"),
        (0.001, "1 ms"),
        (0.0, "0 ms"),
        (0.04249, "42 ms"),
        (0.9996, "1 s"),
        (9.8, "9.8 s"),
        (13.1, "13 s"),
        (59.99, "60 s"),
        (18 * 60, "18 min"),
        (5 * 3600, "5 h"),
        (48 * 3600, "2 days"),
        (-0.689, "-689 ms"),
    ],
)
def test_durations_for_people(seconds: float, said: str) -> None:
    assert units.duration(seconds) == said


@pytest.mark.parametrize(
    ("amount", "said"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (1912, "1,912 bytes"),
        (512_000_000, "512 MB"),
        (5_200_000_000, "5.2 GB"),
        (65536, "66 KB"),
        (3 * 10**12, "3 TB"),
    ],
)
def test_sizes_for_people(amount: int, said: str) -> None:
    assert units.size(amount) == said


def test_other_figures_for_people() -> None:
    assert units.millis(5.001) == "5,001 ms"
    assert units.percent(0.004) == "0.4 %"
    assert units.percent(0.2) == "20 %"
    assert units.count(65000) == "65,000"


def test_the_launcher_may_import_it() -> None:
    heavy = {"msgspec", "asyncio", "typing_extensions", "decimal"}
    code = f"import sys; import proxy.units; print(*sorted({heavy} & set(sys.modules)))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "\n"
    )
