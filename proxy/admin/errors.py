"""One error shape, RFC 9457: what is wrong, and what would be right."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

import orjson
from aiohttp import web

from proxy import __version__

PROTECTION: Final = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Server": f"triage/{__version__}",
}
"""Fields of every answer, unless it has its own of that name."""


class ApiProblem(Exception):
    """Raised anywhere in a handler; the server makes the answer of it.

    `kind` is a short name, the end of `type`; `more` are further fields of the document.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        title: str,
        detail: str = "",
        hint: str = "",
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(title)
        self.status = status
        self.kind = kind
        self.title = title
        self.detail = detail
        self.hint = hint
        self.headers = headers or {}
        self.more = more

    def document(self) -> bytes:
        """The JSON document."""
        return dumps(
            {
                "type": f"urn:triage:{self.kind}",
                "title": self.title,
                "status": self.status,
                "detail": self.detail,
                "hint": self.hint,
                **self.more,
            }
        )

    def response(self) -> web.Response:
        return web.Response(
            status=self.status,
            body=self.document(),
            content_type="application/problem+json",
            headers={"Cache-Control": "no-store", **self.headers},
        )

    def raw(self) -> bytes:
        """The whole answer as bytes, for a connection that has no request; it is closed after it."""
        document = self.document()
        fields = {
            **PROTECTION, "Content-Type": "application/problem+json", "Content-Length": len(document),
            "Connection": "close",
        }  # fmt: skip
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}\r\n{head}\r\n".encode() + document


def dumps(value: Any) -> bytes:
    """JSON, with a newline at the end for terminals; anything unusual becomes text."""
    option = orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS
    try:
        return orjson.dumps(value, default=_plain, option=option)
    except TypeError:  # bytes of a path or a field that are no UTF-8, or a number that no JSON has
        return orjson.dumps(_utf8(value), default=_plain, option=option)


def _utf8(value: Any) -> Any:
    """The same with each lone surrogate written out."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_utf8(name) if isinstance(name, str) else name: _utf8(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_utf8(one) for one in value]
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 63:
        return str(value)
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return str(value)
