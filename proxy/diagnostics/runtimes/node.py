"""Node by its inspector, where it is open: the stack of its main thread, also in the middle of a loop that never ends.

Without it JavaScript's frames can't be seen from outside; then the kernel says where its threads are. SIGUSR1 opens the
inspector, and is sent only where `apps.X.diagnose.inspect` says so; it stays open then, since closing it by code in the
app (process._debugEnd) was seen to end node 20 by SIGSEGV.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from proxy.diagnostics import proc
from proxy.diagnostics.artifacts import Frame, ProcessStacks, ThreadStack
from proxy.diagnostics.runtimes import inspector, kernel
from proxy.diagnostics.runtimes.inspector import Inspector, NoInspector
from proxy.diagnostics.runtimes.sampled import Sampled
from proxy.diagnostics.subject import NotThere

ANSWER: Final = 2.0
EACH: Final = 0.1
"""Seconds of samples for one look at its stack."""
FAST: Final = 200
RATE: Final = 50
"""Samples a second, for a stack and for a profile."""
OPENED: Final = 2.0
"""Seconds within which SIGUSR1 opens the inspector."""
FRAMES: Final = 100
IDLE: Final = "(event loop)"
NATIVE: Final = "(no JavaScript)"
_PLACE: Final = re.compile(r"(.*) \((.*):(-?\d+)\)", re.DOTALL)
WAITS: Final = ("epoll_wait", "epoll_pwait", "epoll_pwait2")


def stacks(pid: int, name: str, but: frozenset[int] = frozenset(), *, may_open: bool = False) -> ProcessStacks:
    """`but`: ports of the app. `why` says why there are no frames of JavaScript."""
    found = kernel.stacks(pid, name)
    if kernel.syscall(proc.PROC / str(pid) / "task" / str(pid)) in WAITS and (main := _main(found)) is not None:
        main.name, main.active, main.frames = "main", False, [Frame(function=IDLE)]
        return found  # nothing to stop: it waits for events
    try:
        frames = _javascript(pid, but, may_open)
    except NoInspector as error:
        found.why = str(error)
        return found
    except (OSError, ValueError, KeyError) as error:
        found.why = f"inspector: {error}"
        return found
    found.how, found.why = "inspector", ""
    main = ThreadStack(id=pid, name="main", active=frames is not None, frames=frames or [Frame(function=NATIVE)])
    found.threads = [main, *(thread for thread in found.threads if thread.id != pid)]
    return found


def _main(found: ProcessStacks) -> ThreadStack | None:
    return next((thread for thread in found.threads if thread.id == found.pid), None)


def _javascript(pid: int, but: frozenset[int], may_open: bool) -> list[Frame] | None:
    with Inspector(_address(pid, but, may_open), ANSWER) as session:
        return _sampled(session)


def _address(pid: int, but: frozenset[int], may_open: bool) -> str:
    try:
        return inspector.find(pid, but)
    except NoInspector:
        if not may_open:
            raise
        return _open(pid, but)


def _sampled(session: Inspector) -> list[Frame] | None:
    """Innermost first: where the main thread was in most samples of a moment; None: no JavaScript ran.

    V8's sampler, not Debugger.pause: resuming from that was seen to end node 20 by SIGSEGV, now and then.
    """
    found = _counted(_samples(session, EACH, _wait)[0])
    if not found:
        return None
    most = max(found, key=found.__getitem__)
    return [_frame(words) for words in reversed(most)]


def _wait(seconds: float) -> bool:
    time.sleep(seconds)
    return True


def _frame(words: str) -> Frame:
    """As `_words` writes it."""
    match = _PLACE.fullmatch(words)
    return Frame(function=match[1], file=match[2], line=int(match[3])) if match else Frame(function=words)


def _open(pid: int, but: frozenset[int]) -> str:
    """Only a process that is known to be node may be asked so: it ends others."""
    if proc.runtime(pid) != "node":
        raise NoInspector("it is not node")
    os.kill(pid, signal.SIGUSR1)
    end = time.monotonic() + OPENED
    while True:
        try:
            return inspector.find(pid, but)
        except NoInspector:
            if time.monotonic() >= end:
                raise NoInspector("its inspector did not open; another process may have its port") from None
            time.sleep(0.02)


def profile(
    pid: int, but: frozenset[int], seconds: float, wait: Callable[[float], bool], *, may_open: bool = False
) -> Sampled:
    """By V8's own sampler. `wait` sleeps, and says False when sampling is to end. Raises NotThere, OSError."""
    try:
        with Inspector(_address(pid, but, may_open), ANSWER) as session:
            raw, took = _samples(session, seconds, wait, RATE)
    except NoInspector as error:
        raise NotThere(str(error)) from error
    found = Sampled(pid, "inspector", took, RATE, len(raw.get("samples", ())))
    found.stacks = _counted(raw)
    return found


def _samples(
    session: Inspector, seconds: float, wait: Callable[[float], bool], rate: int = FAST
) -> tuple[dict[str, Any], float]:
    """What V8's sampler saw, and in how many seconds."""
    session.ask("Profiler.enable")
    session.ask("Profiler.setSamplingInterval", interval=1_000_000 // rate)
    session.ask("Profiler.start")
    began = time.monotonic()
    wait(seconds)
    took = time.monotonic() - began
    raw = session.ask("Profiler.stop")["profile"]
    session.ask("Profiler.disable")
    return raw, took


def _counted(raw: dict[str, Any]) -> dict[tuple[str, ...], int]:
    """Samples by stack, without those in which nothing ran. The line of the innermost frame is where most of its
    samples were, of others where the function begins: V8 tells no more."""
    nodes = {one["id"]: one for one in raw["nodes"]}
    above = {child: one["id"] for one in raw["nodes"] for child in one.get("children", ())}
    found: dict[tuple[str, ...], int] = {}
    for number, count in Counter(raw.get("samples", ())).items():
        frames: list[str] = []
        at: int | None = number
        while at is not None and len(frames) < FRAMES:
            frame = nodes[at]["callFrame"]
            if frame["functionName"] != "(root)":
                ticks = nodes[at].get("positionTicks", ()) if at == number else ()
                hottest = max(ticks, key=lambda one: one["ticks"], default={"line": frame.get("lineNumber", -1) + 1})
                frames.append(_words(frame, hottest["line"]))
            at = above.get(at)
        if frames and frames[-1] not in ("(idle)", "(program)"):  # outermost: V8 is at rest, or outside of JavaScript
            key = tuple(reversed(frames))
            found[key] = found.get(key, 0) + count
    return found


def _words(frame: dict[str, Any], line: int) -> str:
    name = frame["functionName"] or "(anonymous)"
    url = inspector.readable(frame.get("url", ""))
    return f"{name} ({url}:{line})" if url else name
