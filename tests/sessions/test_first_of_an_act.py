"""Of one act the first evidence is analyzed; what could not begin is not the first."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from proxy.control.operations import Asked, Operation
from proxy.control.refusal import NotPossible
from proxy.control.sessions.evidence import Evidence
from proxy.control.sessions.session import Session


class Desk:
    """As `Sessions`, for who takes evidence: the first session finds no room."""

    def __init__(self) -> None:
        self.modes: list[str] = []
        self.runs: dict[int, Any] = {}
        self.shared = SimpleNamespace(event=lambda *text, **more: None)

    def covering(self, app: str, instance: str) -> None:
        return None

    async def begin(self, app: str, instance: str, *, mode: Any, seconds: float, trigger: Any, **more: Any) -> Session:
        self.modes.append(mode)
        if len(self.modes) == 1:
            raise NotPossible("no-room", "the disk is nearly full")
        number = len(self.modes)
        gathered = asyncio.Event()
        gathered.set()
        self.runs[number] = SimpleNamespace(gathered=gathered)
        return Session(number, app, instance, mode, seconds, trigger, 0.0)


def test_what_could_not_begin_is_not_the_first_of_its_act() -> None:
    async def three() -> tuple[list[str], list[str]]:
        desk = Desk()
        evidence = Evidence(cast(Any, desk))
        restart = Operation("op-7", "restart", "web", "", Asked("by hand"), 0.0)
        app, *instances = (cast(Any, SimpleNamespace(name=name)) for name in ("web", "web-1", "web-2", "web-3"))
        said = [await evidence.collect(app, one, restart) for one in instances]
        return desk.modes, said

    modes, said = asyncio.run(three())
    assert modes == ["recycle", "recycle", "collect"] and "nearly full" in said[0]
