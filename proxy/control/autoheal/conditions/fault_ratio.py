"""The share of requests that failed."""

from __future__ import annotations

from typing import Final

from proxy import units
from proxy.config.conditions import Condition
from proxy.control.autoheal import watched
from proxy.control.autoheal.contract import Kind, Reading, Seen, Series
from proxy.control.autoheal.window import gauge, unknown, window
from proxy.faults import FAULTS, Blame, Fault, Origin, Phase
from proxy.link.messages import Watch


def _counts(fault: Fault) -> bool:
    """Whether a client was, or would have been, failed by the app or by Triage; never by the client itself, by a person
    (stopped, held), or by a connection that was merely stale."""
    if fault.origin is Origin.GATEWAY:
        return True
    return fault.origin is Origin.INSTANCE and (fault.blame is not Blame.NO or fault.phase in (Phase.LIMIT, Phase.PICK))


NAMES: Final = tuple(name for name, fault in FAULTS.items() if _counts(fault))


def watches(condition: Condition) -> tuple[Watch, ...]:
    if not condition.path:
        return ()
    return watched.requests(condition.path), watched.fault(NAMES, condition.path)


def look(condition: Condition, series: Series, now: float) -> Seen:
    threshold = condition.above if condition.above is not None else condition.below or 0.0
    found = window(series, now, condition.within)
    if found is None:
        return unknown(condition, threshold, "ratio", "no reading yet")
    if condition.path:
        asked, failed = (watch.key for watch in watches(condition))
        requests = found.grown(lambda reading: reading.watched.get(asked, 0))
        faults = found.grown(lambda reading: reading.watched.get(failed, 0))
    else:
        requests, faults = found.grown(lambda reading: reading.requests), found.grown(_faults)
    requests = max(requests, faults)  # attempts that failed here, while the requests ended elsewhere
    on = f" of {condition.path}" if condition.path else ""
    words = f"{units.count(faults)} of {units.count(requests)} requests{on} failed"
    words += f" in the last {units.write_duration(condition.within)}"
    if requests < condition.count or not requests:
        more = f", too few to say: {condition.count} are needed" if condition.count > 1 else ""
        return unknown(condition, threshold, "ratio", words + more)
    return gauge(condition, faults / requests, "ratio", words)


def _faults(reading: Reading) -> int:
    return sum(count for name, count in reading.faults.items() if name in _NAMES)


_NAMES: Final = frozenset(NAMES)

KIND = Kind(
    name="fault_ratio",
    scope="instance",
    about="Of at least `count` requests within `within`, the share that failed by the app's or Triage's doing. What"
    " clients do wrong, what a person asked for (stopped, held) and stale connections do not count.",
    look=look,
    watches=watches,
    recorded=lambda condition: "requests of that path before the rule was there" if condition.path else "",
    example='{ fault_ratio = { above = "20%", count = 50, for = "30s" } }',
)
