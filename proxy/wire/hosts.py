"""Authorities, request targets, and which app a request is for.

Always true:
  - what is forwarded is the target as it came: nothing is decoded, nothing normalised;
  - routing looks at the same raw bytes. `/api/../admin` and `/api/%2e%2e/admin` are below `/api`, `/%61pi` is
    not: an app may see paths that resolve outside its prefix, so a prefix is a way to route, never access
    control;
  - hosts are compared in lower case, without port and without one trailing dot.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

MAX_HOST: Final = 255  # RFC 1035 section 2.3.4

# Narrower than RFC 3986's reg-name on purpose: no percent-encoding and no sub-delimiters. No name that DNS
# resolves has them (RFC 9110 section 4.2.1 reads the host as such a name), and a comma or semicolon would
# change the meaning of X-Forwarded-Host and Forwarded. "_" is in use within container networks.
_AUTHORITY = re.compile(rb"(?:(\[[0-9A-Fa-f:.]{2,45}\])|([A-Za-z0-9_~-]+(?:\.[A-Za-z0-9_~-]+)*\.?))(?::(\d{0,5}))?")
_ABSOLUTE = re.compile(rb"([Hh][Tt][Tt][Pp][Ss]?)://([^/?]*)(.*)", re.DOTALL)
# Wider than RFC 3986: browsers send | { } " ^ [ ] in queries, and every peer takes them. No "#": a fragment
# is never sent (RFC 9112 section 3.2). No controls, space or bytes beyond ASCII.
_BAD_IN_TARGET = re.compile(rb"[^\x21\x22\x24-\x7e]")


class HostError(ValueError):
    """The authority is not valid: answer 400."""


class TargetError(ValueError):
    """The request target is not valid: answer `status`."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class Authority(NamedTuple):
    """`host` as routing compares it; an IPv6 address keeps its brackets. `port` is None when not given."""

    host: bytes
    port: int | None


@lru_cache(1024)
def parse_authority(raw: bytes) -> Authority:
    """A Host field's value, or the authority of an absolute target. Raises HostError.

    An empty one is refused too: an http URI has a host (RFC 9110 section 4.2.1), so no target can want it.
    """
    found = _AUTHORITY.fullmatch(raw)
    if found is None:
        raise HostError("the host is empty" if not raw else "the host is not valid")
    literal, name, digits = found.groups()
    port = int(digits) if digits else None
    if port is not None and port > 65535:
        raise HostError("the host's port is over 65535")
    if literal is not None:
        try:
            address = ipaddress.IPv6Address(literal[1:-1].decode("ascii"))
        except ValueError:
            raise HostError("the host is not a valid IPv6 address") from None
        return Authority(b"[%b]" % address.compressed.encode("ascii"), port)
    if len(name) > MAX_HOST:
        raise HostError("the host is longer than 255 bytes")
    return Authority(name.lower().removesuffix(b"."), port)


def parse_target(method: bytes, target: bytes) -> tuple[bytes, bytes | None]:
    """What to forward, and the authority of an absolute-form target, which replaces Host (RFC 9112 section
    3.2.2).

    Raises TargetError: 400, or 501 for CONNECT.
    """
    if method == b"CONNECT":
        raise TargetError("CONNECT is not served here", 501)
    if _BAD_IN_TARGET.search(target):
        raise TargetError("the target has a character that is not allowed there")
    if target[:1] == b"/":
        return target, None
    if target == b"*":
        if method != b"OPTIONS":
            raise TargetError("the target * goes with OPTIONS only")
        return target, None
    found = _ABSOLUTE.fullmatch(target)
    if found is None:
        raise TargetError("the target is neither a path nor an http URI")
    authority, rest = found[2], found[3]
    parse_authority_of_target(authority)
    if rest[:1] != b"/":
        rest = b"*" if method == b"OPTIONS" and not rest else b"/" + rest  # RFC 9112 section 3.2.4
    return rest, authority


def parse_authority_of_target(raw: bytes) -> Authority:
    """As `parse_authority`, failing as a target does. User information fails too (RFC 9110 section 4.2.4)."""
    try:
        return parse_authority(raw)
    except HostError as error:
        raise TargetError(f"in the target, {error}") from None


class Route(NamedTuple):
    """A rule of the table: requests for `host` below `prefix` go to `app`.

    `host` is a name, `*.name` (any depth below it, never the name itself) or "" for every host; `prefix` is
    without its trailing slash, so that it is what `strip_prefix` cuts; "" is every path.
    """

    host: bytes
    prefix: bytes
    app: str


class HostTable:
    """Host and target to route: exact host, longest wildcard, every host; within each the longest prefix.

    A host that is named but has no rule for the path falls through to the less exact ones, so that one app
    may take `/api` of a host and another the rest of everything.
    """

    __slots__ = ("_any", "_exact", "_only", "_wild")

    def __init__(self, apps: Iterable[tuple[str, Sequence[str], Sequence[str]]]) -> None:
        """From (app, hosts, paths) each; no hosts is every host. Raises ValueError for two on one place."""
        by_host: dict[bytes, dict[bytes, Route]] = {}
        for app, hosts, paths in apps:
            for host in [_route_host(host) for host in hosts] or [b""]:
                rules = by_host.setdefault(host, {})
                for path in paths:
                    prefix = path.rstrip("/").encode("ascii")
                    other = rules.setdefault(prefix, Route(host, prefix, app))
                    if other.app != app:
                        raise ValueError(f"{other.app} and {app} both have host {host.decode() or 'any'}, path {path}")
        ordered = {
            host: tuple(sorted(rules.values(), key=lambda route: len(route.prefix), reverse=True))
            for host, rules in by_host.items()
        }
        self._any = ordered.pop(b"", ())
        wild = {host[1:]: rules for host, rules in ordered.items() if host[:1] == b"*"}
        self._wild = {suffix: rules + self._wider(suffix[1:], wild) for suffix, rules in wild.items()}
        self._exact = {host: rules + self._wider(host, wild) for host, rules in ordered.items() if host[:1] != b"*"}
        alone = not ordered and len(self._any) == 1 and not self._any[0].prefix
        self._only = self._any[0] if alone else None

    def _wider(self, host: bytes, wild: dict[bytes, tuple[Route, ...]]) -> tuple[Route, ...]:
        """The rules of all wildcards above `host`, longest first, then those for every host."""
        rules: tuple[Route, ...] = ()
        dot = host.find(b".")
        while dot >= 0:
            rules += wild.get(host[dot:], ())
            dot = host.find(b".", dot + 1)
        return rules + self._any

    def __repr__(self) -> str:
        hosts = [*self._exact, *(b"*" + suffix for suffix in self._wild)]
        return f"<HostTable {b', '.join(hosts).decode() or 'every host'}>"

    def match(self, host: bytes, target: bytes) -> Route | None:
        """The route of a request. `host` as in Authority ("" for a request of HTTP/1.0 without one)."""
        if self._only is not None:
            return self._only
        rules = self._exact.get(host)
        if rules is None:
            rules = self._any
            if self._wild:
                dot = host.find(b".", 1)
                while dot >= 0:
                    found = self._wild.get(host[dot:])
                    if found is not None:
                        rules = found
                        break
                    dot = host.find(b".", dot + 1)
        for route in rules:
            prefix = route.prefix
            if not prefix:
                return route
            if target.startswith(prefix) and target[len(prefix) : len(prefix) + 1] in _BOUNDARY:
                return route
        return None


_BOUNDARY: Final = (b"", b"/", b"?")


def _route_host(host: str) -> bytes:
    wild = host.startswith("*.")
    name = parse_authority(host[2 * wild :].encode("ascii", "replace"))
    if name.port is not None:
        raise HostError(f"{host}: a route's host has no port")
    return b"*." + name.host if wild else name.host


def strip_prefix(target: bytes, prefix: bytes) -> bytes:
    """The target as an app with `strip_prefix` sees it: always a path that begins with exactly one slash."""
    if not prefix:
        return target
    rest = target[len(prefix) :]
    # "/api//evil.example" must not become "//evil.example", which a redirecting app could read as an
    # authority.
    return b"/" + rest.lstrip(b"/") if rest[:1] == b"/" else b"/" + rest
