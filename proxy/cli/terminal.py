"""A terminal on the gateway's machine: this one's keys go there, what is shown there comes here, over a WebSocket.

Always true:
  - this terminal is raw only within `raw()`, which puts it back however it is left: by an end, an exception, SIGTERM or
    SIGHUP (SIGKILL can't be helped; `reset` mends what it leaves);
  - every key goes through, Ctrl-C too; the one way out that the far side can't take away is Enter ~ . (as with ssh);
  - what the far side switched on and did not take back when the connection was lost (the other screen, the mouse,
    bracketed paste) is switched off.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import orjson

from proxy.cli.client import PREFIX, ApiError, Gateway, NotThere, reason, trusting

if TYPE_CHECKING:
    import aiohttp

HEARTBEAT: Final = 20.0
"""Seconds between two pings: a connection that is gone is noticed within one and a half."""
CONNECT: Final = 10.0
READ: Final = 1 << 16
MOST: Final = 1000
"""Columns or lines that the gateway takes."""
AHEAD: Final = 64
"""Reads of this terminal that wait to be sent; while there are so many, none more is read."""
OTHER_SCREEN: Final = (b"\x1b[?1049h", b"\x1b[?1049l")
SWITCHED_OFF: Final = b"\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[?1l\x1b>\x1b[?25h\x1b[0m"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended. `code` None: it is not known. `left`: by Enter ~ . here."""

    code: int | None
    words: str
    signal: int | None = None
    left: bool = False


class Escape:
    """Finds Enter ~ . among the keys. `~~` at a line's start is one `~`; anything else goes through as it is."""

    def __init__(self) -> None:
        self._fresh = True  # at the start of a line
        self._held = False  # a ~ that is not sent yet
        self.left = False

    def passed(self, keys: bytes) -> bytes:
        """What is to be sent of these; nothing after the escape."""
        sent = bytearray()
        for key in keys:
            letter = bytes((key,))
            if self._held:
                self._held = False
                if letter == b".":
                    self.left = True
                    break
                sent += b"~" if letter == b"~" else b"~" + letter
            elif self._fresh and letter == b"~":
                self._held = True
                continue
            else:
                sent += letter
            self._fresh = letter in b"\r\n"
        return bytes(sent)


@contextmanager
def raw(descriptor: int) -> Iterator[None]:
    """Every key as it is, none of them a signal; and back to what it was."""
    before = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def size_here() -> tuple[int, int]:
    """Columns and lines of this terminal, whatever COLUMNS and LINES say; 80 and 24 where it does not know."""
    columns, lines = os.get_terminal_size(sys.stdout.fileno())
    return min(columns or 80, MOST), min(lines or 24, MOST)


def talk(gateway: Gateway, query: dict[str, str], told: Any) -> Outcome:
    """Until either side ends it. `told` is called with what the gateway says when it has begun.

    Raises ApiError where it is refused, NotThere where nobody answers.
    """
    return asyncio.run(_Talk(gateway, query, told).run())


class _Talk:
    """One terminal, from its beginning to its end."""

    def __init__(self, gateway: Gateway, query: dict[str, str], told: Any) -> None:
        self._gateway = gateway
        self._query = query
        self._told = told
        self._escape = Escape()
        self._keys: asyncio.Queue[bytes] = asyncio.Queue(AHEAD)
        self._outcome = Outcome(None, "the connection was lost")
        self._resized = asyncio.Event()
        self._other_screen = False
        self._reading = False

    async def run(self) -> Outcome:
        import aiohttp  # a quarter of a second: only a terminal pays

        columns, rows = size_here()
        path = f"{PREFIX}console?" + urlencode({**self._query, "cols": columns, "rows": rows})
        address = self._gateway.address
        connector: aiohttp.BaseConnector
        if address.startswith("unix:"):
            connector, base = aiohttp.UnixConnector(address.removeprefix("unix:")), "http://localhost"
        else:
            base = (address if "//" in address else f"http://{address}").rstrip("/")
            context = trusting(self._gateway.ca) if base.startswith("https:") else True
            connector = aiohttp.TCPConnector(ssl=context)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT)
        headers = self._gateway.headers("application/json")
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            try:
                socket = await session.ws_connect(base + path, headers=headers, heartbeat=HEARTBEAT)
            except aiohttp.WSServerHandshakeError as error:
                raise self._refusal(path, error.status) from None
            except (aiohttp.ClientError, OSError) as error:
                raise NotThere(reason(error)) from None
            async with socket:
                return await self._talk(socket)

    def _refusal(self, path: str, status: int) -> Exception:
        """aiohttp throws the words away: the same question once more, to read them."""
        asked = {
            "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        }  # fmt: skip
        try:
            self._gateway.file("GET", path.removeprefix(PREFIX), asked)
        except (ApiError, NotThere) as error:
            return error
        finally:
            self._gateway.close()
        return ApiError(status, f"The gateway answered {status} instead of opening a terminal")

    async def _talk(self, socket: aiohttp.ClientWebSocketResponse) -> Outcome:
        loop, this = asyncio.get_running_loop(), asyncio.current_task()
        assert this is not None
        ended: list[int] = []

        def end(number: int) -> None:
            ended.append(number)
            this.cancel()

        with raw(sys.stdin.fileno()):
            loop.add_signal_handler(signal.SIGWINCH, self._resized.set)
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                loop.add_signal_handler(number, end, number)
            self._read_on()
            sending = [loop.create_task(one) for one in (self._send(socket), self._resize(socket))]
            try:
                await self._receive(socket)
            except asyncio.CancelledError:
                if not ended:
                    raise
                self._outcome = Outcome(None, f"ended by signal {ended[0]} here", ended[0])
            finally:
                loop.remove_reader(sys.stdin.fileno())
                for task in sending:
                    task.cancel()
                await asyncio.gather(*sending, return_exceptions=True)
                self._switch_off()
        return self._outcome

    async def _resize(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Each new size; of several while one is sent, the last."""
        while await self._resized.wait():
            self._resized.clear()
            await socket.send_str(orjson.dumps({"resize": list(size_here())}).decode())

    # --- keys go there --------------------------------------------------------------------------------

    def _read_on(self) -> None:
        if not self._reading:
            asyncio.get_running_loop().add_reader(sys.stdin.fileno(), self._read)
            self._reading = True

    def _read(self) -> None:
        try:
            keys = os.read(sys.stdin.fileno(), READ)
        except OSError:  # the terminal is gone
            keys = b""
        if keys:
            self._keys.put_nowait(keys)
        if not keys or self._keys.full():
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
            self._reading = False
        if not keys:
            signal.raise_signal(signal.SIGHUP)

    async def _send(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            keys = self._escape.passed(await self._keys.get())
            if keys:
                await socket.send_bytes(keys)
            if self._escape.left:
                self._outcome = Outcome(0, "left", left=True)
                await socket.close()
                return
            self._read_on()

    # --- what is shown comes here ---------------------------------------------------------------------

    async def _receive(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        import aiohttp

        async for message in socket:
            if message.type is aiohttp.WSMsgType.BINARY:
                self._show(message.data)
            elif message.type is aiohttp.WSMsgType.TEXT:
                self._heard(orjson.loads(message.data))
            elif message.type is aiohttp.WSMsgType.ERROR:
                self._outcome = Outcome(None, f"the connection was lost: {socket.exception()}")
        if self._outcome.code is None and isinstance(socket.close_code, int) and socket.close_code not in (1000, 1006):
            self._outcome = Outcome(None, f"the gateway ended it ({socket.close_code})")

    def _heard(self, said: Any) -> None:
        if not isinstance(said, dict):
            return
        if "begun" in said:
            self._told(said["begun"])
        if "exit" in said:
            code, number = said["exit"], said.get("signal")
            self._outcome = Outcome(
                code if isinstance(code, int) else None, str(said.get("words") or ""),
                number if isinstance(number, int) else None,
            )  # fmt: skip

    def _show(self, data: bytes) -> None:
        on, off = (data.rfind(code) for code in OTHER_SCREEN)
        if on != off:
            self._other_screen = on > off
        self._write(data)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(sys.stdout.fileno(), view) :]

    def _switch_off(self) -> None:
        """What the far side would have switched off itself, had it come to its end."""
        if self._outcome.code is not None and not self._outcome.left and not self._other_screen:
            return
        try:
            self._write((OTHER_SCREEN[1] if self._other_screen else b"") + SWITCHED_OFF)
        except OSError:
            pass  # the terminal is gone
