"""TLS towards clients: certificates chosen by SNI, read again when their files change.

One front context is given to the listeners for ever; at each handshake its callback puts the connection on the context
of the certificate that fits. So a renewed certificate takes effect without touching a listener or a connection.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence

from proxy.dataplane.log import log


class Certificates:
    """`pairs` are (certificate chain, key) paths; the first is for clients that name nobody, or somebody unknown."""

    def __init__(self) -> None:
        self.front = _context()
        self.front.sni_callback = self._choose
        self._pairs: tuple[tuple[str, str], ...] = ()
        self._stamps: dict[tuple[str, str], tuple[float, ...]] = {}
        self._contexts: dict[tuple[str, str], tuple[ssl.SSLContext, list[str]]] = {}
        self._exact: dict[str, ssl.SSLContext] = {}
        self._wild: dict[str, ssl.SSLContext] = {}
        self._default: ssl.SSLContext | None = None

    def set(self, pairs: Sequence[tuple[str, str]]) -> None:
        self._pairs = tuple(pairs)
        self.look()

    def look(self) -> None:
        """Read what changed; a pair that can't be read stays as it was."""
        changed = False
        for pair in self._pairs:
            try:
                stamp = tuple(os.stat(path).st_mtime for path in pair)
                if self._stamps.get(pair) == stamp:
                    continue
                context = _context()
                context.load_cert_chain(*pair)
                self._contexts[pair] = (context, _names(pair[0]))
                self._stamps[pair] = stamp
                changed = True
            except (OSError, ssl.SSLError) as error:
                log("certificate-not-read", cert=pair[0], why=str(error), level="error")
        gone = self._contexts.keys() - set(self._pairs)
        for pair in gone:
            del self._contexts[pair], self._stamps[pair]
        if changed or gone:
            self._index()

    def _index(self) -> None:
        self._exact.clear()
        self._wild.clear()
        self._default = None
        for pair in self._pairs:
            known = self._contexts.get(pair)
            if known is None:
                continue
            context, names = known
            self._default = self._default or context
            for name in names:
                if name.startswith("*."):
                    self._wild.setdefault(name[2:], context)
                else:
                    self._exact.setdefault(name, context)

    def _choose(self, connection: ssl.SSLObject, name: str | None, _front: ssl.SSLContext) -> int | None:
        context = self._default
        if name:
            name = name.lower().rstrip(".")
            context = self._exact.get(name) or self._wild.get(name.partition(".")[2]) or self._default
        if context is None:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        connection.context = context
        return None


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    return context


def _names(path: str) -> list[str]:
    """The DNS names a certificate is for."""
    decoded = ssl._ssl._test_decode_cert(path)  # type: ignore[attr-defined]  # the only parser in the standard library
    names = [value.lower() for kind, value in decoded.get("subjectAltName", ()) if kind == "DNS"]
    if not names:
        names = [value.lower() for part in decoded.get("subject", ()) for key, value in part if key == "commonName"]
    return names
