"""Objects by type: how many, and how many bytes of their own.

The garbage collector knows the containers; bytes, strings and numbers are found one step from them. A look takes
BUDGET seconds at most, in pieces after which other threads get their turn. Where that is not enough for all, it has
looked at an even share of them, and counts are scaled up: the answer says so.
"""

from __future__ import annotations

import gc
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

BUDGET = 0.2
"""Seconds of work, pauses not counted."""
PIECE = 500
"""Objects looked at between two pauses: a millisecond or less."""
BLOCKS = 8_000_000
"""Allocated blocks beyond which the list of the oldest objects alone would stop the app for too long."""
ROWS = 100
PER = 200
"""Items of one container that are looked at; the rest is taken to be like them."""
STRIDE = 16
_ORDER = (0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15)
STEP = 5000
_NONE = (0.0, 0.0)
_ATOMS = frozenset((bytes, str, int, float, bytearray, complex))
_CONTAINERS = frozenset((list, tuple, dict, set, frozenset))

_METHOD = type(list.__dict__["__sizeof__"])

_perf = time.perf_counter
_sleep = time.sleep


def answer(stopped: Callable[[], bool]) -> bytes:
    """First line: objects, bytes, share looked at (1.0: all), seconds, garbage, note; then name, count, bytes; all
    parted by tabs, most bytes first."""
    began = _perf()
    note = ""
    if sys.getallocatedblocks() > BLOCKS:
        found: list[Any] = []
        for generation in (0, 1):
            found += gc.get_objects(generation)
        note = f"more than {BLOCKS // 1_000_000} million blocks: only the youngest objects were looked at"
    else:
        found = gc.get_objects()
    counts: dict[type, list[float]] = {}
    exact: dict[type, list[float]] = {}
    seen: set[int] = set()
    looked = 0
    spent = _perf() - began
    total = len(found)
    complete = whole = True
    # Large containers are few and hold most: each is looked at, so that none is missed or counted for others.
    for start in range(0, total, STEP):
        if spent > BUDGET / 2 or stopped():
            whole = False
            break
        since = _perf()
        for one in [one for one in found[start : start + STEP] if type(one) in _CONTAINERS and len(one) > PER]:
            _count(one, exact, seen)
        spent += _perf() - since
        _sleep(0)
    for offset in _ORDER:
        if not complete:
            break
        for start in range(offset, total, STRIDE * PIECE):
            if spent > BUDGET or stopped():
                complete = False
                break
            since = _perf()
            part = found[start : start + STRIDE * PIECE : STRIDE]
            for one in part:
                if type(one) not in _CONTAINERS or len(one) <= PER:
                    _count(one, counts, seen)
            looked += len(part)
            del part
            spent += _perf() - since
            _sleep(0)
    one = None
    del found
    share = looked / total if total else 1.0
    scale = 1.0 / share if share else 0.0
    rows: list[tuple[int, int, str]] = []
    objects = size = 0.0
    for kind in {**counts, **exact}:
        count, taken = counts.get(kind, _NONE)
        certain, of_them = exact.get(kind, _NONE)
        count, taken = count * scale + certain, taken * scale + of_them
        objects += count
        size += taken
        rows.append((int(taken), int(count), _name(kind)))
    rows.sort(reverse=True)
    if not (complete and whole) and not note:
        note = "the time was enough for a part of them: counts are estimates"
    took = _perf() - began
    head = f"{int(objects)}\t{int(size)}\t{share:.4f}\t{took:.4f}\t{len(gc.garbage)}\t{note}"
    lines = [f"{name}\t{count}\t{taken}" for taken, count, name in rows[:ROWS]]
    return ("\n".join([head, *lines]) + "\n").encode("utf-8", "replace")


def _count(one: Any, counts: dict[type, list[float]], seen: set[int]) -> None:
    kind = type(one)
    entry = counts.get(kind)
    if entry is None:
        entry = counts[kind] = [0.0, 0.0]
    entry[0] += 1
    entry[1] += _size(one, kind)
    weight = 1.0
    if kind in _CONTAINERS:
        length = len(one)
        if not length:
            return
        if length > PER:
            weight = length / PER
            items = _some(one, kind)
        else:
            items = gc.get_referents(one)
    else:
        items = gc.get_referents(one)
        if len(items) > PER:
            weight = len(items) / PER
            items = items[:PER]
    for item in items:
        atom = type(item)
        if atom in _ATOMS:
            mark = id(item)
            if mark in seen:
                continue
            if len(seen) < 500_000:
                seen.add(mark)
            entry = counts.get(atom)
            if entry is None:
                entry = counts[atom] = [0.0, 0.0]
            entry[0] += weight
            entry[1] += weight * sys.getsizeof(item)


def _some(one: Any, kind: type) -> list[Any]:
    """Of a large container, without going through all of it."""
    from itertools import islice

    if kind is list or kind is tuple:
        return list(one[:: max(1, len(one) // PER)][:PER])
    if kind is dict:
        half = PER // 2
        return [*islice(one, half), *islice(one.values(), half)]
    return list(islice(one, PER))


def _size(one: Any, kind: Any) -> int:
    """Without calling a method of the app's own."""
    if kind not in _CONTAINERS and kind not in _ATOMS:
        found = kind.__dict__.get("__sizeof__")
        if found is None or type(found) is not _METHOD:
            return int(kind.__basicsize__) + 16
    return int(kind.__sizeof__(one)) + 16


def _name(kind: Any) -> str:
    module = kind.__module__
    plain = not isinstance(module, str) or module == "builtins"
    name = kind.__qualname__ if plain else f"{module}.{kind.__qualname__}"
    return name.replace("\t", " ").replace("\n", " ")[:200]
