"""One session's process, from its start to its end: looked at three times a second, never waited for without a limit.

Longer than most: its course, its limits and its ends are read together.

Always true:
  - what may be slow, the disk above all, happens in a thread, and is given up after SILENT seconds;
  - a process that outlasts a limit gets TERM (stop gathering, go on with what there is), then KILL; one that does not
    end even then is given up, and said to be;
  - a session ends once, and `gathered` is set by then at the latest.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import proxy
from proxy import units
from proxy.control.launcher import Refused
from proxy.control.operations import Operation
from proxy.control.sessions import folders
from proxy.control.sessions.session import GATHERED, Session
from proxy.control.shared import Shared
from proxy.link.session import AFTER, INPUT
from proxy.link.spawn import ExitRecord

KIND: Final = "session"
MODULE: Final = "proxy.diagnostics.session"
TICK: Final = 0.3
SILENT: Final = 5.0
"""Seconds for a look at the disk."""
PREPARE: Final = 8.0
"""Seconds for all that is known, and for writing it."""
AFTER_WITHIN: Final = 6.0
"""Seconds that the process waits for what is known afterwards."""
SPARE: Final = 3.0
TERM_WITHIN: Final = 5.0
"""Seconds from TERM to the end of gathering, after which it is killed."""
CANCEL_WITHIN: Final = 20.0
"""Seconds from a person's cancel to KILL: what there is is still analyzed."""
KILL_WITHIN: Final = 5.0
RECYCLE_WITHIN: Final = 3600.0
"""Seconds that a session waits for the end of its recycle, which has limits of its own."""
NICE: Final = 10
_ENDINGS: Final = ("done", "cancelled", "failed")

T = TypeVar("T")


class Desk(Protocol):
    """What a run needs of the engine."""

    shared: Shared

    def folder(self, session: Session) -> Path: ...

    async def in_thread(self, work: Callable[[], T], within: float) -> T:
        """Raises TimeoutError."""

    async def input(self, session: Session) -> bytes: ...

    async def after(self, session: Session) -> bytes: ...

    def early_exit(self, child: str) -> ExitRecord | None: ...

    def recycle(self, session: Session) -> Operation:
        """Raises NotPossible, KeyError."""

    def changed(self, session: Session) -> None:
        """Its state is another one."""

    def ended(self, session: Session) -> None: ...


class Run:
    """`follow` is awaited by one task; the others may be called at any time."""

    def __init__(self, desk: Desk, session: Session) -> None:
        self.session = session
        self.gathered = asyncio.Event()
        """Nothing more is asked of the app; or it has ended."""
        self.over = asyncio.Event()
        self._desk = desk
        self._exit: asyncio.Future[ExitRecord | None] = asyncio.get_running_loop().create_future()
        self._stamp = (0, 0)
        self._looking: asyncio.Future[Any] | None = None
        self._after: asyncio.Task[None] | None = None
        self._termed = 0.0  # monotonic times at which it was told to end
        self._killed = 0.0
        self._cancelled = 0.0
        self._hung = ""

    def __repr__(self) -> str:
        return f"<Run of {self.session!r}>"

    # --- what is done to it ----------------------------------------------------------------------------

    def exited(self, record: ExitRecord | None) -> None:
        """The launcher reaped it; None: it was gone, and nobody knows how it ended."""
        if not self._exit.done():
            self._exit.set_result(record)

    def cancel(self) -> bool:
        """Whether that was news. Said twice, it is killed at once."""
        now = time.monotonic()
        if self._cancelled:
            self._later(self._kill(now))
            return False
        self._cancelled = now
        if self.session.outcome is not None:  # before it has said anything it does not listen yet
            self._later(self._term(now))
        return True

    async def stop(self) -> None:
        """Triage stops: it ends now, and is lost."""
        doing = self.session.state
        await self._kill(time.monotonic())
        self._end("lost", f"Triage was stopped while it was {doing}")

    # --- its course ------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Write what it has to know, start it, follow it."""
        session = self.session
        try:
            async with asyncio.timeout(PREPARE):
                data = await self._desk.input(session)
            folder = self._desk.folder(session)
            await self._desk.in_thread(lambda: folders.write(folder, INPUT, data), SILENT)
            if self._cancelled:
                self._end("cancelled", "before it began to gather")
            if self.over.is_set():
                return
            now = time.monotonic()  # before it is there: a control that takes it over must know its limits
            session.until = time.time() + session.seconds + min(session.budget, 4.0)
            session.gather_by = now + session.seconds + session.budget + SPARE
            session.end_by = session.gather_by + TERM_WITHIN + AFTER_WITHIN + session.analyzing + SPARE
            await self._spawn([])
        except TimeoutError:
            self._end("failed", f"what is known could not be written within {PREPARE:g} s")
        except (Refused, OSError) as error:
            self._end("failed", f"its process could not be started: {error}")
        except Exception as error:
            self._broke(error)
        else:
            self._move("collecting")
            await self.follow()

    async def again(self) -> None:
        """Analyze what was gathered before once more."""
        session = self.session
        folder = self._desk.folder(session)
        try:
            self._stamp, _ = await self._desk.in_thread(lambda: folders.outcome(folder, (0, 0)), SILENT)
            if self.over.is_set():
                return
            await self._spawn(["--from", "analyze"])
        except (Refused, OSError) as error:
            self._end("failed", f"its process could not be started: {error}")
        except Exception as error:
            self._broke(error)
        else:
            session.gather_by = session.end_by = time.monotonic() + session.analyzing + AFTER_WITHIN + SPARE
            self._move("analyzing")
            await self.follow()

    async def follow(self) -> None:
        """To its end."""
        try:
            while not self.over.is_set() and not await self._exit_within(TICK):
                await self._look()
                self._advance()
                await self._keep_limits()
                if self._killed and time.monotonic() - self._killed > KILL_WITHIN:
                    self.exited(None)
                    self._hung = self._hung or "it does not end, not even killed"
            if self.over.is_set():
                return
            await self._look(last=True)
            self._advance()
            await self._finish()
        except Exception as error:
            await self._kill(time.monotonic())
            self._broke(error)

    async def lost(self) -> None:
        """Its process is gone, and nobody saw how it ended: by what it wrote last it may have been at its end."""
        session = self.session
        await self._look(last=True)
        if session.outcome is not None and session.outcome.state in _ENDINGS:
            self.exited(None)
            await self.follow()
        else:
            doing = f"while it was {session.state}, and its process with it"
            self._end("lost", f"Triage ended {doing if session.child else 'before it had a process'}")

    async def _exit_within(self, seconds: float) -> bool:
        await asyncio.wait([self._exit], timeout=seconds)
        return self._exit.done()

    async def _spawn(self, more: list[str]) -> None:
        session = self.session
        folder = self._desk.folder(session)
        session.child = f"session:{session.id}" + (f":{time.monotonic_ns()}" if more else "")
        await self._desk.shared.launcher.spawn(
            {
                "name": session.child,
                "kind": KIND,
                "argv": [sys.executable, "-P", "-m", MODULE, str(folder), *more],
                "env": _environment(),
                "nice": NICE,
                "note": {"session": session.id, "app": session.app},
            }
        )
        self._desk.shared.noted()
        if (record := self._desk.early_exit(session.child)) is not None:
            self.exited(record)

    async def _look(self, last: bool = False) -> None:
        """What it says by now. A disk that hangs is asked once, and no more until it answers."""
        if self._looking is not None and not self._looking.done():
            return
        folder, stamp = self._desk.folder(self.session), self._stamp
        self._looking = asyncio.ensure_future(
            self._desk.in_thread(lambda: folders.outcome(folder, stamp), SILENT)
        )
        try:
            async with asyncio.timeout(SILENT if last else 2.0):
                self._stamp, outcome = await asyncio.shield(self._looking)
        except (TimeoutError, OSError):
            return
        if outcome is not None:
            self.session.heard(outcome)

    def _advance(self) -> None:
        """From state to state, as its process says."""
        session, outcome = self.session, self.session.outcome
        if outcome is None or outcome.state == "collecting":
            return
        if outcome.state in GATHERED and not self.gathered.is_set():
            self.gathered.set()
            self._recycle()
        if outcome.state == "wants after" and not session.told_after:
            session.told_after = True
            self._after = asyncio.get_running_loop().create_task(self._tell_after())
        if not session.again and self._recycling() is not None:
            self._move("recycling")
        else:
            self._move("analyzing")

    async def _tell_after(self) -> None:
        """What is known once gathering is over; the process goes on without where it comes too late."""
        session = self.session
        folder = self._desk.folder(session)
        try:
            async with asyncio.timeout(AFTER_WITHIN):
                data = await self._desk.after(session)
                await self._desk.in_thread(lambda: folders.write(folder, AFTER, data), SILENT)
        except (TimeoutError, OSError):
            pass
        except Exception as error:
            self._desk.shared.log.error("defect", f"what is known after {session!r}: {error!r}", app=session.app)

    async def _keep_limits(self) -> None:
        session, now = self.session, time.monotonic()
        gathering = not self.gathered.is_set()
        late = now - self._cancelled > TERM_WITHIN
        if self._cancelled and not self._termed and (session.outcome is not None or late):
            await self._term(now)
        if self._cancelled and now - self._cancelled > CANCEL_WITHIN:
            self._hung = f"killed {units.duration(CANCEL_WITHIN)} after it was cancelled"
            await self._kill(now)
        elif gathering and now > session.gather_by and not self._termed:
            self._hung = "gathering did not end in time"
            await self._term(now)
        elif gathering and self._termed and not self._cancelled and now - self._termed > TERM_WITHIN:
            self._hung = "killed: gathering did not end in time"
            await self._kill(now)
        elif now > session.end_by:
            self._hung = f"killed: it took longer than {units.duration(session.analyzing)} to analyze"
            await self._kill(now)

    async def _term(self, now: float) -> None:
        self._termed = self._termed or now
        await self._signal(signal.SIGTERM, "process")

    async def _kill(self, now: float) -> None:
        """What it started leads groups of its own; they die with it."""
        if not self._killed:
            self._killed = now
            await self._signal(signal.SIGKILL, "group")

    async def _signal(self, number: int, to: str) -> None:
        if not self.session.child:
            return
        try:
            async with asyncio.timeout(SILENT):
                await self._desk.shared.launcher.signal(self.session.child, number, to=to)
        except (Refused, TimeoutError):
            pass  # it has ended

    # --- recycling -------------------------------------------------------------------------------------

    def _recycle(self) -> None:
        """The act that it is for, once what the old instance knows is gathered."""
        session = self.session
        if session.mode != "recycle" or session.trigger.operation or session.recycle or session.again:
            return
        if self._cancelled:
            session.recycled = "not recycled: the session was cancelled"
            return
        try:
            session.recycle = self._desk.recycle(session).id
        except Exception as error:  # NotPossible, or gone by now
            session.recycled = f"not recycled: {error}"

    def _recycling(self) -> Operation | None:
        """The operation, as long as it runs."""
        found = self._desk.shared.operations.get(self.session.recycle) if self.session.recycle else None
        return found if found is not None and found.running else None

    # --- its end ---------------------------------------------------------------------------------------

    async def _finish(self) -> None:
        session, outcome = self.session, self.session.outcome
        if not self.gathered.is_set():
            self.gathered.set()
            self._recycle()
        if self._after is not None and not self._after.done():
            self._after.cancel()
        operation = self._recycling()
        if operation is not None:
            self._move("recycling")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RECYCLE_WITHIN):
                    await operation.over.wait()
        if session.recycle and not session.recycled:
            known = self._desk.shared.operations.get(session.recycle)
            session.recycled = f"{known.id} {known.state}" if known is not None else session.recycle
        state, why = await self._verdict()
        if outcome is not None and outcome.state in _ENDINGS and session.recycled.startswith("not recycled"):
            why = "; ".join(part for part in (session.recycled, why) if part)
        folder = self._desk.folder(session)
        try:
            session.size = await self._desk.in_thread(lambda: folders.size(folder), SILENT)
        except (TimeoutError, OSError):
            pass
        self._end(state, why)

    async def _verdict(self) -> tuple[str, str]:
        """How it ended, and why."""
        session, outcome = self.session, self.session.outcome
        if outcome is not None and outcome.state in _ENDINGS:
            if outcome.state == "done" and self._cancelled:
                return "cancelled", outcome.why
            return outcome.state, outcome.why or (self._hung if self._termed and not self._cancelled else "")
        folder = self._desk.folder(session)
        try:
            words = await self._desk.in_thread(lambda: folders.last_words(folder), SILENT)
        except (TimeoutError, OSError):
            words = ""
        doing = "analyzing" if outcome is not None and outcome.state == "analyzing" else "gathering"
        how = self._hung or f"its process {_how(self._exit.result())} while {doing}"
        if self._cancelled:
            return "cancelled", how
        return "failed", how + (f"; it said last: {words}" if words and not self._killed else "")

    def _broke(self, error: Exception) -> None:
        """A defect must not leave a session that never ends."""
        self._desk.shared.log.error("defect", f"{self!r} broke: {error!r}", app=self.session.app)
        self._end("failed", f"internal error: {error!r}")

    def _move(self, state: str) -> None:
        if self.session.active and self.session.state != state:
            self.session.state = state
            self._desk.changed(self.session)

    def _end(self, state: str, why: str) -> None:
        session = self.session
        if self.over.is_set():
            return
        session.state, session.why, session.child = state, why, ""
        session.ended = session.ended if session.again and session.ended else time.time()
        self.gathered.set()
        self.over.set()
        self._desk.ended(session)

    def _later(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())


def _how(record: ExitRecord | None) -> str:
    if record is None:
        return "was gone"
    if record["signal"] is not None:
        try:
            name = signal.Signals(record["signal"]).name
        except ValueError:
            name = str(record["signal"])
        return f"was ended by {name}"
    return f"ended with code {record['code']}"


def _environment() -> dict[str, str]:
    """Control's own, and where this package is."""
    paths = [str(Path(proxy.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
