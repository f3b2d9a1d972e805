"""Sentences and sums that analyzers share: how times, requests and sources are written, and how rings are read.

Times are Unix seconds. What comes from outside goes through `clean` before it stands in a sentence.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, NamedTuple

from proxy import units
from proxy.diagnostics.analyzers.contract import Proof, Remedy
from proxy.diagnostics.artifacts import Attempt, Exit, Instance, Known, Line, Record, Ring
from proxy.diagnostics.reading import only_attempt

RECORDS: Final = "flight_recorder"
RINGS: Final = "rings"
EVENTS: Final = "events"
EXITS: Final = "exits"
OUTPUT: Final = "log_tail"
STATE: Final = "state"
LATELY: Final = 300.0
"""Seconds before the look within which something counts as of now."""

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069]")
_QUERY: Final = re.compile(r"([?&][\w.%\[\]-]{1,64}=)[^&\s\"'<>…]+")
_NUMBERS: Final = re.compile(r"^(?:\d+|[0-9a-fA-F]{8,}|[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}|(?=.*\d)[\w-]{20,})$")


class Tried(NamedTuple):
    """One attempt, and the request that it was of."""

    record: Record
    attempt: Attempt

    @property
    def at(self) -> float:
        """When it ended."""
        return self.record.time + (self.attempt.began_us + self.attempt.took_us) / 1e6


@dataclass(frozen=True, slots=True)
class Span:
    """How often something was counted, and between which times."""

    count: int
    first: float = 0.0
    last: float = 0.0


# --- words -------------------------------------------------------------------------------------------


def stamp(at: float) -> str:
    """UTC to the second, in the form that the command shows as local time."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def clean(text: str, most: int = 160) -> str:
    """One line, harmless on a terminal, without values of queries, without a stop at its end."""
    text = _QUERY.sub(r"\1…", _CONTROL.sub("?", text[:4000].expandtabs(4))).strip()
    text = text if len(text) <= most else text[: most - 1] + "…"
    return text.rstrip(".") or text


def listed(names: Iterable[str], most: int = 3) -> str:
    """ "a, b and c", "a, b, c and 4 more"."""
    every = list(dict.fromkeys(names))
    if len(every) > most:
        return f"{', '.join(every[:most])} and {len(every) - most} more"
    return " and ".join([", ".join(every[:-1]), every[-1]]) if len(every) > 1 else "".join(every)


def request(record: Record) -> str:
    """ "GET /api/export": without its query."""
    return f"{clean(record.method, 16)} {clean(record.target.partition('?')[0], 60)}"


def shape(record: Record) -> str:
    """The same with `*` for parts that look like ids, so that requests of one kind count as one."""
    return _shape(record.method, record.target.partition("?")[0])


@lru_cache(maxsize=8192)
def _shape(method: str, path: str) -> str:
    """Asked for each record by many analyzers, and paths are few."""
    parts = ["*" if _NUMBERS.match(part) else part for part in path.split("/")]
    return f"{clean(method, 16)} {clean('/'.join(parts), 200)}"


def of(name: str, artifact: str) -> str:
    """A source: "web-7/stacks"."""
    return f"{name}/{artifact}" if name else artifact


def share(part: float, whole: float) -> str:
    """ "93 of 200 (46 %)"."""
    return f"{units.count(part)} of {units.count(whole)} ({units.percent(part / whole if whole else 0.0)})"


def proof(text: str, source: str = "") -> Proof:
    return Proof(text=text, source=source)


# --- remedies ----------------------------------------------------------------------------------------


def act(
    text: str, app: str, verb: str, expect: str, *, instance: str = "", **fields: str | int | float | bool
) -> Remedy:
    """What Triage can do itself; `verb` is of the admin API and of the command alike."""
    target = f"{app}/{instance}" if instance else app
    words = {"instances": "{}", "auto": "auto", "memory": "--memory {}", "cpus": "--cpus {}"}
    options = "".join(f" {words[name].format(value)}" for name, value in fields.items() if name in words)
    where = f"apps/{app}/instances/{instance}" if instance else f"apps/{app}"
    return Remedy(
        tag="mitigation",
        text=text,
        command=f"triage {verb} {target}{options}",
        act=f"{where}/{verb}",
        fields=fields,
        expect=expect,
    )


def look(text: str, command: str = "", expect: str = "") -> Remedy:
    return Remedy(tag="investigation", text=text, command=command, expect=expect)


def later(text: str, expect: str = "") -> Remedy:
    return Remedy(tag="prevention", text=text, expect=expect)


def dont(text: str, expect: str) -> Remedy:
    return Remedy(tag="mitigation", text=text, expect=expect, dont=True)


# --- rings -------------------------------------------------------------------------------------------


def values(ring: Ring | None, column: str, since: float = 0.0, until: float = 1e12) -> list[tuple[float, float]]:
    """(second, value) of those that are known."""
    if ring is None:
        return []
    return [
        (ring.start + at, value)
        for at, value in enumerate(ring.values.get(column, ()))
        if value is not None and value == value and since <= ring.start + at <= until
    ]


def total(ring: Ring | None, column: str, since: float = 0.0, until: float = 1e12) -> float:
    return sum(value for _, value in values(ring, column, since, until))


def mean(numbers: Sequence[float]) -> float | None:
    return sum(numbers) / len(numbers) if numbers else None


def middle(numbers: Iterable[float]) -> float | None:
    """The median."""
    every = sorted(numbers)
    if not every:
        return None
    half = len(every) // 2
    return every[half] if len(every) % 2 else (every[half - 1] + every[half]) / 2


def faults(known: Known, *names: str, key: str = "", since: float = 0.0) -> Span:
    """How often these were counted of the app (or of the ring `key`), by its ring, else by what was kept."""
    ring = known.rings.get(key)
    number, first, last = 0, 0.0, 0.0
    if ring is not None:
        for name in names:
            for at, count in enumerate(ring.faults.get(name, ())):
                if count and ring.start + at >= since:
                    number += count
                    first = min(first or ring.start + at, ring.start + at)
                    last = max(last, ring.start + at)
    kept = [one for one in tried(known, *names) if (not key or one.attempt.instance == key) and one.at >= since]
    if len(kept) > number:
        return Span(len(kept), min(one.at for one in kept), max(one.at for one in kept))
    return Span(number, float(first), float(last))


def requests(known: Known, since: float = 0.0, key: str = "") -> float:
    """How many came."""
    return total(known.rings.get(key), "requests", since)


# --- records -----------------------------------------------------------------------------------------


def tried(known: Known, *names: str) -> list[Tried]:
    """Attempts that ended in one of these faults, newest first: also those that were made good by another."""
    found = []
    for record in known.records:
        if record.attempts:
            found += [Tried(record, one) for one in record.attempts if one.fault in names]
        elif record.fault in names:
            found.append(Tried(record, only_attempt(record)))
    return found


def ends(record: Record) -> float:
    return record.time + record.total_us / 1e6


def good(record: Record) -> bool:
    """Answered, and not with a 5xx."""
    return not record.fault and 100 <= record.status < 500


def most(names: Iterable[str]) -> tuple[str, int]:
    """The one that is there most often, and how often; ("", 0) of nothing."""
    found = Counter(names).most_common(1)
    return found[0] if found else ("", 0)


# --- exits, lines and instances ----------------------------------------------------------------------


def ended_near(known: Known, name: str, at: float, before: float = 3.0, after: float = 1.5) -> Exit | None:
    """The end of that instance around a time."""
    near = [one for one in known.exits if one.instance == name and at - before <= one.at <= at + after]
    return min(near, key=lambda one: abs(one.at - at)) if near else None


def printed(known: Known, name: str, since: float, until: float) -> list[Line]:
    return [line for line in known.lines.get(name, ()) if since <= line.at <= until]


def covered(known: Known, name: str, at: float) -> bool:
    """Whether what that instance printed at that time would be among the lines at hand: only its last are."""
    lines = known.lines.get(name, ())
    return len(lines) > 0 and lines[0].at <= at


def all_lines(known: Known) -> Iterator[tuple[str, Line]]:
    for name, lines in known.lines.items():
        for line in lines:
            yield name, line


def running(known: Known) -> list[Instance]:
    """Those whose process runs, or that are addresses."""
    return [one for one in known.instances if not one.gone and (one.pid or one.kind == "address")]


def port(address: str) -> str:
    return address.rpartition(":")[2]
