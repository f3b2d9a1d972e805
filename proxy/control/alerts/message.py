"""What is said about an incident: one value, and its words. Pure.

Always true: whatever others wrote into it (causes, signals, steps) went through `masking`, and is cut to a bound.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from proxy import masking, units
from proxy.control.incidents.incident import Incident

Kind = Literal["opened", "cause", "repeat", "reopened", "closed", "test"]

TEXT: Final = 400
"""Characters of a cause or a step."""
MOST: Final = 8
"""Signals, instances, faults and steps that are named."""


@dataclass(frozen=True, slots=True)
class Message:
    """Times are Unix seconds. `id` grows with each message and is the same over all tries of one."""

    id: int
    kind: Kind
    at: float
    number: int  # of the incident; 0: of none, as in a test
    scope: str
    app: str
    severity: str
    signal: str
    cause: str
    certainty: str
    began: float
    ended: float = 0.0
    requests: int = 0
    hit: int = 0
    share: float = 0.0
    faults: dict[str, int] = field(default_factory=dict)
    signals: dict[str, str] = field(default_factory=dict)
    instances: list[str] = field(default_factory=list)
    done: list[tuple[float, str]] = field(default_factory=list)
    rules: list[str] = field(default_factory=list)
    host: str = ""
    base: str = ""  # address of the admin API
    alert: str = ""  # what this notifier was first told it is: never another for the same incident
    instance: str = ""  # likewise, where it was of one instance
    was: tuple[str, ...] = ()  # severities this notifier was told of before
    first: int = 0  # id of the first message about this incident to this notifier; 0: this is it

    @property
    def name(self) -> str:
        return f"msg-{self.id}"

    @property
    def incident(self) -> str:
        return f"INC-{self.number}" if self.number else ""

    @property
    def open(self) -> bool:
        return not self.ended

    @property
    def command(self) -> str:
        """That answers more."""
        return f"triage why {self.incident}" if self.number else "triage status"

    @property
    def link(self) -> str:
        return f"{self.base}/#/incidents/{self.incident}" if self.number else f"{self.base}/"

    @property
    def who(self) -> str:
        """Is not well."""
        if self.scope == "app":
            return self.app
        return "the gateway" if self.scope == "gateway" else f"the host {self.host}".strip()

    @property
    def lasted(self) -> float:
        return max(0.0, (self.ended or self.at) - self.began)

    @property
    def title(self) -> str:
        """What has become of it, in a few words."""
        state = f"is {self.severity}"
        match self.kind:
            case "test":
                return "This is a test"
            case "closed":
                return f"{self.who} is well again after {units.duration(self.lasted)}"
            case "reopened":
                return f"{self.who} {state} again"
            case "cause":
                return f"{self.who} {state}, and the cause is another"
            case "repeat":
                return f"{self.who} {state} still, for {units.duration(self.lasted)}"
            case "opened":
                return f"{self.who} {state}"

    @property
    def summary(self) -> str:
        """One line."""
        return f"{self.title}: {self.cause}"

    @property
    def whom(self) -> str:
        """The share of requests hit, with numbers; "" where none came."""
        if not self.requests:
            return ""
        if not self.hit:
            return f"none of {units.count(self.requests)} requests failed"
        said = f"{units.count(self.hit)} of {units.count(self.requests)} requests failed ({units.percent(self.share)})"
        most = sorted(self.faults.items(), key=lambda one: -one[1])[:MOST]
        return said + (f": {', '.join(f'{units.count(count)} {name}' for name, count in most)}" if most else "")

    @property
    def now(self) -> str:
        """Whether it still goes on."""
        if self.kind == "test":
            return "nothing is wrong: someone tries whether messages come through"
        if not self.open:
            return f"over since {clock(self.ended)}"
        seen = "; ".join(list(self.signals.values())[:MOST])
        return f"still going on: {seen}" if seen else "not seen any more; it is over when that stays so for 30 s"

    def lines(self) -> Iterator[tuple[str, str]]:
        """All of it for people: a word and what it is about."""
        yield "WHY", f"{self.cause} ({self.certainty})" if self.certainty else self.cause
        yield "SINCE", f"{clock(self.began)}, {'lasted ' if self.ended else ''}{units.duration(self.lasted)}"
        if self.whom:
            yield "WHOM", self.whom
        if self.instances:
            yield "WHERE", ", ".join(self.instances)
        for at, text in self.done:
            yield "DONE", f"{clock(at)}  {text}"
        yield "NOW", self.now
        yield "LOOK", f"{self.command}   {self.link}"

    def text(self) -> str:
        """Plain text of several lines."""
        said, before = [f"{self.title}{f'   {self.incident}' if self.number else ''}", ""], ""
        for word, line in self.lines():
            said.append(f"{'' if word == before else word:6} {line}")
            before = word
        return "\n".join(said) + "\n"

    def json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "id": self.name,
            "event": self.kind,
            "time": iso(self.at),
            "state": "open" if self.open else "closed",
            "incident": self.incident,
            "scope": self.scope,
            "app": self.app,
            "severity": self.severity,
            "signal": self.signal,
            "title": self.title,
            "cause": self.cause,
            "certainty": self.certainty,
            "began": iso(self.began),
            "ended": iso(self.ended) if self.ended else None,
            "lasted_s": round(self.lasted, 3),
            "requests": self.requests,
            "hit": self.hit,
            "share": round(self.share, 6),
            "faults": self.faults,
            "signals": self.signals,
            "instances": self.instances,
            "done": [{"time": iso(at), "text": text} for at, text in self.done],
            "now": self.now,
            "rules": self.rules,
            "host": self.host,
            "command": self.command,
            "link": self.link,
        }

    def dump(self) -> dict[str, Any]:
        """For the ledger and the store."""
        return asdict(self)

    @classmethod
    def load(cls, raw: dict[str, Any]) -> Message:
        """What is not known any more is left out."""
        known = {name: value for name, value in raw.items() if name in cls.__dataclass_fields__}
        known["was"] = tuple(known.get("was", ()))
        known["done"] = [(at, text) for at, text in known.get("done", ())]
        return cls(**known)


def of(incident: Incident, **fields: Any) -> Message:
    """About an incident as it is now; `fields` are what the incident does not know."""
    return Message(
        number=incident.number,
        scope=incident.subject.scope,
        app=incident.subject.app,
        severity=incident.severity,
        signal=incident.signal,
        cause=said(incident.cause),
        certainty=incident.certainty,
        began=incident.began,
        ended=incident.ended,
        requests=incident.requests,
        hit=incident.hit,
        share=incident.share,
        faults=dict(sorted(incident.faults.items(), key=lambda one: -one[1])[:MOST]),
        signals={name: said(text) for name, text in list(incident.signals.items())[:MOST]},
        instances=incident.instances[:MOST],
        done=[(step.at, said(step.text)) for step in incident.steps if step.kind == "act"][-MOST:],
        rules=incident.rules[:MOST],
        **fields,
    )


def said(text: str) -> str:
    """Masked, on one line, bounded."""
    line = " ".join(masking.text(text[: TEXT * 2]).split())
    return line if len(line) <= TEXT else f"{line[: TEXT - 1]}…"


def clock(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))


def iso(at: float) -> str:
    """RFC 3339, UTC, with milliseconds."""
    whole = int(at)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{int((at - whole) * 1000):03d}Z"
