"""Who is logged in with a browser: cookies for those who showed the token, and links that log in once.

Always true:
  - neither the token nor a cookie is ever stored: the file has hashes of cookies, and when each ends;
  - a link's code works once, within LINK seconds, and dies with this control;
  - after MOST_FAILED wrong tokens in a minute nobody may try for the rest of it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import time
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import orjson

FILE: Final = "logins.json"
LASTS: Final = 12 * 3600.0
"""Seconds: a working day. `triage open` makes the next one."""
LINK: Final = 60.0
MOST: Final = 200
MOST_LINKS: Final = 50
MOST_FAILED: Final = 20


class TooMany(Exception):
    """Too many wrong tokens of late; `wait` seconds from now it may be tried again."""

    def __init__(self, wait: float) -> None:
        super().__init__(f"{MOST_FAILED} wrong tokens within a minute")
        self.wait = wait


@dataclass(frozen=True, slots=True)
class Login:
    """One cookie."""

    hash: str  # of the cookie, SHA-256, hex
    made: float  # Unix seconds
    ends: float
    way: str  # how its token or link came in


class Logins:
    """`token` is the admin token."""

    def __init__(self, data_dir: Path, token: str) -> None:
        self._path = data_dir / FILE
        self._token = token.encode()
        self.cookie: Final = f"triage-{_hash(f'cookie {token}')[:8]}"
        """Its name: cookies don't tell ports apart, and several gateways may run on one machine."""
        self._logins: dict[str, Login] = {}
        self._links: dict[str, tuple[float, str]] = {}  # hash of the code: until (monotonic), and where it leads
        self._failed: deque[float] = deque(maxlen=MOST_FAILED)
        self._read()

    def __repr__(self) -> str:
        return f"<Logins {len(self._logins)} cookies, {len(self._links)} links>"

    def begin(self, token: str, way: str) -> str | None:
        """A new cookie for who has the token; None: it is not the token. Raises TooMany."""
        now = time.monotonic()
        if len(self._failed) == MOST_FAILED and now - self._failed[0] < 60.0:
            raise TooMany(60.0 - (now - self._failed[0]))
        if not hmac.compare_digest(token.strip().encode("utf-8", "surrogateescape"), self._token):
            self._failed.append(now)
            return None
        return self._made(way)

    def link(self, to: str) -> str:
        """A code that logs in once, and then leads to `to`."""
        code, now = secrets.token_urlsafe(24), time.monotonic()
        self._links = {hash: link for hash, link in self._links.items() if link[0] > now}
        while len(self._links) >= MOST_LINKS:
            del self._links[next(iter(self._links))]
        self._links[_hash(code)] = (now + LINK, to)
        return code

    def follow(self, code: str, way: str) -> tuple[str, str] | None:
        """A new cookie, and where the link leads; None: the code is unknown, used or too old."""
        until, to = self._links.pop(_hash(code), (0.0, ""))
        return (self._made(way), to) if until > time.monotonic() else None

    def known(self, cookie: str) -> Login | None:
        """Whose cookie it is; None: nobody's, or it is over."""
        found = self._logins.get(_hash(cookie)) if cookie else None
        return found if found is not None and found.ends > time.time() else None

    def end(self, cookie: str) -> None:
        """Log out."""
        if self._logins.pop(_hash(cookie), None) is not None:
            self._write()

    def _made(self, way: str) -> str:
        cookie, now = secrets.token_urlsafe(32), time.time()
        self._logins = {hash: login for hash, login in self._logins.items() if login.ends > now}
        while len(self._logins) >= MOST:
            del self._logins[next(iter(self._logins))]
        hash = _hash(cookie)
        self._logins[hash] = Login(hash, now, now + LASTS, way)
        self._write()
        return cookie

    def _read(self) -> None:
        try:
            for raw in orjson.loads(self._path.read_bytes()):
                login = Login(str(raw["hash"]), float(raw["made"]), float(raw["ends"]), str(raw["way"]))
                self._logins[login.hash] = login
        except (OSError, ValueError, KeyError, TypeError):
            pass  # none is there, or it cannot be read: who was logged in logs in again

    def _write(self) -> None:
        new = self._path.with_name(f".{FILE}.{os.getpid()}")
        try:
            new.unlink(missing_ok=True)
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as file:
                file.write(orjson.dumps([asdict(login) for login in self._logins.values()]))
            os.replace(new, self._path)
        except OSError:
            pass  # a full disk: the login lasts as long as this control


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
