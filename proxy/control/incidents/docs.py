"""docs/observing.md with its tables made anew from the code: `python -m proxy.control.incidents.docs`.

What lies between `<!-- NAME -->` and `<!-- end of NAME -->` is replaced; all else is written by hand.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from proxy.control.alerts.builtin import BUILTIN, DEFAULT, DOWN
from proxy.control.incidents.signals import SIGNALS

DOCUMENT: Final = Path(__file__).parents[3] / "docs" / "observing.md"


def signals() -> str:
    """What may be wrong, app's first."""
    found = [one for scope in ("app", "gateway", "host") for one in SIGNALS[scope]]
    return _table(("of", "signal", "seen when"), [(one.scope, f"`{one.name}`", one.about) for one in found])


def alerts() -> str:
    """What is told of without any rule."""
    return _table(("name", "when"), [(f"`{one.name}`", one.about) for one in (DOWN, *BUILTIN, DEFAULT)])


TABLES: Final[dict[str, Callable[[], str]]] = {"signals": signals, "alerts": alerts}


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def document(text: str) -> str:
    """`text` with its tables as the code has them. Raises ValueError where a table has no place."""
    for name, made in TABLES.items():
        place = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
        if place.search(text) is None:
            raise ValueError(f"there is no <!-- {name} --> in it")
        body = made()
        text = place.sub(lambda match, body=body: f"{match[1]}{body}\n{match[2]}", text)  # type: ignore[misc]
    return text


if __name__ == "__main__":
    sys.stdout.write(document(DOCUMENT.read_text()))
