"""Instances that do not become ready, and starts that only take their time."""

from typing import Any

from proxy.diagnostics.analyzers import health, starting
from proxy.diagnostics.analyzers.contract import CERTAIN, LIKELY, NOT_KNOWN, VERY_LIKELY, Finding
from proxy.diagnostics.artifacts import (
    Activity,
    ActivitySample,
    Deploy,
    Frame,
    Instance,
    Listener,
    Peer,
    ProcessStacks,
    Round,
    Sockets,
    SocketSample,
    Stacks,
    ThreadStack,
)
from tests.analyzers.made import NOW, app, ended, event, instance, known, ring, run


def coming(**fields: Any) -> Instance:
    usual = {"lifecycle": "starting", "started_at": NOW - 40, "ready_at": 0.0, "answered_at": 0.0, "listens_on": [],
             "probe": "connection refused", "probe_ok": False, "probe_status": None}  # fmt: skip
    return instance("web-1", **{**usual, **fields})


def looked(*addresses: str, peers: list[Peer] | None = None) -> Sockets:
    listeners = [Listener(address=one, backlog=100) for one in addresses]
    return Sockets(samples=[SocketSample(at=NOW - 2, listeners=listeners, peers=peers or [])])


def cpu(cores: float) -> Activity:
    return Activity(samples=[ActivitySample(at=NOW - at, user=cores) for at in range(5)])


def of(one: Instance, *artifacts: Any, **fields: Any) -> list[Finding]:
    down = app(ready=0, wanted=1, state="down", **fields.pop("app", {}))
    return run(starting.ANALYZER, known(app=down, instances=[one], **fields), each={"web-1": artifacts})


def test_another_port_is_certain_once_it_had_time() -> None:
    found = of(coming(), looked("127.0.0.1:5000"))
    assert [each.id for each in found] == ["wrong-port"] and found[0].certainty == CERTAIN
    assert "127.0.0.1:5000" in found[0].cause and found[0].severity == "critical"
    unsure = coming(started_at=NOW - 15, probe="no answer within 2.0 s")
    assert of(unsure, looked("127.0.0.1:5000"))[0].certainty == LIKELY
    assert of(coming(), looked("127.0.0.1:5000"), cpu(0.9))[0].certainty == LIKELY
    assert not of(coming(started_at=NOW - 4), looked("127.0.0.1:5000"))


def test_the_right_port_on_another_address() -> None:
    found = of(coming(), looked("[::1]:9001"))
    assert [each.id for each in found] == ["wrong-address"]
    assert [each.id for each in of(coming(), looked("0.0.0.0:9001"))] == ["check-fails-at-start"]


def test_one_that_still_computes_is_starting() -> None:
    found = of(coming(), looked(), cpu(0.95))
    assert [each.id for each in found] == ["start-too-slow"] and found[0].certainty == LIKELY
    assert "still starting" in found[0].cause
    assert [each.id for each in of(coming(), looked(), cpu(0.0))] == ["does-not-listen"]


def test_one_that_waits_for_a_peer_names_it() -> None:
    peer = Peer(address="10.0.3.12:5432", name="PostgreSQL", by="server", connecting=1)
    found = of(coming(), looked(peers=[peer]), cpu(0.0))
    assert "waits for 10.0.3.12:5432 (PostgreSQL" in found[0].cause
    frames = [Frame(function="connect", file="/srv/web/app.py", line=9)]
    threads = [ProcessStacks(pid=1001, threads=[ThreadStack(id=1, name="MainThread", frames=frames)])]
    stacks = Stacks(rounds=[Round(at=NOW - at, processes=threads) for at in (3, 2, 1)])
    with_line = of(coming(), looked(peers=[peer]), cpu(0.0), stacks)[0]
    assert with_line.certainty == VERY_LIKELY and "app.py:9" in with_line.cause


def test_one_that_has_time_left_is_no_finding() -> None:
    ready = instance("web-2", started_at=NOW - 900, ready_at=NOW - 870)
    given = known(instances=[coming(started_at=NOW - 45), ready])
    assert not run(starting.ANALYZER, given, each={"web-1": [looked(), cpu(0.9)]})
    late = known(instances=[coming(started_at=NOW - 75), ready])
    assert run(starting.ANALYZER, late, each={"web-1": [looked(), cpu(0.9)]})


def test_its_own_word_that_it_can_not_start() -> None:
    said = ["Traceback (most recent call last):", '  File "/srv/web/app.py", line 1, in <module>',
            "    import flask", "ModuleNotFoundError: No module named 'flask'"]  # fmt: skip
    ends = [ended("web-9", ago=ago, lasted=0.3, was_ready=False, last_lines=said) for ago in (60, 40, 10)]
    found = run(starting.ANALYZER, known(app=app(ready=0, state="down"), instances=[], exits=ends))
    assert [each.id for each in found] == ["fails-to-start"] and found[0].certainty == VERY_LIKELY
    assert "No module named 'flask'" in found[0].cause and "app.py:1" in found[0].cause


def test_a_program_that_goes_into_the_background() -> None:
    ends = [ended("web-9", ago=10, lasted=0.3, code=0, was_ready=False)]
    found = run(starting.ANALYZER, known(app=app(ready=0, state="down"), instances=[], exits=ends))
    assert "background" in found[0].cause and found[0].certainty == LIKELY


def test_an_end_without_a_word_is_not_explained() -> None:
    ends = [ended("web-9", ago=10, lasted=0.3, code=7, was_ready=False)]
    change = [Deploy(at=NOW - 30, what="deployed", text="version 41 in place of 40")]
    given = known(app=app(ready=0, state="down"), instances=[], exits=ends, deploys=change)
    found = run(starting.ANALYZER, given)[0]
    assert found.unknown.startswith("Why") and "version 41" in found.remedies[0].text


def test_a_start_that_went_well_later_is_over() -> None:
    assert not run(starting.ANALYZER, known(exits=[ended("web-9", ago=ago, was_ready=False) for ago in (3900, 1000)],
                                            instances=[instance(ready_at=NOW - 900), instance("web-2")]))  # fmt: skip


def test_starts_that_were_ended_as_too_slow() -> None:
    slow = [event("too-slow", "web-1 was not ready within 60 s", ago=20, instance="web-1",
                  details={"trouble": "wrong-port", "listens_on": ["127.0.0.1:5000"]})]  # fmt: skip
    given = known(app=app(ready=0, state="down"), instances=[], events=slow)
    found = run(starting.ANALYZER, given)
    assert found[0].id == "wrong-port" and found[0].certainty == CERTAIN
    slow[0].details.clear()
    assert run(starting.ANALYZER, given)[0].id == "start-too-slow"
    assert not run(starting.ANALYZER, known(events=slow))


def test_a_check_that_never_passes() -> None:
    wants = {404: "no such path", 401: "login", 302: "redirect", 400: "Host"}
    for status, word in wants.items():
        words = f"status {status}{', a redirect to /login' if status == 302 else ''}"
        one = coming(lifecycle="warming", listens_on=["127.0.0.1:9001"], probe=words, probe_status=status)
        found = of(one, looked("127.0.0.1:9001"))
        assert [each.id for each in found] == ["check-fails-at-start"], status
        assert word in found[0].cause, found[0].cause


# --- checks of instances that serve ------------------------------------------------------------------


def served(one: Instance, good: float = 10.0, bad: float = 0.0, **fields: Any) -> list[Finding]:
    rings = {"web-1": ring(s2xx=good, s5xx=bad, requests=good + bad, p50=0.02), "": ring(requests=good + bad)}
    given = known(instances=[one], rings=rings, **fields)
    return run(health.ANALYZER, given)


def test_a_check_that_fails_while_requests_are_answered() -> None:
    one = instance(probe="status 404", probe_ok=False, probe_status=404, probes_failed=6)
    found = served(one)
    assert [each.id for each in found] == ["probe-wrong"] and found[0].certainty == CERTAIN
    assert served(instance(probe="status 503", probe_ok=False, probe_status=503, probes_failed=6))[0].unknown


def test_a_failing_check_of_a_failing_app_is_right() -> None:
    one = instance(probe="status 500", probe_ok=False, probe_status=500, probes_failed=6)
    assert not served(one, good=5.0, bad=5.0)
    idle = served(one, good=0.0)
    assert [each.id for each in idle] == ["probe-failing"] and idle[0].certainty == NOT_KNOWN


def test_a_check_that_passes_while_requests_fail() -> None:
    found = served(instance(), good=1.0, bad=9.0)
    assert [each.id for each in found] == ["probe-blind"]
    assert not served(instance(), good=9.0, bad=1.0)
    assert not served(instance(), good=0.01, bad=0.1)


def test_a_check_that_times_out_behind_work() -> None:
    one = instance(probe="no answer within 2.0 s", probe_ok=False, probe_status=None, probes_failed=4)
    rings = {"web-1": ring(s2xx=10.0, requests=10.0, p50=0.5, cpu=0.99)}
    found = run(health.ANALYZER, known(instances=[one], rings=rings))
    assert found[0].certainty == NOT_KNOWN and "busy" in found[0].cause
    rings = {"web-1": ring(s2xx=10.0, requests=10.0, p50=0.02, cpu=0.05)}
    assert run(health.ANALYZER, known(instances=[one], rings=rings))[0].certainty == LIKELY
