"""An instance's lifecycle: one transition table. What is not in it is illegal.

Also here, because it decides between two of its rows: how failures add up, decay, and become a delay.

An instance that was never ready keeps its name through retries: no request ever reached it, so the name stays
unambiguous. One that was ready and ended is STOPPED for good, and a successor with a new number takes its place.
"""

from __future__ import annotations

import math
from enum import Enum, auto
from typing import Final

from proxy.control.state import Lifecycle as L

STAY_UP: Final = 1.0
"""Seconds a process must live before it is probed: one that exits sooner never started."""
HALF_LIFE: Final = 60.0
"""Failures are halved in a minute."""
FAILED_AT: Final = 5.5
"""Six start failures in quick succession; less than six, because the first ones have decayed a little by then."""
FIRST_DELAY: Final = 0.1
LONGEST_DELAY: Final = 30.0
FAILED_RETRY: Final = 60.0
"""A failed instance is tried again each minute: what it needs (a database, a disk) may have come back. supervisord
gives up for ever after three tries, and its users start things by hand after each reboot."""


class Event(Enum):
    """What can happen to an instance."""

    SPAWN = auto()  # the time to start it has come
    STAYED_UP = auto()
    PASSED = auto()  # its probes
    TOO_SLOW = auto()  # ready_within is over
    ENDED = auto()  # its process ended, or could not be started
    ENDED_TOO_OFTEN = auto()
    DRAIN = auto()
    IDLE = auto()  # nothing is on it any more, or the drain limit passed
    STOP = auto()  # at once: nothing was ever sent to it


class Action(Enum):
    """What the supervisor does about it."""

    SPAWN = auto()
    PROBE = auto()
    PUBLISH = auto()  # a new table
    WAIT = auto()  # for the next try
    ANNOUNCE = auto()  # it needs somebody
    TERMINATE = auto()
    REPLACE = auto()  # a successor, and a new table
    FORGET = auto()


class IllegalTransition(Exception):
    """A defect of Triage, never a state of the world."""


TRANSITIONS: Final[dict[tuple[L, Event], tuple[L, Action]]] = {
    (L.BACKOFF, Event.SPAWN): (L.STARTING, Action.SPAWN),
    (L.FAILED, Event.SPAWN): (L.STARTING, Action.SPAWN),
    (L.STARTING, Event.STAYED_UP): (L.WARMING, Action.PROBE),
    (L.STARTING, Event.ENDED): (L.BACKOFF, Action.WAIT),
    (L.STARTING, Event.ENDED_TOO_OFTEN): (L.FAILED, Action.ANNOUNCE),
    (L.STARTING, Event.STOP): (L.STOPPING, Action.TERMINATE),
    (L.WARMING, Event.PASSED): (L.READY, Action.PUBLISH),
    (L.WARMING, Event.ENDED): (L.BACKOFF, Action.WAIT),
    (L.WARMING, Event.ENDED_TOO_OFTEN): (L.FAILED, Action.ANNOUNCE),
    (L.WARMING, Event.TOO_SLOW): (L.STOPPING, Action.TERMINATE),
    (L.WARMING, Event.STOP): (L.STOPPING, Action.TERMINATE),
    (L.READY, Event.DRAIN): (L.DRAINING, Action.PUBLISH),
    (L.READY, Event.ENDED): (L.STOPPED, Action.REPLACE),
    (L.DRAINING, Event.IDLE): (L.STOPPING, Action.TERMINATE),
    (L.DRAINING, Event.ENDED): (L.STOPPED, Action.FORGET),
    (L.STOPPING, Event.ENDED): (L.STOPPED, Action.FORGET),
    (L.BACKOFF, Event.STOP): (L.STOPPED, Action.FORGET),
    (L.FAILED, Event.STOP): (L.STOPPED, Action.FORGET),
    # a probe that passes while DRAINING is absent on purpose: it must change nothing
}


def step(state: L, event: Event) -> tuple[L, Action]:
    """The next state and what to do; raises IllegalTransition."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransition(f"{state} cannot see {event.name.lower()}") from None


def decayed(failures: float, since: float, now: float) -> float:
    """Failures as they count `now`, when they counted `failures` at `since` (monotonic seconds)."""
    return failures * math.pow(0.5, max(0.0, now - since) / HALF_LIFE)


def delay_after_start_failure(failures: float) -> float:
    """0.1 s after the first, doubling to 30 s."""
    return min(LONGEST_DELAY, FIRST_DELAY * math.pow(2.0, min(20.0, max(0.0, failures - 1.0))))


def delay_after_exit(failures: float) -> float:
    """One that was ready is replaced at once, unless that has just happened before."""
    return 0.0 if failures < 1.5 else delay_after_start_failure(failures - 1.0)


def diagram() -> str:
    """The table as a Mermaid state diagram, one arrow for each pair of states."""
    arrows: dict[tuple[L, L], list[str]] = {}
    for (state, event), (after, _) in TRANSITIONS.items():
        arrows.setdefault((state, after), []).append(event.name.lower().replace("_", " "))
    lines = [f"    {state} --> {after}: {', '.join(events)}" for (state, after), events in arrows.items()]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {L.STARTING}", *lines, f"    {L.STOPPED} --> [*]"]) + "\n"
