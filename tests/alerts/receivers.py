"""Real receivers: an HTTP server that does as it is told, and a small mail server that knows STARTTLS."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any


@dataclass
class Got:
    """One POST."""

    at: float
    path: str
    headers: dict[str, str]  # names in lower case
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)


@dataclass
class Answer:
    """What the server does with one POST: `hang` it, or answer."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes = b""
    hang: bool = False


class Hook:
    """An HTTP server. `plan` is used up one by one, then `then` holds."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.got: list[Got] = []
        self.plan: list[Answer] = []
        self.then = Answer()
        self.over = threading.Event()
        hook = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                hook.got.append(Got(time.time(), self.path, headers, content))
                answer = hook.plan.pop(0) if hook.plan else hook.then
                if answer.hang:
                    hook.over.wait(60)
                    return
                self.send_response(answer.status)
                for name, value in {**answer.headers, "Content-Length": str(len(answer.content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.content)

            def log_message(self, *args: object) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, request: object, client: object) -> None:
                pass  # who asked has left

        self._server = Server(("127.0.0.1", 0), Handler)
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        scheme = "https" if context is not None else "http"
        self.port = self._server.server_port
        self.url = f"{scheme}://127.0.0.1:{self.port}/hook/sekret?token=geheim"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def of(self, event: str) -> list[Got]:
        """Those of Alertmanager's form about this event."""
        return [one for one in list(self.got) if one.json["commonAnnotations"].get("event") == event]

    def close(self) -> None:
        self.over.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Mailbox:
    """An SMTP server as small as can be (RFC 5321), used from one loop."""

    def __init__(self, context: ssl.SSLContext | None = None, login: tuple[str, str] | None = None) -> None:
        self.mails: list[EmailMessage] = []
        self.heard: list[str] = []  # commands, "TLS " in front of those that were encrypted
        self.refuse: dict[str, str] = {}  # command to what is answered instead
        self.hang_at = ""
        self._context = context
        self._login = login
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._client, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        secure = False

        async def say(text: str) -> None:
            writer.write(text.encode() + b"\r\n")
            await writer.drain()

        await say("220 mail.test")
        while line := (await reader.readline()).decode().rstrip():
            verb = line.split(" ")[0].upper()
            self.heard.append(f"{'TLS ' if secure else ''}{verb}{line[len(verb) :]}")
            if verb == self.hang_at:
                await asyncio.Event().wait()
            if verb in self.refuse:
                await say(self.refuse[verb])
                continue
            match verb:
                case "EHLO":
                    offers = ["mail.test"]
                    offers += ["STARTTLS"] if self._context is not None and not secure else []
                    offers += ["AUTH PLAIN"] if self._login is not None else []
                    for place, offer in enumerate(offers):
                        await say(f"250{'-' if place < len(offers) - 1 else ' '}{offer}")
                case "STARTTLS":
                    assert self._context is not None
                    await say("220 go on")
                    await writer.start_tls(self._context)
                    secure = True
                case "AUTH":
                    await say("235 welcome")
                case "DATA":
                    await say("354 go on")
                    data = await reader.readuntil(b"\r\n.\r\n")
                    found = message_from_bytes(data[:-3], policy=policy.default)
                    assert isinstance(found, EmailMessage)
                    self.mails.append(found)
                    await say("250 taken")
                case "QUIT":
                    await say("221 bye")
                    return
                case _:
                    await say("250 ok")


def unused_port() -> int:
    """Where nothing listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


async def until(what: Callable[[], Any], why: str, within: float = 30.0) -> Any:
    """Wait for a true answer."""
    end = time.monotonic() + within
    while not (found := what()):
        assert time.monotonic() < end, f"not within {within:g} s: {why}"
        await asyncio.sleep(0.01)
    return found
