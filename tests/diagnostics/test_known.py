"""What control knew before and after, as one."""

from __future__ import annotations

from typing import Any

from proxy.diagnostics.known import join
from proxy.link.messages import Record
from proxy.link.session import App, Event, ExceptionGroup, Exit, Instance, Known, Line, Ring


def known(at: float, **more: Any) -> Known:
    return Known(at=at, app=App(name="web", in_flight=int(at)), **more)


def test_rings_are_joined_by_second() -> None:
    before = Ring(start=100, length=4, values={"cpu": [1.0, 2.0, 3.0, None]}, faults={"a": [0, 1, 0, 2]})
    after = Ring(start=102, length=4, values={"cpu": [9.0, 4.0, None, 6.0], "p99": [1.0] * 4}, faults={"b": [1] * 4})
    found = join(known(1, rings={"": before, "old": before}), known(2, rings={"": after})).rings
    assert (found[""].start, found[""].length) == (100, 6)
    assert found[""].values == {"cpu": [1.0, 2.0, 9.0, 4.0, None, 6.0], "p99": [None, None, 1.0, 1.0, 1.0, 1.0]}
    assert found[""].faults == {"a": [0, 1, 0, 2, 0, 0], "b": [0, 0, 1, 1, 1, 1]}
    assert found["old"] == before, "what is known on one side only stays"


def test_rings_that_do_not_meet_have_a_hole_of_what_is_not_known() -> None:
    one, two = (Ring(start=start, length=1, values={"cpu": [1.0]}) for start in (10, 14))
    assert join(known(1, rings={"": one}), known(2, rings={"": two})).rings[""].values == {
        "cpu": [1.0, None, None, None, 1.0]
    }


def test_a_clock_that_was_set_by_years_makes_no_ring_of_years() -> None:
    one, two = (Ring(start=start, length=1, values={"cpu": [1.0]}) for start in (10, 10**9))
    assert join(known(1, rings={"": one}), known(2, rings={"": two})).rings[""] == two


def test_lists_have_each_thing_once_and_in_order() -> None:
    ended = Exit(instance="web-1", at=5.0, lasted=1.0, words="exit code 3")
    first, later = (ExceptionGroup(
        fingerprint="f", runtime="python", type="E", message="", where="", count=count, first_at=1, last_at=2,
    ) for count in (1, 9))  # fmt: skip
    before = known(
        1, exits=[ended], events=[Event(id=1, at=1.0, kind="x", text="one")], exceptions=[first],
        records=[Record(id="b", time=2.0, worker=0), Record(id="a", time=1.0, worker=0)],
        lines={"web-1": [Line(at=1.0, stream="out", text="a"), Line(at=2.0, stream="out", text="b")]},
        instances=[Instance(name="web-1", pid=7, in_flight=3)], notes=["a thing is missing"],
    )  # fmt: skip
    after = known(
        2, exits=[ended], events=[Event(id=2, at=2.0, kind="x", text="two")], exceptions=[later],
        records=[Record(id="c", time=3.0, worker=0), Record(id="b", time=2.0, worker=0)],
        lines={"web-1": [Line(at=2.0, stream="out", text="b"), Line(at=2.0, stream="out", text="b")]},
        instances=[Instance(name="web-2", pid=8)], notes=["a thing is missing"],
    )  # fmt: skip
    found = join(before, after)
    assert found.at == 2 and found.app.in_flight == 2, "the later word holds"
    assert found.exits == [ended] and [one.id for one in found.events] == [1, 2]
    assert [one.id for one in found.records] == ["c", "b", "a"]
    assert [one.count for one in found.exceptions] == [9]
    assert [line.text for line in found.lines["web-1"]] == ["a", "b", "b"]
    assert [(one.name, one.gone) for one in found.instances] == [("web-2", False), ("web-1", True)]
    assert found.notes == ["a thing is missing"]


def test_without_the_second_half_the_first_stays_and_it_is_said() -> None:
    found = join(known(1, notes=["x"]), None)
    assert found.at == 1 and found.notes[0] == "x" and "at the end is missing" in found.notes[1]
