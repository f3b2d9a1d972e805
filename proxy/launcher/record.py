"""What stands in data_dir of the launcher: the lock, and launcher.json for whoever comes after a kill."""

from __future__ import annotations

import fcntl
import json
import os
from typing import Any, Final

from proxy.launcher import processes

LOCK: Final = "launcher.lock"
RECORD: Final = "launcher.json"


class InUse(Exception):
    """Another launcher has the lock."""


def lock(data_dir: str) -> int:
    """Lock `data_dir` for as long as this process lives. Raises InUse, or OSError when it can't be made."""
    os.makedirs(data_dir, exist_ok=True)
    fd = os.open(os.path.join(data_dir, LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
        os.close(fd)
        raise InUse(f"another Triage (pid {holder or 'not known'}) uses data_dir {data_dir}") from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def marker(pid: int, start: int) -> str:
    return f"{pid}:{start}"


def write(data_dir: str, pid: int, start: int, children: list[dict[str, Any]]) -> None:
    """Temporary file, fsync, rename. Raises OSError; what stood there before stays."""
    path = os.path.join(data_dir, RECORD)
    row = {"version": 1, "pid": pid, "start": start, "boot": processes.boot_id(), "children": children}
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump(row, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".new", path)


def end_predecessor(data_dir: str, *, within: float = 10.0) -> list[tuple[int, str]]:
    """End what a killed launcher left in this boot: (pid, command) of each. With the lock held it is dead."""
    try:
        with open(os.path.join(data_dir, RECORD), encoding="utf-8") as file:
            row = json.load(file)
        if row["boot"] != processes.boot_id():
            return []
        children = [(int(child["pid"]), int(child["start"])) for child in row["children"]]
        mark = marker(int(row["pid"]), int(row["start"]))
        cgroups = [str(path) for child in row["children"] for path in child.get("cgroups") or ()]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    for path in cgroups:
        processes.kill_cgroup(path)
    ended = processes.end_leftovers(children, mark, within=within)
    for path in cgroups:
        processes.remove_cgroup(path)
    return ended


def forget(data_dir: str) -> None:
    """After an orderly end nothing is left to end."""
    try:
        os.unlink(os.path.join(data_dir, RECORD))
    except OSError:
        pass
