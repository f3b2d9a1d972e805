"""The admin API on the sockets that the launcher holds: what every call passes through.

Each call is checked in this order: Host, Origin and token; path, method, parameters; then its handler runs. What is
raised becomes the one error shape; what nobody foresaw becomes a 500 that says so and goes to the log.
"""

from __future__ import annotations

import asyncio
import os
import socket
import traceback
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiohttp import http_exceptions, web
from aiohttp.typedefs import Handler

from proxy.admin import connections, guard, limits, query, streams, tls
from proxy.admin.audit import Audit
from proxy.admin.callers import Denied, UnderWay
from proxy.admin.console.desk import Desk
from proxy.admin.errors import PROTECTION, ApiProblem
from proxy.admin.findings import Findings
from proxy.admin.inside.reader import READER, Reader
from proxy.admin.keys import (
    AUDIT,
    BUNDLING,
    CERTIFICATE,
    DESK,
    FINDINGS,
    FOLLOWING,
    GATEWAY,
    GUARD,
    LISTENING,
    LIVE,
    LOGINS,
    REPLAYING,
    TABLE,
    TOKENS,
    TRIES,
    UNDER_WAY,
    WAITING,
)  # fmt: skip
from proxy.admin.live import Live
from proxy.admin.logins import Logins
from proxy.admin.pages import Pages
from proxy.admin.routes import ROUTES
from proxy.admin.routing import Route
from proxy.admin.tokens import STRONG, Tokens
from proxy.admin.tries import Tries

if TYPE_CHECKING:
    from proxy.control.gateway import Gateway

MOST_CONTENT: Final = 1 << 20
SAVED_EVERY: Final = 60.0
"""Seconds between two looks at whether a token was used."""
BACKLOG: Final = 1024
"""Of each socket: who comes back when control was started anew, all dashboards at once, is not refused."""


async def start(gateway: Gateway, sockets: Sequence[socket.socket]) -> web.AppRunner:
    """Serve on listening sockets, TCP or Unix. `await runner.cleanup()` ends it."""
    data_dir = Path(gateway.data_dir)
    token = await asyncio.to_thread(guard.token, data_dir)
    tokens = await asyncio.to_thread(Tokens, data_dir, token)
    if tokens.damage:
        said = f"{tokens.damage}; no token of it is taken until it is mended or removed"
        gateway.shared.event("tokens-damaged", said)
    if len(token) < STRONG:
        said = f"admin.token has {len(token)} characters only: it may be guessed. Delete it and restart for a new one"
        gateway.shared.event("token-weak", said)
    logins = await asyncio.to_thread(Logins, data_dir, token, tokens.lives)

    def broke(error: BaseException | None) -> None:
        gateway.log.error("admin", f"outside of any route: {error!r}", trace="".join(traceback.format_exception(error)))

    certificate = _certificate(gateway)
    if certificate is not None and (news := await asyncio.to_thread(certificate.look)):
        gateway.shared.event(*news)
    app = application(gateway, tokens, logins, [url_of(sock, certificate is not None) for sock in sockets])
    app[CERTIFICATE] = certificate
    runner = connections.Runner(
        app,
        broke,
        access_log=None,
        handle_signals=False,
        keepalive_timeout=75.0,
        shutdown_timeout=2.0,
    )
    await runner.setup()
    for sock in sockets:
        sock.setblocking(False)
        if certificate is not None and sock.family != socket.AF_UNIX:
            sock.listen(BACKLOG)
            await tls.Site(runner, sock, certificate).start()
        else:
            await web.SockSite(runner, sock, backlog=BACKLOG).start()
    return runner


def _certificate(gateway: Gateway) -> tls.Certificate | None:
    """Where the listener that there is speaks TLS: as it was asked for, whatever the config says by now."""
    listen = gateway.shared.plan["admin"]["listen"]
    if listen is None or not listen["name"].startswith("https://"):
        return None

    def pair() -> tls.Pair | None:
        given = gateway.config.admin.certificate
        return (given.cert, given.key) if given is not None else None

    return tls.Certificate(pair)


def url_of(sock: socket.socket, secure: bool = False) -> str:
    """Where it really listens: `https://127.0.0.1:9900`, `unix:/run/admin.sock`."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{name}"
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"{'https' if secure else 'http'}://{host}:{name[1]}"


def application(gateway: Gateway, tokens: Tokens, logins: Logins, listening: list[str]) -> web.Application:
    """The routes of the table and the dashboard's files, behind the checks."""
    tries, trail, under_way = Tries(), Audit(gateway.shared.event), UnderWay()
    checks = guard.Guard(tokens, logins, tries, listening, lambda: gateway.config.admin.url or "", os.geteuid())
    pages, counted = Pages(), limits.Limits()
    by_handler = {(route.method, route.path): route for route in ROUTES}

    @web.middleware
    async def outermost(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            answer = await _checked(request, handler)
        except Denied as denied:
            told = trail.denied(request, denied)
            if told and request.path == "/login":
                said = f"a login was refused ({request['way']}): {denied.kind.replace('-', ' ')}"
                gateway.shared.event("login-refused", said, by=request["way"])
            answer = denied.response()
        except ApiProblem as problem:
            answer = problem.response()
        except web.HTTPRequestEntityTooLarge:
            answer = ApiProblem(
                413, "too-large", "The content is too large", f"{MOST_CONTENT:,} bytes are taken."
            ).response()
        except web.HTTPException as error:
            answer = connections.of_http(error).response()
        except (web.RequestPayloadError, http_exceptions.HttpProcessingError):
            answer = ApiProblem(
                400, "bad-content", "The content cannot be read", "It is not framed as HTTP/1.1 says, or broke off."
            ).response()
            answer.force_close()
        except (asyncio.CancelledError, ConnectionError):
            trail.answered(request, 0, "cut")
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
        trail.answered(request, answer.status)
        return answer

    async def _checked(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        path = resource.canonical if resource is not None else ""
        method = "GET" if request.method == "HEAD" else request.method
        route = by_handler.get((method, path))
        if route is None and method == "GET" and request.path in pages:
            checks.page(request)
            counted.take(limits.of_address(request.remote or "socket"), limits.READS)
            return pages.answer(request)
        is_open = route is not None and (route.open or (route.path == "/metrics" and gateway.config.admin.metrics))
        try:
            request["caller"] = caller = checks.check(request, route, open=is_open)
            request["way"] = caller.way
        except Denied as denied:
            if denied.status != 429:
                try:
                    counted.take(limits.of_address(request.remote or ""), limits.REFUSED)
                except ApiProblem:
                    trail.denied(request, denied)
                    raise
            raise
        with under_way.one(caller):  # from here on it is cut when its caller's right ends, content and answer included
            return await _let_in(request, handler, route, path)

    async def _let_in(
        request: web.Request, handler: Handler, route: Route | None, path: str
    ) -> web.StreamResponse:
        if route is not None:
            request["audit"] = route.audit or request.method not in ("GET", "HEAD")
        if route is None or route.path not in limits.UNLIMITED:
            of = limits.READS if request.method in ("GET", "HEAD") else limits.ACTS
            request["limit"] = counted.take(limits.of_call(request), of)
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
    app[GUARD] = checks
    app[TOKENS] = tokens
    app[TRIES] = tries
    app[AUDIT] = trail
    app[UNDER_WAY] = under_way
    app[WAITING] = {}
    app[FOLLOWING] = {}
    app[LIVE] = Live(gateway)
    app[FINDINGS] = Findings(gateway)
    app[REPLAYING] = asyncio.Lock()
    app[BUNDLING] = asyncio.Lock()
    app[DESK] = Desk(gateway)
    app[READER] = Reader()
    app.on_response_prepare.append(_protect)
    app.on_response_prepare.append(_audit)
    app.cleanup_ctx.append(_keep)
    app.on_shutdown.append(app[DESK].close)
    app.on_shutdown.append(_let_go)
    for route in ROUTES:
        if route.method == "GET":
            app.router.add_get(route.pattern, route.handler)
        else:
            app.router.add_route(route.method, route.pattern, route.handler)
    return app


async def _audit(request: web.Request, answer: web.StreamResponse) -> None:
    """A stream or a WebSocket is written down when it begins."""
    request.app[AUDIT].answered(request, answer.status)


async def _protect(request: web.Request, answer: web.StreamResponse) -> None:
    for name, value in {**PROTECTION, **request.get("limit", {})}.items():
        answer.headers.setdefault(name, value)
    answer.headers["Server"] = PROTECTION["Server"]  # aiohttp has set its own


async def _keep(app: web.Application) -> AsyncIterator[None]:
    """When tokens were last used is saved now and then; what is only counted is said at the end."""
    tasks = [asyncio.ensure_future(_save(app[TOKENS]))]
    if (certificate := app.get(CERTIFICATE)) is not None:
        tasks.append(asyncio.ensure_future(certificate.watch(app[GATEWAY].shared.event)))
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    app[AUDIT].close()
    await asyncio.to_thread(app[TOKENS].save_used)


async def _save(tokens: Tokens) -> None:
    while True:
        await asyncio.sleep(SAVED_EVERY)
        await asyncio.to_thread(tokens.save_used)


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
