"""JSON of large values, made piece by piece: encoding all at once would hold the interpreter, and control's loop with
it, for tens of milliseconds. For a thread."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

import msgspec

from proxy.link.session import Input, Known

CHUNK: Final = 100
"""Items of a list that are encoded at once: a millisecond for the largest kinds."""
REST: Final = 0.0002

_encode: Final = msgspec.json.Encoder().encode


def of_input(given: Input) -> bytes:
    return b"".join(_struct(given))


def of_known(known: Known) -> bytes:
    return b"".join(_struct(known))


def _struct(value: Input | Known) -> Iterator[bytes]:
    mark = b"{"
    for name in value.__struct_fields__:
        yield mark + _encode(name) + b":"
        field = getattr(value, name)
        if isinstance(field, Known):
            yield from _struct(field)
        elif isinstance(field, list) and len(field) > CHUNK:
            yield from _list(field)
        elif isinstance(field, dict) and len(field) > 1:
            yield from _dict(field)
        else:
            yield _encode(field)
        mark = b","
        time.sleep(REST)
    yield b"}"


def _list(value: list[object]) -> Iterator[bytes]:
    mark = b"["
    for at in range(0, len(value), CHUNK):
        yield mark + _encode(value[at : at + CHUNK])[1:-1]
        mark = b","
        time.sleep(REST)
    yield b"]"


def _dict(value: dict[str, object]) -> Iterator[bytes]:
    mark = b"{"
    for key, one in value.items():
        yield mark + _encode(key) + b":" + _encode(one)
        mark = b","
        time.sleep(REST)
    yield b"}"
