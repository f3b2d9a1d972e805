"""Slots, clients, instances, changes, the machine: found, nearly so, and not to be told."""

from typing import Any

import pytest

from proxy.diagnostics.analyzers import (
    capacity,
    change,
    clients,
    gateway_load,
    host,
    one_instance,
    slow,
    slow_clients,
)
from proxy.diagnostics.analyzers.contract import Finding
from proxy.diagnostics.artifacts import Deploy, Known, Worker
from tests.analyzers import made, stacked
from tests.analyzers.made import NOW
from tests.analyzers.stacked import SERVED


def ids(findings: list[Finding]) -> list[str]:
    return [one.id for one in findings]


def crowded(
    requests: Any = 10.0, wait: Any = 0.1, slots: int = 8, records: list[Any] | None = None, **fields: Any
) -> Known:
    """All slots are taken, and since 40 s requests are turned away."""
    column = {"requests": requests, "wait_p50": wait, "in_flight": float(slots), "queue": 30.0, "queue_oldest": 2.0}
    rings = {
        "": made.ring(faults={"queue-timeout": [5] * 40}, **column),
        "web-1": made.ring(requests=requests, wait_p50=wait, in_flight=float(slots), cpu=0.05),
    }
    return made.known(
        app=made.app(max_inflight=slots, wanted=1, ready=1, in_flight=slots, waiting=30, oldest_wait=2.0),
        instances=[made.instance(in_flight=slots, slots=slots)], rings=rings, records=records or [], **fields,
    )  # fmt: skip


# --- slots -----------------------------------------------------------------------------------------


def test_more_traffic_than_fits() -> None:
    found = made.run(capacity.ANALYZER, crowded(requests=[20.0] * 540 + [100.0] * 60))
    over = next(one for one in found if one.id == "over-capacity")
    assert over.certainty == "very likely" and "100.0 requests/s" in over.cause and over.since == NOW - 60
    assert next(one for one in found if one.id == "no-slots").certainty == "not known"


def test_the_same_traffic_that_takes_longer_is_no_rise_of_traffic() -> None:
    found = made.run(capacity.ANALYZER, crowded(wait=[0.1] * 540 + [5.0] * 60))
    assert ids(found) == ["no-slots"]


def test_instances_that_rest_while_requests_wait_have_too_few_slots() -> None:
    def drawn(ended: float, cores: float = 0.02) -> set[str]:
        given = crowded()
        given.rings[""].values["s2xx"] = [ended] * given.rings[""].length
        return set(ids(made.run(capacity.ANALYZER, given, each={"web-1": [stacked.activity(cores)]})))

    through = crowded().app.in_flight / (crowded().rings[""].values["wait_p50"][-1] or 1.0)
    assert "slots-too-few" in drawn(through)
    assert "slots-too-few" not in drawn(through, cores=0.9)
    assert "slots-too-few" not in drawn(through / 10), "what fills the slots takes longer than what has ended"


def test_slots_that_are_free_are_not_taken() -> None:
    given = crowded()
    given.rings[""].values["in_flight"] = [0.0] * 600
    given.app.in_flight = 0
    assert made.run(capacity.ANALYZER, given) == []


def test_workers_that_are_all_at_work_with_requests_behind_them() -> None:
    rings = {key: made.ring(requests=6.0, wait_p50=[0.1] * 540 + [3.0] * 60, in_flight=30.0) for key in ("", "web-1")}
    given = made.known(instances=[made.instance(in_flight=30)], rings=rings)
    at_work = stacked.stacks(stacked.threads(4, "convert app:21", *SERVED, wchan="do_wait"))
    found = made.run(capacity.ANALYZER, given, each={"web-1": [at_work, stacked.activity()]})
    assert [(one.id, one.certainty) for one in found] == [("workers-exhausted", "very likely")]
    grows = [stacked.threads(count, "convert app:21", *SERVED, wchan="do_wait") for count in (10, 18, 26)]
    each = {"web-1": [stacked.stacks(*grows), stacked.activity()]}
    assert made.run(capacity.ANALYZER, given, each=each) == [], "a thread for each request"


# --- clients ---------------------------------------------------------------------------------------


def test_one_client_of_several_makes_the_load() -> None:
    noisy = made.records(200, client="198.51.100.9", target="/search", wait=0.5)
    others = [one for n in range(4) for one in made.records(10, ago=0.1 * n, client=f"192.0.2.{n}", wait=0.05)]
    found = made.run(clients.ANALYZER, crowded(records=[*noisy, *others]))
    assert [(one.id, one.certainty) for one in found] == [("noisy-client", "very likely")]
    assert "198.51.100.9" in found[0].title and "200 of 240 (83 %)" in found[0].cause


def test_the_only_client_or_one_of_many_alike_is_not_noisy() -> None:
    alone = made.records(200, client="198.51.100.9")
    assert made.run(clients.ANALYZER, crowded(records=alone)) == []
    alike = [one for n in range(5) for one in made.records(40, ago=0.1 * n, client=f"192.0.2.{n}")]
    assert made.run(clients.ANALYZER, crowded(records=alike)) == []


def storm(again: bool) -> list[Any]:
    """40 failures of four clients; each comes again 50 ms later, or a second later as good ones do."""
    found = []
    for n in range(40):
        ago = 50.0 - n
        who = {"client": f"192.0.2.{n % 4}", "target": "/sheet", "wait": 0.01}
        found.append(made.record(ago, id=f"a{n}", status=503, fault="app-error", **who))
        if again:
            found.append(made.record(ago - 0.06, id=f"b{n}", status=503, fault="app-error", **who))
        found.append(made.record(ago + 100, id=f"c{n}", **who))
    return found


def test_failures_that_come_again_at_once_while_traffic_grows() -> None:
    rings = {"": made.ring(requests=[10.0] * 540 + [30.0] * 60, wait_p50=0.01, faults={"app-error": [1] * 60})}
    found = made.run(clients.ANALYZER, made.known(rings=rings, records=storm(True)))
    assert ids(found) == ["retry-storm"]
    assert made.run(clients.ANALYZER, made.known(rings=rings, records=storm(False))) == []
    flat = {"": made.ring(requests=10.0, wait_p50=0.01, faults={"app-error": [1] * 60})}
    assert made.run(clients.ANALYZER, made.known(rings=flat, records=storm(True))) == []


def paced(number: int, *, ago: float, bad: bool = False, target: str = "/transfer") -> list[Any]:
    """One client that asks four times a second, whatever comes of it."""
    ill = {"status": 502, "fault": "reset-before-head", "total": 0.2} if bad else {}
    return [
        made.record(ago - 0.25 * n, id=f"{target}{ago}{n}", client="192.0.2.7", target=target, wait=0.01, **ill)
        for n in range(number)
    ]


def test_one_client_that_goes_on_at_its_pace_is_no_storm() -> None:
    faults = {"reset-before-head": [4] * 30}
    empty_before = {"": made.ring(requests=[0.0] * 540 + [4.0] * 60, wait_p50=0.01, faults=faults)}
    records = [*paced(120, ago=30.0, bad=True), *paced(120, ago=60.0)]
    assert made.run(clients.ANALYZER, made.known(rings=empty_before, records=records)) == []
    began_ill = [*paced(120, ago=30.0, bad=True), *paced(120, ago=60.0, target="/"), *paced(120, ago=30.0, target="/")]
    grown = {"": made.ring(requests=[0.0] * 540 + [4.0] * 30 + [8.0] * 30, wait_p50=0.01, faults=faults)}
    assert made.run(clients.ANALYZER, made.known(rings=grown, records=began_ill)) == [], "new ones, not repeats"
    never_well = {"": made.ring(requests=[0.0] * 570 + [4.0] * 30, wait_p50=0.01, faults=faults)}
    assert made.run(clients.ANALYZER, made.known(rings=never_well, records=paced(120, ago=30.0, bad=True))) == []


def test_clients_that_read_slowly() -> None:
    slow_ones = made.records(
        8, wait=0.01, total=8.0, fault="client-left", status=499, target="/video", bytes_out=480_000
    )
    rings = {"": made.ring(requests=8.0, wait_p50=0.01, faults={"client-left": [1] * 10})}
    peers = stacked.sockets(stacked.asked("127.0.0.1", by="client", senders=5, unsent=5))
    given = made.known(rings=rings, records=slow_ones)
    found = made.run(slow_clients.ANALYZER, given, each={"web-1": [peers]})
    assert [(one.id, one.certainty) for one in found] == [("slow-clients", "very likely")]
    early = made.records(8, wait=None, total=8.0, fault="client-left", status=499, target="/video")
    assert made.run(slow_clients.ANALYZER, made.known(rings=rings, records=early)) == []


def test_clients_that_leave_after_the_same_time() -> None:
    left = made.records(12, wait=None, total=1.0, fault="client-left", status=499)
    rings = {"": made.ring(requests=8.0, wait_p50=0.2, faults={"client-left": [1] * 12})}
    found = made.run(slow.ANALYZER, made.known(rings=rings, records=left))
    assert ids(found) == ["clients-left"] and "12 of 12 did so after 1 s" in found[0].cause


# --- instances and changes -------------------------------------------------------------------------


def failing(bad: dict[str, int], of: int = 60, **fields: Any) -> Known:
    """Errors of each instance in the last minute, of `of` requests each; all of one path."""
    rings = {"": made.ring(requests=float(len(bad)), wait_p50=0.02, errors=[float(sum(bad.values())) / 60] * 60)}
    records = []
    for name, count in bad.items():
        rings[name] = made.ring(requests=[1.0] * of, wait_p50=0.02, faults={"app-error": made.burst(count, 60)})
        records += made.records(count, instance=name, status=500, fault="app-error")
        records += made.records(of - count, ago=0.5, instance=name)
    return made.known(instances=[made.instance(name) for name in bad], rings=rings, records=records, **fields)


def test_one_instance_fails_and_the_others_do_not() -> None:
    found = made.run(one_instance.ANALYZER, failing({"web-1": 0, "web-2": 30, "web-3": 0}))
    assert [(one.id, one.instances, one.certainty) for one in found] == [("one-bad-instance", ["web-2"], "very likely")]


@pytest.mark.parametrize("bad", [{"web-1": 20, "web-2": 24}, {"web-1": 0, "web-2": 4}, {"web-1": 30}])
def test_all_alike_too_few_or_alone_is_not_one_bad_instance(bad: dict[str, int]) -> None:
    assert made.run(one_instance.ANALYZER, failing(bad)) == []


def test_an_instance_that_only_gets_what_fails_everywhere_is_not_bad() -> None:
    given = failing({"web-1": 0, "web-2": 12}, of=60)
    poison = made.records(40, instance="web-1", target="/poison", status=500, fault="app-error")
    trials = made.records(12, instance="web-2", target="/poison", status=500, fault="app-error")
    given.records = [*poison, *trials, *made.records(60, instance="web-1")]
    assert made.run(one_instance.ANALYZER, given) == []


def turned(deploys: list[Deploy], before: float = 0.0) -> Known:
    """Errors at half of the requests, since 60 s."""
    errors = [before] * 540 + [5.0] * 60
    rings = {"": made.ring(requests=10.0, wait_p50=0.02, errors=errors, faults={"app-error": [5] * 60})}
    return made.known(rings=rings, deploys=deploys)


def deploy(ago: float, what: str = "deployed") -> Deploy:
    return Deploy(at=NOW - ago, what=what, text="version 2 came after version 1", version="2", before="1")


def test_errors_since_a_deploy() -> None:
    news = made.exceptions("TypeError", "no rate")
    given = turned([deploy(75)])
    given.exceptions = [news]
    found = made.run(change.ANALYZER, given)
    assert [(one.id, one.certainty) for one in found] == [("bad-deploy", "very likely")]
    assert found[0].since == pytest.approx(NOW - 60, abs=3)


def test_a_deploy_alone_is_likely_and_one_of_yesterday_is_none() -> None:
    found = made.run(change.ANALYZER, turned([deploy(75)]))
    assert [(one.id, one.certainty) for one in found] == [("bad-deploy", "likely")]
    assert [(one.id, one.certainty) for one in made.run(change.ANALYZER, turned([deploy(80_000)]))] == [
        ("errors-rose", "not known")
    ]


def test_errors_that_were_there_before_the_deploy_are_not_its_doing() -> None:
    assert made.run(change.ANALYZER, turned([deploy(75)], before=4.5)) == []


# --- the machine and the gateway -------------------------------------------------------------------


def late() -> Known:
    column = [0.05] * 540 + [1.5] * 60
    return made.known(rings={key: made.ring(requests=8.0, wait_p50=column, in_flight=4.0) for key in ("", "web-1")},
                      instances=[made.instance(in_flight=4)])  # fmt: skip


def test_other_programs_that_take_the_cpu_are_named() -> None:
    report = stacked.host(1.0, 0.8, [("burn", 900 + n, 0.2, 1000) for n in range(8)])
    starved = stacked.activity(0.15, wait_cpu=0.8)
    found = made.run(host.ANALYZER, late(), whole=[report], each={"web-1": [starved]})
    assert ids(found) == ["host-saturated"] and "burn 1.60 (8 processes)" in found[0].cause
    idle = stacked.activity(0.15, wait_cpu=0.01)
    assert made.run(host.ANALYZER, late(), whole=[report], each={"web-1": [idle]}) == []
    assert made.run(host.ANALYZER, late(), whole=[stacked.host(0.4, 0.0)], each={"web-1": [starved]}) == []


def test_without_a_report_of_the_machine_nothing_can_be_said_of_it() -> None:
    with pytest.raises(made.Inconclusive):
        made.run(host.ANALYZER, late())


def test_what_the_gateway_turned_away_itself_is_certain() -> None:
    rings = {"": made.ring(requests=8.0, faults={"gateway-overload": [2] * 10})}
    found = made.run(gateway_load.ANALYZER, made.known(rings=rings))
    assert [(one.id, one.certainty) for one in found] == [("gateway-overload", "certain")]
    before_any_app = {"": made.ring(requests=8.0), "gateway": made.ring(faults={"gateway-overload": [2] * 10})}
    found = made.run(gateway_load.ANALYZER, made.known(rings=before_any_app))
    assert [one.id for one in found] == ["gateway-overload"] and "20 requests" in found[0].cause
    late_loop = made.known(workers=[Worker(slot=0, lag=0.5)], records=made.records(40, own_us=300))
    assert made.run(gateway_load.ANALYZER, late_loop) == [], "requests did not wait for it"
