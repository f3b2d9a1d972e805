"""Files and folders below the roots, as in Kudu's vfs: listed, read, written, made, removed.

Always true:
  - a file is replaced or removed only by who says which one is meant (If-Match), checked in the moment it is done;
  - it is replaced at once or not at all, and keeps its mode and owner.
"""

from __future__ import annotations

import os
import stat
import time
from typing import Final

from aiohttp import web

from proxy.admin import query
from proxy.admin.common import answer
from proxy.admin.console import items, roots, transfer, walk
from proxy.admin.console.desk import Descriptor, Desk, path_of, writable
from proxy.admin.console.roots import Closed
from proxy.admin.console.walk import Path
from proxy.admin.errors import ApiProblem
from proxy.admin.keys import GATEWAY

PREFIX: Final = "/api/v1/vfs/"
REMOVE_WITHIN: Final = 60.0
"""Seconds for a folder with all that is in it; what is left then is said."""
PLACE_WITHIN: Final = 300.0
"""Seconds for a whole file to reach the disk."""
NEW_FILE: Final = 0o644
NEW_FOLDER: Final = 0o755


async def listed(request: web.Request, desk: Desk) -> web.StreamResponse:
    """The roots."""
    known = roots.roots(request.app[GATEWAY])
    found = await desk.thread(lambda: items.of_roots(known))
    at, to, following = query.window(request, [one["id"] for one in found])
    return answer({"items": found[at:to], "next": following, "path": "", "writable": False})


async def get(request: web.Request, desk: Desk) -> web.StreamResponse:
    """A folder's items, or a file's content."""
    path = path_of(request, PREFIX)
    closed = await desk.closed()
    most, after = query.limit(request), items.cursor_of(request.query.get("cursor"))
    file, seen = (None, None) if path.folder else await desk.thread(lambda: _found(path, closed))
    if file is None or seen is None:
        found, following = await desk.thread(lambda: items.page(path, closed, most, after))
        return answer({
            "items": found, "next": walk.quoted(following) if following else None, "path": path.shown,
            "writable": path.root.writable,
        })  # fmt: skip
    if request.method == "GET" and "If-None-Match" not in request.headers and desk.first_read(request, path.shown):
        desk.note(request, f"read {path.shown}, {seen.st_size:,} bytes", path=path.shown, size=seen.st_size)
    return await transfer.send(request, desk, path, file, seen)


def _found(path: Path, closed: Closed) -> tuple[Descriptor | None, os.stat_result | None]:
    """The open file; none where it is a folder."""
    with walk.parent(path, closed) as fd:
        seen = walk.look(fd, path.names[-1], path, closed)
        if seen is None:
            raise walk.not_there(path)
        if stat.S_ISDIR(seen.st_mode):
            return None, None
        opened, seen = walk.file(fd, path.names[-1], path, closed)
        return Descriptor(opened), seen


async def put(request: web.Request, desk: Desk) -> web.StreamResponse:
    """A file's new content; or a new folder, where the path ends with a slash."""
    path = path_of(request, PREFIX)
    writable(path)
    closed = await desk.closed()
    if path.folder:
        return await _make_folder(request, desk, path, closed)
    if reason := walk.unfit_new(path.names[-1]):
        raise ApiProblem(400, "bad-path", "Nothing of this name is made", f"{path.shown}: {reason}.")
    folder = await desk.thread(lambda: Descriptor(walk.descend(path, path.names[:-1], closed)))
    try:
        await folder.use(desk, lambda fd: _may_replace(request, fd, path, closed))  # before 1 GB came for nothing
        taken = await transfer.take(request, desk, folder, path, desk.gateway.config.admin.upload)
        try:
            seen, made = await folder.use(
                desk, lambda fd: _place(request, desk, fd, path, closed, taken), taken.file, PLACE_WITHIN
            )
        finally:
            await transfer.drop(desk, folder, taken)
    finally:
        folder.close()
    what = "wrote" if made else "replaced"
    desk.note(request, f"{what} {path.shown}, {seen.st_size:,} bytes", path=path.shown, size=seen.st_size)
    shown = items.item(path, seen)
    response = answer(shown, 201 if made else 200)
    response.headers["ETag"] = shown["etag"]
    return response


def _may_replace(request: web.Request, fd: int, path: Path, closed: Closed) -> os.stat_result | None:
    """What is there now, if it may be replaced or removed as the call's conditions say. Raises ApiProblem."""
    seen = walk.look(fd, path.names[-1], path, closed)
    match, none = request.headers.get("If-Match"), request.headers.get("If-None-Match")
    if seen is None:
        if match is not None and request.method == "PUT":
            raise transfer.changed(path, "")
        return None
    tag = walk.etag(seen)
    if none is not None and (none.strip() == "*" or tag in transfer.tags(none)):
        raise ApiProblem(
            412, "there-already", f"{path.shown} is there already", headers={"ETag": tag} if walk.kind(seen) == "file"
            else {},
        )  # fmt: skip
    if request.method == "PUT" and not stat.S_ISREG(seen.st_mode):
        raise walk.not_plain(path, seen)
    if stat.S_ISDIR(seen.st_mode):
        raise walk.not_plain(path, seen)
    if match is None:
        raise ApiProblem(
            412, "which-one", f"{path.shown} is there already", f"Its tag is {tag}.",
            "Say which one is meant: If-Match with its tag, or * for whatever is there.", headers={"ETag": tag},
        )  # fmt: skip
    if match.strip() != "*" and tag not in transfer.strong(match):
        raise transfer.changed(path, tag)
    return seen


def _place(
    request: web.Request, desk: Desk, fd: int, path: Path, closed: Closed, taken: transfer.Taken
) -> tuple[os.stat_result, bool]:
    """What is there by now, and whether it was not there before."""
    with desk.replacing:
        old = _may_replace(request, fd, path, closed)
        try:
            with walk.told(path):
                return transfer.put(fd, taken, taken.file.fd, path, old, NEW_FILE), old is None
        except ApiProblem as problem:
            if problem.kind == "not-empty":  # EEXIST: it came a moment ago
                raise transfer.changed(path, "") from None
            raise


async def _make_folder(request: web.Request, desk: Desk, path: Path, closed: Closed) -> web.Response:
    if await request.content.read(1):
        raise ApiProblem(400, "folder-has-no-content", f"{path.shown} is a folder's path", "Content came with it.",
                         "A file's path ends without a slash.")  # fmt: skip
    if path.names and (reason := walk.unfit_new(path.names[-1])):
        raise ApiProblem(400, "bad-path", "Nothing of this name is made", f"{path.shown}: {reason}.")

    def make() -> tuple[os.stat_result, bool]:
        with walk.parent(path, closed) as fd:
            name = path.names[-1]
            seen = walk.look(fd, name, path, closed)
            if seen is not None:
                if not stat.S_ISDIR(seen.st_mode):
                    raise ApiProblem(409, "not-a-folder", f"{path.shown.rstrip('/')} is there, and no folder")
                return seen, False
            with walk.told(path):
                os.mkdir(name, NEW_FOLDER, dir_fd=fd)
                made = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            try:
                if os.geteuid() == 0:
                    above = os.fstat(fd)
                    os.fchown(made, above.st_uid, above.st_gid)
                return os.fstat(made), True
            finally:
                os.close(made)

    seen, made = await desk.thread(make)
    if made:
        desk.note(request, f"made the folder {path.shown}", path=path.shown)
    return answer(items.item(path, seen), 201 if made else 200)


async def delete(request: web.Request, desk: Desk) -> web.StreamResponse:
    """A file, a link itself, or a folder."""
    path, recursive = path_of(request, PREFIX), query.flag(request, "recursive")
    writable(path)
    closed = await desk.closed()
    if path.folder:
        left, gone = await desk.thread(lambda: _remove_folder(path, closed, recursive), REMOVE_WITHIN + 10)
        if gone:
            desk.note(request, f"removed {path.shown}, {gone:,} files and folders", path=path.shown, files=gone)
        if left:
            raise ApiProblem(409, "not-all-removed", f"Not all of {path.shown} is removed",
                             f"{gone:,} files and folders are; then: {left}", "Ask again to go on.")  # fmt: skip
        return web.Response(status=204)

    def remove() -> None:
        with walk.parent(path, closed) as fd, desk.replacing:
            if _may_replace(request, fd, path, closed) is None:
                raise walk.not_there(path)
            with walk.told(path):
                os.unlink(path.names[-1], dir_fd=fd)

    await desk.thread(remove)
    desk.note(request, f"removed {path.shown}", path=path.shown)
    return web.Response(status=204)


def _remove_folder(path: Path, closed: Closed, recursive: bool) -> tuple[str, int]:
    """Why something is left ("": nothing is), and how many went. Raises ApiProblem where nothing did."""
    with walk.parent(path, closed) as fd:
        name = path.names[-1]
        seen = walk.look(fd, name, path, closed)
        if seen is None:
            raise walk.not_there(path)
        if not stat.S_ISDIR(seen.st_mode):
            raise ApiProblem(409, "not-a-folder", f"{path.shown.rstrip('/')} is no folder",
                             hint="A file's path ends without a slash.")  # fmt: skip
        work = _Removing(seen.st_dev, closed)
        if recursive:
            if closed.data is not None and _holds(path, closed):
                raise walk.forbidden(path)
            work.empty(fd, name, 0)
            if work.left:
                return work.left, work.gone
        try:
            os.rmdir(name, dir_fd=fd)
        except OSError as error:
            if work.gone:
                return f"{path.shown}: {error.strerror}", work.gone
            with walk.told(path):
                raise
        return "", work.gone + 1


def _holds(path: Path, closed: Closed) -> bool:
    """Whether data_dir is somewhere below it."""
    with walk.opened(path, closed) as fd:
        own = os.fstat(fd)
    try:
        data = os.open(closed.folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return (own.st_dev, own.st_ino) in roots.above(data)
    finally:
        os.close(data)


class _Removing:
    """All that is in a folder, as far as it may be; below descriptors, so that no swapped link leads elsewhere."""

    def __init__(self, device: int, closed: Closed) -> None:
        self.device, self.closed = device, closed
        self.until = time.monotonic() + REMOVE_WITHIN
        self.gone = 0
        self.left = ""

    def empty(self, fd: int, name: bytes, depth: int) -> None:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            at = os.open(name, flags, dir_fd=fd)
        except OSError as error:
            self.left = f"{walk.shown(name)}: {error.strerror}"
            return
        try:
            own = os.fstat(at)
            if own.st_dev != self.device or self.closed.has(own):
                self.left = f"{walk.shown(name)} is another disk, or Triage's own"
            elif depth > 2 * walk.DEEPEST:
                self.left = f"{walk.shown(name)} is too deep"
            else:
                self._entries(at, depth)
        finally:
            os.close(at)

    def _entries(self, at: int, depth: int) -> None:
        with os.scandir(at) as entries:
            for entry in entries:
                name = os.fsencode(entry.name)
                if time.monotonic() > self.until:
                    self.left = f"it took over {REMOVE_WITHIN:g} s"
                if self.left:
                    return
                try:
                    seen = entry.stat(follow_symlinks=False)
                    if self.closed.has(seen):
                        self.left = f"{walk.shown(name)} is Triage's own"
                        return
                    if stat.S_ISDIR(seen.st_mode):
                        self.empty(at, name, depth + 1)
                        if not self.left:
                            os.rmdir(name, dir_fd=at)
                    else:
                        os.unlink(name, dir_fd=at)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    self.left = f"{walk.shown(name)}: {error.strerror}"
                    return
                self.gone += not self.left
