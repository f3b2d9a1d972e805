"""The log book: all lines of all apps, from where they are read to where they can be asked for.

Always true:
  - numbers of lines only grow, over all instances, and over restarts of control: it begins behind the highest number
    in the files and the ledger, whatever the clock says;
  - what is read goes to memory, to the disk and to the search for exceptions, each bounded and each counting for itself
    what it could not take.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from proxy.control.logs.capture import OutputCapture
from proxy.control.logs.exceptions import OTHER, Exceptions, words
from proxy.control.logs.follow import Follower, Part, Wanted
from proxy.control.logs.lines import TRIAGE, Batch, Numbers, number_of, text, weigh
from proxy.control.logs.recent import Recent
from proxy.control.logs.search import Answer, Item, Question, search, sources
from proxy.control.logs.writer import LogWriter
from proxy.control.state import AppState
from proxy.control.store.exceptions import Row

TOTAL: Final = 100_000
"""Lines a second of all instances together; beyond, those that had their share are dropped."""
BURST: Final = 300_000
SHARE: Final = 2000
"""Lines that an instance may be ahead of its own rate, whatever others do."""
TELLS: Final = 20
"""Events of exceptions in a minute and app; more are one event."""
TAIL: Final = 20_000
"""Bytes at a file's end in which its last line is."""
GAP: Final = "control was started again here: up to 64 KiB of each stream may be missing"
SEARCHES: Final = 4
"""At once; more wait."""
IN_MEMORY: Final = 20_000
"""Lines that are not in a file and take part in a search."""

Event = Callable[..., Any]
"""As Shared.event."""


class LogBook:
    """Made on control's loop, used only there, but for `writer` and what says otherwise."""

    def __init__(
        self,
        writer: LogWriter,
        apps: Mapping[str, AppState],
        event: Event,
        noted: Callable[[], None],
        keep: Callable[[Row], None],
    ) -> None:
        self.writer = writer
        self.numbers = Numbers()
        self.recent = Recent()
        self.exceptions = Exceptions()
        self.captures: dict[str, OutputCapture] = {}
        self.follower = Follower(writer.directory)
        self.skipped = 0
        """Bytes of the apps' own files that were not read, because they grew too fast."""
        self._apps = apps
        self._event = event
        self._noted = noted
        self._keep = keep
        self._known: set[str] = set()  # apps whose files were followed before
        self._rests: dict[str, list[str]] | None = None  # of a control that ended in order
        self._handing: dict[str, list[str]] | None = None
        self._round: asyncio.Task[None] | None = None
        self._dumped: list[dict[str, Any]] = []
        self._reading = False  # the thread is at the files
        self._searches = asyncio.Semaphore(SEARCHES)
        self._tokens = float(BURST)
        self._filled = time.monotonic()
        self._told: dict[str, deque[float]] = {}
        self._held: dict[str, int] = {}  # news that were not told, by app

    def __repr__(self) -> str:
        return f"<LogBook of {len(self.captures)} instances and {len(self.follower.files)} files>"

    # --- its life ------------------------------------------------------------------------------------

    async def begin(self, rows: Callable[[], Awaitable[list[Row]]]) -> None:
        """Numbers go on, and groups are known again. `rows` may raise."""
        self.numbers.at_least(await asyncio.to_thread(highest, self.writer.directory))
        with contextlib.suppress(Exception):  # NotReadable: what was seen before is new again
            self.exceptions.load(await rows())

    async def first_look(self) -> None:
        """Before an instance is started: what is in the apps' files now is older than it."""
        await self._look()

    def dump(self) -> dict[str, Any]:
        """For a new control; see `Lasting`."""
        if not self._reading:
            self._dumped = self.follower.dump()
        found: dict[str, Any] = {"last": self.numbers.last, "files": self._dumped, "apps": sorted(self._known)}
        if self._handing is not None:
            found["rests"] = self._handing
        return found

    def load(self, raw: dict[str, Any]) -> None:
        self.numbers.at_least(int(raw.get("last", 0)))
        self.follower.restored = list(raw.get("files", ()))
        self._known = set(raw.get("apps", ()))
        self._rests = raw.get("rests")

    def attach(self, capture: OutputCapture, stdout: int, stderr: int) -> None:
        """Go on with what a control before read from."""
        rest = (self._rests or {}).get(capture.name)
        if rest is None:
            capture.note(GAP)
            rest = ["", ""]
        capture.attach(stdout, stderr, (rest[0].encode("latin-1"), rest[1].encode("latin-1")))

    def hand_over(self) -> None:
        """Control ends in order, and another one goes on: nothing is read any more."""
        self._handing = {name: capture.hand_over() for name, capture in self.captures.items()}

    async def close(self) -> None:
        """Write all that was read."""
        if self._round is not None:
            self._round.cancel()
            await asyncio.gather(self._round, return_exceptions=True)
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self.writer.close()
        self.exceptions.flush(1.0)
        self.exceptions.close()

    def last_words(self) -> None:
        """Before the store ends: what is counted by now."""
        for row in self.exceptions.changed():
            self._keep(row)

    # --- lines ---------------------------------------------------------------------------------------

    def take(self, batch: Batch) -> bool:
        """Lines of one stream. False: the disk is too slow, and they are in memory only."""
        written = self.writer.put(batch)
        if batch.stream != TRIAGE:
            self._tokens -= len(batch.lines)
            self.exceptions.take(batch)
        self.recent.add(batch)
        return written

    def crowded(self, ahead: float) -> bool:
        """All instances together print too much, and this one has had its share."""
        now = time.monotonic()
        self._tokens = min(BURST, self._tokens + (now - self._filled) * TOTAL)
        self._filled = now
        return self._tokens <= 0 and ahead > SHARE

    def gone(self, capture: OutputCapture) -> None:
        """An instance is no more."""
        self.writer.release(capture.name)
        self.exceptions.forget(capture.app, capture.name)
        self.recent.forget(capture.app, capture.name)
        if self.captures.get(capture.name) is capture:
            del self.captures[capture.name]

    # --- once a second -------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """`now` is monotonic."""
        for row in self.exceptions.changed():
            self._keep(row)
        self._tell(now)
        if self._round is None or self._round.done():
            wanted = self._wanted()
            if wanted or self.follower.files or self.follower.restored:
                self._round = asyncio.get_running_loop().create_task(self._look(), name="log files")

    def look_soon(self) -> None:
        """The config has changed: what is in files now was before."""
        if self._round is None or self._round.done():
            self._round = asyncio.get_running_loop().create_task(self._look(), name="log files")

    def _tell(self, now: float) -> None:
        for news in self.exceptions.news():
            told = self._told.setdefault(news.app, deque(maxlen=TELLS))
            if len(told) == TELLS and now - told[0] < 60.0:
                self._held[news.app] = self._held.get(news.app, 0) + 1
                continue
            told.append(now)
            self._event(
                "exception", words(news), news.app, news.instance, fingerprint=news.fingerprint, news=news.kind,
                type=news.type, message=news.message, where=news.where, version=news.version, count=news.count,
            )  # fmt: skip
            self._noted()
        for app, count in list(self._held.items()):
            told = self._told[app]
            if now - told[0] >= 60.0:
                del self._held[app]
                told.append(now)
                text = f"{count} more kinds of exceptions in {app} are new: triage logs lists them"
                self._event("exception", text, app, fingerprint=OTHER, news="more", count=count)

    # --- the apps' own files -------------------------------------------------------------------------

    def _wanted(self) -> list[Wanted]:
        found = []
        for name, app in self._apps.items():
            process = app.config.process
            if process is None or not process.logs:
                continue
            patterns: list[tuple[str, str]] = []
            for pattern in process.logs:
                if "{name}" in pattern:
                    patterns += [(pattern.replace("{name}", one), one) for one in app.instances]
                else:
                    patterns.append((pattern, ""))
            found.append(Wanted(name, process.cwd, tuple(patterns), name not in self._known))
        return found

    async def _look(self) -> None:
        """One round. Handing over is in parts, so that others get their turn."""
        wanted = self._wanted()
        if not wanted and not self.follower.files and not self.follower.restored:
            return
        self._reading = True
        try:
            seen = await asyncio.to_thread(self.follower.round, wanted)
        finally:
            self._reading = False
        for kind, app, said in seen.said:
            self._event(kind, said, app)
        refused = set()
        for part in seen.parts:
            if part.file not in refused and not self._hand(part):
                refused.add(part.file)
                self.follower.back(part.file)
            await asyncio.sleep(0)
        self._known = {one.app for one in wanted}
        if self.follower.dump() != self._dumped:
            self._noted()

    def _hand(self, part: Part) -> bool:
        """Lines of a file; False: not now."""
        file, now = part.file, time.time()
        if part.note:
            self.take(self._batch(file.app, "", TRIAGE, [part.note.encode()], now))
            if part.lines or file.fd < 0:
                return True
            self.skipped += max(0, part.end - file.taken[0])
            file.taken = (part.end, part.cutting)
            return True
        if not part.lines:
            file.taken = (part.end, part.cutting)
            if not file.handed and not part.skipping:
                file.sure, file.sure_id = file.taken, max(file.sure_id, file.skipped)
            return True
        app = self._apps.get(file.app)
        running = [one.name for one in app.instances.values() if one.pid] if app is not None else []
        instance = file.instance or (running[0] if len(running) == 1 else "")
        size = weigh(part.lines)
        if self.writer.queued + 2 * size + 100 * len(part.lines) > self.writer.room:
            return False
        batch = self._batch(file.app, instance, file.stream, part.lines, now)
        self.take(batch)
        file.taken = (part.end, part.cutting)
        file.handed.append((batch, part.end, part.cutting))
        return True

    def _batch(self, app: str, instance: str, stream: str, lines: list[bytes], now: float) -> Batch:
        state = self._apps.get(app)
        version = state.version if state is not None else ""
        first = self.numbers.take(len(lines), now)
        return Batch(first, now, app, instance, stream, lines, f"{app}.files", version, weigh(lines))

    # --- what is asked -------------------------------------------------------------------------------

    async def search(self, app: str, instance: str, **asked: Any) -> Answer:
        """Lines of an app and an instance ("": of all), newest first; `asked` as in Question. Raises BadExpression."""
        async with self._searches:
            await asyncio.to_thread(self.writer.flush, 0.2)
            waiting = [batch for batch in self.recent.unwritten() if not app or batch.app == app]
            memory = await asyncio.to_thread(_items, waiting)
            found = await asyncio.to_thread(sources, self.writer.directory, list(self._apps), app, instance)
            return await search(Question(found, memory, instance, **asked))


def _items(batches: list[Batch]) -> list[Item]:
    """The newest lines of these. In a thread."""
    found: list[Item] = []
    for batch in reversed(batches):
        found += [
            Item(number, batch.app, batch.instance, batch.stream, text(line))
            for number, line in enumerate(batch.lines, batch.id)
        ]
        if len(found) > IN_MEMORY:
            break
    return found


def highest(directory: Path) -> int:
    """The highest number in the files' tails. In a thread."""
    found = 0
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.endswith((".log", ".log.1")) and entry.is_file():  # a pipe would hold the start of control
                with contextlib.suppress(OSError), open(entry.path, "rb") as file:
                    size = file.seek(0, os.SEEK_END)
                    file.seek(max(0, size - TAIL))
                    for line in reversed(file.read(TAIL).split(b"\n")):
                        if number := number_of(line):
                            found = max(found, number)
                            break
    return found
