from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.control.pool import Member, plan
from proxy.control.state import Lifecycle as L


def member(number: int, lifecycle: L = L.READY, current: bool = True) -> Member:
    return Member(f"web-{number}", lifecycle, current, number)


def test_missing_ones_are_started_and_surplus_leaves_newest_first() -> None:
    assert plan([], 3, True).start == 3
    members = [member(1), member(2), member(3, L.BACKOFF), member(4)]
    assert plan(members, 2, True).leave == ("web-3", "web-4")


def test_a_roll_replaces_one_at_a_time() -> None:
    old = [member(1, current=False), member(2, current=False)]
    assert plan(old, 2, True) == replace(plan(old, 2, True), start=1, leave=())
    warming = [*old, member(3, L.WARMING)]
    assert plan(warming, 2, True) == replace(plan(old, 2, True), start=0, leave=())
    assert plan([*old, member(3)], 2, True).leave == ("web-1",)


def test_a_replacement_that_does_not_start_keeps_the_old_ones() -> None:
    for lifecycle in (L.BACKOFF, L.FAILED, L.STARTING):
        steps = plan([member(1, current=False), member(2, lifecycle)], 1, True)
        assert (steps.start, steps.leave) == (0, ())


def test_without_overlap_the_old_one_goes_first() -> None:
    old = member(1, current=False)
    assert plan([old], 1, False).leave == ("web-1",)
    going = replace(old, lifecycle=L.DRAINING)
    assert plan([going, member(2, current=False)], 2, False).start == 0
    assert plan([member(2, current=False)], 2, False).start == 1
    assert plan([going], 1, False).start == 0, "a lone one too"
    assert plan([going], 1, True).start == 1


def test_old_ones_that_serve_nothing_go_at_once() -> None:
    members = [member(1, L.FAILED, current=False), member(2, L.BACKOFF, current=False)]
    assert set(plan(members, 2, True).leave) == {"web-1", "web-2"}


def test_a_batch_is_replaced_at_once() -> None:
    old = [member(number, current=False) for number in range(1, 5)]
    assert plan(old, 4, True, batch=2).start == 2
    assert plan([*old, member(5), member(6, L.WARMING)], 4, True, batch=2).leave == ("web-1",)
    assert plan(old, 4, False, batch=2).leave == ("web-1", "web-2")


def test_the_last_ready_one_is_kept_where_memory_is_short() -> None:
    assert plan([member(1, current=False)], 1, overlap=False, keep_last=True).leave == ()
    two = [member(1, current=False), member(2, current=False)]
    assert plan(two, 2, overlap=False, keep_last=True).leave == ("web-1",)
    assert plan([two[1], member(3, L.WARMING)], 2, overlap=False, keep_last=True).leave == (), "one at a time"


def test_one_that_is_not_ready_for_its_own_reasons_holds_up_nobody() -> None:
    failed = Member("web-2", L.FAILED, True, 2, aside=True)
    marked = member(1, current=False)
    assert plan([marked, failed], 2, True).start == 1
    assert plan([marked, failed, member(3)], 2, True).leave == ("web-1",)
    assert plan([marked, failed, member(3, L.FAILED)], 2, True).leave == (), "but its own replacement does"


@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, 5),
    st.integers(0, 5),
    st.booleans(),
    st.integers(1, 3),
    st.lists(st.sampled_from(["warm", "fail", "gone", "none"]), max_size=30),
)
def test_a_roll_always_ends_well(before: int, wanted: int, overlap: bool, batch: int, luck: list[str]) -> None:
    """Simulated: instances start, some fail for a while; at the end exactly the wanted ones run."""
    members = [member(number, current=False) for number in range(1, before + 1)]
    number = before + 1
    for turn in range(400):
        steps = plan(members, wanted, overlap, batch)
        ready = sum(m.lifecycle is L.READY for m in members)
        members = [
            replace(m, lifecycle=L.DRAINING if m.lifecycle is L.READY else L.STOPPED) if m.name in steps.leave else m
            for m in members
        ]
        if overlap:
            assert sum(m.lifecycle is L.READY for m in members) >= min(ready, wanted)
        else:
            assert sum(m.lifecycle is L.READY for m in members) >= min(ready, wanted) - batch
        for _ in range(steps.start):
            members.append(member(number, L.STARTING))
            number += 1
        live = [m for m in members if m.lifecycle not in (L.DRAINING, L.STOPPED)]
        assert len(live) <= max(wanted + batch, before)
        act = luck[turn] if turn < len(luck) else "warm"
        moves = {
            L.STARTING: {"warm": L.READY, "fail": L.BACKOFF}.get(act, L.STARTING),
            L.BACKOFF: L.STARTING,
            L.DRAINING: L.STOPPED if act in ("gone", "warm") else L.DRAINING,
        }
        members = [replace(m, lifecycle=moves.get(m.lifecycle, m.lifecycle)) for m in members]
        members = [m for m in members if m.lifecycle is not L.STOPPED]
    assert [m.lifecycle for m in members] == [L.READY] * wanted
    assert all(m.current for m in members)
