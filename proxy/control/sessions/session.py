"""What a diagnostic session is, for control; what it gathers and finds is the business of its own process.

Always true:
  - a number is never used again; a session ends once, in one of ENDED, with a `why` unless it is done;
  - `session.json` in its folder is what this says, as it was when its state changed last.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, Literal

import orjson

from proxy.control.operations import BY_HAND, Operation
from proxy.link.session import Outcome

Mode = Literal["collect", "analyze", "recycle"]
MODES: Final = ("collect", "analyze", "recycle")
ENDED: Final = frozenset({"done", "cancelled", "failed", "lost"})
ACTIVE: Final = ("waiting", "collecting", "recycling", "analyzing")
GATHERED: Final = frozenset({"wants after", "analyzing", "done", "cancelled", "failed"})
"""States of an outcome in which nothing more is gathered, but for what collectors do last."""


@dataclass(frozen=True, slots=True)
class Trigger:
    """Who or what wanted it. `operation`: the act before which it takes evidence."""

    kind: str = "hand"  # hand rule incident crash request cpu memory agent
    by: str = BY_HAND
    reason: str = ""
    rule: str = ""
    saw: str = ""  # what the rule saw, the exception that was raised
    incident: str = ""
    request: str = ""
    operation: str = ""
    act: str = ""
    way: str = ""  # how a person's call came in
    at: float = 0.0  # Unix seconds of what it is about; 0.0: now

    @property
    def automatic(self) -> bool:
        """Nobody asked for it, nor for the act that it belongs to."""
        return self.by != BY_HAND and not self.operation

    @property
    def by_hand(self) -> bool:
        """Kept longer than the others."""
        return self.by == BY_HAND and not self.operation


@dataclass(slots=True)
class Session:
    """Times that end in `_by` are monotonic, the others Unix seconds."""

    number: int
    app: str
    instance: str  # "": the app as a whole
    mode: str
    seconds: float
    trigger: Trigger
    began: float
    state: str = "waiting"
    why: str = ""
    ended: float = 0.0
    until: float = 0.0  # when gathering will be over
    collectors: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    left_out: str = ""  # what of the request can't be looked into
    budget: float = 8.0
    analyzing: float = 60.0
    verdict: str = ""
    top: str = ""
    certainty: str = ""
    severity: str = ""
    findings: int = 0
    size: int = 0
    recycle: str = ""  # id of the operation that it began
    recycled: str = ""  # what came of that
    room: int = 0  # bytes that its files may take
    child: str = ""  # its process's name for the launcher; "": none runs
    gather_by: float = 0.0
    end_by: float = 0.0
    told_after: bool = False
    again: bool = False  # it ended, and what it gathered is analyzed once more
    frozen: int = 0  # number of what was frozen at its trigger
    outcome: Outcome | None = field(default=None, repr=False)

    @property
    def id(self) -> str:
        return f"S-{self.number}"

    @property
    def active(self) -> bool:
        return self.state not in ENDED

    def covers(self, instance: str) -> bool:
        return instance in self.targets

    def progress(self, now: float) -> float:
        """0 to 1, an estimate: four fifths are for gathering. `now` is Unix seconds."""
        if not self.active:
            return 1.0
        if self.state == "waiting":
            return 0.0
        if self.state == "collecting":
            whole = max(0.5, self.until - self.began)
            return round(min(0.8, max(0.0, (now - self.began) / whole * 0.8)), 3)
        steps = [step.state not in ("waiting", "running") for step in self.outcome.steps] if self.outcome else []
        return round(0.8 + 0.19 * sum(steps) / len(steps), 3) if steps else 0.8

    def heard(self, outcome: Outcome) -> None:
        """What its process says of itself; the state is decided elsewhere."""
        self.outcome = outcome
        if outcome.until:
            self.until = outcome.until
        if outcome.verdict or outcome.state in ("done", "cancelled"):
            self.verdict, self.top = outcome.verdict, outcome.top
            self.certainty, self.severity, self.findings = outcome.certainty, outcome.severity, outcome.findings

    def __repr__(self) -> str:
        return f"<Session {self.id} {self.app}{f'/{self.instance}' if self.instance else ''} {self.state}>"


def number_of(id: str) -> int | None:
    """Of `S-12`, `s-12` or `12`; None: it is none."""
    text = id.upper().removeprefix("S-")
    return int(text) if text.isascii() and text.isdigit() and 0 < len(text) <= 15 else None


def dump(session: Session) -> dict[str, Any]:
    """For session.json and the ledger."""
    raw = {one.name: getattr(session, one.name) for one in fields(session) if one.name not in ("outcome", "trigger")}
    return {"form": 1, "id": session.id, **raw, "trigger": asdict(session.trigger)}


def load(raw: dict[str, Any]) -> Session:
    """What `dump` made, here or in another version: what is not known here is left out. Raises KeyError, TypeError."""
    values = {name: value for name, value in raw.items() if name in _FIELDS}
    known = {name: value for name, value in raw.get("trigger", {}).items() if name in _TRIGGER}
    values["trigger"] = Trigger(**known)
    values["collectors"], values["targets"] = tuple(raw.get("collectors", ())), tuple(raw.get("targets", ()))
    return Session(**values)


def encode(session: Session) -> bytes:
    return orjson.dumps(dump(session), option=orjson.OPT_INDENT_2)


def of_operation(operation: Operation) -> Trigger:
    """Of evidence before an act."""
    asked = operation.asked
    return Trigger(
        kind="rule" if asked.rule else "hand", by=asked.by, reason=asked.reason, rule=asked.rule, saw=asked.value,
        operation=operation.id, act=operation.act, way=asked.way,
    )  # fmt: skip


_FIELDS: Final = frozenset(one.name for one in fields(Session)) - {"outcome"}
_TRIGGER: Final = frozenset(one.name for one in fields(Trigger))
