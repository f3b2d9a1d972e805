"""The launcher becomes newer code in place: what it knows goes into a memfd, what it holds stays open over exec.

Always true:
  - until execv succeeds nothing has changed; where it fails, the launcher goes on as it was;
  - exactly the descriptors that the text names stay open; pidfds are opened anew;
  - signals are blocked from before the text is made until its reader catches them, so none is lost, and what came
    before is in the text;
  - a value that a text lacks is as at a first start; one that its reader does not know is left out.

It is the same process: its pid, its start time, its children, their PDEATHSIG (it is about the death of the thread that
forked them, and exec is none), that it is a child subreaper, and its lock on data_dir all stay.
"""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any, Final, cast

from proxy.launcher.child import Child
from proxy.launcher.journal import Log
from proxy.launcher.sockets import Listening
from proxy.launcher.store import Store
from proxy.link.spawn import HANDOVER, RESUMES, VERSION, Plan, exec_successor, pwrite_all

if TYPE_CHECKING:
    from proxy.launcher.launcher import Launcher


def told(launcher: Launcher, number: int | None = None) -> dict[str, Any]:
    """All of it, as plain values; `number`: of the request that its reader answers."""
    return {
        "handover": HANDOVER,
        "plan": launcher.plan,
        "number": number,
        "launcher": launcher.told(),
        "children": launcher.children.told(),
        "control": launcher.control.told(),
        "slots": launcher.store.slots,
        "steered": launcher.store.steered,
        "held": launcher.store.held,
        "listening": [one.told() for one in launcher.store.listening],
    }


def descriptors(text: dict[str, Any]) -> list[int]:
    """All that have to stay open."""
    found = [text["launcher"]["lock"], text["control"]["fd"], *text["held"].values()]
    found += [fd for one in text["listening"] for fd in one["fds"]]
    return [fd for fd in found if fd >= 0]


def become_successor(launcher: Launcher, number: int | None) -> None:
    """Returns by OSError only."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    fd, open_ones = -1, []
    try:
        text = told(launcher, number)
        fd = os.memfd_create("triage-handover", 0)
        pwrite_all(fd, json.dumps(text).encode("utf-8", "surrogateescape"), 0)
        open_ones = [*descriptors(text), fd]
        for one in open_ones:
            os.set_inheritable(one, True)
        exec_successor(fd)
    finally:
        for one in open_ones:
            os.set_inheritable(one, False)
        if fd >= 0:
            os.close(fd)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def read(fd: int) -> dict[str, Any]:
    """Read the text and close its memfd. Raises ValueError."""
    try:
        data = os.pread(fd, os.fstat(fd).st_size, 0)
    finally:
        os.close(fd)
    text = json.loads(data.decode("utf-8", "surrogateescape"))
    rehearse(text)
    return cast(dict[str, Any], text)


def rehearse(text: Any) -> None:
    """Whether this code could go on from it, without touching anything. Raises ValueError."""
    if not isinstance(text, dict) or text.get("handover") not in RESUMES:
        known = ", ".join(map(str, RESUMES))
        raise ValueError(f"the launcher's handover is not one of version {known}")
    try:
        for part, keys in _NEEDED.items():
            for key in keys:
                text[part][key]
        for row in text["children"]["children"]:
            Child.resumed(row)
        for row in text["listening"]:
            Listening.resumed(row)
        descriptors(text)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the launcher's handover is not understood: {error!r}") from error


_NEEDED: Final = {
    "plan": ("data_dir", "run", "workers", "control", "grace"),
    "launcher": ("execs", "stopping", "reload", "stop_at", "asked", "lock", "dropped"),
    "children": ("children", "exits", "pipes", "sessions", "count", "pipe_size", "nofile"),
    "control": ("fd", "start_at", "planned", "within", "kill_at", "restarts"),
}
"""What `resume` goes by. A key that comes later has a default there, and is not in this table."""


def resume(text: dict[str, Any]) -> Launcher:
    """The launcher that goes on from it, in the process that wrote it."""
    from proxy.launcher.launcher import Launcher

    plan = cast(Plan, {**text["plan"], "version": VERSION})
    store = Store(text["slots"], text["held"])
    store.steered = text.get("steered", text["slots"])
    for row in text["listening"]:
        one = Listening.resumed(row)
        one.take(row["fds"])
        store.listening.append(one)
    soft, hard = text["children"]["nofile"]
    launcher = Launcher(plan, Log(quiet=plan["run"]), text["launcher"]["lock"], store, (soft, hard))
    launcher.children.resume(text["children"])
    launcher.control.resume(text["control"])
    launcher.resume(text["launcher"], text["number"])
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())
    return launcher
