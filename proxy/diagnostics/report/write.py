"""Contents to data, data to the two files. A part that fails costs itself alone, and is said to be missing."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Any, Final

import msgspec

from proxy import masking
from proxy.diagnostics import forks
from proxy.diagnostics.report import page
from proxy.diagnostics.report.contents import Contents, Data, read
from proxy.diagnostics.report.markup import Html
from proxy.diagnostics.report.parts import PARTS

HTML: Final = "report.html"
JSON: Final = "report.json"
FORM: Final = 1
MOST: Final = 4_800_000
"""Bytes of the page; when it is more, the largest parts give way."""
SHORTEST_SECRET: Final = 8
"""Letters: "a://b:c@" is the shortest text in which masking finds one."""
KEPT: Final = ("answer", "findings", "unseen")
"""Parts that do not."""


def write(folder: Path) -> None:
    """Writes report.html and report.json, each whole or not at all. Raises OSError when it can't."""
    contents = read(folder)
    data = gathered(contents)
    forks.write(folder / JSON, msgspec.json.encode(data))
    forks.write(folder / HTML, rendered(data).encode())


def gathered(contents: Contents) -> Data:
    """The content of report.json, masked."""
    data: Data = {"form": FORM, **page.head(contents)}
    failed: list[str] = []
    for part in PARTS:
        try:
            data[part.name] = part.data(contents)
        except Exception as error:  # a defect or an artifact like none before: the rest is still worth reading
            traceback.print_exc(file=sys.stderr)
            failed.append(f"{part.title}: could not be made ({type(error).__name__}: {str(error)[:160]}).")
    data.setdefault("unseen", [])
    data["unseen"] += [{"what": text.partition(":")[0], "why": text.partition(": ")[2]} for text in failed]
    masked: Data = _masked(data, {})
    return masked


def rendered(data: Data) -> str:
    """The page."""
    sections: dict[str, Html] = {}
    for part in PARTS:
        if part.name not in data:
            continue
        try:
            found = part.html(data[part.name])
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            found = Html("")
            data["unseen"].append({"what": part.title, "why": f"could not be shown ({type(error).__name__})"})
        if found:
            sections[part.name] = found
    if "unseen" in sections or data["unseen"]:
        unseen = next(part for part in PARTS if part.name == "unseen")
        sections["unseen"] = unseen.html(data["unseen"])
    _fit(sections)
    return page.document(data, sections)


def _fit(sections: dict[str, Html]) -> None:
    while sum(len(one.encode()) for one in sections.values()) > MOST:
        name = max((one for one in sections if one not in KEPT), key=lambda one: len(sections[one]), default="")
        if not name or len(sections[name]) < 1000:
            return
        sections[name] = page.left_out(name)


def _masked(value: Any, seen: dict[str, str]) -> Any:
    """`seen`: texts before, masked: frames and names come again and again."""
    if isinstance(value, str):
        if len(value) < SHORTEST_SECRET:
            return value
        found = seen.get(value)
        if found is None:
            found = seen[value] = masking.text(value)
        return found
    if isinstance(value, dict):
        return {_masked(key, seen): _masked(one, seen) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(one, seen) for one in value]
    return value
