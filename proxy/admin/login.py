"""Logging in and out with a browser: by the token, or by a link that works once (`triage open`)."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

from aiohttp import web

from proxy.admin import streams
from proxy.admin.common import answer
from proxy.admin.errors import ApiProblem
from proxy.admin.keys import GATEWAY, LISTENING, LOGINS
from proxy.admin.logins import LASTS, LINK, TooMany


async def login(request: web.Request) -> web.Response:
    """A cookie for who has the token."""
    logins, gateway = request.app[LOGINS], request.app[GATEWAY]
    try:
        cookie = logins.begin(request["body"].get("token", ""), request["way"])
    except TooMany as error:
        raise ApiProblem(
            429, "too-many-logins", "Too many wrong tokens", f"{error}; nobody may try for a while.",
            headers={"Retry-After": str(int(error.wait) + 1)},
        ) from None  # fmt: skip
    if cookie is None:
        gateway.shared.event("login-refused", f"a login was refused ({request['way']}): wrong token", by=request["way"])
        raise ApiProblem(
            403, "wrong-token", "That is not the admin token", "",
            "It is in admin.token in the data folder; `triage open` logs in without it.",
        )  # fmt: skip
    gateway.shared.event("login", f"logged in with the token ({request['way']})", by=request["way"])
    return _with_cookie(request, web.Response(status=204), cookie)


async def link(request: web.Request) -> web.Response:
    """What `triage open` asks for: an address that logs in once."""
    to = request["body"].get("to", "") or "#/"
    if not to.startswith("#/") or not to.isprintable() or len(to) > 2000:
        raise ApiProblem(400, "bad-field", "to cannot be that", "It begins with #/, as addresses of the dashboard do.")
    gateway = request.app[GATEWAY]
    place = gateway.config.admin.url or next((one for one in request.app[LISTENING] if one.startswith("http")), "")
    if not place:
        raise ApiProblem(
            409, "no-address", "The admin API listens on no address that a browser could open",
            "It has its Unix socket only.", 'Set admin.listen = "127.0.0.1:9900".',
        )  # fmt: skip
    code = request.app[LOGINS].link(to)
    return answer({"url": f"{_openable(place)}/login?code={code}", "expires_s": LINK})


async def follow(request: web.Request) -> web.Response:
    """Where such an address leads: to its page, with a cookie."""
    found = request.app[LOGINS].follow(request.query.get("code", ""), request["way"])
    if found is None:  # the page asks for the token
        return web.Response(status=303, headers={"Location": "/#/login?over=true"})
    cookie, to = found
    request.app[GATEWAY].shared.event("login", f"logged in by a link ({request['way']})", by=request["way"])
    headers = {"Location": "/" + quote(to, safe="#/?&=%,.:@!$'()*+;~-_")}
    return _with_cookie(request, web.Response(status=303, headers=headers), cookie)


async def logout(request: web.Request) -> web.Response:
    logins = request.app[LOGINS]
    logins.end(request.cookies.get(logins.cookie, ""))
    streams.cut(request.app)  # what follows with this login asks again, and is refused
    response = web.Response(status=204)
    response.del_cookie(logins.cookie, path="/")
    return response


def _with_cookie(request: web.Request, response: web.Response, cookie: str) -> web.Response:
    url = request.app[GATEWAY].config.admin.url or ""
    host = urlsplit(f"//{request.headers.get('Host', '')}").hostname
    secure = url.startswith("https:") and host == urlsplit(url).hostname
    name = request.app[LOGINS].cookie
    response.set_cookie(
        name, cookie, max_age=int(LASTS), path="/", httponly=True, samesite="Strict", secure=secure
    )
    return response


def _openable(url: str) -> str:
    """An address that a browser of this machine can open: not the one for all of them."""
    return url.rstrip("/").replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
