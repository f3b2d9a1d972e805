"""The timer wheel against a plain list of deadlines: never early, at most a tick late, none lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.dataplane.wheel import FAR, INFINITE, TICK, Wheel


class Entry:
    def __init__(self, log: list[tuple[Entry, float, float]]) -> None:
        self.due = INFINITE
        self.wheel_due = INFINITE
        self.wanted = INFINITE
        self.log = log

    def on_due(self, now: float) -> None:
        self.log.append((self, self.wanted, now))
        self.wanted = INFINITE


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("arm"), st.integers(0, 3), st.floats(0.0, 3.0)),
        st.tuples(st.just("later"), st.integers(0, 3), st.floats(0.0, 3.0)),
        st.tuples(st.just("forget"), st.integers(0, 3), st.just(0.0)),
        st.tuples(st.just("pass"), st.just(0), st.floats(0.001, 0.7)),
    ),
    max_size=60,
)


@given(STEPS, st.floats(0.0, 1e6))
def test_never_early_at_most_a_tick_late_and_none_lost(steps: list[tuple[str, int, float]], start: float) -> None:
    """`later` is the way of a caller in a hurry: `due` is assigned, and the wheel told only if it would look too late.

    The wheel is turned each tick, and after longer gaps as a loop that lagged would turn it.
    """
    log: list[tuple[Entry, float, float]] = []
    entries = [Entry(log) for _ in range(4)]
    now = start
    wheel = Wheel(now)
    turned = now
    for what, which, seconds in [*steps, ("pass", 0, 4.0)]:
        entry = entries[which]
        if what == "arm":
            entry.wanted = now + seconds
            wheel.arm(entry, entry.wanted)
        elif what == "later":
            entry.wanted = entry.due = now + seconds
            if entry.due < entry.wheel_due:
                wheel.arm(entry, entry.due)
        elif what == "forget":
            entry.wanted = entry.due = INFINITE
        else:
            end = now + seconds
            gap = TICK if seconds > 0.3 else seconds
            while now < end:
                now = min(now + gap, end)
                before, already = turned, len(log)
                wheel.turn(now)
                turned = now
                for _, wanted, at in log[already:]:
                    assert wanted <= at, "early"
                    assert at - wanted <= 2 * TICK + (now - before), "late"
                for each in entries:
                    assert each.wanted > now - TICK - 1e-9, f"lost: due {each.wanted}, now {now}"
    assert all(entry.wanted == INFINITE for entry in entries)
    wheel.turn(now + 4.0)
    assert len(wheel) == 0


def test_one_that_raises_stops_no_other() -> None:
    class Broken(Entry):
        def on_due(self, now: float) -> None:
            raise ValueError

    log: list[tuple[Entry, float, float]] = []
    heard: list[object] = []
    wheel = Wheel(0.0, lambda error, entry: heard.append(entry))
    broken, well = Broken(log), Entry(log)
    wheel.arm(broken, 0.1)
    wheel.arm(well, 0.1)
    wheel.turn(1.0)
    assert heard == [broken]
    assert [entry for entry, _, _ in log] == [well]


def test_one_that_arms_itself_again_at_once_does_not_hold_the_wheel() -> None:
    class Again(Entry):
        def on_due(self, now: float) -> None:
            super().on_due(now)
            wheel.arm(self, now)

    log: list[tuple[Entry, float, float]] = []
    wheel = Wheel(0.0)
    wheel.arm(Again(log), 0.0)
    for tick in range(1, 5):
        wheel.turn(tick * TICK + 0.001)
        assert len(log) <= tick + 1


def test_who_has_no_deadline_any_more_is_let_go_of() -> None:
    wheel = Wheel(100.0)
    entry = Entry([])
    wheel.arm(entry, 130.0)
    entry.due = INFINITE
    wheel.turn(100.0 + FAR + 2 * TICK)
    assert len(wheel) == 0
    assert entry.wheel_due == INFINITE


def test_a_far_deadline_is_kept() -> None:
    log: list[tuple[Entry, float, float]] = []
    wheel, entry = Wheel(100.0), Entry(log)
    wheel.arm(entry, 130.0)
    for tick in range(1, 600):
        wheel.turn(100.0 + tick * TICK)
    assert not log
    assert len(wheel) == 1
    wheel.turn(130.0 + TICK)
    assert [now for _, _, now in log] == [130.0 + TICK]
