"""What is kept of requests, and how it is found again."""

from __future__ import annotations

import pytest

from proxy.control.records import Filter, RecordStore, decode_id, lost, parse_status
from proxy.control.state import Exit
from proxy.link.messages import Attempt, Record

NOW = 1_770_000_000.0


def record(number: int, at: float = NOW, **more: object) -> Record:
    values = {"app": "web", "instance": "web-1", "method": "GET", "target": "/", "status": 502, "total_us": 1000}
    return Record(id=f"{number:06x}01{int(at):08x}", time=at, worker=1, **{**values, **more})  # type: ignore[arg-type]


def test_a_storm_keeps_the_first_twenty_of_a_minute_then_one_in_a_hundred() -> None:
    store = RecordStore()
    for n in range(1020):
        store.add(record(n, fault="connect-refused"), now=NOW)
    assert len(store) == 20 + 10
    assert store.seen == 1020
    store.add(record(5000, NOW + 60, fault="connect-refused"), now=NOW + 60)
    assert len(store) == 31


def test_each_lost_post_is_kept_up_to_a_thousand_a_minute() -> None:
    store = RecordStore()
    for n in range(1500):
        store.add(record(n, method="POST", sent=100, fault="instance-exited"), now=NOW)
    assert 1000 <= len(store) <= 1000 + 20 + 5


def test_slow_ones_are_kept_up_to_a_thousand_a_minute() -> None:
    store = RecordStore()
    for n in range(1500):
        store.add(record(n, status=200, total_us=3_000_000), now=NOW)
    assert len(store) == 1000


def test_lost_is_what_an_instance_had_and_nobody_may_repeat() -> None:
    assert lost(record(1, method="POST", sent=1, fault="closed-before-head"))
    assert not lost(record(1, method="POST", sent=0, fault="connect-refused"))
    assert not lost(record(1, method="PUT", sent=9, fault="closed-before-head"))
    assert not lost(record(1, method="POST", sent=9, fault="app-error"))
    assert not lost(record(1, method="POST", sent=9, fault="client-left"))


def test_one_apps_storm_does_not_drive_out_the_others() -> None:
    store = RecordStore(most=50)
    store.add(record(1, app="quiet", fault="head-timeout"), now=NOW)
    for n in range(2, 400):
        store.add(record(n, method="POST", sent=5, fault="instance-exited"), now=NOW)
    assert len(store) == 50
    assert store.get(record(1).id) is not None
    assert store.get(record(399).id) is not None


def test_what_is_older_than_a_day_goes() -> None:
    store = RecordStore(age=100)
    store.add(record(1, NOW, fault="x"), now=NOW)
    store.add(record(2, NOW + 101, fault="x"), now=NOW + 101)
    assert [r.id for r in store.list(Filter()).items] == [record(2, NOW + 101).id]


def test_found_by_any_start_of_an_id_and_by_the_clients_own() -> None:
    store = RecordStore()
    store.add(record(0xABCDEF, client_request_id="order-77", fault="x"), now=NOW)
    store.add(record(0xABC111, fault="x"), now=NOW)
    assert len(store.find("abc")) == 2
    assert [r.client_request_id for r in store.find("abcd")] == ["order-77"]
    assert [r.client_request_id for r in store.find("order-77")] == ["order-77"]
    assert len(store.find("order")) == 1
    assert store.find("nothing") == []


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        (Filter(), [4, 3, 2, 1]),
        (Filter(app="api"), [3]),
        (Filter(instance="web-2"), [2, 1]),
        (Filter(method="POST"), [2]),
        (Filter(fault="head-timeout"), [2]),
        (Filter(fault="any"), [3, 2, 1]),
        (Filter(status=parse_status("5xx")), [3, 2, 1]),
        (Filter(status=parse_status("504,200")), [4, 2]),
        (Filter(slower=2.0), [4]),
        (Filter(path="/api/"), [2, 1]),
        (Filter(path="*/orders"), [2, 1]),
        (Filter(since=NOW + 3), [4, 3]),
    ],
)
def test_filters(wanted: Filter, numbers: list[int]) -> None:
    store = RecordStore()
    tries = [Attempt("web-2", fault="connect-refused"), Attempt("web-1", fault="closed-before-head")]
    store.add(record(1, NOW + 1, fault="closed-before-head", target="/api/orders?a=1", attempts=tries), now=NOW)
    store.add(
        record(2, NOW + 2, method="POST", status=504, fault="head-timeout", target="/api/orders", instance="web-2"),
        now=NOW,
    )
    store.add(record(3, NOW + 3, app="api", fault="connect-refused"), now=NOW)
    store.add(record(4, NOW + 4, status=200, total_us=2_500_000), now=NOW)
    assert [int(r.id[:6], 16) for r in store.list(wanted).items] == numbers


def test_pages_follow_each_other_while_new_ones_come() -> None:
    store = RecordStore()
    for n in range(10):
        store.add(record(n, fault="x"), now=NOW)
    first = store.list(Filter(), limit=4)
    store.add(record(99, fault="x"), now=NOW)
    second = store.list(Filter(), limit=4, before=first.next)
    third = store.list(Filter(), limit=4, before=second.next)
    found = [int(r.id[:6], 16) for page in (first, second, third) for r in page.items]
    assert found == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert third.next is None


def test_an_exit_explains_what_closed_at_that_moment_and_nothing_else() -> None:
    store = RecordStore()
    died = Exit(at=NOW + 1.1, lasted=60, code=3, by_itself=True, words="exit code 3", name="web-1")
    tries = [Attempt("web-1", fault="closed-before-head")]
    store.add(record(1, NOW, fault="closed-before-head", total_us=1_000_000, attempts=tries), now=NOW)
    store.add(record(2, NOW - 5, fault="closed-before-head"), now=NOW)
    store.add(record(3, NOW + 1, fault="closed-before-head", instance="web-2"), now=NOW)
    store.add(record(4, NOW + 1, fault="head-timeout"), now=NOW)
    assert [r.id for r in store.refine("web-1", died)] == [record(1).id]
    store.add(record(5, NOW + 1, fault="reset-before-head"), now=NOW + 1.2)  # it came after the exit
    faults = {int(r.id[:6], 16): (r.fault, r.detail) for r in store.list(Filter()).items}
    assert faults[1] == ("instance-exited", "exit code 3")
    assert faults[5] == ("instance-exited", "exit code 3")
    assert faults[2][0] == faults[3][0] == "closed-before-head"
    assert faults[4][0] == "head-timeout"
    assert tries[0].fault == "instance-exited"


def test_an_exit_that_triage_asked_for_is_a_recycling() -> None:
    store = RecordStore()
    store.add(record(1, fault="reset-before-head"), now=NOW)
    store.refine("web-1", Exit(at=NOW, lasted=60, signal=15, ours=True, words="signal 15 (SIGTERM)"))
    assert store.list(Filter()).items[0].fault == "instance-recycled"


def test_refined_records_are_removed_from_the_right_class() -> None:
    store = RecordStore(most=2)
    store.add(record(1, fault="reset-before-head"), now=NOW)
    store.refine("web-1", Exit(at=NOW, lasted=60, code=1, words="exit code 1"))
    for n in range(2, 9):
        store.add(record(n, fault="instance-exited"), now=NOW)
    assert len(store) == 2


def test_the_nearest_stands_for_one_that_was_not_kept() -> None:
    store = RecordStore()
    store.add(record(1, NOW, fault="head-timeout"), now=NOW)
    store.add(record(2, NOW + 9, fault="app-error"), now=NOW)
    near = store.nearest(NOW + 6)
    assert near is not None and near.fault == "app-error"
    near = store.nearest(NOW + 6, "web", "head-timeout")
    assert near is not None and near.fault == "head-timeout"
    assert store.nearest(NOW, "other") is None


def test_an_id_says_worker_and_second() -> None:
    parts = decode_id(record(7).id, now=NOW)
    assert parts is not None and parts == (1, int(NOW))
    for foreign in ("", "7f3a91", "g" * 16, "0000000100000000", "000000ff69826280", "00000001ffffffff"):
        assert decode_id(foreign, now=NOW) is None


def test_ids_of_workers_decode() -> None:
    from proxy.dataplane.ids import Ids

    made = Ids(3, int(NOW)).next().decode()
    assert decode_id(made, now=NOW) == (3, int(NOW))


@pytest.mark.parametrize("text", ["", "abc", "5x", "600-500", "5xx,", ">=", "-1", "1.5"])
def test_a_bad_status_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no status"):
        parse_status(text)


def test_statuses() -> None:
    assert parse_status("502") == ((502, 502),)
    assert parse_status("5xx, 404") == ((500, 599), (404, 404))
    assert parse_status("500-599") == ((500, 599),)
    assert parse_status(">=500") == ((500, 999),)
    assert parse_status("<400") == ((0, 399),)
