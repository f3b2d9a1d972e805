"""What people set: kept beside the config, over reloads, control's death and a restart of everything.

Always true:
  - each AppState's `by_hand` is the very dict that is kept here, so what is shown is what holds;
  - it is in the ledger at once, and in `data_dir/by_hand.json` as soon as the disk has it: written whole or not at all;
  - what has an `until` ends then, and says so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import orjson

from proxy.control.names import write_whole
from proxy.control.state import ByHand, Event

MUTED: Final = "muted"
"""The key of an app of whose incidents nobody is told."""
EJECTED: Final = "ejected "
"""The key of an instance ejected by hand is this and its name."""


class Book:
    """All that was set by hand, by app and key."""

    def __init__(self, path: Path, event: Callable[..., Event], changed: Callable[[], None]) -> None:
        self._path = path
        self._event = event
        self._changed = changed
        self._saving: asyncio.Task[None] | None = None
        self._again = False
        self.error = ""
        """Why the file cannot be written now; the ledger knows it all the same."""
        self.apps: dict[str, dict[str, ByHand]] = {}
        self._read(path)

    def of(self, app: str) -> dict[str, ByHand]:
        """For AppState.by_hand."""
        return self.apps.setdefault(app, {})

    def set(self, app: str, key: str, value: Any, by: str, why: str = "", for_: float = 0.0) -> ByHand:
        now = time.time()
        entry = ByHand(value, by, now, why, now + for_ if for_ else 0.0)
        self.of(app)[key] = entry
        self._save()
        return entry

    def end(self, app: str, key: str) -> ByHand | None:
        """It no longer holds; what it was."""
        entry = self.of(app).pop(key, None)
        if entry is not None:
            self._save()
        return entry

    def forget(self, app: str) -> None:
        """The app left the config."""
        if self.apps.pop(app, None):
            self._save()

    def due(self, now: float) -> list[tuple[str, str, ByHand]]:
        """(app, key, what it was) of those whose time is over; they have ended. `now` is Unix time."""
        found = [
            (app, key, entry)
            for app, entries in self.apps.items()
            for key, entry in entries.items()
            if entry.until and entry.until <= now
        ]
        for app, key, _ in found:
            self.end(app, key)
            self._event("by-hand-ended", f"{app}: {key}, set by hand, ended as it was set to", app, key=key)
        return found

    # --- kept ----------------------------------------------------------------------------------------

    def dump(self) -> dict[str, Any]:
        return {app: {key: asdict(entry) for key, entry in entries.items()} for app, entries in self.apps.items()}

    def load(self, raw: dict[str, Any]) -> None:
        """From the ledger, which is newer than the file; nothing is known where there is no ledger."""
        if raw:
            self.apps = _parsed(raw)

    def _read(self, path: Path) -> None:
        try:
            self.apps = _parsed(orjson.loads(path.read_bytes()))
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, AttributeError) as error:
            self.error = f"{path} can't be read: {error}"
            self._event("by-hand-lost", f"what was set by hand is not known: {self.error}")

    def _save(self) -> None:
        self._changed()
        if self._saving is not None and not self._saving.done():
            self._again = True
            return
        self._saving = asyncio.get_running_loop().create_task(self._write(), name="by hand")

    async def _write(self) -> None:
        self._again = True
        while self._again:
            self._again = False
            data = orjson.dumps(
                {app: entries for app, entries in self.dump().items() if entries},
                option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS,
            )
            try:
                await asyncio.to_thread(write_whole, self._path, data)
                self.error = ""
            except OSError as error:
                self.error = error.strerror or str(error)
                self._event("by-hand-unsaved", f"what was set by hand is not on the disk: {self.error}")

    async def saved(self) -> None:
        """Until the file has what was set so far, or could not be written."""
        if self._saving is not None:
            await asyncio.wait([self._saving])


def _parsed(raw: dict[str, Any]) -> dict[str, dict[str, ByHand]]:
    return {
        str(app): {str(key): ByHand(**entry) for key, entry in entries.items()} for app, entries in raw.items()
    }
