"""Errors of the app's own, and what texts say of disks, descriptors, peers and workers."""

from typing import Any

import pytest

from proxy.diagnostics.analyzers import app_errors, children, descriptors, storage
from proxy.diagnostics.analyzers.contract import CERTAIN, LIKELY, NOT_KNOWN, VERY_LIKELY, Finding
from proxy.diagnostics.analyzers.symptoms import kind_of, named, peer_of
from proxy.diagnostics.artifacts import (
    Activity,
    Cgroup,
    Descriptors,
    ExceptionGroup,
    HostEvent,
    HostEvents,
    HostReport,
    Line,
    Peer,
    Record,
    Sockets,
    SocketSample,
)
from tests.analyzers.made import NOW, attempt, burst, ended, exceptions, known, lines, record, records, ring, run


def errors(number: int = 20, target: str = "/invoice", **fields: Any) -> list[Record]:
    return records(number, target=target, status=500, fault="app-error", **fields)


def printed(bad: list[Record], text: str) -> dict[str, list[Line]]:
    every = [line for one in bad for line in lines(text, ago=NOW - one.time - 0.01)]
    return {"web-1": sorted(every, key=lambda line: line.at)}


def of(bad: list[Record], *groups: ExceptionGroup, **fields: Any) -> list[Finding]:
    each = fields.pop("each", {})
    rings = {"": ring(requests=5.0, s2xx=4.0, faults={"app-error": burst(len(bad), 60)})}
    given = known(records=[*bad, *records(60)], exceptions=list(groups), rings=rings, **fields)
    return run(app_errors.ANALYZER, given, each=each)


def test_the_exception_that_goes_with_the_errors() -> None:
    bad = errors()
    found = of(bad, exceptions("ZeroDivisionError", "division by zero"), lines=printed(bad, "ZeroDivisionError: "
                                                                                            "division"))
    assert [one.id for one in found] == ["app-exception"] and found[0].certainty == VERY_LIKELY
    assert "app.py:42 handle" in found[0].cause and found[0].paths == ["/invoice"]


def test_counts_alone_are_one_kind_of_evidence() -> None:
    assert of(errors(), exceptions(count=35))[0].certainty == LIKELY
    as_often = of(errors(), exceptions(count=20))
    assert as_often[0].certainty == VERY_LIKELY


def test_an_exception_that_is_rare_beside_the_errors_is_not_it() -> None:
    found = of(errors(100), exceptions(count=2))
    assert [one.id for one in found] == ["app-errors"] and found[0].certainty == NOT_KNOWN and found[0].unknown


def test_two_exceptions_are_two_findings() -> None:
    found = of(errors(40), exceptions("KeyError", "x", 20), exceptions("TypeError", "y", 20, where="b.py:1 f"))
    assert {one.cause.split(":")[1].strip() for one in found} == {"KeyError", "TypeError"}


def test_few_errors_are_nobodys_business() -> None:
    assert not of(errors(3), exceptions(count=3))
    few = known(records=errors(6), rings={"": ring(length=900, requests=50.0, faults={"app-error": burst(6)})})
    assert run(app_errors.ANALYZER, few)[0].severity == "info"


@pytest.mark.parametrize(
    ("kind", "message", "ident", "peer"),
    [
        ("ConnectionRefusedError", "Connect call failed ('10.0.3.12', 5432)", "dependency-down", "10.0.3.12:5432"),
        ("Error", "connect ECONNREFUSED 127.0.0.1:6379", "dependency-down", "127.0.0.1:6379 (Redis"),
        ("OperationalError", 'server at "10.0.3.12", port 5432 failed: FATAL: sorry, too many clients already',
         "dependency-full", "10.0.3.12:5432 (PostgreSQL"),
        ("gaierror", "[Errno -2] Name or service not known", "dependency-not-found", "something that it asks"),
        ("PermissionError", "[Errno 13] Permission denied: '/var/x'", "permission-denied", ""),
        ("OSError", "[Errno 30] Read-only file system: '/x'", "read-only", ""),
        ("RuntimeError", "can't start new thread", "threads-used-up", ""),
        ("TimeoutError", "QueuePool limit of size 5 overflow 0 reached, connection timed out", "pool-used-up", ""),
    ],
)  # fmt: skip
def test_what_the_exception_says_of_others(kind: str, message: str, ident: str, peer: str) -> None:
    found = of(errors(), exceptions(kind, message))
    assert [one.id for one in found] == [ident] and peer in found[0].title


def test_a_peer_that_is_named_is_looked_up_among_the_connections() -> None:
    peer = Peer(address="10.0.3.12:5432", by="server", connecting=4)
    sockets = Sockets(samples=[SocketSample(at=NOW, peers=[peer])])
    found = of(errors(), exceptions("ConnectionRefusedError", "('10.0.3.12', 5432)"), each={"web-1": [sockets]})
    assert any("4 that get no answer" in one.text for one in found[0].evidence)


def test_a_line_without_a_traceback() -> None:
    bad = errors()
    found = of(bad, lines=printed(bad, "ERROR db: connect ECONNREFUSED 10.0.3.12:5432"))
    assert [one.id for one in found] == ["dependency-down"] and found[0].certainty == LIKELY
    assert "10.0.3.12:5432 (PostgreSQL" in found[0].title


def test_what_the_agent_saw_raised_and_caught() -> None:
    found = of(errors(), exceptions("KeyError", "'rate'", raised=True))
    assert [one.id for one in found] == ["app-exception"] and "catches it" in found[0].cause


def test_addresses_and_kinds_in_texts() -> None:
    assert peer_of("Max retries: HTTPConnectionPool(host='api.local', port=8080)") == "api.local:8080"
    assert peer_of("getaddrinfo ENOTFOUND db.internal") == "db.internal"
    assert peer_of("at app.py:42") == ""
    assert peer_of("2026-01-05T10:20:30 nothing") == ""
    assert kind_of("GET /open 200") == "" and kind_of("ENOSPC: no space left on device") == "disk-full"
    assert named("10.0.0.1:9999") == "10.0.0.1:9999"


# --- disks -------------------------------------------------------------------------------------------


def disk(free: int, inodes: int | None = 1000) -> HostReport:
    return HostReport(disks={"/srv": (free, 10**10, inodes)})


def test_a_full_disk_with_and_without_its_word() -> None:
    said = known(lines={"web-1": lines("OSError: [Errno 28] No space left on device: '/srv/up/a'")})
    both = run(storage.ANALYZER, said, whole=[disk(0)])
    assert [one.id for one in both] == ["disk-full"] and both[0].certainty == VERY_LIKELY
    text = run(storage.ANALYZER, said, whole=[disk(5 * 10**9)])[0]
    assert text.certainty == LIKELY and text.against and "/srv/up" in text.cause
    alone = run(storage.ANALYZER, known(), whole=[disk(0)])[0]
    assert alone.certainty == CERTAIN and alone.severity == "warning"
    assert "inode" in run(storage.ANALYZER, known(), whole=[disk(10**9, 0)])[0].cause
    assert not run(storage.ANALYZER, known(), whole=[disk(5 * 10**9)])


def test_watches_are_not_the_disk() -> None:
    said = known(lines={"web-1": lines("Error: ENOSPC: System limit for number of file watchers reached")})
    assert [one.id for one in run(storage.ANALYZER, said)] == ["watches-used-up"]


def test_a_disk_that_fills() -> None:
    full_soon = known(rings={"host": ring(disk_free=lambda at: 9e8 - 1e6 * at)})
    assert [one.id for one in run(storage.ANALYZER, full_soon, whole=[disk(3 * 10**9)])] == ["disk-full-soon"]
    once = known(rings={"host": ring(disk_free=lambda at: 9e8 if at < 500 else 4e8)})
    assert not run(storage.ANALYZER, once, whole=[disk(3 * 10**9)])


# --- descriptors -------------------------------------------------------------------------------------


def held(used: int, limit: int = 100, **fields: Any) -> dict[str, Any]:
    return {"web-1": [Activity(descriptors=[Descriptors(pid=9, used=used, limit=limit, **fields)])]}


def test_descriptors_at_the_limit() -> None:
    found = run(descriptors.ANALYZER, known(), each=held(99, held={"/srv/data.csv": 80}, kinds={"file": 90}))
    assert [one.id for one in found] == ["descriptors-used-up"] and found[0].certainty == CERTAIN
    assert "/srv/data.csv" in found[0].cause
    assert not run(descriptors.ANALYZER, known(), each=held(60))


def test_their_errno_alone_is_likely() -> None:
    said = known(lines={"web-1": lines("OSError: [Errno 24] Too many open files")})
    assert run(descriptors.ANALYZER, said, each=held(20))[0].certainty == LIKELY
    assert run(descriptors.ANALYZER, said, each=held(70))[0].certainty == VERY_LIKELY


def test_descriptors_that_grow_without_more_requests() -> None:
    rings = {"web-1": ring(descriptors=lambda at: 100 + at, in_flight=1.0)}
    found = run(descriptors.ANALYZER, known(rings=rings), each=held(700, 1024))
    assert [one.id for one in found] == ["descriptors-growing"] and found[0].severity == "warning"
    busier = {"web-1": ring(descriptors=lambda at: 100 + at, in_flight=lambda at: at / 10)}
    assert not run(descriptors.ANALYZER, known(rings=busier), each=held(700, 1024))
    flat = {"web-1": ring(descriptors=lambda at: 100 + min(at, 100), in_flight=1.0)}
    assert not run(descriptors.ANALYZER, known(rings=flat), each=held(200, 1024))


# --- workers of its own server -----------------------------------------------------------------------


def cut(number: int = 3) -> list[Record]:
    tries = [attempt(fault="closed-before-head", wait_us=3_000_000, took_us=3_000_000)]
    return [record(33.0, total=3.0, target="/statement", fault="closed-before-head", status=502, attempts=tries)
            for _ in range(number)]  # fmt: skip


def test_a_server_that_kills_its_workers() -> None:
    said = lines("[CRITICAL] WORKER TIMEOUT (pid:81)", "[ERROR] Worker (pid:81) was sent SIGKILL! Perhaps out of "
                                                       "memory?")
    found = run(children.ANALYZER, known(records=cut(), lines={"web-1": said}))
    assert [one.id for one in found] == ["worker-timeout"] and found[0].certainty == VERY_LIKELY
    assert "/statement" in found[0].cause and found[0].paths == ["/statement"]


def test_a_worker_that_was_killed_is_not_said_to_be_out_of_memory() -> None:
    said = lines("[ERROR] Worker (pid:81) was sent SIGKILL! Perhaps out of memory?")
    found = run(children.ANALYZER, known(records=cut(), lines={"web-1": said}))
    assert [one.id for one in found] == ["worker-ended"] and found[0].unknown.startswith("Who sent it")
    kernel = HostEvents(events=[HostEvent(at=NOW - 30, kind="oom-kill", text="Killed process 81 (gunicorn)", pid=81)])
    proven = run(children.ANALYZER, known(records=cut(), lines={"web-1": said}), whole=[kernel])
    assert [one.id for one in proven] == ["out-of-memory"] and proven[0].certainty == VERY_LIKELY


def test_a_crashed_child_and_a_silent_kill() -> None:
    said = lines("DAMN ! worker 1 (pid: 12) died, killed by signal 11 :( trying respawn ...")
    assert [one.id for one in run(children.ANALYZER, known(lines={"web-1": said}))] == ["native-crash"]
    counted = Activity(changed={"memory.events oom_kill": 1.0}, cgroup=Cgroup(path="/web-1", version=2, own=True))
    above = Activity(changed={"/: memory.events oom_kill": 1.0}, cgroup=Cgroup(path="/web-1", version=2, own=True))
    assert not run(children.ANALYZER, known(), each={"web-1": [above]})
    assert run(children.ANALYZER, known(), each={"web-1": [counted]})[0].certainty == CERTAIN
    assert not run(children.ANALYZER, known(lines={"web-1": lines("worker 1 booted (pid: 12)")}))


def test_groups_that_differ_in_outer_frames_are_one() -> None:
    found = of(errors(40), exceptions(count=25), exceptions(count=15, fingerprint="other"))
    assert len(found) == 1 and found[0].certainty == VERY_LIKELY and found[0].severity == "warning"


def test_workers_that_end_because_triage_stops_their_server_are_no_finding() -> None:
    said = lines("[ERROR] Worker (pid:81) was sent SIGTERM!")
    planned = known(lines={"web-1": said}, exits=[ended("web-1", ago=28, ours=True)])
    assert not run(children.ANALYZER, planned)
    assert run(children.ANALYZER, known(lines={"web-1": said}))
