"""Collectors: each one file, from an instance to an artifact. COLLECTORS is all of them, in the order they begin.

contract     what a collector is                 proc_report   what the kernel says of its processes
stacks       where every thread stands           log_tail      what it printed last
activity     what its processes do, by second    sockets       who waits for whom
profile      where CPU time goes                 memory_dump   all that a process has in memory
types        objects by type, told by the agent  environment   versions, settings, limits
host_report  the machine meanwhile               host_events   what kernel and journal wrote of late
changes      files, commits and config of late
"""

from typing import Final

from proxy.diagnostics.collectors.activity import COLLECTOR as ACTIVITY
from proxy.diagnostics.collectors.changes import COLLECTOR as CHANGES
from proxy.diagnostics.collectors.contract import Collector
from proxy.diagnostics.collectors.environment import COLLECTOR as ENVIRONMENT
from proxy.diagnostics.collectors.host_events import COLLECTOR as HOST_EVENTS
from proxy.diagnostics.collectors.host_report import COLLECTOR as HOST_REPORT
from proxy.diagnostics.collectors.log_tail import COLLECTOR as LOG_TAIL
from proxy.diagnostics.collectors.memory_dump import COLLECTOR as MEMORY_DUMP
from proxy.diagnostics.collectors.proc_report import COLLECTOR as PROC_REPORT
from proxy.diagnostics.collectors.profile import COLLECTOR as PROFILE
from proxy.diagnostics.collectors.sockets import COLLECTOR as SOCKETS
from proxy.diagnostics.collectors.stacks import COLLECTOR as STACKS
from proxy.diagnostics.collectors.types import COLLECTOR as TYPES

COLLECTORS: Final[tuple[Collector, ...]] = (
    STACKS, PROC_REPORT, SOCKETS, ACTIVITY, HOST_REPORT, ENVIRONMENT, CHANGES, PROFILE, TYPES, MEMORY_DUMP, LOG_TAIL,
    HOST_EVENTS,
)  # fmt: skip

__all__ = ["COLLECTORS", "Collector"]
