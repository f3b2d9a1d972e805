import signal
from pathlib import Path

import pytest

from proxy.control.fate import cgroup_kills, describe


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
