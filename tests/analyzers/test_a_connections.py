"""Connections that can't be made, or end too soon: one socket's end has many causes."""

import base64
from typing import Any

import pytest

from proxy.diagnostics.analyzers import closing, connecting, malformed, names, tls
from proxy.diagnostics.analyzers.contract import CERTAIN, LIKELY, NOT_KNOWN, VERY_LIKELY, Finding
from proxy.diagnostics.artifacts import (
    Activity,
    ActivitySample,
    Exit,
    HostReport,
    Listener,
    Record,
    Sockets,
    SocketSample,
)
from tests.analyzers.made import NOW, app, attempt, burst, ended, instance, known, lines, record, records, ring, run


def failed(fault: str, number: int = 10, *, status: int = 502, saved: bool = False, **fields: Any) -> list[Record]:
    made = {name: fields.pop(name) for name in ("idle_us", "reused", "detail", "wait_us", "took_us") if name in fields}
    tries = [attempt("web-1", fault=fault, **made)]
    if saved:
        return records(number, attempts=[*tries, attempt("web-2", status=200)], **fields)
    return records(number, fault=fault, status=status, attempts=tries, **fields)


def with_ring(fault: str, number: int = 10, **fields: Any) -> dict[str, Any]:
    return {"": ring(requests=20.0, s2xx=18.0, faults={fault: burst(number)}, **fields)}


def queue(waiting: int, backlog: int, cores: float) -> dict[str, list[Any]]:
    listener = Listener(address="127.0.0.1:9001", waiting=waiting, backlog=backlog)
    samples = [SocketSample(at=NOW - at, listeners=[listener]) for at in range(5)]
    busy = Activity(samples=[ActivitySample(at=NOW - at, user=cores) for at in range(5)])
    return {"web-1": [Sockets(samples=samples), busy]}


def test_refused_by_a_process_that_runs() -> None:
    given = known(records=failed("connect-refused"), rings=with_ring("connect-refused"))
    sockets = Sockets(samples=[SocketSample(at=NOW, listeners=[])])
    found = run(connecting.ANALYZER, given, each={"web-1": [sockets]})
    assert [one.id for one in found] == ["not-listening"] and found[0].certainty == CERTAIN
    assert "runs, but the kernel refuses" in found[0].cause


def test_a_refusal_right_after_an_end_is_that_end() -> None:
    refused = failed("connect-refused", span=4, ago=30)
    given = known(records=refused, rings=with_ring("connect-refused"), exits=[ended(ago=35)])
    assert not run(connecting.ANALYZER, given)


def test_an_address_that_refuses_says_what_is_not_known() -> None:
    there = instance("10.0.0.5:80", kind="address", pid=0, address="10.0.0.5:80", listens_on=[])
    gone = [record(ago, instance=there.name, fault="connect-refused", status=502,
                   attempts=[attempt(there.name, fault="connect-refused")]) for ago in range(5)]  # fmt: skip
    found = run(connecting.ANALYZER, known(instances=[there], records=gone, rings=with_ring("connect-refused")))
    assert "refuses connections" in found[0].cause and found[0].unknown


def test_a_full_accept_queue_is_seen_in_the_kernel() -> None:
    given = known(records=failed("connect-timeout", status=504), rings=with_ring("connect-timeout"))
    found = run(connecting.ANALYZER, given, each=queue(6, 5, 0.01))
    assert [one.id for one in found] == ["accept-queue-full"] and found[0].certainty == CERTAIN
    assert "6 connections wait, it holds 5" in found[0].cause and "does not compute" in found[0].cause


def test_timeouts_with_room_in_the_queue() -> None:
    given = known(records=failed("connect-timeout", status=504, span=8), rings=with_ring("connect-timeout"))
    found = run(connecting.ANALYZER, given, whole=[HostReport()], each=queue(0, 5, 0.01))
    assert [one.id for one in found] == ["connect-times-out"] and found[0].certainty == LIKELY
    assert run(connecting.ANALYZER, given)[0].certainty == NOT_KNOWN
    tracked = HostReport(conntrack=(65536, 65536))
    assert "conntrack" in run(connecting.ANALYZER, given, whole=[tracked])[0].cause


def test_a_queue_that_is_full_for_a_moment_is_nothing() -> None:
    assert not run(connecting.ANALYZER, known(), each=queue(4, 5, 0.5))


def test_a_name_without_an_address() -> None:
    given = known(records=failed("dns-error"), rings=with_ring("dns-error"))
    host = HostReport(resolver={"db.internal": "no such name", "example.org": 0.01})
    found = run(names.ANALYZER, given, whole=[host])
    assert [one.id for one in found] == ["name-not-resolved"] and not found[0].unknown


# --- idle connections --------------------------------------------------------------------------------


def stale(*, saved: bool = True, idle: float = 5.0, number: int = 12, **fields: Any) -> list[Record]:
    return failed("stale-connection", number, saved=saved, idle_us=int(idle * 1e6), reused=True, wait_us=2000, **fields)


def closings(*sets: list[Record], exits: list[Exit] | None = None, **fields: Any) -> list[Finding]:
    every = [one for each in sets for one in each]
    good = fields.pop("good", records(50))
    return run(closing.ANALYZER, known(records=[*every, *good], exits=exits or [], **fields))


def test_the_keep_alive_race_has_its_time() -> None:
    found = closings(stale(), stale(saved=False, number=4, method="POST"))
    assert [one.id for one in found] == ["stale-connections"] and found[0].certainty == VERY_LIKELY
    assert "about 5 s" in found[0].cause and found[0].severity == "warning"


def test_a_race_that_costs_nothing_is_info() -> None:
    rings = {"": ring(requests=20.0)}
    assert closings(stale(), rings=rings)[0].severity == "info"
    assert not closings(stale(number=2))


def test_closing_fresh_ones_too_is_no_race() -> None:
    again = [attempt(fault="stale-connection", reused=True, idle_us=10**6), attempt(fault="closed-before-head")]
    both = records(10, fault="closed-before-head", status=502, attempts=again)
    assert [one.id for one in closings(both)] == ["connection-closed"]


def test_one_path_that_gets_no_answer() -> None:
    found = closings(failed("closed-before-head", target="/report", wait_us=30_000))
    assert [one.id for one in found] == ["connection-closed"]
    assert found[0].paths == ["/report"] and found[0].certainty == LIKELY and found[0].unknown


def test_what_it_prints_then_is_the_reason() -> None:
    broken = failed("closed-before-head", 6, span=30, target="/report", wait_us=30_000)
    said = [line for one in broken for line in lines("RuntimeError: bad frame", ago=NOW - one.time - 0.01)]
    found = closings(broken, lines={"web-1": sorted(said, key=lambda line: line.at)})
    assert found[0].certainty == VERY_LIKELY and "RuntimeError: bad frame" in found[0].cause and not found[0].unknown


def test_a_constant_time_is_a_limit() -> None:
    found = closings(failed("closed-before-head", wait_us=10_000_000, took_us=10_000_000, total=10.0, span=100))
    assert "after about 10 s" in found[0].cause and found[0].certainty == LIKELY


def test_nothing_says_why() -> None:
    spread = [one for n in range(8) for one in failed("reset-before-head", 1, wait_us=n * 40_000, target=f"/p{n}x")]
    found = closings(spread)
    assert [one.id for one in found] == ["connection-reset"] and found[0].certainty == NOT_KNOWN


def test_an_end_of_the_process_is_not_a_close() -> None:
    assert not closings(failed("closed-before-head", span=1, ago=30), exits=[ended(ago=30)])


def test_half_a_response() -> None:
    same = failed("body-truncated", 5, status=200, detail="53 bytes of the content are missing", target="/file")
    found = closings(same)
    assert [one.id for one in found] == ["response-truncated"] and found[0].certainty == VERY_LIKELY
    mixed = [one for n in range(4) for one in
             failed("body-truncated", 1, status=200, detail=f"{n}53 bytes of the content are missing")]  # fmt: skip
    assert closings(mixed)[0].unknown


# --- what is not HTTP --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x15\x03\x01\x00\x02\x02\x46", "TLS"),
        (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", "HTTP/2"),
        (b"debug: got one\nHTTP/1.1 200 OK\r\n", "plain text comes before"),
        (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi", "LF alone"),
        (b"HTTP/1.1 banana\r\n\r\n", "no valid status code"),
        (b"<html>hello</html>", "without a status line"),
        (b"+OK Redis\r\n", "Redis"),
        (b"\xff\xfe\x00\x01", "not HTTP"),
    ],
)
def test_what_the_bytes_are(data: bytes, words: str) -> None:
    kept = {"id": "1", "offset": 0, "why": "Expected HTTP/", "data": base64.b64encode(data).decode()}
    given = known(records=failed("bad-response", detail="Expected HTTP/"), malformed=kept)
    found = run(malformed.ANALYZER, given)
    assert [one.id for one in found] == ["malformed-response"] and words in found[0].cause


def test_two_lengths_and_a_field_with_a_space() -> None:
    for detail, words in (
        ("Content-Length is repeated or not a number", "Content-Length twice"),
        ("Invalid header token", "space in its name"),
    ):
        found = run(malformed.ANALYZER, known(records=failed("response-framing", detail=detail)))
        assert words in found[0].cause and found[0].certainty == CERTAIN


def test_secrets_among_the_bytes_are_masked() -> None:
    data = base64.b64encode(b"debug password=hunter22 HTTP").decode()
    kept = {"id": "1", "offset": 0, "why": "x", "data": data}
    found = run(malformed.ANALYZER, known(records=failed("bad-response"), malformed=kept))
    assert not any("hunter22" in one.text for one in found[0].evidence)


def test_a_head_of_cookies() -> None:
    kept = {"offset": 65536, "why": "x", "data": base64.b64encode(b"Set-Cookie: a=b\r\n" * 9).decode()}
    given = known(records=failed("response-head-too-large", detail="more than 65536 bytes"), malformed=kept)
    assert "cookies" in run(malformed.ANALYZER, given)[0].cause


@pytest.mark.parametrize(
    ("fault", "detail", "words", "certainty"),
    [
        ("tls-error", "WRONG_VERSION_NUMBER", "does not speak TLS", VERY_LIKELY),
        ("tls-error", "SOMETHING_ELSE", "handshake fails", LIKELY),
        ("tls-certificate", "certificate has expired", "has expired", CERTAIN),
        ("tls-certificate", "Hostname mismatch, certificate is not valid for 'x'", "another name", CERTAIN),
    ],
)
def test_tls(fault: str, detail: str, words: str, certainty: str) -> None:
    found = run(tls.ANALYZER, known(app=app(), records=failed(fault, detail=detail)))
    assert len(found) == 1 and words in found[0].cause and found[0].certainty == certainty


def test_what_was_only_counted_is_said_with_less_certainty() -> None:
    rings = {"": ring(faults={"response-framing": burst(5)}), "web-2": ring(faults={"response-framing": burst(5)})}
    found = run(malformed.ANALYZER, known(rings=rings))
    assert found[0].certainty == LIKELY and found[0].instances == ["web-2"]


def test_an_upgrade_that_is_neither_yes_nor_no() -> None:
    found = run(malformed.ANALYZER, known(records=failed("upgrade-failed", 2, detail="101 for h2c")))
    assert [one.id for one in found] == ["upgrade-failed"] and "101 for h2c" in found[0].cause
