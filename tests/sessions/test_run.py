"""The course of one session where something of Triage's own breaks: it ends all the same, and says so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from proxy.control.sessions.run import Run
from proxy.control.sessions.session import Session, Trigger


class Desk:
    """An engine that has a launcher without one; `asked` lets `input` answer."""

    def __init__(self, folder: Path) -> None:
        self.asked = asyncio.Event()
        self.spawned: list[Any] = []
        self.defects: list[str] = []
        self.endings: list[str] = []
        self._folder = folder
        log = SimpleNamespace(error=lambda event, text, **more: self.defects.append(text))
        self.shared: Any = SimpleNamespace(launcher=self, log=log, noted=lambda: None)

    async def spawn(self, what: Any) -> None:
        self.spawned.append(what)
        raise RuntimeError("odd")

    async def signal(self, name: str, number: int, to: str) -> None:
        return None

    def folder(self, session: Session) -> Path:
        return self._folder

    async def in_thread(self, work: Callable[[], Any], within: float) -> Any:
        return await asyncio.to_thread(work)

    async def input(self, session: Session) -> bytes:
        await self.asked.wait()
        return b"{}"

    async def after(self, session: Session) -> bytes:
        return b"{}"

    def early_exit(self, child: str) -> None:
        return None

    def recycle(self, session: Session) -> Any:
        raise AssertionError

    def changed(self, session: Session) -> None:
        return None

    def ended(self, session: Session) -> None:
        self.endings.append(session.state)


def session(**more: Any) -> Session:
    return Session(
        number=1, app="web", instance="", mode="analyze", seconds=5.0, trigger=Trigger(), began=time.time(), **more
    )


async def test_a_defect_ends_it_whether_it_begins_or_is_analyzed_again(tmp_path: Path) -> None:
    for number, again in enumerate((False, True), 1):
        desk = Desk(tmp_path)
        desk.asked.set()
        one = session(state="analyzing" if again else "waiting", again=again)
        run = Run(desk, one)
        await (run.again() if again else run.begin())
        assert one.state == "failed" and one.why == "internal error: RuntimeError('odd')"
        assert desk.endings == ["failed"] and len(desk.defects) == 1 and run.over.is_set(), number


async def test_one_that_is_stopped_before_it_began_starts_no_process(tmp_path: Path) -> None:
    desk, one = Desk(tmp_path), session()
    run = Run(desk, one)
    beginning = asyncio.create_task(run.begin())
    await asyncio.sleep(0)
    await run.stop()
    desk.asked.set()
    await beginning
    assert one.state == "lost" and desk.endings == ["lost"] and not desk.spawned and not desk.defects
