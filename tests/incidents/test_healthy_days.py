"""What is no trouble opens no incident. Each of these is a day that somebody had."""

from __future__ import annotations

import pytest

from proxy.control.autoheal.contract import Reading
from proxy.control.autoheal.series import Thinned
from proxy.control.incidents.scene import Check, GatewayScene, Host, Loss, Usual
from proxy.control.state import Admission, Ejection, Exit, Lifecycle, ProbeResult, WorkerState
from tests.incidents.virtual import WALL, World, app, instance


def quiet(world: World) -> None:
    assert world.incidents.open == {}, world.incidents.open
    assert not world.said or not any(kind.startswith("incident") for kind, _ in world.said)


def test_an_app_that_nobody_asks(world: World) -> None:
    world.second(seconds=400)
    quiet(world)


def test_one_fault_among_many(world: World) -> None:
    for _ in range(10):
        world.second(good=20, seconds=30)
        world.second(good=20, faults={"head-timeout": 1})
    quiet(world)


def test_one_fault_of_an_app_that_is_seldom_asked(world: World) -> None:
    for _ in range(5):
        world.second(good=1)
        world.second(seconds=100)
        world.second(faults={"app-error": 1})
        world.second(seconds=100)
        world.second(faults={"head-timeout": 1})
        world.second(seconds=100)
    quiet(world)


def test_clients_that_leave_send_nonsense_or_too_much(world: World) -> None:
    clients = {"client-left": 40, "bad-request": 30, "rate-limited": 100, "body-too-large": 5, "client-timeout": 9}
    world.second(faults=clients, seconds=120)
    quiet(world)


def test_an_endpoint_that_always_answers_500(world: World) -> None:
    world.second(good=97, faults={"app-error": 3}, seconds=200)
    quiet(world)


def test_idle_connections_that_close_under_a_request(world: World) -> None:
    world.second(good=3, faults={"stale-connection": 1}, seconds=60)
    quiet(world)


def test_what_a_person_does(world: World) -> None:
    world.state.state = "held"
    world.second(faults={"held-too-long": 5}, seconds=30, queue=50)
    world.state.state, world.state.wanted, world.state.instances = "stopped", 0, {}
    world.second(faults={"stopped": 20}, seconds=60)
    quiet(world)


def test_a_recycle_of_the_only_instance(world: World) -> None:
    """Its requests wait for the replacement (gap); what outlasts the drain limit is cut."""
    world.state = app(instance("web-1"))
    world.second(good=50, seconds=30)
    world.state.gap = 40.0
    world.scene["planned"] = "recycle, by hand"
    world.state.instances = {"web-2": instance("web-2", Lifecycle.WARMING)}
    world.state.ended.append(Exit(world.unix, 90.0, code=0, ours=True, words="exit code 0", name="web-1"))
    world.second(faults={"instance-recycled": 2}, queue=30, seconds=35)
    world.state.gap = 0.0
    world.state.instances = {"web-2": instance("web-2", ready_since=world.now, changed_at=world.unix)}
    world.second(good=50, seconds=60)
    quiet(world)


def test_a_first_start_that_takes_its_time(world: World) -> None:
    world.state = app(instance("web-1", Lifecycle.WARMING), instance("web-2", Lifecycle.WARMING))
    world.scene["young"] = True
    world.second(faults={"all-unready": 5}, queue=20, seconds=50)
    world.state = app(instance("web-1"), instance("web-2"))
    world.scene["young"] = False
    world.second(good=10, seconds=60)
    quiet(world)


def test_an_address_that_is_not_up_yet_when_triage_starts(world: World) -> None:
    refused = ProbeResult(False, "connection refused", WALL, 0.0, refused=True)
    out = instance("10.0.0.5:8000", admission=Admission.EJECTED, probe=refused,
                   ejection=Ejection(1, 0.0, "probe", "connection refused"))  # fmt: skip
    world.state = app(out)
    world.scene["young"] = True
    world.second(seconds=50)
    quiet(world)


def test_a_deploy_by_watch_with_an_instance_more_at_a_time(world: World) -> None:
    world.scene["planned"] = "restart, watch"
    for number in range(3, 7):
        world.state.instances[f"web-{number}"] = instance(f"web-{number}", Lifecycle.WARMING)
        world.second(good=100, seconds=5)
        world.state.instances[f"web-{number}"] = instance(f"web-{number}", ready_since=world.now)
        old = world.state.instances.pop(f"web-{number - 2}")
        world.state.ended.append(Exit(world.unix, 90.0, signal=15, ours=True, words="signal 15", name=old.name))
        world.second(good=100, seconds=5)
    world.scene["planned"] = ""
    world.second(good=100, seconds=60)
    quiet(world)


def test_a_load_ramp_with_a_short_queue(world: World) -> None:
    for rate in range(10, 800, 20):
        world.second(good=rate, seconds=2, queue=rate // 40)
    world.second(good=800, seconds=12, queue=40)
    world.second(good=800, seconds=60)
    quiet(world)


def test_one_slow_endpoint_among_fast_ones(world: World) -> None:
    """The slowest hundredth is a hundred times what it was; nine of ten are as ever."""
    world.scene["usual"] = Usual(3000, 0.02, 0.06, 100_000, 0.02, 0.05, 3600.0)
    world.second(good=100, seconds=60)
    quiet(world)


@pytest.mark.parametrize(
    "usual",
    [
        Usual(15, 9.0, 9.5, 100_000, 0.02, 0.05, 3600.0),  # a handful of answers
        Usual(3000, 0.4, 0.9, 100_000, 0.02, 0.05, 3600.0),  # far more than usual, and fast all the same
        Usual(3000, 9.0, 9.5, 50, 0.02, 0.05, 3600.0),  # no usual yet
        Usual(3000, 9.0, 9.5, 100_000, 0.02, 0.05, 120.0),  # began two minutes ago
        Usual(3000, 3.0, 9.5, 100_000, 2.0, 6.0, 3600.0),  # it is always slow
        Usual(50, 0.02, 9.5, 100_000, 0.02, 0.05, 3600.0),  # five slow ones of fifty
    ],
)
def test_answers_that_are_slow_for_a_reason(world: World, usual: Usual) -> None:
    world.scene["usual"] = usual
    world.second(good=10, seconds=20)
    quiet(world)


def test_cold_caches_after_a_start(world: World) -> None:
    world.scene["usual"] = Usual(3000, 9.0, 9.5, 100_000, 0.02, 0.05, 3600.0)
    fresh = instance("web-2", ready_since=world.now)
    world.state = app(instance("web-1"), fresh)
    world.second(good=10, seconds=50)
    quiet(world)


def test_a_clock_that_is_set_back(world: World) -> None:
    """An exit of an hour ago lies in the future then."""
    later = Exit(world.unix + 3600.0, 30.0, code=3, by_itself=True, words="exit code 3", name="web-1")
    world.state.ended.append(later)
    world.second(good=10, seconds=5)
    quiet(world)


def test_an_instance_that_renews_itself_once(world: World) -> None:
    world.state.ended.append(Exit(world.unix, 86_400.0, code=0, words="exit code 0", name="web-1"))
    world.second(good=10, seconds=30)
    quiet(world)


def test_a_single_failed_start_of_one_more_instance(world: World) -> None:
    world.state.wanted = 3
    world.state.instances["web-3"] = instance("web-3", Lifecycle.BACKOFF, failures=1.0, why="exited", changed_at=WALL)
    world.state.instances["web-3"].changed_at = world.unix
    world.second(good=10, seconds=5)
    world.state.instances["web-3"] = instance("web-3", ready_since=world.now, changed_at=world.unix)
    world.second(good=10, seconds=30)
    quiet(world)


def test_scaled_out_by_a_rule_while_the_new_one_warms(world: World) -> None:
    world.state.wanted = 3
    world.state.instances["web-3"] = instance("web-3", Lifecycle.WARMING, changed_at=world.unix)
    world.second(good=500, seconds=58)
    quiet(world)


def test_an_instance_ejected_by_hand(world: World) -> None:
    world.state.instances["web-2"].admission = Admission.EJECTED
    world.state.instances["web-2"].ejection = Ejection(1, 0.0, "hand", "a test")
    world.second(good=10, seconds=60)
    quiet(world)


def test_memory_that_is_used_up_to_the_brim_for_a_while(world: World) -> None:
    """What the built-in rule mends within its 30 s is no incident."""
    series = Thinned(320.0)
    for second in range(100):
        used = 505 if 50 < second < 95 else 300
        series.add(Reading(at=world.now - 100 + second, memory=used << 20, memory_limit=512 << 20))
    world.scene["instances"] = {"web-1": series}
    world.second(good=10, seconds=2)
    quiet(world)


def test_a_gateway_as_it_is_most_of_the_time(world: World) -> None:
    """A tick that came late once, a self-check that failed once, an upgrade, records of a storm that were not kept."""
    worker = WorkerState(0, state="alive")
    scenes = [
        GatewayScene(0.0, 0.0, [worker], check=Check(False, 1, "no answer within 2 s", 1.0)),
        GatewayScene(0.0, 0.0, [worker], check=Check(True, 0, "the gateway answers itself in 0.4 ms")),
        GatewayScene(0.0, 0.0, [worker, WorkerState(1, state="draining")], planned="an upgrade"),
        GatewayScene(0.0, 0.0, [worker, WorkerState(1, state="ended")]),
        GatewayScene(0.0, 0.0, [worker], lag={"worker1": 0.04}, control_lag=0.3),
        GatewayScene(0.0, 0.0, [worker], losses=[Loss("records", 0), Loss("store", 12)]),
        GatewayScene(0.0, WALL, [worker], certificates=[("cert.pem", WALL + 40 * 86_400.0)]),
    ]
    for scene in scenes:
        world.gateway = lambda now, unix, scene=scene: scene
        world.second(good=10, seconds=3)
    quiet(world)


def test_a_host_that_works_hard(world: World) -> None:
    """Busy cores alone, a large page cache, a big disk with little free by its share, a kill in another container."""
    gb = 1 << 30
    for at in range(30):
        world.hosts.append(
            Host(
                world.now + 2.0 * at, "/var", 12 * gb, 1000 * gb, 10**7, 6 * 10**7, 64 * gb, 8 * gb, 0.0, 300.0,
                5 + (at > 15), 0.99, 0.02,
            )
        )  # fmt: skip
    world.second(good=10, seconds=10)
    quiet(world)
