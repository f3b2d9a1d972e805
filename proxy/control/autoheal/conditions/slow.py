"""Slow answers: what was waited for is the response head, from the request sent whole."""

from __future__ import annotations

from proxy import units
from proxy.config.conditions import Condition
from proxy.control.autoheal import watched
from proxy.control.autoheal.contract import Kind, Seen, Series
from proxy.control.autoheal.window import counted
from proxy.link.messages import Watch


def watches(condition: Condition) -> tuple[Watch, ...]:
    return (_watch(condition),)


def _watch(condition: Condition) -> Watch:
    limit = condition.above if condition.above is not None else condition.below or 0.0
    return watched.slow(limit, watched.of(condition))


def look(condition: Condition, series: Series, now: float) -> Seen:
    watch = _watch(condition)
    on = f" of {condition.path}" if condition.path else ""
    what = f"requests{on} waited over {units.duration(watch.above)} for the response head"
    return counted(condition, series, now, lambda reading: reading.watched.get(watch.key, 0), what)


KIND = Kind(
    name="slow",
    scope="instance",
    about="`count` requests within `within` waited longer than `above` for the response head, answered or not. A"
    " request is waited for from the moment it was sent whole until its head is there: uploads, content, streams and"
    " tunnels are no wait. `below`: fewer than `count` waited so long.",
    look=look,
    watches=watches,
    recorded=lambda condition: (
        "waits of that path before the rule was there"
        if condition.path
        else "waits that no answer ended, before the rule was there; the others to the nearest step of the histogram"
    ),
    example='{ slow = { above = "5s", count = 20, within = "1m", path = "/api/*" } }',
)
