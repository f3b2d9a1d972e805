"""The largest types of a Python process, as the agent in it tells them: twice in a session, so that growth shows.

Of an instance's processes the one with most memory that has an agent is asked. The socket's other end must be that very
process, which the kernel tells.
"""

from __future__ import annotations

import socket
import struct
import time
from pathlib import Path
from typing import Final

from proxy import masking, units
from proxy.diagnostics import proc
from proxy.diagnostics.artifacts import TypeRow, Types
from proxy.diagnostics.collectors.contract import Collector, NotThere
from proxy.diagnostics.subject import Subject

WITHIN: Final = 3.0
"""Seconds for an answer: its own work is 0.2 s, on a busy machine it waits for the CPU."""
MOST: Final = units.MIB
ROWS: Final = 100
"""That an agent tells."""
_CREDENTIALS: Final = struct.Struct("3i")


def collect(subject: Subject, folder: Path) -> Types:
    """Raises NotThere: no agent is in any of the instance's processes."""
    del folder
    pids = sorted(_tree(subject), key=proc.rss, reverse=True)
    for pid in pids:
        found = ask(pid)
        if found is None:
            continue
        began = time.monotonic()
        if subject.seconds > 0:
            subject.wait(subject.seconds)
            second = ask(pid)
            if second is None:
                found.note = "; ".join(filter(None, (found.note, "the agent did not answer a second time")))
            else:
                for row in second.rows:
                    row.grew = _grew(row, found.rows)
                second.seconds_between = time.monotonic() - began
                found = second
        return found
    raise NotThere(_why(subject, pids))


def _grew(row: TypeRow, before: list[TypeRow]) -> int:
    """At least: of a type that was not among the rows then, there may have been as many as fit below the last of
    them."""
    for one in before:
        if one.name == row.name:
            return row.count - one.count
    if len(before) < ROWS or not row.size:
        return row.count
    return max(0, row.count - before[-1].size * row.count // row.size)


def _why(subject: Subject, pids: list[int]) -> str:
    if not pids:
        return "no process of it runs, or none that can be seen from here"
    if any(b"TRIAGE_AGENT=" in _environ(pid) for pid in pids):
        return "none of its processes has an agent that answers: it is no Python, or reads no PYTHONPATH (-I, -E, -S)"
    return f"apps.{subject.input.app}.diagnose.agent is off, or was when it started"


def ask(pid: int) -> Types | None:
    """What the agent in a process says; None: there is none, or it does not answer in time."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(WITHIN)
        try:
            sock.connect(f"\0triage-agent-{pid}")
            other = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))[0]
            if other != pid:
                return None
            sock.sendall(b"types\n")
            data = b""
            deadline = time.monotonic() + WITHIN
            while len(data) < MOST and time.monotonic() < deadline:
                part = sock.recv(65536)
                if not part:
                    break
                data += part
        except OSError:
            return None
    return read(pid, data)


def read(pid: int, data: bytes) -> Types | None:
    """An answer: see the agent's `largest`. None: it makes no sense."""
    lines = data.decode("utf-8", "replace").splitlines()
    try:
        objects, size, _, _, garbage, note = lines[0].split("\t")
        rows = []
        for line in lines[1:]:
            name, count, taken = line.split("\t")
            rows.append(TypeRow(name=masking.text(name), count=int(count), size=int(taken)))
        return Types(
            at=time.time(), pid=pid, objects=int(objects), size=int(size), rows=rows, garbage=int(garbage), note=note
        )
    except (ValueError, IndexError):
        return None


def _tree(subject: Subject) -> list[int]:
    """Its processes; [] when it has ended, or another process has its number now."""
    try:
        return list(proc.tree(subject.pid, subject.started))
    except ProcessLookupError:
        return []


def _environ(pid: int) -> bytes:
    try:
        return (proc.PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return b""


COLLECTOR = Collector(
    name="types",
    title="Largest types",
    needs="Python, and apps.APP.diagnose.agent",
    cost="0.2 s of one core, twice, in pieces of a millisecond; beyond some million objects up to 0.1 s in one piece",
    limit=8.0,
    most=units.MIB,
    artifact=Types,
    collect=collect,
    when="through",
    runtimes=("python",),
    quick=True,
    each=2,
)
