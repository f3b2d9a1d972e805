"""Collectors: each one file, from an instance to an artifact. COLLECTORS is all of them, in the order they begin.

contract   what a collector is                flight_recorder   requests of late
stacks     where every thread stands          proc_report       what the kernel says of its processes
log_tail   what it printed last
"""

from typing import Final

from proxy.diagnostics.collectors.contract import Collector
from proxy.diagnostics.collectors.flight_recorder import COLLECTOR as FLIGHT_RECORDER
from proxy.diagnostics.collectors.log_tail import COLLECTOR as LOG_TAIL
from proxy.diagnostics.collectors.proc_report import COLLECTOR as PROC_REPORT
from proxy.diagnostics.collectors.stacks import COLLECTOR as STACKS

COLLECTORS: Final[tuple[Collector, ...]] = (FLIGHT_RECORDER, STACKS, PROC_REPORT, LOG_TAIL)

__all__ = ["COLLECTORS", "Collector"]
