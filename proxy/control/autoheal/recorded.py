"""Readings made from recorded points, for a replay: counts added up again, gauges as they were. Pure.

What points do not tell is told apart from 0: a watch that was not there yet, and waits to the nearest step of the
histogram instead of exact ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from proxy.control.autoheal.builtin import TIMEOUTS
from proxy.control.autoheal.contract import CONFIG, FILES, Reading
from proxy.control.autoheal.series import Thinned
from proxy.control.autoheal.window import LATE
from proxy.control.store.points import Point
from proxy.link.histogram import EDGES
from proxy.link.messages import Watch

Points = Sequence[tuple[int, Point]]
SERVING: Final = "ready"


class Recorded:
    """A series that grows point by point. `app`: the points are of an app as a whole."""

    def __init__(self, watches: Iterable[Watch], known_since: Mapping[str, float], keep: float, app: bool) -> None:
        self.series = Thinned(keep)
        self._watches = tuple(watches)
        self._known_since = known_since
        self._app = app
        self._last = Reading(at=0.0)
        self._waiting_since = 0.0

    def add(self, at: float, point: Point) -> Reading | None:
        """The reading at the end of the point; None while an instance was not ready."""
        if not self._app and point.lifecycle and point.lifecycle != SERVING:
            return None
        last = self._last
        if not last.at:
            last = Reading(at=at - max(point.seconds, LATE), unix=at - point.seconds)
            self.series.add(last)
        answers = sum(point.wait.values())
        waits = point.oldest_wait
        if not waits:
            self._waiting_since = 0.0
        elif not self._waiting_since:
            self._waiting_since = at - waits
        share = max(1, point.ready) if self._app else 1
        cpu = point.cpu / share if point.cpu is not None else None
        reading = Reading(
            at=at,
            unix=at,
            requests=last.requests + point.requests,
            classes=tuple(map(int.__add__, last.classes, point.classes)),
            faults=_plus(last.faults, point.faults),
            wait=_plus(last.wait, point.wait),
            watched=_plus(last.watched, self._watched(at, point)),
            answers=last.answers + answers,
            answered=at if answers else last.answered,
            inflight=point.inflight,
            slots=point.slots * share,
            queue=point.queue,
            oldest_wait=waits,
            waiting=at - self._waiting_since if self._waiting_since else 0.0,
            memory=_share(point.memory_max if point.memory_max is not None else point.memory, share),
            memory_limit=point.memory_limit,
            cpu=cpu,
            cpu_seconds=(last.cpu_seconds or 0.0) + cpu * point.seconds if cpu is not None else None,
            cpu_limit=point.cpu_limit,
            descriptors=_share(point.descriptors, share),
            descriptor_limit=point.descriptor_limit,
            age=point.age,
            probes_failed=point.probes_failed,
            unhealthy=point.unhealthy,
            instances=point.instances or 1,
            exits=last.exits + point.exits,
            files=point.files,
            config=point.config,
            changes=_changes(last, point, at),
        )
        self._last = reading
        self.series.add(reading)
        return reading

    def _watched(self, at: float, point: Point) -> dict[str, int]:
        """What was counted, or what can be told from the rest of the point."""
        found: dict[str, int] = {}
        for watch in self._watches:
            if at >= self._known_since.get(watch.key, float("inf")):
                found[watch.key] = point.watched.get(watch.key, 0)
            elif watch.path:
                continue
            elif watch.kind == "slow":
                waited = sum(count for place, count in point.wait.items() if place and EDGES[place - 1] >= watch.above)
                found[watch.key] = waited + sum(point.faults.get(name, 0) for name in TIMEOUTS)
            elif watch.kind == "fault":
                found[watch.key] = sum(point.faults.get(name, 0) for name in watch.names)
            elif watch.kind == "requests":
                found[watch.key] = point.requests
        return found


def known_since(watches: Iterable[Watch], points: Iterable[tuple[float, Point]]) -> dict[str, float]:
    """From when on workers counted each watch, as far as recorded points show it."""
    wanted = {watch.key for watch in watches}
    found: dict[str, float] = {}
    for at, point in points:
        for key in wanted & point.watched.keys():
            found.setdefault(key, at - point.seconds)
        if len(found) == len(wanted):
            break
    return found


def _plus(counts: Mapping[str, int] | Mapping[int, int], more: Mapping[str, int] | Mapping[int, int]) -> dict[Any, int]:
    if not more:
        return counts  # type: ignore[return-value]
    found: dict[Any, int] = dict(counts)
    for name, count in more.items():
        found[name] = found.get(name, 0) + count
    return found


def _share(value: int | None, share: int) -> int | None:
    return value // share if value is not None else None


def _changes(last: Reading, point: Point, at: float) -> Mapping[str, float]:
    changed = {
        name: at
        for name, before, after in ((FILES, last.files, point.files), (CONFIG, last.config, point.config))
        if before and after and before != after
    }
    return {**last.changes, **changed} if changed else last.changes
