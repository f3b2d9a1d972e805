"""Makes the scenes of a second from what control knows: the host, the gateway, each app. The rim of incidents/.

Always true:
  - what may wait (the disk, /proc, a certificate) is read in a thread, and looked at when it is there.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final

from proxy.control.autoheal.contract import Series
from proxy.control.incidents import certificates
from proxy.control.incidents.engine import Scene
from proxy.control.incidents.hits import Totals
from proxy.control.incidents.host import HostReader
from proxy.control.incidents.scene import AppScene, GatewayScene, Host, HostScene, Loss
from proxy.control.incidents.usual import Waits
from proxy.control.one_task import OneTask
from proxy.control.operations import Operation
from proxy.control.state import Admission, AppState, Event, InstanceState, Lifecycle

if TYPE_CHECKING:
    from proxy.control.gateway import Gateway

BACK: Final = 320.0
"""Seconds that readings of an app go back for signals."""
HOST_EVERY: Final = 2.0
PAST: Final = 30
"""Looks at the host, a minute."""
LAG_FOR: Final = 10
"""Looks at lag, a second each."""
CERTIFICATES_EVERY: Final = 3600.0
AFTER: Final = 15.0
"""Seconds after a planned act in which what it did may still be seen."""
YOUNG_EXTRA: Final = 5.0
DEATHS: Final = ("worker-died", "worker-silent")
ACTS: Final = frozenset(
    {"recycle", "restart", "scale", "start", "stop", "eject", "admit", "hold", "release", "upgrade", "reload",
     "deployed"}
)  # fmt: skip


class Look:
    """`fresh`: everything starts now, and not this control alone."""

    def __init__(self, gateway: Gateway, fresh: bool, broke: Callable[[Exception], None]) -> None:
        self._gateway = gateway
        self._waits = Waits()
        self._reader = HostReader(gateway.data_dir)
        self._host: deque[Host] = deque(maxlen=PAST)
        self._host_at = 0.0
        self._lags: dict[str, deque[float]] = {}
        self._control: deque[float] = deque(maxlen=LAG_FOR)
        self._lost: dict[str, deque[int]] = {}
        self._deaths: deque[tuple[float, str]] = deque(maxlen=20)
        self._acts: dict[str, tuple[float, str]] = {}  # app ("" for all) to monotonic time and words of the last act
        self._first: dict[str, float] = {}  # monotonic; -inf: it was there before this control
        self._well: set[str] = set()  # apps that an instance of which was well once
        self._certificates: list[tuple[str, float]] = []
        self._certificates_at = -CERTIFICATES_EVERY
        self._reading = OneTask("incidents-host", broke)
        self._fresh = fresh
        self._running: dict[str, Operation] = {}

    def on_event(self, event: Event) -> None:
        """What was done, and which workers died."""
        if event.kind in DEATHS:
            self._deaths.append((event.at, event.text))
        if event.kind.removesuffix("-done").removesuffix("-failed") in ACTS:
            self._acts[event.app] = (time.monotonic(), event.text)

    async def close(self) -> None:
        await self._reading.close()

    # --- once a second ----------------------------------------------------------------------------------

    def scenes(self, now: float, unix: float) -> Iterator[Scene | None]:
        """One after another; None where a part of the work is done, and no scene is ready yet."""
        gateway = self._gateway
        if not self._fresh:  # a former control had them: they are not new
            self._fresh, self._first = True, dict.fromkeys(gateway.apps, float("-inf"))
        self._read_later(now)
        yield None
        counted = self._counted()
        yield None
        whole = self._gateway_scene(now, unix, counted)
        lag = max(whole.lag.values(), default=0.0)
        yield HostScene(now, unix, tuple(self._host), lag, counted)
        yield whole
        self._running = {one.app: one for one in gateway.operations.running() if one.act in ACTS}
        slow = gateway.config.gateway.slow
        if self._waits.due(now) and gateway.readings.settled:
            rows = gateway.counters.by_instance()
            yield None
            for _ in self._waits.work(rows, now, unix, slow):
                yield None
        for app in list(gateway.apps.values()):
            if app.name in gateway.apps:
                yield self._app_scene(app, now, unix, slow)
        for name in [name for name in self._first if name not in gateway.apps]:
            del self._first[name]
        for name in [name for name in self._acts if name and name not in gateway.apps]:
            del self._acts[name]
        self._well &= gateway.apps.keys()

    def _app_scene(self, app: AppState, now: float, unix: float, slow: float) -> AppScene:
        gateway = self._gateway
        gateway.readings.need("incidents", app.name, BACK)
        limited: dict[str, Series] = {}
        for state in app.ready:
            if state.memory_limit and (series := gateway.readings.instance(app.name, state.name)) is not None:
                limited[state.name] = series
        return AppScene(
            now=now,
            unix=unix,
            app=app,
            series=gateway.readings.app(app.name) if gateway.readings.settled else None,
            instances=limited,
            planned=self._planned(app, now),
            young=self._young(app, now),
            slow=slow,
            usual=self._waits.usual(app.name),
            waiting_since=gateway.board.oldest(app.row),
            on=lambda fault, since: [one for one in gateway.counters.recent.by_instance(app.name, fault, since) if one],
        )

    def _planned(self, app: AppState, now: float) -> str:
        """The act under way on an app, or just over."""
        running = self._running.get(app.name)
        if running is not None:
            return f"{running.act}, {running.asked.by}"
        if app.gap:
            return "a replacement"
        return self._lately(app.name, now) or self._lately("", now)

    def _lately(self, app: str, now: float) -> str:
        at, words = self._acts.get(app, (float("-inf"), ""))
        return words if now - at <= AFTER else ""

    def _young(self, app: AppState, now: float) -> bool:
        """It is new, none of its instances was ever well, and it has time left to become so."""
        first = self._first.setdefault(app.name, now)
        if app.name in self._well or now - first > app.config.health.ready_within + YOUNG_EXTRA:
            return False
        if any(_well(one) for one in app.instances.values()) or app.state != "up" or any(app.ended):
            self._well.add(app.name)
            return False
        return True

    def _gateway_scene(self, now: float, unix: float, counted: Totals) -> GatewayScene:
        gateway = self._gateway
        workers = gateway.workers
        shedding: dict[str, str] = {}
        lines, why, records = 0, "", 0
        names = set()
        for worker in workers:
            stats, name = worker.stats, f"worker{worker.slot + 1}"
            if stats is None or worker.state not in ("alive", "silent"):
                continue
            names.add(name)
            if stats.shedding:
                shedding[name] = stats.shedding
            lines, why, records = lines + stats.log_lost, why or stats.log_error, records + stats.records_dropped
            self._lags.setdefault(name, deque(maxlen=LAG_FOR)).append(stats.lag_us / 1e6)
        for name in self._lags.keys() - names:
            del self._lags[name]
        losses = [
            Loss("ledger", 0, why=gateway.ledger_error),
            self._loss("store", sum(gateway.store.dropped.values()), now, gateway.store.error),
            self._loss("output", gateway.shared.logs.lost, now, gateway.shared.logs.error),
            self._loss("access-log", lines, now, why),
            self._loss("records", max(0, records - sum(counted.faults.values())), now),
        ]
        self._control.append(gateway.lag)
        while self._deaths and not -5.0 <= unix - self._deaths[0][0] <= 60.0:  # or the clock was set back
            self._deaths.popleft()
        upgrading = next((one for one in gateway.operations.running() if one.act == "upgrade"), None)
        return GatewayScene(
            now=now,
            unix=unix,
            workers=workers,
            planned="an upgrade" if upgrading is not None else self._lately("", now),
            deaths=tuple(self._deaths),
            shedding=shedding,
            lag={name: min(lags) for name, lags in self._lags.items() if len(lags) == LAG_FOR},
            control_lag=min(self._control) if len(self._control) == LAG_FOR else 0.0,
            losses=losses,
            certificates=tuple(self._certificates),
            check=gateway.self_check.seen(),
            counted=counted,
        )

    def _loss(self, name: str, lost: int, now: float, why: str = "") -> Loss:
        """What was lost before the first look is no news; a worker that begins anew takes its count along."""
        past = self._lost.setdefault(name, deque(maxlen=LAG_FOR))
        past.append(lost)
        return Loss(name, lost, max(0, lost - min(past)) if len(past) > 1 else 0, why)

    def _counted(self) -> Totals:
        """Of all apps."""
        requests, faults = 0, dict[str, int]()
        for name in self._gateway.apps:
            series = self._gateway.readings.app(name)
            last = series.last if series is not None else None
            if last is None:
                continue
            requests += last.requests
            for fault, count in last.faults.items():
                faults[fault] = faults.get(fault, 0) + count
        return Totals(requests, faults)

    # --- what is read in a thread -----------------------------------------------------------------------

    def _read_later(self, now: float) -> None:
        if now - self._host_at < HOST_EVERY or self._reading.running:
            return
        self._host_at = now
        files: tuple[str, ...] = ()
        if now - self._certificates_at >= CERTIFICATES_EVERY or _changed(self._gateway, self._certificates):
            self._certificates_at = now
            files = _files(self._gateway)
        self._reading.start(self._read(files))

    async def _read(self, files: tuple[str, ...]) -> None:
        self._host.append(await asyncio.to_thread(self._reader.read))
        if files:
            self._certificates = await asyncio.to_thread(_ends, files)


def _files(gateway: Gateway) -> tuple[str, ...]:
    own = gateway.config.admin.certificate
    return tuple(pair.cert for pair in (*gateway.config.gateway.certificates, *((own,) if own is not None else ())))


def _changed(gateway: Gateway, known: Iterable[tuple[str, float]]) -> bool:
    return {path for path, _ in known} != set(files := _files(gateway)) and bool(files)


def _ends(files: tuple[str, ...]) -> list[tuple[str, float]]:
    """One that can't be read ends never: that it can't be read is told where it is used."""
    found = []
    for path in files:
        try:
            found.append((path, certificates.ends(path)))
        except (OSError, ValueError):
            found.append((path, float("inf")))
    return found


def _well(state: InstanceState) -> bool:
    """It was well, or has shown that it is not: from then on what is wrong with it is told."""
    if state.kind == "process":
        return state.lifecycle is Lifecycle.READY or state.failures >= 0.5
    good = state.probe is not None and state.probe.ok
    return state.admission is Admission.ADMITTING and (good or bool(state.answered))
