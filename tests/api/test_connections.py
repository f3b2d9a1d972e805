"""Clients that are slow, many, or gone: on real sockets, with deadlines of a tenth."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from proxy.admin import connections
from proxy.admin.connections import Connections, Runner
from proxy.admin.pages import Pages

LONG = 20.0
LARGE = 8 << 20


@dataclass
class Server:
    """An application behind Connections."""

    port: int
    runner: Runner
    running: int = 0
    page: Callable[[web.Request], web.Response] | None = None
    broke: list[BaseException | None] = field(default_factory=list)

    @property
    def connections(self) -> Connections:
        found = self.runner.server
        assert isinstance(found, Connections)
        return found


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    for name, value in {"HEAD": 0.3, "GRACE": 0.5, "LOOK": 0.02, "MOST": 20}.items():
        monkeypatch.setattr(connections, name, value)

    async def large(request: web.Request) -> web.StreamResponse:
        made.running += 1
        try:
            response = web.StreamResponse()
            await response.prepare(request)
            for _ in range(LARGE >> 16):
                await response.write(b"x" * (1 << 16))
            return response
        finally:
            made.running -= 1

    async def content(request: web.Request) -> web.Response:
        return web.Response(text=str(len(await request.read())))

    async def waits(request: web.Request) -> web.Response:
        made.running += 1
        try:
            await asyncio.sleep(LONG)
            return web.Response()
        finally:
            made.running -= 1

    async def page(request: web.Request) -> web.StreamResponse:
        assert made.page is not None
        return made.page(request)

    async def fails(request: web.Request) -> web.Response:
        raise ZeroDivisionError("in a handler")

    app = web.Application()
    app.router.add_get("/large", large)
    app.router.add_post("/content", content)
    app.router.add_get("/waits", waits)
    app.router.add_get("/fails", fails)
    app.router.add_get("/large.js", page)
    made = Server(0, Runner(app, lambda error: made.broke.append(error), access_log=None, shutdown_timeout=0.1))
    await made.runner.setup()
    sock = socket.create_server(("127.0.0.1", 0))
    await web.SockSite(made.runner, sock).start()
    made.port = sock.getsockname()[1]
    try:
        yield made
    finally:
        await made.runner.cleanup()


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def rest(self) -> bytes:
        """All that comes until the other end closes; b"" also when it cuts."""
        try:
            async with asyncio.timeout(LONG):
                return await self.reader.read()
        except ConnectionError:
            return b""
        finally:
            self.writer.close()

    async def ask(self, path: str) -> bytes:
        """One call; its status line."""
        self.writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        async with asyncio.timeout(LONG):
            return await self.reader.readline()


Connect = Callable[..., Awaitable[Client]]


@pytest.fixture
async def connect(server: Server) -> AsyncIterator[Connect]:
    made: list[Client] = []

    async def one(**options: int) -> Client:
        made.append(Client(*await asyncio.open_connection("127.0.0.1", server.port, **options)))
        return made[-1]

    yield one
    for client in made:
        client.writer.close()


async def until(condition: Callable[[], bool], what: str) -> None:
    async with asyncio.timeout(LONG):
        while not condition():
            await asyncio.sleep(0.01)
    assert condition(), what


@pytest.mark.slow
async def test_a_head_that_does_not_come_is_told_so_and_a_connect_without_one_is_closed(connect: Connect) -> None:
    nothing, half, dribbles = await connect(), await connect(), await connect()
    half.writer.write(b"GET /large HTTP/1.1\r\nHost: loc")

    async def dribble() -> None:
        for letter in b"GET /large HTTP/1.1\r\nHost: localhost\r\n" + b"X-Slow: 1\r\n" * 100:
            dribbles.writer.write(bytes([letter]))
            await asyncio.sleep(0.02)

    dribbling = asyncio.create_task(dribble())  # its answer may be lost: it still sends when it is closed
    answers = await asyncio.gather(nothing.rest(), half.rest(), dribbles.rest())
    dribbling.cancel()
    for answer in answers[:2]:
        assert answer.startswith(b"HTTP/1.1 408 ") and b"urn:triage:slow-head" in answer


@pytest.mark.slow
async def test_content_that_stops_or_dribbles_ends_the_connection(connect: Connect) -> None:
    stops, dribbles, comes = await connect(), await connect(), await connect()
    for one in (stops, dribbles, comes):
        one.writer.write(b"POST /content HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\nConnection: close\r\n\r\n")

    async def dribble(client: Client, size: int) -> None:
        for _ in range(2000 // size):
            client.writer.write(b"x" * size)
            await asyncio.sleep(0.05)

    dribbling = asyncio.create_task(dribble(dribbles, 1))
    coming = asyncio.create_task(dribble(comes, 100))
    assert await stops.rest() == await dribbles.rest() == b""
    dribbling.cancel()
    assert (await comes.rest()).endswith(b"2000"), "what comes at a fair rate is taken, however long it lasts"
    await coming


@pytest.mark.slow
async def test_who_does_not_take_what_is_sent_is_cut_and_holds_little_meanwhile(
    server: Server, connect: Connect
) -> None:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", server.port))
    stuck = Client(*await asyncio.open_connection(sock=sock, limit=1 << 12))
    stuck.writer.write(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await until(lambda: server.running == 1, "it is being answered")
    await until(lambda: server.running == 0, "it is given up")
    stuck.writer.close()
    takes = await connect()
    takes.writer.write(b"GET /large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert len(await takes.rest()) > LARGE, "who takes it gets it whole"


async def test_a_page_that_nobody_takes_is_not_held_whole(server: Server, connect: Connect, tmp_path: Path) -> None:
    (tmp_path / "large.js").write_bytes(b"x" * 1_000_000)
    pages = Pages(tmp_path)
    server.page = pages.answer
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", server.port))
        sock.send(b"GET /large.js HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        await until(lambda: any(held(server)), "it is being sent")
        assert max(held(server)) < 200_000
    takes = await connect()
    takes.writer.write(b"GET /large.js HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert len(await takes.rest()) > 1_000_000, "who takes it gets it whole"


def held(server: Server) -> list[int]:
    """Bytes that wait to be sent, of each connection."""
    return [one.transport.get_write_buffer_size() for one in server.connections.connections if one.transport]


async def test_one_connection_too_many_takes_the_place_of_the_oldest_idle_one(server: Server, connect: Connect) -> None:
    idle = [await connect() for _ in range(connections.MOST)]
    assert (await (await connect()).ask("/nothing")).startswith(b"HTTP/1.1 404")
    assert await idle[0].rest() == b"" and server.connections.refused == 1
    assert (await idle[-1].ask("/nothing")).startswith(b"HTTP/1.1 404"), "younger ones are left alone"


async def test_where_all_carry_calls_one_more_is_refused(server: Server, connect: Connect) -> None:
    for _ in range(connections.MOST):
        (await connect()).writer.write(b"GET /waits HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await until(lambda: server.running == connections.MOST, "all are under way")
    answer = await (await connect()).rest()
    assert answer.startswith(b"HTTP/1.1 503 ") and b"urn:triage:too-many-connections" in answer
    assert server.running == connections.MOST


async def test_what_nobody_foresaw_has_the_shape_too_and_is_told(server: Server, connect: Connect) -> None:
    client = await connect()
    client.writer.write(b"GET /fails HTTP/1.1\r\nHost: localhost\r\n\r\n")
    answer = await client.rest()
    assert answer.startswith(b"HTTP/1.1 500 ") and b"urn:triage:internal-error" in answer
    assert b"in a handler" not in answer and [type(error) for error in server.broke] == [ZeroDivisionError]


async def test_who_leaves_at_any_moment_leaves_nothing(server: Server, connect: Connect) -> None:
    content = b"POST /content HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx"
    for data in (b"", b"G", b"GET /large HTTP/1.1\r\n\r", content):
        client = await connect()
        client.writer.write(data)
        client.writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        client.writer.transport.abort()
    await until(lambda: repr(server.connections).startswith("<Connections 0 open"), "all are gone")
    assert not server.broke
