"""Watched files: when those of `process.watch` change, the app's instances are replaced, one after another.

They are looked at once a second, in a thread, without any help of the kernel's: so it works on every file system, over
mounts and in containers. A change counts when the files were the same in two looks a second apart: an editor's detours
and a checkout of a thousand files are one change.

Always true:
  - a change of files leads to a restart of their app only, and is never lost: what changes while a restart runs leads
    to the next one;
  - a restart that fails leaves the old instances, and the next change tries again at once;
  - where a `changed` rule of the app looks at the same files, the rule decides, and nothing happens here;
  - files that change again and again by themselves do not restart an app without end.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from proxy import units
from proxy.config import App as AppConfig
from proxy.config import Process
from proxy.control.files import MOST, Files, look
from proxy.control.operations import Asked, Operation
from proxy.control.refusal import NotPossible
from proxy.control.shared import Shared
from proxy.control.state import AppState

BY: Final = "watch"
QUIET: Final = 0.9
"""Seconds between two looks that must be the same; a tick comes each second, roughly."""
SHARE: Final = 0.05
"""Of a core, that looking may take: with slow disks or many files it is looked less often."""
UNREST: Final = 60.0
"""Seconds of changes without a pause, after which it is said that nothing will come of them."""
OFTEN: Final = 8
"""Restarts within OFTEN_WITHIN seconds; then SLOWED apart: an app may write to its own watched files at each start."""
OFTEN_WITHIN: Final = 120.0
SLOWED: Final = 60.0
PENDING: Final = "-"
"""In the ledger, instead of a fingerprint: a change that no restart has taken up."""

Key = tuple[str, tuple[str, ...]]
"""App, and patterns; () for those of process.watch."""
Act = Callable[..., Operation]


@dataclass(slots=True)
class _Set:
    """The files of one key. `settled` is what counts, `latest` what was seen last; no look begins before the last one
    was taken in."""

    folder: str
    patterns: tuple[str, ...]
    settled: Files | None = None
    latest: Files | None = None
    unrest: float = 0.0  # since when looks differ; 0.0: they do not
    said: bool = False
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class _Look:
    """One look at a set, compared in the thread: with ten thousand files that takes a while."""

    files: Files
    moves: bool  # it differs from the look before
    changed: list[str]  # from what is settled
    fingerprint: str  # "" while it moves, or has not changed


def _look_at(one: _Set, leave_out: str) -> _Look:
    files = look(one.folder, one.patterns, [leave_out])
    moves = one.latest is not None and files.found != one.latest.found
    changed = files.changed(one.settled) if one.settled is not None and files.found != one.settled.found else []
    return _Look(files, moves, changed, files.fingerprint if one.settled is None or (changed and not moves) else "")


@dataclass(slots=True)
class _Restarts:
    """Of one app. `pending`: changed files that no restart has taken up yet."""

    pending: dict[str, None] = field(default_factory=dict)
    operation: str = ""
    at: deque[float] = field(default_factory=lambda: deque(maxlen=OFTEN))
    slowed: bool = False


class FileWatcher:
    """`act` is the mender's; `retry` tries an app's failed instances again at once."""

    def __init__(
        self, shared: Shared, apps: Mapping[str, AppState], act: Act, retry: Callable[[str], object]
    ) -> None:
        self.shared = shared
        self.apps = apps
        self._act = act
        self._retry = retry
        self._sets: dict[Key, _Set] = {}
        self._asked: dict[Key, float] = {}  # when a rule's own files were asked for last
        self._restarts: dict[str, _Restarts] = {}
        self._loaded: dict[str, str] = {}
        self._looking: asyncio.Task[None] | None = None
        self._next = 0.0

    def __repr__(self) -> str:
        files = sum(len(one.settled.found) for one in self._sets.values() if one.settled)
        return f"<FileWatcher of {files} files in {len(self._sets)} sets>"

    def fingerprint(self, app: str, patterns: tuple[str, ...] = ()) -> str:
        """Of the settled files; "" while it is not known. Asking is what makes files of a rule's own be watched."""
        key = (app, patterns)
        if patterns:
            self._asked[key] = time.monotonic()
        found = self._sets.get(key)
        return found.fingerprint if found is not None else ""

    # --- once a second ---------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """`now` is monotonic. Files are looked at in a thread; what is due is restarted."""
        self._follow_config(now)
        for name in list(self._restarts):
            self._restart(name, now)
        if self._sets and now >= self._next and (self._looking is None or self._looking.done()):
            self._looking = asyncio.get_running_loop().create_task(self._look(), name="watched files")

    def _follow_config(self, now: float) -> None:
        wanted: dict[Key, tuple[str, tuple[str, ...]]] = {}
        for name, app in self.apps.items():
            process = app.config.process
            if process is not None and process.watch:
                wanted[name, ()] = (process.cwd, process.watch)
        for (name, patterns), at in list(self._asked.items()):
            process = self.apps[name].config.process if name in self.apps else None
            if now - at > 10.0:
                del self._asked[name, patterns]
            elif process is not None:
                wanted[name, patterns] = (process.cwd, patterns)
        for key, (folder, patterns) in wanted.items():
            known = self._sets.get(key)
            if known is None or (known.folder, known.patterns) != (folder, patterns):
                self._sets[key] = _Set(folder, patterns)
        for key in [key for key in self._sets if key not in wanted]:
            del self._sets[key]
        for name in [name for name in self._restarts if (name, ()) not in self._sets]:
            del self._restarts[name]

    async def _look(self) -> None:
        began = time.monotonic()
        sets = dict(self._sets)
        data_dir = str(self.shared.data_dir)

        def work() -> tuple[dict[Key, _Look], float]:
            spent = time.thread_time()
            found = {key: _look_at(one, data_dir) for key, one in sets.items()}
            return found, time.thread_time() - spent

        found, spent = await asyncio.to_thread(work)
        now = time.monotonic()
        self._next = max(began + QUIET, now + spent / SHARE if spent > 0.05 else 0.0)
        for key, seen in found.items():
            if self._sets.get(key) is sets[key]:
                self._seen(key, sets[key], seen, now)

    def _seen(self, key: Key, one: _Set, seen: _Look, now: float) -> None:
        (app, patterns), files = key, seen.files
        if files.cut and not one.said:
            one.said = True
            text = f"{app}: only the first {MOST:,} of the watched files are watched: {', '.join(one.patterns)}"
            self.shared.event("watch-cut", text, app)
        if one.settled is None:
            one.settled = one.latest = files
            one.fingerprint = seen.fingerprint
            before = self._loaded.pop(app, "") if not patterns else ""
            if before and before != one.fingerprint:
                self._note(app, ["files, while control was away,"])
            self.shared.changed()
            return
        if seen.moves:
            one.latest = files
            one.unrest = one.unrest or now
            if now - one.unrest > UNREST and not one.said:
                one.said = True
                names = ", ".join(self._names(one, seen.changed[:3]))
                text = f"{app}: watched files keep changing, so nothing is done yet: {names}"
                self.shared.event("watch-unrest", text, app)
            return
        one.unrest = 0.0
        if not seen.changed:
            return
        one.settled = files
        one.said = files.cut
        one.fingerprint = seen.fingerprint
        if not patterns:
            self._note(app, self._names(one, seen.changed))
        self.shared.changed()

    def _note(self, app: str, names: list[str]) -> None:
        state = self.apps.get(app)
        if state is None or decided_by_rule(state.config):
            return
        restarts = self._restarts.setdefault(app, _Restarts())
        restarts.pending.update(dict.fromkeys(names))
        running = self.shared.operations.get(restarts.operation)
        if running is not None and running.running:
            self._retry(app)  # its replacements may have failed for what was just mended
        self._restart(app, time.monotonic())

    @staticmethod
    def _names(one: _Set, paths: list[str]) -> list[str]:
        return [os.path.relpath(path, one.folder) if path.startswith(one.folder + os.sep) else path for path in paths]

    # --- what follows ----------------------------------------------------------------------------------

    def _restart(self, app: str, now: float) -> None:
        """Take up what is pending, if it can be now."""
        restarts, state = self._restarts[app], self.apps.get(app)
        if not restarts.pending or state is None:
            return
        running = self.shared.operations.get(restarts.operation)
        if running is not None and running.running:
            return
        if len(restarts.at) == OFTEN and now - restarts.at[0] < OFTEN_WITHIN and now - restarts.at[-1] < SLOWED:
            if not restarts.slowed:
                restarts.slowed = True
                text = (
                    f"{app}: watched files changed {OFTEN} times in {units.duration(now - restarts.at[0])}:"
                    f" restarted once in {units.duration(SLOWED)} at most from now on"
                )
                self.shared.event("watch-often", text, app)
            return
        reason = said(list(restarts.pending))
        if state.state == "stopped":
            restarts.pending.clear()
            return  # it starts with them
        try:
            operation = self._act("restart", app, "", Asked(BY, reason, collect=False))
        except NotPossible as error:
            if error.kind in ("already", "leaving", "stopping"):
                return  # once that is over
            restarts.pending.clear()
            self.shared.event("watch-refused", f"{app} is not restarted, though {reason}: {error}", app)
            return
        restarts.slowed = restarts.slowed and now - restarts.at[0] < OFTEN_WITHIN
        restarts.pending.clear()
        restarts.operation = operation.id
        restarts.at.append(now)

    async def close(self) -> None:
        """Control ends."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    # --- for a successor -------------------------------------------------------------------------------

    def dump(self) -> dict[str, Any]:
        """Of each app, what its files are like: a change while control is away is seen by the next."""
        return {
            app: PENDING if app in self._restarts and self._restarts[app].pending else one.fingerprint
            for (app, patterns), one in self._sets.items()
            if not patterns
        }

    def load(self, raw: dict[str, Any]) -> None:
        self._loaded = {str(app): str(fingerprint) for app, fingerprint in raw.items()}


def said(names: list[str]) -> str:
    """ "app.py changed (and 3 more)"."""
    more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
    return f"{names[0]} changed{more}"


def decided_by_rule(config: AppConfig) -> bool:
    """A `changed` rule looks at the files of process.watch, or at some of the same."""
    process: Process | None = config.process
    watched = set(process.watch) if process is not None else set()
    return any(
        rule.when.kind == "changed" and not rule.dry_run and (not rule.when.files or watched & set(rule.when.files))
        for rule in config.autoheal
    )
