"""A file sent out, whole or a range of it; content taken in, to a temporary file.

Always true:
  - a file's content is always to be saved, never shown: it comes from the same address as the dashboard;
  - only one piece of a file is in memory, and the next is read when that was taken;
  - what comes in is bounded in size, leaves ROOM on the disk, and comes steadily; nothing of it stays otherwise.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import formatdate
from typing import Final
from urllib.parse import quote

from aiohttp import web

from proxy import units
from proxy.admin.console import items, walk
from proxy.admin.console.desk import Descriptor, Desk
from proxy.admin.console.walk import Path
from proxy.admin.errors import ApiProblem

PIECE: Final = 1 << 18
STUCK: Final = 30.0
"""Seconds in which a client takes or sends nothing."""
WITHIN: Final = 4 * units.HOURS
"""Seconds for one file, in either direction."""
ROOM: Final = 100 * units.MB
"""That stays free on a disk: the app may need it more."""
POLICY: Final = "default-src 'none'; sandbox; frame-ancestors 'none'"
TEMPORARY: Final = b".triage-upload-"
_RANGE: Final = re.compile(r"bytes=[ \t]*(\d{0,18})-(\d{0,18})[ \t]*", re.ASCII)
_TAGS: Final = re.compile(r'[ \t]*(?:W/)?("[^"\x00-\x20\x7f]*")[ \t]*(?:,|$)')
_TEXTS: Final = ("text/", "application/json", "application/xml", "application/javascript", "image/svg")
_SHOWN: Final = ("image/png", "image/jpeg", "image/gif", "image/webp", "application/zip", "application/gzip",
                 "application/pdf")  # fmt: skip


# --- out ---------------------------------------------------------------------------------------------------


async def send(
    request: web.Request, desk: Desk, path: Path, file: Descriptor, seen: os.stat_result
) -> web.StreamResponse:
    """The file, a range of it, or that it has not changed. Closes it."""
    try:
        tag = walk.etag(seen)
        headers = {"ETag": tag, "Last-Modified": formatdate(int(seen.st_mtime), usegmt=True), "Accept-Ranges": "bytes"}
        if (given := request.headers.get("If-None-Match")) is not None and (given.strip() == "*" or tag in tags(given)):
            return web.Response(status=304, headers=headers)
        if (given := request.headers.get("If-Match")) is not None and given.strip() != "*" and tag not in strong(given):
            raise changed(path, tag)
        part = _part(request, seen.st_size, tag)
        headers |= {
            "Content-Type": _type(path.names[-1]), "Content-Disposition": disposition(path.names[-1]),
            "Content-Security-Policy": POLICY, "Content-Length": str(part[1] - part[0] if part else seen.st_size),
        }  # fmt: skip
        if part:
            headers["Content-Range"] = f"bytes {part[0]}-{part[1] - 1}/{seen.st_size}"
        response = web.StreamResponse(status=206 if part else 200, headers=headers)
        with desk.transfer():
            await response.prepare(request)
            with cut(request):
                if request.method != "HEAD":
                    await _pieces(response, desk, file, *(part or (0, seen.st_size)))
                await response.write_eof()
        return response
    finally:
        file.close()


@contextmanager
def cut(request: web.Request) -> Iterator[None]:
    """What fails once the answer has begun ends its connection, so that nobody takes it for whole."""
    try:
        yield
    except (ApiProblem, TimeoutError) as error:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError(f"the answer broke off: {error}") from None


async def _pieces(response: web.StreamResponse, desk: Desk, file: Descriptor, at: int, end: int) -> None:
    async with asyncio.timeout(WITHIN):
        while at < end:
            data = await file.use(desk, lambda fd, at=at: os.pread(fd, min(PIECE, end - at), at))  # type: ignore[misc]
            if not data:
                raise ConnectionError("the file became shorter")  # cut, so that nobody takes it for whole
            at += len(data)
            async with asyncio.timeout(STUCK):
                await response.write(data)


def _part(request: web.Request, size: int, tag: str) -> tuple[int, int] | None:
    """Which bytes are asked for, from and to; None: all. One range only: several at once are answered with all."""
    text = request.headers.get("Range")
    if text is None or (match := _RANGE.fullmatch(text)) is None or not (match[1] or match[2]):
        return None
    if (wanted := request.headers.get("If-Range")) is not None and wanted.strip() != tag:
        return None
    if not match[1]:
        first, end = max(0, size - int(match[2])), size
    else:
        first, end = int(match[1]), min(size, int(match[2]) + 1) if match[2] else size
        if match[2] and int(match[2]) < int(match[1]):
            return None  # no range at all: RFC 9110, 14.1.1
    if first >= end:
        raise ApiProblem(
            416, "no-such-range", "The file has no such bytes", f"It has {size:,}.",
            headers={"Content-Range": f"bytes */{size}"},
        )  # fmt: skip
    return first, end


def tags(text: str) -> set[str]:
    """Of If-None-Match, which compares weakly."""
    return {match[1] for match in _TAGS.finditer(text)}


def strong(text: str) -> set[str]:
    """Of If-Match, for which a weak one is none."""
    return {match[1] for match in _TAGS.finditer(text) if "W/" not in match[0]}


def changed(path: Path, tag: str) -> ApiProblem:
    """What is there is not what was meant."""
    return ApiProblem(
        412, "changed", f"{path.shown} is another by now", f"Its tag is {tag}." if tag else "It is not there any more.",
        "Look at it again; If-Match: * does it whatever is there.", headers={"ETag": tag} if tag else {},
    )  # fmt: skip


def disposition(name: bytes, suffix: str = "") -> str:
    """To be saved by this name. Nothing in it can end the field or begin another."""
    text = walk.shown(name) + suffix
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", text)
    exact = quote(name, safe="") + suffix
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{exact}"


def _type(name: bytes) -> str:
    """What runs in a browser is text there."""
    found = items.mime(name)
    if found.startswith(_TEXTS):
        return "application/json" if found == "application/json" else "text/plain; charset=utf-8"
    return found if found in _SHOWN else "application/octet-stream"


# --- in ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Taken:
    """Content in a temporary file. `name` is "" while it has none: then it goes with its descriptor."""

    file: Descriptor
    name: bytes = b""
    size: int = 0

    def close(self) -> None:
        """Of one that came too late to be wanted."""
        self.file.close()


async def take(request: web.Request, desk: Desk, folder: Descriptor, path: Path, most: int) -> Taken:
    """The call's content, in a file beside what it is for. The caller ends it with `drop`. Raises ApiProblem."""
    check_head(request, path, most)
    expected = request.content_length or 0
    await folder.use(desk, lambda fd: _room(fd, path, expected))
    taken = await folder.use(desk, lambda at: _temporary(at, path))
    try:
        with desk.transfer():
            async with asyncio.timeout(WITHIN):
                await _read(request, desk, folder, path, taken, most)
    except TimeoutError:
        await drop(desk, folder, taken)
        raise _slow() from None
    except BaseException:
        await asyncio.shield(drop(desk, folder, taken))
        raise
    return taken


async def _read(request: web.Request, desk: Desk, folder: Descriptor, path: Path, taken: Taken, most: int) -> None:
    waiting = bytearray()
    checked = 0
    while True:
        try:
            async with asyncio.timeout(STUCK):
                data = await request.content.readany()
        except TimeoutError:
            raise _slow() from None
        waiting += data
        if taken.size + len(waiting) > most:
            raise too_large(path, most)
        if len(waiting) >= PIECE or (not data and waiting):
            piece, waiting = bytes(waiting), bytearray()
            await taken.file.use(desk, lambda fd, piece=piece: _write(fd, piece, path))  # type: ignore[misc]
            taken.size += len(piece)
            if taken.size - checked >= 64 * PIECE:
                checked = taken.size
                await folder.use(desk, lambda fd: _room(fd, path, 0))
        if not data and request.content.at_eof():
            return


def check_head(request: web.Request, path: Path, most: int) -> None:
    """What can be refused before any content came. Raises ApiProblem."""
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise ApiProblem(415, "encoded", "Encoded content is not taken", hint="Send it without Content-Encoding.")
    if "Content-Range" in request.headers:
        raise ApiProblem(400, "partial", "A part of a file cannot be written", hint="Send the whole of it.")
    if (request.content_length or 0) > most:
        raise too_large(path, most)


def too_large(path: Path, most: int) -> ApiProblem:
    return ApiProblem(
        413, "too-large", f"That is too large for {path.shown}", f"{units.size(most)} are taken.",
        "admin.upload says how much is.",
    )  # fmt: skip


def _slow() -> ApiProblem:
    return ApiProblem(408, "slow-content", "The content did not come in time",
                      f"Nothing for {STUCK:g} s, or not whole within {units.write_duration(WITHIN)}.",
                      headers={"Connection": "close"})  # fmt: skip


def _room(fd: int, path: Path, more: int) -> None:
    """Raises ApiProblem where the disk would be too full with so many bytes more."""
    disk = os.fstatvfs(fd)
    free = disk.f_bavail * disk.f_frsize
    if free - more < ROOM:
        raise ApiProblem(
            507, "no-room", f"There is no room on the disk of {path.root.name}",
            f"{units.size(free)} are free, of which {units.size(ROOM)} stay free.",
        )  # fmt: skip


def _temporary(fd: int, path: Path) -> Taken:
    """A new file in this folder: without a name, where the disk can have that."""
    flags = os.O_RDWR | os.O_CLOEXEC
    with suppress(OSError):
        return Taken(Descriptor(os.open(".", flags | os.O_TMPFILE, 0o600, dir_fd=fd)))
    name = TEMPORARY + secrets.token_hex(8).encode()
    with walk.told(path):
        made = os.open(name, flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=fd)
        return Taken(Descriptor(made), name)


def _write(fd: int, data: bytes, path: Path) -> None:
    view = memoryview(data)
    with walk.told(path):
        while view:
            view = view[os.write(fd, view) :]


async def drop(desk: Desk, folder: Descriptor, taken: Taken) -> None:
    """It is not wanted any more, or has its place."""
    name, taken.name = taken.name, b""
    taken.file.close()
    if name:
        with suppress(ApiProblem, OSError):
            await folder.use(desk, lambda fd: os.unlink(name, dir_fd=fd))


def put(folder: int, taken: Taken, fd: int, path: Path, old: os.stat_result | None, mode: int) -> os.stat_result:
    """Give a whole temporary file its place, at once, in a thread. `old` is what it takes the place of.

    Without `old` nothing may be there: FileExistsError."""
    name = path.names[-1]
    whose = old or os.fstat(folder)
    if os.geteuid() == 0:
        os.fchown(fd, whose.st_uid, whose.st_gid)
    os.fchmod(fd, stat.S_IMODE(old.st_mode) & 0o777 if old is not None else mode)
    os.fsync(fd)
    if old is None:
        _link(folder, taken, fd, name)
    else:
        if not taken.name:
            made = TEMPORARY + secrets.token_hex(8).encode()
            os.link(f"/proc/self/fd/{fd}", made, dst_dir_fd=folder, follow_symlinks=True)
            taken.name = made
        os.rename(taken.name, name, src_dir_fd=folder, dst_dir_fd=folder)
        taken.name = b""
    os.fsync(folder)
    return os.fstat(fd)


def _link(folder: int, taken: Taken, fd: int, name: bytes) -> None:
    """Only where nothing is: link(2) replaces nothing, as rename(2) would."""
    os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=folder, follow_symlinks=True)
    if taken.name:
        os.unlink(taken.name, dir_fd=folder)
        taken.name = b""
