"""Bytes on a socket of the admin API, and the answers to them as they came."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.api.gateway import LONG, Gateway


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer; `problem` where it is one."""

    status: int
    fields: dict[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        assert self.fields["content-type"].startswith("application/problem+json"), self
        return dict(json.loads(self.body))


def exchange(gateway: Gateway, *parts: bytes) -> list[Answer]:
    """Send the parts, one after the other, and read until the other end closes."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=LONG) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for part in parts:
                sock.sendall(part)
        except ConnectionError:
            pass  # it has answered and closed already
        return read(sock)


def read(sock: socket.socket) -> list[Answer]:
    data = b""
    try:
        while more := sock.recv(1 << 16):
            data += more
    except ConnectionResetError:
        pass
    return list(_answers(data))


def _answers(data: bytes) -> Iterable[Answer]:
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(fields.get("content-length", "0"))
        yield Answer(int(first.split()[1]), fields, data[:length])
        data = data[length:]
