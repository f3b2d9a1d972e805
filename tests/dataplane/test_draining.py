"""An instance that left the table: what has an end has until the drain limit, what has none until `tunnel.drain`.

Each test has on one instance: a tunnel, server-sent events (chunked, and until the connection closes), a download and a
request that waits.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from proxy.link.messages import App, Cut
from tests.dataplane.harness import worker
from tests.dataplane.provoke import (
    Asked,
    Asking,
    Client,
    Gateway,
    Origin,
    answers,
    app,
    origin,
    request,
    response,
    until,
)

SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
ENDLESS = ("/tunnel", "/events", "/events-until-close")


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with worker() as under_test:
        yield Gateway(under_test)


class Old:
    """An instance that a request of each kind is on; `answer` lets those end that have an end."""

    def __init__(self, gateway: Gateway, stack: ExitStack, **more: float) -> None:
        self.gateway = gateway
        self.answer = threading.Event()
        self.origin: Origin = stack.enter_context(origin(self._script))
        stack.callback(self.answer.set)  # before the origin is closed
        self.spec = gateway.serve(app(self.origin.instance(name="old"), queue_timeout=30.0, **more))
        self.clients = {path: stack.enter_context(gateway.connect()) for path in (*ENDLESS, "/download")}
        for path, client in self.clients.items():
            fields = {"Connection": "Upgrade", "Upgrade": "websocket"} if path == "/tunnel" else {}
            client.send(request(path, **fields))
            until(lambda client=client: self._begun(client), path)  # type: ignore[misc]
        self.waiting: Asking = gateway.later("/waits")
        until(lambda: gateway.in_flight(self.spec) == 5)

    def _begun(self, client: Client) -> bool:
        client.rest += client.sock.recv(65536)
        return client.rest.endswith(b"\r\n\r\n") or b"begun" in client.rest

    def _script(self, sock: socket.socket, asked: Asked) -> bool:
        if asked.target == "/tunnel":
            sock.sendall(SWITCHED)
            while data := sock.recv(65536):
                sock.sendall(data)
        elif asked.target == "/events":
            sock.sendall(EVENTS + b"Transfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n")
            while not self.answer.wait(0.05):
                sock.sendall(b"4\r\n: .\n\r\n")
        elif asked.target == "/events-until-close":
            sock.sendall(EVENTS + b"\r\nbegun")
            while not self.answer.wait(0.05):
                sock.sendall(b": .\n")
        elif asked.target == "/download":
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nbegu")
            sock.sendall(b"n")
            self.answer.wait()
            sock.sendall(b"end")
            return True
        else:
            self.answer.wait()
            sock.sendall(response(b"old\n"))
            return True
        return False

    def leave(self, *instances: object, **more: float) -> float:
        """A table without it; the moment before."""
        at = time.monotonic()
        self.gateway.serve(App(name=self.spec.name, row=self.spec.row, instances=instances, **more))  # type: ignore[arg-type]
        return at

    def over(self, path: str) -> str:
        """What ended it: "" while it goes on."""
        records = self.gateway.worker.find(app=self.spec.name, limit=50)
        return next((f"{one.status} {one.fault}" for one in records if one.target == path), "")

    def echoes(self) -> bool:
        sock = self.clients["/tunnel"].sock
        sock.sendall(b"still there")
        return sock.recv(11) == b"still there"


def test_tunnels_and_events_end_by_their_own_rule(gateway: Gateway) -> None:
    with ExitStack() as stack:
        old = Old(gateway, stack, tunnel_drain=1.0)
        at = old.leave(tunnel_drain=1.0)
        assert old.echoes()
        until(lambda: all(map(old.over, ENDLESS)))
        assert time.monotonic() - at >= 1.0
        assert [old.over(path) for path in ENDLESS] == [
            "101 instance-recycled", "200 instance-recycled", "200 instance-recycled"
        ]  # fmt: skip
        for path in ENDLESS:
            assert ended(old.clients[path].sock)
        assert old.over("/download") == old.over("/waits") == ""
        old.answer.set()
        assert old.waiting.answer.body == b"old\n"
        assert old.clients["/download"].read().body == b"begunend"
        until(lambda: gateway.in_flight(old.spec) == 0)


def test_the_drain_limit_cuts_the_rest(gateway: Gateway) -> None:
    """The request that waits may be sent again, so it is; the download is cut; what has no end still goes on."""
    with ExitStack() as stack:
        new = stack.enter_context(origin(answers(b"new\n")))
        old = Old(gateway, stack, tunnel_drain=60.0)
        old.leave(new.instance(), tunnel_drain=60.0)
        gateway.worker.tell(Cut(old.spec.instances[0].row, "instance-recycled"))
        assert old.waiting.answer.body == b"new\n"
        until(lambda: old.over("/download") == "200 instance-recycled")
        assert ended(old.clients["/download"].sock)
        assert old.echoes()
        assert not any(map(old.over, ENDLESS))
        assert gateway.in_flight(old.spec) == len(ENDLESS)


def test_a_drain_limit_after_tunnel_drain_cuts_all(gateway: Gateway) -> None:
    with ExitStack() as stack:
        old = Old(gateway, stack, tunnel_drain=0.0)
        old.leave(tunnel_drain=0.0)
        gateway.worker.tell(Cut(old.spec.instances[0].row, "instance-recycled"))
        until(lambda: gateway.in_flight(old.spec) == 0)
        assert old.waiting.answer.status == 502  # no other instance is there
        assert "instance-recycled" in old.over("/waits") and "instance-recycled" in old.over("/download")
        assert all("instance-recycled" in old.over(path) for path in ENDLESS)


def ended(sock: socket.socket) -> bool:
    """Reads up to the end, however it comes."""
    try:
        while sock.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return True
