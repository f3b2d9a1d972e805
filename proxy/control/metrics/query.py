"""A question about metrics over time, answered from the finest source that reaches back: rings of 1 s, or points.

Rings are in memory and reach back 15 minutes, or to control's start: what is before comes from points of 10 s. All
that takes time runs in threads: the store's reader, and one for rings.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from proxy.control.counters import ALL, Key
from proxy.control.metrics.buckets import Axis, Cells, Reader, axis, together
from proxy.control.metrics.ring import KEEP, Held
from proxy.control.metrics.rings import OF_APP, OF_OWN, Rings
from proxy.control.metrics.table import Metric
from proxy.control.state import AppState
from proxy.control.store.points import STEPS, Point, decode
from proxy.control.store.reader import LIMIT
from proxy.control.store.retention import POINTS_AGE
from proxy.control.store.sample import gently
from proxy.control.store.store import Store

EACH: Final = "each"
MOST_SERIES: Final = 2000
MOST_VALUES: Final = 400_000
SOURCES: Final = {1: "1 s", 10: "10 s", 60: "1 min", 3600: "1 h"}
_COLUMNS: Final = frozenset((*OF_APP, *OF_OWN))
_NOT_WHOLE: Final = ("host", ALL)


class TooMuch(Exception):
    """The answer would be too large; the text says how."""


class Sources(Protocol):
    """Of the gateway."""

    apps: dict[str, AppState]
    rings: Rings
    store: Store


@dataclass(frozen=True, slots=True)
class Asked:
    """`app`: a name, "each", or "" for the gateway; `instance`: a name, "each", or "" for all of it together;
    `stats`: one for each metric; `step` seconds, 0: as fits; times are Unix seconds."""

    metrics: tuple[Metric, ...]
    stats: tuple[str, ...]
    since: float
    until: float
    app: str = ""
    instance: str = ""
    fault: str = ""
    step: int = 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """One series: its name, and the keys of rings and points that it is made of."""

    metric: Metric
    stat: str
    app: str
    instance: str
    keys: tuple[Key, ...]


async def answer(of: Sources, asked: Asked, now: float | None = None) -> dict[str, Any]:
    """The API's shape. Raises NotReadable, TooMuch."""
    now = time.time() if now is None else now
    asked = replace(asked, until=min(asked.until, now))
    made, tier, ring_from = plan(asked, now, of.rings.first(("", ALL)), of.rings.second)
    if made.length * max(1, len(asked.metrics)) > MOST_VALUES:
        raise TooMuch(f"{made.length:,} steps: ask for a longer step, or a shorter time")
    known = set(of.rings.keys())
    if tier > 1:
        known |= await of.store.ask(lambda connection: _series(connection, asked, made, tier))
    wanted = list(_wanted(asked, tuple(of.apps), known))
    if len(wanted) > MOST_SERIES or len(wanted) * made.length > MOST_VALUES:
        raise TooMuch(f"{len(wanted):,} series of {made.length:,} steps: ask for one app or instance, or a longer step")
    readers = {metric: Reader(metric, asked.fault) for metric in asked.metrics}
    keys: dict[Key, list[Reader]] = {}
    for one in wanted:
        for key in one.keys:
            mine = keys.setdefault(key, [])
            if readers[one.metric] not in mine:
                mine.append(readers[one.metric])
    found: dict[tuple[Key, str], Cells] = {
        (key, reader.metric.id): {} for key, mine in keys.items() for reader in mine
    }
    if tier > 1:
        until = min(made.until, ring_from - STEPS[0] // 2) if ring_from else made.until
        await of.store.ask(lambda connection: _points(connection, keys, found, made, until, tier))
    if ring_from:
        held: dict[Key, Held] = {}
        for count, key in enumerate(keys):
            one_ring = of.rings.held(key)
            if one_ring is not None:
                held[key] = one_ring
            if count % 50 == 49:
                await asyncio.sleep(0)
        after = max(float(made.start), float(ring_from) if tier > 1 else 0.0)
        await asyncio.to_thread(_seconds, held, keys, found, made, after)
    series = await asyncio.to_thread(_shown, wanted, found, made)
    if made.until > now - tier - 2 and series and not any(shown["points"][-1][1] is not None for shown in series):
        for shown in series:  # the step that has just begun
            if len(shown["points"]) > 1:
                del shown["points"][-1]
    return {
        "from": made.start, "to": made.until, "step_s": made.step, "source": SOURCES[tier], "series": series,
    }  # fmt: skip


def plan(asked: Asked, now: float, ring_first: int, ring_last: int) -> tuple[Axis, int, int]:
    """The steps, the seconds of a point of the source, and the second after which rings are read; 0: they are not."""
    made = axis(asked.since, asked.until, asked.step)
    usable = ring_first and all(Reader(metric).in_rings(_COLUMNS) for metric in asked.metrics)
    if usable and ring_last >= now - KEEP and asked.since >= now - KEEP - 60:
        asked = replace(asked, until=min(asked.until, ring_last))
        if asked.since >= ring_first - 2:
            return made, 1, max(1, ring_first - 1)
        step = max(made.step, STEPS[0])
        return axis(asked.since, asked.until, step), STEPS[0], ring_first if asked.until > ring_first else 0
    reach = [tier for tier in STEPS if now - POINTS_AGE[tier] <= asked.since] or [STEPS[-1]]
    fits = [tier for tier in reach if tier <= made.step]
    tier = fits[-1] if fits else reach[0]
    if made.step < tier or made.step % tier:  # a point is not divided
        made = axis(asked.since, asked.until, -(-made.step // tier) * tier)
    return made, tier, 0


def _wanted(asked: Asked, apps: Sequence[str], known: set[Key]) -> list[Wanted]:
    found: list[Wanted] = []
    for metric, stat in zip(asked.metrics, asked.stats, strict=True):
        if metric.of_apps:
            found += _of_apps(metric, stat, asked, apps, known)
        else:
            found += _of_gateway(metric, stat, asked, known)
    return found


def _of_apps(metric: Metric, stat: str, asked: Asked, apps: Sequence[str], known: set[Key]) -> list[Wanted]:
    each = asked.instance == EACH or (metric.of == ("instance",) and not asked.instance)
    if asked.app == "" and not each and not asked.instance:
        return [Wanted(metric, stat, "", "", tuple((name, ALL) for name in apps))]
    found = []
    for app in apps if asked.app in ("", EACH) else (asked.app,):
        if each and "instance" in metric.of:
            names = sorted((name for of, name in known if of == app and name not in (ALL, "")), key=_natural)
            found += [Wanted(metric, stat, app, name, ((app, name),)) for name in names]
        elif asked.instance and not each:
            if (app, asked.instance) in known or asked.app == app:
                found.append(Wanted(metric, stat, app, asked.instance, ((app, asked.instance),)))
        else:
            found.append(Wanted(metric, stat, app, "", ((app, ALL),)))
    return found


def _of_gateway(metric: Metric, stat: str, asked: Asked, known: set[Key]) -> list[Wanted]:
    names = sorted((name for of, name in known if not of and name not in _NOT_WHOLE), key=_natural)
    workers = [name for name in names if name.startswith("worker")]
    if asked.instance and asked.instance != EACH and not asked.app:
        chosen = [asked.instance]
    elif metric.name and (asked.instance != EACH or len(metric.of) == 1):
        chosen = [metric.name]
    else:
        chosen = names if metric.name else workers
    return [Wanted(metric, stat, "", "" if name == ALL else name, (("", name),)) for name in chosen]


def _natural(name: str) -> tuple[str, int]:
    """`web-2` before `web-10`."""
    digits = name[len(name.rstrip("0123456789")) :]
    return name[: len(name) - len(digits)], int(digits) if digits else 0


def _series(connection: sqlite3.Connection, asked: Asked, made: Axis, tier: int) -> set[Key]:
    """Those that have points in that time, the newest MOST_SERIES of them."""
    then = (made.start, made.until + STEPS[0] // 2)
    there = " OR ".join(
        f"EXISTS (SELECT 1 FROM points_{one} WHERE series = s.id AND at > ? AND at <= ?)"
        for one in STEPS[: STEPS.index(tier) + 1]
    )
    values: list[Any] = list(then) * (STEPS.index(tier) + 1)
    if asked.app not in ("", EACH):
        there, values = f"app IN (?, '') AND ({there})", [asked.app, *values]
    found = connection.execute(
        f"SELECT app, instance FROM series s WHERE {there} ORDER BY id DESC LIMIT {MOST_SERIES}", values
    ).fetchall()
    return {(app, instance) for app, instance in found}


def _points(
    connection: sqlite3.Connection, keys: Mapping[Key, list[Reader]], found: dict[tuple[Key, str], Cells], made: Axis,
    until: int, tier: int,
) -> None:  # fmt: skip
    """Of all series, in the reader's thread; what is not rolled up yet comes from the tiers below.

    A point belongs to the step in which its middle lies: samples come some tenths after their time."""
    tiers = tuple(reversed(STEPS[: STEPS.index(tier) + 1]))
    ends = time.monotonic() + LIMIT
    for key, readers in keys.items():
        if time.monotonic() > ends:
            raise TooMuch(f"it took more than {LIMIT:g} s: ask for fewer series, a longer step, or a shorter time")
        series = connection.execute("SELECT id FROM series WHERE app = ? AND instance = ?", key).fetchone()
        if series is None:
            continue
        into = [(reader, found[key, reader.metric.id]) for reader in readers]
        after = float(made.start)
        for one in tiers:
            rows = connection.execute(
                f"SELECT at, body FROM points_{one} WHERE series = ? AND at > ? AND at <= ? ORDER BY at",
                (series[0], after, until + STEPS[0] // 2),
            ).fetchall()
            for at, body in gently(rows):
                point: Point | None = decode(body)
                place = made.place(at - point.seconds / 2) if point is not None else -1
                if point is None or place < 0:
                    continue
                for reader, cells in into:
                    reader.point(cells, place, at, point)
            after = rows[-1][0] if rows else after


def _seconds(
    held: Mapping[Key, Held], keys: Mapping[Key, list[Reader]], found: dict[tuple[Key, str], Cells], made: Axis,
    after: float,
) -> None:  # fmt: skip
    """In a thread."""
    for key, ring in held.items():
        for part in ring.parts():
            for reader in keys[key]:
                reader.part(found[key, reader.metric.id], made, part, after)
            time.sleep(0.0001)  # control's loop needs the same interpreter


def _shown(wanted: Sequence[Wanted], found: Mapping[tuple[Key, str], Cells], made: Axis) -> list[dict[str, Any]]:
    times = made.times()
    shown = []
    for one in gently(wanted):
        parts = [found[key, one.metric.id] for key in one.keys]
        cells = parts[0] if len(parts) == 1 else together(one.metric, parts)
        points = [
            [at, _rounded(cells[place].value(one.metric, one.stat)) if place in cells else None]
            for place, at in enumerate(times)
        ]
        shown.append(
            {
                "name": one.metric.id, "unit": one.metric.unit, "stat": one.stat, "app": one.app,
                "instance": one.instance, "points": points,
            }
        )  # fmt: skip
    return shown


def _rounded(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return int(value) if value.is_integer() else round(value, 6)
