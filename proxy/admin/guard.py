"""Who may ask.

Over the Unix socket the kernel says who it is: the owner of data_dir, root, and the group `triage` need no token.
Over TCP anybody of this machine may connect, and a browser will carry anybody's page here, so besides the token:
Host must name this machine or admin.url (against DNS rebinding), Origin must be this very address, and content
must be JSON, which a foreign page cannot send unasked. A browser that has logged in (logins.py) shows its cookie.
"""

from __future__ import annotations

import grp
import hmac
import ipaddress
import os
import secrets
import socket
import struct
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from proxy.admin.errors import ApiProblem
from proxy.admin.logins import Logins

TOKEN_FILE: Final = "admin.token"
GROUP: Final = "triage"
_PEER: Final = struct.Struct("3i")  # pid, uid, gid: unix(7), SO_PEERCRED


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
    new = path.with_name(f".{TOKEN_FILE}.{os.getpid()}")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
        file.write(made + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)
    return made


class Guard:
    """Checks one call. `urls` are admin.listen and admin.url, whose hosts are ours."""

    def __init__(self, token: str, logins: Logins, urls: list[str], owner: int) -> None:
        self._token = token.encode()
        self._logins = logins
        self._hosts = {host for url in urls if (host := urlsplit(url).hostname)}
        self._owner = owner

    def check(self, request: web.Request, *, open: bool) -> str:
        """How the call came in, in words. Raises ApiProblem. `open`: no token is needed."""
        sock, local = self._came_in(request)
        if not _is_login(request):
            self._origin(request)
        peer = _peer(sock, local)
        if open or (local and sock is not None and self._trusted(sock)):
            return peer
        given = request.headers.get("Authorization", "")
        scheme, _, value = given.partition(" ")
        value = value.strip()
        if scheme.lower() == "bearer" and hmac.compare_digest(value.encode("utf-8", "surrogateescape"), self._token):
            return f"token, {peer}"
        if not given and self._logged_in(request):
            return f"login, {peer}"
        raise ApiProblem(
            401,
            "no-token",
            "This needs the admin token" if not given else "That is not the admin token",
            "Send it as: Authorization: Bearer TOKEN",
            f"It is in {TOKEN_FILE} in the data folder; the Unix socket needs none for its owner.",
            headers={"WWW-Authenticate": 'Bearer realm="triage"'},
        )

    def page(self, request: web.Request) -> None:
        """Checks a call of one of the dashboard's files, which pages of other places may link to. Raises ApiProblem."""
        self._came_in(request)

    def _came_in(self, request: web.Request) -> tuple[socket.socket | None, bool]:
        """On which socket, and whether it is the Unix socket."""
        sock: socket.socket | None = None
        if request.transport is not None:
            sock = request.transport.get_extra_info("socket")
        local = sock is not None and sock.family == socket.AF_UNIX
        if not local:
            self._host(request, sock)
        return sock, local

    def _logged_in(self, request: web.Request) -> bool:
        """By cookie. What changes something must say where it comes from, as every browser does (against CSRF)."""
        if self._logins.known(request.cookies.get(self._logins.cookie, "")) is None:
            return False
        return request.method in ("GET", "HEAD") or "Origin" in request.headers

    def _host(self, request: web.Request, sock: socket.socket | None) -> None:
        """A name that an attacker can make resolve to this machine is refused; an address cannot be made so."""
        host = _hostname(request.headers.get("Host", ""))
        here = {*self._hosts, str(sock.getsockname()[0])} if sock is not None else self._hosts
        if host not in here and not _loopback(host):
            raise ApiProblem(
                403,
                "foreign-host",
                "This name is not known here",
                f"Host is {host or 'missing'!r}, which is neither a loopback address nor that of admin.url.",
                'Set admin.url = "https://NAME" to reach it by a name.',
            )

    def _origin(self, request: web.Request) -> None:
        origin = request.headers.get("Origin")
        if origin is None:
            if request.headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin"):
                return
        else:
            try:
                parts = urlsplit(origin)
                place, name = parts.netloc.lower(), parts.hostname
            except ValueError:
                place, name = "", None
            if place and place == request.headers.get("Host", "").lower():
                return
            if name and name in self._hosts and not _loopback(name):
                return
        raise ApiProblem(
            403,
            "foreign-origin",
            "Pages of other places may not ask here",
            f"Origin is {origin!r}." if origin else "Sec-Fetch-Site says that another site asks.",
        )

    def _trusted(self, sock: socket.socket) -> bool:
        data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        pid, uid, gid = _PEER.unpack(data)
        if uid in (0, self._owner):
            return True
        try:
            wanted = grp.getgrnam(GROUP).gr_gid
        except KeyError:
            return False
        return gid == wanted or wanted in _groups(pid, uid)


def _is_login(request: web.Request) -> bool:
    """A link that logs in once may be clicked anywhere: its code is the proof."""
    return request.method == "GET" and request.path == "/login"


def _peer(sock: socket.socket | None, local: bool) -> str:
    """Who is at the other end, for the events: "socket, uid 0, pid 4711", "from 127.0.0.1"."""
    try:
        if sock is None:
            return "unknown"
        if local:
            pid, uid, _ = _PEER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
            return f"socket, uid {uid}, pid {pid}"
        return f"from {sock.getpeername()[0]}"
    except OSError:  # it has left
        return "unknown"


def _groups(pid: int, uid: int) -> set[int]:
    """Supplementary groups of the peer, as the kernel has them; none if it is gone or another by now."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return set()
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    if fields.get("Uid", "").split()[1:2] != [str(uid)]:
        return set()
    return {int(group) for group in fields.get("Groups", "").split()}


def _hostname(authority: str) -> str:
    """ "::1" from "[::1]:9900"; "" for what is none."""
    try:
        return urlsplit(f"//{authority}").hostname or ""
    except ValueError:
        return ""


def _loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
