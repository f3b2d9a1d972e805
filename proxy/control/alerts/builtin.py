"""What is told of without any rule: a table of signals, and for how long each has to be seen. Pure.

An `[[alerts]]` of the same name takes the place of one of these, for the apps that it names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from proxy.config import Config

MINUTE: Final = 60.0
DAY: Final = 86400.0
OTHERS: Final = "others"
OF_RULES: Final = "alert "
"""What the name of a signal begins with that a rule of the config raised."""


@dataclass(frozen=True, slots=True)
class Builtin:
    """`after` is in seconds; None: it is never told by itself, only with what else is wrong."""

    name: str
    signals: tuple[str, ...]
    after: float | None
    about: str
    repeat: float = 0.0
    """It is told again no sooner than after so many seconds, whatever the notifier says."""


DOWN: Final = Builtin("down", (), 0.0, "an app serves nothing, or the gateway itself does not: at once")
BUILTIN: Final[tuple[Builtin, ...]] = (
    Builtin("faults", ("faults", "queue"), 0.0, "requests fail or are turned away, more than a few: at once"),
    Builtin("crash-loop", ("crash-loop",), 0.0, "instances fail to start, again and again: at once"),
    Builtin(
        "crashes", ("crashes",), 0.5 * MINUTE,
        "instances end by themselves, one after another for 30 s; a single one is replaced, and told only if requests"
        " fail by it",
    ),
    Builtin(
        "instances", ("ejected", "not-enough", "not-replaced", "memory"), MINUTE,
        "instances are ejected, missing, near their memory limit, or can't be replaced: for a minute",
    ),
    Builtin("slow", ("slow",), MINUTE, "answers take far longer than usual: for a minute"),
    Builtin(
        "gateway", ("worker", "self-check", "shedding"), 0.0,
        "a worker died, the gateway does not answer itself, or turns connections away: at once",
    ),
    Builtin("disk", ("disk-full", "disk"), 0.0, "data_dir's disk is full, or nearly: at once"),
    Builtin("host", ("host-memory", "loop-lag"), MINUTE, "the host's memory is used up, or workers are late: a minute"),
    Builtin("lost-evidence", ("lost-evidence",), MINUTE, "what happened can't be written down: for a minute"),
    Builtin("certificate", ("certificate",), 0.0, "a certificate ends within 14 days: at once, and daily", DAY),
    Builtin("busy", ("host-cpu", "control-lag"), None, "all cores are busy, or control is late: never by itself"),
)  # fmt: skip
DEFAULT: Final = Builtin(OTHERS, (), MINUTE, "any other signal, when it lasts a minute")

BY_SIGNAL: Final[dict[str, Builtin]] = {signal: one for one in BUILTIN for signal in one.signals}


def meant(signals: Mapping[str, float], severity: str, now: float) -> list[tuple[Builtin, bool]]:
    """Which of these are met by an incident's present signals (name to since when), and whether each has lasted.

    What is down is told at once, whatever says so."""
    found: dict[str, tuple[Builtin, bool]] = {}
    for name, since in signals.items():
        if name.startswith(OF_RULES):
            continue
        one = BY_SIGNAL.get(name, DEFAULT)
        lasted = one.after is not None and now - since >= one.after
        found[one.name] = (one, lasted or found.get(one.name, (one, False))[1])
    if severity == "down" and any(not name.startswith(OF_RULES) for name in signals):
        found[DOWN.name] = (DOWN, True)
    return list(found.values())


def seldom(signals: Iterable[str]) -> float:
    """Seconds before an incident with these present signals is told again; 0.0: as the notifier says."""
    return min((BY_SIGNAL.get(name, DEFAULT).repeat for name in signals), default=0.0)


def replaced(config: Config, name: str, app: str) -> bool:
    """Whether a rule of the config stands for it. `app` "" is the gateway and the host."""
    return any(one.name == name and (not one.apps or app in one.apps) for one in config.alerts)
