"""Trace Context: passed on or begun, in everything that speaks of a request; and what is exported of it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from proxy.link.messages import Record, Records, Sampled, Settings
from proxy.link.spans import attempt_span, sampled, threshold
from tests.dataplane.client import Client, get
from tests.dataplane.conftest import Serve, of
from tests.dataplane.harness import WorkerUnderTest
from tests.dataplane.origins import Origin, close_at_once, each_time, response
from tests.dataplane.provoke import until

ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
TRACE = f"00-{ID}-{PARENT}-01"
VALID = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-(0[01])")
SHARE = 0.01
IN = "f" * 14
OUT = "0" * 14


@pytest.fixture(autouse=True)
def settings_as_before(gateway: WorkerUnderTest) -> Iterator[None]:
    yield
    gateway.settings = Settings()


@pytest.mark.parametrize(
    "line",
    [
        TRACE,
        f"00-{ID}-{PARENT}-00",
        f"00-{ID}-{PARENT}-ff",
        f"cc-{ID}-{PARENT}-01",
        f"cc-{ID}-{PARENT}-01-what-the-future-will-be-like",
    ],
)
def test_a_valid_one_is_passed_on_unchanged(
    gateway: WorkerUnderTest, serve: Serve, client: Client, line: str
) -> None:
    origin = serve()
    answer = client.ask(get("/", f"traceparent: {line}", "tracestate: a=b", "tracestate: c=d"))
    assert origin.requests[0].all("traceparent") == [line]
    assert origin.requests[0].all("tracestate") == ["a=b", "c=d"]
    assert gateway.record(answer.id).trace == ID


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["garbage"],
        [""],
        [f"00-{'0' * 32}-{PARENT}-01"],
        [f"00-{ID}-{'0' * 16}-01"],
        [f"ff-{ID}-{PARENT}-01"],
        [f"00-{ID.upper()}-{PARENT}-01"],
        [f"00-{ID}-{PARENT}-01-more"],
        [f"00-{ID}-{PARENT}-01."],
        [f"cc-{ID}-{PARENT}-01.what"],
        [f"00-{ID}-{PARENT}-1"],
        [f"00-{ID[:-1]}-{PARENT}-01"],
        [TRACE, TRACE],
        [TRACE, "garbage"],
    ],
)
def test_what_is_not_valid_begins_a_new_one(
    gateway: WorkerUnderTest, serve: Serve, client: Client, lines: list[str]
) -> None:
    """And what tracestate says of the other goes with it (W3C Trace Context section 3.3)."""
    origin = serve()
    answer = client.ask(get("/", *(f"traceparent: {line}" for line in lines), "tracestate: a=b"))
    asked = origin.requests[0]
    found = VALID.fullmatch(asked["traceparent"])
    assert found is not None and found[1] != ID and found[1] != "0" * 32
    assert "tracestate" not in asked
    assert gateway.record(answer.id).trace == found[1]


def test_the_id_is_in_all_that_speaks_of_a_request(
    gateway: WorkerUnderTest, serve: Serve, client: Client, tmp_path: Path
) -> None:
    log = tmp_path / "access.jsonl"
    serve(state="stopped", settings={"access_log": str(log)})
    given = client.ask(get("/", f"traceparent: {TRACE}", "Accept: application/json"))
    begun = client.ask(get("/", "Accept: application/json"))
    assert given.status == begun.status == 503
    assert json.loads(given.body)["trace_id"] == ID
    own = json.loads(begun.body)["trace_id"]
    assert re.fullmatch("[0-9a-f]{32}", own) and own != ID
    assert gateway.record(begun.id).trace == own
    until(lambda: log.exists() and len(log.read_text().splitlines()) == 2)
    assert [json.loads(line)["trace"] for line in log.read_text().splitlines()] == [ID, own]
    gateway.wait(Records, lambda told: any(one.id == begun.id and one.trace == own for one in told.items))


def test_no_two_requests_begin_the_same(serve: Serve, client: Client) -> None:
    origin = serve()
    for _ in range(50):
        client.ask(get("/"))
    ids = [one["traceparent"].split("-")[1] for one in origin.requests]
    assert len(set(ids)) == 50


# --- exported ---------------------------------------------------------------------------------------------------


def told(gateway: WorkerUnderTest, id: str) -> Record:
    message = gateway.wait(Sampled, lambda message: any(one.id == id for one in message.items))
    return next(one for one in message.items if one.id == id)


def test_the_instance_hangs_below_our_attempt(gateway: WorkerUnderTest, serve: Serve, client: Client) -> None:
    origin = serve(settings={"trace_sample": 1.0})
    first = client.ask(get("/one", f"traceparent: {TRACE}", "tracestate: a=b"))
    second = client.ask(get("/two"))
    one, two = origin.requests
    assert one.all("traceparent") == [f"00-{ID}-{attempt_span(first.id, 1)}-01"] and one["tracestate"] == "a=b"
    found = VALID.fullmatch(two["traceparent"])
    assert found is not None and found[2] == attempt_span(second.id, 1) and found[3] == "01"
    record = told(gateway, first.id)
    assert (record.trace, record.parent, record.sampled, record.scheme) == (ID, PARENT, True, "http")
    assert told(gateway, second.id).parent == "" and told(gateway, second.id).trace == found[1]


def test_each_attempt_has_a_span_of_its_own(gateway: WorkerUnderTest, serve: Serve, client: Client) -> None:
    good = serve(settings={"trace_sample": 1.0})
    with Origin(close_at_once) as bad:
        before = gateway.apps[0]
        bad_first = [of(bad, weight=1e6), before.instances[0]]
        gateway.table(msgspec.structs.replace(before, instances=tuple(bad_first), balance="random", attempts=2))
        answer = client.ask(get("/again", f"traceparent: {TRACE}"))
    assert answer.status == 200
    record = gateway.record(answer.id)
    assert record.attempts is not None
    number = len(record.attempts)
    assert number >= 2, "the one that closes came first"
    assert good.requests[-1]["traceparent"] == f"00-{ID}-{attempt_span(answer.id, number)}-01"
    spans = [(one.began_us, one.took_us) for one in record.attempts]
    assert all(began >= 0 and took >= 0 and began + took <= record.total_us + 1 for began, took in spans)
    assert spans == sorted(spans)


def test_only_who_is_trusted_decides_what_is_sampled(gateway: WorkerUnderTest, serve: Serve, client: Client) -> None:
    """Others' traces are sampled by their ids, as everybody would who takes the same share."""
    origin = serve(settings={"trace_sample": SHARE})
    inside, outside = f"{'a' * 18}{IN}", f"{'a' * 18}{OUT}"
    client.ask(get("/1", f"traceparent: 00-{inside}-{PARENT}-00"))
    client.ask(get("/2", f"traceparent: 00-{outside}-{PARENT}-01"))
    assert [one["traceparent"][-2:] for one in origin.requests] == ["01", "00"]
    trusted = serve(settings={"trace_sample": SHARE, "trusted_proxies": ("127.0.0.0/8",)})
    client.ask(get("/3", f"traceparent: 00-{inside}-{PARENT}-00"))
    client.ask(get("/4", f"traceparent: 00-{outside}-{PARENT}-01"))
    assert [one["traceparent"][-2:] for one in trusted.requests] == ["00", "01"]


def test_nothing_is_told_when_it_is_off(gateway: WorkerUnderTest, serve: Serve, client: Client) -> None:
    serve(settings={"trace_sample": 1.0})
    on = client.ask(get("/on"))
    told(gateway, on.id)
    serve(settings={"trace_sample": -1.0})
    off = client.ask(get("/off"))
    serve(settings={"trace_sample": 1.0})
    again = client.ask(get("/again"))
    told(gateway, again.id)
    with gateway._arrived:
        ids = {one.id for message in gateway.received if isinstance(message, Sampled) for one in message.items}
    assert on.id in ids and off.id not in ids


def test_a_fault_is_told_once(gateway: WorkerUnderTest, serve: Serve, client: Client) -> None:
    """Among the kept ones, with the word that it is sampled: control need not be told twice."""
    serve(each_time(response(status="500 No")), settings={"trace_sample": 1.0})
    answer = client.ask(get("/"))
    assert answer.status == 500
    kept = gateway.wait(Records, lambda told: any(one.id == answer.id for one in told.items))
    assert next(one for one in kept.items if one.id == answer.id).sampled
    other = client.ask(get("/"))
    gateway.wait(Records, lambda told: any(one.id == other.id for one in told.items))
    with gateway._arrived:
        assert not [1 for message in gateway.received if isinstance(message, Sampled)
                    for one in message.items if one.id == answer.id]  # fmt: skip


# --- the rule ---------------------------------------------------------------------------------------------------


def test_a_share_of_all_ids_is_sampled() -> None:
    ids = [f"{'0' * 18}{(number << 40):014x}" for number in range(65536)]
    for share in (0.0, 0.01, 0.5, 1.0):
        found = sum(sampled(each, threshold(share)) for each in ids)
        assert abs(found - 65536 * share) <= 1


def test_spans_are_told_apart() -> None:
    ids = {attempt_span("0123450069abcdef", number) for number in range(1, 96)}
    assert len(ids) == 95 and all(re.fullmatch("[0-9a-f]{16}", each) for each in ids)
    assert "0123450069abcdef" not in ids
