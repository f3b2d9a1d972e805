"""What a value's text must look like, by the `kind` that the schema gives it.

Each reader returns the value, or raises Bad.

Longer than most: one short function for each kind, and the table of them at the end.
"""

from __future__ import annotations

import ipaddress
import os
import pwd
import re
import shlex
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from proxy import units
from proxy.config.conditions import METRICS, STEPS, Step
from proxy.config.listen import Listen, authority, host_and_port, is_ip, parse_listen, unix_path
from proxy.config.problems import Bad, nearest, said
from proxy.faults import FAULTS


@dataclass(frozen=True, slots=True)
class Place:
    """What a text is relative to."""

    folder: str
    data_dir: str


Extra = dict[str, Any]
Reader = Callable[[Any, Place, Extra], Any]

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}", re.ASCII)  # RFC 9110 section 5.6.2
_LABEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,62}", re.ASCII)
_HOST: Final = re.compile(
    r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*", re.ASCII
)
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_PLACEHOLDER: Final = re.compile(r"(?<!\$)\{([A-Za-z_][A-Za-z0-9_]*)\}", re.ASCII)
_CRON_FIELDS: Final = (
    ("minute", 0, 59),
    ("hour", 0, 23),
    ("day", 1, 31),
    ("month", 1, 12),
    ("weekday", 0, 7),
)

COMMAND_PLACEHOLDERS: Final = ("port", "socket", "name")


def quoted(value: Any) -> str:
    """A hint for who left the quotes out."""
    return f' - write "{said(value)}"' if isinstance(value, (bool, int, float)) else ""


def text(value: Any, what: str = "a string") -> str:
    if not isinstance(value, str):
        raise Bad(f"expected {what}, got {said(value)}{quoted(value) if what == 'a string' else ''}")
    if "\0" in value:
        raise Bad(f"a zero byte in {said(value)} - leave it out")
    if not value.strip():
        raise Bad(f"expected {what}, got an empty string")
    return value


def _by_unit(parse: Callable[[str], float], what: str) -> Reader:
    def read(value: Any, place: Place, extra: Extra) -> float:
        try:
            return parse(text(value, what).strip())
        except Bad:
            raise
        except ValueError:
            raise Bad(f"expected {what}, got {said(value)}") from None

    return read


duration = _by_unit(units.parse_duration, 'a duration such as "5s"')
size = _by_unit(units.parse_size, 'a size such as "64KiB" or "512MB"')


def ratio(value: Any, place: Place, extra: Extra) -> float:
    found = float(_by_unit(units.parse_ratio, 'a ratio such as "20%"')(value, place, extra))
    if found > 1 and "amount" not in extra:
        raise Bad(f'{said(value)} is more than "100%" - "0%" to "100%"')
    return found


def path(value: Any, place: Place, extra: Extra) -> str:
    return os.path.normpath(os.path.join(place.folder, os.path.expanduser(text(value, "a path"))))


def under_data(value: Any, place: Place, extra: Extra) -> str:
    if "unix" in extra:
        return unix_path(text(value, "a path"), place.data_dir)
    return os.path.normpath(os.path.join(place.data_dir, text(value, "a path")))


def file(value: Any, place: Place, extra: Extra) -> str:
    found = path(value, place, extra)
    try:
        with open(found, "rb") as opened:
            opened.read(1)
    except OSError as error:
        raise Bad(f"cannot read {found}: {error.strerror} - a file that Triage may read") from None
    return found


def folder(value: Any, place: Place, extra: Extra) -> str:
    found = path(value, place, extra)
    try:
        os.scandir(found).close()
    except OSError as error:
        raise Bad(f"cannot read {found}: {error.strerror} - a folder that Triage may read") from None
    if not os.access(found, os.X_OK):
        raise Bad(f"cannot enter {found}: Permission denied - a folder that Triage may read")
    return found


def pattern_of_files(value: Any, place: Place, extra: Extra) -> str:
    """As it is: relative to the app's `cwd`, which is read elsewhere."""
    return os.path.normpath(text(value, 'a pattern such as "*.py"'))


def listen(value: Any, place: Place, extra: Extra) -> Listen:
    return parse_listen(text(value, 'an address such as "127.0.0.1:8080"').strip(), place.folder)


def admin_listen(value: Any, place: Place, extra: Extra) -> Listen:
    found = listen(value, place, extra)
    if found.kind == "unix":
        raise Bad("expected an address and port - a Unix socket is `admin.socket`")
    return found


def address(value: Any, place: Place, extra: Extra) -> str:
    what = 'such as "http://10.0.0.5:8000" or "unix:/run/app.sock"'
    found = text(value, f"an address {what}").strip()
    if found.startswith("unix:"):
        return "unix:" + unix_path(found, place.folder)
    scheme, separator, rest = found.partition("://")
    if not separator or scheme not in ("http", "https"):
        raise Bad(f"expected an address {what}, got {said(value)}")
    rest, _, tail = rest.partition("/")
    if "@" in rest:
        raise Bad("a user or password in an address - leave it out: clients of the app send their own")
    if tail:
        raise Bad(f"a path in {said(value)} - the address alone: {said(f'{scheme}://{rest}')}")
    host, port = host_and_port(rest, what)
    if not host or port == 0:
        raise Bad(f"{said(value)} says not where - an address {what}")
    return f"{scheme}://{authority(host, port or (443 if scheme == 'https' else 80))}"


def url(value: Any, place: Place, extra: Extra) -> str:
    found = text(value, 'a URL such as "https://example.com/hook"').strip()
    if not re.fullmatch(r"https?://[^\s/?#]+[^\s]*", found):
        raise Bad(f'expected a URL such as "https://example.com/hook", got {said(value)}')
    return found


def email(value: Any, place: Place, extra: Extra) -> str:
    found = text(value, 'an address such as "ops@example.com"').strip()
    if not re.fullmatch(r"[^\s@<>]+@[^\s@<>]+", found):
        raise Bad(f'expected an address such as "ops@example.com", got {said(value)}')
    return found


def smtp(value: Any, place: Place, extra: Extra) -> str:
    found = text(value, 'a mail server such as "smtp://mail.example.com:587"').strip()
    match = re.fullmatch(
        r"smtps?://(?:[^\s/?#@:]+:[^\s/?#@]*@)?(?:[^\s/?#@:\[\]]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?/?"
        r"(?:\?starttls=(?:yes|no))?",
        found,
    )
    if match is None or not 0 < int(match[1] or 25) < 65536:
        # What was given is not repeated: a password may be in it.
        raise Bad('expected a mail server such as "smtp://user:password@mail.example.com:587" (in a password @ is %40)')
    return found


def metric(value: Any, place: Place, extra: Extra) -> str:
    found = text(value, "the id of a metric")
    if found not in METRICS:
        raise Bad(f"unknown metric {said(found)}{nearest(found, METRICS)}")
    return found


def event_kind(value: Any, place: Place, extra: Extra) -> str:
    found = text(value, 'a kind of event such as "exited"')
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,39}", found):
        raise Bad(f'expected a kind of event such as "exited", got {said(value)}')
    if found.startswith(("incident", "alert", "notify")):
        raise Bad(f"{said(found)} is what alerts make themselves - another kind")
    return found


def exception(value: Any, place: Place, extra: Extra) -> str:
    """A type, as a traceback names it."""
    found = text(value, 'a type such as "MemoryError" or "app.errors.Lost"')
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", found, re.ASCII) or len(found) > 200:
        raise Bad(f'{said(value)} is no type of an exception - such as "MemoryError" or "app.errors.Lost"')
    return found


def host(value: Any, place: Place, extra: Extra) -> str:
    """Lower case, without a final dot; "*." in front stands for one label or more."""
    found = text(value, 'a host such as "example.com"').strip().lower().removesuffix(".")
    if found == "*":
        raise Bad('"*" is no host - leave `hosts` out to answer for every host')
    if found.startswith("[") and found.endswith("]") and is_ip(found[1:-1]):
        return found
    star, name = ("*.", found[2:]) if found.startswith("*.") else ("", found)
    if not name.isascii():
        try:
            name = name.encode("idna").decode()
        except UnicodeError:
            raise Bad(f'{said(value)} is not a host - such as "example.com"') from None
    if not _HOST.fullmatch(name) or len(name) > 253:
        raise Bad(
            f'{said(value)} is not a host - such as "example.com" or "*.example.com", without scheme and port'
        )
    return star + name


def host_field(value: Any, place: Place, extra: Extra) -> str:
    found = text(value, 'a host such as "example.com"').strip()
    host_and_port(found, 'such as "example.com"')
    return found


def _printable(value: Any, what: str) -> str:
    found = text(value, what)
    if not found.startswith("/"):
        raise Bad(f'{said(value)} does not start with "/" - {said("/" + found)}')
    if not re.fullmatch(r"[!-\"$-~]+", found):
        raise Bad(f"{said(value)} has letters that no request can have - percent-encode them")
    return found


def target(value: Any, place: Place, extra: Extra) -> str:
    return _printable(value, 'a path such as "/healthz"')


def prefix(value: Any, place: Place, extra: Extra) -> str:
    found = _printable(value, 'a prefix such as "/"')
    if "?" in found or "*" in found:
        raise Bad(f'{said(value)} has "?" or "*" - the beginning of a path, such as "/api"')
    return found


def path_pattern(value: Any, place: Place, extra: Extra) -> str:
    return _printable(value, 'a path such as "/api/*"')


def network(value: Any, place: Place, extra: Extra) -> str:
    found = text(value, 'a network such as "10.0.0.0/8"').strip()
    try:
        return str(ipaddress.ip_network(found))
    except ValueError:
        pass
    try:
        meant = ipaddress.ip_network(found, strict=False)
    except ValueError:
        raise Bad(f'expected a network such as "10.0.0.0/8" or "::1/128", got {said(value)}') from None
    raise Bad(f"{said(value)} has bits set behind its mask - {said(str(meant))}")


def _arguments(found: list[str], known: tuple[str, ...], names: str) -> tuple[str, ...]:
    for argument in found:
        for name in _PLACEHOLDER.findall(argument):
            if name not in known:
                raise Bad(f"unknown placeholder {{{name}}} - {names}")
    return tuple(found)


def command(value: Any, place: Place, extra: Extra) -> tuple[str, ...]:
    """An argument list: a text split like a shell would, or an array taken as it is."""
    what = 'a command such as "uvicorn app:app --port {port}"'
    if isinstance(value, list):
        return arguments(value, place, {"placeholders": COMMAND_PLACEHOLDERS})
    try:
        found = shlex.split(text(value, what))
    except Bad:
        raise
    except ValueError as error:
        raise Bad(f"cannot be split: {str(error).lower()} - close the quotation, or escape it") from None
    if not found or not found[0]:
        raise Bad(f"splits to nothing - {what}")
    return _arguments(found, COMMAND_PLACEHOLDERS, "{port}, {socket} or {name}")


def arguments(value: Any, place: Place, extra: Extra) -> tuple[str, ...]:
    what = 'an argument list such as ["docker", "restart"]'
    if not isinstance(value, list) or not all(isinstance(item, str) and "\0" not in item for item in value):
        raise Bad(f"expected {what}, got {said(value)}")
    if not value or not value[0]:
        raise Bad(f"expected {what}, got an empty one")
    known = tuple(extra.get("placeholders", ()))
    names = ", ".join(f"{{{name}}}" for name in known) or "none is filled in here"
    return _arguments(value, known, names)


def variable(value: Any, place: Place, extra: Extra) -> str:
    found = text(value, 'a variable such as "PATH"')
    if not _VARIABLE.fullmatch(found.replace("*", "_")):
        raise Bad(f'{said(value)} is no name of a variable - such as "PATH" or "APP_*"')
    return found


def user_id(name: str) -> int:
    """Of a user of this machine, given by name or number. Raises KeyError, ValueError, OverflowError."""
    return pwd.getpwuid(int(name)).pw_uid if name.isdigit() else pwd.getpwnam(name).pw_uid


def user(value: Any, place: Place, extra: Extra) -> str:
    found = text(value, 'a user such as "www"')
    try:
        user_id(found)
    except (KeyError, ValueError, OverflowError):
        raise Bad(f"unknown user {said(value)} - a user of this machine") from None
    return found


def signal_name(value: Any, place: Place, extra: Extra) -> str:
    found = text(value, 'a signal such as "TERM"').upper().removeprefix("SIG")
    known = [known.name.removeprefix("SIG") for known in signal.Signals]
    if found not in known:
        raise Bad(f'unknown signal {said(value)} - such as "TERM", "INT" or "QUIT"')
    return found


def token(value: Any, place: Place, extra: Extra) -> str:
    found = text(value, "a name")
    if not _TOKEN.fullmatch(found):
        raise Bad(f"{said(value)} is no name for it - letters, digits and -._")
    return found


def upgrade(value: Any, place: Place, extra: Extra) -> str:
    found = token(value, place, extra).lower()
    if found in ("h2c", "h2", "http", "tls"):
        raise Bad(f'{said(value)} would let requests past the gateway\'s checks - such as "websocket"')
    return found


def label(value: Any, place: Place, extra: Extra) -> str:
    found = text(value, "a name")
    if not _LABEL.fullmatch(found):
        raise Bad(f"{said(value)} is no name - letters, digits and -._: (63 at most)")
    return found


def fields(value: Any, place: Place, extra: Extra) -> dict[str, str]:
    """Fields of a request that Triage sends."""
    what = '{ Authorization = "Bearer …" }'
    if not isinstance(value, dict):
        raise Bad(f"expected a table such as {what}, got {said(value)}")
    for name, content in value.items():
        if not _TOKEN.fullmatch(name) or name.lower() in ("host", "content-length", "content-type", "content-encoding"):
            raise Bad(f"{said(name)} is no field to be set - such as {what}")
        if not isinstance(content, str) or not re.fullmatch(r"[\t -~]*", content):
            raise Bad(f"{name}: expected a line of text, got {said(content)}")
    return dict(value)


def hash_key(value: Any, place: Place, extra: Extra) -> str:
    found = text(value, '"client", "header:NAME" or "cookie:NAME"')
    source, _colon, name = found.partition(":")
    if found != "client" and (source not in ("header", "cookie") or not _TOKEN.fullmatch(name)):
        raise Bad(f'expected "client", "header:NAME" or "cookie:NAME", got {said(value)}')
    return f"{source}:{name.lower()}" if source == "header" else found


def fault(value: Any, place: Place, extra: Extra) -> str:
    found = text(value, 'a fault such as "head-timeout"')
    if found not in FAULTS:
        hint = (
            nearest(found, [name.replace("-", "_") for name in FAULTS]).replace("_", "-")
            or " - docs/faults.md lists them"
        )
        raise Bad(f"unknown fault {said(value)}{hint}")
    return found


def statuses(value: Any, place: Place, extra: Extra) -> tuple[tuple[int, int], ...]:
    """Ranges, ends included: "200-299", ">=500", 404, or a list of them."""
    if isinstance(value, list) and value:
        return tuple(found for item in value for found in statuses(item, place, extra))
    written = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if isinstance(written, str):
        found = []
        for part in written.split(","):
            match = re.fullmatch(r"\s*(>=)?([0-9]{3})(?:-([0-9]{3}))?\s*", part, re.ASCII)
            if match is None or (match[1] and match[3]):
                break
            first = int(match[2])
            last = 599 if match[1] else int(match[3] or first)
            if not 100 <= first <= last <= 599:
                break
            found.append((first, last))
        else:
            return tuple(found)
    raise Bad(f'expected statuses such as "200-299", ">=500" or [200, 404], got {said(value)}')


def automatic(value: Any, place: Place, extra: Extra) -> int | str:
    """16 is the board's columns (link/board.py)."""
    if value == "auto" or (type(value) is int and 1 <= value <= 16):
        return value  # type: ignore[no-any-return]
    raise Bad(f'expected "auto" or a number from 1 to 16, got {said(value)}')


def inflight(value: Any, place: Place, extra: Extra) -> int | str:
    if value == "adaptive" or (type(value) is int and 0 <= value <= 1_000_000):
        return value  # type: ignore[no-any-return]
    raise Bad(f'expected "adaptive" or a number from 0 (no limit) to 1000000, got {said(value)}')


def log(value: Any, place: Place, extra: Extra) -> str:
    return value if value in ("stderr", "stdout") else under_data(value, place, extra)


def version(value: Any, place: Place, extra: Extra) -> str | None:
    """Nothing, as "${GIT_SHA:-}" may leave it, is as good as absent."""
    return None if isinstance(value, str) and not value.strip() else text(value)


def cron(value: Any, place: Place, extra: Extra) -> str:
    what = 'a schedule such as "0 3 * * *" (minute, hour, day, month, weekday)'
    fields = text(value, what).split()
    if len(fields) != len(_CRON_FIELDS):
        raise Bad(f"expected {what}, got {said(value)}")
    for written, (name, least, most) in zip(fields, _CRON_FIELDS, strict=True):
        for part in written.split(","):
            match = re.fullmatch(r"(?:\*|([0-9]{1,2})(?:-([0-9]{1,2}))?)(?:/([0-9]{1,2}))?", part, re.ASCII)
            if match is None or (match[3] is not None and int(match[3]) == 0):
                raise Bad(f"{said(part)} is no {name} - {what}")
            first = least if match[1] is None else int(match[1])
            if not least <= first <= int(match[2] or first) <= most:
                raise Bad(f"{said(part)} is no {name} - {least} to {most}")
    return " ".join(fields)


def step(value: Any, place: Place, extra: Extra) -> Step:
    what = '"collect", "diagnose", "recycle", "restart", "eject", { scale = 1 } or { run = ["command"] }'
    if isinstance(value, str) and value not in ("run", "scale"):
        if value not in STEPS:
            raise Bad(f"unknown act {said(value)}{nearest(value, STEPS)}")
        return Step(value)
    if isinstance(value, dict) and len(value) == 1:
        if "run" in value:
            return Step("run", run=arguments(value["run"], place, {}))
        by = value.get("scale")
        if type(by) is int and by and -1000 <= by <= 1000:
            return Step("scale", by=by)
    raise Bad(f"expected {what}, got {said(value)}")


READERS: Final[dict[str, Reader]] = {
    "duration": duration, "size": size, "ratio": ratio, "path": path, "file": file, "folder": folder,
    "under-data": under_data, "glob": pattern_of_files, "listen": listen, "admin-listen": admin_listen,
    "address": address, "url": url, "email": email, "host": host, "host-field": host_field, "target": target,
    "prefix": prefix, "path-pattern": path_pattern, "network": network, "command": command,
    "arguments": arguments,
    "variable": variable, "user": user, "signal": signal_name, "token": token, "upgrade": upgrade,
    "label": label, "hash-key": hash_key, "fault": fault, "statuses": statuses, "auto": automatic,
    "inflight": inflight, "fields": fields, "log": log, "cron": cron, "version": version, "step": step,
    "smtp": smtp, "metric": metric, "event-kind": event_kind, "exception": exception,
}  # fmt: skip

RESOLVED: Final = frozenset({"path", "folder", "under-data", "log"})
"""Kinds whose defaults are read like a given text, because they are relative to something."""
