"""Who is logged in with a browser: cookies for those who showed a token, and links that log in once.

Always true:
  - neither a token nor a cookie is ever stored: the file has hashes of cookies, and when each ends;
  - a login may what the token it was made with may, and ends with it, or earlier;
  - a link's code works once, within LINK seconds, and dies with this control;
  - who makes too many of them loses the own ones: nobody else is logged out by that.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from proxy.admin.callers import Caller
from proxy.admin.routing import ROLES, Role
from proxy.admin.tokens import digest, write_private

FILE: Final = "logins.json"
LASTS: Final = 12 * 3600.0
"""Seconds: a working day. `triage open` makes the next one."""
LINK: Final = 60.0
MOST: Final = 1000
MOST_LINKS: Final = 200
MOST_OF_ONE: Final = 20
"""Logins, and links, of one token; the Unix socket counts as one."""


@dataclass(frozen=True, slots=True)
class Login:
    """One cookie."""

    hash: str  # of the cookie, SHA-256, hex
    made: float  # Unix seconds
    ends: float
    way: str  # how its token or link came in
    name: str  # of the caller
    role: Role
    token: str  # id of the token; "": made over the Unix socket


class Logins:
    """`token` is the admin token; when it is another one, nobody is logged in. `lives`: whether a token still does."""

    def __init__(self, data_dir: Path, token: str, lives: Callable[[str], bool] = lambda id: True) -> None:
        self._path = data_dir / FILE
        self._lives = lives
        self._of = digest(f"logins {token}")[:16]
        self.cookie: Final = f"triage-{digest(f'cookie {token}')[:8]}"
        """Its name: cookies don't tell ports apart, and several gateways may run on one machine."""
        self._logins: dict[str, Login] = {}
        self._links: dict[str, tuple[float, str, Caller]] = {}  # hash of the code: until (monotonic), leads to, whose
        self._read()

    def __repr__(self) -> str:
        return f"<Logins {len(self._logins)} cookies, {len(self._links)} links>"

    def begin(self, caller: Caller, way: str) -> str:
        """A new cookie for who has shown a token."""
        cookie, now = secrets.token_urlsafe(32), time.time()
        self._logins = {hash: login for hash, login in self._logins.items() if login.ends > now}
        self._make_room(self._logins, [hash for hash, one in self._logins.items() if one.token == caller.token], MOST)
        ends = now + LASTS if caller.expires is None else min(now + LASTS, caller.expires)
        if caller.role is None:
            raise ValueError("nobody cannot log in")
        login = Login(digest(cookie), now, ends, way, caller.name, caller.role, caller.token)
        self._logins[login.hash] = login
        self._write()
        return cookie

    def link(self, to: str, caller: Caller) -> str:
        """A code that logs in once, as this caller, and then leads to `to`."""
        code, now = secrets.token_urlsafe(24), time.monotonic()
        self._links = {hash: link for hash, link in self._links.items() if link[0] > now}
        own = [hash for hash, one in self._links.items() if one[2].token == caller.token]
        self._make_room(self._links, own, MOST_LINKS)
        self._links[digest(code)] = (now + LINK, to, caller)
        return code

    def follow(self, code: str) -> tuple[Caller, str] | None:
        """As whom the code logs in, and where its link leads; None: it is unknown, used or too old."""
        found = self._links.pop(digest(code), None)
        if found is None or found[0] <= time.monotonic() or not self._lives(found[2].token):
            return None
        return found[2], found[1]

    def known(self, cookie: str) -> Login | None:
        """Whose cookie it is; None: nobody's, or it is over."""
        found = self._logins.get(digest(cookie)) if cookie else None
        return found if found is not None and found.ends > time.time() and self._lives(found.token) else None

    def end(self, cookie: str) -> Login | None:
        """Log out; who it was."""
        found = self._logins.pop(digest(cookie), None)
        if found is not None:
            self._write()
        return found

    def end_of(self, token: str) -> None:
        """All that were made with a token, and links too."""
        self._links = {hash: link for hash, link in self._links.items() if link[2].token != token}
        there = {hash: login for hash, login in self._logins.items() if login.token != token}
        if len(there) != len(self._logins):
            self._logins = there
            self._write()

    @staticmethod
    def _make_room(there: dict[str, Any], own: list[str], most: int) -> None:
        """For one more, of somebody who has those."""
        if len(own) >= MOST_OF_ONE:
            del there[own[0]]
        while len(there) >= most:
            del there[next(iter(there))]

    def _read(self) -> None:
        try:
            raw = orjson.loads(self._path.read_bytes())
            if not hmac.compare_digest(str(raw["of"]), self._of):
                return
            self._logins = {login.hash: login for login in map(_login, raw["logins"][:MOST])}
        except (OSError, ValueError, KeyError, TypeError):
            self._logins = {}  # none is there, or it cannot be read: who was logged in logs in again

    def _write(self) -> None:
        value = {"of": self._of, "logins": [asdict(login) for login in self._logins.values()]}
        try:
            write_private(self._path, orjson.dumps(value))
        except OSError:
            pass  # a full disk: the login lasts as long as this control


def _login(raw: dict[str, Any]) -> Login:
    if raw["role"] not in ROLES:
        raise ValueError("no role")
    return Login(
        str(raw["hash"]), float(raw["made"]), float(raw["ends"]), str(raw["way"]), str(raw["name"]), raw["role"],
        str(raw["token"]),
    )  # fmt: skip
