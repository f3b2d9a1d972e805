"""What a collector is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from proxy.diagnostics.artifacts import Artifact
from proxy.diagnostics.subject import NoRoom, NotThere, Subject

__all__ = ["Collector", "NoRoom", "NotThere", "Subject"]


@dataclass(frozen=True, slots=True)
class Collector:
    """`collect` runs in a process of its own, which is killed at `limit`; it does not catch: its runner labels what it
    raises. It may write further files into the folder it is given; their names begin with `name` and a dot.

    One that goes through the session waits by `subject.wait`, and ends when that says False.
    """

    name: str  # also of its file: NAME.json
    title: str
    needs: str  # for people
    cost: str  # to the app and the machine
    limit: float  # seconds; of one that goes through the session, beyond the session's own
    most: int  # bytes of each file
    artifact: type[Artifact]
    collect: Callable[[Subject, Path], Artifact]
    of: Literal["instance", "app", "host"] = "instance"
    when: Literal["once", "through", "after"] = "once"
    """At the start; sampling for `subject.seconds`; or once gathering is over."""
    default: bool = True  # it runs where none were chosen and the session takes time
    quick: bool = False  # also where the session takes none
    runtimes: tuple[str, ...] = ()  # it looks into these alone; (): any
    each: int = 6  # instances that it looks into, at most: the most troubled ones
