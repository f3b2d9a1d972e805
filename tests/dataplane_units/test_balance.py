"""The balancers: what holds for all, then each one's own promise, in virtual time."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.dataplane.balance import BALANCERS, Balancer, Candidate, ramp
from proxy.dataplane.balance.by_hash import BOUND
from proxy.dataplane.balance.least_latency import DOUBLINGS, PASSING, WARM

ALL = list(BALANCERS)


class Instance:
    """A candidate as the data plane has it, with its numbers in plain attributes."""

    def __init__(
        self,
        name: str,
        weight: float = 1.0,
        backup: bool = False,
        slots: int = 10**9,
        slow_start: float = 0.0,
    ) -> None:
        self.name = name
        self.weight = weight
        self.backup = backup
        self.slots = slots
        self.slow_start = slow_start
        self.inflight = 0
        self.ewma = 0.0
        self.ewma_at = 0.0

    @property
    def free(self) -> bool:
        return self.inflight < self.slots

    def ramp(self, now: float) -> float:
        return ramp(now, 1.0, self.slow_start)

    def __repr__(self) -> str:
        return self.name


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    random.seed(7)
    yield
    random.seed()


def made(name: str, *instances: Instance) -> Balancer:
    balancer = BALANCERS[name]()
    balancer.rebuild(instances)
    return balancer


def closed_loop(
    balancer: Balancer,
    clients: int,
    seconds: float,
    serve: Callable[[Instance], tuple[float, bool]],
    think: float = 0.0,
) -> Counter[str]:
    """`clients` that send one request after the other; how many each instance finished."""
    now, done, number = 1.0, Counter[str](), 0
    events: list[tuple[float, int, Instance | None, float, bool]] = []
    for number in range(clients):
        heapq.heappush(events, (now + random.random() * 0.01, number, None, 0.0, False))
    while events and events[0][0] < seconds:
        now, _, instance, latency, failed = heapq.heappop(events)
        if instance is not None:
            instance.inflight -= 1
            balancer.done(instance, now, latency, failed)
            done[instance.name] += 1
            if think:
                number += 1
                heapq.heappush(events, (now + think * random.expovariate(1.0), number, None, 0.0, False))
                continue
        picked = balancer.pick(now, b"%d" % random.randrange(10**6))
        assert isinstance(picked, Instance)
        picked.inflight += 1
        latency, failed = serve(picked)
        number += 1
        heapq.heappush(events, (now + latency, number, picked, latency, failed))
    return done


def share(done: Counter[str], name: str) -> float:
    return done[name] / done.total()


# What holds for every balancer


@pytest.mark.parametrize("name", ALL)
def test_nobody_to_pick(name: str) -> None:
    assert BALANCERS[name]().pick(1.0, b"k") is None
    assert made(name).pick(1.0, b"k") is None
    assert "empty" in repr(BALANCERS[name]())


@pytest.mark.parametrize("name", ALL)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.1, 1.0, 1.0, 3.0]), st.booleans(), st.integers(0, 3), st.booleans()),
        min_size=1,
        max_size=24,
    ),
    st.lists(st.one_of(st.none(), st.binary(max_size=4)), min_size=1, max_size=30),
)
def test_never_a_full_or_excluded_one_and_always_a_free_one(
    name: str, shapes: list[tuple[float, bool, int, bool]], keys: list[bytes | None]
) -> None:
    instances = [
        Instance(f"i-{number}", weight, backup, slots)
        for number, (weight, backup, slots, _) in enumerate(shapes)
    ]
    excluded = {each for each, shape in zip(instances, shapes, strict=True) if shape[3]}
    balancer = made(name, *instances)
    counted = [each for each in instances if not each.backup] or instances
    picked_before: list[Candidate] = []
    for step, key in enumerate(keys):
        usable = [each for each in counted if each.free and each not in excluded]
        picked = balancer.pick(1.0 + step, key, excluded)
        assert (picked in usable) if usable else picked is None
        if isinstance(picked, Instance):
            picked.inflight += 1
            picked_before.append(picked)
        if picked_before and step % 3 == 2:
            ended = picked_before.pop(0)
            assert isinstance(ended, Instance)
            ended.inflight -= 1
            balancer.done(ended, 1.0 + step, 0.01 if step % 2 else None, step % 5 == 0)


@pytest.mark.parametrize("name", ALL)
def test_backups_only_when_no_primary_is_admitting(name: str) -> None:
    primary, backup = Instance("p", slots=1), Instance("b", backup=True)
    balancer = made(name, primary, backup)
    assert balancer.pick(1.0, b"k") is primary
    primary.inflight = 1
    assert balancer.pick(1.0, b"k") is None  # full, but admitting: its requests wait
    balancer.rebuild([backup])
    assert balancer.pick(1.0, b"k") is backup


@pytest.mark.parametrize("name", ALL)
def test_a_candidate_that_left_may_still_be_done(name: str) -> None:
    first, second = Instance("a"), Instance("b")
    balancer = made(name, first, second)
    picked = [balancer.pick(1.0, b"%d" % number) for number in range(8)]
    balancer.rebuild([second])
    for each in picked:
        assert each is not None
        balancer.done(each, 2.0, 0.1, False)
    balancer.rebuild([first, second])
    assert {balancer.pick(3.0, b"%d" % number) for number in range(100)} <= {first, second}


@pytest.mark.parametrize("name", ["round-robin", "least-inflight", "random", "hash"])
def test_traffic_follows_weight(name: str) -> None:
    instances = Instance("a", 1.0), Instance("b", 2.0), Instance("c", 5.0)
    done = closed_loop(
        made(name, *instances), 64, 30.0, lambda _: (0.05 * random.expovariate(1.0) + 0.001, False)
    )
    for each in instances:
        assert share(done, each.name) == pytest.approx(each.weight / 8, rel=0.25)


def test_least_latency_under_load_follows_weight() -> None:
    instances = Instance("a", 1.0), Instance("b", 1.0), Instance("c", 2.0)
    done = closed_loop(made("least-latency", *instances), 64, 30.0, lambda _: (0.05, False))
    assert share(done, "c") == pytest.approx(0.5, rel=0.1)
    assert share(done, "a") == pytest.approx(0.25, rel=0.1)


@pytest.mark.parametrize("name", ["round-robin", "least-inflight", "random", "hash", "least-latency"])
def test_slow_start_ramps_up(name: str) -> None:
    instances = [Instance("a"), Instance("b"), Instance("new", slow_start=1000.0)]
    balancer = made(name, *instances)
    early = closed_loop(balancer, 60, 11.0, lambda _: (0.05, False))
    for each in instances:
        each.inflight = 0
    late: Counter[str] = Counter()
    balancer.rebuild(instances)
    for number in range(3000):
        picked = balancer.pick(2000.0, b"%d" % number)
        assert isinstance(picked, Instance)
        picked.inflight += 1
        late[picked.name] += 1
    assert share(early, "new") < 0.15
    assert share(late, "new") == pytest.approx(1 / 3, rel=0.3)


def test_the_ramp() -> None:
    assert [ramp(now, 10.0, 10.0) for now in (9.0, 10.0, 15.0, 20.0, 99.0)] == [
        0.1,
        0.1,
        pytest.approx(0.55),
        1.0,
        1.0,
    ]
    assert ramp(0.0, 10.0, 0.0) == 1.0


# least-latency


@pytest.mark.slow
def test_a_slow_instance_gets_little() -> None:
    instances = [Instance(name) for name in "abcd"]
    done = closed_loop(
        made("least-latency", *instances), 64, 60.0, lambda each: (0.1 if each.name == "d" else 0.01, False)
    )
    assert share(done, "d") < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("usual", [0.005, 0.05, 0.5])
def test_an_instance_that_fails_at_once_gets_little(usual: float) -> None:
    instances = [Instance(name) for name in "abcd"]

    def serve(each: Instance) -> tuple[float, bool]:
        return (0.0005, True) if each.name == "d" else (usual * (0.5 + random.random()), False)

    done = closed_loop(made("least-latency", *instances), 32, 61.0, serve)
    assert share(done, "d") < 0.01


@pytest.mark.slow
def test_an_instance_that_turns_bad_is_left_and_that_gets_well_is_found_again() -> None:
    instances = [Instance(name) for name in "abcd"]
    balancer = made("least-latency", *instances)
    sick = True

    def serve(each: Instance) -> tuple[float, bool]:
        return (0.0005, True) if sick and each.name == "d" else (0.01 + 0.01 * random.random(), False)

    assert share(closed_loop(balancer, 32, 20.0, serve), "d") < 0.02
    sick = False
    for each in instances:
        each.inflight = 0
    assert share(closed_loop(balancer, 32, 120.0, serve), "d") > 0.1


def test_an_unknown_one_is_tried_by_one_request_at_a_time() -> None:
    instances = [Instance(name) for name in "ab"]
    for each in instances:
        each.ewma, each.ewma_at = 0.01, 1.0
    new = Instance("new")
    balancer = made("least-latency", *instances, new)
    burst = []
    for _ in range(200):
        picked = balancer.pick(1.0)
        assert isinstance(picked, Instance)
        picked.inflight += 1
        burst.append(picked)
    assert burst.count(new) <= 3  # by then the others are a hundred times as busy
    new.inflight -= 1
    balancer.done(new, 1.2, 0.01, False)
    assert (new.ewma, new.ewma_at) == (0.01, 1.2)
    assert balancer.pick(1.2) is not None


def test_a_try_that_told_nothing_leaves_it_unknown() -> None:
    known, new = Instance("known"), Instance("new")
    known.ewma, known.ewma_at = 0.01, 1.0
    balancer = made("least-latency", known, new)
    assert balancer.pick(1.0) is new
    assert balancer.pick(1.0) is known
    balancer.done(new, 1.1, None, False)
    assert balancer.pick(1.1) is new
    balancer.done(new, 1.2, None, True)
    assert new.ewma == 1.0
    assert balancer.pick(1.2) is known


def test_failures_do_not_raise_the_peak_they_are_measured_by() -> None:
    a, b = Instance("a"), Instance("b")
    balancer = made("least-latency", a, b)
    balancer.done(a, 1.0, 3.0, False)
    balancer.done(b, 1.0, 0.001, True)
    assert b.ewma == 3.0
    for _ in range(1000):
        balancer.done(b, 1.0, 0.001, True)
    assert b.ewma == 3.0 * 2**DOUBLINGS
    balancer.done(b, 101.0, 0.001, False)
    balancer.done(b, 101.0, 0.001, True)
    assert b.ewma == 1.0


def test_after_long_silence_load_decides() -> None:
    a, b = Instance("a"), Instance("b")
    a.ewma, a.ewma_at, b.ewma, b.ewma_at = 5.0, 1.0, 0.001, 1.0
    balancer = made("least-latency", a, b)
    b.inflight = 1
    assert balancer.pick(1e6) is a


# round-robin


def test_of_a_large_pool_a_part_is_warm_and_over_time_all_serve() -> None:
    def served(seconds: float) -> Counter[str]:
        instances = [Instance(f"i{n}") for n in range(1000)]
        for each in instances:
            each.ewma, each.ewma_at = 0.005, 1.0
        return closed_loop(made("least-latency", *instances), 16, 1.0 + seconds, lambda _: (0.005, False))

    assert len(served(0.2)) <= WARM + PASSING * 0.2 + 50  # 50: where two busy ones were drawn
    done = served(20.0)
    assert len(done) == 1000
    assert max(done.values()) < 2 * done.total() / 1000


def test_a_large_pool_with_more_in_flight_than_its_warm_part_is_used_whole() -> None:
    instances = [Instance(f"i{n}") for n in range(1000)]
    balancer = made("least-latency", *instances)
    for each in instances:
        each.ewma, each.ewma_at = 0.01, 1.0
    for _ in range(900):
        picked = balancer.pick(1.0)
        assert isinstance(picked, Instance)
        picked.inflight += 1
    assert max(each.inflight for each in instances) <= 3


def test_round_robin_is_smooth() -> None:
    equal = [Instance(f"{number}") for number in range(5)]
    balancer = made("round-robin", *equal)
    picked = [balancer.pick(1.0) for _ in range(20)]
    assert picked[:5] == picked[5:10] == picked[15:]
    assert set(picked[:5]) == set(equal)
    heavy = Instance("heavy", 4.0)
    balancer = made("round-robin", heavy, Instance("x"), Instance("y"))
    order = [balancer.pick(1.0) for _ in range(600)]
    assert order.count(heavy) == pytest.approx(400, abs=2)
    assert max(order[at : at + 6].count(heavy) for at in range(590)) <= 5


# least-inflight


def test_least_inflight_is_exact_in_a_small_pool_and_close_in_a_large_one() -> None:
    small = [Instance(f"{number}") for number in range(10)]
    for number, each in enumerate(small):
        each.inflight = 5 + number
    assert all(made("least-inflight", *small).pick(1.0) is small[0] for _ in range(50))
    large = [Instance(f"{number}") for number in range(500)]
    balancer = made("least-inflight", *large)
    for _ in range(5000):
        picked = balancer.pick(1.0)
        assert isinstance(picked, Instance)
        picked.inflight += 1
    assert max(each.inflight for each in large) <= 13


# hash


KEYS = [b"client %d" % number for number in range(4000)]


def where(balancer: Balancer) -> dict[bytes, str]:
    """Each key's instance, one request at a time, so that no bound is in the way."""
    found = {}
    for key in KEYS:
        picked = balancer.pick(1.0, key)
        assert picked is not None
        balancer.done(picked, 1.0, 0.01, False)
        found[key] = picked.name
    return found


def test_hash_is_stable_over_removal_return_and_order() -> None:
    instances = [Instance(f"web-{number}") for number in range(10)]
    balancer = made("hash", *instances)
    before = where(balancer)
    balancer.rebuild(instances[:3] + instances[4:])
    after = where(balancer)
    assert {key for key in KEYS if before[key] != after[key]} == {
        key for key in KEYS if before[key] == "web-3"
    }
    balancer.rebuild(list(reversed(instances)))
    assert where(balancer) == before
    assert where(made("hash", *[Instance(f"web-{number}") for number in range(10)])) == before
    counts = Counter(before.values())
    assert min(counts.values()) > 4000 / 10 * 0.6
    assert max(counts.values()) < 4000 / 10 * 1.5


def test_hash_keeps_the_bound_when_one_key_is_hot() -> None:
    instances = [Instance(f"web-{number}") for number in range(8)]
    balancer = made("hash", *instances)
    for number in range(1, 801):
        picked = balancer.pick(1.0, b"hot" if number % 10 else KEYS[number])
        assert isinstance(picked, Instance)
        picked.inflight += 1
        assert picked.inflight <= BOUND * number / 8 + 1
    assert len({each.inflight for each in instances}) > 1  # it is a bound, not a round robin


@pytest.mark.parametrize("number", [2, 5])
def test_hash_with_no_key_spreads(number: int) -> None:
    balancer = made("hash", *[Instance(f"{each}") for each in range(number)])
    picked = Counter[str]()
    for _ in range(2000):
        one = balancer.pick(1.0)
        assert one is not None
        balancer.done(one, 1.0, None, False)
        picked[one.name] += 1
    assert min(picked.values()) > 2000 / number * 0.5


def test_hash_follows_weight() -> None:
    found = Counter(where(made("hash", Instance("a"), Instance("b", 3.0))).values())
    assert found["b"] / found["a"] == pytest.approx(3.0, rel=0.35)
