"""Each signal is seen where it should be, with numbers in what it says."""

from __future__ import annotations

import pytest

from proxy.control.autoheal.contract import Reading
from proxy.control.autoheal.series import Thinned
from proxy.control.incidents.scene import Check, GatewayScene, Host, Loss, Usual
from proxy.control.incidents.signals import ALL, RANK, SIGNALS
from proxy.control.state import Admission, Ejection, Exit, Lifecycle, WorkerState
from tests.incidents.virtual import WALL, World, app, instance

GB = 1 << 30


def the(world: World, scope: str = "app") -> tuple[str, str, str]:
    """Signal, severity and cause of the one that is open."""
    found = [one for subject, one in world.incidents.open.items() if subject.scope == scope]
    assert len(found) == 1, world.incidents.open
    return found[0].signal, found[0].severity, found[0].cause


def test_the_registry_is_in_order_and_names_are_said_once() -> None:
    assert len(RANK) == len(ALL) == sum(map(len, SIGNALS.values()))
    order = [one.name for one in SIGNALS["app"]]
    assert order.index("crashes") < order.index("down") < order.index("faults") < order.index("slow")
    assert all(one.about and one.scope in ("app", "gateway", "host") for one in ALL)


def test_a_crash_that_leaves_nothing_to_serve_is_seen_at_once(world: World) -> None:
    world.state = app(instance("web-1"))
    world.second(good=10, seconds=20)
    world.state.ended.append(
        Exit(world.unix, 30.0, signal=9, oom="certain", by_itself=True, words="signal 9 (SIGKILL), out of memory",
             name="web-1")
    )  # fmt: skip
    gone = world.state.instances.pop("web-1")
    gone.lifecycle = Lifecycle.STOPPED
    world.state.gone.append(gone)
    successor = instance("web-2", Lifecycle.STARTING, last_exit=world.state.ended[-1], changed_at=world.unix)
    world.state.instances["web-2"] = successor
    world.second()
    signal, severity, cause = the(world)
    assert (signal, severity) == ("crashes", "down")
    assert "web-1" in cause and "out of memory" in cause
    assert world.open is not None and set(world.open.signals) == {"crashes", "down"}


def test_an_exit_that_triage_had_asked_for_is_no_crash(world: World) -> None:
    world.state.ended.append(Exit(world.unix, 30.0, signal=15, ours=True, words="signal 15", name="web-1"))
    world.second(seconds=3)
    assert world.open is None


def test_two_quiet_exits_in_ten_minutes_are_no_accident(world: World) -> None:
    for name in ("web-1", "web-2"):
        world.state.ended.append(Exit(world.unix, 30.0, code=0, words="exit code 0", name=name))
        world.second(seconds=20 if name == "web-1" else 1)
    assert the(world)[0] == "crashes" and "2 such ends" in the(world)[2]


def test_starts_that_fail_again_and_again(world: World) -> None:
    bad = instance("web-3", Lifecycle.BACKOFF, failures=2.4, why="exited after 0.2 s, exit code 1: no such module")
    world.state.instances["web-3"] = bad
    world.state.wanted = 3
    world.second()
    signal, severity, cause = the(world)
    assert (signal, severity) == ("crash-loop", "degraded") and "no such module" in cause
    world.state.instances = {"web-3": instance("web-3", Lifecycle.FAILED, failures=6.0, why="exited, again and again")}
    world.second(seconds=2)
    assert the(world)[:2] == ("crash-loop", "down")


def test_nothing_can_be_served(world: World) -> None:
    ejection = Ejection(3, 0.0, "probe", "connection refused")
    out = instance("10.0.0.5:8000", admission=Admission.EJECTED, ejection=ejection)
    world.state = app(out)
    world.second()
    signal, severity, cause = the(world)
    assert (signal, severity) == ("down", "down") and "connection refused" in cause


def test_an_instance_out_by_faults_and_one_that_fails_and_serves_on(world: World) -> None:
    world.state.instances["web-2"].admission = Admission.EJECTED
    world.state.instances["web-2"].ejection = Ejection(1, 0.0, "faults", "5 head-timeout in a row")
    world.second()
    assert the(world)[0] == "ejected" and "1 of 2" in the(world)[2] and "5 head-timeout in a row" in the(world)[2]


@pytest.mark.parametrize("name", ["head-timeout", "connect-refused", "app-error", "bad-response"])
def test_the_last_three_requests_of_a_quiet_app(world: World, name: str) -> None:
    world.second(good=1)
    world.second(seconds=60)
    for _ in range(3):
        world.second(faults={name: 1})
        world.second(seconds=40)
    signal, _, cause = the(world)
    assert signal == "faults" and "last 3 requests all failed" in cause and name in cause


def test_a_drip_of_faults_among_much_traffic(world: World) -> None:
    world.second(good=97, faults={"closed-before-head": 3}, seconds=50)
    assert the(world)[0] == "faults" and "3 %" in the(world)[2]


def test_all_requests_fail(world: World) -> None:
    world.second(faults={"app-error": 20}, seconds=3)
    assert the(world)[:2] == ("faults", "degraded"), "ten failures of one client say little"
    world.second(faults={"app-error": 20}, seconds=9)
    assert the(world)[:2] == ("faults", "down") and "100 %" in the(world)[2]


def test_requests_are_turned_away_and_they_wait(world: World) -> None:
    world.second(good=20, faults={"queue-timeout": 160}, seconds=3, queue=800)
    signal, _, cause = the(world)
    assert signal == "queue" and "queue-timeout" in cause and "200 of 200 slots" in cause


def test_requests_wait_for_half_a_minute(world: World) -> None:
    world.second(good=20, seconds=5)
    for _ in range(40):
        world.scene["waiting_since"] = world.now - 3.0
        world.second(good=20, queue=60)
    assert the(world)[0] == "queue" and "60 requests" in the(world)[2]


def test_answers_are_far_slower_than_usual(world: World) -> None:
    world.scene["usual"] = Usual(900, 9.8, 11.0, 400_000, 0.042, 0.09, 3600.0, world.unix - 20.0)
    world.second(good=20)
    signal, _, cause = the(world)
    assert signal == "slow" and "9.8 s" in cause and "42 ms" in cause
    assert world.open is not None and world.open.certainty == "very likely" and world.open.began < world.unix - 15


def test_memory_stays_at_its_limit(world: World) -> None:
    series = Thinned(320.0)
    for second in range(100):
        series.add(Reading(at=world.now - 99 + second, memory=505 << 20, memory_limit=512 << 20))
    world.scene["instances"] = {"web-1": series}
    world.second(good=10)
    assert the(world)[0] == "memory"


def test_a_replacement_that_does_not_get_ready(world: World) -> None:
    world.state.not_replaced = "web-3 did not get ready in web-1's place: exit code 1; web-1 serves on"
    world.second(good=10)
    assert the(world)[:2] == ("not-replaced", "degraded") and "web-1 serves on" in the(world)[2]


def test_a_replacement_that_can_not_start_while_all_others_serve(world: World) -> None:
    bad = instance("web-3", Lifecycle.BACKOFF, failures=2.4, why="exited after 0.2 s, exit code 1: no such module")
    world.state.instances["web-3"] = bad
    world.second(good=10)
    assert the(world)[:2] == ("not-replaced", "degraded") and "no such module" in the(world)[2]


def test_fewer_than_wanted_and_none_comes(world: World) -> None:
    world.state.wanted = 3
    for one in world.state.instances.values():
        one.changed_at = world.unix
    world.second(good=10, seconds=9)
    assert world.open is None
    world.second(good=10, seconds=3)
    assert the(world)[0] == "not-enough" and "2 of 3" in the(world)[2]


ALIVE = WorkerState(0, state="alive")


@pytest.mark.parametrize(
    ("scene", "signal", "words"),
    [
        ({"check": Check(False, 2, "127.0.0.1:80 refused the connection", 5.0)}, "self-check", "refused"),
        ({"deaths": [(WALL + 1000.0, "worker1 died after 3 s: signal 11")]}, "worker", "signal 11"),
        ({"workers": [WorkerState(0, state="silent", why="silent for 5 s")]}, "worker", "silent for 5 s"),
        ({"shedding": {"worker1": "4,096 connections"}}, "shedding", "4,096 connections"),
        ({"lag": {"worker1": 0.31}}, "loop-lag", "310 ms"),
        ({"control_lag": 1.4}, "control-lag", "1.4 s"),
        ({"losses": [Loss("store", 12, 12, "No space left on device")]}, "lost-evidence", "No space left"),
        ({"losses": [Loss("ledger", 0, 0, "Cannot allocate memory")]}, "lost-evidence", "ledger"),
        ({"losses": [Loss("output", 4096, 4096)]}, "lost-evidence", "4,096 bytes"),
        ({"certificates": [("cert.pem", WALL + 1000.0 + 5.5 * 86_400)]}, "certificate", "in 5 days"),
        ({"certificates": [("cert.pem", WALL - 86_400.0)]}, "certificate", "clients refuse it"),
    ],
)  # fmt: skip
def test_signals_of_the_gateway(world: World, scene: dict[str, object], signal: str, words: str) -> None:
    world.gateway = lambda now, unix: GatewayScene(now, unix, **{"workers": [ALIVE], **scene})  # type: ignore[arg-type]
    world.second(good=10)
    found = the(world, "gateway")
    assert found[0] == signal and words in found[2], found


def host(at: float, **more: object) -> Host:
    known = {
        "disk_path": "/var", "disk_free": 80 * GB, "disk_size": 250 * GB, "memory_total": 8 * GB, "memory_left": 4 * GB,
        "memory_stall": 0.0, "swapped": 0.0, "oom_kills": 0, "busy": 0.2, "steal": 0.0, **more,
    }  # fmt: skip
    return Host(at, **known)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("more", "signal", "words"),
    [
        ({"disk_free": 700 << 20}, "disk", "nearly full"),
        ({"disk_free": 0}, "disk-full", "is full"),
        ({"inodes": 10_000, "inodes_free": 12}, "disk", "12 inodes"),
        ({"memory_left": 90 << 20}, "host-memory", "memory is used up"),
        ({"memory_stall": 0.4}, "host-memory", "40 %"),
        ({"memory_left": 700 << 20, "swapped": 9000.0}, "host-memory", "9,000 pages"),
        ({"steal": 0.5}, "host-cpu", "50 %"),
    ],
)  # fmt: skip
def test_signals_of_the_host(world: World, more: dict[str, object], signal: str, words: str) -> None:
    world.hosts = [host(world.now + 2.0 * number, **more) for number in range(8)]
    world.now += 16.0
    world.second(good=10)
    found = the(world, "host")
    assert found[0] == signal and words in found[2], found


def test_the_kernel_kills_while_memory_is_short(world: World) -> None:
    world.hosts = [host(world.now + number, oom_kills=number // 4, memory_left=600 << 20) for number in range(8)]
    world.now += 8.0
    world.second(good=10)
    assert the(world, "host")[0] == "host-memory" and "killed 1 process for memory" in the(world, "host")[2]
