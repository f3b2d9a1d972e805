"""A way down from a root, by descriptors: no step of it is a link, whatever is swapped meanwhile. For threads.

Always true:
  - a name is one step: never empty, `.`, `..`, nor with a slash or a NUL in it, however it was written;
  - each step is opened below the descriptor of the one before, with O_NOFOLLOW;
  - a file is opened for its content only once it is known to be a plain one: a device is not touched, a pipe not
    waited for;
  - what `roots.Closed` has is refused on the way as well as at its end.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from proxy.admin.console.roots import Closed, Root, above
from proxy.admin.errors import ApiProblem

DEEPEST: Final = 64
"""Folders below a root."""
LONGEST: Final = 255
"""Bytes of a name, as Linux has it."""
_FOLDER: Final = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Path:
    """What a call names: `root/a/b`, or `root/a/` where it must be a folder."""

    root: Root
    names: tuple[bytes, ...]
    folder: bool  # it was written with a slash at its end

    @property
    def shown(self) -> str:
        """For people: what is not UTF-8 is replaced, what acts on a terminal too."""
        return "/".join([self.root.name, *map(shown, self.names)]) + ("/" if self.folder else "")

    @property
    def href(self) -> str:
        """Of the API, exact."""
        return "/api/v1/vfs/" + "/".join([quote(self.root.name), *map(quoted, self.names)]) + (
            "/" if self.folder else ""
        )

    def at(self, name: bytes, *, folder: bool) -> Path:
        """What is in it."""
        return Path(self.root, (*self.names, name), folder)


def shown(name: bytes) -> str:
    """A name for people and JSON."""
    return "".join(one if one.isprintable() else "\ufffd" for one in name.decode("utf-8", "replace"))


def quoted(name: bytes) -> str:
    """A name in a URL, exact."""
    return quote(name, safe="")


def parse(raw: str, roots: dict[str, Root]) -> Path:
    """`raw` is the rest of the request's path, as it came. Raises ApiProblem."""
    *steps, last = raw.split("/")
    names = [_name(step) for step in steps]
    if last:
        names.append(_name(last))
    root = roots.get(names[0].decode("utf-8", "replace")) if names else None
    if root is None:
        hint = f"Roots are: {', '.join(roots) or 'none; admin.roots names them'}."
        raise ApiProblem(404, "no-such-root", f"There is no root {shown(names[0])[:60]!r}" if names else "No root",
                         hint=hint)  # fmt: skip
    if len(names) - 1 > DEEPEST:
        raise ApiProblem(400, "bad-path", "The path is too deep", f"{DEEPEST} folders below a root are taken.")
    return Path(root, tuple(names[1:]), not last or len(names) == 1)


def _name(step: str) -> bytes:
    try:
        name = unquote_to_bytes(step.encode("utf-8", "surrogateescape"))
    except ValueError:
        name = b""
    if reason := unfit(name):
        raise ApiProblem(
            400, "bad-path", "This is no path below a root", f"{step[:100]!r}: {reason}.",
            "A path is ROOT/FOLDER/FILE, each step the name of what is there.",
        )  # fmt: skip
    return name


def unfit(name: bytes) -> str:
    """Why this is no step of a path; "" where it is one."""
    if name in (b"", b".", b".."):
        return "a step must be a name, not empty, . or .."
    if b"/" in name or b"\0" in name:
        return "a name has no slash and no NUL in it"
    if len(name) > LONGEST:
        return f"a name has {LONGEST} bytes at most"
    return ""


def unfit_new(name: bytes) -> str:
    """Why nothing of this name is made here; "" where it may be."""
    if reason := unfit(name):
        return reason
    if b"\\" in name:
        return "a backslash would be a folder elsewhere"
    if any(byte < 0x20 or byte == 0x7F for byte in name):
        return "control characters act on whoever lists it"
    return ""


@contextmanager
def opened(path: Path, closed: Closed) -> Iterator[int]:
    """Descriptor of the folder itself, to be listed. Raises ApiProblem."""
    fd = descend(path, path.names, closed)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def parent(path: Path, closed: Closed) -> Iterator[int]:
    """Descriptor of the folder that it is in. Raises ApiProblem."""
    if not path.names:
        raise ApiProblem(409, "is-root", f"{path.shown} is a root", "It is what the config names, and stays.")
    fd = descend(path, path.names[:-1], closed)
    try:
        yield fd
    finally:
        os.close(fd)


def descend(path: Path, names: tuple[bytes, ...], closed: Closed) -> int:
    """Descriptor of the folder at `names`, which the caller closes. Raises ApiProblem."""
    with told(path):
        at = os.open(path.root.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not path.root.own and closed.data is not None and closed.data in above(at):
            raise forbidden(path)
        for number, name in enumerate(names):
            with told(path):
                try:
                    below = os.open(name, os.O_RDONLY | _FOLDER, dir_fd=at)
                except PermissionError:
                    if number == len(names) - 1:
                        raise
                    below = os.open(name, os.O_PATH | _FOLDER, dir_fd=at)  # it may be passed, not listed
                except OSError as error:
                    if error.errno in (errno.ENOTDIR, errno.ELOOP):
                        raise _no_folder(path, at, name) from None
                    raise
            os.close(at)
            at = below
            if closed.has(os.fstat(at)):
                raise forbidden(path)
        return at
    except BaseException:
        os.close(at)
        raise


def look(fd: int, name: bytes, path: Path, closed: Closed) -> os.stat_result | None:
    """What is there, itself if it is a link; None: nothing is. Raises ApiProblem."""
    with told(path):
        try:
            found = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            return None
    if closed.has(found):
        raise forbidden(path)
    return found


def file(fd: int, name: bytes, path: Path, closed: Closed) -> tuple[int, os.stat_result]:
    """A plain file, open to be read. Raises ApiProblem."""
    with told(path):
        known = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
    try:
        found = os.fstat(known)
        if closed.has(found):
            raise forbidden(path)
        if not stat.S_ISREG(found.st_mode):
            raise not_plain(path, found)
        with told(path):  # this very file, by its descriptor: what the name stands for by now does not matter
            return os.open(f"/proc/self/fd/{known}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), found
    finally:
        os.close(known)


def kind(found: os.stat_result) -> str:
    """folder, file, link or other."""
    if stat.S_ISDIR(found.st_mode):
        return "folder"
    if stat.S_ISREG(found.st_mode):
        return "file"
    return "link" if stat.S_ISLNK(found.st_mode) else "other"


def etag(found: os.stat_result) -> str:
    """Another file, and each change of this one, has another: the kernel moves ctime, and nobody can set it."""
    return f'"{found.st_ino:x}-{found.st_size:x}-{found.st_mtime_ns:x}-{found.st_ctime_ns:x}"'


# --- refusals --------------------------------------------------------------------------------------------


def forbidden(path: Path) -> ApiProblem:
    """Of what is Triage's own."""
    return ApiProblem(
        403, "closed", f"{path.shown} is not shown", "It is Triage's own data: tokens, keys, the store.",
        "The roots logs and diagnostics have what may be seen of it.",
    )  # fmt: skip


def not_there(path: Path) -> ApiProblem:
    return ApiProblem(404, "no-such-file", f"There is nothing at {path.shown}")


def not_plain(path: Path, found: os.stat_result) -> ApiProblem:
    """Of a link, a folder, a device."""
    what = kind(found)
    if what == "folder":
        return ApiProblem(409, "is-folder", f"{path.shown} is a folder", hint="A folder's path ends with a slash.")
    if what == "link":
        return ApiProblem(409, "is-link", f"{path.shown} is a link", "Links are not followed: they may lead out of "
                          "the root.", "Name what it leads to; its folder's list says what that is.")  # fmt: skip
    return ApiProblem(409, "not-plain", f"{path.shown} is no plain file", "It is a device, a pipe or a socket.")


def _no_folder(path: Path, fd: int, name: bytes) -> ApiProblem:
    try:
        found = os.stat(name, dir_fd=fd, follow_symlinks=False)
    except OSError:
        return not_there(path)
    if kind(found) == "link":
        return ApiProblem(409, "is-link", f"{shown(name)} in {path.shown} is a link", "Links are not followed: they "
                          "may lead out of the root.", "Name the folder that it leads to.")  # fmt: skip
    return ApiProblem(409, "not-a-folder", f"{shown(name)} in {path.shown} is no folder")


@contextmanager
def told(path: Path) -> Iterator[None]:
    """What the kernel says, in words. Raises ApiProblem for any OSError."""
    try:
        yield
    except FileNotFoundError:
        raise not_there(path) from None
    except OSError as error:
        raise _problem(path, error) from None


def _problem(path: Path, error: OSError) -> ApiProblem:
    words = error.strerror or repr(error)
    match error.errno:
        case errno.EACCES | errno.EPERM:
            return ApiProblem(403, "not-allowed", f"Triage's own user may not do that to {path.shown}")
        case errno.ELOOP:
            return ApiProblem(409, "is-link", f"{path.shown} is a link", "Links are not followed.")
        case errno.ENOTDIR:
            return ApiProblem(409, "not-a-folder", f"A step of {path.shown} is no folder")
        case errno.EISDIR:
            return ApiProblem(409, "is-folder", f"{path.shown} is a folder")
        case errno.EEXIST | errno.ENOTEMPTY:
            return ApiProblem(409, "not-empty", f"{path.shown} is there, and not empty")
        case errno.ENAMETOOLONG | errno.EINVAL | errno.EILSEQ:
            return ApiProblem(400, "bad-path", f"The disk of {path.root.name} takes no such name", words)
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            return ApiProblem(507, "no-room", f"There is no room on the disk of {path.root.name}", words)
        case errno.EROFS:
            return ApiProblem(403, "read-only", f"The disk of {path.root.name} is read only")
        case errno.EBUSY | errno.ETXTBSY | errno.EXDEV:
            return ApiProblem(409, "in-use", f"{path.shown} is in use", words)
        case _:
            return ApiProblem(503, "disk-failed", f"The disk of {path.root.name} failed", words)
