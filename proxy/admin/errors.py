"""One error shape, RFC 9457: what is wrong, and what would be right."""

from __future__ import annotations

from typing import Any

import orjson
from aiohttp import web


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

    def response(self) -> web.Response:
        document = {
            "type": f"urn:triage:{self.kind}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "hint": self.hint,
            **self.more,
        }
        return web.Response(
            status=self.status,
            body=dumps(document),
            content_type="application/problem+json",
            headers={"Cache-Control": "no-store", **self.headers},
        )


def dumps(value: Any) -> bytes:
    """JSON, with a newline at the end for terminals; anything unusual becomes text."""
    return orjson.dumps(value, default=_plain, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return str(value)
