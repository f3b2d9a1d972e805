"""What Triage is asked to do, and how it goes: an operation with its steps, from the asking to `done` or `failed`.

Always true:
  - an operation ends once, with a `why` when it failed;
  - those that run are in the ledger, so that a new control goes on with them; those that ended are kept in a ring, and
    each is in the events with who asked and why.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final

from proxy.control.state import Event

BY_HAND: Final = "by hand"
KEPT: Final = 200
MOMENT: Final = 2.0
"""Seconds for which one that has ended stays in the ledger: the store may not have it yet, who asked may not know."""
STEPS: Final = 200
"""Of one operation; a restart of a thousand instances tells its first and its last."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Who or what wants an act, and why: it is written into everything that follows from it."""

    by: str  # "by hand", "rule slow", "rule hung (built in)", "config", "watch", "scale"
    reason: str = ""
    rule: str = ""
    value: str = ""  # what the rule saw: "web-2: 24 requests slower than 5 s in 1m"
    collect: bool = True  # take evidence before an instance ends
    batch: float = 0.0  # share of the app's instances at once; 0.0: one at a time

    way: str = ""  # how it came in: "socket, uid 0, pid 4711", "token, from 127.0.0.1"

    @property
    def by_a_person(self) -> bool:
        """What a person set is not undone by what a rule or a change asks for."""
        return self.by == BY_HAND


@dataclass(slots=True)
class Step:
    at: float  # Unix seconds
    text: str


@dataclass(slots=True)
class Operation:
    """`targets` are the instances it is about: those that are to be replaced, ejected, stopped."""

    id: str
    act: str  # "recycle", "restart", "scale", …
    app: str
    instance: str
    asked: Asked
    began: float  # Unix seconds
    state: str = "running"  # "running" | "done" | "failed"
    ended: float = 0.0
    why: str = ""  # of a failure, or what it came to
    steps: list[Step] = field(default_factory=list)
    targets: tuple[str, ...] = ()
    evidence: str = ""  # "4 of 4 artifacts in diagnostics/…"
    details: dict[str, Any] = field(default_factory=dict)
    told: int = 0  # steps so far, those included that are not kept
    over: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    moved: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    """Set with the next step or the end; then another takes its place."""

    @property
    def target(self) -> str:
        if self.instance:
            return f"{self.app}/{self.instance}"
        return self.app or str(self.details.get("target", "gateway"))

    @property
    def running(self) -> bool:
        return self.state == "running"

    def __repr__(self) -> str:
        return f"<Operation {self.id} {self.act} {self.target} {self.state}>"


class Operations:
    """All of them. `event` is shared.event, `changed` is shared.noted."""

    def __init__(self, event: Callable[..., Event], changed: Callable[[], None]) -> None:
        self._event = event
        self._changed = changed
        self._known: dict[str, Operation] = {}
        self._ended: deque[str] = deque()
        self._next = 1
        self.keep: Callable[[Operation], None] = lambda operation: None
        """Called with each one that has ended."""

    def at_least(self, number: int) -> None:
        """The next number is not below this one."""
        self._next = max(self._next, number)

    def begin(self, act: str, app: str, instance: str, asked: Asked, **details: Any) -> Operation:
        operation = Operation(f"op-{self._next}", act, app, instance, asked, time.time(), details=details)
        self._next += 1
        self._known[operation.id] = operation
        because = f": {asked.reason}" if asked.reason else ""
        saw = f" (saw {asked.value})" if asked.value else ""
        self._event(
            act, f"{act} of {operation.target}, {asked.by}{because}{saw}", app, instance,
            operation=operation.id, by=asked.by, reason=asked.reason, rule=asked.rule, value=asked.value,
            way=asked.way, **details,
        )  # fmt: skip
        self._changed()
        return operation

    def record(
        self, act: str, target: str, asked: Asked, began: float, steps: Iterable[str], *, why: str = "", **details: Any
    ) -> Operation:
        """One that is over already, and of which an event has told. With `why` it failed."""
        operation = Operation(f"op-{self._next}", act, "", "", asked, began, details={"target": target, **details})
        self._next += 1
        operation.state, operation.why, operation.ended = "failed" if why else "done", why, time.time()
        operation.steps = [Step(operation.ended, text) for text in steps][:STEPS]
        operation.told = len(operation.steps)
        self._known[operation.id] = operation
        self._over(operation)
        return operation

    def step(self, operation: Operation, text: str) -> None:
        """One more line of what was done."""
        if operation.running:
            operation.steps.append(Step(time.time(), text))
            operation.told += 1
            if len(operation.steps) > STEPS:
                del operation.steps[STEPS // 2]
            self._move(operation)
            self._changed()

    def done(self, operation: Operation, why: str = "") -> None:
        self._end(operation, "done", why)

    def failed(self, operation: Operation, why: str) -> None:
        self._end(operation, "failed", why)

    def get(self, id: str) -> Operation | None:
        return self._known.get(id)

    def running(self, app: str = "", instance: str = "") -> list[Operation]:
        """Those that are under way, of an app, or of one instance."""
        return [
            one
            for one in self._known.values()
            if one.running
            and (not app or one.app == app)
            and (not instance or one.instance == instance or instance in one.targets)
        ]

    def __iter__(self) -> Iterator[Operation]:
        """Oldest first."""
        return iter(self._known.values())

    def _end(self, operation: Operation, state: str, why: str) -> None:
        if not operation.running:
            return
        operation.state, operation.why, operation.ended = state, why, time.time()
        took = operation.ended - operation.began
        said = f"{operation.act} of {operation.target} {state} after {took:.1f} s" + (f": {why}" if why else "")
        self._event(
            f"{operation.act}-{state}", said, operation.app, operation.instance,
            operation=operation.id, by=operation.asked.by, rule=operation.asked.rule, evidence=operation.evidence,
        )  # fmt: skip
        self._over(operation)

    def _over(self, operation: Operation) -> None:
        self._ended.append(operation.id)
        while len(self._ended) > KEPT:
            del self._known[self._ended.popleft()]
        operation.over.set()
        self.keep(operation)
        self._move(operation)
        self._changed()

    @staticmethod
    def _move(operation: Operation) -> None:
        """Wake who waits for what comes next."""
        operation.moved.set()
        operation.moved = asyncio.Event()

    # --- for a successor ------------------------------------------------------------------------------

    def dump(self) -> dict[str, Any]:
        """For the ledger: those that run, those that ended a moment ago, and the next number."""
        moment = time.time() - MOMENT
        ended = [self._known[id] for id in self._ended]
        return {
            "next": self._next,
            "running": [plain(one) for one in self._known.values() if one.running],
            "ended": [plain(one) for one in ended if one.ended > moment],
        }

    def load(self, raw: dict[str, Any]) -> None:
        """What a former control was doing. Who performs the act goes on with `running()`."""
        self._next = max(self._next, int(raw.get("next", 1)))
        for one in (*raw.get("ended", ()), *raw.get("running", ())):
            operation = read(one)
            self._known[operation.id] = operation
            if not operation.running:
                self._ended.append(operation.id)


def plain(operation: Operation) -> dict[str, Any]:
    """As the ledger and the store have it."""
    return {
        "id": operation.id, "act": operation.act, "app": operation.app, "instance": operation.instance,
        "asked": asdict(operation.asked), "began": operation.began,
        "state": operation.state, "ended": operation.ended, "why": operation.why,
        "steps": [[step.at, step.text] for step in operation.steps], "targets": list(operation.targets),
        "evidence": operation.evidence, "details": operation.details, "told": operation.told,
    }  # fmt: skip


def read(raw: dict[str, Any]) -> Operation:
    """What `plain` wrote, here or in another version: what is not known here is left out."""
    values = {name: value for name, value in raw.items() if name in _FIELDS}
    values["asked"] = Asked(**{name: value for name, value in raw["asked"].items() if name in _ASKED})
    steps = ((step["at"], step["text"]) if isinstance(step, dict) else step for step in raw["steps"])
    values["steps"] = [Step(float(at), str(text)) for at, text in steps]
    values["targets"] = tuple(raw.get("targets", ()))
    operation = Operation(**values)
    operation.told = max(operation.told, len(operation.steps))
    if not operation.running:
        operation.over.set()
    return operation


_ASKED: Final = frozenset(each.name for each in fields(Asked))
_FIELDS: Final = frozenset(each.name for each in fields(Operation)) - {"over", "moved"}
