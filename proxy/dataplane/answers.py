"""What Triage answers itself: a fault's status, Proxy-Status, a short page in the form the client accepts.

Nothing of the topology is in it. A client on loopback is the developer: it is also told what to type.
"""

from __future__ import annotations

import functools
import html
import time
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

import msgspec

from proxy.faults import Fault
from proxy.wire.request import METHODS, field

_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}
_PAGE: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{status} {phrase}</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:40em;margin:12vh auto;padding:0 1em}}\
@media(prefers-color-scheme:dark){{body{{background:#181818;color:#ddd}}}}code{{font-size:.95em}}</style>
<h1>{status} {phrase}</h1>
<p>{words}</p>
<p>Request <code>{id}</code></p>{more}
"""
_FOR_EVERYONE: Final = {
    400: "The request was not understood.",
    404: "There is nothing at this address.",
    408: "The request took too long to arrive.",
    413: "The request is too large.",
    414: "The request's address is too long.",
    417: "The request expects something that is not offered here.",
    429: "Too many requests. Please wait a moment.",
    431: "The request's headers are too large.",
    500: "Something went wrong in the gateway.",
    501: "The request asks for something that is not offered here.",
    502: "The application did not answer properly.",
    503: "The application can't take this request now. Please try again in a moment.",
    504: "The application did not answer in time.",
    505: "This version of HTTP is not spoken here.",
}

_date: tuple[int, bytes] = (0, b"")
_pages: dict[tuple[str, int, str, str, bool], tuple[bytes, bytes]] = {}
"""Made before, with _ID in the id's place: in a storm of faults nearly all are alike."""
_PAGES: Final = 512
_ID: Final = "\x1a"
_TRACE: Final = "\x1c"
SELF_CHECK: Final = b"triage-self-check"
"""The User-Agent of the gateway's own look at itself: an `OPTIONS *` of it with Max-Forwards 0 is no traffic."""
_ALLOW: Final = ", ".join(name for name, _ in METHODS.values() if name != "TRACE").encode()


def date() -> bytes:
    """The Date field's value, made once a second."""
    global _date
    now = int(time.time())
    if _date[0] != now:
        _date = (now, formatdate(now, usegmt=True).encode())
    return _date[1]


@functools.lru_cache(maxsize=512)
def form(accept: bytes) -> str:
    """Which of html, json and text an Accept field asks for: the first it names, text for anything."""
    places = {
        "html": _place(accept, b"text/html", b"application/xhtml"),
        "json": _place(accept, b"application/json", b"application/problem+json", b"+json"),
        "text": _place(accept, b"text/plain"),
    }
    named = {kind: at for kind, at in places.items() if at >= 0}
    return min(named, key=named.__getitem__) if named else "text"


def _place(accept: bytes, *kinds: bytes) -> int:
    found = [at for kind in kinds if (at := accept.find(kind)) >= 0]
    return min(found, default=-1)


def page(
    fault: Fault, status: int, id: str, trace: str, detail: str, kind: str, local: bool, pages: dict[str, str]
) -> tuple[bytes, bytes]:
    """Content and its type."""
    phrase = _PHRASES.get(status, "Error")
    words = _FOR_EVERYONE.get(status, fault.words)
    if kind == "json":
        problem: dict[str, object] = {
            "type": f"urn:triage:fault:{fault.name}",
            "title": phrase,
            "status": status,
            "detail": words,
            "request_id": id,
            "trace_id": trace,
        }
        if local:
            problem["fault"] = fault.name
            problem["hint"] = f"triage why {id}"
        return msgspec.json.encode(problem) + b"\n", b"application/problem+json"
    if kind == "html":
        own = pages.get(str(status))
        if own is not None:
            return own.replace("{id}", id).replace("{status}", str(status)).encode(), b"text/html; charset=utf-8"
        more = ""
        if local:
            told = f"{fault.words} {detail}" if detail else fault.words
            more = f"\n<p>{html.escape(told)}</p>\n<p>Find out more: <code>triage why {id}</code></p>"
        text = _PAGE.format(status=status, phrase=phrase, words=words, id=id, more=more)
        return text.encode(), b"text/html; charset=utf-8"
    lines = [f"{status} {phrase}", words, f"request {id}"]
    if local:
        lines.insert(2, f"{fault.name}: {fault.words}" + (f" ({detail})" if detail else ""))
        lines[-1] = f"triage why {id}"
    return ("\n".join(lines) + "\n").encode(), b"text/plain; charset=utf-8"


def _page(
    fault: Fault, status: int, id: str, trace: str, detail: str, kind: str, local: bool, pages: dict[str, str]
) -> tuple[bytes, bytes]:
    if kind == "html" and pages:
        return page(fault, status, id, trace, detail, kind, local, pages)
    key = (fault.name, status, detail if local else "", kind, local)
    made = _pages.get(key)
    if made is None:
        if len(_pages) >= _PAGES:
            _pages.clear()
        plain = detail.replace(_ID, "").replace(_TRACE, "")
        made = page(fault, status, _ID, _TRACE, plain, kind, local, pages)
        if kind == "json":
            content = made[0].replace(b"\\u001a", _ID.encode()).replace(b"\\u001c", _TRACE.encode())
            made = content, made[1]
        _pages[key] = made
    content = made[0].replace(_ID.encode(), id.encode())
    if kind == "json":
        content = content.replace(_TRACE.encode(), trace.encode())
    return content, made[1]


def build(
    fault: Fault,
    status: int,
    id: str,
    detail: str,
    *,
    trace: str,
    kept: bytes,
    head_only: bool,
    local: bool,
    close: bool,
    keep_alive_1_0: bool,
    retry_after: float,
    pseudonym: bytes,
    pages: dict[str, str],
) -> bytes:
    """The whole answer. `kept` are the request's field lines, for Accept."""
    content, type = _page(fault, status, id, trace, detail, form(field(kept, "accept").lower()), local, pages)
    lines = [
        f"HTTP/1.1 {status} {_PHRASES.get(status, 'Error')}\r\nDate: ".encode() + date(),
        b"Content-Type: " + type,
        b"Content-Length: %d" % len(content),
        b"Cache-Control: no-store",
        b"X-Request-ID: " + id.encode(),
    ]
    if fault.error is not None:
        lines.append(
            b'Proxy-Status: %b; error=%b; details="%b"' % (pseudonym, fault.error.encode(), fault.name.encode())
        )
    if retry_after:
        lines.append(b"Retry-After: %d" % max(1, round(retry_after)))
    if close:
        lines.append(b"Connection: close")
    elif keep_alive_1_0:
        lines.append(b"Connection: keep-alive")
    return b"\r\n".join(lines) + b"\r\n\r\n" + (b"" if head_only else content)


def options(id: bytes, *, close: bool, keep_alive_1_0: bool) -> bytes:
    """The answer to OPTIONS that ends here. A length of 0 is said, because 200 is not without content by itself."""
    connection = b"Connection: close\r\n" if close else b"Connection: keep-alive\r\n" if keep_alive_1_0 else b""
    return b"HTTP/1.1 200 OK\r\nDate: %b\r\nAllow: %b\r\nContent-Length: 0\r\nX-Request-ID: %b\r\n%b\r\n" % (
        date(), _ALLOW, id, connection,
    )  # fmt: skip
