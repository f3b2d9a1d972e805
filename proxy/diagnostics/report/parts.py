"""All parts of a report, in the order in which they are read. To add one is to add a file and a line."""

from __future__ import annotations

from typing import Final

from proxy.diagnostics.report import (
    answer,
    charts,
    checks,
    environment,
    findings,
    flame,
    host,
    memory,
    output,
    processes,
    requests,
    sockets,
    stacks,
    timeline,
)
from proxy.diagnostics.report.part import Part

PARTS: Final = (
    Part("answer", "", answer.data, answer.html),
    Part("timeline", "What happened", timeline.data, timeline.html),
    Part("findings", "Findings", findings.data, findings.html),
    Part("charts", "Charts", charts.data, charts.html),
    Part("flame", "Where CPU time went", flame.data, flame.html),
    Part("stacks", "Where the threads stood", stacks.data, stacks.html),
    Part("sockets", "Connections", sockets.data, sockets.html),
    Part("requests", "Requests", requests.data, requests.html),
    Part("exceptions", "Exceptions", output.exceptions, output.exceptions_html),
    Part("logs", "Last lines of output", output.logs, output.logs_html),
    Part("processes", "Instances and processes", processes.data, processes.html),
    Part("memory", "Memory", memory.data, memory.html),
    Part("host", "The machine", host.data, host.html),
    Part("environment", "Where it runs, and what changed", environment.data, environment.html),
    Part("checks", "What was looked for", checks.data, checks.html),
    Part("unseen", "What could not be looked at", checks.unseen, checks.unseen_html),
)
