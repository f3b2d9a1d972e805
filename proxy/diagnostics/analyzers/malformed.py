"""What an instance sends instead of HTTP/1.1, and what it most likely is: read from the bytes where it went wrong."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from proxy import masking, units
from proxy.diagnostics.analyzers import say
from proxy.diagnostics.analyzers.contract import (
    CERTAIN,
    LIKELY,
    VERY_LIKELY,
    Analyzer,
    Certainty,
    Finding,
    Rival,
    Seen,
    Severity,
)
from proxy.diagnostics.artifacts import Known

WINDOW: Final = 900.0
_KINDS: Final[tuple[tuple[re.Pattern[bytes], str, Certainty, str], ...]] = (
    (
        re.compile(rb"^\x16\x03[\x00-\x04]|^\x15\x03[\x00-\x04]"),
        "it speaks TLS at that port, and was asked in the clear",
        VERY_LIKELY,
        "Give its address as https://, or let it serve HTTP there.",
    ),
    (
        re.compile(rb"^PRI \* HTTP/2|^\x00\x00[\x00-\xff][\x04\x07]\x00\x00\x00\x00\x00"),
        "it speaks HTTP/2 only",
        VERY_LIKELY,
        "Let it serve HTTP/1.1 too.",
    ),
    (re.compile(rb"^SSH-\d"), "that is an SSH server", VERY_LIKELY, "Mend the port in its address."),
    (
        re.compile(rb"^(?:\+OK|-ERR|-NOAUTH|\$-?\d+\r\n|-DENIED)"),
        "that is Redis, or something that speaks like it",
        LIKELY,
        "Mend the port in its address.",
    ),
    (
        re.compile(rb"^220[ -].*(?:SMTP|FTP)", re.IGNORECASE),
        "that is a mail or FTP server",
        VERY_LIKELY,
        "Mend the port in its address.",
    ),
    (
        re.compile(rb"^.\x00\x00\x00\x0a[58]\.\d", re.DOTALL),
        "that is a MySQL server",
        VERY_LIKELY,
        "Mend the port in its address.",
    ),
    (
        re.compile(rb"^(?:GET|POST|PUT|HEAD|DELETE|OPTIONS) \S+ HTTP/"),
        "it sends the request back instead of an answer",
        VERY_LIKELY,
        "That port echoes what it gets: mend the address.",
    ),
    (
        re.compile(rb"^HTTP/1\.[01] \d{3}[^\r\n]*\n(?!\r)", re.DOTALL),
        "it ends its lines with LF alone, not CRLF",
        LIKELY,
        "Let it end each line of the head with CRLF.",
    ),
    (
        re.compile(rb"^HTTP/(?!1\.[01] )"),
        "its status line names a version of HTTP that is not 1.0 or 1.1",
        VERY_LIKELY,
        "Let it answer as HTTP/1.1.",
    ),
    (
        re.compile(rb"^HTTP/1\.[01] (?![1-5]\d\d[ \r])"),
        "its status line has no valid status code",
        VERY_LIKELY,
        "Let it send a status of three digits.",
    ),
    (
        re.compile(rb"^(?:<!DOCTYPE|<html|\{|\[)", re.IGNORECASE),
        "it sends content without a status line and head before it",
        VERY_LIKELY,
        "Let it send a status line and fields first; often a handler writes to the socket itself.",
    ),
)
_DETAILS: Final[tuple[tuple[str, str], ...]] = (
    ("Content-Length is repeated", "it sends Content-Length twice, or one that is not a number"),
    ("both Content-Length and Transfer-Encoding", "it sends both Content-Length and Transfer-Encoding"),
    ("Transfer-Encoding other than", "it sends a Transfer-Encoding other than chunked"),
    ("nvalid header", "a field of its head has letters that no field may have, such as a space in its name"),
    ("header token", "a field of its head has letters that no field may have, such as a space in its name"),
    ("header value", "a value in its head has letters that none may have, such as a line break"),
    ("no CRLF after the content of a chunk", "a chunk of its response is not as long as it says"),
    ("bad chunk header", "a chunk of its response does not begin with its length"),
    ("sent bytes before anything was asked", "it sends bytes before anything was asked of it"),
    ("status line is not valid", "its status line is not valid"),
)


def analyze(seen: Seen) -> Iterator[Finding]:
    known = seen.known
    yield from _malformed(known)
    yield from _head_too_large(known)
    yield from _upgrade(known)


def _data(malformed: dict[str, Any]) -> bytes:
    try:
        return base64.b64decode(str(malformed.get("data", "")), validate=False)
    except (binascii.Error, ValueError):
        return b""


def shown(data: bytes, most: int = 64) -> str:
    """Bytes as a person can read them, secrets masked."""
    text = "".join(
        chr(one) if 32 <= one < 127 else {10: "\\n", 13: "\\r"}.get(one, f"\\x{one:02x}") for one in data[:most]
    )
    return masking.text(text)


def kept(known: Known, tries: Sequence[say.Tried], detail: str) -> dict[str, Any]:
    """The bytes that were kept last, if they are of one of these; those of another trouble may be of long ago."""
    ident, where = known.malformed.get("id"), known.malformed.get("instance", "")
    if ident is None or ident in {one.record.id for one in tries}:
        return known.malformed
    # Its own record may not have been kept; then it is the same if the reader says the same of that instance.
    said = not detail or str(known.malformed.get("why", "")) in detail
    mine = not where or where in {one.attempt.instance for one in tries}
    return known.malformed if tries and said and mine and ident not in {one.id for one in known.records} else {}


def reading(malformed: dict[str, Any], detail: str) -> tuple[str, Certainty, str]:
    """What it is, how sure that is, and what to do. By the bytes at the beginning, else by where the reader stopped."""
    data, offset = _data(malformed), int(malformed.get("offset", 0) or 0)
    if data and offset <= 256:
        for pattern, words, sure, todo in _KINDS:
            if pattern.match(data):
                return words, sure, todo
    for said in (detail, str(malformed.get("why", ""))):
        for mark, words in _DETAILS:
            if mark in said:
                return words, CERTAIN, "Mend what it sends there: it is not HTTP/1.1."
    if data and offset <= 256 and not data.startswith(b"HTTP/"):
        if all(32 <= one < 127 or one in b"\r\n\t" for one in data[:60]):
            return (
                "plain text comes before the status line: something prints to the socket",
                LIKELY,
                "Find what writes to the connection beside the server.",
            )
        return "what comes is not HTTP", CERTAIN, "Look whether its address names the right port."
    return "", CERTAIN, "Mend what it sends there: it is not HTTP/1.1."


def _malformed(known: Known) -> Iterator[Finding]:
    faults = ("bad-response", "response-framing")
    found = say.faults(known, *faults, since=known.at - WINDOW)
    tries = [one for one in say.tried(known, *faults) if one.at >= known.at - WINDOW]
    if not found.count:
        return
    detail = say.most(one.attempt.detail or one.record.detail for one in tries)[0]
    last = kept(known, tries, detail)
    detail = detail or str(last.get("why", ""))
    words, sure, todo = reading(last, detail)
    instances = list(dict.fromkeys(one.attempt.instance for one in tries)) or _counted(known, faults)
    shape, of_shape = say.most(say.shape(one.record) for one in tries)
    others = sum(1 for one in known.records if say.good(one))
    only = bool(tries) and of_shape >= 0.8 * len(tries) and others >= 3
    if not tries:
        words = words or "it sends bytes behind the end of a response, or before anything was asked"
        sure = LIKELY
    evidence = [
        say.proof(
            f"{units.several(found.count, 'response')} that could not be read since {say.stamp(found.first)}; the "
            f"reader says: {say.clean(detail) or 'no detail'}.",
            say.RECORDS,
        )
    ]
    data = _data(last)
    if data:
        where = int(last.get("offset", 0) or 0)
        evidence.append(
            say.proof(
                f"It went wrong at byte {where} ({say.clean(str(last.get('why', '')))}); the bytes around "
                f"it begin: {shown(data)}",
                "malformed",
            )
        )
    if only:
        evidence.append(
            say.proof(
                f"{say.share(of_shape, len(tries))} are {shape}; {others} other requests at hand were answered well.",
                say.RECORDS,
            )
        )
    who = f"{say.listed(instances) or known.app.name} {'do' if len(instances) > 1 else 'does'}"
    cause = f"{who} not answer as HTTP says: {words or say.clean(detail) or 'its response is not valid'}."
    yield Finding(
        id="malformed-response",
        title=f"{known.app.name} answers{f' {shape}' if only else ''} with something that is not valid HTTP.",
        cause=cause,
        severity=_severity(known, found.count),
        certainty=sure,
        care="The gateway can't tell where such a response ends, so it answers 502 and passes nothing on.",
        app=known.app.name,
        instances=instances,
        since=found.first,
        until=found.last if known.at - found.last > say.LATELY else 0.0,
        evidence=evidence,
        rivals=[Rival(cause="something between the gateway and the app that changes it")]
        if any(one.kind == "address" for one in known.instances)
        else [],
        remedies=[
            say.look(
                todo, f"triage requests --app {known.app.name} --fault {tries[0].attempt.fault if tries else faults[1]}"
            ),
            say.dont(f"Don't restart {known.app.name}.", "It sends the same afterwards."),
        ],
        faults=list(faults),
        paths=[shape.partition(" ")[2]] if only else [],
        explains=["all-ejected"],
        weight=float(found.count),
    )


def _counted(known: Known, faults: tuple[str, ...]) -> list[str]:
    """Instances whose rings count one of these."""
    rings = [(one.name, known.rings[one.name]) for one in known.instances if one.name in known.rings]
    return [name for name, ring in rings if any(sum(ring.faults.get(fault, ())) for fault in faults)]


def _head_too_large(known: Known) -> Iterator[Finding]:
    found = say.faults(known, "response-head-too-large", since=known.at - WINDOW)
    tries = [one for one in say.tried(known, "response-head-too-large") if one.at >= known.at - WINDOW]
    if not found.count or not tries:
        return
    shape, of_shape = say.most(say.shape(one.record) for one in tries)
    data = _data(kept(known, tries, say.most(one.attempt.detail or one.record.detail for one in tries)[0]))
    cookies = data.lower().count(b"set-cookie:")
    evidence = [
        say.proof(
            f"{units.several(found.count, 'response')} since {say.stamp(found.first)}: "
            f"{say.clean(tries[0].attempt.detail or tries[0].record.detail)}.",
            say.RECORDS,
        ),
        say.proof(f"{say.share(of_shape, len(tries))} are {shape}.", say.RECORDS),
    ]
    if cookies >= 2:
        evidence.append(say.proof(f"{cookies} Set-Cookie fields are in the piece that was kept.", "malformed"))
    yield Finding(
        id="response-head-too-large",
        title=f"{known.app.name} sends heads that are larger than the gateway takes.",
        cause="The head of its response is larger than gateway.limits.head"
        + (", most of it cookies." if cookies >= 2 else "."),
        severity=_severity(known, found.count),
        certainty=CERTAIN,
        care="Those requests get a 502.",
        app=known.app.name,
        instances=list(dict.fromkeys(one.attempt.instance for one in tries)),
        since=found.first,
        evidence=evidence,
        unknown="" if cookies >= 2 else "Which field is so large; most often it is cookies that pile up.",
        remedies=[
            say.later("Keep sessions on the server and only a key in the cookie.", "Heads stay small."),
            say.later(
                "Raise gateway.limits.head, if such heads are meant.",
                "They pass; each connection may then take so much memory.",
            ),
        ],
        faults=["response-head-too-large"],
        paths=[shape.partition(" ")[2]] if of_shape >= 0.8 * len(tries) else [],
        weight=float(found.count),
    )


def _upgrade(known: Known) -> Iterator[Finding]:
    found = say.faults(known, "upgrade-failed", since=known.at - WINDOW)
    tries = [one for one in say.tried(known, "upgrade-failed") if one.at >= known.at - WINDOW]
    if not found.count or not tries:
        return
    detail = say.clean(tries[0].attempt.detail or tries[0].record.detail)
    yield Finding(
        id="upgrade-failed",
        title=f"{known.app.name} answers an upgrade of a connection in a way that is neither yes nor no.",
        cause=f"Asked to upgrade the connection, it answered {detail or 'with something else'}, which was not what "
        f"was asked.",
        severity=_severity(known, found.count),
        certainty=CERTAIN,
        care="WebSocket clients can't connect.",
        app=known.app.name,
        instances=list(dict.fromkeys(one.attempt.instance for one in tries)),
        since=found.first,
        evidence=[say.proof(f"{units.several(found.count, 'upgrade')} failed: {detail}.", say.RECORDS)],
        remedies=[
            say.look(
                "Mend the app: 101 only for the protocol that was asked for.",
                f"triage requests --app {known.app.name} --fault upgrade-failed",
            )
        ],
        faults=["upgrade-failed"],
        weight=float(found.count),
    )


def _severity(known: Known, count: int) -> Severity:
    every = say.requests(known, known.at - WINDOW)
    return "critical" if every and count > 0.2 * every else "warning"


ANALYZER: Final = Analyzer(
    name="malformed",
    title="Responses that are not HTTP",
    checks="All responses could be read as HTTP/1.1.",
    analyze=analyze,
)
