"""Evidence before an instance ends: what a fresh process would take with it.

Control hands over what it knows (requests, usage, exits) and starts a process of its own for the rest, so that nothing
that hangs or fails there costs control anything. What was gathered lies in data_dir/diagnostics/ID.

Always true:
  - `collect` returns within LIMIT, and never raises but when it is cancelled; what it says is true of the folder;
  - at most AT_ONCE run at a time, and none is left running when `collect` has returned;
  - the folders together keep to `keep.sessions`, and none is begun when the disk is nearly full.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import orjson

import proxy
from proxy import units
from proxy.config import Keep
from proxy.control.launcher import Refused
from proxy.control.operations import Operation
from proxy.control.shared import Shared
from proxy.control.state import AppState, InstanceState
from proxy.link import messages as link

LIMIT: Final = 10.0
BUDGET: Final = 7.0
"""Seconds that the process may take; what is left is for preparing, and for ending it."""
AT_ONCE: Final = 2
RECORDS: Final = 500
ROOM: Final = 100 * units.MB
"""Free space below which nothing is written: the app may need it more."""
NICE: Final = 10
KIND: Final = "session"
FOLDER: Final = "diagnostics"

Find = Callable[..., Awaitable[list[link.Record]]]
"""As Gateway.find."""
T = TypeVar("T")


class NoRoom(Exception):
    """The disk is nearly full."""


class Evidence:
    """`keep` is what is in force; a reload replaces it."""

    def __init__(self, shared: Shared, find: Find, keep: Keep) -> None:
        self.shared = shared
        self.keep = keep
        self._find = find
        self._places = asyncio.Semaphore(AT_ONCE)
        self._running: dict[str, asyncio.Future[None]] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="evidence")  # its own: a disk may hang
        self._tasks: set[asyncio.Task[None]] = set()
        self._count = 0

    async def collect(self, app: AppState, instance: InstanceState, operation: Operation) -> str:
        """What came of it, in words: "4 of 4 artifacts in diagnostics/ev-…"."""
        try:
            async with asyncio.timeout(LIMIT):
                async with self._places:
                    said = await self._collect(app, instance, operation)
        except TimeoutError:
            said = f"no evidence: nothing could be gathered within {LIMIT:g} s"
        except NoRoom as error:
            said = f"no evidence: {error}"
        except Refused as error:
            said = f"no evidence: its process could not be started: {error}"
        except Exception as error:  # evidence must never keep an act from happening
            said = f"no evidence: {error!r}"
        self.shared.event(
            "evidence", f"{instance.name}: {said}", app.name, instance.name, operation=operation.id, outcome=said
        )
        return said

    def on_exit(self, name: str) -> None:
        """The launcher reaped a session."""
        ended = self._running.get(name)
        if ended is not None and not ended.done():
            ended.set_result(None)

    async def end_leftovers(self, names: list[str]) -> None:
        """Of a control that died: nobody waits for them."""
        for name in names:
            await self._kill(name)

    # --- one session ---------------------------------------------------------------------------------

    async def _collect(self, app: AppState, instance: InstanceState, operation: Operation) -> str:
        until = asyncio.get_running_loop().time() + BUDGET + 1.0
        self._count += 1
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        plain = "".join(c if c.isalnum() or c in "-_." else "_" for c in instance.name)
        name = f"ev-{stamp}-{plain}-{os.getpid()}-{self._count}"
        folder = self.shared.data_dir / FOLDER / name
        known = _subject(app, instance, operation)
        await self._in_thread(lambda: prepare(folder, self.keep, set(self._running)))
        known["records"] = await self._find("", RECORDS, app.name, "", instance.name)
        await self._in_thread(lambda: (folder / "input.json").write_bytes(msgspec.json.encode(known)))
        killed = False
        ended = self._running[name] = asyncio.get_running_loop().create_future()
        try:
            await self.shared.launcher.spawn(
                {
                    "name": name,
                    "kind": KIND,
                    "argv": [sys.executable, "-P", "-m", "proxy.diagnostics.collect", str(folder)],
                    "env": _environment(),
                    "nice": NICE,
                }
            )
            try:
                async with asyncio.timeout_at(until):
                    await asyncio.shield(ended)
            except TimeoutError:
                killed = True
                await self._kill(name)
                await asyncio.wait([ended], timeout=0.5)
        finally:
            del self._running[name]
            if not ended.done():
                ended.cancel()
                self._later(self._kill(name))
        return await self._in_thread(lambda: told(folder, killed))

    async def _kill(self, name: str) -> None:
        """What it started leads groups of its own; the launcher ends those when it is gone."""
        try:
            await self.shared.launcher.signal(name, 9, to="group")
        except Refused:
            pass  # it has ended

    def _later(self, work: asyncio._CoroutineLike[None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)


def _environment() -> dict[str, str]:
    """Control's own, and where this package is."""
    paths = [str(Path(proxy.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def _subject(app: AppState, instance: InstanceState, operation: Operation) -> dict[str, Any]:
    """What diagnostics/subject.py reads."""
    usage = [
        {"at": one.at, "cpu": one.cpu, "rss": one.rss, "threads": one.threads, "descriptors": one.descriptors,
         "processes": one.processes}
        for one in instance.usage_history
    ]  # fmt: skip
    return {
        "app": app.name,
        "instance": instance.name,
        "at": time.time(),
        "now": time.monotonic(),
        "pid": instance.pid,
        "started": instance.pid_started,
        "address": instance.address,
        "version": instance.version,
        "lifecycle": str(instance.lifecycle),
        "why": instance.why,
        "operation": operation.id,
        "act": operation.act,
        "asked": asdict(operation.asked),
        "exits": [asdict(one) for one in app.ended],
        "usage": usage,
        "logs": list(instance.log_paths),
        "budget": BUDGET,
    }


def prepare(folder: Path, keep: Keep, running: set[str]) -> None:
    """Make room and the folder. Raises NoRoom, OSError."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    prune(folder.parent, keep, running)
    room = os.statvfs(folder.parent)
    free = room.f_bavail * room.f_frsize
    if free < ROOM:
        raise NoRoom(f"only {units.size(free)} are free on the disk of {folder.parent}, {units.size(ROOM)} are needed")
    folder.mkdir(mode=0o750)


def prune(parent: Path, keep: Keep, running: set[str]) -> None:
    """Remove the oldest sessions beyond what `keep.sessions` allows, one more being on its way."""
    limits = keep.sessions
    now = time.time()
    size = 0
    found = [path for path in parent.iterdir() if path.is_dir() and path.name not in running]
    for count, path in enumerate(sorted(found, key=lambda one: one.stat().st_mtime, reverse=True), 1):
        size += sum(one.stat().st_size for one in path.rglob("*") if one.is_file())
        if count >= limits.count or size > limits.size or now - path.stat().st_mtime > limits.age:
            shutil.rmtree(path, ignore_errors=True)


def told(folder: Path, killed: bool) -> str:
    """The outcome, in words. `killed`: its time was over."""
    where = f"{FOLDER}/{folder.name}"
    try:
        outcome = orjson.loads((folder / "outcome.json").read_bytes())
        collectors = outcome["collectors"]
        done = [one["name"] for one in collectors if one["state"] == "done"]
        others = [_missing(one["name"], one["state"], one["why"]) for one in collectors if one["state"] != "done"]
    except (OSError, ValueError, KeyError, TypeError):
        how = "did not begin in time and was killed" if killed else "ended before it began to gather"
        return f"no evidence: its process {how} ({where}/collect.log)"
    more = f": {'; '.join(others)}" if others else ""
    return f"{len(done)} of {len(collectors)} artifacts in {where}{more}"


def _missing(name: str, state: str, why: str) -> str:
    plain = name.replace("_", " ")
    if state == "running":
        return f"{plain} not finished in time"
    return f"{plain} {state} ({why})" if why else f"{plain} {state}"
