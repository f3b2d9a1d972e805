"""What takes a process of its own: `python -m proxy.diagnostics.inside.deeper` reads a question, answers it and ends.

Versions are searched for in programs of a hundred megabytes, and stacks are taken by other programs: neither may hold
who asked, and what hangs can be killed. Question and answer are JSON.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from proxy.diagnostics import proc
from proxy.diagnostics.artifacts import ProcessStacks, Runtime, Stacks
from proxy.diagnostics.collectors import environment, stacks
from proxy.diagnostics.inside.opened import shown
from proxy.diagnostics.subject import Subject
from proxy.link.session import App, Input, Instance, Known

FRAMES: Final = 4000
"""Of all threads together: what asked has to read them in a moment."""
TEXT: Final = 300_000
"""Characters."""


class Question(msgspec.Struct, kw_only=True):
    """`alone`: of this process only, not of the tree below it. Addresses are the app's own, which are not asked for an
    inspector; `inspect`: one may be opened."""

    what: Literal["runtimes", "stacks"]
    pid: int
    start: int = 0
    alone: bool = False
    addresses: list[str] = []
    inspect: bool = False


class Answer(msgspec.Struct, kw_only=True):
    """`why` there is nothing, in words."""

    runtimes: list[Runtime] = []
    processes: list[ProcessStacks] = []
    text: str = ""
    why: str = ""


def answer(asked: Question) -> Answer:
    """What may not be read is said in it."""
    now = time.time()
    address, *more = asked.addresses or [""]
    instance = Instance(name="", pid=asked.pid, started=asked.start, address=address, listens_on=more)
    app = App(name="", inspect=asked.inspect)
    subject = Subject(Input(id="", app="", at=now, known=Known(at=now, app=app)), instance)
    try:
        if asked.what == "runtimes":
            found = environment.collect(subject, Path("/"))
            return Answer(runtimes=found.runtimes, why=found.note)
        tree = proc.tree(asked.pid, asked.start)
        taken = stacks.one_round({asked.pid: tree[asked.pid]} if asked.alone else tree, subject)
    except OSError as error:
        return Answer(why=str(error.strerror or error))
    whole = Stacks(at=taken.at, rounds=[taken])
    text = stacks.text(whole).partition("\n")[2]
    left_out = _cut(taken.processes)
    if len(text) > TEXT:
        text, left_out = text[:TEXT] + "…\n", max(1, left_out)
    why = stacks.note(whole, 1 if asked.alone else len(tree), "more than can be shown" if left_out else "")
    return Answer(processes=taken.processes, text=text, why=why)


def _cut(processes: list[ProcessStacks]) -> int:
    """Leave out what is beyond FRAMES; how many threads are less than whole."""
    left, cut = FRAMES, 0
    for process in processes:
        for thread in process.threads:
            cut += len(thread.frames) > left
            del thread.frames[left:]
            left -= len(thread.frames)
        if left <= 0:
            process.threads = [thread for thread in process.threads if thread.frames]
    return cut


def safe(value: Any) -> Any:
    """With all text in it as it may be shown."""
    if isinstance(value, str):
        return "\n".join(shown(line) for line in value.split("\n"))
    if isinstance(value, dict):
        return {safe(key): safe(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [safe(one) for one in value]
    return value


def main() -> int:
    """Exit code 0, with the answer on standard output."""
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=Question)
    os.nice(5)
    found = safe(msgspec.to_builtins(answer(asked)))
    sys.stdout.buffer.write(msgspec.json.encode(found))
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
