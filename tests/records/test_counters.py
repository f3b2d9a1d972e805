"""Sums of what workers count."""

from __future__ import annotations

from proxy.control.counters import ALL, GONE, Counters, summarize
from proxy.link.histogram import bucket
from proxy.link.messages import Row, Stats

NOW = 1_770_000_000.0


def row(requests: int, instance: str = "web-1", app: str = "web", seconds: float = 0.01, **faults: int) -> Row:
    named = {name.replace("_", "-"): count for name, count in faults.items()}
    counts = {bucket(seconds): requests}
    bad = sum(named.values())
    return Row(
        app, instance, requests, [0, requests - bad, 0, 0, bad, 0], named, requests * 10, requests * 100, 1, 2,
        dict(counts), requests * seconds, dict(counts), requests * seconds, requests * 0.0001,
    )  # fmt: skip


def stats(*rows: Row, worker: int = 0, epoch: str = "a") -> Stats:
    return Stats(worker, epoch, 1.0, 200, 900, 5, 9, 3, 1, 1, 0, 0, "", "", False, 40_000_000, list(rows))


def test_sums_never_go_back_when_a_worker_is_replaced() -> None:
    counters = Counters()
    counters.apply(stats(row(100)), NOW)
    counters.apply(stats(row(50), worker=1), NOW)
    assert counters.snapshot(NOW).app("web").requests == 150
    counters.apply(stats(row(7), epoch="b"), NOW + 1)  # worker 0 began anew
    assert counters.snapshot(NOW).app("web").requests == 157
    counters.forget_worker(1)
    found = counters.snapshot(NOW).app("web")
    assert found.requests == 157
    assert found.classes == {"2xx": 157}
    assert sum(found.total.values()) == 157
    counters.apply(stats(row(3), worker=1, epoch="c"), NOW + 2)
    assert counters.snapshot(NOW).app("web").requests == 160


def test_a_row_that_begins_anew_within_an_epoch_is_added() -> None:
    counters = Counters()
    counters.apply(stats(row(100)), NOW)
    counters.apply(stats(row(4)), NOW + 1)
    assert counters.snapshot(NOW).instance("web", "web-1").requests == 104


def test_unchanged_rows_stay() -> None:
    counters = Counters()
    counters.apply(stats(row(100), row(5, "web-2")), NOW)
    counters.apply(stats(row(101)), NOW + 1)
    snapshot = counters.snapshot(NOW)
    assert snapshot.instance("web", "web-2").requests == 5
    assert snapshot.app("web").requests == 106
    assert snapshot.all().bytes_out == 10600


def test_quantiles_and_mean() -> None:
    counters = Counters()
    counters.apply(stats(row(99, seconds=0.010), row(1, "web-2", seconds=5.0)), NOW)
    found = counters.snapshot(NOW).app("web").response()
    assert found["p50"] is not None and 0.009 < found["p50"] < 0.012
    assert found["p99"] is not None and found["p99"] < 0.012
    assert found["mean"] is not None and abs(found["mean"] - (0.99 + 5) / 100) < 1e-9
    assert summarize([]).response() == {"mean": None, "p50": None, "p90": None, "p99": None}


def test_requests_a_second_come_from_the_last_seconds() -> None:
    counters = Counters()
    counters.apply(stats(row(1000)), NOW)  # before this control: no rate
    for second in range(1, 11):
        counters.apply(stats(row(1000 + 20 * second)), NOW + second)
    snapshot = counters.snapshot(NOW + 11, seconds=5)
    assert snapshot.instance("web", "web-1").per_second == 20
    assert snapshot.app("web").per_second == 20
    assert counters.snapshot(NOW + 100).app("web").per_second == 0
    assert counters.requests("web", 60, NOW + 11) == 200


def test_faults_are_counted_by_second_and_instance() -> None:
    counters = Counters()
    counters.apply(stats(row(10)), NOW)
    counters.apply(stats(row(20, connect_refused=3), row(5, "web-2", connect_refused=1)), NOW + 10)
    counters.apply(stats(row(30, connect_refused=5, head_timeout=1)), NOW + 20)
    recent = counters.recent
    assert recent.count("web") == 7
    assert recent.count("web", "connect-refused") == 6
    assert recent.count("web", "connect-refused", since=NOW + 15) == 2
    assert recent.count("web", instance="web-2") == 1
    assert recent.by_fault("web", NOW) == {"connect-refused": 6, "head-timeout": 1}
    assert recent.by_instance("web", "connect-refused", NOW) == {"web-1": 5, "web-2": 1}
    assert recent.last("web", "connect-refused") == NOW + 20
    assert recent.at(int(NOW) + 10) == {
        ("web", "web-1", "connect-refused"): 3,
        ("web", "web-2", "connect-refused"): 1,
    }
    counters.apply(stats(row(31, connect_refused=6, head_timeout=1)), NOW + 2000)
    assert recent.count("web") == 1  # 15 minutes


def test_instances_long_gone_become_one_row() -> None:
    counters = Counters()
    for number in range(50):
        counters.apply(stats(row(10, f"web-{number}")), NOW + number)
    counters.fold_gone({("web", "web-49")}, NOW + 2000)
    snapshot = counters.snapshot(NOW + 2000)
    assert snapshot.keys() == [("web", GONE), ("web", "web-49")]
    assert snapshot.app("web").requests == 500
    counters.apply(stats(row(12, "web-7")), NOW + 2001)  # a late word of a gone one: only what is new counts
    assert counters.snapshot(NOW).app("web").requests == 502
    counters.apply(stats(row(13, "web-7")), NOW + 2002)
    assert counters.snapshot(NOW).app("web").requests == 503
    counters.fold_gone({("web", "web-49")}, NOW + 9000)
    counters.apply(stats(row(14, "web-7")), NOW + 9001)
    assert counters.snapshot(NOW).app("web").requests == 504


def test_a_gone_instance_of_a_dead_worker_is_folded_too() -> None:
    counters = Counters()
    counters.apply(stats(row(10, "web-1"), row(5, "web-2")), NOW)
    counters.forget_worker(0)
    counters.fold_gone(set(), NOW + 2000)
    assert counters.snapshot(NOW).keys() == [("web", GONE)]
    assert counters.snapshot(NOW).app("web").requests == 15


def test_a_snapshot_does_not_change() -> None:
    counters = Counters()
    counters.apply(stats(row(10)), NOW)
    snapshot = counters.snapshot(NOW)
    counters.apply(stats(row(90)), NOW + 1)
    counters.forget_worker(0)
    counters.apply(stats(row(90), epoch="z"), NOW + 1)
    assert snapshot.app("web").requests == 10


def test_connections_and_lag() -> None:
    counters = Counters()
    counters.apply(stats(worker=0), NOW)
    counters.apply(stats(worker=1), NOW)
    assert counters.connections == 10
    assert counters.lag == 0.0002
    counters.forget_worker(1)
    assert counters.connections == 5


def test_watched_counts_are_summed_over_workers_and_epochs() -> None:
    def counted(requests: int, instance: str = "web-1", **watched: int) -> Row:
        made = row(requests, instance)
        made.watched = watched
        return made

    counters = Counters()
    counters.apply(stats(counted(10, slow=3, api=1), counted(1, "", api=1)), NOW)
    counters.apply(stats(counted(5, slow=2), counted(5, "web-2", slow=4), worker=1), NOW)
    assert counters.watched("web", "web-1") == {"slow": 5, "api": 1}
    assert counters.watched("web", "") == {"api": 1} and counters.watched("other") == {}
    assert counters.watched("web") == {"slow": 9, "api": 2}
    counters.apply(stats(counted(1, slow=1), epoch="b"), NOW + 1)  # worker 0 began anew
    counters.forget_worker(1)
    assert counters.watched("web", "web-1") == {"slow": 6, "api": 1}
    counters.fold_gone({("web", "web-1")}, NOW + 2000)
    counters.apply(stats(counted(2, slow=2, api=1), epoch="b"), NOW + 2001)
    assert counters.watched("web", "web-2") == {} and counters.watched("web") == {"slow": 11, "api": 3}
    assert counters.snapshot(NOW).app("web").watched == counters.watched("web")


def test_the_oldest_wait_is_over_all_workers_that_live() -> None:
    counters = Counters()
    told = ((0, 100.0, {"web": {"a": 90.0, "b": 98.0}}), (1, 101.0, {"web": {"a": 95.0}, "x": {"a": 1.0}}))
    for worker, at, oldest in told:
        said = stats(worker=worker)
        said.at, said.oldest = at, oldest
        counters.apply(said, NOW)
    assert [counters.oldest_wait("web", each) for each in ("a", "b", "c", ALL)] == [10.0, 2.0, 0.0, 10.0]
    counters.forget_worker(0)
    assert [counters.oldest_wait("web", each) for each in ("a", "b", ALL)] == [6.0, 0.0, 6.0]
    counters.apply(stats(worker=1), NOW)
    assert counters.oldest_wait("web") == 0.0 and counters.oldest_wait("x") == 0.0
