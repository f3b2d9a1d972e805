"""Elements of HTML and SVG, and what is shown the same way everywhere: times, tables, what is folded.

Always true: a str that is not `Html` is escaped; only this module makes `Html` from text.
"""

from __future__ import annotations

import html
import re
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

Child = object
"""Html, or anything that has a str; None is nothing; a list is its items."""

_CONTROL: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
"""Also what turns the direction of text round: a name may not look like another one."""
_STAMP: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z)")
_VOID: Final = frozenset({"meta", "br", "hr", "path", "line", "rect", "circle"})


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def esc(text: object) -> Html:
    """Escaped, for content and for attributes in double quotes."""
    if isinstance(text, Html):
        return text
    return Html(html.escape(_CONTROL.sub("\ufffd", str(text))))


def join(*children: Child) -> Html:
    """One after the other."""
    return Html("".join(_flat(children)))


def _flat(children: Iterable[Child]) -> Iterable[str]:
    for child in children:
        if child is None or child is False:
            continue
        if isinstance(child, list | tuple):
            yield from _flat(child)
        else:
            yield esc(child)


def tag(name: str, *children: Child, **attributes: object) -> Html:
    """An element. Of an attribute's name a trailing `_` falls away and `_` is `-`; None and False leave it out."""
    given = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{esc(value)}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _VOID and not children:
        return Html(f"<{name}{given}/>")
    return Html(f"<{name}{given}>{''.join(_flat(children))}</{name}>")


def moment(at: float | None, *, day: bool = False) -> Html:
    """A time of day of this machine; with the day where it is not that of the report's other times."""
    if not at:
        return tag("span", "–", class_="quiet")
    try:
        local = datetime.fromtimestamp(at).astimezone()
        utc = local.astimezone(UTC)
    except (OverflowError, OSError, ValueError):
        return tag("span", "–", class_="quiet")
    form = "%Y-%m-%d %H:%M:%S" if day or time.time() - at > 86_400 else "%H:%M:%S"
    return tag("time", local.strftime(form), datetime=utc.strftime("%Y-%m-%dT%H:%M:%SZ"),
               title=local.strftime("%Y-%m-%d %H:%M:%S %z"))  # fmt: skip


def offset(at: float) -> str:
    """That of this machine from UTC: "UTC+01:00"."""
    found = datetime.fromtimestamp(at).astimezone().strftime("%z")
    return f"UTC{found[:3]}:{found[3:5]}"


def words(text: object) -> Html:
    """Text with what stands in it: UTC stamps as local times, what is in backquotes as code."""
    parts = _STAMP.split(str(text))
    return join(*(_stamp(part) if at % 2 else _coded(part) for at, part in enumerate(parts)))


def _stamp(text: str) -> Html:
    try:
        return moment(datetime.fromisoformat(text).timestamp())
    except ValueError:
        return esc(text)


def _coded(text: str) -> Html:
    return join(*(tag("code", part) if at % 2 else part for at, part in enumerate(text.split("`"))))


def table(heads: Sequence[str], rows: Iterable[Sequence[Child]], *, num: Iterable[int] = (), wide: int = -1) -> Html:
    """`num`: columns of figures; `wide`: the one that may break anywhere. A column of "–" alone is left out, and all
    of it without rows."""
    given = list(rows)
    if not given:
        return Html("")
    right = set(num)
    look = ["num" if at in right else "wide" if at == wide else None for at in range(len(heads))]
    shown = [at for at in range(len(heads)) if any(row[at] not in ("–", "", None) for row in given)]
    body = [tag("tr", *(tag("td", row[at], class_=look[at]) for at in shown)) for row in given]
    head = tag("tr", *(tag("th", heads[at], scope="col", class_=look[at]) for at in shown))
    return tag("div", tag("table", tag("thead", head), tag("tbody", *body)), class_="box", tabindex=0)


def facts(pairs: Iterable[tuple[str, Child]]) -> Html:
    """Name and value; a pair without a value is left out."""
    found = [(name, value) for name, value in pairs if value is not None and value != ""]
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in found), class_="facts")


def fold(summary: Child, *content: Child, open_: bool = False) -> Html:
    return tag("details", tag("summary", summary), *content, open=open_)


def bullets(items: Iterable[Child]) -> Html:
    found = [tag("li", item) for item in items]
    return tag("ul", *found) if found else Html("")


def quiet(text: Child) -> Html:
    return tag("p", text, class_="quiet")


def cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
