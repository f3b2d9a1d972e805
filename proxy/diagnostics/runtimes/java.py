"""Java by `jcmd PID Thread.print`, which asks the JVM itself: its threads stop at a safepoint for some milliseconds."""

from __future__ import annotations

import os
import re
import shutil
from typing import Final

from proxy.diagnostics import proc
from proxy.diagnostics.artifacts import Frame, ProcessStacks, ThreadStack
from proxy.diagnostics.runtimes import asking

THREADS: Final = 256
FRAMES: Final = 100
EACH: Final = 5.0
"""Seconds: jcmd is a JVM itself, and takes 0.4 of them to start."""
_THREAD: Final = re.compile(r'^"(?P<name>.*?)" (?P<rest>.*\bnid=(?P<nid>0x[0-9a-f]+|\d+)\b.*)$')
_STATE: Final = re.compile(r"^\s+java\.lang\.Thread\.State: (\w+)")
_FRAME: Final = re.compile(r"^\s+at (?P<function>[^(]+)\((?P<place>[^)]*)\)")
_LOCK: Final = re.compile(r"^\s+- ((?:waiting|parking|locked|eliminated).*)$")
_CAREFUL: Final = re.compile(r"^-Xrs$|\+ReduceSignalUsage|\+DisableAttachMechanism")
"""Such a JVM does not answer, and the signal by which it is asked may end it."""


def stacks(pid: int, name: str) -> ProcessStacks:
    """`why` says why there are none."""
    program = shutil.which("jcmd") or shutil.which("jattach")
    if program is None:
        return ProcessStacks(pid=pid, name=name, why="neither jcmd nor jattach is installed")
    if any(_CAREFUL.search(word) for word in proc.command(pid)):
        return ProcessStacks(pid=pid, name=name, why="its JVM was started so that it can't be asked safely")
    asked = [program, str(pid), "Thread.print"] if program.endswith("jcmd") else [program, str(pid), "threaddump"]
    owner = (proc.PROC / str(pid)).stat()
    user = (owner.st_uid, owner.st_gid) if os.geteuid() == 0 and owner.st_uid else (None, None)
    run, why = asking.printed(asked, EACH, user=user[0], group=user[1])  # a JVM answers its own user only
    if run is None:
        return ProcessStacks(pid=pid, name=name, why=why)
    threads = read(run.stdout.decode(errors="replace"))
    if not threads:
        said = (run.stderr or run.stdout).decode(errors="replace").strip().splitlines()
        return ProcessStacks(pid=pid, name=name, why=f"jcmd: {said[-1] if said else 'it said nothing'}"[:300])
    return ProcessStacks(pid=pid, name=name, how="jcmd", threads=threads)


def read(text: str) -> list[ThreadStack]:
    """A thread dump as HotSpot prints it. Locks that a thread holds or waits for are in its note."""
    found: list[ThreadStack] = []
    for line in text.splitlines():
        if match := _THREAD.match(line):
            if len(found) == THREADS:
                break
            found.append(ThreadStack(id=int(match["nid"], 0), name=match["name"]))
        elif not found:
            continue
        elif match := _STATE.match(line):
            found[-1].active = match[1] == "RUNNABLE"
        elif (match := _FRAME.match(line)) and len(found[-1].frames) < FRAMES:
            file, _, number = match["place"].partition(":")
            found[-1].frames.append(
                Frame(function=match["function"].strip(), file=file, line=int(number) if number.isdigit() else 0)
            )
        elif match := _LOCK.match(line):
            found[-1].note = "; ".join(part for part in (found[-1].note, match[1]) if part)[:400]
        elif line.startswith("JNI global ref"):
            break
    return [one for one in found if one.frames]
