"""Tokens with roles: made, listed, revoked. At rest there are hashes only, in data_dir/tokens.json.

Always true:
  - a token's secret is 256 random bits, told once; the file has its SHA-256 (a slow hash is for what can be guessed);
  - a token is saved before it is told, and a revoked one is refused before that is saved;
  - a file that is damaged, a link, somebody else's or writable by others opens nothing and is never overwritten:
    admin.token and the Unix socket go on, and the file is looked at again whenever tokens are listed or made.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import re
import secrets
import stat
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from proxy.admin.callers import ADMIN_TOKEN
from proxy.admin.routing import ROLES, Role

FILE: Final = "tokens.json"
USED: Final = "tokens-used.json"
MOST: Final = 200
LARGEST: Final = 1 << 20
"""Bytes of the file; MOST of them are a tenth of it."""
SHOWN_AFTER: Final = 30 * 86400.0
"""Seconds that an expired one stays in the list, to explain why it is refused."""
STRONG: Final = 32
"""Characters from which on a token cannot be guessed; admin.token may hold a shorter one that somebody wrote there."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,59}")
_TOKEN: Final = re.compile(r"triage_([0-9a-f]{8})_([A-Za-z0-9_-]{43})")


class Refused(Exception):
    """A token could not be made or revoked. `kind`: damaged, not-saved, name-taken, too-many."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Token:
    """One of them. Times are Unix seconds; `expires` None: never."""

    id: str
    name: str
    role: Role
    hash: str  # of the whole token, SHA-256, hex
    made: float
    expires: float | None
    by: str  # who made it

    def over(self, now: float) -> bool:
        """Whether it has expired."""
        return self.expires is not None and self.expires <= now


class Tokens:
    """`admin` is the text of admin.token."""

    def __init__(self, data_dir: Path, admin: str) -> None:
        self._path = data_dir / FILE
        self._used_path = data_dir / USED
        self._admin = Token(ADMIN_TOKEN, ADMIN_TOKEN, "admin", digest(admin), 0.0, None, "")
        self._admin_strong = len(admin) >= STRONG
        self._tokens: dict[str, Token] = {}
        self._used: dict[str, tuple[float, str]] = {}
        self._used_changed = False
        self._changing = asyncio.Lock()
        self.damage = ""
        """What is wrong with the file; while there is something, none of its tokens is taken and none is made."""
        self.read()
        self._read_used()

    def __repr__(self) -> str:
        return f"<Tokens {len(self._tokens)}{', damaged' if self.damage else ''}>"

    # --- asking ---------------------------------------------------------------------------------------

    def find(self, value: str) -> Token | None:
        """Whose token this is; None: nobody's. It may have expired."""
        match = _TOKEN.fullmatch(value)
        known = self._tokens.get(match[1]) if match else None
        for token in (known, self._admin):
            if token is not None and hmac.compare_digest(digest(value), token.hash):
                return token
        return None

    def strong(self, token: Token) -> bool:
        """Whether it is beyond guessing, so that it need not wait for others' wrong tries."""
        return token.id != ADMIN_TOKEN or self._admin_strong

    def lives(self, id: str) -> bool:
        """Whether it is neither revoked nor expired; "" is the Unix socket."""
        if id in ("", ADMIN_TOKEN):
            return True
        found = self._tokens.get(id)
        return found is not None and not found.over(time.time())

    def used(self, token: Token, source: str) -> None:
        """It was shown, from there."""
        self._used[token.id] = (time.time(), source)
        self._used_changed = True

    def shown(self, token: Token) -> dict[str, Any]:
        """As the API lists it; times as Unix seconds or None."""
        last, source = self._used.get(token.id, (None, ""))
        return {
            "id": token.id, "name": token.name, "role": token.role, "made": token.made or None,
            "expires": token.expires, "expired": token.over(time.time()),
            "last_used": last, "last_from": source, "by": token.by,
        }  # fmt: skip

    def all(self) -> list[Token]:
        """Oldest first; admin.token before them."""
        return [self._admin, *self._tokens.values()]

    def named(self, text: str) -> Token | None:
        """By id, or by name."""
        return self._tokens.get(text) or next((one for one in self._tokens.values() if one.name == text), None)

    # --- changing -------------------------------------------------------------------------------------

    async def make(self, name: str, role: Role, lasts: float | None, by: str) -> tuple[Token, str]:
        """A new one and its text, which nobody can tell again. Raises Refused."""
        return await asyncio.shield(asyncio.ensure_future(self._make(name, role, lasts, by)))

    async def revoke(self, id: str) -> None:
        """Refused from now on. Raises Refused where that could not be saved: a restart would bring it back."""
        await asyncio.shield(asyncio.ensure_future(self._revoke(id)))  # to its end, whether the caller leaves or not

    async def _make(self, name: str, role: Role, lasts: float | None, by: str) -> tuple[Token, str]:
        async with self._changing:
            self._refuse_damaged()
            now = time.time()
            there = {id: one for id, one in self._tokens.items() if not one.over(now - SHOWN_AFTER)}
            if any(one.name == name and not one.over(now) for one in there.values()):
                raise Refused("name-taken", f"There is a token {name!r} already")
            if len(there) >= MOST:
                raise Refused("too-many", f"There are {MOST} tokens")
            id = secrets.token_hex(4)
            while id in there:
                id = secrets.token_hex(4)
            text = f"triage_{id}_{secrets.token_urlsafe(32)}"
            token = Token(id, name, role, digest(text), now, now + lasts if lasts is not None else None, by)
            there[id] = token
            try:
                await asyncio.to_thread(self._write, list(there.values()))
            except OSError as error:
                raise Refused("not-saved", f"{FILE} could not be written: {error.strerror or error}") from None
            self._tokens = there
            return token, text

    async def _revoke(self, id: str) -> None:
        async with self._changing:
            self._refuse_damaged()
            self._tokens.pop(id, None)
            self._used.pop(id, None)
            try:
                await asyncio.to_thread(self._write, list(self._tokens.values()))
            except OSError as error:
                raise Refused("not-saved", f"{FILE} could not be written: {error.strerror or error}") from None

    def _refuse_damaged(self) -> None:
        if self.damage:
            raise Refused("damaged", self.damage)

    async def look_again(self) -> None:
        """Read a file that was damaged, if it is whole by now."""
        async with self._changing:
            if self.damage:
                await asyncio.to_thread(self.read)

    # --- the file -------------------------------------------------------------------------------------

    def read(self) -> None:
        """All tokens out of the file; none where it cannot be believed, and `damage` says why."""
        self.damage = ""
        try:
            self._tokens = {one.id: one for one in _read(self._path)}
        except FileNotFoundError:
            self._tokens = {}
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._tokens = {}
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            self.damage = f"{self._path} cannot be believed: {why}"

    def _write(self, tokens: list[Token]) -> None:
        text = orjson.dumps({"form": 1, "tokens": [asdict(one) for one in tokens]}, option=orjson.OPT_INDENT_2)
        write_private(self._path, text, lasting=True)

    def _read_used(self) -> None:
        try:
            raw = orjson.loads(self._used_path.read_bytes())
            self._used = {str(id): (float(at), str(source)[:100]) for id, (at, source) in list(raw.items())[: MOST + 1]}
        except (OSError, ValueError, TypeError, AttributeError):
            pass  # only when they were last used is lost

    def save_used(self) -> None:
        """When each was last used, if that has changed. Slow: for a thread."""
        if not self._used_changed:
            return
        self._used_changed = False
        ids = {ADMIN_TOKEN, *self._tokens}
        try:
            kept = {id: one for id, one in self._used.copy().items() if id in ids}
            write_private(self._used_path, orjson.dumps(kept))
        except OSError:
            self._used_changed = True  # a full disk: later


def digest(text: str) -> str:
    """SHA-256, hex."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def good_name(name: str) -> bool:
    """Whether a token may be called so: what goes into a line of a list, and into an address."""
    return _NAME.fullmatch(name) is not None and name != ADMIN_TOKEN


def write_private(path: Path, data: bytes, *, lasting: bool = False) -> None:
    """All of it or nothing, mode 0600. `lasting`: it is on the disk when this returns. Raises OSError."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.unlink(missing_ok=True)
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "wb") as file:
            file.write(data)
            if lasting:
                file.flush()
                os.fsync(file.fileno())
        os.replace(new, path)
    except OSError:
        new.unlink(missing_ok=True)
        raise
    if lasting:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _read(path: Path) -> list[Token]:
    """Raises OSError, ValueError, KeyError, TypeError where anything of it is not as it was written."""
    with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("it is not a plain file")
        if found.st_uid not in (0, os.geteuid()):
            raise ValueError(f"it belongs to uid {found.st_uid}")
        if found.st_mode & 0o022:
            raise ValueError(f"its mode {stat.S_IMODE(found.st_mode):04o} lets others write it")
        if found.st_size > LARGEST:
            raise ValueError(f"it has {found.st_size:,} bytes")
        if found.st_mode & 0o077:
            os.fchmod(file.fileno(), 0o600)
        raw = orjson.loads(file.read(LARGEST + 1))
    if not isinstance(raw, dict) or raw.get("form") != 1 or not isinstance(raw["tokens"], list):
        raise ValueError("it is not a list of tokens that this version wrote")
    tokens = [_token(one) for one in raw["tokens"]]
    if len({one.id for one in tokens}) != len(tokens) or len(tokens) > MOST:
        raise ValueError("ids stand there twice, or there are too many")
    return tokens


def _token(raw: dict[str, Any]) -> Token:
    id, name, role, hash = str(raw["id"]), str(raw["name"]), raw["role"], str(raw["hash"])
    if not re.fullmatch(r"[0-9a-f]{8}", id) or not good_name(name) or role not in ROLES:
        raise ValueError("a token in it has no proper id, name or role")
    if not re.fullmatch(r"[0-9a-f]{64}", hash):
        raise ValueError("a token in it has no proper hash")
    expires = raw["expires"]
    until = float(expires) if expires is not None else None
    return Token(id, name, role, hash, float(raw["made"]), until, str(raw["by"]))
