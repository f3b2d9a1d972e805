"""What workers have to count for a condition, as link.Watch. Pure.

Always true: the same question has the same key, so that its count goes on over tables, reloads and rules.
"""

from __future__ import annotations

from proxy.config.conditions import Condition
from proxy.config.write import statuses
from proxy.link.messages import Watch


def requests(path: str) -> Watch:
    return Watch(key=_key("requests", path), kind="requests", path=path)


def slow(above: float, path: str = "") -> Watch:
    """Waits for a response head that are longer, answered or not."""
    return Watch(key=_key(f"slow {above:g}", path), kind="slow", above=above, path=path)


def status(codes: tuple[tuple[int, int], ...], path: str = "") -> Watch:
    codes = tuple(sorted(codes))
    return Watch(key=_key(f"status {statuses(codes)}", path), kind="status", codes=codes, path=path)


def fault(names: tuple[str, ...], path: str = "") -> Watch:
    names = tuple(sorted(set(names)))
    return Watch(key=_key(f"fault {','.join(names)}", path), kind="fault", names=names, path=path)


def of(condition: Condition) -> str:
    """Its path, "" for all."""
    return condition.path or ""


def _key(what: str, path: str) -> str:
    return f"{what} {path}" if path else what
