"""TLS towards an instance that fails: plain against TLS, and certificates that do not pass."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from proxy import units
from proxy.diagnostics.analyzers import say
from proxy.diagnostics.analyzers.connecting import answers_again
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
from proxy.diagnostics.artifacts import HostReport, Known

WINDOW: Final = 900.0
_CERTIFICATE: Final = (
    ("has expired", "its certificate has expired", "Renew the certificate."),
    (
        "not yet valid",
        "its certificate is not valid yet",
        "Look at the clocks of both machines, and at the certificate's dates.",
    ),
    (
        "ostname mismatch",
        "its certificate is for another name",
        "Give that name as tls.server_name of the address, or renew it for this one.",
    ),
    (
        "IP address mismatch",
        "its certificate does not name that IP address",
        "Give the name it is for as tls.server_name of the address.",
    ),
    (
        "self-signed",
        "its certificate is signed by itself or by an authority that is not known here",
        "Give that authority as tls.ca of the address.",
    ),
    (
        "self signed",
        "its certificate is signed by itself or by an authority that is not known here",
        "Give that authority as tls.ca of the address.",
    ),
    (
        "unable to get local issuer",
        "who issued its certificate is not known here",
        "Give that authority as tls.ca, or let it send the whole chain.",
    ),
    ("revoked", "its certificate was revoked", "Renew the certificate."),
)
_HANDSHAKE: Final[tuple[tuple[tuple[str, ...], str, Certainty, str], ...]] = (
    (
        ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "UNKNOWN_PROTOCOL"),
        "it answers in the clear: it does not speak TLS at that port",
        VERY_LIKELY,
        "Give its address as http://, or let it serve TLS there.",
    ),
    (
        ("UNSUPPORTED_PROTOCOL", "VERSION", "PROTOCOL_VERSION"),
        "no version of TLS is known to both",
        LIKELY,
        "Let it speak TLS 1.2 or newer.",
    ),
    (
        ("HANDSHAKE_FAILURE", "NO_SHARED_CIPHER", "NO_CIPHERS"),
        "no cipher is known to both, or it wants a certificate of the client",
        LIKELY,
        "Look at its TLS settings.",
    ),
    (
        ("UNRECOGNIZED_NAME",),
        "it does not know the name that it is asked for",
        VERY_LIKELY,
        "Set tls.server_name of the address.",
    ),
    (
        ("UNEXPECTED_EOF", "EOF occurred", "Connection reset"),
        "it closes the connection in the handshake: likely it does not speak TLS there",
        LIKELY,
        "Give its address as http://, or look at what it prints.",
    ),
)


def analyze(seen: Seen) -> Iterator[Finding]:
    known = seen.known
    yield from _certificate(seen)
    found = say.faults(known, "tls-error", since=known.at - WINDOW)
    tries = [one for one in say.tried(known, "tls-error") if one.at >= known.at - WINDOW]
    if not found.count or not tries:
        return
    detail = say.most(one.attempt.detail or one.record.detail for one in tries)[0]
    sure: Certainty = LIKELY
    words, todo = "the handshake fails", "Look at its TLS settings."
    for marks, said, degree, do in _HANDSHAKE:
        if any(mark in detail for mark in marks):
            words, sure, todo = said, degree, do
            break
    yield _finding(known, "tls-mismatch", found, tries, detail, words, sure, todo)


def _certificate(seen: Seen) -> Iterator[Finding]:
    known = seen.known
    found = say.faults(known, "tls-certificate", since=known.at - WINDOW)
    tries = [one for one in say.tried(known, "tls-certificate") if one.at >= known.at - WINDOW]
    if not found.count or not tries:
        return
    detail = say.most(one.attempt.detail or one.record.detail for one in tries)[0]
    words, todo = f"its certificate does not pass: {say.clean(detail)}", "Look at its certificate."
    for mark, said, do in _CERTIFICATE:
        if mark in detail:
            words, todo = said, do
            break
    finding = _finding(known, "tls-certificate", found, tries, detail, words, CERTAIN, todo)
    host = seen.one(HostReport)
    if any(mark in words for mark in ("expired", "valid yet")) and host is not None and abs(host.clock_step) > 60:
        finding.certainty = LIKELY
        finding.evidence.append(
            say.proof(
                f"The clock of this machine moved by {units.duration(abs(host.clock_step))} meanwhile.", "host_report"
            )
        )
        finding.rivals.append(Rival(cause="a wrong clock of this machine", speaks_for=["it was moved meanwhile"]))
    yield finding


def _finding(
    known: Known,
    ident: str,
    found: say.Span,
    tries: list[say.Tried],
    detail: str,
    words: str,
    sure: Certainty,
    todo: str,
) -> Finding:
    names = list(dict.fromkeys(one.attempt.instance for one in tries))
    every = say.requests(known, known.at - WINDOW)
    severity: Severity = "critical" if known.app.state == "down" or (every and found.count > 0.2 * every) else "warning"
    host, _, port = names[0].rpartition(":")
    over = answers_again(known, names, found.last)
    until = f" until {say.stamp(found.last)}" if over else ""
    return Finding(
        id=ident,
        title=f"TLS towards {say.listed(names)} {'failed' if over else 'fails'}{until}.",
        cause=f"{say.listed(names)}{until}: {words}{'; it answers again since' if over else ''}.",
        severity=severity,
        certainty=sure,
        care="No request gets there.",
        app=known.app.name,
        instances=names,
        since=found.first,
        until=found.last if over or known.at - found.last > say.LATELY else 0.0,
        evidence=[
            say.proof(
                f"{units.several(found.count, 'handshake')} failed since {say.stamp(found.first)}: "
                f"{say.clean(detail)}.",
                say.RECORDS,
            )
        ],
        remedies=[
            say.look(
                todo,
                f"openssl s_client -connect {names[0].removeprefix('https://')} </dev/null"
                if host and port.isdigit()
                else "",
            ),
            say.dont(
                "Don't switch verification off for good.", "Then anybody on the way can read and change what is sent."
            ),
        ],
        faults=["tls-certificate" if ident == "tls-certificate" else "tls-error", "all-ejected"],
        explains=["all-ejected", "probe-failing"],
        weight=float(found.count),
    )


ANALYZER: Final = Analyzer(
    name="tls",
    title="TLS towards instances",
    checks="No handshake with an instance failed.",
    analyze=analyze,
    wants=(HostReport,),
)
