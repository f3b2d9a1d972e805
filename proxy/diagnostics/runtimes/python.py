"""Python by py-spy: a program of its own that reads the process's memory; nothing runs in the app."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from proxy import py_spy
from proxy.diagnostics import proc
from proxy.diagnostics.artifacts import Frame, ProcessStacks, ThreadStack
from proxy.diagnostics.runtimes.sampled import Sampled
from proxy.diagnostics.subject import NotThere

THREADS: Final = 256
EACH: Final = 4.0
"""Seconds for one process; py-spy takes some 15 ms, on a busy machine ten times that."""
FASTEST: Final = 50
SLOWEST: Final = 10
THREAD_SAMPLES: Final = 500
"""Of all threads together, a second: each takes py-spy 0.1 ms or a little more, so this is 5 to 8 % of a core."""
GIL_RATE: Final = 20
"""A sample of who holds the GIL reads one stack at most: under 1 % of a core."""
ENDING: Final = 4.0
FRAMES: Final = 128
_FRAME: Final = re.compile(r"\S.* \(.+:\d+\)")


def stacks(pid: int, name: str) -> ProcessStacks:
    """Where its threads are, or why that can't be told. Raises FileNotFoundError when it does not run any more."""
    found = ProcessStacks(pid=pid, name=name)
    for stop in py_spy.ways(proc.stat(proc.PROC / str(pid)).threads):
        found = _stacks(pid, name, stop)
        if found.threads or not found.why.startswith("py-spy: ") or not py_spy.passing(found.why):
            break
    return found


def _stacks(pid: int, name: str, stop: bool) -> ProcessStacks:
    program = py_spy.program()
    if program is None:
        return ProcessStacks(pid=pid, name=name, why=py_spy.MISSING)
    try:
        run = subprocess.run(
            py_spy.dump(program, pid, "--json", stop=stop), capture_output=True, timeout=EACH, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return ProcessStacks(pid=pid, name=name, why=f"py-spy gave no answer within {EACH:g} s")
    except OSError as error:
        return ProcessStacks(pid=pid, name=name, why=f"py-spy could not be started: {error.strerror or error}")
    if run.returncode != 0:
        said = py_spy.reason(run.stderr.decode(errors="replace"), run.returncode)
        return ProcessStacks(pid=pid, name=name, why=f"py-spy: {said}")
    try:
        raw: list[dict[str, Any]] = msgspec.json.decode(run.stdout)
        threads = read(raw)
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError) as error:
        return ProcessStacks(pid=pid, name=name, why=f"py-spy gave an answer that can't be read: {error}")
    cut = f"of {len(raw)} threads the first {THREADS}" if len(raw) > THREADS else ""
    return ProcessStacks(pid=pid, name=name, how="py-spy", threads=threads, why=cut)


def read(raw: Sequence[dict[str, Any]]) -> list[ThreadStack]:
    """What `py-spy dump --json` printed, the innermost frame first. Raises KeyError, TypeError, ValueError."""
    return [
        ThreadStack(
            id=int(one.get("os_thread_id") or one["thread_id"]),
            name=one.get("thread_name") or "",
            active=one.get("active"),
            gil=one.get("owns_gil"),
            frames=[
                Frame(function=frame["name"], file=frame["filename"], line=frame["line"]) for frame in one["frames"]
            ],
        )
        for one in raw[:THREADS]
    ]


def profile(
    pids: Sequence[int], tree: Mapping[int, proc.Stat], seconds: float, wait: Callable[[float], bool], base: Path
) -> Sampled:
    """The first of `pids` with its children, by `py-spy record`; and how often the busiest of them held its GIL.

    `wait` sleeps, and says False when sampling is to end. Raises NotThere, PermissionError, OSError.
    """
    program = py_spy.program()
    if program is None:
        raise NotThere(py_spy.MISSING)
    threads = sum(tree[pid].threads for pid in pids)
    rate = max(SLOWEST, min(FASTEST, THREAD_SAMPLES // max(1, threads)))
    busiest = _busiest(pids, wait)
    below = ["--subprocesses"] if len(pids) > 1 else []
    out, held = base.with_suffix(".raw.part"), base.with_suffix(".gil.part")
    began, took = time.monotonic(), 0.0
    main = _record(program, pids[0], rate, seconds, out, below)
    gil = _record(program, busiest, GIL_RATE, seconds, held, ["--gil"])
    try:
        while main.poll() is None and wait(0.1) and time.monotonic() < began + seconds:
            pass
        took = time.monotonic() - began
        for one in (main, gil):
            if one.poll() is None:
                one.send_signal(signal.SIGINT)  # it writes what it has
        _, errors = main.communicate(timeout=ENDING)
        gil.communicate(timeout=ENDING)
    except subprocess.TimeoutExpired:
        errors = b"Error: it did not end"
    finally:
        for one in (main, gil):
            one.kill()
            one.wait()
    if not out.exists():
        why = py_spy.reason(errors.decode(errors="replace"), main.returncode)
        if not py_spy.passing(why) and "ermi" in why:
            raise PermissionError(f"py-spy: {why}")
        raise NotThere(f"py-spy: {why}")
    found = Sampled(busiest, "py-spy", took, rate, max(1, round(took * rate)), folded(out.read_text(errors="replace")))
    if held.exists() and took > 0.5:
        times = sum(folded(held.read_text(errors="replace")).values())
        found.gil = round(min(1.0, times / (took * GIL_RATE)), 3)
    if len(pids) > 1:
        found.note = f"{len(pids)} processes together"
    return found


def _record(
    program: str, pid: int, rate: int, seconds: float, out: Path, more: Sequence[str]
) -> subprocess.Popen[bytes]:
    """It runs a little longer than asked: it is told when to end."""
    return subprocess.Popen(
        [program, "record", "--nonblocking", "--full-filenames", "--format", "raw", "--rate", str(rate), "--duration",
         str(int(seconds) + 2), "--output", str(out), "--pid", str(pid), *more],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def _busiest(pids: Sequence[int], wait: Callable[[float], bool]) -> int:
    """By CPU time of a fifth of a second."""
    if len(pids) == 1:
        return pids[0]
    before = {pid: _cpu(pid) for pid in pids}
    wait(0.2)
    return max(pids, key=lambda pid: _cpu(pid) - before[pid])


def _cpu(pid: int) -> float:
    try:
        return proc.stat(proc.PROC / str(pid)).cpu
    except OSError:
        return 0.0


def folded(text: str) -> dict[tuple[str, ...], int]:
    """Lines of "outer (file:1);inner (file:2) 17". What is no frame is left out: --subprocesses puts the command of the
    process before them, and that may have line breaks in it."""
    found: dict[tuple[str, ...], int] = {}
    for line in text.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [frame for frame in stack.split(";") if _FRAME.fullmatch(frame)][-FRAMES:]
        if count.isdigit() and frames:
            key = tuple(frames)
            found[key] = found.get(key, 0) + int(count)
    return found
