"""The processes of an instance: its tree, and what left it for a session or a parent of its own. For a thread.

Always true:
  - a member is known by pid and start, so that one that got the number later is not taken for it;
  - what belongs to Triage itself is in no instance's family;
  - at most MOST are told, the nearest to the root first; how many there are is told always.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from proxy.control.sampling import Stat, sweep

MOST: Final = 2000
FOLDERS: Final = 200
"""Cgroups below an instance's own that are looked into."""


class Member(NamedTuple):
    """`role`: instance (the root), child, or orphan: it left the tree, and is known by its session or group, by the
    instance's cgroup, or by the mark in its environment. Of Triage's own tree: launcher, control, worker, session too.
    """

    pid: int
    depth: int
    role: str
    stat: Stat
    name: str = ""  # worker1, S-12, web/web-2: of what has one


@dataclass(frozen=True, slots=True)
class Family:
    """Parents before their children."""

    members: tuple[Member, ...]
    total: int

    def get(self, pid: int) -> Member | None:
        return next((one for one in self.members if one.pid == pid), None)


def of_instance(
    root: int,
    start: int,
    *,
    name: str = "",
    launcher: int = 0,
    own: Collection[int] = (),
    folders: Iterable[str | Path] = (),
    processes: Mapping[int, Stat] | None = None,
    most: int = MOST,
) -> Family:
    """`start`: clock ticks since boot, 0: whichever has the number. `launcher`: its pid, which adopts strays; `own`:
    pids of Triage's own. Raises ProcessLookupError when the root does not run any more."""
    seen = sweep() if processes is None else processes
    first = seen.get(root)
    if first is None or first.state in "ZX" or (start and first.start != start):
        raise ProcessLookupError(f"process {root} does not run any more")
    strays = [pid for pid, one in seen.items() if root in (one.session, one.group)]
    strays += sorted(_in_cgroups(folders) & seen.keys())
    if launcher and name:
        strays += [pid for pid, one in seen.items() if one.parent == launcher and _instance(pid, launcher) == name]
    return _walk(root, strays, seen, frozenset((launcher, *own)) - {root}, {root: ("instance", name)}, most)


def of_triage(
    launcher: int, roles: Mapping[int, tuple[str, str]], processes: Mapping[int, Stat] | None = None, most: int = MOST
) -> Family:
    """Everything below the launcher. `roles`: by pid, what is known of it, and its name."""
    seen = sweep() if processes is None else processes
    if launcher not in seen:
        raise ProcessLookupError(f"process {launcher} does not run any more")
    known = {launcher: ("launcher", ""), **roles}
    for pid, one in seen.items():
        if one.parent == launcher and pid not in known:
            instance = _instance(pid, launcher)
            known[pid] = ("orphan", instance) if instance else ("session", "") if _is_session(pid) else ("child", "")
    return _walk(launcher, (), seen, frozenset(), known, most)


def _walk(
    root: int,
    strays: Iterable[int],
    seen: Mapping[int, Stat],
    left_out: frozenset[int],
    roles: Mapping[int, tuple[str, str]],
    most: int,
) -> Family:
    children: dict[int, list[int]] = {}
    for pid, one in seen.items():
        children.setdefault(one.parent, []).append(pid)
    found: dict[int, Member] = {}

    def below(top: int, depth: int, role: str) -> None:
        """In the order of a tree. A look is not one moment: a reused number may close a circle."""
        ahead = [(top, depth, role)]
        while ahead:
            pid, depth, role = ahead.pop()
            if pid in found or pid in left_out or pid not in seen:
                continue
            known, name = roles.get(pid, (role, ""))
            found[pid] = Member(pid, depth, known, seen[pid], name)
            young = sorted(children.get(pid, ()), key=lambda one: (seen[one].start, one), reverse=True)
            ahead.extend((one, depth + 1, "child") for one in young)

    below(root, 0, "child")
    apart = set(strays) & seen.keys()
    for pid in sorted(apart, key=lambda one: (seen[one].parent in apart, seen[one].start, one)):
        below(pid, 1, "orphan")  # first those whose parent is none of them: the others are found below these
    members = list(found.values())
    if len(members) > most:
        near = {one.pid for one in sorted(members, key=lambda one: one.depth)[:most]}
        members = [one for one in members if one.pid in near]
    return Family(tuple(members), len(found))


def _in_cgroups(folders: Iterable[str | Path]) -> set[int]:
    """All in these and in the groups below, which an app may have made."""
    found: set[int] = set()
    left = FOLDERS
    for top in folders:
        for folder, _, _ in os.walk(top):
            if (left := left - 1) < 0:
                return found
            try:
                found.update(int(word) for word in Path(folder, "cgroup.procs").read_text().split())
            except (OSError, ValueError):
                continue
    return found


def _instance(pid: int, launcher: int) -> str:
    """Which instance of this launcher it was started for, as its environment says; "": none, or that is not to be
    seen. The launcher takes both marks from its own environment away."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            entries = file.read(1 << 20).split(b"\0")
    except OSError:
        return ""
    if not any(one.startswith(b"TRIAGE_LAUNCHER=%d:" % launcher) for one in entries):
        return ""
    found = next((one for one in entries if one.startswith(b"TRIAGE_INSTANCE=")), b"")
    return found.partition(b"=")[2].decode("utf-8", "replace")


def _is_session(pid: int) -> bool:
    """By the name that Triage's processes give themselves; no app's process comes here without its mark."""
    try:
        with open(f"/proc/{pid}/comm", "rb") as file:
            return file.read(64).startswith(b"triage-session")
    except OSError:
        return False
