"""Origins that misbehave on purpose: each is a script that reads, sends and cuts.

    def script(conn: Conn) -> None:
        request = conn.request()          # strictly read; with its content
        conn.send(b"HTTP/1.1 200 OK\r\n", b"Content-Length: 5\r\n\r\nhel")
        conn.reset()

A script runs in a thread, once for each connection; when it returns the connection is closed (FIN). `Ended` and `Reset`
from the gateway's side end it quietly; any other exception fails the test, when the origin is closed.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from types import TracebackType

from tests.dataplane.client import DEADLINE, Ended, Malformed, Request, Wire, request_of
from tests.dataplane.harness import listening

Script = Callable[["Conn"], None]


class Conn(Wire):
    """One connection from the gateway; `number` counts from 0."""

    def __init__(self, origin: Origin, sock: socket.socket, number: int) -> None:
        super().__init__(sock)
        self.origin = origin
        self.number = number
        self.requests: list[Request] = []
        self.finished = threading.Event()

    def head_only(self) -> Request:
        """The next request's head; its content is still to be read."""
        found = request_of(self)
        self.requests.append(found)
        with self.origin.changed:
            self.origin.requests.append(found)
            self.origin.changed.notify_all()
        return found

    def request(self) -> Request:
        """The next request with its content. Raises Ended where the gateway closed instead."""
        found = self.head_only()
        self.content(found)
        return found

    def answer(self, body: bytes = b"ok", *lines: str, status: str = "200 OK") -> None:
        """A plain whole response."""
        self.send(response(body, *lines, status=status))

    def until_closed(self) -> bytes:
        """All that still comes, until the gateway ends the connection; `ended` says how."""
        return self.rest()


def response(body: bytes = b"ok", *lines: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *lines, "", ""]).encode("latin-1") + body


class Origin:
    """A listening socket whose connections run `script`. Close it, or use it in a `with`."""

    def __init__(
        self,
        script: Script | None = None,
        *,
        address: str = "127.0.0.1",
        path: str = "",
        tls: ssl.SSLContext | None = None,
        receive_buffer: int = 0,
    ) -> None:
        self.script = script or serve_ok
        self.tls = tls
        self.path = path
        if path:
            self._listening = socket.socket(socket.AF_UNIX)
            self._listening.bind(path)
            self._listening.listen(128)
            self.port = 0
        else:
            self._listening = listening(address)
            self.port = self._listening.getsockname()[1]
        if receive_buffer:
            self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.connections: list[Conn] = []
        self.requests: list[Request] = []
        """Of all connections, in the order in which their heads were read."""
        self.changed = threading.Condition()
        self.handshakes_failed = 0
        self.errors: list[str] = []
        self._threads: list[threading.Thread] = []
        self._closing = False
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def __enter__(self) -> Origin:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(quietly=error is not None)

    @property
    def received(self) -> bytes:
        """All bytes that came, over all connections."""
        return b"".join(bytes(each.taken) for each in list(self.connections))

    def wait(self, what: Callable[[Origin], object], deadline: float = DEADLINE) -> None:
        """Until `what(origin)` holds; looked at when a request came, and often besides."""
        until = time.monotonic() + deadline
        with self.changed:
            while not what(self):
                left = until - time.monotonic()
                assert left > 0, f"not within {deadline:g} s; requests: {[each.start for each in self.requests]}"
                self.changed.wait(min(left, 0.02))

    def close(self, quietly: bool = False) -> None:
        """End all; then fail if a script failed."""
        self._closing = True
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._accepting.join(DEADLINE)
        self._listening.close()
        for each in list(self.connections):
            with contextlib.suppress(OSError):
                each.sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(DEADLINE)
            assert not thread.is_alive(), "a script of an origin does not end"
        if self.errors and not quietly:
            raise AssertionError("an origin's script failed:\n" + "\n".join(self.errors))

    def _accept(self) -> None:
        while not self._closing:
            try:
                sock, _ = self._listening.accept()
            except OSError:
                return
            if self._closing:
                sock.close()
                return
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(target=self._run, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _run(self, sock: socket.socket) -> None:
        if self.tls is not None:
            sock.settimeout(DEADLINE)
            try:
                sock = self.tls.wrap_socket(sock, server_side=True)
            except (OSError, ssl.SSLError):
                self.handshakes_failed += 1
                sock.close()
                return
        with self.changed:
            conn = Conn(self, sock, len(self.connections))
            self.connections.append(conn)
            self.changed.notify_all()
        try:
            self.script(conn)
        except (Ended, ConnectionError):
            pass
        except (Malformed, Exception):
            if not self._closing:
                self.errors.append(traceback.format_exc())
        finally:
            conn.close()
            conn.finished.set()


# --- scripts that many tests use ------------------------------------------------------------------


def serve_ok(conn: Conn) -> None:
    """Answer each request with 200 and its target, for as long as the connection lasts."""
    while True:
        request = conn.request()
        conn.answer(b"" if request.method == "HEAD" else request.target.encode())


def echo(conn: Conn) -> None:
    """Answer each request with its content."""
    while True:
        conn.answer(conn.request().body)


def once(*pieces: bytes) -> Script:
    """Read one request, send these pieces, and close."""

    def script(conn: Conn) -> None:
        conn.request()
        conn.send(*pieces)

    return script


def each_time(*pieces: bytes) -> Script:
    """Answer each request with these pieces; the connection stays."""

    def script(conn: Conn) -> None:
        while True:
            conn.request()
            conn.send(*pieces)

    return script


def close_at_once(conn: Conn) -> None:
    """Read one request and close without a word."""
    conn.request()


def reset_at_once(conn: Conn) -> None:
    """Read one request and reset."""
    conn.request()
    conn.reset()


def never(conn: Conn) -> None:
    """Read one request and never answer."""
    conn.request()
    conn.until_closed()


def never_read(conn: Conn) -> None:
    """Accept, and read nothing until the origin is closed."""
    while not conn.origin._closing:
        time.sleep(0.02)  # nothing can be waited for: any read would take what must stay unread


@contextlib.contextmanager
def origins(*scripts: Script) -> Iterator[list[Origin]]:
    """Several at once."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Origin(script)) for script in scripts]
