"""Export of traces: records of requests to an OpenTelemetry collector, as OTLP over HTTP in JSON.

Off without `traces.otlp`: then nothing here runs, and workers send nothing for it. On, a task takes what waits every
EVERY seconds or as soon as BATCH spans wait, makes and compresses the batch in a thread, and posts it.

Always true:
  - nobody waits for it: handing a record over is an append, at most WAITING records wait, the newest go first;
  - a collector that refuses, hangs or is not there costs spans, which are counted, and one connection;
  - a batch that may be tried again (429, 502, 503, 504, no answer) is, TRIES times, after waits that double or that
    the collector asks for (Retry-After); what it refuses otherwise is dropped at once.
"""

from __future__ import annotations

import asyncio
import gzip
import random
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import orjson

import proxy
from proxy.config.schema import Traces as Settings
from proxy.control import spans
from proxy.link.messages import Record

if TYPE_CHECKING:
    import aiohttp

EVERY: Final = 5.0
BATCH: Final = 512
WAITING: Final = 4096
TIMEOUT: Final = 10.0
TRIES: Final = 5
FIRST_WAIT: Final = 1.0
LONGEST_WAIT: Final = 30.0
LAST: Final = 2.0
"""Seconds for what still waits when Triage ends."""
_AGAIN: Final = frozenset((429, 502, 503, 504))
"""OTLP's specification, "Failures": these only."""
_ANSWER: Final = 4096


class Traces:
    """`exported`, `dropped` and `failed` (posts) count since control's start; `error` is "" when all is well."""

    def __init__(self, where: Callable[[str, str], tuple[str, int]], gateway_id: Callable[[], str]) -> None:
        """`where`: address and port of an app's instance; a Unix socket's path has port 0, ("", 0) is not known."""
        self.exported = 0
        """Spans that a collector took."""
        self.dropped = 0
        """Requests whose spans were not exported, but for what workers dropped before (`Stats.spans_dropped`)."""
        self.failed = 0
        self.error = ""
        self._where = where
        self._gateway_id = gateway_id
        self._settings = Settings()
        self._slow = 1.0
        self._queue: deque[Record] = deque()
        self._under_way = 0
        """Requests in the batch that is posted."""
        self._in_batch = 0
        """Its spans."""
        self._spans = 0
        """In the queue."""
        self._full = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Traces to {self._settings.otlp}, {self.waiting} wait>" if self.on else "<Traces off>"

    @property
    def on(self) -> bool:
        return self._settings.otlp is not None

    @property
    def waiting(self) -> int:
        """Requests on their way."""
        return len(self._queue) + self._under_way

    def configure(self, settings: Settings, slow: float) -> None:
        """From now on so; what waits is exported the new way. To be called within the loop."""
        self._slow = slow
        if settings == self._settings:
            return
        self._settings = settings
        self.error = ""
        if self._task is not None:
            self._task.cancel()
            self._ending.add(self._task)
            self._task.add_done_callback(self._ending.discard)
            self._lost("")
            self._task = None
        if self.on:
            self._task = asyncio.get_running_loop().create_task(self._export(), name="traces")
        else:
            self.dropped += len(self._queue)
            self._queue.clear()
            self._spans = 0

    def add(self, records: list[Record]) -> None:
        """Those that are to be exported are."""
        if not self.on:
            return
        for record in records:
            if not spans.wanted(record, self._slow):
                continue
            if len(self._queue) >= WAITING:
                old = self._queue.popleft()
                self._spans -= _size(old)
                self.dropped += 1
            self._queue.append(record)
            self._spans += _size(record)
        if self._spans >= BATCH:
            self._full.set()

    async def close(self, limit: float = LAST) -> None:
        """What waits is posted once more, within `limit` seconds."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        self._lost(self.error)
        try:
            async with asyncio.timeout(limit):
                async with _session(self._settings) as session:
                    while self._queue:
                        again, _ = await self._post(session, await self._batch())
                        if again:
                            break
        except TimeoutError:
            pass
        self._lost(self.error)
        self.dropped += len(self._queue)
        self._queue.clear()
        self._settings = Settings()

    # --- the task ---------------------------------------------------------------------------------

    async def _export(self) -> None:
        async with _session(self._settings) as session:
            while True:
                try:
                    async with asyncio.timeout(EVERY):
                        await self._full.wait()
                except TimeoutError:
                    pass
                self._full.clear()
                while self._queue:
                    try:
                        await self._deliver(session, await self._batch())
                    except Exception as error:  # a defect of ours: a batch is lost, the next is tried
                        self._lost(f"a batch could not be exported: {error!r}")
                    if self._spans < BATCH:
                        break  # the rest waits for more

    async def _batch(self) -> bytes:
        """At most BATCH spans, of whole requests; made in a thread."""
        records: list[Record] = []
        size = 0
        while self._queue and (not records or size + _size(self._queue[0]) <= BATCH):
            record = self._queue.popleft()
            records.append(record)
            size += _size(record)
        self._spans -= size
        self._under_way = len(records)
        self._in_batch = size
        named = {(one.app, each.instance) for one in records for each in (one, *(one.attempts or ()))}
        places = {key: self._where(*key) for key in named}  # here: what it looks at changes on this loop
        return await asyncio.to_thread(_made, records, places, self._settings.service, self._gateway_id())

    async def _deliver(self, session: aiohttp.ClientSession, content: bytes) -> None:
        """Post until it is taken, refused for good, or tried often enough."""
        pause = FIRST_WAIT
        for number in range(1, TRIES + 1):
            again, asked = await self._post(session, content)
            if again is False:
                return
            if number == TRIES:
                break
            await asyncio.sleep(min(asked or pause * random.uniform(0.8, 1.2), LONGEST_WAIT))
            pause *= 2
        self._lost(self.error)

    def _lost(self, why: str) -> None:
        self.error = why
        self.dropped += self._under_way
        self._under_way = 0

    async def _post(self, session: aiohttp.ClientSession, content: bytes) -> tuple[bool, float]:
        """Whether it may be tried again, and after how many seconds the collector wants it."""
        import aiohttp

        url = self._settings.otlp
        assert url is not None
        try:
            async with session.post(url, data=content, allow_redirects=False) as answer:
                said = await answer.content.read(_ANSWER)
                status, asked = answer.status, answer.headers.get("Retry-After", "")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self.failed += 1
            self.error = f"the collector does not answer: {str(error) or type(error).__name__}"
            return True, 0.0
        if status == 200:
            refused = min(_refused(said), self._in_batch)
            self.exported += self._in_batch - refused
            self.error = f"the collector refused {refused} of {self._in_batch} spans" if refused else ""
            self._under_way = 0
            return False, 0.0
        self.failed += 1
        self.error = f"the collector answers {status}"
        if status in _AGAIN:
            return True, float(asked) if asked.isdigit() else 0.0
        self._lost(self.error)
        return False, 0.0


def _size(record: Record) -> int:
    """Spans of a request."""
    return 1 + (len(record.attempts) if record.attempts else min(record.tries, 1))


def _made(records: list[Record], places: spans.Places, service: str, gateway_id: str) -> bytes:
    """In a thread."""
    made = [span for record in records for span in spans.of(record, places)]
    return gzip.compress(orjson.dumps(spans.whole(made, service, gateway_id)), 1)


def _refused(content: bytes) -> int:
    """OTLP's partial success: how many spans were not taken."""
    try:
        partial = orjson.loads(content or b"{}").get("partialSuccess") or {}
        return int(partial.get("rejectedSpans") or 0)
    except (ValueError, AttributeError, TypeError):
        return 0


def _session(settings: Settings) -> aiohttp.ClientSession:
    """Imported only where something is exported."""
    import aiohttp

    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=TIMEOUT),
        connector=aiohttp.TCPConnector(limit=1),
        headers={
            **settings.headers,
            "Content-Type": "application/json",
            "Content-Encoding": "gzip",
            "User-Agent": f"triage/{proxy.__version__}",
        },
        cookie_jar=aiohttp.DummyCookieJar(),
    )
