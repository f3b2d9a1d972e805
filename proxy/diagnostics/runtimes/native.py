"""Anything that is machine code, by elfutils' eu-stack: C, C++, Rust, Go; functions, no lines.

It stops the process for less than a millisecond a thread. gdb stops it for 200 and more, and is not used on what runs.
"""

from __future__ import annotations

import re
import shutil
from typing import Final

from proxy.diagnostics.artifacts import Frame, ProcessStacks, ThreadStack
from proxy.diagnostics.runtimes import asking

THREADS: Final = 256
FRAMES: Final = 64
EACH: Final = 3.0
_THREAD: Final = re.compile(r"^TID (\d+):")
_FRAME: Final = re.compile(r"^#\d+\s+0x[0-9a-f]+(?:\s+(?:- 1\s+)?(\S.*?))?\s*$")


def stacks(pid: int, name: str) -> ProcessStacks:
    """`why` says why there are none."""
    program = shutil.which("eu-stack")
    if program is None:
        return ProcessStacks(pid=pid, name=name, why="eu-stack (elfutils) is not installed")
    run, why = asking.printed([program, "-n", str(FRAMES), "-p", str(pid)], EACH)
    if run is None:
        return ProcessStacks(pid=pid, name=name, why=why)
    threads = read(run.stdout.decode(errors="replace"))
    if not threads:
        lines = run.stderr.decode(errors="replace").strip().splitlines()
        return ProcessStacks(
            pid=pid, name=name, why=f"eu-stack: {lines[0] if lines else f'it ended with code {run.returncode}'}"
        )
    return ProcessStacks(pid=pid, name=name, how="eu-stack", threads=threads)


def read(text: str) -> list[ThreadStack]:
    """What it printed, the innermost frame first. A frame without a symbol is "??"."""
    found: list[ThreadStack] = []
    for line in text.splitlines():
        if match := _THREAD.match(line):
            if len(found) == THREADS:
                break
            found.append(ThreadStack(id=int(match[1])))
        elif found and (match := _FRAME.match(line)):
            found[-1].frames.append(Frame(function=match[1] or "??"))
    return [one for one in found if one.frames]
