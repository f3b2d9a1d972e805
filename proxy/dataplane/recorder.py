"""What becomes of a finished request's record: the flight recorder, and records kept for control.

Always true:
  - the flight recorder holds the last SIZE records, whatever their outcome, in bounded memory;
  - a slow control costs records, which are counted, never a request or memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from proxy.link.messages import Record

SIZE: Final = 4096
KEPT_PER_SECOND: Final = 200
_KEPT_WAITING: Final = 1000
_encode: Final = msgspec.json.Encoder().encode_lines
_decode: Final = msgspec.json.Decoder(Record).decode_lines


class FlightRecorder:
    """The last records, as JSON lines, in blocks: some ten kilobytes in one piece instead of a thousand small objects.

    So what a request leaves behind is given back while it is still in the processor's cache, and the next one is made
    there. The lines are those of the access log, which are the same bytes.
    """

    __slots__ = ("_blocks", "_held")

    def __init__(self) -> None:
        self._blocks: deque[tuple[int, bytes]] = deque()
        """How many records a block has, the oldest first in it; the newest block last."""
        self._held = 0

    def extend(self, records: list[Record]) -> bytes:
        """Their lines."""
        count = len(records)
        lines = _encode(records)
        self._blocks.append((count, lines))
        held = self._held + count
        while held - self._blocks[0][0] >= SIZE:
            held -= self._blocks.popleft()[0]
        self._held = held
        return lines

    def newest(self) -> list[Record]:
        """All that is held, newest first; SIZE at most."""
        return list(self._records(b""))[:SIZE]

    def find(self, prefix: str, limit: int, app: str = "", path: str = "", instance: str = "") -> list[Record]:
        """Records whose id, or whose client's id, begins so; newest first. `instance`: that had an attempt there."""
        found = []
        for record in self._records(msgspec.json.encode(prefix or instance or app)[1:-1]):
            if prefix and not (record.id.startswith(prefix) or record.client_request_id.startswith(prefix)):
                continue
            if (app and record.app != app) or (path and not record.target.startswith(path)):
                continue
            if instance and record.instance != instance:
                if all(attempt.instance != instance for attempt in record.attempts or ()):
                    continue
            found.append(record)
            if len(found) >= limit:
                break
        return found

    def _records(self, part: bytes) -> Iterator[Record]:
        """Newest first, of blocks that have these bytes somewhere."""
        for _, block in reversed(self._blocks):
            if part in block:
                yield from reversed(_decode(block))


class Kept:
    """Records that go to control: at most KEPT_PER_SECOND, shared fairly over (app, instance, fault)."""

    __slots__ = ("_counts", "_second", "_sum", "dropped", "tell_soon", "told", "waiting")

    def __init__(self) -> None:
        self.waiting: list[Record] = []
        self.dropped = 0
        self.tell_soon: Callable[[], object] = lambda: None
        self.told = False
        """`tell_soon` was called, and the records were not taken yet."""
        self._second = 0
        self._sum = 0
        self._counts: dict[tuple[str, str, str], int] = {}

    def add(self, record: Record, now: float) -> None:
        second = int(now)
        if second != self._second:
            self._second = second
            self._sum = 0
            self._counts.clear()
        key = (record.app, record.instance, record.fault)
        count = self._counts.get(key, 0)
        # Each key may always have its fair share of what all keys together may have; what is left goes to who comes.
        fair = KEPT_PER_SECOND // (len(self._counts) + (count == 0) + 1)
        if (count >= fair and self._sum >= KEPT_PER_SECOND // 2) or self._sum >= KEPT_PER_SECOND:
            self.dropped += 1
            return
        if len(self.waiting) >= _KEPT_WAITING:
            self.dropped += 1
            return
        self._counts[key] = count + 1
        self._sum += 1
        self.waiting.append(record)
        if not self.told:
            self.told = True
            self.tell_soon()

    def take(self) -> list[Record]:
        taken, self.waiting = self.waiting, []
        return taken
