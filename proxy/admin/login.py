"""Logging in and out with a browser: by a token, or by a link that works once (`triage open`)."""

from __future__ import annotations

import time
from urllib.parse import quote, urlsplit

from aiohttp import web

from proxy.admin.callers import Caller, Denied
from proxy.admin.common import answer
from proxy.admin.errors import ApiProblem
from proxy.admin.guard import slower
from proxy.admin.keys import AUDIT, GATEWAY, GUARD, LISTENING, LOGINS, TRIES, UNDER_WAY
from proxy.admin.logins import LASTS, LINK


async def login(request: web.Request) -> web.Response:
    """A cookie for who has a token; it may what the token may."""
    try:
        found = request.app[GUARD].shown(request, request["body"].get("token", "").strip())
    except Denied as denied:
        if denied.status == 401:  # of a form, not of a header: no WWW-Authenticate
            denied.status, denied.headers = 403, {}
            denied.hint = denied.hint or "It is in admin.token in the data folder; `triage open` logs in without it."
        raise
    gateway, way = request.app[GATEWAY], request["way"]
    request["caller"] = caller = Caller(found.name, found.role, f"token, {way}", found.id, "", found.expires)
    cookie = request.app[LOGINS].begin(caller, way)
    which = "the token" if found.name == "admin.token" else f"the token {found.name}"
    gateway.shared.event("login", f"logged in with {which} ({way})", by=way, who=found.name, role=found.role)
    return _with_cookie(request, web.Response(status=204), cookie, caller.expires)


async def link(request: web.Request) -> web.Response:
    """What `triage open` asks for: an address that logs in once, as who asked."""
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
    code = request.app[LOGINS].link(to, request["caller"])
    return answer({"url": f"{_openable(place)}/login?code={code}", "expires_s": LINK})


async def follow(request: web.Request) -> web.Response:
    """Where such an address leads: to its page, with a cookie."""
    logins, tries, way = request.app[LOGINS], request.app[TRIES], request["way"]
    code, now = request.query.get("code", ""), time.monotonic()
    found = logins.follow(code)
    if found is None:  # the page asks for the token
        if wait := tries.wait(request["source"], now):
            raise slower(wait)
        if code:
            tries.wrong(request["source"], now)
            request.app[AUDIT].denied(request, Denied(303, "wrong-code", "This link is used, or too old"))
        return web.Response(status=303, headers={"Location": "/#/login?over=true"})
    caller, to = found
    request["caller"] = Caller(caller.name, caller.role, f"link, {way}", caller.token, "", caller.expires)
    cookie = logins.begin(caller, way)
    request.app[GATEWAY].shared.event(
        "login", f"logged in by a link ({way})", by=way, who=caller.name, role=caller.role
    )
    headers = {"Location": "/" + quote(to, safe="#/?&=%,.:@!$'()*+;~-_")}
    return _with_cookie(request, web.Response(status=303, headers=headers), cookie, caller.expires)


async def logout(request: web.Request) -> web.Response:
    """The cookie is nobody's from now on, and what follows with it is cut."""
    logins = request.app[LOGINS]
    ended = logins.end(request.cookies.get(logins.cookie, ""))
    if ended is not None:
        request["caller"] = Caller(ended.name, ended.role, f"login, {request['way']}", ended.token, ended.hash)
        request.app[UNDER_WAY].end(lambda caller: caller.login == ended.hash)
    response = web.Response(status=204)
    response.del_cookie(logins.cookie, path="/")
    return response


def _with_cookie(
    request: web.Request, response: web.Response, cookie: str, expires: float | None
) -> web.Response:
    url = request.app[GATEWAY].config.admin.url or ""
    host = urlsplit(f"//{request.headers.get('Host', '')}").hostname
    secure = request.secure or (url.startswith("https:") and host == urlsplit(url).hostname)
    lasts = LASTS if expires is None else max(0.0, min(LASTS, expires - time.time()))
    name = request.app[LOGINS].cookie
    response.set_cookie(
        name, cookie, max_age=int(lasts), path="/", httponly=True, samesite="Strict", secure=secure
    )
    return response


def _openable(url: str) -> str:
    """An address that a browser of this machine can open: not the one for all of them."""
    return url.rstrip("/").replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
