"""What a session is about: control writes it as `input.json` into the session's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from proxy.link.messages import Record

INPUT = "input.json"


class Usage(msgspec.Struct):
    """One second of an instance."""

    at: float  # monotonic
    cpu: float = 0.0
    rss: int = 0
    threads: int = 0
    descriptors: int = 0
    processes: int = 0


class Subject(msgspec.Struct):
    """`pid` 0: no process runs, or none that can be seen from here."""

    app: str
    instance: str
    at: float  # Unix seconds of the asking
    now: float = 0.0  # monotonic, of the same moment
    pid: int = 0
    started: int = 0  # clock ticks since boot: tells a reused pid
    address: str = ""
    version: str = ""
    lifecycle: str = ""
    why: str = ""  # it is in that state
    operation: str = ""
    act: str = ""
    asked: dict[str, Any] = {}  # by whom, why, the rule, what it saw
    exits: list[dict[str, Any]] = []  # of the app, of late, newest last
    usage: list[Usage] = []
    records: list[Record] = []
    logs: list[str] = []  # paths
    collectors: list[str] = []  # which ones; none: all
    budget: float = 8.0  # seconds for all


def read(folder: Path) -> Subject:
    """Raises OSError, msgspec.MsgspecError."""
    return msgspec.json.decode((folder / INPUT).read_bytes(), type=Subject)
