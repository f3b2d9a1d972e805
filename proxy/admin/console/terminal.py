"""A terminal over a WebSocket: binary frames are what is typed and printed, text frames are JSON.

Always true:
  - its guard and its role are those of any other call, and it ends when the right to it does;
  - what waits is bounded both ways: what is typed and not read stays with the client, and nothing is read of a program
    whose client does not keep up;
  - it ends with its socket, after ADMIN's `console_idle` without a key, and with Triage; all that ran in it too.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any, Final

import orjson
from aiohttp import WSCloseCode, WSMsgType, web

from proxy import units
from proxy.admin import query
from proxy.admin.common import answer
from proxy.admin.console import where as places
from proxy.admin.console.desk import Desk, who
from proxy.admin.errors import ApiProblem
from proxy.admin.times import iso
from proxy.control.console.book import END_WITHIN
from proxy.control.console.kept import Ended
from proxy.control.console.terminal import Size, Terminal
from proxy.control.refusal import NotPossible

MOST_FRAME: Final = 1 << 18
"""Bytes of one frame from the client: more than anybody pastes at once."""
PING: Final = 20.0
SILENT: Final = 65.0
"""Seconds without any frame, three pings unanswered: nobody is there."""
STUCK: Final = 60.0
"""Seconds in which nothing that was printed is taken."""
LOOK: Final = 1.0
CLOSE_WITHIN: Final = 3.0
LONGEST_REASON: Final = 120
"""Bytes of the reason in a close frame, RFC 6455: 123."""


async def begin(request: web.Request, desk: Desk) -> web.StreamResponse:
    """A WebSocket with a shell behind it."""
    if request.headers.get("Upgrade", "").lower() != "websocket" or request.method != "GET":
        raise ApiProblem(426, "upgrade-needed", "This is a WebSocket", hint="triage exec opens one.",
                         headers={"Upgrade": "websocket", "Connection": "Upgrade"})  # fmt: skip
    try:
        size = Size.of(query.number(request, "cols", 80), query.number(request, "rows", 24))
    except ValueError as error:
        raise query.bad("cols", f"{error}.") from None
    ws = web.WebSocketResponse(autoping=False, max_msg_size=MOST_FRAME, compress=False, timeout=CLOSE_WITHIN)
    if not ws.can_prepare(request):
        raise ApiProblem(400, "bad-handshake", "This is no handshake of a WebSocket", "RFC 6455 says what one is.")
    place, folder = await places.found(
        desk, request.query.get("app", ""), request.query.get("instance", ""), request.query.get("root", ""),
        request.query.get("dir", ""),
    )  # fmt: skip
    by, way = who(request)
    try:
        terminal = await desk.consoles.begin(place, size, by, way)
    except NotPossible as error:
        raise places.refused(error, "No terminal can be opened") from None
    finally:
        places.close(folder)
    try:
        return await _serve(request, desk, ws, terminal)
    finally:
        desk.consoles.forget(terminal)


async def _serve(request: web.Request, desk: Desk, ws: web.WebSocketResponse, terminal: Terminal) -> web.StreamResponse:
    place = terminal.where
    desk.note(
        request, f"opened the terminal {terminal.id} in {place.words}", place.app, place.instance, what="began",
        id=terminal.id, pid=terminal.pid, user=place.name, cwd=place.cwd,
    )  # fmt: skip
    why, code = "its call was ended", WSCloseCode.GOING_AWAY
    try:
        await ws.prepare(request)
        await ws.send_str(_json({"begun": _item(terminal)}))
        why, code = await _Talk(request, desk, ws, terminal).until_over()
    except ConnectionError:
        why = "its client left"
    except asyncio.CancelledError:
        why, code = "the right to it has ended, or Triage has", WSCloseCode.POLICY_VIOLATION
        raise
    finally:
        ended = await asyncio.shield(_finish(ws, terminal, why, code))
        took = time.time() - terminal.began
        desk.note(
            request, f"the terminal {terminal.id} in {place.words} has ended after {units.duration(took)}: {why}",
            place.app, place.instance, what="ended", id=terminal.id, why=why, outcome=ended.words,
            typed=terminal.received, printed=terminal.sent, took_s=round(took, 3), stuck=list(ended.stuck),
        )  # fmt: skip
    return ws


async def _finish(ws: web.WebSocketResponse, terminal: Terminal, why: str, code: int) -> Ended:
    """End all that runs in it, say so, and close the socket."""
    ended = await terminal.finish(END_WITHIN)
    with suppress(ConnectionError, TimeoutError, RuntimeError):
        async with asyncio.timeout(CLOSE_WITHIN):
            if ws.prepared and not ws.closed:
                words = ended.words if why == SHELL_ENDED else f"{why}; {ended.words}"
                await ws.send_str(_json({"exit": ended.code, "signal": ended.signal, "words": words}))
                await ws.close(code=code, message=why.encode()[:LONGEST_REASON])
    return ended


SHELL_ENDED: Final = "its shell has ended"


class _Talk:
    """Both directions of one terminal, and the clock."""

    def __init__(self, request: web.Request, desk: Desk, ws: web.WebSocketResponse, terminal: Terminal) -> None:
        self.request, self.desk, self.ws, self.terminal = request, desk, ws, terminal
        self.heard = time.monotonic()
        self.blocked = False
        """What was typed waits to be read: frames are not looked at meanwhile, pongs neither."""

    async def until_over(self) -> tuple[str, WSCloseCode]:
        """Why, and the code of the close frame."""
        tasks = [asyncio.ensure_future(one) for one in (self._out(), self._in(), self._watch())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return next(task for task in tasks if task in done).result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _out(self) -> tuple[str, WSCloseCode]:
        while data := await self.terminal.read():
            try:
                async with asyncio.timeout(STUCK):
                    await self.ws.send_bytes(data)
            except TimeoutError:
                return f"its client took nothing for {STUCK:g} s", WSCloseCode.POLICY_VIOLATION
        return self.terminal.ended_for or SHELL_ENDED, WSCloseCode.OK

    async def _in(self) -> tuple[str, WSCloseCode]:
        while True:
            message = await self.ws.receive()
            self.heard = time.monotonic()
            if message.type == WSMsgType.BINARY:
                self.blocked = True
                await self.terminal.write(message.data)
                self.blocked, self.heard = False, time.monotonic()
            elif message.type == WSMsgType.TEXT:
                try:
                    self._told(orjson.loads(message.data))
                except ValueError as error:
                    return f"a text frame was not understood: {error}", WSCloseCode.INVALID_TEXT
            elif message.type == WSMsgType.PING:
                await self.ws.pong(message.data)
            elif message.type == WSMsgType.ERROR:
                return "a frame was not one of a WebSocket, or too large", WSCloseCode.PROTOCOL_ERROR
            elif message.type != WSMsgType.PONG:
                return "its client left", WSCloseCode.OK

    def _told(self, value: Any) -> None:
        if not isinstance(value, dict) or set(value) != {"resize"}:
            raise ValueError('expected {"resize": [COLUMNS, ROWS]}')
        cells = value["resize"]
        if not isinstance(cells, list) or len(cells) != 2:
            raise ValueError('expected {"resize": [COLUMNS, ROWS]}')
        self.terminal.resize(Size.of(*cells))

    async def _watch(self) -> tuple[str, WSCloseCode]:
        pinged = time.monotonic()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK):
                    await self.terminal.ending.wait()
                    return self.terminal.ended_for, WSCloseCode.OK
            config = self.desk.gateway.config.admin
            if self.request.transport is None or self.request.transport.is_closing():
                return "its client left", WSCloseCode.OK
            if not config.console:
                return "the Console was switched off", WSCloseCode.POLICY_VIOLATION
            if self.terminal.idle > config.console_idle:
                return f"nobody typed for {units.write_duration(config.console_idle)}", WSCloseCode.POLICY_VIOLATION
            now = time.monotonic()
            if not self.blocked and now - self.heard > SILENT:
                return "its client does not answer", WSCloseCode.POLICY_VIOLATION
            if now - pinged >= PING:
                pinged = now
                async with asyncio.timeout(STUCK):
                    await self.ws.ping()


def _json(value: dict[str, Any]) -> str:
    return orjson.dumps(value).decode()


def _item(one: Terminal) -> dict[str, Any]:
    return {
        "id": one.id, "by": one.by, "way": one.way, "app": one.where.app, "instance": one.where.instance,
        "where": one.where.words, "user": one.where.name, "shell": one.where.shell, "cwd": one.where.cwd,
        "began": iso(one.began), "idle_s": round(one.idle, 1), "pid": one.pid, "cols": one.size.cols,
        "rows": one.size.rows, "typed": one.received, "printed": one.sent,
    }  # fmt: skip


async def listed(request: web.Request, desk: Desk) -> web.StreamResponse:
    """Those that are open."""
    found = [_item(one) for one in list(desk.consoles.terminals.values())]
    at, to, following = query.window(request, [one["id"] for one in found])
    return answer({"items": found[at:to], "next": following})


async def end(request: web.Request, desk: Desk) -> web.StreamResponse:
    """End one, with all that runs in it."""
    id = request.match_info["id"]
    one = desk.consoles.terminals.get(id)
    if one is None:
        names = ", ".join(desk.consoles.terminals) or "none"
        raise ApiProblem(404, "no-such-console", f"There is no terminal {id[:40]!r}", hint=f"Open are: {names}.")
    one.end(f"{who(request)[0]} ended it")
    if one.kept is not None and one.kept.done is not None:
        await asyncio.wait([one.kept.done], timeout=END_WITHIN)
    return web.Response(status=204)
