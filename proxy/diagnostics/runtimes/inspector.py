"""V8's inspector on loopback: finding it by a process's sockets, and speaking with it (WebSocket, RFC 6455).

Only one that is open already is used, unless the app's config says that it may be opened: it lets everybody on the
machine run code in the app.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from proxy import units
from proxy.diagnostics import net, netlink, proc

NODES_OWN: Final = 9229
TRY: Final = 0.5
"""Seconds for one port: the inspector has a thread of its own and answers at once, whatever the app does."""
PORTS: Final = 8
MESSAGE: Final = 32 * units.MIB
_OPTION: Final = re.compile(r"--inspect(?:-brk|-port|-wait)?=(?:.*:)?(\d+)")


class NoInspector(Exception):
    """It is not open, or did not answer as one: in words."""


class Place(NamedTuple):
    """Where a socket listens. `host`: the address to reach it by from here."""

    host: str
    port: int
    loopback: bool  # it is for this machine alone


def listening(pid: int) -> list[Place]:
    """The TCP sockets of the process that listen. Raises OSError."""
    inodes = {net.inode(link) for link in net.descriptors(pid).values()} - {0}
    rows = [row for kind in ("tcp", "tcp6") for row in net.table(pid, kind)]
    return [
        Place("::1" if ":" in row.local[0] else "127.0.0.1", row.local[1], net.loopback(row.local[0]))
        for row in rows
        if row.state == netlink.LISTEN and row.inode in inodes
    ]


def find(pid: int, but: frozenset[int]) -> str:
    """The WebSocket address of its inspector. `but`: ports of the app itself, which are not asked.

    Raises NoInspector, OSError.
    """
    environment = (proc.PROC / str(pid) / "environ").read_bytes().decode(errors="replace")
    options = next((one for one in environment.split("\0") if one.startswith("NODE_OPTIONS=")), "")
    told = {int(match[1]) for word in (*proc.command(pid), *options.split()) if (match := _OPTION.search(word))}
    known = told | {NODES_OWN}
    there = [one for one in listening(pid) if one.port not in but and (one.loopback or one.port in known)]
    there.sort(key=lambda one: one.port not in known)
    for one in there[:PORTS]:
        found = _ask(one.host, one.port)
        if found:
            return found
    raise NoInspector("its inspector is not open")


def _ask(host: str, port: int) -> str:
    """"" where no inspector answers."""
    connection = http.client.HTTPConnection(host, port, timeout=TRY)
    try:
        connection.request("GET", "/json/list", headers={"Connection": "close"})
        raw = connection.getresponse().read(65536)
        targets = json.loads(raw)
        address = targets[0]["webSocketDebuggerUrl"]
        return str(address) if targets[0].get("type") == "node" else ""
    except (OSError, ValueError, LookupError, TypeError, http.client.HTTPException):
        return ""
    finally:
        connection.close()


class Inspector:
    """A connection to it. To leave it is to let the app run on, whatever was asked: V8 resumes it then."""

    def __init__(self, address: str, timeout: float) -> None:
        """Raises OSError, NoInspector. `timeout` in seconds, of each answer."""
        host, _, path = address.removeprefix("ws://").partition("/")
        name, _, port = host.rpartition(":")
        self._socket = socket.create_connection((name.strip("[]"), int(port)), timeout=timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._timeout = timeout
        self._turn = 0
        self._data = b""
        try:
            self._open(host, path)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _open(self, host: str, path: str) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        self._socket.sendall(
            f"GET /{path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        while b"\r\n\r\n" not in self._data:
            self._more(time.monotonic() + self._timeout)
        head, _, self._data = self._data.partition(b"\r\n\r\n")
        if b" 101 " not in head.split(b"\r\n")[0] + b" ":
            raise NoInspector("its inspector refused the connection")

    def _send(self, method: str, given: dict[str, Any]) -> int:
        """The number of what is asked."""
        self._turn += 1
        data = json.dumps({"id": self._turn, "method": method, "params": given}).encode()
        mask = os.urandom(4)
        size = len(data)
        length = bytes([0x80 | size]) if size < 126 else b"\xfe" + struct.pack(">H", size)  # ours are short
        masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))
        self._socket.sendall(b"\x81" + length + mask + masked)
        return self._turn

    def ask(self, method: str, **given: Any) -> dict[str, Any]:
        """Its result. Raises TimeoutError, NoInspector, OSError."""
        number = self._send(method, given)
        for message in self._messages(self._timeout):
            if message.get("id") == number:
                if "error" in message:
                    raise NoInspector(f"its inspector refused {method}: {message['error'].get('message', '')}")
                result: dict[str, Any] = message.get("result", {})
                return result
        raise TimeoutError(f"its inspector did not answer {method} within {self._timeout:g} s")

    # -- frames ----------------------------------------------------------------------------------------------

    def _messages(self, within: float) -> Iterator[dict[str, Any]]:
        """Until the time is over."""
        end = time.monotonic() + within
        parts = b""
        while True:
            try:
                final, opcode, data = self._frame(end)
            except TimeoutError:
                return
            if opcode == 8:
                raise NoInspector("its inspector closed the connection")
            if opcode in (0, 1):
                parts += data
                if final:
                    yield json.loads(parts)
                    parts = b""

    def _frame(self, end: float) -> tuple[bool, int, bytes]:
        self._need(2, end)
        first, size, at = self._data[0], self._data[1] & 0x7F, 2
        if size > 125:
            at = 4 if size == 126 else 10
            self._need(at, end)
            size = int.from_bytes(self._data[2:at], "big")
        if size > MESSAGE:
            raise NoInspector(f"its inspector sent a message of {units.size(size)}")
        self._need(at + size, end)
        data, self._data = self._data[at : at + size], self._data[at + size :]
        return bool(first & 0x80), first & 0x0F, data

    def _need(self, size: int, end: float) -> None:
        while len(self._data) < size:
            self._more(end)

    def _more(self, end: float) -> None:
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)
        # node leaves Nagle's algorithm on: without an ACK at once each of its answers waits 40 ms, the app with it
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        data = self._socket.recv(1 << 18)
        if not data:
            raise NoInspector("its inspector closed the connection")
        self._data += data


def ports_of(*addresses: str) -> frozenset[int]:
    """Of "127.0.0.1:8000" and the like."""
    return frozenset(int(one.rpartition(":")[2]) for one in addresses if one.rpartition(":")[2].isdigit())


def readable(url: str) -> str:
    """A script's URL as a path."""
    return str(Path(url[7:])) if url.startswith("file://") else url
