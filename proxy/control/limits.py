"""Limits of memory and CPU: which way they are enforced, and one instance's cgroups from its start to its end.

The best way there is: a cgroup, v2 or v1 (cgroups.py), else memory is watched and the instance recycled by the memory
rule, and CPU is held down by affinity and niceness. What is in force is said: `InstanceState.limited_by`, and an event
with the reason why it is not a cgroup.

Always true:
  - nothing is looked for, made or moved before the first instance with a limit;
  - an instance's directories carry its name, so that a new control finds them again; each start gets fresh ones, with
    counters at 0;
  - never RLIMIT_AS: it counts address space, which runtimes reserve by the gigabyte and do not use.

What reads or writes files runs in a thread; only `of_exit` is called on the loop, at the end of an instance, and reads
one small file.
"""

from __future__ import annotations

import itertools
import math
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from proxy import units
from proxy.config import Process
from proxy.control import cgroups, fate
from proxy.control.state import Usage

NICE: Final = 5
"""Of one that may use part of a core only, where no cgroup holds it to that: about a third of a core's weight."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What an instance is started with, and how that is called."""

    cgroups: tuple[str, ...] = ()
    affinity: tuple[int, ...] = ()
    nice: int = 0
    memory: int = 0  # bytes; 0: no limit
    cpus: float = 0.0  # cores; 0.0: no limit
    limited_by: str = ""  # "cgroup v2", "watched, affinity", …: of memory, then of CPU
    why: str = ""  # why not, or not all, by a cgroup

    @property
    def words(self) -> str:
        """ "memory 512 MB watched; 1.5 cores by affinity; cgroup v2 not delegated: …"."""
        ways = self.limited_by.split(", ")
        parts = []
        if self.memory:
            parts.append(f"memory {units.size(self.memory)} {_by(ways[0])}")
        if self.cpus:
            parts.append(f"{self.cpus:g} core{'' if self.cpus == 1 else 's'} {_by(ways[-1])}")
        return "; ".join([*parts, *([self.why] if self.why else [])])


def _by(way: str) -> str:
    return "watched" if way == "watched" else f"by {way}"


class Limits:
    """`find` is cgroups.find, with its arguments filled in."""

    def __init__(self, find: Callable[[], cgroups.Found], cores: Iterable[int] | None = None) -> None:
        self._find = find
        self._found: cgroups.Found | None = None
        self._cores = sorted(os.sched_getaffinity(0) if cores is None else cores)
        self._pinned: dict[str, tuple[int, ...]] = {}  # instance -> its cores, of those that this control started
        self._lock = threading.Lock()
        self._of: dict[str, dict[str, Path]] = {}  # instance -> "memory", "cpu", "kill" -> its directory
        self._kills: dict[str, tuple[int, int]] = {}  # of its memory cgroup: as of the last look but one, and the last
        self._busy: list[Path] = []  # to be removed as soon as nothing is in them
        self._said: dict[str, str] = {}  # app -> what was told last

    @property
    def found(self) -> cgroups.Found | None:
        """None: not looked for yet, because nothing is limited."""
        return self._found

    # --- in a thread

    def apply(self, name: str, process: Process) -> Applied:
        """Make what an instance's limits need, before it starts. What can't be made is another way, not an error."""
        if not process.memory and not process.cpus:
            return Applied()
        with self._lock:
            return self._apply(name, process)

    def _apply(self, name: str, process: Process) -> Applied:
        found = self._look_for_homes()
        self._forget(name)
        made: dict[str, Path] = {}
        ways: list[str] = []
        why: list[str] = []
        affinity: tuple[int, ...] = ()
        nice = 0
        if process.memory:
            home = found.of("memory")
            said = self._limit(made, name, "memory", home, process.memory) if home else found.why["memory"]
            ways.append(f"cgroup v{home.version}" if home and not said else "watched")
            if said:
                why.append(said)
        if process.cpus:
            home = found.of("cpu")
            said = self._limit(made, name, "cpu", home, process.cpus) if home else found.why["cpu"]
            ways.append(f"cgroup v{home.version}" if home and not said else "affinity")
            if said:
                why.append(said)
                used = Counter(core for pinned in self._pinned.values() for core in pinned)
                affinity, nice = spread(self._cores, process.cpus, _number(name), used)
                self._pinned[name] = affinity
        unified = next((home for home in found.homes if home.version == 2), None)
        if made and unified is not None and not any(path.parent == unified.path for path in made.values()):
            self._make(made, "kill", unified.path / name)
        self._of[name] = made
        if "memory" in made:
            self._kills[name] = (fate.cgroup_kills(made["memory"]),) * 2
        return Applied(
            cgroups=tuple(dict.fromkeys(map(str, made.values()))),
            affinity=affinity,
            nice=nice,
            memory=process.memory or 0,
            cpus=process.cpus or 0.0,
            limited_by=", ".join(dict.fromkeys(ways)),
            why="; ".join(dict.fromkeys(why)),
        )

    def _limit(
        self, made: dict[str, Path], name: str, controller: str, home: cgroups.Home, value: float
    ) -> str:
        """ "", or why it could not be done."""
        folder = home.path / name
        if not self._make(made, controller, folder):
            return f"{folder} can't be made"
        try:
            if controller == "memory":
                cgroups.set_memory(folder, home, int(value))
            else:
                cgroups.set_cpu(folder, home, value)
            return ""
        except OSError as error:
            made.pop(controller)
            if folder not in made.values():
                self._busy.extend(cgroups.remove([folder]))
            return f"{folder}: {error.strerror}"

    def _make(self, made: dict[str, Path], controller: str, folder: Path) -> bool:
        try:
            folder.mkdir(parents=True, exist_ok=True)  # its home too: the last one out may have removed it
        except OSError:
            return False
        made[controller] = folder
        return True

    def remove(self, name: str) -> None:
        """It has ended for good, and all in its cgroups was killed."""
        with self._lock:
            self._forget(name)

    def _forget(self, name: str) -> None:
        self._kills.pop(name, None)
        self._pinned.pop(name, None)
        self._busy.extend(cgroups.remove(dict.fromkeys(self._of.pop(name, {}).values())))

    def adopt(self, limited: Iterable[tuple[str, Process]]) -> None:
        """Instances with limits that run already; whatever else is in our homes is a dead gateway's, and goes."""
        with self._lock:
            names = {name: process for name, process in limited if process.memory or process.cpus}
            if not names:
                return
            found = self._look_for_homes(tidy=False)
            for name in names:
                made = {}
                for home in found.homes:
                    if (home.path / name).is_dir():
                        made.update(dict.fromkeys(home.controllers or ("kill",), home.path / name))
                self._of[name] = made
                if "memory" in made:
                    self._kills[name] = (-1, -1)
            self._tidy(found)

    def look(self, usage: Mapping[str, Usage]) -> None:
        """Once a second, after the sweep of /proc: what a cgroup knows better, and what could not be removed before."""
        if not self._of and not self._busy:
            return
        with self._lock:
            self._busy = cgroups.remove(self._busy)
            for name, folders in self._of.items():
                if "memory" in folders:
                    self._kills[name] = (self._kills[name][1], fate.cgroup_kills(folders["memory"]))
                one = usage.get(name)
                if one is None:
                    continue
                if "memory" in folders and (used := cgroups.memory_in_use(folders["memory"])) is not None:
                    one.rss = used
                if "cpu" in folders and (spent := cgroups.cpu_seconds(folders["cpu"])) is not None:
                    one.cpu_seconds = spent

    def close(self) -> None:
        """Triage ends: no directory of ours stays, but the one that the launcher itself is in."""
        with self._lock:
            for name in list(self._of):
                self._forget(name)
            self._busy = cgroups.remove(self._busy)
            if self._found is not None:
                cgroups.remove(home.path for home in self._found.homes)

    def _look_for_homes(self, *, tidy: bool = True) -> cgroups.Found:
        if self._found is None:
            self._found = self._find()
            if tidy:
                self._tidy(self._found)
        return self._found

    def _tidy(self, found: cgroups.Found) -> None:
        known = {path for folders in self._of.values() for path in folders.values()}
        for home in found.homes:
            try:
                there = [path for path in home.path.iterdir() if path.is_dir()]
            except OSError:
                continue
            self._busy.extend(cgroups.remove(path for path in there if path not in known))

    # --- on the loop

    def folders(self, name: str) -> tuple[str, ...]:
        """The instance's cgroups, for what shall run within its limits; none where it has none."""
        return tuple(dict.fromkeys(map(str, self._of.get(name, {}).values())))

    def of_exit(self, name: str, by_signal: int | None, killed: bool) -> str | None:
        """ "certain", "likely" or "no", by its own cgroup's count; None: it has none. `killed`: we sent SIGKILL.

        Certain is a kill counted in the last two seconds and SIGKILL as the end. The count alone may be of a child of
        it, killed while the instance went on: then the exit may be what followed, or have another cause."""
        folder = self._of.get(name, {}).get("memory")
        if folder is None:
            return None
        kills, (before, _) = fate.cgroup_kills(folder), self._kills.get(name, (-1, -1))
        if killed or not kills or kills <= before:
            return "no"
        return "certain" if by_signal == signal.SIGKILL and before >= 0 else "likely"

    def news(self, app: str, applied: Applied) -> str:
        """How the app's instances are limited, if that was not told before; else ""."""
        if not applied.limited_by or self._said.get(app) == applied.words:
            return ""
        self._said[app] = applied.words
        return applied.words


def spread(
    cores: list[int], wanted: float, number: int, used: Mapping[int, int] = MappingProxyType({})
) -> tuple[tuple[int, ...], int]:
    """Which cores an instance may use, and its niceness: those that fewest others have, by `used`; else by its number.

    Whole cores are exactly what affinity gives; of a part of one the rest is left to whoever is less nice."""
    count = min(len(cores), max(1, math.ceil(wanted)))
    nice = NICE if wanted < count else 0
    if count == len(cores):
        return (), nice
    turns = ([cores[(at * count + index) % len(cores)] for index in range(count)] for at in itertools.count(number))
    chosen = min(itertools.islice(turns, len(cores)), key=lambda turn: sum(used.get(core, 0) for core in turn))
    return tuple(sorted(chosen)), nice


def _number(name: str) -> int:
    number = name.rpartition("-")[2]
    return int(number) if number.isdigit() else 0
