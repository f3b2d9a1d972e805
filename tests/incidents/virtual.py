"""The engine over virtual time: scenes as a test wants them, second by second."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from proxy.config.schema import App, Process
from proxy.control.autoheal.contract import Reading
from proxy.control.autoheal.series import Thinned
from proxy.control.incidents import engine as engines
from proxy.control.incidents.engine import Incidents, Scene
from proxy.control.incidents.incident import Incident, Subject
from proxy.control.incidents.saved import Saved, read
from proxy.control.incidents.scene import AppScene, GatewayScene, Host, HostScene
from proxy.control.state import AppState, Event, InstanceState, Lifecycle, Move
from proxy.control.store.reader import NotReadable

START = 1_000.0
"""Monotonic seconds at which a world begins."""
WALL = 1_750_000_000.0
"""Unix seconds of monotonic 0."""


def instance(name: str = "web-1", lifecycle: Lifecycle = Lifecycle.READY, **more: Any) -> InstanceState:
    moves = (Move(WALL + 9.0, "starting", ""), Move(WALL + 10.0, "ready", ""))
    values = {"ready_since": 10.0, "changed_at": WALL + 10.0, "moves": moves} if lifecycle is Lifecycle.READY else {}
    return InstanceState(name, "web", "process", 0, lifecycle=lifecycle, **{**values, **more})


def app(*instances: InstanceState, wanted: int | None = None, **more: Any) -> AppState:
    config = App(process=Process(command=("python", "app.py")))
    state = AppState("web", config, 0, wanted=len(instances) if wanted is None else wanted, **more)
    state.instances = {one.name: one for one in instances}
    return state


class Memory:
    """A store that keeps what a real one would have: rows by number."""

    def __init__(self) -> None:
        self.rows: dict[int, Saved] = {}
        self.readable = True

    def incident(self, saved: Saved) -> None:
        self.rows[saved.number] = saved

    async def incidents(self, app: str, open_only: bool, since: float, before: int, limit: int) -> list[Incident]:
        if not self.readable:
            raise NotReadable("the store can't be read: a test says so")
        found = [read(row.body) for _, row in sorted(self.rows.items(), reverse=True)]
        return [
            one for one in found
            if (not open_only or one.open) and app in ("", one.subject.app) and (not before or one.number < before)
        ][:limit]  # fmt: skip


@dataclass
class World:
    """An app, traffic, a clock. `second` lets one pass."""

    state: AppState = field(default_factory=lambda: app(instance("web-1"), instance("web-2")))
    gateway: Callable[[float, float], GatewayScene] = GatewayScene
    hosts: list[Host] = field(default_factory=list)
    scene: dict[str, Any] = field(default_factory=dict)
    now: float = START
    requests: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    said: list[tuple[str, str]] = field(default_factory=list)
    told: list[tuple[str, str]] = field(default_factory=list)
    store: Memory = field(default_factory=Memory)
    series: Thinned = field(default_factory=lambda: Thinned(320.0))
    numbers: int = 0

    def __post_init__(self) -> None:
        self.incidents = self.control()
        self.reading(0)

    def control(self) -> Incidents:
        """A new one, as after control's death."""

        def broke(error: Exception) -> None:
            raise error

        made = Incidents(self._say, lambda: None, self.store, self._number, self._scenes, broke, lambda: self.events)
        made.listeners.append(lambda word, one: self.told.append((word, one.id)))
        return made

    @property
    def unix(self) -> float:
        return WALL + self.now

    @property
    def open(self) -> Incident | None:
        return self.incidents.open.get(Subject("app", "web"))

    def _say(self, kind: str, text: str, app: str = "", instance: str = "", **details: Any) -> Event:
        event = Event(len(self.events) + 1, self.unix, kind, app, instance, text, details)
        self.events.append(event)
        self.said.append((kind, text))
        self.incidents.on_event(event)
        return event

    def happens(self, kind: str, text: str, app: str = "web") -> None:
        self._say(kind, text, app)

    def _number(self) -> int:
        self.numbers += 1
        return self.numbers

    def _scenes(self, now: float, unix: float) -> Iterator[Scene | None]:
        yield HostScene(now, unix, tuple(self.hosts))
        yield None
        yield self.gateway(now, unix)
        yield AppScene(now, unix, self.state, self.series, **self.scene)

    def reading(self, queue: int) -> None:
        self.series.add(
            Reading(
                at=self.now, unix=self.unix, requests=self.requests, faults=dict(self.faults), queue=queue,
                instances=self.state.wanted, slots=200, inflight=200 if queue else 3,
            )
        )  # fmt: skip

    def second(
        self, good: int = 0, faults: Mapping[str, int] | None = None, seconds: int = 1, queue: int = 0
    ) -> list[str]:
        """So many requests in each; what was said in that time, by kind."""
        before = len(self.said)
        for _ in range(seconds):
            self.now += 1.0
            for name, count in (faults or {}).items():
                self.faults[name] = self.faults.get(name, 0) + count
            self.requests += good + sum((faults or {}).values())
            self.reading(queue)
            for _ in self.incidents.work(self.now, self.unix):
                pass
        return [kind for kind, _ in self.said[before:]]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    monkeypatch.setattr(engines.time, "time", lambda: made.unix)
    monkeypatch.setattr(engines.time, "monotonic", lambda: made.now)
    return made
