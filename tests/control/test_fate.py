import signal
from pathlib import Path

import pytest

from proxy.control import room
from proxy.control.fate import WINDOW, OomWatch, cgroup_kills, describe


def ended(code: int | None, by_signal: int | None = None, **more: object):  # type: ignore[no-untyped-def]
    return describe(name="web-1", at=0.0, lasted=1.0, code=code, by_signal=by_signal, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("code", "by_signal", "oom", "ours", "words", "by_itself"),
    [
        (3, None, "no", False, "exit code 3", True),
        (0, None, "no", False, "exit code 0", False),
        (None, signal.SIGKILL, "no", False, "signal 9 (SIGKILL)", False),
        (None, signal.SIGTERM, "no", False, "signal 15 (SIGTERM)", False),
        (None, signal.SIGSEGV, "no", False, "signal 11 (SIGSEGV)", True),
        (None, signal.SIGABRT, "no", False, "signal 6 (SIGABRT)", True),
        (None, signal.SIGKILL, "certain", False, "signal 9 (SIGKILL), out of memory", True),
        (None, signal.SIGKILL, "likely", False, "signal 9 (SIGKILL), likely out of memory", True),
        (None, signal.SIGABRT, "no", True, "signal 6 (SIGABRT)", False),
        (1, None, "no", True, "exit code 1", False),
    ],
)
def test_how_it_ended(
    code: int | None, by_signal: int | None, oom: str, ours: bool, words: str, by_itself: bool
) -> None:
    found = ended(code, by_signal, oom=oom, ours=ours)
    assert (found.words, found.by_itself) == (words, by_itself)


def test_a_cgroup_counts_its_kills(tmp_path: Path) -> None:
    assert cgroup_kills(tmp_path) == 0
    (tmp_path / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n")
    assert cgroup_kills(tmp_path) == 1
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 4\noom 2\noom_kill 2\noom_group_kill 0\n")
    assert cgroup_kills(tmp_path) == 2


@pytest.mark.parametrize("file", ["memory.events.local", "memory.oom_control"])
def test_the_count_of_the_cgroup_that_triage_runs_in_goes_before_the_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    """A kill in another container, or in a cgroup below, is none of its instances."""
    machine, own = tmp_path / "vmstat", tmp_path / file
    monkeypatch.setattr(OomWatch, "VMSTAT", machine)
    machine.write_text("oom_kill 7\n")
    own.write_text("oom_kill 1\n")
    watch = OomWatch(tmp_path)
    machine.write_text("oom_kill 8\n")
    assert watch.of_exit(9, False) == "no"
    own.write_text("oom_kill 2\n")
    assert watch.of_exit(9, False) == "likely"
    assert (watch.of_exit(9, True), watch.of_exit(15, False), watch.of_exit(None, False)) == ("no", "no", "no")
    for _ in range(WINDOW):
        watch.sample()
    assert watch.of_exit(9, False) == "no", "that was seconds ago"


def test_the_machines_count_says_something_only_where_memory_was_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where memory is left the kernel killed within the limit of some container."""
    machine, memory = tmp_path / "vmstat", tmp_path / "meminfo"
    monkeypatch.setattr(OomWatch, "VMSTAT", machine)
    monkeypatch.setattr(room, "MEMINFO", memory)
    machine.write_text("oom_kill 7\n")
    memory.write_text("MemTotal: 1000 kB\nMemAvailable: 600 kB\n")
    watch = OomWatch(tmp_path / "none")
    machine.write_text("oom_kill 8\n")
    assert watch.of_exit(9, False) == "no"
    machine.write_text("oom_kill 8\n")
    memory.write_text("MemTotal: 1000 kB\nMemAvailable: 20 kB\n")
    watch = OomWatch(None)
    memory.write_text("MemTotal: 1000 kB\nMemAvailable: 600 kB\n")
    machine.write_text("oom_kill 9\n")
    assert watch.of_exit(9, False) == "likely", "it was short just before, and the kill made room"
