"""A new config: checked whole first, then what it means in steps. The applying is the gateway's."""

from __future__ import annotations

import secrets
from pathlib import Path

import msgspec

from proxy.config import Changes, Config, ConfigProblems, Listen, load, parse, parse_listen
from proxy.control.names import write_whole
from proxy.link.spawn import Address, Listener

PAGES_LIMIT = 1 << 20
"""Bytes of all error pages together: they travel with each table."""


def read(text: str | None, path: str) -> tuple[Config, str]:
    """The config and its text, from `text` or the file. Raises ConfigProblems. Slow: for a thread."""
    if text is not None:
        return parse(text, path), text
    config = load(path)
    return config, Path(path).read_text(encoding="utf-8")


def problems(error: ConfigProblems) -> list[str]:
    """As `triage check` prints them."""
    return [str(problem) for problem in error.problems]


def kept(old: Config, new: Config) -> tuple[Config, list[str]]:
    """The new config without what only a start can change, and what that is."""
    waits = []
    gateway, admin = new.gateway, new.admin
    before, after = old.gateway.data_dir, new.gateway.data_dir
    if before != after:
        waits.append(f"gateway.data_dir = {after}: at next start")
        log = gateway.access_log
        if log is not None:
            log = msgspec.structs.replace(log, path=_moved(log.path, after, before))
        gateway = msgspec.structs.replace(
            gateway, data_dir=before, access_log=log, log=_moved(gateway.log, after, before)
        )
        admin = msgspec.structs.replace(admin, socket=_moved(admin.socket, after, before))
    if old.admin.listen != admin.listen:
        waits.append(f"admin.listen = {admin.listen.text}: at next start")
    if old.admin.socket != admin.socket:
        waits.append(f"admin.socket = {admin.socket}: at next start")
    certificate = admin.certificate or (old.admin.certificate if old.admin.listen.tls else None)
    admin = msgspec.structs.replace(
        admin, listen=old.admin.listen, socket=old.admin.socket, certificate=certificate
    )
    return msgspec.structs.replace(new, gateway=gateway, admin=admin), waits


def _moved(path: str, after: str, before: str) -> str:
    return before + path[len(after) :] if path.startswith(after + "/") else path


def described(changes: Changes) -> list[str]:
    """One line for each change, for people."""
    lines = [f"app {name} added" for name in changes.added]
    lines += [f"app {name} removed" for name in changes.removed]
    for name, change in changes.changed.items():
        how = ": its instances are replaced one at a time" if change.fresh_instances else ""
        lines.append(f"apps.{name}: {', '.join(change.keys)} changed{how}")
    lines += [f"gateway.{key} changed" for key in changes.gateway]
    lines += [f"admin.{key} changed" for key in changes.admin if key != "socket"]
    lines += [f"keep.{key} changed" for key in changes.keep]
    lines += [f"traces.{key} changed" for key in changes.traces]
    lines += [f"status_page.{key} changed" for key in changes.status_page]
    if changes.alerting:
        lines.append("alerts or notify changed")
    return lines


def address_of(listen: Listen) -> Address:
    """What the launcher is asked for; a listener is named by its text, so that one that is there is found."""
    if listen.kind == "unix":
        return Address(name=listen.text, kind="unix", path=listen.path)
    return Address(name=listen.text, kind="tcp", host=listen.host, port=listen.port)


def _place(listen: Listen) -> tuple[str, str, int, str]:
    """TLS is not part of it: the same socket can speak it from now on."""
    return (listen.kind, listen.host, listen.port, listen.path)


def _places(present: list[Listener]) -> dict[str, tuple[str, str, int, str]]:
    """By the name of a listener: what it was asked for, which for port 0 is not where it is."""
    found = {}
    for one in present:
        try:
            found[one["name"]] = _place(parse_listen(one["name"]))
        except ValueError:
            continue  # the admin API's own
    return found


def listeners(wanted: tuple[Listen, ...], present: list[Listener]) -> tuple[list[Address], list[str]]:
    """Addresses to open, and names of listeners to close."""
    there = _places(present)
    places = {_place(listen) for listen in wanted}
    add = [address_of(one) for one in wanted if _place(one) not in there.values()]
    return add, sorted(name for name, place in there.items() if place not in places)


def speaking_tls(wanted: tuple[Listen, ...], present: list[Listener]) -> set[str]:
    """Names of the listeners that speak TLS: by their own text where it is wanted (port 0 is many places)."""
    places = {_place(listen) for listen in wanted if listen.tls}
    exactly = {listen.text: listen.tls for listen in wanted}
    return {name for name, place in _places(present).items() if exactly.get(name, place in places)}


def pages(folder: str | None) -> dict[str, str]:
    """Error pages of one's own: "502" to HTML. Unreadable ones are left out."""
    found: dict[str, str] = {}
    if not folder:
        return found
    size = 0
    for path in sorted(Path(folder).glob("[45][0-9][0-9].html")):
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        size += len(text)
        if size <= PAGES_LIMIT:
            found[path.stem] = text
    return found


def secret(data_dir: Path) -> str:
    """Signs sticky cookies: made once, and the same after a restart of everything."""
    path = data_dir / "sticky.secret"
    try:
        text = path.read_text(encoding="ascii").strip()
        if len(text) == 64:
            return text
    except (OSError, UnicodeDecodeError):
        pass
    text = secrets.token_hex(32)
    write_whole(path, f"{text}\n".encode(), 0o600)
    return text
