"""When a certificate ends: the few bytes of X.509 that say so (RFC 5280 section 4.1), read without a library for it."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path


def ends(path: str | Path) -> float:
    """Unix seconds after which the first certificate of a PEM file is not valid. Raises OSError, ValueError."""
    text = Path(path).read_text(errors="replace")
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    start = text.find(begin)
    stop = text.find(end, start)
    if start < 0 or stop < 0:
        raise ValueError("no certificate in it")
    return _not_after(ssl.PEM_cert_to_DER_cert(text[start : stop + len(end)]))


def _not_after(der: bytes) -> float:
    """Certificate → TBSCertificate → [version] serial algorithm issuer validity."""
    _, at, _ = _element(der, 0)
    _, at, _ = _element(der, at)
    tag, _, after = _element(der, at)
    if tag == 0xA0:  # version, explicitly tagged; absent in version 1
        at = after
    for _ in range(3):
        _, _, at = _element(der, at)
    _, at, _ = _element(der, at)
    _, _, at = _element(der, at)  # notBefore
    tag, start, stop = _element(der, at)
    text = der[start:stop].decode("ascii", "replace")
    if tag == 0x17:  # UTCTime: two digits of the year, from 50 on of the 20th century
        text = ("19" if int(text[:2]) >= 50 else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """Tag, where its content begins, and where it ends."""
    if at + 2 > len(der):
        raise ValueError("the certificate is cut short")
    tag, length, at = der[at], der[at + 1], at + 2
    if length & 0x80:
        count = length & 0x7F
        length, at = int.from_bytes(der[at : at + count], "big"), at + count
    if at + length > len(der):
        raise ValueError("the certificate is cut short")
    return tag, at, at + length
