"""Who calls, with which role; and the calls under way, each ended when its caller's right to it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from proxy.admin.errors import ApiProblem
from proxy.admin.routing import ROLES, Role

ADMIN_TOKEN: Final = "admin.token"
"""Name and id of the token that is made at the first start."""


class Denied(ApiProblem):
    """A call that its caller may not make; it is written down. `caller`: who it is, where that is known."""

    caller: Caller | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """`role` is None where nobody has shown anything, as only open routes allow."""

    name: str  # of the token, or "uid 1000" at the Unix socket
    role: Role | None
    way: str  # in words: "token, from 127.0.0.1", "socket, uid 0, pid 4711", "login, from ::1"
    token: str = ""  # its id; "" at the Unix socket
    login: str = ""  # hash of the cookie that was shown
    expires: float | None = None  # Unix seconds

    def may(self, role: Role) -> bool:
        """Whether its role is this one, or one that may more."""
        return self.role is not None and ROLES.index(self.role) >= ROLES.index(role)


def nobody(way: str) -> Caller:
    """Who has shown nothing."""
    return Caller("", None, way)


def require(request: web.Request, role: Role, what: str) -> None:
    """For what needs more than its route does; it is written down like an act. Raises Denied.

    `what` begins the sentence: "A memory dump".
    """
    caller: Caller = request["caller"]
    request["audit"] = True
    if not caller.may(role):
        raise too_low(caller, role, what)


def too_low(caller: Caller, role: Role, what: str = "This") -> Denied:
    """The refusal of a role."""
    denied = Denied(
        403, "role-too-low", f"{what} needs the role {role}", f"{caller.name} has the role {caller.role}.",
        f"An admin makes a token with it: triage token make NAME --role {role}", needs=role,
    )  # fmt: skip
    denied.caller = caller
    return denied


class UnderWay:
    """All calls that are being answered, streams and WebSockets too.

    Always true: a call is not answered for longer than its caller may call.
    """

    def __init__(self) -> None:
        self._calls: dict[asyncio.Task[object], Caller] = {}

    def __repr__(self) -> str:
        return f"<UnderWay {len(self._calls)} calls>"

    @contextmanager
    def one(self, caller: Caller) -> Iterator[None]:
        """As long as this lasts, the current task may be ended."""
        task = asyncio.current_task()
        if task is None:
            yield
            return
        over = None
        if caller.expires is not None:
            over = asyncio.get_running_loop().call_later(max(0.0, caller.expires - time.time()), task.cancel)
        self._calls[task] = caller
        try:
            yield
        finally:
            del self._calls[task]
            if over is not None:
                over.cancel()

    def end(self, whose: Callable[[Caller], bool]) -> int:
        """Cut those calls, but for the one that asks for it; how many there were."""
        found = [task for task, caller in self._calls.items() if whose(caller) and task is not asyncio.current_task()]
        for task in found:
            task.cancel()
        return len(found)
