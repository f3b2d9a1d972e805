"""Which processes belong to an instance; pure, with the processes given."""

from pathlib import Path

import pytest

from proxy.control.inside import family
from proxy.control.sampling import Stat


def one(parent: int, *, group: int = 0, session: int = 0, start: int = 100, state: str = "S") -> Stat:
    return Stat(parent=parent, group=group, state=state, cpu=0.0, threads=1, start=start, rss=0, session=session)


def told(found: family.Family) -> list[tuple[int, int, str]]:
    return [(each.pid, each.depth, each.role) for each in found.members]


def test_a_tree_in_the_order_of_its_starts() -> None:
    seen = {1: one(0), 10: one(1), 12: one(10, start=3), 11: one(10, start=2), 13: one(11), 99: one(1)}
    found = family.of_instance(10, 100, processes=seen)
    assert told(found) == [(10, 0, "instance"), (11, 1, "child"), (13, 2, "child"), (12, 1, "child")]
    assert found.total == 4 and found.get(99) is None


def test_those_that_left_it_by_session_and_group() -> None:
    seen = {1: one(0), 10: one(1, session=10, group=10), 20: one(1, session=10), 21: one(20), 30: one(1, group=10),
            40: one(1, session=40)}  # fmt: skip
    found = family.of_instance(10, 0, processes=seen)
    assert told(found) == [(10, 0, "instance"), (20, 1, "orphan"), (21, 2, "child"), (30, 1, "orphan")]


def test_by_its_cgroup_and_the_groups_below(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "cgroup.procs").write_text("10\n50\n999\n")
    (tmp_path / "below" / "cgroup.procs").write_text("51\n")
    seen = {1: one(0), 10: one(1), 50: one(1, session=50), 51: one(50, session=51), 60: one(1)}
    found = family.of_instance(10, 0, folders=[tmp_path], processes=seen)
    assert told(found) == [(10, 0, "instance"), (50, 1, "orphan"), (51, 2, "child")]


def test_triage_s_own_are_in_no_family() -> None:
    """The process behind a given address may be anything: its tree may hold a whole Triage."""
    seen = {10: one(1), 11: one(10), 12: one(11), 13: one(10)}
    assert told(family.of_instance(10, 0, launcher=11, own=(13,), processes=seen)) == [(10, 0, "instance")]


def test_another_with_its_number_is_not_taken_for_it() -> None:
    seen = {10: one(1, start=200)}
    with pytest.raises(ProcessLookupError):
        family.of_instance(10, 100, processes=seen)
    with pytest.raises(ProcessLookupError):
        family.of_instance(10, 0, processes={10: one(1, state="Z")})
    with pytest.raises(ProcessLookupError):
        family.of_instance(10, 0, processes={})


def test_a_look_that_was_not_one_moment_ends() -> None:
    """Numbers that were given again while one looked may make a circle."""
    seen = {10: one(1, session=10), 20: one(21, session=10), 21: one(20, session=10)}
    found = family.of_instance(10, 0, processes=seen)
    assert {each.pid for each in found.members} == {10, 20, 21}


def test_of_very_many_the_nearest_are_told() -> None:
    seen = {10: one(1), **{pid: one(10 if pid % 2 else pid - 1, start=pid) for pid in range(11, 111)}}
    found = family.of_instance(10, 0, processes=seen, most=30)
    assert len(found.members) == 30 and found.total == 101
    assert found.members[0].pid == 10 and all(each.depth <= 1 for each in found.members)


def test_all_of_triage_by_role() -> None:
    seen = {1: one(0), 5: one(1), 6: one(5), 7: one(5), 8: one(7), 9: one(1)}
    found = family.of_triage(5, {6: ("control", ""), 7: ("instance", "web/web-1")}, seen)
    assert told(found) == [(5, 0, "launcher"), (6, 1, "control"), (7, 1, "instance"), (8, 2, "child")]
    assert found.members[2].name == "web/web-1"


def test_marks_are_those_of_the_launcher() -> None:
    from proxy.launcher import processes

    text = Path(family.__file__).read_text()
    assert f"{processes.INSTANCE}=" in text and f"{processes.LAUNCHER}=" in text
