"""Records as spans: ids, times, and the names that OpenTelemetry has for HTTP."""

from __future__ import annotations

import msgspec
import pytest

from proxy.control import spans
from proxy.link.messages import Attempt, Record
from proxy.link.spans import attempt_span
from tests.traces.collector import plain

PLACES = {("web", "web-1"): ("127.0.0.1", 4001), ("web", "web-2"): ("/run/web-2.sock", 0)}
PLAIN = Record(
    "0123450069abcdef", 1_700_000_000.25, 3, app="web", instance="web-1", client="10.0.0.9", method="GET",
    host="shop.example:8080", target="/a?b=1&token=s3cr3t", status=200, bytes_in=0, bytes_out=5, head_us=0,
    queue_us=2000, wait_us=700, body_us=0, total_us=3000, own_us=300, tries=1, reused=True, idle_us=5,
    trace="4bf92f3577b34da6a3ce929d0e0e4736", parent="00f067aa0ba902b7", scheme="https", sampled=True,
)  # fmt: skip


def test_a_request_and_its_only_attempt() -> None:
    server, client = spans.of(PLAIN, PLACES)
    assert (server["name"], server["kind"], client["name"], client["kind"]) == ("GET", 2, "GET", 3)
    assert server["traceId"] == client["traceId"] == PLAIN.trace
    assert (server["spanId"], server["parentSpanId"]) == (PLAIN.id, PLAIN.parent)
    assert (client["spanId"], client["parentSpanId"]) == (attempt_span(PLAIN.id, 1), PLAIN.id)
    assert server["startTimeUnixNano"] == "1700000000250000000" and server["endTimeUnixNano"] == "1700000000253000000"
    assert client["startTimeUnixNano"] == "1700000000252000000" and client["endTimeUnixNano"] == "1700000000253000000"
    assert server["flags"] == 0x301 and client["flags"] == 0x101
    told = plain(server["attributes"])
    assert told == {
        "http.request.method": "GET", "url.scheme": "https", "url.path": "/a", "url.query": "b=1&token=***",
        "http.response.status_code": 200, "server.address": "shop.example", "server.port": 8080,
        "client.address": "10.0.0.9", "http.response.body.size": 5, "triage.request_id": PLAIN.id,
        "triage.app": "web", "triage.instance": "web-1", "triage.worker": 3, "triage.own_time": 0.0003,
        "triage.queue_time": 0.002,
    }  # fmt: skip
    told = plain(client["attributes"])
    assert (told["network.peer.address"], told["network.peer.port"]) == ("127.0.0.1", 4001)
    assert (told["server.address"], told["server.port"]) == ("127.0.0.1", 4001)
    assert told["triage.connection.reused"] is True and told["triage.wait_time"] == 0.0007
    assert "status" not in server and "status" not in client


def test_a_second_attempt_after_a_fault() -> None:
    tried = [
        Attempt("web-1", "connect-refused", "connection refused", began_us=10, took_us=500),
        Attempt("web-2", status=200, began_us=600, took_us=900),
    ]
    server, first, second = spans.of(msgspec.structs.replace(PLAIN, attempts=tried, instance="web-2", tries=2), PLACES)
    assert first["status"] == {"code": 2, "message": "connection refused"}
    assert plain(first["attributes"])["error.type"] == "connect-refused"
    assert plain(second["attributes"])["http.request.resend_count"] == 1
    assert plain(second["attributes"])["network.peer.address"] == "/run/web-2.sock"
    assert second["endTimeUnixNano"] == server["endTimeUnixNano"], "the content came after its head was noted"
    assert "status" not in server and "status" not in second


@pytest.mark.parametrize(
    ("fault", "status", "error"),
    [("all-unready", 503, True), ("client-left", 499, False), ("no-route", 404, False), ("app-error", 500, True)],
)
def test_only_what_is_not_the_clients_doing_is_an_error(fault: str, status: int, error: bool) -> None:
    one = msgspec.structs.replace(PLAIN, fault=fault, status=status, sampled=False, instance="", tries=0)
    (server,) = spans.of(one, PLACES)
    assert ("status" in server) is error
    assert plain(server["attributes"])["error.type"] == fault
    assert spans.wanted(one, 1.0) is error


def test_slow_ones_are_wanted_and_tunnels_are_not_slow() -> None:
    slow = msgspec.structs.replace(PLAIN, sampled=False, total_us=2_000_000)
    assert spans.wanted(slow, 1.0) and not spans.wanted(slow, 3.0)
    assert not spans.wanted(msgspec.structs.replace(slow, tunnel=True), 1.0)


def test_names_of_spans_are_few() -> None:
    (server, *_) = spans.of(msgspec.structs.replace(PLAIN, method="M-SEARCH"), PLACES)
    told = plain(server["attributes"])
    assert server["name"] == "HTTP" and told["http.request.method"] == "_OTHER"
    assert told["http.request.method_original"] == "M-SEARCH"


@pytest.mark.parametrize(("host", "found"), [("[::1]:80", ("::1", 80)), ("[::1]", ("::1", 0)), ("a", ("a", 0))])
def test_hosts(host: str, found: tuple[str, int]) -> None:
    (server, *_) = spans.of(msgspec.structs.replace(PLAIN, host=host), PLACES)
    told = plain(server["attributes"])
    assert (told["server.address"], told.get("server.port", 0)) == found
