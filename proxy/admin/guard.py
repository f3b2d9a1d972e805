"""Who may ask.

Over the Unix socket the kernel says who it is: the owner of data_dir, root, and the group `triage` need no token, and
may everything. Over TCP anybody of this machine may connect, and a browser will carry anybody's page here, so besides
a token: Host must name this machine or admin.url (against DNS rebinding), Origin must be this very address or that of
admin.url, and content must be JSON, which a foreign page cannot send unasked. A browser that has logged in (logins.py)
shows its cookie; what changes something with it, or opens a WebSocket, must say in Origin where it comes from.

Wrong tokens are slowed down by source (tries.py). A right one that nobody can guess is always taken: who floods an
address with wrong ones locks nobody out.
"""

from __future__ import annotations

import grp
import ipaddress
import os
import secrets
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from proxy.admin import callers
from proxy.admin.callers import ADMIN_TOKEN, Caller, Denied
from proxy.admin.logins import Logins
from proxy.admin.routing import Route
from proxy.admin.tokens import Token, Tokens, write_private
from proxy.admin.tries import MOST_WRONG, Tries, source_of

TOKEN_FILE: Final = ADMIN_TOKEN
GROUP: Final = "triage"
_PEER: Final = struct.Struct("3i")  # pid, uid, gid: unix(7), SO_PEERCRED
_SO_PEERGROUPS: Final = 59
"""asm-generic/socket.h; the socket module has no name for it."""


def token(data_dir: Path) -> str:
    """The admin token; made at the first start, mode 0600, never overwritten while it holds one."""
    path = data_dir / TOKEN_FILE
    try:
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)) as file:
            os.fchmod(file.fileno(), 0o600)
            if found := file.read(4096).strip():
                return found
    except FileNotFoundError:
        pass
    made = secrets.token_urlsafe(32)
    write_private(path, f"{made}\n".encode(), lasting=True)
    return made


class Guard:
    """Checks one call. `urls()` are admin.url, as it is now, and where the admin API listens: their hosts are ours."""

    def __init__(
        self, tokens: Tokens, logins: Logins, tries: Tries, listening: list[str], url: Callable[[], str], owner: int
    ) -> None:
        self._tokens = tokens
        self._logins = logins
        self._tries = tries
        self._listening = {host for one in listening if (host := urlsplit(one).hostname)}
        self._url = url
        self._owner = owner

    def check(self, request: web.Request, route: Route | None, *, open: bool) -> Caller:
        """Who calls. Raises Denied. `open`: nothing need be shown."""
        sock, local = self._came_in(request)
        if not _is_link(request):
            self._origin(request)
        if open:
            return callers.nobody(request["way"])
        caller = self._socket_caller(request, sock) if local and sock is not None else None
        caller = caller or self._token_caller(request) or self._logged_in(request)
        if caller is None:
            raise _unknown(
                "no-token", "This needs a token", "Send it as: Authorization: Bearer TOKEN",
                f"The first one is in {TOKEN_FILE} in the data folder; the Unix socket needs none for its owner.",
            )  # fmt: skip
        if route is not None and not caller.may(route.needs):
            raise callers.too_low(caller, route.needs)
        return caller

    def page(self, request: web.Request) -> None:
        """Checks a call of one of the dashboard's files, which pages of other places may link to. Raises Denied."""
        self._came_in(request)

    def shown(self, request: web.Request, value: str) -> Token:
        """Whose token this is, wherever it was shown. Raises Denied: 401 or 429."""
        source, now = request["source"], time.monotonic()
        found = self._tokens.find(value)
        wait = self._tries.wait(source, now)
        if wait and (found is None or not self._tokens.strong(found)):
            raise slower(wait)
        if found is None:
            self._tries.wrong(source, now)
            raise _unknown(
                "wrong-token", "Nobody has this token", "It was revoked, or is mistyped.",
                f"The first one is in {TOKEN_FILE} in the data folder; triage token list names the others.",
            )  # fmt: skip
        if found.over(time.time()):
            denied = _unknown(
                "token-expired", f"The token {found.name} has expired", "",
                f"An admin makes a new one: triage token make {found.name} --role {found.role}",
            )  # fmt: skip
            denied.caller = Caller(found.name, found.role, request["way"], found.id)
            raise denied
        self._tokens.used(found, source)
        return found

    def _came_in(self, request: web.Request) -> tuple[socket.socket | None, bool]:
        """On which socket, and whether it is the Unix socket."""
        sock: socket.socket | None = None
        if request.transport is not None:
            sock = request.transport.get_extra_info("socket")
        local = sock is not None and sock.family == socket.AF_UNIX
        request["way"], request["source"] = _peer(sock, local)
        if not local:
            self._host(request, sock)
        return sock, local

    def _socket_caller(self, request: web.Request, sock: socket.socket) -> Caller | None:
        try:
            _, uid, gid = _PEER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        except OSError:
            return None  # it has left
        if uid in (0, self._owner) or _in_group(sock, gid):
            return Caller(f"uid {uid}", "admin", request["way"])
        return None

    def _token_caller(self, request: web.Request) -> Caller | None:
        given = request.headers.get("Authorization", "")
        scheme, _, value = given.partition(" ")
        if not given:
            return None
        if scheme.lower() != "bearer":
            raise _unknown(
                "no-token", "Authorization is not of the kind Bearer", "Send it as: Authorization: Bearer TOKEN",
                f"The first token is in {TOKEN_FILE} in the data folder.",
            )  # fmt: skip
        found = self.shown(request, value.strip())
        words = "token" if found.id == ADMIN_TOKEN else f"token {found.name}"
        return Caller(found.name, found.role, f"{words}, {request['way']}", found.id, "", found.expires)

    def _logged_in(self, request: web.Request) -> Caller | None:
        """By cookie. Every browser says in Origin from where it changes something (CSRF) or opens a WebSocket."""
        login = self._logins.known(request.cookies.get(self._logins.cookie, ""))
        if login is None:
            return None
        harmless = request.method in ("GET", "HEAD") and "Upgrade" not in request.headers
        if not harmless and "Origin" not in request.headers:
            return None
        return Caller(login.name, login.role, f"login, {request['way']}", login.token, login.hash, login.ends)

    def _host(self, request: web.Request, sock: socket.socket | None) -> None:
        """A name that an attacker can make resolve to this machine is refused; an address cannot be made so."""
        host = _hostname(request.headers.get("Host", ""))
        here = {*self._listening, urlsplit(self._url()).hostname}
        if sock is not None:
            here.add(_plain(str(sock.getsockname()[0])))
        if len(request.headers.getall("Host", [])) > 1 or not host or (host not in here and not _loopback(host)):
            raise Denied(
                403,
                "foreign-host",
                "This name is not known here",
                f"Host is {host[:100] or 'missing'!r}, which is neither a loopback address nor that of admin.url.",
                'Set admin.url = "https://NAME" to reach it by a name.',
            )

    def _origin(self, request: web.Request) -> None:
        """This very address, or that of admin.url: another port of the same host is another place."""
        origin = request.headers.get("Origin")
        if origin is None:
            if request.headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin"):
                return
        else:
            place = _place(origin)
            host = request.headers.get("Host", "").lower()
            schemes = ("https",) if request.secure else ("http", "https")  # TLS may end before us
            if place is not None and place in [_place(f"{scheme}://{host}") for scheme in schemes]:
                return
            if place is not None and place == _place(self._url()):
                return
        raise Denied(
            403,
            "foreign-origin",
            "Pages of other places may not ask here",
            f"Origin is {origin[:200]!r}." if origin else "Sec-Fetch-Site says that another site asks.",
        )


def slower(wait: float) -> Denied:
    """The refusal of who has tried too often; `wait` seconds from now it may try again."""
    return Denied(
        429, "too-many-tries", "Too many wrong tokens", f"{MOST_WRONG} within a minute came from this address.",
        "Try again later, from another address, or over the Unix socket.",
        headers={"Retry-After": str(int(wait) + 1)},
    )  # fmt: skip


def _unknown(kind: str, title: str, detail: str, hint: str) -> Denied:
    return Denied(401, kind, title, detail, hint, headers={"WWW-Authenticate": 'Bearer realm="triage"'})


def _is_link(request: web.Request) -> bool:
    """A link that logs in once may be clicked anywhere: its code is the proof."""
    return request.method == "GET" and request.path == "/login"


def _peer(sock: socket.socket | None, local: bool) -> tuple[str, str]:
    """Who is at the other end, and what its tries count for: "socket, uid 0, pid 4711" and "uid 0"."""
    try:
        if sock is None:
            return "unknown", "unknown"
        if local:
            pid, uid, _ = _PEER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
            return f"socket, uid {uid}, pid {pid}", f"uid {uid}"
        address = _plain(str(sock.getpeername()[0]))
        return f"from {address}", source_of(address)
    except OSError:  # it has left
        return "unknown", "unknown"


def _in_group(sock: socket.socket, gid: int) -> bool:
    """Whether the peer was in the group when it connected: the kernel kept that (SO_PEERGROUPS)."""
    try:
        wanted = grp.getgrnam(GROUP).gr_gid
    except KeyError:
        return False
    if gid == wanted:
        return True
    try:
        groups = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 1024)  # the most that Python takes: 256 groups
    except OSError:  # it has more, or the kernel is older than 4.13
        return False
    return wanted in (group for (group,) in struct.iter_unpack("I", groups))


def _plain(address: str) -> str:
    """An IPv4 address where it is one within IPv6, as on a socket for both."""
    return address.removeprefix("::ffff:") if "." in address else address


def _hostname(authority: str) -> str:
    """ "::1" from "[::1]:9900"; "" for what is none."""
    try:
        return urlsplit(f"//{authority}").hostname or ""
    except ValueError:
        return ""


def _place(url: str) -> tuple[str, str, int] | None:
    """Scheme, host and port; None for what has none: "null", "http://["."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    except (ValueError, KeyError):
        return None
    return (parts.scheme, parts.hostname, port) if parts.hostname else None


def _loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
