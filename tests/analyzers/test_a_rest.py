"""The gateway's own, decisions by hand, limits, ejections, the clock; and that a healthy app has nothing above info."""

from typing import Any

import pytest

from proxy.diagnostics.analyzers import (
    app_errors,
    by_hand,
    children,
    clock,
    closing,
    connecting,
    crash_loop,
    descriptors,
    ejected,
    exits,
    gateway,
    health,
    limits,
    malformed,
    memory,
    names,
    starting,
    storage,
    suspects,
    tls,
)
from proxy.diagnostics.analyzers.contract import CERTAIN, LIKELY, NOT_KNOWN, Analyzer
from proxy.diagnostics.artifacts import (
    Activity,
    ActivitySample,
    HostReport,
    HostSample,
    Known,
    Listener,
    Peer,
    Sockets,
    SocketSample,
    Worker,
)
from tests.analyzers.made import (
    NOW,
    app,
    attempt,
    burst,
    ended,
    event,
    instance,
    known,
    lines,
    record,
    records,
    ring,
    run,
)

MINE = (
    app_errors, by_hand, children, clock, closing, connecting, crash_loop, descriptors, ejected, exits, gateway, health,
    limits, malformed, memory, names, starting, storage, suspects, tls,
)  # fmt: skip


def faults(**counts: int) -> dict[str, Any]:
    return {"": ring(requests=20.0, faults={name.replace("_", "-"): burst(n) for name, n in counts.items()})}


# --- the gateway -------------------------------------------------------------------------------------


def test_descriptors_of_the_gateway() -> None:
    near = [Worker(slot=0, descriptors=980, descriptors_limit=1024, connections=900)]
    assert run(gateway.ANALYZER, known(workers=near))[0].severity == "warning"
    found = run(gateway.ANALYZER, known(workers=near, rings=faults(descriptors_exhausted=8)))
    assert [one.id for one in found] == ["gateway-descriptors"] and found[0].certainty == CERTAIN
    assert not run(gateway.ANALYZER, known(workers=[Worker(slot=0, descriptors=80, descriptors_limit=1024)]))


def test_local_ports() -> None:
    peer = Peer(address="127.0.0.1:9001", time_wait=24000)
    sockets = Sockets(samples=[SocketSample(at=NOW, peers=[peer])], ports_used=28000, ports_range=(32768, 60999))
    found = run(gateway.ANALYZER, known(rings=faults(ports_exhausted=4)), each={"web-1": [sockets]})
    assert [one.id for one in found] == ["ports-used-up"] and not found[0].unknown
    few = Sockets(ports_used=900, ports_range=(32768, 60999))
    assert not run(gateway.ANALYZER, known(), each={"web-1": [few]})


def test_its_defects_workers_and_losses() -> None:
    assert [one.id for one in run(gateway.ANALYZER, known(rings=faults(internal_error=1)))] == ["gateway-defect"]
    died = known(events=[event("worker-died", "worker 1 ended: signal 9")])
    assert [one.id for one in run(gateway.ANALYZER, died)] == ["gateway-worker-died"]
    lost = run(gateway.ANALYZER, known(notes=["312 records were dropped"]))
    assert [one.id for one in lost] == ["evidence-lost"] and lost[0].severity == "info"
    full = known(rings={"host": ring(disk_free=1_000_000.0)})
    assert [one.id for one in run(gateway.ANALYZER, full)] == ["gateway-disk"]


# --- decisions ---------------------------------------------------------------------------------------


def test_stopped_held_and_none_wanted() -> None:
    by = {"stopped": "by hand at 03:00: a migration"}
    stopped = known(app=app(state="stopped", ready=0, by_hand=by), rings=faults(stopped=20))
    found = run(by_hand.ANALYZER, stopped)
    assert [one.id for one in found] == ["stopped"] and found[0].severity == "critical"
    assert "a migration" in found[0].cause and found[0].remedies[0].act == "apps/web/start"
    quiet = run(by_hand.ANALYZER, known(app=app(state="held")))
    assert [(one.id, one.severity) for one in quiet] == [("held", "info")]
    none = run(by_hand.ANALYZER, known(app=app(wanted=0, ready=0), rings=faults(no_instance=20)))
    assert [one.id for one in none] == ["no-instance"] and none[0].certainty == CERTAIN


def test_taken_out_by_hand_or_by_rule() -> None:
    mine = instance(admission="ejected", ejection="by hand: look at it")
    theirs = instance("web-2", admission="ejected", ejection="3 faults in a row: head-timeout")
    hand = run(by_hand.ANALYZER, known(instances=[mine, instance("web-2")]))
    assert [(one.id, one.severity) for one in hand] == [("ejected-by-hand", "info")]
    assert not run(ejected.ANALYZER, known(instances=[mine, instance("web-2")]))
    rule = run(ejected.ANALYZER, known(instances=[instance(), theirs]))
    assert [(one.id, one.certainty) for one in rule] == [("ejected", NOT_KNOWN)]
    both = known(instances=[theirs], rings=faults(all_ejected=9))
    assert [one.id for one in run(ejected.ANALYZER, both)] == ["all-ejected"]


def test_what_was_refused() -> None:
    kept = known(app=app(not_replaced="web-9 did not get ready: what ran before was kept"))
    assert [one.id for one in run(by_hand.ANALYZER, kept)] == ["not-replaced"]
    refused = event("reload-refused", "reload refused: apps.web.paths", ago=60)
    assert [one.id for one in run(by_hand.ANALYZER, known(events=[refused]))] == ["reload-refused"]
    assert not run(by_hand.ANALYZER, known(events=[refused, event("reload", "applied", ago=20)]))


def test_none_ready_is_a_state_and_not_a_cause() -> None:
    down = known(app=app(ready=0, state="down"), instances=[], rings=faults(all_unready=30))
    found = run(ejected.ANALYZER, down)
    assert [(one.id, one.certainty) for one in found] == [("none-ready", NOT_KNOWN)] and found[0].unknown


# --- limits ------------------------------------------------------------------------------------------


def test_a_limit_is_above_info_only_where_many_meet_it() -> None:
    refused = {"status": 413, "fault": "body-too-large", "method": "POST", "target": "/upload", "instance": ""}
    many = [record(n, **refused) for n in range(40)]
    given = known(records=many, rings={"": ring(requests=0.5, faults={"body-too-large": burst(40)})})
    found = run(limits.ANALYZER, given)
    assert [(one.id, one.severity) for one in found] == [("limit-body", "warning")] and found[0].paths == ["/upload"]
    few = known(rings={"": ring(requests=50.0, faults={"body-too-large": burst(6)})})
    assert [one.severity for one in run(limits.ANALYZER, few)] == ["info"]
    assert not run(limits.ANALYZER, known(rings={"": ring(faults={"body-too-large": burst(2)})}))


def test_no_route_and_loops() -> None:
    lost = [record(n, status=404, fault="no-route", host="shop.test", instance="", app="") for n in range(8)]
    assert [one.id for one in run(limits.ANALYZER, known(records=lost))] == ["no-route"]
    assert [one.id for one in run(limits.ANALYZER, known(rings=faults(loop_detected=3)))] == ["loop"]


# --- the clock ---------------------------------------------------------------------------------------


def test_a_clock_that_was_moved() -> None:
    found = run(clock.ANALYZER, known(), whole=[HostReport(clock_step=-3600.0)])
    assert [one.id for one in found] == ["clock-step"] and found[0].certainty == CERTAIN
    assert "back" in found[0].evidence[0].text and found[0].severity == "warning"
    assert not run(clock.ANALYZER, known(), whole=[HostReport(clock_step=0.02)])
    said = known(lines={"web-1": lines(*["jwt: Token is not yet valid"] * 6)})
    assert run(clock.ANALYZER, said, whole=[HostReport()])[0].certainty == LIKELY


# --- healthy -----------------------------------------------------------------------------------------


def busy() -> Known:
    """Near its limits: full slots now and then, a few retries, a client that left, one stale connection, a deploy."""
    left = [record(n * 9, fault="client-left", status=499, total=1.2) for n in range(4)]
    stale = [attempt(fault="stale-connection", reused=True, idle_us=5 * 10**6), attempt(status=200)]
    planned = [ended("web-1", ago=100, ours=True, why="deploy"), ended("web-2", ago=90, code=0, ours=True)]
    return known(
        instances=[instance("web-3", started_at=NOW - 95, ready_at=NOW - 93, memory_limit=10**9), instance("web-4")],
        records=[*left, record(50, attempts=stale), *records(300, span=60, target="/page")],
        exits=planned,
        events=[event("stopped", "web-1 ended: exit code 0", instance="web-1"), event("deployed", "version 8")],
        lines={"web-3": lines("INFO GET /page 200", "WARNING cache miss", "INFO Connection reset by peer")},
        rings={
            "": ring(requests=lambda at: 60.0 if at % 60 < 5 else 20.0, s2xx=20.0, faults={"client-left": burst(4)}),
            "web-3": ring(95, requests=20.0, s2xx=20.0, cpu=0.85, memory=lambda at: 2e8 + 6e7 * min(at, 40) / 40),
            "web-4": ring(requests=20.0, s2xx=20.0, cpu=0.85, memory=lambda at: 2e8 + 1e6 * (at % 30)),
        },
    )


@pytest.mark.parametrize("given", [known(), known(records=[], rings={}), busy()])
@pytest.mark.parametrize("module", MINE, ids=lambda module: module.__name__.rpartition(".")[2])
def test_nothing_above_info_on_a_healthy_app(module: Any, given: Known) -> None:
    analyzer: Analyzer = module.ANALYZER
    host = HostReport(
        memory_total=16 * 10**9, oom_kills=3, disks={"/": (5 * 10**9, 10**11, 10**6)}, clock_synced=True,
        samples=[HostSample(at=NOW, busy=0.85, available=4 * 10**9)],
    )  # fmt: skip
    listener = Listener(address="127.0.0.1:9003", waiting=2, backlog=128)
    calm = Sockets(samples=[SocketSample(at=NOW - at, listeners=[listener]) for at in range(5)])
    active = Activity(samples=[ActivitySample(at=NOW - at, user=0.85, rss=2 * 10**8) for at in range(10)])
    found = run(analyzer, given, whole=[host], each={"web-3": [calm, active]})
    assert [one.id for one in found if one.severity != "info"] == []
    assert not run(analyzer, known()) or module is limits


@pytest.mark.parametrize("module", MINE, ids=lambda module: module.__name__.rpartition(".")[2])
def test_each_is_complete(module: Any) -> None:
    analyzer: Analyzer = module.ANALYZER
    assert analyzer.checks.endswith(".") and not analyzer.title.endswith(".")
    assert analyzer.name == module.__name__.rpartition(".")[2] and module.__doc__
