"""The sample app: a very small shop, and one route for each way a web app goes wrong.

    python examples/shop/app.py --port 8000

It knows nothing of Triage. `/` lists the routes. Everything it does to itself is real: `/leak` keeps the
memory, `/crash` ends the process. It listens on 127.0.0.1 only.
"""

import argparse
import asyncio
import html
import logging
import os
import sys
import time
from collections.abc import Callable
from typing import NoReturn

from aiohttp import WSMsgType, web

PRODUCTS = [
    {"id": 1, "name": "kettle", "price": "34.00"},
    {"id": 2, "name": "teapot", "price": "21.50"},
    {"id": 3, "name": "cup", "price": "6.20"},
]

routes = web.RouteTableDef()
log = logging.getLogger("shop")
started = time.monotonic()
leaked: list[bytes] = []
orders: list[str] = []


def number(request: web.Request, name: str, default: float, most: float) -> float:
    """A number from the query string, `default` without one, 400 for anything outside 0 to `most`."""
    text = request.query.get(name, str(default))
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= most:
        raise web.HTTPBadRequest(text=f"{name} must be a number from 0 to {most:g}, got {text}\n")
    return value


# -- the shop ----------------------------------------------------------------------------------------------


@routes.get("/")
async def index(request: web.Request) -> web.Response:
    """this page"""
    rows = "".join(
        f"<tr><td>{method} <a href='{path}'>{html.escape(path)}</a><td>{html.escape(does)}"
        if method == "GET"
        else f"<tr><td>{method} {html.escape(path)}<td>{html.escape(does)}"
        for method, path, does in LISTED
    )
    page = (
        "<!doctype html><meta charset=utf-8><title>The sample shop</title>"
        "<style>body{font:16px/1.5 system-ui;max-width:46em;margin:3em auto;padding:0 1em}"
        "td{padding:.15em 1.5em .15em 0;vertical-align:top}td:first-child{font-family:monospace}</style>"
        f"<h1>The sample shop</h1><p>Process {os.getpid()} answered, up {time.monotonic() - started:.0f} s. "
        f"Load the page again: the instances take turns.<table>{rows}</table>"
    )
    return web.Response(text=page, content_type="text/html")


@routes.get("/healthz")
async def healthz(request: web.Request) -> web.Response:
    """whether this instance is well; Triage asks every few seconds"""
    return web.Response(text="ok\n")


@routes.get("/products")
async def products(request: web.Request) -> web.Response:
    """what is for sale, as JSON"""
    return web.json_response(PRODUCTS)


@routes.post("/orders")
async def order(request: web.Request) -> web.Response:
    """an order: a request that must not be sent twice"""
    orders.append(await request.text())
    return web.json_response({"order": len(orders), "taken_by": os.getpid()}, status=201)


@routes.post("/echo")
async def echo(request: web.Request) -> web.StreamResponse:
    """sends back what it gets, while it gets it"""
    response = web.StreamResponse()
    response.content_type = request.content_type
    await response.prepare(request)
    async for chunk in request.content.iter_any():
        await response.write(chunk)
    return response


@routes.get("/stream")
async def stream(request: web.Request) -> web.StreamResponse:
    """a slow download: ?n=20 lines, one every ?s=0.5 seconds"""
    pause = number(request, "s", 0.5, 60)
    lines = int(number(request, "n", 20, 10_000))
    response = web.StreamResponse()
    response.content_type = "text/plain"
    await response.prepare(request)
    for line in range(1, lines + 1):
        await response.write(f"line {line} of {lines}\n".encode())
        await asyncio.sleep(pause)
    return response


@routes.get("/sse")
async def sse(request: web.Request) -> web.StreamResponse:
    """server-sent events: the time, every ?s=1 seconds, ?n=0 of them (0 is no end)"""
    pause = number(request, "s", 1, 60)
    wanted = int(number(request, "n", 0, 10_000))
    response = web.StreamResponse(headers={"Cache-Control": "no-store"})
    response.content_type = "text/event-stream"
    await response.prepare(request)
    sent = 0
    while not wanted or sent < wanted:
        sent += 1
        await response.write(f"id: {sent}\ndata: {time.strftime('%H:%M:%S')}\n\n".encode())
        await asyncio.sleep(pause)
    return response


@routes.get("/ws")
async def websocket(request: web.Request) -> web.StreamResponse:
    """a WebSocket that says back what it is told"""
    probe = web.WebSocketResponse()
    if not probe.can_prepare(request):
        raise web.HTTPUpgradeRequired(
            text="this is a WebSocket: new WebSocket('ws://' + location.host + '/ws')\n",
            headers={"Upgrade": "websocket"},
        )
    await probe.prepare(request)
    async for message in probe:
        if message.type is WSMsgType.TEXT:
            await probe.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await probe.send_bytes(message.data)
    return probe


# -- one route for each way to go wrong ----------------------------------------------------------------------


@routes.get("/slow")
async def slow(request: web.Request) -> web.Response:
    """waits ?s=2 seconds, as for a slow database, then answers"""
    seconds = number(request, "s", 2, 3600)
    await asyncio.sleep(seconds)
    return web.Response(text=f"waited {seconds:g} s\n")


@routes.get("/raise")
async def raises(request: web.Request) -> NoReturn:
    """an exception nobody catches: the app's own 500"""
    raise LookupError("no price for product 4")


@routes.get("/crash")
async def crash(request: web.Request) -> NoReturn:
    """the process ends at once, code 3, with whatever it was doing"""
    leave(3, "fatal: the price list cannot be read")


@routes.get("/exit")
async def leaves(request: web.Request) -> NoReturn:
    """the process ends at once with ?code=0, as if its work were done"""
    leave(int(number(request, "code", 0, 255)), "leaving")


@routes.get("/leak")
async def leak(request: web.Request) -> web.Response:
    """takes ?mb=50 of memory and never gives it back"""
    size = int(number(request, "mb", 50, 1024)) << 20
    leaked.append(b"\xa5" * size)  # not zeros: pages of zeros would not be taken until written to
    return web.Response(text=f"{sum(map(len, leaked)) >> 20} MB leaked by process {os.getpid()}\n")


@routes.get("/burn")
async def burn(request: web.Request) -> web.Response:
    """one core at full load for ?s=5 seconds; other requests get slow"""
    seconds = number(request, "s", 5, 600)
    rounds = await asyncio.to_thread(compute_until, time.monotonic() + seconds)
    return web.Response(text=f"computed for {seconds:g} s, {rounds} rounds\n")


@routes.get("/block")
async def block(request: web.Request) -> web.Response:
    """a blocking call on the event loop for ?s=5 seconds: every other request of this instance waits"""
    seconds = number(request, "s", 5, 600)
    time.sleep(seconds)  # noqa: ASYNC251 - the mistake that this route is for
    return web.Response(text=f"blocked for {seconds:g} s\n")


@routes.get("/close")
async def close(request: web.Request) -> web.Response:
    """closes the connection instead of answering"""
    transport(request).close()
    return web.Response()


@routes.get("/garbage")
async def garbage(request: web.Request) -> web.Response:
    """answers with something that is not HTTP"""
    transport(request).write(b"220 mail.example.com ESMTP\r\n\r\n")
    transport(request).close()
    return web.Response()


@routes.get("/truncate")
async def truncate(request: web.Request) -> web.StreamResponse:
    """promises 1000 bytes, sends 10, and closes"""
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b"0123456789")
    transport(request).close()
    return response


def leave(code: int, last_words: str) -> NoReturn:
    """End this process now: no cleanup, no answer to anyone."""
    log.critical(last_words)
    sys.stdout.flush()
    os._exit(code)


def compute_until(deadline: float) -> int:
    rounds = 0
    while time.monotonic() < deadline:
        sum(range(10_000))
        rounds += 1
    return rounds


def transport(request: web.Request) -> asyncio.Transport:
    found = request.transport
    assert isinstance(found, asyncio.Transport)
    return found


# -- how it is started ---------------------------------------------------------------------------------------


def listed(method: str, path: str, handler: Callable[..., object]) -> tuple[str, str, str]:
    return method, path, (handler.__doc__ or "").strip()


LISTED = [listed(r.method, r.path, r.handler) for r in routes if isinstance(r, web.RouteDef)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, default=int(os.environ.get("PORT", "8000")))
    port = parser.parse_args().port
    logging.basicConfig(
        stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    app = web.Application()
    app.add_routes(routes)
    log.info("the shop opens on 127.0.0.1:%d, process %d", port, os.getpid())
    web.run_app(
        app,
        host="127.0.0.1",
        port=port,
        print=None,
        access_log_format='%{X-Request-ID}i "%r" %s %b %Tfs',
        shutdown_timeout=2,  # streams without an end do not hold up a stop
    )


if __name__ == "__main__":
    main()
