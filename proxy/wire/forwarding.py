"""Who asks, told to the instance: X-Forwarded-For, -Proto, -Host, -Port, Forwarded (RFC 7239) and Via.

From a peer that is not in `trusted_proxies` every inbound field of this kind is dropped (`is_forwarding`) and
made anew. From a trusted one the chain is kept and the peer appended, and Proto, Host and Port are kept where
valid.

Always true:
  - `lines` is made of checked values only: whatever came in, what goes out is well-formed;
  - X-Forwarded-For and Forwarded name the same chain. If a trusted proxy sends two that differ,
    X-Forwarded-For holds, since most proxies write only that one and pass a client's own Forwarded through
    unread;
  - the client is the rightmost address of the chain that is not a trusted proxy.

What `lines` gives depends only on its arguments: a connection makes it once for each host it is asked for,
and again only when a trusted proxy's fields differ.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

from proxy.wire.hosts import HostError, parse_authority

MAX_VALUE: Final = 4096  # of an inbound X-Forwarded-For or Forwarded; a longer one is not believed
MAX_HOPS: Final = 50
MAX_PASSES: Final = 3
UNIX_PEER: Final = "unix"  # stands for the peer of a Unix socket, in `peer` and in `trusted_proxies`
_CACHE: Final = 4096

FIELDS: Final = frozenset(
    (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port", b"forwarded")
)
"""What `lines` writes (besides Via, which is added to): inbound ones are always taken out of the head."""

_PROTO = re.compile(rb"https?|wss?")
_PORT = re.compile(rb"[1-9]\d{0,4}")
_OBFUSCATED = re.compile(r"_[A-Za-z0-9._-]{1,63}")
_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PAIR = re.compile(rf'[ \t]*({_TOKEN})=({_TOKEN}|"(?:[\t \x21\x23-\x5b\x5d-\x7e]|\\[\t \x21-\x7e])*")[ \t]*')

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def is_forwarding(name: bytes) -> bool:
    """Whether a field (lower case) claims something about who asks: dropped when the peer is not trusted.

    "_" counts as "-", as it does for the many apps that read fields through CGI-like variables.
    """
    if b"_" in name:
        name = name.replace(b"_", b"-")
    return name.startswith(b"x-forwarded-") or name in (b"forwarded", b"x-real-ip")


class Forwarding:
    """Made once per configuration; `gateway_id` is the same for all workers of a gateway and lasts over
    restarts."""

    __slots__ = ("_cache", "_networks", "_unix", "pseudonym")

    def __init__(self, trusted: Iterable[str | Network], gateway_id: str) -> None:
        if not re.fullmatch(r"[0-9a-f]{8}", gateway_id):
            raise ValueError("gateway_id: eight hexadecimal digits")
        entries = list(trusted)
        self._unix = UNIX_PEER in entries
        self._networks = [ipaddress.ip_network(entry, strict=False) for entry in entries if entry != UNIX_PEER]
        self._cache: dict[str, bool] = {}
        self.pseudonym = b"triage-" + gateway_id.encode("ascii")

    def is_trusted(self, address: str) -> bool:
        """Whether the fields of this peer are believed; a text that is no address never is."""
        known = self._cache.get(address)
        if known is None:
            if len(self._cache) >= _CACHE:
                self._cache.clear()
            known = self._cache[address] = self._look_up(address)
        return known

    def _look_up(self, text: str) -> bool:
        if text == UNIX_PEER:
            return self._unix
        address = parse_address(text)
        return address is not None and any(address in network for network in self._networks)

    def client(self, peer: str, inbound: Mapping[bytes, bytes] | None) -> str:
        """The address of the client: of `peer`, or of whom a trusted peer speaks for."""
        if not inbound or not self.is_trusted(peer):
            return peer_text(peer)
        return self._client_of(peer_text(peer), self._chain(inbound))

    def _client_of(self, peer: str, chain: list[str]) -> str:
        found = peer
        for hop in reversed(chain):
            if hop[0] in "u_":
                break  # "unknown" or hidden: the last address seen is as near as one gets
            found = hop
            if not self.is_trusted(hop):
                break
        return found

    def _chain(self, inbound: Mapping[bytes, bytes]) -> list[str]:
        """The nodes before the peer, first the farthest; what lies behind a malformed one is not believed."""
        value = inbound.get(b"x-forwarded-for")
        return _hops(value) if value else [hop for hop, _ in _elements(inbound.get(b"forwarded", b""))]

    def lines(
        self,
        peer: str,
        tls: bool,
        local_port: int,
        host: bytes,
        inbound: Mapping[bytes, bytes] | None = None,
        version: bytes = b"1.1",
    ) -> bytes:
        """The field lines to add to a request's head, each with its CRLF.

        `host` is the checked authority of the request ("" if it has none), `inbound` the fields of `FIELDS`
        it came with (lower case; repeated ones joined by ", "), `version` the request's HTTP version for Via.
        """
        proto, port, outer_host = (
            (b"https" if tls else b"http"),
            b"%d" % local_port if local_port else b"",
            host,
        )
        chain: list[str] = []
        elements: list[str] = []
        if inbound and self.is_trusted(peer):
            chain = self._chain(inbound)
            parsed = _elements(inbound.get(b"forwarded", b""))
            same = [hop for hop, _ in parsed] == chain
            elements = [text for _, text in parsed] if same else [f"for={_node(hop)}" for hop in chain]
            proto, port, outer_host = _outer(inbound, proto, port, host)
        node = "unknown" if peer == UNIX_PEER else peer_text(peer)
        outer = outer_host.decode("ascii")
        named = f'host="{outer}";' if ":" in outer else f"host={outer};" if outer else ""
        element = f"for={_node(node)};{named}proto={proto.decode()}"
        parts = ["X-Forwarded-For: ", ", ".join((*chain, node)), "\r\nX-Forwarded-Proto: ", proto.decode()]
        if outer:
            parts += ("\r\nX-Forwarded-Host: ", outer)
        if port:
            parts += ("\r\nX-Forwarded-Port: ", port.decode())
        parts += ("\r\nForwarded: ", ", ".join((*elements, element)))
        return b"%b\r\nVia: %b %b\r\n" % ("".join(parts).encode("ascii"), version, self.pseudonym)


def _outer(inbound: Mapping[bytes, bytes], proto: bytes, port: bytes, host: bytes) -> tuple[bytes, bytes, bytes]:
    """Scheme, port and host as the client saw them, by a trusted proxy's word where it gives a valid one.

    Of a list the last counts, which the nearest proxy added. A scheme or host without a port implies the
    port.
    """
    said = _last(inbound.get(b"x-forwarded-host"))
    known = False
    if said:
        try:
            authority = parse_authority(said)
        except HostError:
            pass
        else:
            host = said
            if authority.port:
                port, known = b"%d" % authority.port, True
    said = _last(inbound.get(b"x-forwarded-proto")).lower()
    if _PROTO.fullmatch(said):
        proto = said
        if not known:
            port = b"443" if said in (b"https", b"wss") else b"80"
    said = _last(inbound.get(b"x-forwarded-port"))
    if _PORT.fullmatch(said) and int(said) < 65536:
        port = said
    return proto, port, host


def _last(value: bytes | None) -> bytes:
    return value.rpartition(b",")[2].strip(b" \t") if value else b""


def peer_text(address: str) -> str:
    """A peer's address as it is told and compared: no zone, and IPv4 as such on a dual-stack listener."""
    if ":" not in address:
        return address
    return str(parse_address(address.partition("%")[0]) or address)


def parse_address(text: str) -> Address | None:
    """An IP address; an IPv4 one inside IPv6 is unwrapped, so that one network in the config fits both."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped or (address if address.scope_id is None else None)
    return address


@lru_cache(4096)
def _hop(text: str) -> str | None:
    """A node as X-Forwarded-For writes it, its port dropped; None if it is none."""
    if text[:1] == "[":
        inner, bracket, port = text[1:].partition("]")
        if not bracket or (port and not re.fullmatch(r":\d{1,5}", port)):
            return None
        text = inner
    elif text.count(":") == 1:
        text, _, port = text.partition(":")
        if not re.fullmatch(r"\d{1,5}|_[\w.-]{1,63}", port, re.ASCII):
            return None
    address = parse_address(text)
    if address is not None:
        return str(address)
    lowered = text.lower()
    return lowered if lowered == "unknown" or _OBFUSCATED.fullmatch(text) else None


def _hops(value: bytes) -> list[str]:
    """The valid nodes at the end of an X-Forwarded-For value, in order."""
    if not value or len(value) > MAX_VALUE:
        return []
    hops: list[str] = []
    for part in reversed(value.decode("latin-1").split(",")[-MAX_HOPS:]):
        hop = _hop(part.strip(" \t"))
        if hop is None:
            break
        hops.append(hop)
    hops.reverse()
    return hops


def _elements(value: bytes) -> list[tuple[str, str]]:
    """A Forwarded value as (node, element's text) each; [] if any of it breaks RFC 7239 section 4."""
    if not value or len(value) > MAX_VALUE:
        return []
    text = value.decode("latin-1")
    elements: list[tuple[str, str]] = []
    pairs: list[str] = []
    at, node = 0, ""
    while True:
        pair = _PAIR.match(text, at)
        if pair is None:
            return []
        at = pair.end()
        pairs.append(pair[0].strip(" \t"))
        if pair[1].lower() == "for":
            quoted = pair[2]
            hop = _hop(re.sub(r"\\(.)", r"\1", quoted[1:-1]) if quoted[0] == '"' else quoted)
            if hop is None or node:
                return []
            node = hop
        if at == len(text) or text[at] == ",":
            if not node or len(elements) == MAX_HOPS:
                return []
            elements.append((node, ";".join(pairs)))
            if at == len(text):
                return elements
            node, pairs = "", []
        elif text[at] != ";":
            return []
        at += 1


def _node(hop: str) -> str:
    return f'"[{hop}]"' if ":" in hop else hop


def via_loops(value: bytes, pseudonym: bytes) -> bool:
    """Whether a request with this Via went round already: our own name stands there MAX_PASSES times.

    Once is no proof. An app that calls another app through the gateway and copies the head of what it was
    asked (a backend for frontends, a rewriting proxy) shows our name once per level, and each of these
    requests ends. A real loop, an app whose address leads back here, comes round until it is refused, so
    three costs it two more rounds. Only received-by names count, not comments.
    """
    if value.count(pseudonym) < MAX_PASSES:
        return False
    passes = 0
    for element in value.split(b","):
        words = element.split(None, 2)
        passes += len(words) > 1 and words[1] == pseudonym
    return passes >= MAX_PASSES
