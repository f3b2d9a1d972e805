"""One program that runs under its keeper (launcher/keeper.py): started, its end awaited, ended with all below it.

Always true:
  - once `start` has returned, `done` comes to an end: the keeper tells of it, or its own end does;
  - letting go of the channel, as a killed control does, ends everything at once.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

import proxy
from proxy.control.console.where import Where
from proxy.control.refusal import NotPossible
from proxy.link.spawn import SpawnRequest

START_WITHIN: Final = 15.0
"""Seconds for a keeper to start the program; a busy machine takes two."""
SOFT_FILES: Final = 1024
"""Descriptors: what programs find on nearly every machine; some walk through all that they may have."""
MOST_LINE: Final = 1 << 16
_MARKER: Final = "TRIAGE_LAUNCHER"


@dataclass(frozen=True, slots=True)
class Ended:
    """How it ended. Neither `code` nor `signal`: its keeper was killed, and it with it."""

    code: int | None = None
    signal: int | None = None
    left: int = 0  # processes that it left behind, or that had to be ended with it
    stuck: tuple[int, ...] = ()  # pids that could not be ended

    @property
    def words(self) -> str:
        """ "exit code 1", "signal 9 (SIGKILL)"."""
        if self.code is not None:
            return f"exit code {self.code}"
        if self.signal is not None:
            return f"signal {self.signal} ({_name(self.signal)})"
        return "its keeper was killed, and it with it"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "?"


class Kept:
    """See the module. `pid` is the program's own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, keeper: asyncio.subprocess.Process):
        self._reader, self._writer, self._keeper = reader, writer, keeper
        self._code: int | None = None
        self._signal: int | None = None
        self.pid = 0
        self.exited = asyncio.Event()
        """The program itself has ended."""
        self.done: asyncio.Task[Ended] | None = None
        """All has ended."""

    @classmethod
    async def start(
        cls,
        argv: Sequence[str],
        where: Where,
        targets: Mapping[int, int],
        *,
        terminal: bool = False,
        env: Mapping[str, str] | None = None,
    ) -> Kept:
        """`targets`: descriptor in the program to ours, which stays the caller's. Raises NotPossible."""
        ours, theirs = socket.socketpair()
        given = sorted({*targets.values(), where.folder} - {-1})
        try:
            keeper = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "proxy.launcher.keeper", stdin=theirs.fileno(),
                stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL, pass_fds=given,
                start_new_session=True, cwd="/", env=_keeper_env(),
            )  # fmt: skip
        except OSError as error:
            ours.close()
            raise NotPossible("not-started", f"no process can be made: {error.strerror or error}") from None
        finally:
            theirs.close()
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=MOST_LINE)
        made = cls(reader, writer, keeper)
        try:
            async with asyncio.timeout(START_WITHIN):
                await made._begin(_plan(argv, where, targets, terminal, {**where.env, **(env or {})}))
        except TimeoutError:
            writer.close()
            raise NotPossible("not-started", f"it did not start within {START_WITHIN:g} s") from None
        except BaseException:
            writer.close()
            raise
        made.done = asyncio.ensure_future(made._follow())
        return made

    async def _begin(self, plan: dict[str, Any]) -> None:
        self._writer.write(json.dumps(plan).encode() + b"\n")  # orjson refuses what is not UTF-8
        try:
            await self._writer.drain()
            said = orjson.loads(await self._reader.readline() or b"{}")
        except (OSError, orjson.JSONDecodeError):
            said = {}
        if "refused" in said:
            raise NotPossible("not-started", said["refused"])
        if "began" not in said:
            raise NotPossible("not-started", "its keeper ended before it could start it")
        self.pid = said["began"]

    async def _follow(self) -> Ended:
        ended, stuck = 0, ()
        try:
            while line := await self._reader.readline():
                said = orjson.loads(line)
                if "exit" in said:
                    self._code, self._signal = said["exit"], said["signal"]
                    self.exited.set()
                if "done" in said:
                    ended, stuck = said["done"]["ended"], tuple(said["done"]["stuck"])
        except (OSError, ValueError):
            pass
        finally:
            self.exited.set()
            self._writer.close()
        await self._keeper.wait()
        return Ended(self._code, self._signal, ended, stuck)

    def end(self, grace: float) -> None:
        """Ask it to end; what has not after `grace` seconds is killed. `done` tells when."""
        if not self._writer.is_closing():
            self._writer.write(orjson.dumps({"end": grace}) + b"\n")

    def kill(self) -> None:
        """All of it, at once."""
        if not self._writer.is_closing():
            self._writer.write_eof()


def _keeper_env() -> dict[str, str]:
    """Of the keeper: what Python needs to find it, and nothing of Triage's own."""
    return {"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": str(Path(proxy.__file__).parent.parent)}


def _plan(
    argv: Sequence[str], where: Where, targets: Mapping[int, int], terminal: bool, env: Mapping[str, str]
) -> dict[str, Any]:
    """As keeper.Plan has it."""
    request: SpawnRequest = {
        "name": where.instance or "console", "kind": "instance" if where.instance else "console",
        "argv": list(argv), "env": dict(env), "cwd": where.cwd if where.folder < 0 else ".",
        "user": where.user, "cgroup": list(where.cgroups), "terminal": terminal,
    }  # fmt: skip
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    soft = SOFT_FILES if hard == resource.RLIM_INFINITY else min(SOFT_FILES, hard)
    return {
        "request": request, "targets": {str(target): fd for target, fd in targets.items()}, "folder": where.folder,
        "marker": os.environ.get(_MARKER, ""), "nofile": (soft, hard),
        "signal": int(signal.SIGHUP if terminal else signal.SIGTERM),
    }  # fmt: skip
