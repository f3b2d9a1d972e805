"""The process that writes a bundle: `python -m proxy.admin.bundling` reads a plan from its input, writes a zip to its
output. A process of its own, so that packing and masking cost control nothing.

The plan is JSON: {"folder", "name", "memory", "documents": {name: value}, "logs": {name: path}}.

Always true:
  - every text goes through masking once more, whoever wrote it and whatever was masked in it already;
  - memory dumps, which hold all secrets of a process, are left out unless the plan says `memory`;
  - what cannot be read is named in `left-out.txt`; a bundle is never larger than MOST but for memory dumps.
"""

from __future__ import annotations

import json
import os
import sys
import zipfile
from collections.abc import Iterator
from typing import IO, Any, BinaryIO, Final

from proxy import masking

MOST: Final = 200 * 1000**2
"""Bytes of what is packed, before packing."""
TAIL: Final = 1000**2
"""Bytes of a log's end."""
LINE: Final = 1 << 16
"""Characters of a line that are looked at at once; a longer one is cut there."""
WHOLE: Final = 32 * 1000**2
"""Bytes of a JSON file that is read as such; a larger one is masked as lines of text."""
CHUNK: Final = 1 << 18
DUMP: Final = "memory_dump"
TEXTS: Final = (".json", ".txt", ".log", ".html", ".svg", ".csv", ".md", ".folded", "")


class Writer:
    """Into one zip, as long as there is room."""

    def __init__(self, out: BinaryIO, name: str) -> None:
        self.zip = zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, allowZip64=True, compresslevel=3)
        self.name = name
        self.left = MOST
        self.left_out: list[str] = []

    def text(self, name: str, lines: Iterator[str]) -> None:
        """Lines with their ends, masked one by one."""
        with self.zip.open(self._entry(name), "w") as file:
            for line in lines:
                self._write(file, masking.text(line).encode("utf-8", "replace"))

    def document(self, name: str, value: Any) -> None:
        self.raw(name, json.dumps(masked(value), indent=1, ensure_ascii=False).encode("utf-8", "replace"))

    def raw(self, name: str, data: bytes) -> None:
        with self.zip.open(self._entry(name), "w") as file:
            self._write(file, data)

    def copy(self, name: str, source: BinaryIO, packed: bool) -> None:
        """As it is; of memory dumps, which are not counted."""
        entry = self._entry(name)
        if packed:
            entry.compress_type = zipfile.ZIP_STORED
        with self.zip.open(entry, "w", force_zip64=True) as file:
            while data := source.read(CHUNK):
                file.write(data)

    def _write(self, file: IO[bytes], data: bytes) -> None:
        if self.left < len(data):
            data = data[: max(0, self.left)]
        self.left -= len(data)
        file.write(data)

    def _entry(self, name: str) -> zipfile.ZipInfo:
        entry = zipfile.ZipInfo(f"{self.name}/{name}")
        entry.compress_type = zipfile.ZIP_DEFLATED
        entry.external_attr = 0o600 << 16
        return entry

    def close(self) -> None:
        if self.left <= 0:
            self.left_out.append(f"what came after the first {MOST:,} bytes")
        if self.left_out:
            self.left = max(self.left, 10_000)
            self.raw("left-out.txt", "".join(f"{line}\n" for line in self.left_out).encode("utf-8", "replace"))
        self.zip.close()


def masked(value: Any, name: str = "") -> Any:
    """JSON with each text in it masked, by its name and as text."""
    if isinstance(value, str):
        return masking.masked(name, value)
    if isinstance(value, dict):
        return {masking.text(key): masked(one, _own(key)) for key, one in value.items()}
    if isinstance(value, list):
        return [masked(one, name) for one in value]
    return value


NOT_SECRET: Final = frozenset({"key", "keys", "hash_key", "certainty", "key_file", "cert", "author", "authors"})
"""Names of our own shapes that only sound like those of secrets."""


def _own(name: str) -> str:
    return "" if name.lower() in NOT_SECRET else name


def pack(plan: dict[str, Any], out: BinaryIO) -> None:
    writer = Writer(out, plan["name"])
    for name, value in plan["documents"].items():
        if isinstance(value, str):
            writer.text(name, iter(value.splitlines(keepends=True)))
        else:
            writer.document(name, value)
    for name, path in plan["logs"].items():
        _guarded(writer, name, lambda name=name, path=path: writer.text(name, _tail(path)))
    for name in sorted(_files(plan["folder"])):
        path = os.path.join(plan["folder"], name)
        _guarded(writer, name, lambda name=name, path=path: _one(writer, name, path, plan["memory"]))
    writer.close()


def _guarded(writer: Writer, name: str, work: Any) -> None:
    try:
        work()
    except BrokenPipeError:
        raise  # who asked has left
    except OSError as error:
        writer.left_out.append(f"{name}: {error.strerror or error}")


def is_dump(name: str) -> bool:
    """Whether a session's file holds memory of a process, and so all its secrets."""
    return DUMP in name and not name.endswith((".json", ".txt"))


def _one(writer: Writer, name: str, path: str, memory: bool) -> None:
    suffix = os.path.splitext(name)[1]
    if is_dump(name):
        if not memory:
            writer.left_out.append(f"{name}: a memory dump, which holds all secrets of its process: memory=true")
            return
        with _plain(path) as file:
            writer.copy(f"session/{name}", file, packed=True)
    elif suffix == ".json" and os.path.getsize(path) <= WHOLE:
        with _plain(path) as file:
            data = file.read()
        try:
            value = json.loads(data)
        except ValueError:  # damaged: as it is, line by line
            writer.text(f"session/{name}", iter(data.decode(errors="replace").splitlines(keepends=True)))
        else:
            writer.document(f"session/{name}", value)
    elif suffix in TEXTS or suffix == ".json":
        with _plain(path) as file:
            writer.text(f"session/{name}", _lines(file))
    else:
        writer.left_out.append(f"{name}: what is in it cannot be masked")


def _plain(path: str) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")


def _files(folder: str) -> Iterator[str]:
    for path, _, names in os.walk(folder):
        for name in names:
            whole = os.path.join(path, name)
            if os.path.isfile(whole) and not os.path.islink(whole) and not name.endswith(".part"):
                yield os.path.relpath(whole, folder)


def _tail(path: str) -> Iterator[str]:
    with _plain(path) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - TAIL))
        if size > TAIL:
            file.readline()
        yield from _lines(file)


def _lines(file: BinaryIO) -> Iterator[str]:
    while line := file.readline(LINE):
        yield line.decode("utf-8", "replace")


def main() -> int:
    plan = json.loads(sys.stdin.buffer.read())
    os.nice(5)
    try:
        pack(plan, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        os._exit(1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
