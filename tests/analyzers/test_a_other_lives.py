"""What looks like evidence and is of another life, process, limit or time: it must not make anything certain."""

import base64
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from proxy.diagnostics import analyze
from proxy.diagnostics.analyzers import (
    children,
    closing,
    connecting,
    cpu,
    descriptors,
    event_loop,
    exits,
    gateway,
    health,
    malformed,
    starting,
    storage,
    threads,
)
from proxy.diagnostics.analyzers.contract import CERTAIN, LIKELY, VERY_LIKELY, Analyzer, Finding
from proxy.diagnostics.artifacts import (
    Activity,
    ActivitySample,
    Artifact,
    Cgroup,
    Descriptors,
    HostEvent,
    HostEvents,
    HostReport,
    Instance,
    Known,
    Listener,
    Peer,
    Record,
    Sockets,
    SocketSample,
)
from tests.analyzers import stacked
from tests.analyzers.made import NOW, app, attempt, burst, ended, event, instance, known, lines, records, ring, run

KILLED = "Memory cgroup out of memory: Killed process 1001 (python)"
PORTS = (32768, 60999)


def only(analyzer: Analyzer, given: Known, *whole: Artifact, **each: Iterable[Artifact]) -> Finding:
    found = run(analyzer, given, whole, {name.replace("_", "-"): ones for name, ones in each.items()})
    assert len(found) == 1, [one.id for one in found]
    return found[0]


def failed(fault: str, number: int = 10, name: str = "web-1", **fields: Any) -> list[Record]:
    tries = [attempt(name, fault=fault, detail=fields.pop("detail", ""))]
    return records(number, fault=fault, status=502, attempts=tries, instance=name, **fields)


# --- ends of processes -------------------------------------------------------------------------------


def kernel(ago: float, **fields: Any) -> HostEvents:
    return HostEvents(events=[HostEvent(at=NOW - ago, **{"kind": "oom-kill", "text": KILLED, "pid": 1001, **fields})])


def test_a_kill_for_memory_is_of_the_life_in_which_it_came() -> None:
    before = ended(ago=34, lasted=600.0, signal=9)
    by_hand = ended(ago=30, lasted=2.5, signal=9)
    found = run(exits.ANALYZER, known(exits=[before, by_hand]), [kernel(34), HostReport(oom_kills=1)])
    assert sorted((one.id, one.certainty, one.since) for one in found) == [
        ("killed", CERTAIN, NOW - 30), ("out-of-memory", CERTAIN, NOW - 34),
    ]  # fmt: skip


def test_a_kill_for_memory_of_the_next_life_is_not_of_this_one() -> None:
    ends = [ended(ago=34, signal=9), ended(ago=30, lasted=3.9, signal=9)]
    found = run(exits.ANALYZER, known(exits=ends), [kernel(30), HostReport(oom_kills=1)])
    assert {one.id: one.since for one in found} == {"killed": NOW - 34, "out-of-memory": NOW - 30}


@pytest.mark.parametrize(
    ("pid", "process", "told", "open_"),
    [(1001, "python", True, False), (77, "ffmpeg", False, True), (77, "python", True, True)],
)
def test_a_crash_of_another_program_at_that_moment(pid: int, process: str, told: bool, open_: bool) -> None:
    line = HostEvents(
        events=[HostEvent(at=NOW - 30, kind="segfault", text=f"{process}[{pid}]: segfault", pid=pid, process=process)]
    )
    found = only(exits.ANALYZER, known(exits=[ended(signal=11, by_itself=True)]), line)
    assert any("The kernel wrote" in one.text for one in found.evidence) is told
    assert bool(found.unknown) is open_, "a line that may be of another one leaves open where it crashed"


def test_one_that_obeys_a_signal_with_a_code_of_its_own() -> None:
    said = {"web-1": lines("ready", "received SIGTERM, closing 3 connections")}
    found = only(exits.ANALYZER, known(exits=[ended(code=3)], lines=said), HostReport(oom_kills=0))
    assert (found.id, found.certainty) == ("asked-to-end", LIKELY)
    crashed = {"web-1": lines("caught signal 11 (SIGSEGV), giving up")}
    found = only(exits.ANALYZER, known(exits=[ended(code=3)], lines=crashed), HostReport(oom_kills=0))
    assert found.id == "own-exit"


def test_an_error_on_the_way_out_of_one_that_was_told_to_end() -> None:
    trace = ("Traceback (most recent call last):", '  File "/srv/web/app.py", line 3, in work', "ValueError: cut off")
    for first, certainty in (("ready", VERY_LIKELY), ("Received SIGTERM, closing", LIKELY)):
        found = only(exits.ANALYZER, known(exits=[ended()], lines={"web-1": lines(first, *trace)}), HostReport())
        assert (found.id, found.certainty) == ("uncaught-exception", certainty)


def test_a_heap_that_was_full_did_not_end_what_ended_well() -> None:
    said = {"web-1": lines("WARN java.lang.OutOfMemoryError: Java heap space, request dropped")}
    for code, ident in ((0, "ends-by-itself"), (3, "heap-limit")):
        found = only(exits.ANALYZER, known(exits=[ended(code=code)], lines=said), HostReport(oom_kills=0))
        assert found.id == ident


WORKER = "[ERROR] Worker (pid:1001) was sent SIGKILL! Perhaps out of memory?"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (kernel(30), ("out-of-memory", VERY_LIKELY)),
        (kernel(800), ("worker-ended", LIKELY)),  # a number comes again
        (kernel(30, pid=4711), ("worker-ended", LIKELY)),  # another app's, in the same second
    ],
)
def test_a_worker_is_killed_for_memory_only_by_its_own_line(line: HostEvents, expected: tuple[str, str]) -> None:
    found = only(children.ANALYZER, known(lines={"web-1": lines(WORKER)}), line)
    assert (found.id, found.certainty) == expected


@pytest.mark.parametrize(("ago", "expected"), [(5.0, "out-of-memory"), (600.0, "worker-ended")])
def test_a_counter_of_this_session_says_nothing_of_before(ago: float, expected: str) -> None:
    counted = Activity(
        samples=[ActivitySample(at=NOW - 10 + at) for at in range(10)], changed={"memory.events oom_kill": 1.0},
        cgroup=Cgroup(path="/triage/web-1", version=2, own=True),
    )  # fmt: skip
    given = known(lines={"web-1": lines(WORKER, ago=ago)})
    assert only(children.ANALYZER, given, web_1=[counted]).id == expected


# --- starting ----------------------------------------------------------------------------------------


def coming(**fields: Any) -> Instance:
    usual = {"lifecycle": "starting", "started_at": NOW - 40, "ready_at": 0.0, "answered_at": 0.0, "listens_on": [],
             "probe": "connection refused", "probe_ok": False, "probe_status": None}  # fmt: skip
    return instance("web-1", **{**usual, **fields})


def looked(*addresses: str, peers: Iterable[Peer] = ()) -> Sockets:
    listeners = [Listener(address=one, backlog=100) for one in addresses]
    return Sockets(samples=[SocketSample(at=NOW - 2, listeners=listeners, peers=list(peers))])


def down(one: Instance, **fields: Any) -> Known:
    return known(app=app(ready=0, wanted=1, state="down"), instances=[one], **fields)


def test_a_port_for_metrics_is_no_wrong_port_while_it_waits_for_its_database() -> None:
    metrics = "127.0.0.1:9100"
    peer = Peer(address="10.0.3.12:5432", name="PostgreSQL", by="server", connecting=1)
    asks = only(starting.ANALYZER, down(coming()), web_1=[looked(metrics, peers=[peer])])
    assert asks.certainty == LIKELY and "waits for 10.0.3.12:5432" in asks.rivals[0].speaks_for[0] and asks.unknown
    asleep = stacked.stacks([stacked.thread(1001, "wait_for_db app:12", "main app:40", wchan="hrtimer_nanosleep")])
    sleeps = only(starting.ANALYZER, down(coming()), web_1=[looked(metrics), asleep])
    assert sleeps.certainty == LIKELY and "sleeps at wait_for_db" in sleeps.rivals[0].speaks_for[0]
    said = {"web-1": lines("psycopg.OperationalError: connection refused, again in 5 s", ago=3)}
    assert only(starting.ANALYZER, down(coming(), lines=said), web_1=[looked(metrics)]).certainty == LIKELY
    serves = stacked.stacks([stacked.thread(1001, *stacked.RESTING)])
    assert only(starting.ANALYZER, down(coming()), web_1=[looked(metrics), serves]).certainty == CERTAIN
    right = only(starting.ANALYZER, down(coming(), lines=said), web_1=[looked("127.0.0.2:9001")])
    assert (right.id, right.certainty) == ("wrong-address", CERTAIN)


@pytest.mark.parametrize(("text", "certainty"), [("redis: ECONNREFUSED 10.0.0.9:6379", LIKELY), ("hello", CERTAIN)])
def test_one_that_was_ended_before_it_could_listen(text: str, certainty: str) -> None:
    slow = event("too-slow", "web-1 was not ready within 60 s", ago=20, instance="web-1",
                 details={"trouble": "wrong-port", "listens_on": ["127.0.0.1:9100"]})  # fmt: skip
    given = known(app=app(ready=0, state="down"), instances=[], events=[slow], lines={"web-1": lines(text, ago=25)})
    assert only(starting.ANALYZER, given).certainty == certainty


@pytest.mark.parametrize(("probe", "certainty"), [("connection refused", CERTAIN), ("closed without answer", LIKELY)])
def test_what_listens_for_it_may_be_no_process_of_its_own(probe: str, certainty: str) -> None:
    idle = Activity(samples=[ActivitySample(at=NOW - at) for at in range(5)])
    found = only(starting.ANALYZER, down(coming(probe=probe)), web_1=[looked(), idle])
    assert (found.id, found.certainty) == ("does-not-listen", certainty)
    assert bool(found.rivals) is (certainty == LIKELY)


# --- connections -------------------------------------------------------------------------------------


def refusing(name: str, fault: str = "connect-refused", **fields: Any) -> Known:
    there = instance(name, kind="address", pid=0, address=name, listens_on=[], answered_at=NOW - 200, **fields)
    rings = {"": ring(requests=20.0, faults={fault: [*burst(10), *[0] * 80]})}
    return known(instances=[there], records=failed(fault, name=name, ago=80, span=10), rings=rings)


@pytest.mark.parametrize("fault", ["connect-refused", "connect-unreachable"])
def test_what_answers_again_is_told_of_as_past(fault: str) -> None:
    given = refusing("10.0.0.5:80", fault)
    still = only(connecting.ANALYZER, given)
    assert " accepts" in still.title or " is no way" in still.title
    given.instances[0].answered_at = NOW - 1
    over = only(connecting.ANALYZER, given)
    assert over.until and not still.until
    assert " accepted" in over.title or " was no way" in over.title


def test_a_firewall_may_refuse_for_another_machine() -> None:
    assert "or a firewall" in only(connecting.ANALYZER, refusing("10.0.0.5:80")).cause
    assert "Nothing listens" in only(connecting.ANALYZER, refusing("127.0.0.1:80")).cause


def test_a_refusal_of_before_where_nobody_looked() -> None:
    tries = failed("connect-refused", ago=200, span=20)
    given = known(records=tries, instances=[instance(answered_at=NOW - 300)])
    found = only(connecting.ANALYZER, given)
    assert found.certainty == LIKELY and "were refused" in found.cause


def test_bytes_that_were_kept_long_ago_are_not_of_these_responses() -> None:
    old = {"id": "an-old-one", "instance": "web-9", "offset": 0, "why": "Expected HTTP/",
           "data": base64.b64encode(b"\x15\x03\x01\x00\x02\x02\x46").decode()}  # fmt: skip
    tries = failed("response-framing", detail="no CRLF after the content of a chunk")
    found = only(malformed.ANALYZER, known(records=tries, malformed=old))
    assert "TLS" not in found.cause and "a chunk" in found.cause
    assert not any(one.source == "malformed" for one in found.evidence)
    mine = {**old, "id": tries[3].id, "instance": "web-1"}
    assert "TLS" in only(malformed.ANALYZER, known(records=tries, malformed=mine)).cause
    counted = known(rings={"": ring(faults={"response-framing": burst(5)})}, malformed=old)
    assert "TLS" not in only(malformed.ANALYZER, counted).cause


def test_some_of_the_same_length_among_many_others_are_no_rule() -> None:
    same = failed("body-truncated", 3, detail="53 bytes of the content are missing", span=5)
    other = failed("body-truncated", 17, detail="the last chunk is missing", span=60, ago=10)
    found = only(closing.ANALYZER, known(records=[*same, *other]))
    assert "each time" not in found.cause and found.unknown


# --- limits ------------------------------------------------------------------------------------------


def test_an_image_that_is_only_read_is_always_full() -> None:
    full = {"/": (0, 10**9, 0), "/tmp": (10**10, 10**11, 10**6)}
    assert not run(storage.ANALYZER, whole=[HostReport(disks=full, read_only=["/"])])
    assert only(storage.ANALYZER, known(), HostReport(disks=full)).certainty == CERTAIN


@pytest.mark.parametrize(("used", "limit", "certainty"), [(1022, 1024, CERTAIN), (1_020_000, 1_048_576, VERY_LIKELY)])
def test_a_share_of_many_descriptors_is_still_many(used: int, limit: int, certainty: str) -> None:
    held = Activity(descriptors=[Descriptors(pid=1001, used=used, limit=limit)])
    found = only(descriptors.ANALYZER, known(), web_1=[held])
    assert found.certainty == certainty and ("no file" in found.title) is (certainty == CERTAIN)


@pytest.mark.parametrize("detail", ["Too many open files in system", "Cannot allocate memory"])
def test_the_gateways_own_limit_is_not_the_machines(detail: str) -> None:
    given = known(
        records=failed("descriptors-exhausted", detail=detail),
        rings={"": ring(requests=20.0, faults={"descriptors-exhausted": burst(10)})},
    )
    found = only(gateway.ANALYZER, given)
    assert "EMFILE" not in found.cause and detail in found.cause


def test_ports_that_are_free_are_not_used_up() -> None:
    name = "[2001:db8::7]:80"
    given = known(
        records=failed("ports-exhausted", name=name, detail="Cannot assign requested address"),
        rings={"": ring(requests=20.0, faults={"ports-exhausted": burst(10)})},
    )
    free = Sockets(ports_used=12, ports_range=PORTS)
    found = only(gateway.ANALYZER, given, web_1=[free])
    assert (found.id, found.certainty) == ("unreachable", LIKELY) and name in found.title
    used = Sockets(ports_used=28_000, ports_range=PORTS)
    assert only(gateway.ANALYZER, given, web_1=[used]).id == "ports-used-up"
    many = Sockets(ports_used=27_000, ports_range=PORTS, ports_most=("10.0.3.12:5432", 300))
    assert not run(gateway.ANALYZER, known(), each={"web-1": [many]}), "each other side has a range of its own"


def test_what_the_gateway_turned_away_an_hour_ago() -> None:
    old = failed("gateway-overload", 5, detail="no file descriptor is left", ago=3600)
    assert not run(gateway.ANALYZER, known(records=old))


def test_a_small_disk_is_not_a_disk_that_can_not_be_written() -> None:
    found = only(gateway.ANALYZER, known(rings={"host": ring(disk_free=9e6)}))
    assert "can't write" not in found.title


def throttled(own: bool, key: str) -> Activity:
    found = stacked.activity(0.5, throttled=0.8, throttled_seconds=0.7)
    found.changed = {f"{key}cpu.stat nr_throttled": 90.0}
    found.cgroup, found.quota = Cgroup(path="/x", version=2, own=own), 0.5
    return found


@pytest.mark.parametrize(
    ("own", "key", "certainty"), [(True, "", CERTAIN), (True, "/: ", VERY_LIKELY), (False, "", VERY_LIKELY)]
)
def test_a_cpu_limit_that_others_share(own: bool, key: str, certainty: str) -> None:
    column = [0.02] * 540 + [8.0] * 60
    rings = {name: ring(requests=10.0, wait_p50=column, in_flight=20.0) for name in ("", "web-1")}
    given = known(instances=[instance(in_flight=20)], rings=rings)
    found = run(cpu.ANALYZER, given, each={"web-1": [throttled(own, key)]})[0]
    assert (found.id, found.certainty) == ("cpu-throttled", certainty)
    assert ("shares with other processes" in found.title) is (certainty != CERTAIN)


# --- checks ------------------------------------------------------------------------------------------


def checked(one: Instance, **values: Any) -> list[Finding]:
    rings = {"web-1": ring(requests=10.0, p50=0.02, **values), "": ring(requests=10.0)}
    return run(health.ANALYZER, known(instances=[one], rings=rings))


def test_a_check_that_gets_what_all_get_is_right() -> None:
    lost = instance(probe="status 404", probe_ok=False, probe_status=404, probes_failed=6)
    assert "probe-wrong" not in [one.id for one in checked(lost, s4xx=10.0)]
    assert [one.id for one in checked(lost, s2xx=9.0, s4xx=1.0)] == ["probe-wrong"]


def test_the_first_check_that_fails_accuses_nobody_for_certain() -> None:
    just = instance(probe="status 404", probe_ok=False, probe_status=404, probes_failed=1)
    found = checked(just, s2xx=10.0)[0]
    assert found.certainty == LIKELY and "just begun" in found.unknown
    fails = [10.0] * 585 + [0.0] * 15
    breaks = instance(probe="status 404", probe_ok=False, probe_status=404, probes_failed=3)
    assert checked(breaks, s2xx=fails)[0].certainty == LIKELY, "no request was answered since it fails"


# --- stacks ------------------------------------------------------------------------------------------


LIBRARY = ("dumps lib:json/encoder.py:200", "Handle._run lib:asyncio/events.py:80", *stacked.LOOP[1:])


def test_what_runs_the_loop_is_not_what_blocks_it() -> None:
    one = threads.read("web-1", stacked.stacks([stacked.thread(1001, *LIBRARY, active=True)]))
    assert [(place.place, place.own) for place in one.places] == [("dumps (json/encoder.py:200)", False)]
    inside = threads.read("web-1", stacked.stacks([stacked.thread(1001, "load app:12", *stacked.LOOP, active=True)]))
    assert [(place.place, place.own) for place in inside.places] == [("load (web/app.py:12)", True)]
    own_loop = (*stacked.LOOP[:3], "view app:30", *stacked.SERVED)
    nested = threads.read("web-1", stacked.stacks([stacked.thread(7, *own_loop, active=True)]))
    assert [place.place for place in nested.places] == ["view (web/app.py:30)"]


def test_no_line_is_named_where_none_of_the_apps_own_was_seen() -> None:
    column = [0.02] * 540 + [8.0] * 60
    rings = {name: ring(requests=10.0, wait_p50=column, in_flight=20.0) for name in ("", "web-1")}
    given = known(instances=[instance(in_flight=20)], rings=rings)
    busy = stacked.activity(1.0)
    hot = stacked.profile((90, "main < step"))
    library = "/usr/lib/python3.11"
    hot.stacks[0].frames = ["main (/srv/web/app.py:200)", f"run_forever ({library}/asyncio/base_events.py:607)",
                            f"dumps ({library}/json/encoder.py:200)"]  # fmt: skip
    looks = stacked.stacks([stacked.thread(1001, *LIBRARY, active=True)])
    assert not run(event_loop.ANALYZER, given, each={"web-1": [looks, busy]})
    found = run(cpu.ANALYZER, given, each={"web-1": [looks, busy, hot]})
    assert [one.id for one in found] == ["cpu-bound"] and "app.py:200" not in f"{found[0].title} {found[0].cause}"


# --- the clock ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("step", "kinds"), [(3600.0, ["clock"]), (0.0, ["oom-kill", "clock"])])
def test_lines_of_the_kernel_are_not_compared_over_a_clock_that_was_set(
    tmp_path: Path, step: float, kinds: list[str]
) -> None:
    events = [HostEvent(at=NOW - 30, kind=kind, text=KILLED) for kind in ("oom-kill", "clock")]
    files = {"known": known(), "host_report": HostReport(clock_step=step), "host_events": HostEvents(events=events)}
    for name, one in files.items():
        (tmp_path / f"{name}.json").write_bytes(msgspec.json.encode(one))
    told = analyze.load(tmp_path).whole[HostEvents]
    assert isinstance(told, HostEvents) and [one.kind for one in told.events] == kinds
    assert bool(told.note) is bool(step)


def test_what_lies_ahead_is_of_before_the_clock_was_set_back(tmp_path: Path) -> None:
    given = known(exits=[ended(ago=30), ended(ago=-2400)], events=[event("heal", "x", ago=-2400), event("heal", "y")])
    (tmp_path / "known.json").write_bytes(msgspec.json.encode(given))
    found = analyze.load(tmp_path).known
    assert found is not None and [one.at for one in found.exits] == [NOW - 30]
    assert [one.text for one in found.events] == ["y"] and "lie ahead" in found.notes[-1]
