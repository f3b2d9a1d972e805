"""docs/observing.md with its tables made anew from the code: `python -m proxy.control.incidents.docs`.

What lies between `<!-- NAME -->` and `<!-- end of NAME -->` is replaced; all else is written by hand.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from proxy.control.alerts.builtin import BUILTIN, DEFAULT, DOWN
from proxy.control.incidents.signals import SIGNALS
from proxy.tables import filled, table

DOCUMENT: Final = Path(__file__).parents[3] / "docs" / "observing.md"


def signals() -> str:
    """What may be wrong, app's first."""
    found = [one for scope in ("app", "gateway", "host") for one in SIGNALS[scope]]
    return table(("of", "signal", "seen when"), [(one.scope, f"`{one.name}`", one.about) for one in found])


def alerts() -> str:
    """What is told of without any rule."""
    return table(("name", "when"), [(f"`{one.name}`", one.about) for one in (DOWN, *BUILTIN, DEFAULT)])


TABLES: Final[dict[str, Callable[[], str]]] = {"signals": signals, "alerts": alerts}


def document(text: str) -> str:
    """`text` with its tables as the code has them. Raises ValueError where a table has no place."""
    return filled(text, TABLES)


if __name__ == "__main__":
    sys.stdout.write(document(DOCUMENT.read_text()))
