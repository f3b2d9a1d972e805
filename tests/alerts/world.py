"""Alerts over real incidents, in one process: ticks come as fast as the test likes, and spans are a hundredth."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest

from proxy.config import Condition, Config, parse
from proxy.control.alerts import rules as rules_module
from proxy.control.alerts import telling, views
from proxy.control.alerts.engine import Alerts
from proxy.control.autoheal.contract import Reading, Seen
from proxy.control.autoheal.series import Thinned
from proxy.control.by_hand import MUTED
from proxy.control.incidents import engine as incidents_module
from proxy.control.incidents.engine import Incidents
from proxy.control.incidents.incident import Subject
from proxy.control.state import AppState, ByHand, Events, InstanceState, Lifecycle
from proxy.control.store.messages import Message as Row
from tests.alerts.receivers import until


class Values:
    """Metrics whose values a test sets."""

    def __init__(self) -> None:
        self.now: dict[str, float] = {}

    def scope(self, name: str) -> str:
        return {"response_time": "app", "loop_lag": "gateway", "disk_free": "host"}.get(name, "")

    def look(self, condition: Condition, subject: Subject, now: float) -> Seen:
        value = self.now.get(condition.name)
        threshold = condition.above if condition.above is not None else condition.below or 0.0
        met = value is not None and (value > threshold if condition.above is not None else value < threshold)
        return Seen(met, value, threshold, "", f"{condition.name}: {value}")


class Series:
    """Readings of web as a test makes them."""

    def __init__(self) -> None:
        self.settled = True
        self.whole = Thinned()
        self.each: dict[str, Thinned] = {}

    def app(self, name: str) -> Thinned | None:
        return self.whole if name == "web" else None

    def instance(self, app: str, name: str) -> Thinned | None:
        return self.each.get(name)


class World:
    """`config` is TOML; the apps are web and api."""

    def __init__(self, config: str, monkeypatch: pytest.MonkeyPatch) -> None:
        for module, name, value in (
            (telling, "GATHER", 0.05), (rules_module, "HOLD", 0.05), (incidents_module, "EVERY", 0.05),
            (incidents_module, "RAISED", 1.0), (telling, "HOLD", 1.0),
        ):  # fmt: skip
            monkeypatch.setattr(module, name, value)
        self.config = self.read(config)
        self.apps = {
            name: AppState(name, self.config.apps[name], row) for row, name in enumerate(("web", "api"))
        }
        self.events = Events()
        self.by_hand: dict[str, dict[str, ByHand]] = {}
        self.rows: list[Row] = []
        self.values, self.series = Values(), Series()
        self.kept = 0
        self.number = 0
        self.incidents = self.make_incidents()
        self.alerts = self.make_alerts()

    @staticmethod
    def read(config: str) -> Config:
        apps = '[apps.web]\naddresses = ["http://127.0.0.1:1"]\n'
        apps += '[apps.api]\npaths = ["/api"]\naddresses = ["http://127.0.0.1:2"]\n'
        return parse(apps + config, "/tmp/config.toml")

    def make_incidents(self) -> Incidents:
        return Incidents(
            self.events.add, self._keep, SimpleNamespace(incident=lambda saved: None, incidents=self._none),
            self._next, lambda now, unix: iter(()), self._broke, lambda: self.events.ring,
        )  # fmt: skip

    def make_alerts(self, known: dict[str, Any] | None = None) -> Alerts:
        """As a control does; `known` is from the ledger."""
        shared: Any = SimpleNamespace(
            events=self.events, event=self.events.add, by_hand=SimpleNamespace(apps=self.by_hand), stopping=False,
            plan={"config_path": "/tmp/config.toml"}, log=SimpleNamespace(error=self._defect),
        )  # fmt: skip
        series: Any = self.series
        made = Alerts(
            shared, self.apps, series, self.incidents, self.values,
            SimpleNamespace(message=self.rows.append, messages=self._none), lambda: "http://127.0.0.1:9900", self._keep,
        )  # fmt: skip
        made.load(known or {})
        made.configure(self.config)
        return made

    def _keep(self) -> None:
        self.kept += 1

    def _next(self) -> int:
        self.number += 1
        return self.number

    async def _none(self, *args: Any, **fields: Any) -> list[Any]:
        return []

    @staticmethod
    def _broke(error: Exception) -> None:
        raise error

    @staticmethod
    def _defect(kind: str, text: str, **details: Any) -> None:
        raise AssertionError(f"{text}\n{details}")

    def reading(self, instance: str = "", ago: float = 0.0, **values: Any) -> None:
        """One more, of web or of an instance of it."""
        series = self.series.each.setdefault(instance, Thinned()) if instance else self.series.whole
        if instance and instance not in self.apps["web"].instances:
            state = InstanceState(instance, "web", "process", 0, lifecycle=Lifecycle.READY)
            self.apps["web"].instances[instance] = state
        series.add(Reading(at=time.monotonic() - ago, unix=time.time() - ago, **values))

    def mute(self, app: str) -> None:
        self.by_hand.setdefault(app, {})[MUTED] = ByHand(True, "by hand", time.time(), until=time.time() + 3600)

    def unmute(self, app: str) -> None:
        del self.by_hand[app][MUTED]

    def tick(self) -> None:
        now = time.monotonic()
        self.alerts.tick(now)
        for _ in self.incidents.work(now, time.time()):
            pass

    async def run(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.tick()
            await asyncio.sleep(0.01)

    async def until(self, what: Any, why: str) -> Any:
        """Ticking meanwhile."""

        def look() -> Any:
            self.tick()
            return what()

        return await until(look, why)

    def rule(self, name: str, app: str = "web") -> dict[str, Any]:
        """By its name and its app, or whose it is."""
        mine = (one for one in views.rules(self.alerts) if one["name"] == name)
        return next(one for one in mine if app in (one["app"], one["scope"]))
