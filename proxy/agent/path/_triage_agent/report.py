"""Where exceptions were raised, how often, and what is told of it: one datagram a place and second at most.

A place is a line of the app's own code (not the standard library's, not an installed package's) with a type of
exception: where it was raised, or where it came up to out of a library. The first exception of a place is told at
once; what follows is counted and told once a second by the agent's thread.

A datagram's fields are parted by NUL, see `_message`; Triage reads it in proxy/control/agents.py.
"""

from __future__ import annotations

import os
import sys
import time
from _socket import AF_UNIX, MSG_DONTWAIT, SOCK_DGRAM
from _socket import socket as _socket
from _thread import get_ident

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType, TracebackType

    Key = tuple[int, int, type]

FORM = "1"
MOST = 2000
"""Places that are known; exceptions of others are counted together, as not told."""
AT_ONCE = 20
"""Datagrams sent in a second by threads that raise; what is more waits for the agent's thread."""
TOLD = 50
"""Datagrams in a round of that thread."""
FRAMES = 30
SIZE = 8000
"""Bytes of a datagram."""
FRESH = 60.0
"""Seconds after which the message of a newer exception is told."""
FILES = 20000
"""Names of files whose owner is known."""

IGNORED = frozenset((StopIteration, StopAsyncIteration, GeneratorExit, KeyboardInterrupt, SystemExit))
_ALSO = frozenset(
    (
        "asyncio.exceptions.CancelledError", "concurrent.futures._base.CancelledError", "trio.Cancelled",
        "builtins.BlockingIOError", "builtins.InterruptedError", "anyio.EndOfStream", "queue.Empty",
        "builtins.BaseExceptionGroup",
    )
)  # fmt: skip
"""How programs go on, not what goes wrong in them."""

_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_LIBRARY = os.path.dirname(os.path.abspath(os.__file__))
_INSTALLED = ("/site-packages/", "/dist-packages/")

monotonic = time.monotonic
now = time.time
_sleep = time.sleep


class _State:
    path = ""
    how = ""
    took = 0.0
    unknown = 0  # exceptions of places beyond MOST
    failures = 0  # of the agent itself
    unsent = 0  # datagrams that Triage did not take
    error = ""  # the last one, in words
    second = 0
    sent = 0  # in that second
    heard = False  # the last hello could be sent
    idle = False  # the thread sleeps until it is woken


STATE = _State()
WAKE: list[Callable[[], None]] = [lambda: None]
"""What wakes the thread."""


class Site:
    """One place and type. Counts only grow; `told` is what of them was sent."""

    __slots__ = (
        "again", "at", "caught", "code", "frames", "fresh", "ignored", "message", "name", "number", "raised", "sampled",
        "told", "uncaught",
    )  # fmt: skip

    def __init__(self, code: CodeType, number: int) -> None:
        self.code = code  # held, so that its id stays its own
        self.number = number
        self.name = self.message = ""
        self.frames: list[tuple[str, int, str]] = []
        self.ignored = False
        self.fresh = False  # its message and frames need not be looked at again
        self.raised = self.caught = self.uncaught = 0
        self.told = (0, 0, 0)
        self.at = self.sampled = 0.0
        self.again = 0


SITES: dict[Key, Site] = {}
_own: dict[str, bool] = {}


def own(file: str) -> bool:
    """Whether a file's code is the app's own."""
    found = _own.get(file)
    if found is None:
        if len(_own) >= FILES:
            _own.clear()
        found = _own[file] = not (
            file.startswith(("<", _LIBRARY, _HERE)) or any(part in file for part in _INSTALLED) or not file
        )
    return found


def origin(tb: TracebackType | None) -> TracebackType | None:
    """The innermost frame of the app's own."""
    found = None
    known = _own
    while tb is not None:
        file = tb.tb_frame.f_code.co_filename
        if known.get(file) or (file not in known and own(file)):
            found = tb
        tb = tb.tb_next
    return found


def site(exc: BaseException, at: TracebackType) -> Site | None:
    """The place of an exception, whose frame of the app's own is `at`. None: there are too many."""
    code = at.tb_frame.f_code
    key = (id(code), at.tb_lasti, exc.__class__)
    found = SITES.get(key)
    if found is None:
        if len(SITES) >= MOST:
            STATE.unknown += 1
            return None
        found = SITES[key] = Site(code, len(SITES))
        kind = exc.__class__
        module = kind.__module__
        full = f"{module}.{kind.__qualname__}"
        found.name = kind.__qualname__ if module in ("builtins", "__main__") else full
        found.ignored = found.fresh = full in _ALSO or kind in IGNORED
    return found


def note(exc: BaseException, at: TracebackType, caught: bool = False) -> Site | None:
    """It was raised, and this is the first that is heard of it."""
    found = site(exc, at)
    if found is None or found.ignored:
        return None
    found.raised += 1
    if caught:
        found.caught += 1
    if found.fresh:
        if STATE.idle:
            WAKE[0]()
        return found
    first = not found.sampled
    found.fresh = True
    found.sampled = monotonic()
    try:
        found.message = str(exc)[:500]
    except Exception:  # of the app's own making
        found.message = "(its text could not be made)"
    found.frames = _frames(at)
    found.at = now()
    if first and may_send():
        tell(found)
    if STATE.idle:
        WAKE[0]()
    return found


def _frames(at: TracebackType) -> list[tuple[str, int, str]]:
    """Outermost first: who called, the frame itself, and what it called."""
    inner: list[tuple[str, int, str]] = []
    tb: TracebackType | None = at
    while tb is not None and len(inner) < FRAMES:
        code = tb.tb_frame.f_code
        inner.append((code.co_filename, tb.tb_lineno, code.co_name))
        tb = tb.tb_next
    outer: list[tuple[str, int, str]] = []
    frame: FrameType | None = at.tb_frame.f_back
    while frame is not None and len(outer) + len(inner) < FRAMES:
        code = frame.f_code
        if not code.co_filename.startswith(_HERE):
            outer.append((code.co_filename, frame.f_lineno or 0, code.co_name))
        frame = frame.f_back
    return outer[::-1] + inner


def may_send() -> bool:
    """Whether a thread that raises may send, too."""
    second = int(monotonic())
    if second != STATE.second:
        STATE.second, STATE.sent = second, 0
    STATE.sent += 1
    return STATE.sent <= AT_ONCE


def tell(found: Site) -> bool:
    """Send what is new of a place. False: Triage does not take it now, and it is tried again later."""
    counts = (found.raised, found.caught, found.uncaught)
    new = [counts[at] - found.told[at] for at in range(3)]
    if send(_message(found, new)):
        found.told = counts
        return True
    return False


def _message(found: Site, new: list[int]) -> bytes:
    """form, "raised", number of the place, type, message, new counts (raised, caught, uncaught), when it was first
    seen or sampled, not told, failures, frames: each file, line, function, parted by FS, in a field of its own."""
    head = [
        FORM, "raised", str(found.number), found.name[:200], found.message, *map(str, new), repr(found.at),
        str(STATE.unknown), str(STATE.failures),
    ]  # fmt: skip
    frames = ["\x1c".join((file[-200:], str(line), name[:100])) for file, line, name in found.frames]
    data = _encoded(head + frames)
    while len(data) > SIZE and frames:
        frames = frames[(len(frames) + 1) // 2 :]  # the innermost tell more
        data = _encoded(head + frames)
    return data


def _encoded(fields: list[str]) -> bytes:
    return "\0".join(field.replace("\0", " ") for field in fields).encode("utf-8", "replace")


def hello() -> bool:
    """The agent is there, in this process."""
    version = ".".join(map(str, sys.version_info[:3]))
    STATE.heard = send(
        _encoded([FORM, "hello", version, STATE.how, repr(STATE.took), str(STATE.unknown), str(STATE.failures)])
    )
    return STATE.heard


def send(data: bytes) -> bool:
    """One datagram, without waiting; no descriptor stays open, so none can be closed or taken by the app."""
    try:
        sock = _socket(AF_UNIX, SOCK_DGRAM)
        try:
            sock.sendto(data, MSG_DONTWAIT, STATE.path)
        finally:
            sock.close()
    except OSError as error:
        STATE.unsent += 1
        STATE.error = str(error)
        return False
    return True


def pending() -> list[Site]:
    """Places of which something is new."""
    return [
        one for one in list(SITES.values())
        if (one.raised, one.caught, one.uncaught) != one.told and not one.ignored
    ]  # fmt: skip


def age() -> None:
    """Of what was looked at long ago the next one is looked at again."""
    oldest = monotonic() - FRESH
    for found in list(SITES.values()):
        if found.sampled < oldest and not found.ignored:
            found.fresh = False


def flush() -> bool:
    """What is new; False: not all of it could be told."""
    waiting = pending()
    for found in waiting[:TOLD]:
        if found.sampled and not tell(found):
            _sleep(0.05)  # its queue is a few datagrams long
            if not tell(found):
                return False
    return len(waiting) <= TOLD


def forked() -> None:
    """In a child: what its parent counted is its parent's."""
    for found in list(SITES.values()):
        found.told = (found.raised, found.caught, found.uncaught)
    STATE.unknown = STATE.failures = STATE.unsent = 0


def failed(error: BaseException, later: bool = False) -> None:
    """Something within the agent. What came from elsewhere, as a signal's handler may raise at any point, is raised
    again; `later`: where this thread is next, because here it would end in the wrong place."""
    tb = error.__traceback__
    while tb is not None and tb.tb_next is not None:
        tb = tb.tb_next
    if tb is not None and not tb.tb_frame.f_code.co_filename.startswith(_HERE):
        if not isinstance(error, (RecursionError, MemoryError)):
            if not later:
                raise error
            import ctypes

            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(get_ident()), ctypes.py_object(error.__class__))
            return
    STATE.failures += 1
