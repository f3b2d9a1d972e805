"""The agent's one thread: tells counts once a second while there are some, and answers questions.

It waits in poll(2) on a socket in the abstract namespace, `triage-agent-PID`; connecting to it also wakes it. Only
root, the app's own user and Triage's may ask. It ends before each fork and begins again after it: CPython warns who
forks with threads, and a lock that it held would stay held in the child.

Always true: the socket's descriptor is used only while it still is that socket, for apps close and reuse what is not
theirs.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from _socket import AF_UNIX, SO_PEERCRED, SOCK_STREAM, SOL_SOCKET
from _socket import socket as _socket
from _thread import allocate_lock, get_native_id, start_new_thread
from select import POLLIN, poll

from . import report
from .report import STATE as REPORT
from .report import failed, flush, forked, hello

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HIGH = 200
"""Descriptors below are left to the app, which may count on their numbers."""
BEAT = 30.0
"""Seconds between two hellos: Triage may have been started again."""
QUIET = 5
"""Rounds without news after which it sleeps until it is woken."""
PATIENCE = 2.0
"""Seconds for a question and its answer to pass."""
STOP_WITHIN = 0.3

_monotonic = time.monotonic
_sleep = time.sleep


class _State:
    uid = 0  # Triage's
    fd = -1
    inode = (0, 0)
    running = False
    stop = False
    stuck = False  # it did not end once: it is not begun again
    native = 0
    lock: Any = None
    wanted = False


STATE = _State()


def install() -> None:
    """Begin, now and in each child."""
    report.WAKE[0] = wake
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
    hello()
    _begin()


def _begin() -> None:
    try:
        if STATE.running or STATE.stuck:
            return
        if not _is_ours():
            _open()
        STATE.stop = False
        STATE.running = True
        STATE.lock = allocate_lock()
        STATE.lock.acquire()
        start_new_thread(_run, (STATE.lock,))
    except Exception as error:  # RuntimeError: no more threads, or the interpreter ends
        STATE.running = False
        failed_quietly(error)


def failed_quietly(error: Exception) -> None:
    """Of the agent's own."""
    REPORT.failures += 1
    REPORT.error = str(error)


def _open() -> None:
    sock = _socket(AF_UNIX, SOCK_STREAM)
    try:
        sock.bind(b"\0" + _name())
        sock.listen(4)
        fd = sock.fileno()
        try:
            import fcntl

            fd = fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD_CLOEXEC, HIGH)
        except (OSError, ValueError, ImportError):
            fd = os.dup(sock.fileno())
    finally:
        sock.close()
    found = os.fstat(fd)
    STATE.fd, STATE.inode = fd, (found.st_dev, found.st_ino)


def _name() -> bytes:
    return b"triage-agent-%d" % os.getpid()


def _is_ours() -> bool:
    if STATE.fd < 0:
        return False
    try:
        found = os.fstat(STATE.fd)
    except OSError:
        found = None
    if found is None or (found.st_dev, found.st_ino) != STATE.inode:
        STATE.fd = -1
        return False
    return True


def wake() -> None:
    """From any thread: something is to be told."""
    REPORT.idle = False
    if STATE.running:
        _poke()
    else:
        _begin()


def _poke() -> None:
    if STATE.fd < 0:
        return
    try:
        sock = _socket(AF_UNIX, SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.connect(b"\0" + _name())
        finally:
            sock.close()
    except OSError:
        pass  # it listens no more, or is awake already


def _before() -> None:
    """A fork comes."""
    STATE.wanted = STATE.running
    if not STATE.running:
        return
    try:
        STATE.stop = True
        native = STATE.native
        _poke()
        if not STATE.lock.acquire(True, STOP_WITHIN):
            STATE.stuck = True
            REPORT.failures += 1
            return
        for _ in range(50):  # the kernel's thread ends a moment after ours
            if not native or not os.path.exists(f"/proc/self/task/{native}"):
                break
            _sleep(0.0001)
    except Exception as error:
        failed(error)


def _in_parent() -> None:
    """Its thread begins again a little later: 3.13 looks for threads after this."""
    if STATE.wanted and not STATE.stuck and _soon not in gc.callbacks:
        REPORT.idle = True  # as does the next exception
        gc.callbacks.append(_soon)


def _soon(phase: str, info: Any) -> None:
    """The garbage collector runs, as it does all the time."""
    if phase == "stop":
        if _soon in gc.callbacks:
            gc.callbacks.remove(_soon)
        REPORT.idle = False
        _begin()


def _in_child() -> None:
    try:
        if _soon in gc.callbacks:
            gc.callbacks.remove(_soon)
        STATE.running = False
        if _is_ours():
            os.close(STATE.fd)  # it is the parent's
        STATE.fd = -1
        REPORT.idle = False
        forked()
        hello()
    except Exception as error:
        failed(error)
    _begin()


# --- in the thread -----------------------------------------------------------------------------------


def _run(lock: Any) -> None:
    try:
        STATE.native = get_native_id()
        _block_signals()
        _rounds()
    except BaseException as error:
        REPORT.failures += 1
        REPORT.error = str(error)
    finally:
        STATE.running = False
        REPORT.idle = True  # the next exception begins another
        lock.release()


def _block_signals() -> None:
    """They are for the app's threads."""
    try:
        signals: Any = __import__("_signal")  # `signal` itself makes enums of all
        signals.pthread_sigmask(signals.SIG_BLOCK, signals.valid_signals())
    except (ImportError, OSError, ValueError):
        pass


def _stopping() -> bool:
    return STATE.stop


def _rounds() -> None:
    waiter = poll()
    if STATE.fd >= 0:
        waiter.register(STATE.fd, POLLIN)
    quiet = 0
    told = _monotonic()
    due = told + 1.0
    while not STATE.stop:
        if STATE.fd < 0 and quiet > QUIET:
            REPORT.idle = True
            return  # nobody can ask: it is begun again when something is to be told
        awake = quiet <= QUIET
        timeout = (due - _monotonic()) if awake else (told + (BEAT if REPORT.heard else 5.0) - _monotonic())
        ready = waiter.poll(max(0.0, timeout) * 1000 + 1) if STATE.fd >= 0 else _sleep(max(0.0, timeout))
        if _stopping():
            return
        if ready:
            if not _is_ours():
                return  # the app closed it: what is new is told when the next thread begins
            _answer()
            if quiet > QUIET and not REPORT.idle:
                quiet = 0
        now = _monotonic()
        if now - told >= (BEAT if REPORT.heard else 1.0):
            told = now
            hello()
        if now >= due:
            due = now + 1.0
            report.age()
            if report.pending():
                quiet = 0
                flush()
            elif awake:
                quiet += 1
                if quiet > QUIET:
                    REPORT.idle = True
                    if report.pending():  # it came in between
                        REPORT.idle = False
                        quiet = 0


def _answer() -> None:
    sock = _socket(AF_UNIX, SOCK_STREAM, 0, STATE.fd)
    try:
        fd, _ = sock._accept()  # type: ignore[attr-defined]
    except OSError:
        return
    finally:
        sock.detach()
    peer = _socket(AF_UNIX, SOCK_STREAM, 0, fd)
    try:
        uid = _uid(peer)
        if uid is None or uid not in (0, os.geteuid(), STATE.uid):
            return
        peer.settimeout(PATIENCE)
        question = peer.recv(64)
        if question == b"types\n":
            from .largest import answer

            peer.sendall(answer(_stopping))
        elif question == b"state\n":
            peer.sendall(_said())
    except OSError:
        pass
    finally:
        peer.close()


def _uid(peer: Any) -> int | None:
    data = peer.getsockopt(SOL_SOCKET, SO_PEERCRED, 12)
    return int.from_bytes(data[4:8], sys.byteorder) if len(data) == 12 else None


def _said() -> bytes:
    state = REPORT
    fields = (
        state.how, repr(state.took), str(len(report.SITES)), str(state.unknown), str(state.failures),
        str(state.unsent), state.error,
    )  # fmt: skip
    return ("\0".join(fields)).encode("utf-8", "replace")
