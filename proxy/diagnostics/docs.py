"""docs/diagnosis.md with its tables made anew from the code: `python -m proxy.diagnostics.docs`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from proxy.diagnostics.analyzers import ANALYZERS
from proxy.diagnostics.collectors import COLLECTORS
from proxy.tables import filled, table

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "diagnosis.md"


def collectors() -> str:
    """What can be gathered, in the order in which it is."""
    rows = [
        (f"`{one.name}`", one.title, one.of, one.needs, one.cost, "" if one.default else "when chosen")
        for one in COLLECTORS
    ]
    return table(("name", "what", "of", "needs", "costs", "only"), rows)


def analyzers() -> str:
    """What is looked for."""
    return table(("name", "what is looked for"), [(f"`{one.name}`", one.title) for one in ANALYZERS])


TABLES: Final[dict[str, Callable[[], str]]] = {"collectors": collectors, "analyzers": analyzers}


def document(text: str) -> str:
    """`text` with its tables as the code has them. Raises ValueError where a table has no place."""
    return filled(text, TABLES)


if __name__ == "__main__":
    sys.stdout.write(document(DOCUMENT.read_text()))
