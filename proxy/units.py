"""Durations are float seconds, sizes int bytes, ratios floats; this is where they meet text.

`parse_*` read what a config file says and `write_*` write it back the same (`parse(write(x)) == x`);
`duration`, `millis`, `size`, `percent` and `count` are for people. Standard library only, because the
launcher imports it.
"""

from __future__ import annotations

import re
from typing import Final

MILLISECONDS: Final = 0.001
SECONDS: Final = 1.0
MINUTES: Final = 60.0
HOURS: Final = 3600.0
DAYS: Final = 86400.0

KB: Final = 1000
MB: Final = 1000**2
GB: Final = 1000**3
KIB: Final = 1024
MIB: Final = 1024**2
GIB: Final = 1024**3

_DURATIONS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SIZES: Final = {
    "B": 1, "kB": KB, "KB": KB, "MB": MB, "GB": GB, "TB": 1000**4,
    "KiB": KIB, "MiB": MIB, "GiB": GIB, "TiB": 1024**4,
}  # fmt: skip
_WRITTEN_SIZES: Final = ("TiB", "TB", "GiB", "GB", "MiB", "MB", "KiB", "KB")
_AMOUNT: Final = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,9})?)\s?([A-Za-z%]{1,3})", re.ASCII)

LONGEST: Final = 100 * 365 * DAYS
"""A longer duration is a mistake in the text, and would overflow a timer."""
LARGEST: Final = 2**62
"""A larger size does not fit where the kernel counts bytes."""


def parse_duration(text: str) -> float:
    """Seconds from "250ms", "5s", "10m", "1h" or "90d". Raises ValueError."""
    number, unit = _split(text)
    if unit == "ms":
        seconds = float(number) / 1000
    elif unit in _DURATIONS:
        seconds = float(number) * _DURATIONS[unit]
    else:
        raise ValueError(f"{text!r} is not a duration")
    if seconds > LONGEST:
        raise ValueError(f"{text!r} is more than 100 years")
    return seconds


def parse_size(text: str) -> int:
    """Bytes from "64KiB" (1024) or "512MB" (1000). Raises ValueError."""
    number, unit = _split(text)
    if unit not in _SIZES:
        raise ValueError(f"{text!r} is not a size")
    size = round(float(number) * _SIZES[unit]) if "." in number else int(number) * _SIZES[unit]
    if size > LARGEST:
        raise ValueError(f"{text!r} is more than can be counted")
    return size


def parse_ratio(text: str) -> float:
    """0.2 from "20%". Raises ValueError."""
    number, unit = _split(text)
    if unit != "%":
        raise ValueError(f"{text!r} is not a ratio")
    return float(number) / 100


def write_duration(seconds: float) -> str:
    """The shortest text that `parse_duration` reads as the same: "30s", "250ms", "90d"."""
    if seconds and seconds == int(seconds):
        whole = int(seconds)
        for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
            if whole % length == 0 and whole >= length * (2 if unit == "d" else 1):
                return f"{whole // length}{unit}"
    if 0 < seconds < 1:
        number = f"{seconds * 1000:.9f}".rstrip("0").rstrip(".")
        if float(number) / 1000 == seconds:
            return number + "ms"
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"


def write_size(size: int) -> str:
    """The shortest text that `parse_size` reads as the same: "64KiB", "2GB", "1500B"."""
    fitting = [(size // _SIZES[unit], unit) for unit in _WRITTEN_SIZES if size and size % _SIZES[unit] == 0]
    number, unit = min(fitting, default=(size, "B"))
    return f"{number}{unit}"


def write_ratio(ratio: float) -> str:
    """The text that `parse_ratio` reads as the same: "20%"."""
    return f"{ratio * 100:.9f}".rstrip("0").rstrip(".") + "%"


def duration(seconds: float) -> str:
    """For people: "0.3 ms", "689 ms", "9.8 s", "18 min", "5 h", "2 days"."""
    if seconds < 0:
        return "-" + duration(-seconds)
    if seconds < 0.00995:
        return f"{_short(seconds * 1000)} ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 99.5:
        return f"{_short(seconds)} s" if seconds < 59.95 else f"{seconds:.0f} s"
    if seconds < 99.5 * MINUTES:
        return f"{seconds / MINUTES:.0f} min"
    if seconds < 47.5 * HOURS:
        return f"{seconds / HOURS:.0f} h"
    return f"{seconds / DAYS:,.0f} days"


def millis(seconds: float) -> str:
    """For people, where figures are compared: always in ms, "5,001 ms"."""
    return f"{seconds * 1000:,.0f} ms" if seconds >= 0.00995 else f"{_short(seconds * 1000)} ms"


def size(amount: float) -> str:
    """For people, in decimal units: "1,912 bytes", "512 MB", "5.2 GB"."""
    if amount < 0:
        return "-" + size(-amount)
    if amount < 9999.5:
        return f"{amount:,.0f} byte{'' if round(amount) == 1 else 's'}"
    for unit, length in (("KB", KB), ("MB", MB), ("GB", GB)):
        if amount < 999.5 * length:
            return f"{_short(amount / length)} {unit}"
    return f"{_short(amount / 1000**4)} TB"


def percent(ratio: float) -> str:
    """For people: "20 %", "0.4 %"."""
    return f"{_short(ratio * 100)} %"


def several(number: int, word: str) -> str:
    """For people: "no requests", "1 request", "65,000 requests"."""
    return f"{count(number) if number else 'no'} {word}{'' if number == 1 else 's'}"


def count(number: float) -> str:
    """For people: "65,000"."""
    return f"{number:,.0f}"


def _short(number: float) -> str:
    """Two figures at least, and no ".0"."""
    text = f"{number:.1f}" if number < 9.95 else f"{number:,.0f}"
    return text.removesuffix(".0")


def _split(text: str) -> tuple[str, str]:
    match = _AMOUNT.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a number with a unit")
    return match[1], match[2]
