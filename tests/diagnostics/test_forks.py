"""Work in processes of its own: what stays when none can be had."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import pytest

from proxy.diagnostics import forks
from tests.diagnostics.sessions import until
from tests.diagnostics_host.support import NOBODY, apart


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can become another user")
def test_where_no_process_can_be_had_nothing_stays() -> None:
    def refused() -> None:
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
        before = os.listdir("/proc/self/fd")
        with pytest.raises(BlockingIOError):
            forks.begin(lambda: "", 0.0, 1000)
        assert os.listdir("/proc/self/fd") == before
        assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ()), "TERM reaches it as before"

    apart(refused, user=NOBODY)


@pytest.mark.slow
def test_a_signal_without_a_name_is_told_by_its_number() -> None:
    def ends() -> str:
        os.kill(os.getpid(), signal.SIGRTMIN + 1)
        return ""

    fork = forks.begin(ends, 0.0, 1000)
    until(lambda: (Path("/proc") / str(fork.pid) / "stat").read_text().rpartition(")")[2].split()[0] == "Z", "it ended")
    assert fork.ended() == forks.Came("failed", f"it ended by signal {signal.SIGRTMIN + 1}")
