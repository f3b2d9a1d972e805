"""What the tests of incremental parsers share: the h11 triple."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

Outcome = Any
Decode = Callable[[Iterable[bytes]], tuple[Outcome, bytes]]


def splits(data: bytes) -> list[list[bytes]]:
    """`data` as reads: whole, byte by byte, and in two at each place."""
    ways = [[data], [data[at : at + 1] for at in range(len(data))]]
    ways += [[data[:at], data[at:]] for at in range(1, len(data))]
    return ways


@pytest.fixture(scope="session")
def check_all_splits() -> Callable[..., None]:
    """Same verdict whole, byte by byte, split anywhere, and with the next message already behind it.

    `decode` takes an iterable of reads and gives (outcome, what was left over); an exception it raises is an
    outcome too, compared by type.
    """

    def check(decode: Decode, data: bytes, expected: Outcome, *, left: bytes = b"") -> None:
        for way in splits(data + left) if left else splits(data):
            assert _run(decode, way) == (expected, left), way
        if not left and not isinstance(expected, type):
            check(decode, data, expected, left=b"GET /next HTTP/1.1\r\n\r\n")

    return check


def _run(decode: Decode, way: list[bytes]) -> tuple[Outcome, bytes]:
    try:
        return decode(way)
    except Exception as error:
        return type(error), b""
