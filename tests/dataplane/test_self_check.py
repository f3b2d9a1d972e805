"""What the gateway answers itself: OPTIONS and TRACE whose Max-Forwards is used up; and its own self-check."""

import json
from pathlib import Path

import pytest

from proxy.link.messages import Drain, Stats
from tests.dataplane.client import Client, get
from tests.dataplane.conftest import Serve
from tests.dataplane.harness import WorkerUnderTest, worker
from tests.dataplane.provoke import until

CHECK = b"OPTIONS * HTTP/1.1\r\nHost: gateway\r\nMax-Forwards: 0\r\nUser-Agent: triage-self-check\r\n\r\n"


def stats(gateway: WorkerUnderTest) -> Stats:
    """The newest that came after now."""
    with gateway._arrived:
        seen = len(gateway.received)
    found = until(lambda: [one for one in gateway.received[seen:] if isinstance(one, Stats)])
    last: Stats = found[-1]
    return last


@pytest.mark.parametrize("target", ["*", "/", "/any/thing?x=1", "http://a.example/x", "http://a.example"])
def test_options_that_may_go_no_further_end_here(serve: Serve, client: Client, target: str) -> None:
    origin = serve()
    answer = client.ask(get(target, "Max-Forwards: 0", method="OPTIONS"))
    assert (answer.status, answer["Content-Length"], answer.body) == (200, "0", b"")
    allowed = answer["Allow"].split(", ")
    assert {"GET", "HEAD", "POST", "OPTIONS"} <= set(allowed) and "TRACE" not in allowed and "CONNECT" not in allowed
    assert answer.id
    assert client.ask(get("/next")).status == 200, "the connection goes on"
    assert [one.target for one in origin.requests] == ["/next"]


def test_it_needs_no_app_and_no_known_host(gateway: WorkerUnderTest, client: Client) -> None:
    gateway.table()
    assert client.ask(CHECK).status == 200


def test_options_without_the_field_are_the_apps(serve: Serve, client: Client) -> None:
    origin = serve()
    assert client.ask(get("/", method="OPTIONS")).status == 200
    assert client.ask(get("*", method="OPTIONS")).status == 200
    assert [one.target for one in origin.requests] == ["/", "*"]


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE"])
def test_one_hop_less(serve: Serve, client: Client, method: str) -> None:
    """RFC 9110 section 7.6.2: it MUST be decremented; the same field lines again must not be so twice."""
    origin = serve()
    for _ in range(2):
        client.ask(get("/", "Max-Forwards: 7", "X-Other: 1", method=method))
    client.ask(get("/", "Max-Forwards: 7", "X-Other: 1"))
    client.ask(get("/", "Max-Forwards: 99999999999999999999", method=method))
    assert [one["Max-Forwards"] for one in origin.requests[:3]] == ["6", "6", "7"]
    assert int(origin.requests[3]["Max-Forwards"]) > 1000
    assert all(one["X-Other"] == "1" for one in origin.requests[:3])


def test_what_is_no_number_says_nothing(serve: Serve, client: Client) -> None:
    origin = serve()
    client.ask(get("/", "Max-Forwards: none", method="OPTIONS"))
    assert origin.requests[0]["Max-Forwards"] == "none"


def test_other_methods_pass_as_they_came(serve: Serve, client: Client) -> None:
    origin = serve()
    assert client.ask(get("/", "Max-Forwards: 0")).status == 200
    assert origin.requests[0]["Max-Forwards"] == "0"


def test_trace_is_not_answered_here(serve: Serve, client: Client) -> None:
    """To show a request's fields to scripts is what TRACE is feared for."""
    origin = serve()
    answer = client.ask(get("/", "Max-Forwards: 0", "Cookie: secret", method="TRACE"))
    assert answer.status == 501 and b"secret" not in answer.body
    assert not origin.requests


def test_with_content(serve: Serve, gateway: WorkerUnderTest) -> None:
    origin = serve()
    with Client(gateway.port) as client:
        answer = client.ask(get("*", "Max-Forwards: 0", "Content-Length: 3", method="OPTIONS") + b"abc")
        assert answer.status == 200
        assert client.ask(get("/next")).status == 200
    with Client(gateway.port) as client:
        client.send(get("*", "Max-Forwards: 0", "Content-Length: 3", method="OPTIONS"))
        answer = client.response()
        assert answer.status == 200 and answer["Connection"] == "close", "where the next begins is not known"
    assert len(origin.requests) == 1


@pytest.mark.slow
def test_only_the_self_check_is_no_traffic(
    serve: Serve, client: Client, gateway: WorkerUnderTest, tmp_path: Path
) -> None:
    """In no app's counts, no log and no record; anything else that ends here is seen as all requests are."""
    log = tmp_path / "access.jsonl"
    serve(settings={"access_log": str(log)})
    before = stats(gateway).self_checks
    check = client.ask(CHECK)
    assert check.status == 200
    seen = [
        client.ask(CHECK.replace(b"triage-self-check", b"curl/8")),
        client.ask(CHECK.replace(b"OPTIONS *", b"OPTIONS /admin")),
        client.ask(CHECK.replace(b"OPTIONS *", b"GET /")),
        client.ask(CHECK.replace(b"Max-Forwards: 0", b"Max-Forwards: 1").replace(b"OPTIONS *", b"OPTIONS /")),
    ]
    assert [one.status for one in seen] == [200] * 4
    until(lambda: log.exists() and len(log.read_text().splitlines()) >= 4)
    assert [json.loads(line)["id"] for line in log.read_text().splitlines()] == [one.id for one in seen]
    assert gateway.find(check.id) == []
    assert stats(gateway).self_checks == before + 1
    assert [gateway.record(one.id).app for one in seen] == ["", "", "web", "web"]


@pytest.mark.slow
def test_a_draining_worker_answers_it_as_any_request() -> None:
    with worker() as gateway:
        gateway.table()
        with Client(gateway.port) as client:
            assert client.ask(CHECK).status == 200
            gateway.tell(Drain(20.0, 20.0))
            gateway.wait(Stats, lambda told: told.draining)
            answer = client.ask(CHECK)
            assert answer.status == 200 and answer["Connection"] == "close"
