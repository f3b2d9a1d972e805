"""Where every thread of the instance stands: py-spy for Python, else what the kernel says of where it sleeps."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from proxy import py_spy, units
from proxy.diagnostics import proc
from proxy.diagnostics.artifacts import Frame, ProcessStacks, Stacks, ThreadStack
from proxy.diagnostics.collectors.contract import Collector
from proxy.diagnostics.subject import Subject

PROCESSES: Final = 8
THREADS: Final = 256
EACH: Final = 4.0
"""Seconds for one process; py-spy takes some 50 ms, and stops the process for a part of that."""


def of_python(pid: int, name: str) -> ProcessStacks:
    program = py_spy.program()
    if program is None:
        return ProcessStacks(pid=pid, name=name, why="py-spy is not installed")
    try:
        run = subprocess.run(
            [program, "dump", "--json", "--pid", str(pid)], capture_output=True, timeout=EACH, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return ProcessStacks(pid=pid, name=name, why=f"py-spy gave no answer within {EACH:g} s")
    if run.returncode != 0:
        said = py_spy.reason(run.stderr.decode(errors="replace"), run.returncode)
        return ProcessStacks(pid=pid, name=name, why=f"py-spy: {said}")
    raw: list[dict[str, Any]] = msgspec.json.decode(run.stdout)
    threads = [
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
    return ProcessStacks(pid=pid, name=name, how="py-spy", threads=threads)


def of_kernel(pid: int, name: str) -> ProcessStacks:
    """For other runtimes: only where each thread is in the kernel."""
    found = ProcessStacks(pid=pid, name=name, how="kernel")
    for task in sorted((proc.PROC / str(pid) / "task").iterdir(), key=lambda path: int(path.name))[:THREADS]:
        try:
            lines = (task / "stack").read_text().splitlines()
            comm = (task / "comm").read_text().strip()
        except PermissionError:
            return ProcessStacks(pid=pid, name=name, why="the kernel's stacks may be read by root only")
        except FileNotFoundError:
            continue  # that thread has ended, or this kernel tells no stacks
        frames = [Frame(function=line.partition("] ")[2].partition("+")[0]) for line in lines]
        found.threads.append(ThreadStack(id=int(task.name), name=comm, frames=frames))
    if not found.threads:
        found.how, found.why = "", "this kernel tells no stacks"
    return found


def collect(subject: Subject, folder: Path) -> Stacks:
    """PermissionError when not one could be taken."""
    tree = proc.tree(subject.pid, subject.started)
    found = Stacks(at=time.time())
    for pid, one in list(tree.items())[:PROCESSES]:
        try:
            taken = of_python(pid, one.name) if proc.python(pid) else of_kernel(pid, one.name)
        except FileNotFoundError:
            taken = ProcessStacks(pid=pid, name=one.name, why="it ended meanwhile")
        found.processes.append(taken)
    missing = [one for one in found.processes if not one.threads]
    if len(missing) == len(found.processes):
        raise PermissionError("; ".join(dict.fromkeys(one.why for one in missing)))
    found.note = "; ".join(f"{one.name} (pid {one.pid}): {one.why}" for one in missing)
    if len(tree) > PROCESSES:
        found.note += f"{'; ' if found.note else ''}of {len(tree)} processes the first {PROCESSES}"
    (folder / "stacks.txt").write_text(text(found))
    return found


def text(stacks: Stacks) -> str:
    """For people."""
    lines: list[str] = []
    for process in stacks.processes:
        lines.append(f"process {process.pid} ({process.name}), {process.how or process.why}")
        for thread in process.threads:
            marks = [word for word, there in (("active", thread.active), ("holds the GIL", thread.gil)) if there]
            lines.append(f"  thread {thread.id} {thread.name} {', '.join(marks)}".rstrip())
            for frame in thread.frames:
                lines.append(f"    {frame.function}" + (f" ({frame.file}:{frame.line})" if frame.file else ""))
    return "\n".join(lines) + "\n"


COLLECTOR = Collector(
    name="stacks",
    title="Stacks",
    needs="for Python py-spy and the right to trace (root, or the instance's user where Yama allows it); else root",
    cost="stops each Python process for some milliseconds",
    limit=6.0,
    most=8 * units.MIB,
    artifact=Stacks,
    collect=collect,
)
