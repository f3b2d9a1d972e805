"""docs/api.md from the route table: `python -m proxy.admin.docs > docs/api.md`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from proxy.admin import reference
from proxy.admin.reference import inputs, role, statuses
from proxy.admin.routes import ROUTES
from proxy.admin.routing import Route

_INTRO: Final = """# The admin API

Made from the route table in `proxy/admin/routes.py` by `make docs`; do not edit by hand. The gateway serves the same as
a page at `/api/docs`, and as OpenAPI 3.1 at `/api/v1/openapi.json`. The `triage` command ([cli.md](cli.md)) and
the dashboard use this API and nothing else.

## Conventions
"""

EXAMPLES: Final = """
## First calls

```sh
# Over the Unix socket, as its owner: no token.
curl -s --unix-socket "$SOCKET" http://localhost/api/v1/status

# Over TCP, with the token that Triage made in its data folder.
TOKEN=$(cat "$DATA/admin.token")
curl -s -H "Authorization: Bearer $TOKEN" "$URL/api/v1/requests?status=5xx&since=15m&limit=5"

# An act says first what it would do, then does it.
curl -s -H "Authorization: Bearer $TOKEN" --json '{"preview": true}' "$URL/api/v1/apps/web/restart"
curl -s -H "Authorization: Bearer $TOKEN" --json '{"for": "1m", "reason": "a test"}' "$URL/api/v1/apps/web/mute"

# Reload, unless another has changed the config since one looked.
TAG=$(curl -s -D - -o /dev/null -H "Authorization: Bearer $TOKEN" "$URL/api/v1/config" | awk '/^ETag:/ {print $2}')
curl -s -H "Authorization: Bearer $TOKEN" -H "If-Match: ${TAG%?}" --json '{}' "$URL/api/v1/config/reload"

# Follow what happens; -N shows it as it comes.
curl -sN --max-time 2 -H "Authorization: Bearer $TOKEN" "$URL/api/v1/events?follow=true&since=5m" || true
```
"""
"""A test runs these lines against a real gateway."""


def main() -> None:
    """Print the document."""
    print("\n".join(lines()))


def lines() -> Iterator[str]:
    """The document, line by line."""
    yield _INTRO
    for paragraph in reference.CONVENTIONS:
        yield f"- {paragraph}"
    yield EXAMPLES
    groups = reference.grouped(ROUTES)
    yield "## All calls\n"
    yield "| call | role | |"
    yield "|---|---|---|"
    for _, _, _, routes in groups:
        for route in routes:
            link = f"[`{route.method} {route.path}`](#{_anchor(route)})"
            yield f"| {link} | {role(route)} | {_cell(route.summary.partition('. ')[0].rstrip('.'))} |"
    for _, title, about, routes in groups:
        yield f"\n## {title}\n\n{about}"
        for route in routes:
            yield from _route(route)
    yield "\n## Kinds of errors\n"
    yield "`type` is `urn:triage:` and one of these. Acts that are not possible answer 409 with a kind of their own.\n"
    yield "| kind | status | title |"
    yield "|---|---|---|"
    for kind, status, title in kinds():
        yield f"| `{kind}` | {status} | {_cell(title)} |"


def _route(route: Route) -> Iterator[str]:
    yield f"\n### {route.method} {route.path}\n\n{route.summary}\n"
    content = "" if route.example is None else f", `{route.content}`"
    yield f"Role: {role(route)}. Answers {statuses(route)}{content}."
    rows = list(inputs(route))
    if rows:
        yield "\n| | in | may be | |"
        yield "|---|---|---|---|"
        for name, where, kind, needed, about in rows:
            yield f"| `{name}` | {where} | {_cell(kind)}{', needed' if needed else ''} | {_cell(about)} |"
    if shown := reference.example(route):
        yield f"\n```json\n{shown}\n```"


def kinds() -> list[tuple[str, str, str]]:
    """Kind, status and title of each error that stands in the code as such."""
    found: dict[str, tuple[str, str]] = {}
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("ApiProblem", "Denied"):
                words = [_text(one) for one in node.args[:3]]
                if len(words) == 3 and words[0] and words[1] and "…" not in words[1]:
                    found.setdefault(words[1], (words[0], words[2]))
    return [(kind, status, title) for kind, (status, title) in sorted(found.items())]


def _text(node: ast.AST) -> str:
    """Of a constant, or of a text with values in it, "…" in the place of each."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) if isinstance(part, ast.Constant) else "…" for part in node.values)
    if isinstance(node, ast.IfExp):
        return _text(node.body)
    return ""


def _anchor(route: Route) -> str:
    """As the usual Markdown readers make it of a heading."""
    kept = [letter for letter in f"{route.method} {route.path}".lower() if letter.isalnum() or letter in " -_"]
    return "".join(kept).replace(" ", "-")


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    main()
