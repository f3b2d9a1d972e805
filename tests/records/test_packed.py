"""Stored points as few bytes: what goes in comes out, whatever was written before is read, and it is small."""

from __future__ import annotations

import hashlib
import random
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.control.store import packed, points
from proxy.control.store.points import Point
from proxy.link import histogram

DICTIONARY: Final = "a1b8112121d753a64e28bdd939b46a44399025519850cfab9b52c0d6e5265d6e"
"""SHA-256 of the dictionary that files in the field were written with."""


@given(st.dictionaries(st.integers(0, 255), st.integers(0, 2**64 - 1)))
def test_a_histogram_comes_out_as_it_went_in(counts: dict[int, int]) -> None:
    assert packed.unpack(packed.pack(counts)) == {bucket: count for bucket, count in counts.items() if count}


@pytest.mark.parametrize("counts", [{256: 1}, {-1: 1}, {1: 2**64}])
def test_what_is_no_histogram_of_ours_is_refused(counts: dict[int, int]) -> None:
    with pytest.raises(ValueError):
        packed.pack(counts)
    point = Point(seconds=10.0, total=counts if max(counts.values()) < 2**64 else {300: 1})
    assert points.decode(points.encode(point)) == point, "it is stored all the same, unpacked"


@given(st.binary(max_size=60))
def test_nonsense_is_no_point(data: bytes) -> None:
    assert points.decode(b"\x01" + data) is None or len(data) > 20
    try:
        packed.unpack(data)
    except (ValueError, IndexError):
        pass


def test_a_point_as_it_was_written_before_is_read() -> None:
    point = Point(seconds=10.0, requests=3, total={5: 2, 9: 1}, wait={5: 3})
    assert points.decode(points._encode(point)) == point


def test_the_dictionary_is_the_one_that_files_were_written_with() -> None:
    assert hashlib.sha256(packed._DICTIONARY).hexdigest() == DICTIONARY


def test_a_busy_point_is_small() -> None:
    rng = random.Random(3)
    total: dict[int, int] = {}
    for _ in range(1200):
        histogram.merge(total, {histogram.bucket(rng.lognormvariate(-3.2, 0.8)): 1})
    point = Point(seconds=10.0, requests=1200, total=total, wait=dict(total), lifecycle="ready", memory=50_000_000)
    assert len(points.encode(point)) < 0.6 * len(points._encode(point))
    assert len(points.encode(Point(seconds=10.0))) < 100
