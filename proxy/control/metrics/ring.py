"""One ring: the last 15 minutes of one instance, app or process of Triage, second by second.

Columns are arrays of doubles, NaN where a value is not known; what was counted in a second is a few packed bytes, none
at all in a quiet one. Each BLOCK seconds what is open is packed and compressed, and never changed again: a ring of a
busy instance takes some 20 KB, an incident that freezes it copies references.

Always true: seconds grow from block to block, but for a clock that was set back, which begins a new one.
"""

from __future__ import annotations

import zlib
from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

KEEP: Final = 900
"""Seconds."""
BLOCK: Final = 60
RECENT: Final = 5
"""Seconds whose counts are at hand unpacked, for the live stream."""
NAN: Final = float("nan")
LEAD: Final = ("seconds", "counted")
"""The first columns of any ring: 1 in a second that was looked at; seconds that its counts cover, NaN: not known."""


class Second(msgspec.Struct, array_like=True):
    """What was counted in one second; fields are those of store.Point."""

    requests: int = 0
    classes: list[int] = msgspec.field(default_factory=lambda: [0] * 6)
    faults: dict[str, int] = {}
    total: dict[int, int] = {}
    total_sum: float = 0.0
    wait: dict[int, int] = {}
    wait_sum: float = 0.0
    own_sum: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    connects: int = 0
    retries: int = 0


encode: Final = msgspec.msgpack.Encoder().encode
decode: Final = msgspec.msgpack.Decoder(Second).decode
FIELDS: Final = frozenset(Second.__struct_fields__)


class Part(NamedTuple):
    """Up to BLOCK seconds, unpacked."""

    start: int  # Unix second of the first
    columns: dict[str, array[float]]
    counts: Sequence[bytes]  # b"": nothing was counted


class Block(NamedTuple):
    """The same, packed."""

    start: int
    length: int
    data: bytes


_Packed = tuple[tuple[str, ...], list[bytes], list[bytes]]
_packed: Final = msgspec.msgpack.Decoder(_Packed)


def unpack(block: Block) -> Part:
    """Some 30 µs."""
    names, columns, counts = _packed.decode(zlib.decompress(block.data))
    arrays = {}
    for name, data in zip(names, columns, strict=True):
        arrays[name] = array("d")
        arrays[name].frombytes(data)
    return Part(block.start, arrays, counts)


def pack(part: Part) -> Block:
    """Some 100 µs."""
    columns = [one.tobytes() for one in part.columns.values()]
    data = encode((tuple(part.columns), columns, list(part.counts)))
    return Block(part.start, len(part.counts), zlib.compress(data, 1))


class Held(NamedTuple):
    """A ring at one moment; for any thread."""

    blocks: tuple[Block, ...]
    open: Part

    def parts(self) -> Iterator[Part]:
        for block in self.blocks:
            yield unpack(block)
        if self.open.counts:
            yield self.open

    def packed(self) -> list[Block]:
        """All of it, packed."""
        return [*self.blocks, pack(self.open)] if self.open.counts else list(self.blocks)


class Ring:
    """`names` are its columns, beside LEAD; `phase` spreads the packing of many rings over time."""

    __slots__ = ("_columns", "_counts", "_names", "_phase", "_start", "blocks", "last", "recent")

    def __init__(self, names: tuple[str, ...], phase: int = 0) -> None:
        self._names = (*LEAD, *names)
        self._phase = phase % BLOCK
        self._start = 0
        self._columns = [array("d") for _ in self._names]
        self._counts: list[bytes] = []
        self.blocks: deque[Block] = deque()
        self.recent: deque[tuple[int, bytes]] = deque(maxlen=RECENT)
        """(Unix second, counts) of the last seconds in which something was counted."""
        self.last = 0
        """The newest second."""

    def __repr__(self) -> str:
        return f"<Ring {self.first} to {self.last}, {len(self.blocks)} blocks>"

    @property
    def first(self) -> int:
        """The oldest second; 0: it is empty."""
        return self.blocks[0].start if self.blocks else self._start

    def put(self, second: int, values: Sequence[float], counts: bytes, counted: float = 1.0) -> None:
        """Of one Unix second; `values` in the order of the names, `counted`: seconds that `counts` covers."""
        place = second - self._start
        length = len(self._counts)
        if not length:
            self._start, place = second, 0
        elif place < length or place >= BLOCK:  # the clock was set back, or it was away for long
            self._close()
            self._start, place = second, 0
        for _ in range(place - len(self._counts)):
            for column in self._columns:
                column.append(NAN)
            self._counts.append(b"")
        columns = self._columns
        columns[0].append(1.0)
        columns[1].append(counted)
        for index, value in enumerate(values, 2):
            columns[index].append(value)
        self._counts.append(counts)
        if counts:
            self.recent.append((second, counts))
        self.last = second
        if (second + self._phase) % BLOCK == BLOCK - 1:
            self._close()

    def held(self) -> Held:
        """Its seconds as they are now; some microseconds."""
        columns = {name: one[:] for name, one in zip(self._names, self._columns, strict=True)}
        return Held(tuple(self.blocks), Part(self._start, columns, tuple(self._counts)))

    def forget(self, before: int) -> bool:
        """Let go of blocks that ended before; whether something is left."""
        while self.blocks and self.blocks[0].start + self.blocks[0].length <= before:
            self.blocks.popleft()
        return bool(self.blocks) or (bool(self._counts) and self.last > before)

    def size(self) -> int:
        """Bytes of what it holds, about."""
        packed = sum(len(block.data) + 120 for block in self.blocks)
        return packed + sum(len(one) * 8 + 64 for one in self._columns) + sum(len(one) + 41 for one in self._counts)

    def _close(self) -> None:
        if self._counts:
            held = dict(zip(self._names, self._columns, strict=True))
            self.blocks.append(pack(Part(self._start, held, self._counts)))
            self._columns = [array("d") for _ in self._names]
            self._counts = []
            while len(self.blocks) > 2 * KEEP // BLOCK:  # a clock that jumps about makes many short ones
                self.blocks.popleft()
