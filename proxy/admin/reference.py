"""The route table as a page to be read: no script, nothing loaded from anywhere. docs.py has the same as Markdown."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any, Final

from proxy import __version__
from proxy.admin import openapi, params, shapes
from proxy.admin.fields import Field
from proxy.admin.limits import ACTS, READS
from proxy.admin.routing import Route

GROUPS: Final = (
    ("gateway", "The gateway", "How everything stands, its config, its environment."),
    ("apps", "Apps", "How each app stands, and the acts on all of it."),
    ("instances", "Instances", "Each running copy of an app, what it runs, and the acts on it."),
    ("requests", "Requests", "Those that are kept, and why they ended so."),
    ("events", "Events", "Everything that happened."),
    ("logs", "Logs", "What instances print, and the exceptions in it."),
    ("metrics", "Metrics", "Figures over time, and what was frozen at incidents."),
    ("incidents", "Incidents", "Spans in which something was not well."),
    ("alerts", "Alerts", "Who is told of what."),
    ("autoheal", "Autoheal", "Rules: when this is seen, do that."),
    ("sessions", "Sessions", "Diagnostic runs: what they gather, find and report."),
    ("operations", "Operations", "What was asked for, and how it goes on."),
    ("access", "Access", "Tokens, roles, logins."),
    ("console", "Console", "Files, commands, terminals. Only with `admin.console = true`."),
)
"""By tag, in the order of the page; a tag that is not here comes after them."""

STYLE: Final = """
body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1a1f24;background:#fff}
h1,h2,h3{line-height:1.25}h2{margin-top:2.5rem;border-bottom:1px solid #d5dade}h3{margin-top:2rem}
h3 code{font-size:15px}
code,pre{font:13px/1.45 ui-monospace,monospace}pre{background:#f4f6f8;padding:.7rem;overflow:auto;border-radius:4px}
table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;padding:.25rem .6rem .25rem 0;
border-bottom:1px solid #e6eaed}.role{color:#5a6570;font-size:13px}nav ul{columns:3;list-style:none;padding:0}
a{color:#0b5cad}@media(prefers-color-scheme:dark){body{background:#15191d;color:#d8dee4}pre{background:#1e242a}
td,th,h2{border-color:#313940}a{color:#6cb2ff}.role{color:#94a0ab}}
"""
STYLE_HASH: Final = "sha256-" + base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()


def grouped(routes: Sequence[Route]) -> list[tuple[str, str, str, list[Route]]]:
    """Tag, title, a sentence, routes."""
    found: dict[str, list[Route]] = {}
    for route in routes:
        found.setdefault(openapi.tag(route), []).append(route)
    known = [(tag, title, about, found.pop(tag)) for tag, title, about in GROUPS if tag in found]
    return known + [(tag, tag.capitalize(), "", rest) for tag, rest in found.items()]


def role(route: Route) -> str:
    """Who may call it."""
    return "open" if route.open else route.needs


def may_be(one: params.Param | Field) -> str:
    """What a parameter or a field may be, in a word or two."""
    if isinstance(one, Field):
        return {"reason": "text, 500 characters", "flag": "true, false", "count": "number", "cores": "number",
                "names": "list of texts", "rule": "text or object"}.get(one.kind, one.kind)  # fmt: skip
    words = {"flag": "true, false", "choice": ", ".join(one.words), "moment": "how long ago, or time"}
    if one.kind == "whole":
        return f"{one.least} to {one.most}" if one.most and one.most < 10**9 else "number"
    return words.get(one.kind, one.kind)


def inputs(route: Route) -> Iterator[tuple[str, str, str, bool, str]]:
    """Name, where, what it may be, whether it is needed, a sentence."""
    for name in re.findall(r"\{(\w+)\}", route.path):
        yield name, "path", "text", True, ""
    for name, said in route.params.items():
        one = params.param(name, said)
        yield name, "query", may_be(one), one.required, one.about
    for name, field in route.body.items():
        yield name, "body", may_be(field), field.required, field.about


def statuses(route: Route) -> str:
    """All it may answer, errors last."""
    good = [route.status, *sorted(route.also)] + ([200] if "preview" in route.body else [])
    return f"{', '.join(map(str, sorted(good)))}; {', '.join(map(str, openapi.statuses(route)))}"


def call(route: Route) -> str:
    """An example of its content, "" where it has none."""
    if not route.body:
        return ""
    kinds: dict[str, Any] = {
        "text": "…", "reason": "by hand", "flag": True, "count": 3, "size": "1GB", "cores": 2, "duration": "10m",
        "pause": "1h", "rule": "slow", "names": ["stacks"],
    }  # fmt: skip
    wanted = [name for name, field in route.body.items() if field.required] or list(route.body)[:1]
    return json.dumps({name: kinds.get(route.body[name].kind, "…") for name in wanted}, ensure_ascii=False)


def example(route: Route) -> str:
    """Its answer, as it is read best."""
    if route.example is None or route.content != "application/json":
        return ""
    return written(route.example)


def written(value: Any, room: int = 100, indent: str = "") -> str:
    """JSON in as few lines as have room."""
    flat = json.dumps(value, ensure_ascii=False)
    if len(flat) + len(indent) <= room or not value or not isinstance(value, (dict, list, tuple)):
        return flat
    inner = indent + "  "
    if isinstance(value, dict):
        parts = [f"{json.dumps(str(name))}: {written(one, room, inner)}" for name, one in value.items()]
    else:
        parts = [written(one, room, inner) for one in value]
    lines, line = [], ""
    for part in parts:
        if line and ("\n" in part or "\n" in line or len(inner) + len(line) + len(part) + 3 > room):
            lines.append(line)
            line = part
        else:
            line = f"{line}, {part}" if line else part
    body = f",\n{inner}".join([*lines, line])
    start, end = "{}" if isinstance(value, dict) else "[]"
    return f"{start}\n{inner}{body}\n{indent}{end}"


def anchor(route: Route) -> str:
    """Of its heading."""
    return re.sub(r"[^a-z0-9]+", "-", f"{route.method} {route.path}".lower()).strip("-")


def page(routes: Sequence[Route]) -> str:
    """One HTML page."""
    groups = grouped(routes)
    contents = "".join(f'<li><a href="#{tag}">{escape(title)}</a></li>' for tag, title, _, _ in groups)
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Triage admin API</title><style>{STYLE}</style>"
        f"<h1>Triage admin API</h1><p>Version {escape(__version__)}. As OpenAPI 3.1: "
        '<a href="/api/v1/openapi.json">openapi.json</a>.</p>'
        f"<nav><ul><li><a href=#conventions>Conventions</a></li>{contents}</ul></nav>"
        f"<h2 id=conventions>Conventions</h2>{''.join(f'<p>{_marked(line)}</p>' for line in CONVENTIONS)}"
    ]
    for tag, title, about, found in groups:
        parts.append(f"<h2 id={tag}>{escape(title)}</h2><p>{_marked(about)}</p>")
        parts += [_section(route) for route in found]
    return "".join(parts) + "</html>"


def _section(route: Route) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code><td>{where}<td>{escape(kind)}{', needed' if needed else ''}"
        f"<td>{_marked(about)}</tr>"
        for name, where, kind, needed, about in inputs(route)
    )
    shown = example(route)
    return (
        f"<h3 id={anchor(route)}><code>{route.method} {escape(route.path)}</code></h3><p>{_marked(route.summary)}</p>"
        f"<p class=role>Role: {role(route)}. Answers {escape(statuses(route))}"
        f"{'' if route.example is None else f', {escape(route.content)}'}.</p>"
        + (f"<table>{rows}</table>" if rows else "")
        + (f"<pre>{escape(shown)}</pre>" if shown else "")
    )


def _marked(text: str) -> str:
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))
    return re.sub(r"\*\*([^*]+)\*\*", r"<b>\1</b>", text)


def named() -> Iterator[tuple[str, dict[str, Any]]]:
    """Shapes that have a name, and their schema."""
    yield from shapes.components().items()


CONVENTIONS: Final = (
    "All paths of the API begin with `/api/v1`. What is sent and answered is JSON, in UTF-8. Times are UTC, ISO 8601 "
    "with `Z`; durations end in `_ms` or `_s`; sizes are bytes. A field that has no value is `null`; a timing that "
    "was not reached is absent.",
    "**Access.** Over TCP each call needs `Authorization: Bearer TOKEN`, but for `/healthz` and `/readyz`; over the "
    "Unix socket its owner, root and the group `triage` need none. A token has a role: `viewer` may read, `operator` "
    "may act, `admin` may all. 401: no token that is known; 403 `role-too-low`: not with this role. Host must be an "
    "address, `localhost` or the name in `admin.url`; a page of another place may not ask (403).",
    "**Errors** are RFC 9457, `application/problem+json`, whatever goes wrong: `type` (`urn:triage:KIND`, one for each "
    "kind), `title` (what is wrong), `status`, `detail`, `hint` (what would be right). A parameter or a field that "
    "is not known is refused, and so is one given twice.",
    "**Lists** answer `{\"items\": […], \"next\": cursor or null}`; each item has its `id`. `next` goes into `cursor` "
    "for the page after; `limit` says how many. A cursor is not to be made or read by a client.",
    "**Acts** take a JSON object (`{}` will do) with a `reason`, which is recorded with who asked. They answer 202 "
    "with an operation, followed at `operations/{id}` (`?wait=30s` waits for its next step) until its `state` is "
    "`done` or `failed`. With `\"preview\": true` nothing is done, and 200 says what would be.",
    "**Streams**: `events`, `logs` and `metrics/stream` with `follow=true` answer `text/event-stream`. `id` of the "
    "last message goes into `Last-Event-ID` to go on after it; what was lost is told as `dropped`. A client that takes "
    "nothing for 30 s is cut.",
    "**Unchanged?** `GET config` has an `ETag`: with `If-None-Match` the answer is 304 while it is the same. With "
    "`If-Match`, `config/reload` and `config/check` answer 412 where the config in force is another one.",
    f"**Limits.** One caller may read {READS.most} times at once and {READS.rate:g} times a second, act {ACTS.most} "
    f"times at once and {ACTS.rate:g} times a second, and follow 256 streams; beyond that the answer is 429 with "
    "`Retry-After`. `RateLimit` and "
    "`RateLimit-Policy` say what is left. Content of a call has 1 MiB at most (files excepted), and must have come in "
    "30 s; a head has 15 s, a line of it 16 KiB. `/healthz` and `/readyz` are not limited.",
)
