"""Processes of an instance that the kernel ended while the first one went on."""

from __future__ import annotations

import pytest

from proxy.diagnostics.analyzers import children
from proxy.diagnostics.artifacts import Cgroup, HostEvent, HostEvents, ProcReport
from tests.analyzers import made
from tests.analyzers.made import NOW

GROUP = "/triage/web-1"
LINE = "Memory cgroup out of memory: Killed process 5644 (python)"


@pytest.mark.parametrize(("ago", "found"), [(60.0, True), (500.0, False)])
def test_a_line_about_its_cgroup_counts_only_since_it_is_its_own(ago: float, found: bool) -> None:
    """A Triage that ran here before may have had a group of the same name."""
    known = made.known(instances=[made.instance(started_at=NOW - 300.0)])
    drawn = made.run(
        children.ANALYZER,
        known,
        whole=[HostEvents(events=[HostEvent(at=NOW - ago, kind="oom-kill", text=LINE, pid=5644, where=GROUP)])],
        each={"web-1": [ProcReport(at=NOW, cgroup=Cgroup(path=GROUP, version=1, own=True))]},
    )
    assert [(one.id, one.instances, one.until) for one in drawn] == (
        [("out-of-memory", ["web-1"], NOW - ago)] if found else []
    )
