"""What a collector is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from proxy.diagnostics.artifacts import Artifact
from proxy.diagnostics.subject import Subject


@dataclass(frozen=True, slots=True)
class Collector:
    """`collect` runs in a process of its own, which is killed at `limit`; it does not catch: its runner labels what it
    raises. It may write further files, as text for people, into the folder it is given; their names begin with `name`.
    """

    name: str  # also of its file: NAME.json
    title: str
    needs: str  # for people
    cost: str  # to the app and the machine
    limit: float  # seconds
    most: int  # bytes of each file
    artifact: type[Artifact]
    collect: Callable[[Subject, Path], Artifact]
