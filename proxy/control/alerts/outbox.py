"""The way out for one notifier: its own queue, its own task, so that one that hangs holds up nobody else.

Always true:
  - of one incident at most one message waits, the newest; at most MOST wait at all, and what is dropped is counted;
  - one try runs at a time, and has the notifier's limit; after a success a message is never tried again;
  - what waits is in the ledger with its tries; the same message has the same id over all of them.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from proxy.control.alerts import patience
from proxy.control.alerts.message import Message
from proxy.control.alerts.notifiers.contract import Failed, Notifier

MOST: Final = 100


@dataclass(slots=True)
class Waiting:
    """A message on its way. Times are monotonic seconds."""

    message: Message
    tries: int = 0
    first_try: float = 0.0  # 0.0: none yet
    error: str = ""  # of the last try


@dataclass(slots=True)
class Done:
    """What became of a message; a row of the store."""

    message: Message
    notifier: str
    state: str  # "sent" | "failed" | "dropped"
    tries: int
    error: str
    at: float  # Unix seconds


@dataclass(slots=True)
class Condition:
    """How the notifier does. For the ledger as it is; times are Unix seconds but for `until`."""

    failures: int = 0  # in a row
    failing_since: float = 0.0
    said: bool = False  # that it fails
    error: str = ""
    sent_at: float = 0.0  # of the last success
    sent: int = 0
    lost: int = 0  # given up, refused or dropped
    until: float = 0.0  # monotonic: no try before


class Outbox:
    """`done` is called with what became of each message, `kept` when the ledger has to be written, `say` as
    Shared.event."""

    def __init__(
        self,
        name: str,
        notifier: Notifier,
        done: Callable[[Done], None],
        kept: Callable[[], None],
        say: Callable[..., Any],
    ) -> None:
        self.name = name
        self.notifier = notifier
        self.condition = Condition()
        self._queue: dict[int, Waiting] = {}  # by incident
        self._now: Waiting | None = None  # being sent
        self._done = done
        self._kept = kept
        self._say = say
        self._news = asyncio.Event()
        self._testing = False
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Outbox {self.name} {self.state}, {self.waiting} wait>"

    @property
    def waiting(self) -> int:
        """Messages, the one that is being sent included."""
        return len(self.messages())

    @property
    def state(self) -> str:
        if self.condition.failures:
            return "failing"
        return "ok" if self.condition.sent else "unused"

    def messages(self) -> list[tuple[Waiting, str]]:
        """Those on their way, with "sending" or "waiting"."""
        found = [(one, "sending" if one is self._now else "waiting") for one in self._queue.values()]
        if self._now is not None and all(one is not self._now for one in self._queue.values()):
            found.append((self._now, "sending"))
        return found

    # --- what is put in ---------------------------------------------------------------------------------

    def put(self, message: Message) -> None:
        """To be sent; instead of an older one about the same incident that has not left yet."""
        before = self._queue.pop(message.number, None)
        waiting = Waiting(message)
        if before is not None and before is not self._now:
            waiting = Waiting(_merged(before.message, message))
        elif len(self._queue) >= MOST:
            oldest = next(number for number, one in self._queue.items() if one is not self._now)
            self._lose(self._queue.pop(oldest), "dropped", f"more than {MOST} messages wait")
        self._queue[message.number] = waiting
        self._kept()
        self._news.set()
        self.start()

    def start(self) -> None:
        """The task, when there is something to do."""
        if self._queue and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._run(), name=f"notify {self.name}")

    def use(self, notifier: Notifier) -> None:
        """Its config has changed: what waits goes the new way, at once."""
        self.notifier = notifier
        self.condition.until = 0.0
        self._news.set()

    async def test(self, message: Message) -> str:
        """One try of a message that is not queued. Raises Failed."""
        if self._testing:
            raise Failed("another test is under way")
        self._testing = True
        try:
            said = await self._try(message)
        except Failed as error:
            self._done(Done(message, self.name, "failed", 1, str(error), time.time()))
            raise
        finally:
            self._testing = False
        self._succeeded()
        self._done(Done(message, self.name, "sent", 1, "", time.time()))
        return said

    async def close(self, within: float = 0.0) -> None:
        """Nothing more is tried after so many seconds; what waits is in the ledger."""
        if self._task is not None:
            if within and not self.condition.failures:
                await asyncio.wait([self._task], timeout=within)
            self._task.cancel()
            await asyncio.wait([self._task], timeout=3.0)

    def drop_all(self, why: str) -> None:
        """The notifier left the config."""
        for one in list(self._queue.values()):
            self._lose(one, "dropped", why)
        self._queue.clear()

    # --- the task ---------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while self._queue:
            await self._pause()
            if not self._queue:
                return
            one = self._now = min(self._queue.values(), key=lambda waiting: (waiting.tries, waiting.message.id))
            try:
                await self._once(one)
            finally:
                self._now = None

    async def _pause(self) -> None:
        """Until the next try may be; `use` ends it."""
        while (left := self.condition.until - time.monotonic()) > 0 and self._queue:
            self._news.clear()
            try:
                async with asyncio.timeout(left):
                    await self._news.wait()
            except TimeoutError:
                return

    async def _once(self, one: Waiting) -> None:
        one.tries += 1
        one.first_try = one.first_try or time.monotonic()
        try:
            await self._try(one.message)
        except Failed as error:
            self._failed(one, error)
            return
        self._remove(one)
        self._succeeded()
        self._done(Done(one.message, self.name, "sent", one.tries, "", time.time()))
        self._kept()

    async def _try(self, message: Message) -> str:
        """Raises Failed, also for a defect: it must not end the task."""
        limit = self.notifier.limit
        try:
            async with asyncio.timeout(limit):
                return await self.notifier.send(message)
        except Failed:
            raise
        except TimeoutError:
            raise Failed(f"no answer within {limit:g} s") from None
        except Exception as error:
            raise Failed(f"internal error: {error!r}"[:300]) from error

    def _failed(self, one: Waiting, error: Failed) -> None:
        condition, now = self.condition, time.monotonic()
        one.error = condition.error = str(error)
        condition.failures += 1
        condition.failing_since = condition.failing_since or time.time()
        condition.until = now + patience.pause(condition.failures, random.random(), error.after)
        final = not error.again or patience.hopeless(one.first_try, now)
        newer = self._queue.get(one.message.number)
        if newer is not None and newer is not one:
            newer.message = _merged(one.message, newer.message)
        elif final:
            self._remove(one)
            tried = f", after {one.tries} tries" if one.tries > 1 else ""
            self._lose(one, "failed", f"{error}{'' if error.again else ' (another try would not help)'}{tried}")
        if not condition.said and (condition.failures >= patience.FAILING or final):
            condition.said = True
            self._say(
                "notify-failing", f"{self.name} can't be told of alerts: {error}", notifier=self.name,
                target=self.notifier.target,
            )  # fmt: skip
        self._kept()

    def _succeeded(self) -> None:
        condition = self.condition
        if condition.said:
            self._say("notify-recovered", f"{self.name} can be told of alerts again", notifier=self.name)
        condition.failures, condition.failing_since, condition.said, condition.error = 0, 0.0, False, ""
        condition.until = 0.0
        condition.sent_at = time.time()
        condition.sent += 1

    def _remove(self, one: Waiting) -> None:
        if self._queue.get(one.message.number) is one:
            del self._queue[one.message.number]

    def _lose(self, one: Waiting, state: str, why: str) -> None:
        self.condition.lost += 1
        self._done(Done(one.message, self.name, state, one.tries, why, time.time()))

    # --- the ledger -------------------------------------------------------------------------------------

    def dump(self) -> dict[str, Any]:
        return {
            "condition": asdict(self.condition),
            "waiting": [
                {"message": one.message.dump(), "tries": one.tries, "first_try": one.first_try, "error": one.error}
                for one, _ in self.messages()
            ],
        }

    def load(self, raw: dict[str, Any]) -> None:
        """What a former control could not send any more; the task begins with `start`."""
        known = Condition.__dataclass_fields__
        self.condition = Condition(**{name: value for name, value in raw.get("condition", {}).items() if name in known})
        for one in raw.get("waiting", ()):
            message = Message.load(one["message"])
            self._queue[message.number] = Waiting(message, one["tries"], one["first_try"], one["error"])


def _merged(old: Message, new: Message) -> Message:
    """The newer one, when the older one has never arrived: whoever heard nothing yet is told that it began."""
    was = tuple(dict.fromkeys((*old.was, *new.was)))
    if old.kind == "opened":
        return replace(new, kind=new.kind if new.kind == "closed" else "opened", first=old.first, was=())
    if old.kind == "reopened" and new.kind in ("cause", "repeat"):
        return replace(new, kind="reopened", was=was)
    return replace(new, was=was)
