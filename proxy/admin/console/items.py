"""What a folder has, a page of it at a time, as the API shows it. For threads."""

from __future__ import annotations

import heapq
import mimetypes
import os
import stat
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote_to_bytes

from proxy.admin import query
from proxy.admin.console import walk
from proxy.admin.console.roots import Closed, Root
from proxy.admin.console.walk import Path
from proxy.admin.times import iso


def of_roots(roots: dict[str, Root]) -> list[dict[str, Any]]:
    """The list of all roots."""
    found = []
    for root in roots.values():
        path = Path(root, (), True)
        try:
            one = item(path, os.stat(root.folder))
        except OSError:
            one = {"id": root.name, "name": root.name, "kind": "folder", "size": 0, "mtime": None, "mime": "",
                   "mode": "", "etag": "", "target": "", "path": path.shown, "href": path.href}  # fmt: skip
        found.append({**one, "id": root.name, "name": root.name, "folder": root.folder, "writable": root.writable})
    return found


def page(path: Path, closed: Closed, most: int, after: bytes | None) -> tuple[list[dict[str, Any]], bytes | None]:
    """Items after that name, by name, and the last one's name if there are more. Raises ApiProblem.

    However many there are, no more than a page of them is kept."""
    with walk.opened(path, closed) as fd:
        with walk.told(path):
            with os.scandir(fd) as entries:
                names = heapq.nsmallest(most + 1, _later(entries, after))
        found = []
        for name in names[:most]:
            try:
                seen = os.stat(name, dir_fd=fd, follow_symlinks=False)
            except OSError:
                continue  # it went meanwhile
            if closed.has(seen):
                continue
            target = _target(fd, name) if stat.S_ISLNK(seen.st_mode) else ""
            found.append(item(path.at(name, folder=stat.S_ISDIR(seen.st_mode)), seen, target))
    return found, names[most - 1] if len(names) > most else None


def _later(entries: Iterator[os.DirEntry[str]], after: bytes | None) -> Iterator[bytes]:
    for entry in entries:
        name = os.fsencode(entry.name)
        if after is None or name > after:
            yield name


def item(path: Path, seen: os.stat_result, target: str = "") -> dict[str, Any]:
    """One of them. `id` is its name exactly, as a URL has it; `name` is for people."""
    kind = walk.kind(seen)
    name = path.names[-1] if path.names else path.root.name.encode()
    return {
        "id": walk.quoted(name), "name": walk.shown(name), "kind": kind,
        "size": seen.st_size if kind == "file" else 0, "mtime": iso(seen.st_mtime),
        "mime": mime(name) if kind == "file" else "", "mode": f"{stat.S_IMODE(seen.st_mode):04o}",
        "etag": walk.etag(seen) if kind in ("file", "link") else "", "target": target,
        "path": path.shown, "href": path.href,
    }  # fmt: skip


def mime(name: bytes) -> str:
    """By its name alone."""
    return mimetypes.guess_type(walk.shown(name))[0] or "application/octet-stream"


def _target(fd: int, name: bytes) -> str:
    try:
        return walk.shown(os.readlink(name, dir_fd=fd))
    except OSError:
        return ""


def cursor_of(text: str | None) -> bytes | None:
    """The name that a page begins after. Raises ApiProblem."""
    if text is None:
        return None
    name = unquote_to_bytes(text)
    if walk.unfit(name):
        raise query.bad("cursor", "It is not one of ours.", "Take it from `next` of the page before.")
    return name
