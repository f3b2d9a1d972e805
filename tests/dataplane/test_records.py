"""What is left of a request: access log, kept records, flight recorder, timings; and a control that does not read."""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.link import channel
from proxy.link.messages import PROTOCOL, Find, Ready, Record, Records, Reopen, Start, Stats
from tests.dataplane.harness import WorkerUnderTest, worker
from tests.dataplane.provoke import Gateway, answers, app, origin, place, request, says, until

MOST_ROUNDING = 20
"""Microseconds: each timing is cut to whole ones."""


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with worker() as under_test:
        yield Gateway(under_test)


def lines(path: Path, count: int) -> list[str]:
    """The log's lines, once there are so many."""
    return until(lambda: path.exists() and len(found := path.read_text().splitlines()) >= count and found)  # type: ignore[no-any-return]


@pytest.mark.slow
def test_the_access_log_as_json(gateway: Gateway, tmp_path: Path) -> None:
    path = tmp_path / "logs" / "access.jsonl"
    with origin(answers()) as good:
        spec = gateway.serve(app(good.instance()), access_log=str(path))
        with gateway.connect() as client:
            first = client.ask("/one?x=%22", X_Request_ID="theirs-1")
            second = client.ask("/two", "POST", b"content")
            client.send(b"GET / HTTP/1.1\r\n\r\n")
            third = client.read()
        one, two, three = map(json.loads, lines(path, 3))
    assert (one["id"], two["id"], three["id"]) == (first.id, second.id, third.id)
    assert one["app"] == spec.name and one["instance"] == spec.instances[0].name and one["client"] == "127.0.0.1"
    assert (one["method"], one["target"], one["host"], one["status"]) == ("GET", "/one?x=%22", "a.example", 200)
    assert one["bytes_out"] == 5 and one["client_request_id"] == "theirs-1" and abs(one["time"] - time.time()) < 60
    assert "connect_us" in one and not one.get("reused") and "queue_us" not in one and "tls_us" not in one
    assert two["bytes_in"] == 7 and two["reused"] and "connect_us" not in two and "idle_us" in two
    assert three["fault"] == "bad-request" and three["status"] == 400
    assert "wait_us" not in three and "body_us" not in three and "connect_us" not in three and three["total_us"] >= 0


@pytest.mark.slow
def test_the_access_log_in_the_combined_format(gateway: Gateway, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    with origin(answers()) as good:
        spec = gateway.serve(app(good.instance()), access_log=str(path), access_log_format="combined")
        answer = gateway.ask("/x?y", User_Agent='Mo"zilla', Referer="http://b.example/")
        line = lines(path, 1)[0]
    found = re.fullmatch(
        r'127\.0\.0\.1 - - \[(.+)\] "GET /x\?y HTTP/1\.1" 200 5 "http://b\.example/" "Mo\\x22zilla" '
        r"([0-9.]+) (\w+) (\S+) (\S+) - ([0-9a-f]{32})",
        line,
    )
    assert found is not None, line
    assert found[3] == answer.id and found[4] == spec.name


@pytest.mark.slow
def test_the_log_is_opened_again_when_it_was_rotated_away(gateway: Gateway, tmp_path: Path) -> None:
    path, old = tmp_path / "access.jsonl", tmp_path / "access.jsonl.1"
    with origin(answers()) as good:
        gateway.serve(app(good.instance()), access_log=str(path))
        gateway.ask("/before")
        lines(path, 1)
        path.rename(old)
        until(lambda: gateway.ask("/after") and path.exists(), "a new file")
        until(lambda: "/after" in path.read_text())
        assert "/before" in old.read_text()

        path.rename(tmp_path / "access.jsonl.2")
        gateway.worker.tell(Reopen())
        answer = gateway.ask("/reopened")
        assert answer.id in lines(path, 1)[-1], "at once when asked for"


def stats(gateway: Gateway) -> Stats:
    gateway.rows("")
    found: Stats = gateway.all(Stats)[-1]
    return found


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@pytest.mark.slow
def test_a_full_disk_costs_lines_not_requests(gateway: Gateway, tmp_path: Path) -> None:
    with origin(answers()) as good:
        spec = gateway.serve(app(good.instance()), access_log="/dev/full")
        with gateway.connect() as client:
            assert [client.ask().status for _ in range(50)] == [200] * 50
            until(lambda: stats(gateway).log_lost == 50)
            assert "No space left" in stats(gateway).log_error
            path = tmp_path / "access.jsonl"
            gateway.serve(spec, access_log=str(path))
            assert client.ask().status == 200
            lines(path, 1)
            until(lambda: stats(gateway).log_error == "")


def test_a_log_that_cannot_be_opened_costs_no_request(gateway: Gateway, tmp_path: Path) -> None:
    with origin(answers()) as good:
        gateway.serve(app(good.instance()), access_log=str(tmp_path))
        assert gateway.ask().status == 200
        until(lambda: stats(gateway).log_lost == 1 and "directory" in stats(gateway).log_error)
    gateway.serve(app(), access_log="")


def kept(gateway: Gateway) -> list[Record]:
    return [record for records in gateway.all(Records) for record in records.items]


@pytest.mark.slow
def test_a_storm_of_one_fault_leaves_room_for_the_others(gateway: Gateway) -> None:
    """At most 200 a second, shared fairly over (app, instance, fault); what is not kept is counted."""
    with origin(says(b"")) as bad:
        dropped = stats(gateway).records_dropped
        storm = app(place(1), hosts=("storm.example",), state="stopped")
        quiet = app(bad.instance(), hosts=("quiet.example",))
        gateway.worker.table(storm, quiet, slow=60.0)
        flood = b"GET / HTTP/1.1\r\nHost: storm.example\r\n\r\n"
        rare = []
        with gateway.connect() as client, gateway.connect() as other:
            for _ in range(5):
                for _ in range(60):
                    client.send(flood * 16)
                    for _ in range(16):
                        client.read()
                other.send(b"POST / HTTP/1.1\r\nHost: quiet.example\r\nContent-Length: 0\r\n\r\n")
                rare.append(other.read().id)
        until(lambda: set(rare) <= {record.id for record in kept(gateway)}, "the rare ones")
        assert stats(gateway).records_dropped > dropped
        stormy = [record for record in kept(gateway) if record.app == storm.name]
        assert 0 < len(stormy) < 5 * 60 * 16
        until(lambda: gateway.counted(storm.name, "stopped") == 5 * 60 * 16, "every fault is counted")


def test_slow_requests_are_kept_whole(gateway: Gateway) -> None:
    with origin(answers(after=0.2)) as slow:
        gateway.serve(app(slow.instance()), slow=0.1)
        answer = gateway.ask()
        until(lambda: answer.id in {record.id for record in kept(gateway)})
        gateway.serve(app(), slow=1.0)


def test_the_flight_recorder_is_found_by_the_start_of_an_id(gateway: Gateway) -> None:
    with origin(answers()) as good:
        spec = gateway.serve(app(good.instance()))
        answer = gateway.ask("/here", X_Request_ID="order-4711-abc")
        gateway.ask("/there")
        assert [each.id for each in gateway.worker.find(answer.id[:6])] == [answer.id]
        assert [each.id for each in gateway.worker.find("order-4711")] == [answer.id]
        assert [each.target for each in gateway.worker.find(app=spec.name)] == ["/there", "/here"], "newest first"
        assert [each.target for each in gateway.worker.find(app=spec.name, path="/he")] == ["/here"]
        assert gateway.worker.find("ffffffffffffffff") == []


def timings(record: Record) -> dict[str, int]:
    names = ("head_us", "queue_us", "connect_us", "tls_us", "wait_us", "body_us", "own_us")
    return {name: getattr(record, name) or 0 for name in names}


@pytest.mark.slow
def test_the_timings_add_up(gateway: Gateway) -> None:
    def slow(sock: socket.socket, asked: Any) -> bool:
        time.sleep(0.15)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na")
        time.sleep(0.1)
        sock.sendall(b"b")
        return True

    with origin(slow) as good:
        spec = gateway.serve(app(good.instance(slots=1), queue_timeout=30.0))
        first = gateway.later()
        until(lambda: gateway.in_flight(spec) == 1)
        with gateway.connect() as client:
            data = request("/second")
            client.send(data[:20])
            time.sleep(0.05)  # it is a slow client
            client.sock.sendall(data[20:])
            record = gateway.worker.record(client.read().id)
        assert first.answer.status == 200
    each = timings(record)
    assert abs(sum(each.values()) - record.total_us) <= MOST_ROUNDING, record
    # What comes late to a busy worker counts to the part before: only their sums are certain.
    assert each["wait_us"] >= 149_000 and each["wait_us"] + each["body_us"] >= 249_000
    assert each["head_us"] >= 20_000 and each["body_us"] >= 20_000
    assert each["queue_us"] > 0 and each["own_us"] < record.total_us / 2


@pytest.mark.slow
def test_the_time_of_failed_attempts_is_not_our_own(gateway: Gateway) -> None:
    with origin(says(b"", "wait")) as bad, origin(answers()) as good:
        those = (bad.instance(weight=1e6), good.instance())
        gateway.serve(app(*those, balance="random", first_byte=0.4, retry_on=("head-timeout",)))
        answer = gateway.ask()
        assert answer.status == 200
        record = gateway.worker.record(answer.id)
        assert record.total_us >= 400_000 and record.own_us < 200_000, record
        assert record.attempts is not None and (record.attempts[0].wait_us or 0) >= 399_000


# --- a control that does not read ------------------------------------------------------------------------------


class Deaf:
    """Stops reading the channel, in control's place; `take_over` is a new control at the same end."""

    def __init__(self, under_test: WorkerUnderTest) -> None:
        self.worker = under_test
        self.sock = under_test._channel._sock.dup()
        under_test._call(lambda: under_test._loop.remove_reader(under_test._channel._sock.fileno()))

    def take_over(self) -> None:
        under_test = self.worker

        def begin() -> None:
            under_test._channel.close()
            under_test._channel = channel.Channel(under_test._loop, self.sock, under_test._on_message)

        under_test._call(begin)
        under_test.tell(Start(PROTOCOL, 0, "", []))


def memory(under_test: WorkerUnderTest) -> int:
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{under_test.process.pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


@pytest.mark.slow
def test_a_dead_control_costs_messages_not_requests() -> None:
    """Messages that cannot go out are bounded; a new control hears everything again, from the next whole message on."""
    with worker() as under_test, origin(answers()) as good:
        gateway = Gateway(under_test)
        spec = gateway.serve(app(good.instance()), slow=0.0)
        with gateway.connect() as client:
            for _ in range(1500):
                client.ask("/" + "x" * 1000)
            deaf = Deaf(under_test)
            before = memory(under_test)
            for question in range(60):  # each answer is more than two megabytes
                under_test.tell(Find(question, limit=4096))
                assert client.ask().status == 200
            assert memory(under_test) < before + (40 << 20)
            seen = len(under_test.received)
            begun = deaf.sock.recv(1 << 20)
            assert begun[0] & 1, "the first part of a message, whose rest the next control finds"
            deaf.take_over()
            until(lambda: any(isinstance(each, Ready) for each in under_test.received[seen:]))
            told = until(lambda: [each for each in under_test.received[seen:] if isinstance(each, Stats)])
            until(lambda: gateway.all(Stats)[-1].records_dropped > 0, "the drops are counted")
            assert any(row.app == spec.name for each in told for row in each.rows)
            assert gateway.rows(spec.name)[spec.instances[0].name].requests == 1560
            under_test.table()
            assert client.ask().status == 200

