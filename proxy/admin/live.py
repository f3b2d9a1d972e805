"""All that a dashboard shows, once a second, as server-sent events: `metrics/stream`.

Always true:
  - nothing is gathered or encoded while nobody follows;
  - a second is encoded once, however many follow: they are sent the same bytes. `tick` has what changed, `whole` is
    everything, for who begins or missed a second, and is encoded only where somebody needs it;
  - figures are of the last 5 seconds. Of faults those count that are not the clients' own doing.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from proxy.admin import query, streams, verdict, views
from proxy.admin.common import whole_verdict
from proxy.admin.errors import ApiProblem
from proxy.admin.incidents import brief
from proxy.admin.keys import LIVE
from proxy.admin.notices import notices
from proxy.control.counters import Summaries
from proxy.control.metrics.rings import Recent
from proxy.control.state import AppState, InstanceState, Lifecycle
from proxy.faults import FAULTS, Origin
from proxy.link.histogram import merge, quantile
from proxy.link.messages import Record

if TYPE_CHECKING:
    from proxy.control.gateway import Gateway

SOON: Final = 0.25
"""Seconds between two messages at least: a first fault does not wait for the second to be full, a storm does."""
STEP: Final = 20
"""Instances made before others get their turn: about 1 ms."""


async def stream(request: web.Request) -> web.StreamResponse:
    """Follow until the client leaves."""
    if not query.flag(request, "follow"):
        raise ApiProblem(
            400, "stream-only", "This is a stream", "It has no end and no pages.",
            "Ask with follow=true and read server-sent events.",
        )  # fmt: skip
    live = request.app[LIVE]
    return await streams.follow(request, live.follow)


class Live:
    """One per admin server; gathers as long as somebody follows."""

    def __init__(self, gateway: Gateway) -> None:
        self.encoded = 0
        """Messages made so far."""
        self._gateway = gateway
        self._following = 0
        self._news = asyncio.Event()
        self._number = 0
        self._tick = b""
        self._whole = b""
        self._head: dict[str, Any] = {}
        self._shown: dict[str, dict[str, Any]] = {}  # instances, by app and name
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._error = ""
        self._fault: dict[str, Any] | None = None
        self._gathered = 0.0  # monotonic
        gateway.on_fault.append(self._faulted)

    def _faulted(self, record: Record) -> None:
        """One was kept: who sees no faults yet is told now, and not when the second is full."""
        self._fault = {
            "id": record.id, "time": views.iso(record.time), "app": record.app, "instance": record.instance,
            "method": record.method, "target": record.target, "status": record.status, "fault": record.fault,
        }  # fmt: skip
        quiet = not self._head or not self._head["gateway"]["faults_per_s"]
        if quiet and self._task is not None and time.monotonic() - self._gathered >= SOON:
            self._wake.set()

    async def follow(self, write: streams.Write) -> None:
        """Send one client all that comes. Raises ConnectionError, TimeoutError."""
        self._following += 1
        try:
            self._start()
            await write(b": Triage tells how it stands\nretry: 1000\n\n")
            sent = -1
            while True:
                while self._number == sent or not self._number:
                    if not await streams.heard(self._news):
                        await write(b": still here\n\n")
                number = self._number
                data = self._tick if number == sent + 1 else self._all()
                sent = number
                await write(data)
        finally:
            self._following -= 1
            if not self._following:
                await self.close()

    async def close(self) -> None:
        """Nobody follows any more."""
        task, self._task = self._task, None
        if task is not None and task is not asyncio.current_task():
            self._gateway.rings.listeners.remove(self._wake.set)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if not self._following:
            self._shown, self._head, self._number = {}, {}, 0

    def _start(self) -> None:
        if self._task is None:
            self._wake.set()  # the first look is now, not in a second
            self._gateway.rings.listeners.append(self._wake.set)
            self._task = asyncio.get_running_loop().create_task(self._run(), name="live metrics")

    async def _run(self) -> None:
        """As often as a second of the rings is filled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._gather()
            except Exception as error:  # a defect in one figure must not silence the dashboard for good
                if repr(error) != self._error:
                    self._error = repr(error)
                    self._gateway.log.error("defect", f"live metrics: {error!r}", trace=traceback.format_exc())
                continue
            self._news.set()
            self._news = asyncio.Event()

    async def _gather(self) -> None:
        """One second: what is shown now, and the message that says what is different."""
        gateway, self._gathered = self._gateway, time.monotonic()
        seen = views.Look(gateway.counters, gateway.board, Summaries(), (), gateway.incidents.open)
        apps: list[dict[str, Any]] = []
        shown: dict[str, dict[str, Any]] = {}
        verdicts: list[tuple[str, verdict.Verdict]] = []
        whole = Recent()
        for app in list(gateway.apps.values()):
            found = gateway.rings.recent(app.name)
            _plus(whole, found)
            verdicts.append((app.name, seen.verdict(app)))
            apps.append(_app(seen, app, verdicts[-1][1], found))
            for instance in list(app.instances.values()):
                shown[f"{app.name}/{instance.name}"] = _instance(gateway, seen, app, instance)
                if len(shown) % STEP == 0:
                    await asyncio.sleep(0)
            await asyncio.sleep(0)
        head = {**_head(gateway, whole_verdict(gateway, verdicts), whole, apps), "apps": apps, "fault": self._fault}
        before = self._shown
        changed = [one for key, one in shown.items() if not _same(before.get(key), one)]
        gone = [key for key in before if key not in shown]
        self._head, self._shown = head, shown
        self._whole = b""
        self._tick = streams.message("tick", {**head, "instances": changed, "gone": gone})
        self.encoded += 1
        self._number += 1

    def _all(self) -> bytes:
        """`whole` of this second, encoded when the first client needs it."""
        if not self._whole:
            self._whole = streams.message("whole", {**self._head, "instances": list(self._shown.values()), "gone": []})
            self.encoded += 1
        return self._whole


def _same(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> bool:
    """But for the time that it runs, which everybody can count."""
    if before is None:
        return False
    return all(value == before[name] for name, value in now.items() if name != "uptime_s")


def _plus(into: Recent, other: Recent) -> None:
    into.requests += other.requests
    into.own_sum += other.own_sum
    merge(into.total, other.total)
    for name, count in other.faults.items():
        into.faults[name] = into.faults.get(name, 0) + count


def _head(gateway: Gateway, whole: verdict.Verdict, found: Recent, apps: list[dict[str, Any]]) -> dict[str, Any]:
    where, words = gateway.incidents.is_it()
    check = gateway.self_check.last
    own = gateway.own.processes.values()
    workers = [worker.stats for worker in gateway.workers if worker.stats is not None]
    return {
        "time": views.iso(time.time()),
        "verdict": whole.line,
        "state": whole.state,
        "is_it": where,
        "is_it_words": words,
        "self_check": {"ok": check.ok, "ms": check.ms, "words": check.words},
        "gateway": {
            **_rates(found),
            "in_flight": sum(app["in_flight"] for app in apps),
            "connections": sum(stats.connections for stats in workers),
            "own_ms": views.millis(found.own_sum / found.requests) if found.requests else None,
            "lag_ms": views.millis(max((stats.lag_max_us for stats in workers), default=0) / 1e6),
            "cpu": round(sum(use.cpu for use in own), 3),
            "memory": sum(use.memory for use in own),
        },
        "notices": list(notices(gateway)),
        "incidents": [brief(one) for one in gateway.incidents.open.values()],
    }


def _rates(found: Recent) -> dict[str, float]:
    faults = sum(
        count for name, count in found.faults.items() if name not in FAULTS or FAULTS[name].origin is not Origin.CLIENT
    )
    return {
        "requests_per_s": round(found.requests / found.seconds, 2),
        "faults_per_s": round(faults / found.seconds, 2),
    }


def _times(found: Recent) -> dict[str, float | None]:
    return {
        "p50_ms": views.millis(quantile(found.total, 0.5)),
        "p99_ms": views.millis(quantile(found.total, 0.99)),
    }


def _slots(app: AppState) -> int:
    """Of each of its instances; 0: no limit."""
    return app.config.max_inflight if isinstance(app.config.max_inflight, int) else 0


def _app(seen: views.Look, app: AppState, said: verdict.Verdict, found: Recent) -> dict[str, Any]:
    ready = len(app.ready)
    waiting, _ = seen.waiting(app.row)
    return {
        "id": app.name,
        "state": said.state,
        "verdict": said.line,
        "ready": ready,
        "wanted": app.wanted,
        **_rates(found),
        "in_flight": sum(seen.in_flight(one.row) for one in app.instances.values()),
        "slots": _slots(app) * ready,
        "waiting": waiting,
        **_times(found),
        "muted_until": views.muted_until(app),
    }


def _instance(gateway: Gateway, seen: views.Look, app: AppState, one: InstanceState) -> dict[str, Any]:
    found = gateway.rings.recent(app.name, one.name)
    usage = one.usage
    process = app.config.process
    return {
        "id": one.name,
        "app": app.name,
        "lifecycle": one.lifecycle.value,
        "admission": one.admission.value,
        "why": one.why,
        "in_flight": seen.in_flight(one.row),
        "slots": _slots(app) if one.lifecycle is Lifecycle.READY else 0,
        **_rates(found),
        **_times(found),
        "cpu": round(usage.cpu, 3) if usage is not None else None,
        "memory": usage.rss if usage is not None else None,
        "memory_limit": one.memory_limit or (process.memory if process is not None else None),
        "restarts": one.restarts,
        "uptime_s": round(seen.clock - one.started, 1) if one.started and one.pid else None,
    }
