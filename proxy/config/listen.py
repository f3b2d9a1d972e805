"""Where the gateway listens, as one small value."""

from __future__ import annotations

import ipaddress
import os
import re
from typing import Final, Literal

from msgspec import Struct

from proxy.config.problems import Bad, said

_HOST: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})(?:\.[A-Za-z0-9_-]{1,63})*", re.ASCII)
_EXAMPLES: Final = 'such as "127.0.0.1:8080", "[::]:80", "https://0.0.0.0:443" or "unix:run/gateway.sock"'

LONGEST_UNIX: Final = 107
"""sockaddr_un.sun_path holds 108 bytes, the last one zero: unix(7)."""


class Listen(Struct, frozen=True):
    """A TCP address or a Unix socket. `host` is "" for all addresses; port 0 takes a free one."""

    kind: Literal["tcp", "unix"]
    host: str = ""
    port: int = 0
    path: str = ""
    tls: bool = False

    @property
    def text(self) -> str:
        """What `parse_listen` reads as the same."""
        if self.kind == "unix":
            return f"unix:{self.path}"
        return f"{'https://' if self.tls else ''}{authority(self.host, self.port)}"

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches it."""
        if self.kind == "unix" or self.host == "localhost":
            return True
        return is_ip(self.host) and ipaddress.ip_address(self.host).is_loopback

    def __str__(self) -> str:
        return self.text


def parse_listen(text: str, base: str = "") -> Listen:
    """Raises Bad. A Unix socket's path is relative to `base`."""
    scheme, found, rest = text.partition("://")
    if text.startswith("unix:"):
        return Listen("unix", path=unix_path(text, base))
    if not found:
        scheme, rest = "http", text
    if scheme not in ("http", "https"):
        raise Bad(f"unknown scheme {said(scheme)} - http:// or https://")
    host, port = host_and_port(rest.removesuffix("/") if found else rest, _EXAMPLES)
    if port is None:
        if not found:
            raise Bad(f"{said(text)} has no port - {_EXAMPLES}")
        port = 443 if scheme == "https" else 80
    if host and not is_ip(host) and host != "localhost":
        raise Bad(f"{said(host)} is not an address of this machine - an IP address, or localhost")
    return Listen("tcp", host=host, port=port, tls=scheme == "https")


def unix_path(text: str, base: str) -> str:
    """The absolute path of "unix:PATH". Raises Bad."""
    path = text.removeprefix("unix:").removeprefix("//")
    if not path or "\0" in path:
        raise Bad(f'{said(text)} names no file - "unix:run/gateway.sock"')
    path = os.path.normpath(os.path.join(base, path))
    if len(os.fsencode(path)) > LONGEST_UNIX:
        raise Bad(
            f"a Unix socket's path has {LONGEST_UNIX} bytes at most, this is {len(os.fsencode(path))}: {path}"
        )
    return path


def host_and_port(text: str, examples: str) -> tuple[str, int | None]:
    """("::1", 80) from "[::1]:80". Raises Bad."""
    match = re.fullmatch(r"(?:\[([^\[\]]*)\]|([^:\[\]/@?#]*))(?::([0-9]{1,5}))?", text, re.ASCII)
    if match is None:
        raise Bad(f"expected an address {examples}, got {said(text)}")
    v6, name, digits = match.groups()
    if v6 is not None:
        try:
            host = str(ipaddress.IPv6Address(v6))
        except ValueError:
            raise Bad(f'{said(v6)} is not an IPv6 address - such as "[::1]:8080"') from None
    else:
        host = name.lower()
        if (host and not _HOST.fullmatch(host)) or (_looks_v4(host) and not is_ip(host)):
            raise Bad(f"{said(name)} is not a host - an address {examples}")
    if digits is None:
        return host, None
    port = int(digits)
    if port > 65535:
        raise Bad(f"port {port} is more than 65535 - 0 to 65535")
    return host, port


def authority(host: str, port: int) -> str:
    """ "[::1]:80" or "10.0.0.5:8000"."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _looks_v4(host: str) -> bool:
    return host.rpartition(".")[2].isdigit()
