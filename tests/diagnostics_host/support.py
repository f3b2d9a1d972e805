"""Collectors on real processes: what they are told, and being someone else."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from proxy.diagnostics.subject import Subject
from proxy.link.session import App, Input, Instance, Known

NOBODY = 65534
WITH_SOCKETS = "import os, select, socket, sys, threading, time\n"


def subject(
    instance: Instance | None = None, seconds: float = 0.0, app: dict[str, Any] | None = None, **known: Any
) -> Subject:
    """As the session's process tells a collector; `known` is of Known."""
    told = Known(at=time.time(), app=App(name="web", **(app or {})), **known)
    given = Input(id="S-1", app="web", at=time.time(), seconds=seconds, known=told)
    if instance is not None:
        told.instances.append(instance)
        given.targets.append(instance.name)
    return Subject(given, instance, seconds)


def of(pid: int, seconds: float = 0.0, **more: Any) -> Subject:
    """`more` is of Instance."""
    return subject(Instance(name="web-1", pid=pid, **more), seconds)


def apart(what: Callable[[], None], *, user: int = 0) -> None:
    """In a process of its own, as another user where one is given."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            if user:
                os.setgroups([])
                os.setresgid(user, user, user)
                os.setresuid(user, user, user)
            what()
            code = 0
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@contextmanager
def group(controller: str, **files: str) -> Iterator[Path]:
    """A cgroup of version 1 or 2 below the one that the tests are in; OSError where that is not possible."""
    name = f"triage-test-{os.getpid()}-{time.monotonic_ns()}"
    rows = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    path = next((path for _, given, path in rows if controller in given.split(",")), None)
    if path is None:
        raise OSError("no cgroup of version 1")
    folder = Path("/sys/fs/cgroup") / controller / path.lstrip("/") / name
    folder.mkdir()
    try:
        for file, value in files.items():
            (folder / file.replace("__", ".")).write_text(value)
        yield folder
    finally:
        end = time.monotonic() + 20
        while True:
            try:
                folder.rmdir()
                break
            except OSError:
                assert time.monotonic() < end, "something is left in the cgroup"
                time.sleep(0.02)
