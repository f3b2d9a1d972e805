"""Tables in documents, made anew from the code: what lies between `<!-- NAME -->` and `<!-- end of NAME -->`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """In Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def filled(text: str, made: Mapping[str, Callable[[], str]]) -> str:
    """`text` with its tables as the code has them. Raises ValueError where a table has no place."""
    for name, make in made.items():
        place = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
        if place.search(text) is None:
            raise ValueError(f"there is no <!-- {name} --> in it")
        body = make()
        text = place.sub(lambda match, body=body: f"{match[1]}{body}\n{match[2]}", text)  # type: ignore[misc]
    return text
