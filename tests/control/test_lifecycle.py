import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.control.lifecycle import (
    FAILED_AT,
    LONGEST_DELAY,
    TRANSITIONS,
    Action,
    Event,
    IllegalTransition,
    decayed,
    delay_after_exit,
    delay_after_start_failure,
    diagram,
    step,
)
from proxy.control.state import Lifecycle

FOLLOWED = st.lists(st.sampled_from(Event), max_size=60)


@given(FOLLOWED)
def test_every_walk_keeps_the_rules(events: list[Event]) -> None:
    state = Lifecycle.STARTING
    was_ready = False
    for event in events:
        try:
            after, action = step(state, event)
        except IllegalTransition:
            continue
        if state in (Lifecycle.DRAINING, Lifecycle.STOPPING):
            assert after in (Lifecycle.STOPPING, Lifecycle.STOPPED), "there is no way back"
        if after is Lifecycle.READY:
            assert state is Lifecycle.WARMING, "only probes make it ready"
            was_ready = True
        if was_ready:
            assert action is not Action.SPAWN, "one that was ready has a successor, with another name"
        assert state is not Lifecycle.STOPPED, "stopped is for good"
        state = after


@given(st.sampled_from(Lifecycle))
def test_each_state_but_stopped_can_be_left_and_reaches_stopped(start: Lifecycle) -> None:
    reached, new = set(), {start}
    while new:
        reached |= new
        new = {after for (state, _), (after, _) in TRANSITIONS.items() if state in reached} - reached
    assert Lifecycle.STOPPED in reached


def test_a_probe_that_passes_while_draining_changes_nothing() -> None:
    for state in (Lifecycle.DRAINING, Lifecycle.STOPPING, Lifecycle.STOPPED, Lifecycle.READY):
        with pytest.raises(IllegalTransition):
            step(state, Event.PASSED)


def test_failures_are_halved_each_minute() -> None:
    assert decayed(4.0, 100.0, 160.0) == pytest.approx(2.0)
    assert decayed(4.0, 100.0, 90.0) == 4.0


@given(st.floats(0, 1000))
def test_delays_grow_and_are_bounded(failures: float) -> None:
    assert 0.1 <= delay_after_start_failure(failures) <= delay_after_start_failure(failures + 1) <= LONGEST_DELAY
    assert 0.0 <= delay_after_exit(failures) <= delay_after_start_failure(failures)


def test_one_that_was_ready_is_replaced_at_once_the_first_time() -> None:
    assert delay_after_exit(1.0) == 0.0
    assert delay_after_exit(3.0) > 0.0


def test_six_quick_start_failures_make_it_failed() -> None:
    failures, at, count = 0.0, 0.0, 0
    now = 0.0
    while failures < FAILED_AT:
        now += 0.2  # it exits after this
        failures, at, count = decayed(failures, at, now) + 1, now, count + 1
        now += delay_after_start_failure(failures)
    assert count == 6


def test_the_picture_in_the_docs_is_this_table() -> None:
    text = (Path(__file__).parents[2] / "docs" / "mending.md").read_text()
    assert f"```mermaid\n{diagram()}```" in text


def test_the_words_for_a_start_that_goes_wrong_are_in_the_docs() -> None:
    """They are told by events, and looked for by those who watch."""
    root = Path(__file__).parents[2]
    code = "".join((root / "proxy" / "control" / name).read_text() for name in ("process.py", "places.py"))
    table = (root / "docs" / "lifecycle.md").read_text().partition("| trouble | |")[2].partition("\n\n")[0]
    words = set(re.findall(r"`([a-z]+(?:-[a-z]+)+)`", table))
    assert words
    assert all(f'"{word}"' in code for word in words)
