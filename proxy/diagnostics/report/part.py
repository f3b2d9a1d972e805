"""What one part of a report is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from proxy.diagnostics.report.contents import Contents
from proxy.diagnostics.report.markup import Html


@dataclass(frozen=True, slots=True)
class Part:
    """`name`: its key in report.json and its anchor. `data`: bounded, and JSON; `html`: "" shows nothing, not even the
    title. `title` "": it has none."""

    name: str
    title: str
    data: Callable[[Contents], Any]
    html: Callable[[Any], Html]
