"""What became of a chaos run's requests, by the disturbance in whose time they ended; which promises that breaks.

Pure: outcomes, windows and the app's book in, rows and broken promises out.

Always true:
  - each outcome belongs to one window: the last that had begun when it ended;
  - a request counts as inside a killed worker only if it was sent before that worker was gone, lost its connection
    without an answer after the signal, and its connection is not known to be another worker's.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from loadtests.chaos_load import Outcome

# What can befall a request that an instance had when it ended or stopped. Any other fault of a POST would have been the
# gateway's to avoid: nothing of the request had been sent, or no instance was asked at all.
ON_INSTANCE: Final = frozenset(
    {
        "instance-exited", "closed-before-head", "reset-before-head", "stale-connection", "head-timeout",
        "send-timeout", "instance-recycled",
    }
)  # fmt: skip


class Promise(Enum):
    """What a disturbance may cost. The value is how the table says it."""

    NOTHING = "nothing fails"
    INSTANCE = "no idempotent fails; others only on that instance"
    WORKER = "only what is inside that worker"
    EXIT = "at most the request on it at each exit"


@dataclass(frozen=True, slots=True)
class Killed:
    """A worker's end: when it got the signal, and when it was gone."""

    worker: int
    at: float
    gone: float


@dataclass(slots=True)
class Window:
    """The time of one disturbance, from its act until all was well again."""

    name: str
    promise: Promise
    began: float
    ended: float = 0.0
    workers: list[Killed] = field(default_factory=list)
    exits: int = 0  # instances that ended by themselves
    broken: str = ""  # why the act itself did not go as it should


@dataclass(slots=True)
class Counts:
    """Of one method in one kind of disturbance."""

    sent: int = 0
    answered: int = 0
    failed: Counter[str] = field(default_factory=Counter)  # by fault
    inside: int = 0  # a killed worker
    slowest: float = 0.0  # seconds from when it was due to its answer


@dataclass(slots=True)
class Row:
    """All times of one disturbance together."""

    name: str
    promise: Promise
    times: int = 0
    exits: int = 0
    methods: dict[str, Counts] = field(default_factory=lambda: {"GET": Counts(), "POST": Counts()})
    broken: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Tally:
    """The whole run."""

    rows: dict[str, Row]
    failures: list[tuple[Window, Outcome]]  # all but those inside a killed worker
    executed_twice: list[int]
    not_executed: list[int]  # answered POSTs that are not in the book
    failed_executed: int = 0  # failed POSTs that are in the book
    failed_not_executed: int = 0

    def of(self, method: str) -> Counts:
        """Of all disturbances together."""
        whole = Counts()
        for row in self.rows.values():
            one = row.methods[method]
            whole.sent += one.sent
            whole.answered += one.answered
            whole.failed += one.failed
            whole.inside += one.inside
            whole.slowest = max(whole.slowest, one.slowest)
        return whole

    def broken(self) -> list[str]:
        """Every promise that was not kept, in words."""
        found = [f"POST {number} was executed more than once" for number in self.executed_twice[:20]]
        found += [f"POST {number} was answered but never executed" for number in self.not_executed[:20]]
        for row in self.rows.values():
            found += [f"{row.name}: {said}" for said in row.broken]
            get, post = row.methods["GET"].failed, row.methods["POST"].failed
            wrong: Counter[str] = Counter()
            match row.promise:
                case Promise.NOTHING | Promise.WORKER:
                    wrong = get + post
                case Promise.INSTANCE:
                    wrong = get + Counter({name: n for name, n in post.items() if name not in ON_INSTANCE})
                case Promise.EXIT:
                    both = get + post
                    wrong = Counter({name: n for name, n in both.items() if name not in ON_INSTANCE})
                    if both.total() > row.exits:
                        found.append(f"{row.name}: {both.total()} failed at {row.exits} exits")
            if wrong:
                said = ", ".join(f"{count} {name}" for name, count in sorted(wrong.items()))
                found.append(f"{row.name}: promised that {row.promise.value}; failed: {said}")
        return found


def inside(outcome: Outcome, window: Window) -> bool:
    """Whether it was inside a worker that was killed in this window."""
    return outcome.failure == "closed" and any(
        0.0 < outcome.sent <= killed.gone and outcome.ended >= killed.at and outcome.worker in (0, killed.worker)
        for killed in window.workers
    )


def tally(outcomes: Iterable[Outcome], windows: Sequence[Window], book: Iterable[int]) -> Tally:
    """Count. `windows` are in order and begin before the first request does."""
    written = Counter(book)
    result = Tally({}, [], sorted(number for number, times in written.items() if times > 1), [])
    for window in windows:
        row = result.rows.setdefault(window.name, Row(window.name, window.promise))
        row.times += 1
        row.exits += window.exits
        if window.broken:
            row.broken.append(window.broken)
    begins = [window.began for window in windows]
    for outcome in outcomes:
        window = windows[max(0, bisect_right(begins, outcome.ended) - 1)]
        counts = result.rows[window.name].methods[outcome.method]
        counts.sent += 1
        counts.slowest = max(counts.slowest, outcome.ended - outcome.due)
        executed = outcome.number in written
        if outcome.good:
            counts.answered += 1
            if outcome.method == "POST" and not executed:
                result.not_executed.append(outcome.number)
            continue
        if outcome.method == "POST":
            result.failed_executed += executed
            result.failed_not_executed += not executed
        if inside(outcome, window):
            counts.inside += 1
        else:
            counts.failed[outcome.failure] += 1
            result.failures.append((window, outcome))
    return result
