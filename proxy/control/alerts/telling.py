"""When whom is told what of an incident. Pure: `now` is monotonic seconds, which a new control goes on with.

Always true, of one notifier and one incident:
  - the first message is "opened" and comes GATHER seconds after the incident concerns the notifier, with all that was
    learned meanwhile; whoever got one gets "closed" too;
  - while the app is muted nothing is told; what was held back is decided anew when the mute ends;
  - causes that change to and fro are told at most each CAUSE_EVERY seconds, and of an incident that opens and closes
    again and again the end is told only when it has lasted HOLD seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from proxy.control.alerts.message import Kind

GATHER: Final = 5.0
"""Seconds. An incident opens within 5 s of the first fault: with these, and a try, that is less than 15 s."""
CAUSE_EVERY: Final = 60.0
FLAPS: Final = 3
HOLD: Final = 300.0
"""Seconds within which an incident that is seen again is the same one."""


@dataclass(slots=True)
class Told:
    """What one notifier heard last of one incident, or is about to."""

    first: int  # id of its first message
    at: float
    kind: Kind
    signal: str
    severities: list[str]
    alert: str = ""  # the name it was told by
    instance: str = ""  # the one that it was about, if it was one
    closings: int = 0


@dataclass(slots=True)
class Track:
    """Of one incident."""

    number: int
    signals: dict[str, float] = field(default_factory=dict)  # seen now, since when
    wanted: dict[str, float] = field(default_factory=dict)  # notifiers it concerns, since when
    told: dict[str, Told] = field(default_factory=dict)
    reopened: float = 0.0
    changed: float = 0.0  # when the cause became what it is
    closed: float = 0.0  # 0.0: it is open
    closing: dict[str, Any] | None = None  # the message about its end, before it is addressed

    def see(self, signals: Iterable[str], now: float) -> None:
        """Those that are up now."""
        self.signals = {name: self.signals.get(name, now) for name in signals}

    def want(self, notifiers: Iterable[str], now: float) -> None:
        """It concerns them from now on; nobody is dropped who was told."""
        for name in notifiers:
            self.wanted.setdefault(name, now)

    def close(self, now: float) -> None:
        self.closed = now
        self.signals.clear()

    def reopen(self, now: float) -> None:
        self.closed, self.closing, self.reopened, self.changed = 0.0, None, now, now

    def tell(self, notifier: str, kind: Kind, id: int, signal: str, severity: str, now: float) -> Told:
        """It is told now."""
        told = self.told.get(notifier)
        if told is None:
            told = self.told[notifier] = Told(id, now, kind, signal, [severity])
            return told
        told.at, told.kind, told.signal = now, kind, signal
        told.closings += kind == "closed"
        if severity not in told.severities:
            told.severities.append(severity)
        return told

    def over(self, now: float) -> bool:
        """Nothing is left to be told, and it will not be the same incident again."""
        left = any(told.kind != "closed" for told in self.told.values())
        return bool(self.closed) and now - self.closed > HOLD + 2 * GATHER and not left

    def dump(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def load(cls, raw: Mapping[str, Any]) -> Track:
        known = {name: value for name, value in raw.items() if name in cls.__dataclass_fields__}
        known["told"] = {name: Told(**told) for name, told in known.get("told", {}).items()}
        return cls(**known)


def due(track: Track, notifier: str, signal: str, severity: str, repeat: float, now: float) -> Kind | None:
    """What this notifier, which is not muted, has to be told now. `repeat` 0.0: an open one is told once."""
    told = track.told.get(notifier)
    if track.closed:
        if told is None or told.kind == "closed":
            return None
        hold = HOLD if told.closings >= FLAPS else 0.0
        return "closed" if now - track.closed >= hold else None
    if told is None:
        wanted = track.wanted.get(notifier)
        return "opened" if wanted is not None and now - wanted >= GATHER else None
    if told.kind == "closed":
        return "reopened" if now - track.reopened >= GATHER else None
    since = now - told.at
    if severity == "down" and "down" not in told.severities and since >= GATHER:
        return "cause"
    if signal != told.signal and now - track.changed >= GATHER and since >= CAUSE_EVERY:
        return "cause"
    return "repeat" if repeat and since >= repeat else None
