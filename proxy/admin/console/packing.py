"""The process that packs a folder into a zip, or unpacks one over a folder: `python -m proxy.admin.console.packing`.

A process of its own, so that neither a zip made to take all memory or time, nor a disk that hangs, is control's
trouble. Standard library only; what it is to do comes as JSON on its input: see `Task`.

Always true:
  - each step below the folder is by descriptor, and none is a link;
  - packing follows no link, and opens nothing but plain files; what is left out is listed in the zip itself;
  - unpacking looks at every name first, then writes all content beside under numbers, and only when all of it is whole
    and within the limits gives it its place: whatever fails before that has changed nothing.

It is longer than most modules: one file is all that the process is.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import secrets
import signal
import stat
import sys
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, Any, Final, NoReturn, TypedDict, cast

MOST_ENTRIES: Final = 20_000
"""Files and folders of one zip; the list of a zip is in memory as a whole."""
DEEPEST: Final = 32
MOST_LISTED: Final = 8 << 20
"""Bytes of a zip's list: 400 for each entry."""
RATIO: Final = 200
"""Unpacked to packed size, beyond SMALL: logs and dumps of text stay below 100."""
SMALL: Final = 100 << 20
MEMORY: Final = 1 << 30
ROOM: Final = 100_000_000
"""That stays free on the disk, as transfer.ROOM."""
PIECE: Final = 1 << 18
STAGING: Final = b".triage-unzip-"
LEFT_OUT: Final = "triage-left-out.txt"
MOST_TOLD: Final = 1000
PR_SET_PDEATHSIG: Final = 1
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Task(TypedDict):
    """`folder` and `archive` are descriptors that this process inherits."""

    act: str
    """pack or unpack"""
    folder: int
    archive: int
    """of the zip to unpack"""
    most: int
    """bytes, unpacked, in total"""
    closed: list[list[int]]
    """device and inode of what is neither read nor written"""
    prefix: str
    """of the names in a packed zip"""


class Refused(Exception):
    """`kind` is a slug, `status` of HTTP."""

    def __init__(self, status: int, kind: str, title: str, detail: str = "", hint: str = "") -> None:
        super().__init__(title)
        self.said = {"status": status, "kind": kind, "title": title, "detail": detail, "hint": hint}


def shown(name: bytes) -> str:
    """For people."""
    return "".join(one if one.isprintable() else "\ufffd" for one in name.decode("utf-8", "replace"))


# --- packing -----------------------------------------------------------------------------------------------


class Packer:
    """Writes a zip of a folder to standard output."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.closed = {(one[0], one[1]) for one in task["closed"]}
        self.left_out: list[str] = []
        self.more = 0

    def run(self) -> None:
        """Refused only before anything was written."""
        size = 0
        for entries, (_, _, seen) in enumerate(self._walk(self.task["folder"], b"", 0, quiet=True), 1):
            size += seen.st_size if stat.S_ISREG(seen.st_mode) else 0
            if entries > MOST_ENTRIES:
                raise Refused(413, "too-many-files", "There is too much in this folder",
                              f"More than {MOST_ENTRIES:,} files and folders.", "Take its folders one by one.")
            if size > self.task["most"]:
                raise Refused(413, "too-large", "This folder is too large for one zip",
                              f"More than {self.task['most']:,} bytes, as admin.upload says.",
                              "Take its folders one by one.")
        with zipfile.ZipFile(cast(IO[bytes], _Out()), "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made:
            for fd, name, seen in self._walk(self.task["folder"], b"", 0, quiet=False):
                self._add(made, fd, name, seen)
            if self.left_out:
                more = [f"… and {self.more} more"] if self.more else []
                made.writestr(self.task["prefix"] + LEFT_OUT, "\n".join([*self.left_out, *more]) + "\n")

    def _walk(self, fd: int, above: bytes, depth: int, *, quiet: bool) -> Iterator[tuple[int, bytes, os.stat_result]]:
        """Folder's descriptor, path, and what is there: folders before what is in them."""
        with os.scandir(fd) as entries:
            for entry in entries:
                name = os.fsencode(entry.name)
                path = above + name
                try:
                    seen = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                if reason := self._unfit(seen, depth):
                    if not quiet:
                        self._leave_out(path, reason)
                    continue
                yield fd, path, seen
                if stat.S_ISDIR(seen.st_mode):
                    try:
                        below = os.open(name, _FOLDER, dir_fd=fd)
                    except OSError as error:
                        if not quiet:
                            self._leave_out(path, str(error.strerror))
                        continue
                    try:
                        yield from self._walk(below, path + b"/", depth + 1, quiet=quiet)
                    finally:
                        os.close(below)

    def _unfit(self, seen: os.stat_result, depth: int) -> str:
        if (seen.st_dev, seen.st_ino) in self.closed:
            return "Triage's own"
        if stat.S_ISLNK(seen.st_mode):
            return "a link"
        if not stat.S_ISREG(seen.st_mode) and not stat.S_ISDIR(seen.st_mode):
            return "a device, a pipe or a socket"
        return "too deep" if depth > DEEPEST else ""

    def _leave_out(self, path: bytes, reason: str) -> None:
        if len(self.left_out) < MOST_TOLD:
            self.left_out.append(f"{shown(path)}: {reason}")
        else:
            self.more += 1

    def _add(self, made: zipfile.ZipFile, fd: int, path: bytes, seen: os.stat_result) -> None:
        text = self.task["prefix"] + path.decode("utf-8", "backslashreplace")
        year = min(2107, max(1980, time.localtime(seen.st_mtime)[0]))
        moment = (year, *time.localtime(seen.st_mtime)[1:6])
        info = zipfile.ZipInfo(text, moment)
        info.external_attr = (seen.st_mode & 0o170777) << 16
        if stat.S_ISDIR(seen.st_mode):
            info.filename += "/"
            info.external_attr |= 0x10
            made.writestr(info, b"")
            return
        info.compress_type = zipfile.ZIP_DEFLATED
        try:
            known = os.open(path.rpartition(b"/")[2], os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            try:
                now = os.fstat(known)
                if not stat.S_ISREG(now.st_mode) or (now.st_dev, now.st_ino) in self.closed:
                    self._leave_out(path, "it became something else")
                    return
                source = os.open(f"/proc/self/fd/{known}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            finally:
                os.close(known)
        except OSError as error:
            self._leave_out(path, str(error.strerror))
            return
        try:
            left = now.st_size  # no more than it had: a log that grows while it is read would never end
            with made.open(info, "w", force_zip64=left > 1 << 30) as out:
                while left > 0 and (data := os.read(source, min(PIECE, left))):
                    out.write(data)
                    left -= len(data)
        except OSError as error:
            self._leave_out(path, f"not whole: {error.strerror}")
        finally:
            os.close(source)


class _Out:
    """Standard output as zipfile wants it: written, never sought."""

    def write(self, data: bytes) -> int:
        view = memoryview(data)
        while view:
            view = view[os.write(1, view) :]
        return len(data)

    def flush(self) -> None:
        pass


# --- unpacking ---------------------------------------------------------------------------------------------


class _Archive:
    """A zip's file, of which no one read can be made to take all memory."""

    def __init__(self, fd: int) -> None:
        self._file = os.fdopen(fd, "rb")
        self.seek, self.tell, self.seekable = self._file.seek, self._file.tell, self._file.seekable

    def read(self, size: int = -1) -> bytes:
        if size > MOST_LISTED:
            raise zipfile.BadZipFile("its list is too long")
        data = self._file.read(MOST_LISTED + 1 if size < 0 else size)
        if len(data) > MOST_LISTED:
            raise zipfile.BadZipFile("its list is too long")
        return data


class Unpacker:
    """Unpacks a zip over a folder. Deletes nothing."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.folder = task["folder"]
        self.closed = {(one[0], one[1]) for one in task["closed"]}
        self.plan: list[tuple[tuple[bytes, ...], zipfile.ZipInfo]] = []
        self.staging = -1
        self.name = STAGING + secrets.token_hex(8).encode()
        self.placed = self.replaced = self.folders = self.bytes = 0

    def run(self) -> dict[str, Any]:
        """What was done. Raises Refused."""
        try:
            archive = zipfile.ZipFile(_Archive(self.task["archive"]))
        except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError, EOFError, UnicodeError) as error:
            raise _bad(str(error)) from None
        self._look(archive)
        try:
            os.mkdir(self.name, 0o700, dir_fd=self.folder)
            self.staging = os.open(self.name, _FOLDER, dir_fd=self.folder)
            files = [(names, info) for names, info in self.plan if not info.is_dir()]
            for number, (names, info) in enumerate(files):
                self._unpack(archive, number, names, info)
            self._try()
            self._place(files)
        except OSError as error:
            raise self._failed(error) from None
        finally:
            try:
                self._clean()
            except SystemExit:  # told to end in the middle of it; that comes once (`_ended`)
                self._clean()
                raise
        return {
            "files": self.placed, "replaced": self.replaced, "folders": self.folders, "bytes": self.bytes,
        }  # fmt: skip

    # --- names and sizes, before anything is done

    def _look(self, archive: zipfile.ZipFile) -> None:
        entries = archive.infolist()
        if len(entries) > MOST_ENTRIES:
            raise Refused(413, "too-many-files", "There is too much in this zip",
                          f"{len(entries):,} entries; {MOST_ENTRIES:,} are taken.")
        seen: dict[tuple[bytes, ...], bool] = {}
        total = packed = 0
        for info in entries:
            names = self._names(info)
            folder = info.is_dir()
            if not names and folder:
                continue  # "./"
            if not names:
                raise _entry(info, "has no name")
            if names in seen and not (folder and seen[names]):
                raise _entry(info, "stands there twice")
            seen[names] = folder
            total += info.file_size
            packed += info.compress_size
            self.plan.append((names, info))
        above = {names[:depth] for names in seen for depth in range(1, len(names))}
        for names, folder in seen.items():
            if not folder and names in above:
                raise Refused(422, "bad-zip", "This zip is not unpacked",
                              f"{shown(b'/'.join(names))} is a file and a folder in it.")
        self._within(total, packed)

    def _names(self, info: zipfile.ZipInfo) -> tuple[bytes, ...]:
        text = info.orig_filename
        if "\0" in text:
            raise _entry(info, "has a NUL in its name")
        if info.flag_bits & 0x41:
            raise _entry(info, "is encrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _entry(info, "is packed in a way that is not taken: stored and deflated are")
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind and kind not in (stat.S_IFREG, stat.S_IFDIR):
            raise _entry(info, "is a link, a device or a pipe: plain files and folders are unpacked")
        text = text.replace("\\", "/")  # as zips of Windows have it
        info.filename = text  # is_dir looks at it
        if text.startswith("/") or (len(text) > 1 and text[1] == ":"):
            raise _entry(info, "has an absolute path")
        try:
            names = tuple(os.fsencode(step) for step in text.rstrip("/").split("/"))
        except UnicodeError:
            raise _entry(info, "has a name that is no text") from None
        names = tuple(name for name in names if name != b".")
        if len(names) > DEEPEST:
            raise _entry(info, f"is deeper than {DEEPEST} folders")
        for name in names:
            if name in (b"", b"..") or len(name) > 255:
                raise _entry(info, "leads out of the folder, or has a step that is no name")
            if any(byte < 0x20 or byte == 0x7F for byte in name):
                raise _entry(info, "has control characters in its name")
        return names

    def _within(self, total: int, packed: int) -> None:
        """Raises Refused where that is too much. `packed` 0: not known."""
        if total > self.task["most"]:
            raise Refused(413, "too-large", "Unpacked, this zip is too large",
                          f"Over {self.task['most']:,} bytes.", "admin.upload says how much is taken.")
        if total > SMALL and packed and total > RATIO * packed:
            raise Refused(422, "zip-bomb", "This zip is not unpacked",
                          f"It would become more than {RATIO} times as large, as zips do that are made to fill disks.")
        disk = os.fstatvfs(self.folder)
        if disk.f_bavail * disk.f_frsize - (total - self.bytes) < ROOM:
            raise Refused(507, "no-room", "There is no room on the disk for what is in this zip",
                          f"{ROOM:,} bytes stay free.")

    # --- content, beside

    def _unpack(self, archive: zipfile.ZipFile, number: int, names: tuple[bytes, ...], info: zipfile.ZipInfo) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(str(number), flags, 0o600, dir_fd=self.staging)
        try:
            with archive.open(info) as source:
                size = 0
                while data := source.read(PIECE):
                    size += len(data)
                    self.bytes += len(data)
                    if size > info.file_size:
                        raise _entry(info, "is larger than it says")
                    if self.bytes % (64 * PIECE) < PIECE:
                        self._within(self.bytes, 0)
                    view = memoryview(data)
                    while view:
                        view = view[os.write(fd, view) :]
            if size != info.file_size:
                raise _entry(info, "is smaller than it says")
        except OSError:
            raise
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, NotImplementedError) as error:
            raise _entry(info, f"cannot be unpacked: {str(error)[:200]}") from None
        finally:
            os.close(fd)

    # --- into place

    def _try(self) -> None:
        """That each could have its place. Raises Refused: then nothing was changed."""
        for names, info in self.plan:
            fd = self._descend(names[:-1], make=False)
            if fd is None:
                continue  # its folder is yet to be made, so nothing is in the way
            try:
                found = os.stat(names[-1], dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:
                continue
            finally:
                os.close(fd)
            if (found.st_dev, found.st_ino) in self.closed:
                raise Refused(403, "closed", f"{shown(b'/'.join(names))} is Triage's own")
            if stat.S_ISDIR(found.st_mode) != info.is_dir() or not (
                stat.S_ISDIR(found.st_mode) or stat.S_ISREG(found.st_mode)
            ):
                raise Refused(409, "in-the-way", f"{shown(b'/'.join(names))} is there, and is something else",
                              "A link, or a folder where the zip has a file, or the other way round.")

    def _place(self, files: list[tuple[tuple[bytes, ...], zipfile.ZipInfo]]) -> None:
        for names, info in self.plan:
            if info.is_dir():
                fd = self._descend(names, make=True)
                assert fd is not None
                os.close(fd)
        for number, (names, info) in enumerate(files):
            fd = self._descend(names[:-1], make=True)
            assert fd is not None
            try:
                self._give(number, fd, names[-1], info)
            finally:
                os.close(fd)

    def _give(self, number: int, fd: int, name: bytes, info: zipfile.ZipInfo) -> None:
        """One file its place, at once; mode and owner are those of what was there."""
        whose, mode, there = os.fstat(fd), (info.external_attr >> 16) & 0o777 or 0o644, False
        try:
            found = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            pass
        else:
            if not stat.S_ISREG(found.st_mode) or (found.st_dev, found.st_ino) in self.closed:
                raise OSError(errno.EEXIST, "it became something else")
            whose, mode, there = found, stat.S_IMODE(found.st_mode) & 0o777, True
        staged = os.open(str(number), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.staging)
        try:
            if os.geteuid() == 0:
                os.fchown(staged, whose.st_uid, whose.st_gid)
            os.fchmod(staged, mode)
        finally:
            os.close(staged)
        os.rename(str(number), name, src_dir_fd=self.staging, dst_dir_fd=fd)
        self.placed += 1
        self.replaced += there

    def _descend(self, names: tuple[bytes, ...], *, make: bool) -> int | None:
        """Descriptor of the folder; None: it is not there yet. Raises Refused, OSError."""
        at = os.dup(self.folder)
        try:
            for depth, name in enumerate(names, 1):
                try:
                    below = os.open(name, _FOLDER, dir_fd=at)
                except FileNotFoundError:
                    if not make:
                        os.close(at)
                        return None
                    below = self._make(at, name)
                except OSError as error:
                    if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                        raise
                    raise Refused(409, "in-the-way", f"{shown(b'/'.join(names[:depth]))} is there, and no folder",
                                  "It is a link or a file; nothing is unpacked through it.") from None
                os.close(at)
                at = below
                found = os.fstat(at)
                if (found.st_dev, found.st_ino) in self.closed:
                    raise Refused(403, "closed", f"{shown(b'/'.join(names[:depth]))} is Triage's own")
            return at
        except BaseException:
            with suppress(OSError):
                os.close(at)
            raise

    def _make(self, at: int, name: bytes) -> int:
        os.mkdir(name, 0o755, dir_fd=at)
        self.folders += 1
        fd = os.open(name, _FOLDER, dir_fd=at)
        if os.geteuid() == 0:
            above = os.fstat(at)
            os.fchown(fd, above.st_uid, above.st_gid)
        return fd

    # --- the end

    def _failed(self, error: OSError) -> Refused:
        done = f" {self.placed:,} files had their place by then." if self.placed else " Nothing was changed."
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return Refused(507, "no-room", "There is no room on the disk for what is in this zip", done.strip())
        return Refused(409, "not-unpacked", "The zip could not be unpacked", f"{error.strerror}.{done}")

    def _clean(self) -> None:
        """By its name, as it may have been made and not opened yet. Can be done twice."""
        with suppress(OSError):
            staging = os.open(self.name, _FOLDER, dir_fd=self.folder)
            for name in os.listdir(staging):
                os.unlink(name, dir_fd=staging)
            os.rmdir(self.name, dir_fd=self.folder)


def _bad(text: str) -> Refused:
    return Refused(422, "bad-zip", "This is no zip that can be read", text[:200])


def _entry(info: zipfile.ZipInfo, text: str) -> Refused:
    name = "".join(one if one.isprintable() else "\ufffd" for one in info.orig_filename[:200])
    return Refused(422, "bad-zip", "This zip is not unpacked", f"{name!r} {text}.")


# --- the process -------------------------------------------------------------------------------------------


def _ended(number: int, frame: object) -> NoReturn:
    signal.signal(number, signal.SIG_IGN)
    raise SystemExit(128 + number)


def main() -> int:
    """0: done. 3: refused, and standard error says why in JSON."""
    signal.signal(signal.SIGTERM, _ended)
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    task: Task = json.load(sys.stdin)
    try:
        if task["act"] == "pack":
            Packer(task).run()
        else:
            print(json.dumps(Unpacker(task).run()))
    except Refused as refused:
        print(json.dumps(refused.said), file=sys.stderr)
        return 3
    except MemoryError:
        said = Refused(422, "zip-bomb", "This zip takes too much memory").said
        print(json.dumps(said), file=sys.stderr)
        return 3
    except BrokenPipeError:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
