"""Up, degraded or down, in one line."""

from __future__ import annotations

import pytest

from proxy.admin.verdict import Verdict, of_app, of_gateway
from proxy.config import parse
from proxy.control.state import Admission, AppState, Ejection, InstanceState, Lifecycle

CONFIG = parse('[apps.web]\naddresses = ["http://10.0.0.1:80"]\n', "config.toml")


def app(*instances: InstanceState, wanted: int = 2, state: str = "up", gap: float = 0.0) -> AppState:
    return AppState(
        "web", CONFIG.apps["web"], 0, state=state, wanted=wanted, instances={one.name: one for one in instances},
        gap=gap,
    )  # fmt: skip


def instance(name: str, lifecycle: Lifecycle = Lifecycle.READY, **more: object) -> InstanceState:
    return InstanceState(name, "web", "process", 0, lifecycle=lifecycle, **more)  # type: ignore[arg-type]


ONE, TWO = instance("web-1"), instance("web-2")
OUT = instance("web-2", admission=Admission.EJECTED, ejection=Ejection(by="probe", reason="no answer within 2 s"))


@pytest.mark.parametrize(
    ("state", "recent", "minute", "expected"),
    [
        (app(ONE, TWO), {}, 0, "up: web is up: 2 of 2 ready, no fault in the last 5 min"),
        (app(ONE, TWO), {"app-error": 3}, 3, "up: web is up: 2 of 2 ready, 3 app-error in the last 5 min"),
        (app(ONE, TWO), {"client-left": 900}, 0, "up: web is up: 2 of 2 ready, no fault in the last 5 min"),
        (
            app(ONE, TWO), {"head-timeout": 40, "app-error": 2}, 42,
            "degraded: web is degraded: 2 of 2 ready; 42 % of the last minute's requests failed; "
            "42 faults in the last 5 min, most often head-timeout",
        ),
        (
            app(ONE, instance("web-2", Lifecycle.BACKOFF, why="exit code 1 after 0.2 s")), {}, 0,
            "degraded: web is degraded: 1 of 2 ready; web-2 is backoff: exit code 1 after 0.2 s; "
            "no fault in the last 5 min",
        ),
        (
            app(ONE, OUT), {}, 0,
            "degraded: web is degraded: 2 of 2 ready; web-2 is ejected (no answer within 2 s); "
            "no fault in the last 5 min",
        ),
        (
            app(ONE, TWO, instance("web-3", Lifecycle.STARTING)), {}, 0,
            "up: web is up: 2 of 2 ready, no fault in the last 5 min",
        ),
        (
            app(ONE, TWO, instance("web-3", Lifecycle.BACKOFF, why="exit code 1 after 0.2 s")), {}, 0,
            "degraded: web is degraded: 2 of 2 ready; web-3 is backoff: exit code 1 after 0.2 s; "
            "no fault in the last 5 min",
        ),
        (
            app(instance("web-2", Lifecycle.STARTING), wanted=1, gap=90.0), {}, 0,
            "degraded: web is degraded: 0 of 1 ready; its requests wait for the replacement",
        ),
        (app(OUT, wanted=1), {}, 0, "down: web is down: 1 of 1 ready; web-2 is ejected (no answer within 2 s)"),
        (app(wanted=0), {}, 0, "down: web is down: it is set to have no instance"),
        (app(ONE, state="stopped"), {}, 0, "stopped: web is stopped by hand"),
        (app(ONE, state="held"), {}, 0, "held: web is held by hand: its requests wait; 1 of 2 ready"),
    ],
)  # fmt: skip
def test_of_an_app(state: AppState, recent: dict[str, int], minute: int, expected: str) -> None:
    found = of_app(state, recent, minute, 100)
    assert f"{found.state}: {found.line}" == expected


def test_of_the_gateway() -> None:
    up, bad, down = Verdict("up", "a is up"), Verdict("degraded", "b is degraded"), Verdict("down", "c is down")
    held = Verdict("held", "d is held by hand")
    assert of_gateway([("a", up)], False) == up
    assert of_gateway([("a", up), ("e", up)], False) == Verdict("up", "2 of 2 apps are up")
    assert of_gateway([("a", up), ("d", held)], False) == Verdict("up", "1 of 2 apps are up, d by hand not")
    assert of_gateway([("a", up), ("b", bad)], False) == Verdict("degraded", "b is degraded")
    assert of_gateway([("b", bad), ("c", down)], False) == Verdict("degraded", "c is down; 1 more not well")
    assert of_gateway([("c", down), ("x", down)], False).state == "down"
    assert of_gateway([], False).state == "down"
    assert "draining" in of_gateway([("a", up)], True).line
