"""Whole stories of requests, on the disk: one row each, masked before it is written.

Masked is the value of a field whose name says that it is secret (masking.py: Authorization, Cookie, Set-Cookie,
X-Api-Key …), every value in a query, in the request's target and wherever else a field has one, and what looks like a
secret in the rest.
"""

from __future__ import annotations

import re
import sqlite3
import zlib
from collections.abc import Iterable
from typing import Any, Final

import msgspec
import orjson

from proxy import masking
from proxy.link.messages import Story

STEP: Final[tuple[str, ...]] = (
    "CREATE TABLE stories (id TEXT PRIMARY KEY, at REAL NOT NULL, app TEXT NOT NULL, body BLOB NOT NULL)",
    "CREATE INDEX stories_at ON stories (at)",
)
MOST: Final = 20_000
"""Rows."""
SIZE: Final = 16 * 1024
"""Bytes of one, as JSON, before it is packed."""
VALUE: Final = 2048
"""Characters of one value."""
_LONE: Final = re.compile(r"\?[^?=&;\s\"'<>]+$")
_QUERY: Final = re.compile(r"([?&;][^=&;#\s]{1,200}=)[^&;#\s\"'<>]+")


def row(story: Story) -> Iterable[tuple[str, tuple[Any, ...]]]:
    """In the writer's thread."""
    body = zlib.compress(written(story), 6)
    yield "INSERT OR REPLACE INTO stories (id, at, app, body) VALUES (?, ?, ?, ?)", (
        story.id, story.time, story.app, body,
    )  # fmt: skip


def find(connection: sqlite3.Connection, id: str) -> dict[str, Any] | None:
    """In the reader's thread: the story of a request, by its whole id; None: none was kept."""
    found = connection.execute("SELECT body FROM stories WHERE id = ?", (id,)).fetchone()
    if found is None:
        return None
    story: dict[str, Any] = orjson.loads(zlib.decompress(found[0]))
    return story


def written(story: Story) -> bytes:
    """As it is kept and shown: JSON, SIZE bytes at most."""
    cut = story.cut
    phases = [
        {"phase": name, "at_ms": round(at / 1000, 3), "note": masking.text(note)[:500]}
        for name, at, note in story.phases
    ]
    made: dict[str, Any] = {
        "rule": f"keep.whole[{story.rule}]", "answered_by": "triage" if story.own else "instance",
        "phases": phases, "attempts": [_attempt(msgspec.to_builtins(one)) for one in story.attempts],
        "request": head(story.request), "response": head(story.response), "cut": cut,
    }  # fmt: skip
    data = orjson.dumps(made)
    while len(data) > SIZE:
        made["cut"] = True
        longest = max(
            (made[name] for name in ("request", "response") if made[name] and made[name]["fields"]),
            key=lambda one: sum(len(value) for _, value in one["fields"]), default=None,
        )  # fmt: skip
        if longest is not None:
            longest["fields"] = longest["fields"][: len(longest["fields"]) // 2]
        else:
            made["phases"], made["attempts"] = made["phases"][-20:], made["attempts"][-5:]
            made["request"] = made["response"] = None
            return orjson.dumps(made)
        data = orjson.dumps(made)
    return data


def _attempt(one: dict[str, Any]) -> dict[str, Any]:
    """As a record's are shown: times in milliseconds."""
    shown: dict[str, Any] = {}
    for name, value in one.items():
        if name.endswith("_us"):
            shown[f"{name[:-3]}_ms"] = value / 1000 if value is not None else None
        else:
            shown[name] = masking.text(value) if name == "detail" else value
    return shown


def head(data: bytes) -> dict[str, Any] | None:
    """Its first line and its fields, masked, in the order they came; None: there is none."""
    if not data:
        return None
    first, *lines = data.decode("latin-1").split("\r\n")
    fields = []
    for line in lines:
        name, colon, value = line.partition(":")
        if colon and name:
            fields.append([name, value_of(name, value.strip())])
    return {"line": _line(first)[:8192], "fields": fields}


def _line(first: str) -> str:
    """Of a request, whose target's query may have whatever sign in it; or of a response."""
    whole, mark, query = first.partition("?")
    if mark and not first.startswith("HTTP/"):
        query, protocol, version = query.rpartition(" HTTP/")
        if not protocol:  # it was cut within its target
            query, version = version, ""
        parts = [part.partition("=") for part in re.split("[&;]", query)]
        if len(parts) == 1 and not parts[0][1]:
            shown = masking.MASK if query else ""
        else:
            shown = "&".join(f"{name}{sign}{masking.MASK if value else ''}" for name, sign, value in parts)
        first = f"{whole}?{shown}{protocol}{version}"
    return masking.text(first)


def value_of(name: str, value: str) -> str:
    """A field's value, masked."""
    value = masking.masked(name, value)
    if value != masking.MASK:
        value = masking.text(query_masked(value))
    return value if len(value) <= VALUE else value[:VALUE] + "…"


def query_masked(text: str) -> str:
    """`/a?b=c&d` is `/a?b=***&d`, and `/a?b` is `/a?***`: it may be a token."""
    return _LONE.sub(f"?{masking.MASK}", _QUERY.sub(lambda match: match[1] + masking.MASK, text))
