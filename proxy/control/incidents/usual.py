"""How long an app's instances take to begin their answers: lately, beside the hour before.

Waits for the response head only: a stream, a tunnel or a large download is not slow. What was counted is compared
through histograms, never through averages of percentiles.

Always true: memory is bounded by some 24 small histograms an app; a piece costs what changed since the one before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from proxy.control.counters import GONE, Key
from proxy.control.incidents.scene import Usual
from proxy.link.histogram import merge, quantile
from proxy.link.messages import Row

PIECE: Final = 10.0
"""Seconds of one piece."""
LATELY: Final = 3
"""Pieces that are "lately"."""
FRESH: Final = 12
"""Pieces that are not compared with: what begins slowly must not become its own measure."""
MERGED: Final = 30
"""Pieces that are kept as one, once they are older."""
OLDER: Final = 12
"""Of these: an hour."""
FAR: Final = 4.0
"""Times the usual, from which `since` counts."""


@dataclass(slots=True)
class _App:
    fresh: deque[dict[int, int]] = field(default_factory=deque)
    older: deque[dict[int, int]] = field(default_factory=lambda: deque(maxlen=OLDER))
    merged: int = MERGED  # pieces in the newest of `older`
    spans: deque[int] = field(default_factory=lambda: deque(maxlen=OLDER))  # pieces in which something was answered
    since: float = 0.0
    usual: Usual | None = None


class Waits:
    """All apps'."""

    def __init__(self) -> None:
        self._at = 0.0
        self._rows: dict[Key, tuple[Sequence[Row], dict[int, int]]] = {}
        self._apps: dict[str, _App] = {}

    def usual(self, app: str) -> Usual | None:
        """As of the last piece."""
        found = self._apps.get(app)
        return found.usual if found is not None else None

    def due(self, now: float) -> bool:
        return now - self._at >= PIECE

    def work(self, rows: Mapping[Key, list[Row]], now: float, unix: float, slow: float) -> Iterator[None]:
        """A piece more of each app, in parts. `slow`: seconds that are slow in any case."""
        self._at = now
        pieces: dict[str, dict[int, int]] = {}
        for key, found in rows.items():
            app, instance = key
            piece = pieces.setdefault(app, {})
            known = self._rows.get(key)
            if instance in ("", GONE) or (known is not None and _same(known[0], found)):
                continue
            total: dict[int, int] = {}
            for row in found:
                merge(total, row.wait)
            if known is not None:
                for index, count in total.items():
                    more = count - known[1].get(index, 0)
                    if more > 0:
                        piece[index] = piece.get(index, 0) + more
            self._rows[key] = (found, total)
            yield
        for key in self._rows.keys() - rows.keys():
            del self._rows[key]
        for app, piece in pieces.items():
            known_app = self._apps.setdefault(app, _App())
            _add(known_app, piece)
            known_app.usual = _usual(known_app, unix, slow)
            yield
        for app in self._apps.keys() - pieces.keys():
            del self._apps[app]


def _same(one: Sequence[Row], other: Sequence[Row]) -> bool:
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))


def _add(app: _App, piece: dict[int, int]) -> None:
    app.fresh.append(piece)
    if len(app.fresh) <= FRESH:
        return
    if app.merged >= MERGED:
        app.older.append({})
        app.spans.append(0)
        app.merged = 0
    gone = app.fresh.popleft()
    merge(app.older[-1], gone)
    app.spans[-1] += bool(gone)
    app.merged += 1


def _usual(app: _App, unix: float, slow: float) -> Usual:
    lately: dict[int, int] = {}
    before: dict[int, int] = {}
    for piece in list(app.fresh)[-LATELY:]:
        merge(lately, piece)
    for piece in app.older:
        merge(before, piece)
    p50, before_p50 = quantile(lately, 0.5), quantile(before, 0.5)
    p90, before_p90 = quantile(lately, 0.9), quantile(before, 0.9)
    far = any(
        now is not None and then is not None and now > max(slow, FAR * then)
        for now, then in ((p50, before_p50), (p90, before_p90))
    )
    app.since = (app.since or unix - PIECE) if far else 0.0
    return Usual(
        sum(lately.values()), p50, p90, sum(before.values()), before_p50, before_p90, PIECE * sum(app.spans), app.since
    )
