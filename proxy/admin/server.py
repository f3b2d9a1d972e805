"""The admin API on the sockets that the launcher holds: what every call passes through.

Each call is checked in this order: Host, Origin and token; path, method, parameters; then its handler runs. What is
raised becomes the one error shape; what nobody foresaw becomes a 500 that says so and goes to the log.
"""

from __future__ import annotations

import asyncio
import os
import socket
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiohttp import web
from aiohttp.typedefs import Handler

from proxy import __version__
from proxy.admin import guard, query, streams
from proxy.admin.errors import ApiProblem
from proxy.admin.findings import Findings
from proxy.admin.keys import (
    BUNDLING,
    FINDINGS,
    FOLLOWING,
    GATEWAY,
    LISTENING,
    LIVE,
    LOGINS,
    REPLAYING,
    TABLE,
    WAITING,
)  # fmt: skip
from proxy.admin.live import Live
from proxy.admin.logins import Logins
from proxy.admin.pages import Pages
from proxy.admin.routes import ROUTES

if TYPE_CHECKING:
    from proxy.control.gateway import Gateway

MOST_CONTENT: Final = 1 << 20
BACKLOG: Final = 1024
"""Of each socket: who comes back when control was started anew, all dashboards at once, is not refused."""
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}


async def start(gateway: Gateway, sockets: Sequence[socket.socket]) -> web.AppRunner:
    """Serve on listening sockets, TCP or Unix. `await runner.cleanup()` ends it."""
    token = await asyncio.to_thread(guard.token, Path(gateway.data_dir))
    logins = await asyncio.to_thread(Logins, Path(gateway.data_dir), token)
    runner = web.AppRunner(
        application(gateway, token, logins, [url_of(sock) for sock in sockets]),
        access_log=None,
        handle_signals=False,
        max_line_size=16384,
        keepalive_timeout=75.0,
        shutdown_timeout=2.0,
    )
    await runner.setup()
    for sock in sockets:
        sock.setblocking(False)
        await web.SockSite(runner, sock, backlog=BACKLOG).start()
    return runner


def url_of(sock: socket.socket) -> str:
    """Where it really listens: `http://127.0.0.1:9900`, `unix:/run/admin.sock`."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{name}"
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"http://{host}:{name[1]}"


def application(gateway: Gateway, token: str, logins: Logins, listening: list[str]) -> web.Application:
    """The routes of the table and the dashboard's files, behind the checks."""
    urls = [*listening, *([gateway.config.admin.url] if gateway.config.admin.url else [])]
    checks = guard.Guard(token, logins, urls, os.geteuid())
    pages = Pages()
    by_handler = {(route.method, route.path): route for route in ROUTES}

    @web.middleware
    async def outermost(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            answer = await _checked(request, handler)
        except ApiProblem as problem:
            answer = problem.response()
        except web.HTTPRequestEntityTooLarge:
            answer = ApiProblem(
                413, "too-large", "The content is too large", f"{MOST_CONTENT:,} bytes are taken."
            ).response()
        except web.HTTPException as error:
            answer = ApiProblem(error.status, "http", error.reason).response()
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception as error:
            gateway.log.error("admin", f"{request.method} {request.path}: {error!r}", trace=traceback.format_exc())
            answer = ApiProblem(
                500,
                "internal-error",
                "Triage itself failed on this",
                type(error).__name__,
                "Please report it with the traceback in Triage's own log.",
            ).response()
        return answer

    async def _checked(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        path = resource.canonical if resource is not None else ""
        method = "GET" if request.method == "HEAD" else request.method
        route = by_handler.get((method, path))
        if route is None and method == "GET" and request.path in pages:
            checks.page(request)
            return pages.answer(request)
        is_open = route is not None and (route.open or (route.path == "/metrics" and gateway.config.admin.metrics))
        request["way"] = checks.check(request, open=is_open)
        if route is None:
            raise _no_route(request, path)
        query.check_names(request, route)
        if route.method == "POST":
            request["body"] = await query.body(request, route)
        return await handler(request)

    app = web.Application(middlewares=[outermost], client_max_size=MOST_CONTENT)
    app[GATEWAY] = gateway
    app[TABLE] = ROUTES
    app[LISTENING] = listening
    app[LOGINS] = logins
    app[WAITING] = {}
    app[FOLLOWING] = {}
    app[LIVE] = Live(gateway)
    app[FINDINGS] = Findings(gateway)
    app[REPLAYING] = asyncio.Lock()
    app[BUNDLING] = asyncio.Lock()
    app.on_response_prepare.append(_protect)
    app.on_shutdown.append(_let_go)
    for route in ROUTES:
        if route.method == "GET":
            app.router.add_get(route.pattern, route.handler)
        else:
            app.router.add_route(route.method, route.pattern, route.handler)
    return app


async def _protect(request: web.Request, answer: web.StreamResponse) -> None:
    for name, value in _HEADERS.items():
        answer.headers.setdefault(name, value)
    answer.headers["Server"] = f"triage/{__version__}"


async def _let_go(app: web.Application) -> None:
    """Calls that wait for news are cut: who made them asks the next control, and goes on where it was."""
    for task in app[WAITING]:
        if task is not None:
            task.cancel()
    streams.cut(app)


def _no_route(request: web.Request, path: str) -> ApiProblem:
    error = request.match_info.http_exception
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return ApiProblem(
            405,
            "method-not-allowed",
            f"{request.method} does not go here",
            f"{request.path} takes {allowed}.",
            headers={"Allow": allowed},
        )
    return ApiProblem(
        404,
        "no-such-path",
        "There is nothing at this path",
        request.path[:200],
        "GET /api/v1/openapi.json lists all there is.",
    )
