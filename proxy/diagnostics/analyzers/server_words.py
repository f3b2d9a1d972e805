"""What servers (gunicorn, uWSGI, Puma, php-fpm …) print of the ends of their own workers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from proxy.diagnostics.analyzers import say
from proxy.diagnostics.artifacts import Known

STOPPING: Final = 40.0
"""Seconds that a server may need to stop its workers."""
_SAID: Final[tuple[tuple[str, re.Pattern[str]], ...]] = (
    (
        "timeout",
        re.compile(
            r"WORKER TIMEOUT \(pid:\s?(?P<pid>\d+)\)|HARAKIRI .*?(?:pid: )?(?P<pid2>\d+)"
            r"|[Tt]erminating timed out worker"
            r"|execution timed out .*terminating|child (?P<pid3>\d+).* execution timed out"
        ),
    ),
    (
        "signal",
        re.compile(
            r"Worker \(pid:\s?(?P<pid>\d+)\) was (?:sent|terminated due to signal) (?P<signal>\w+)"
            r"|worker \d+ \(pid: (?P<pid2>\d+)\) died, killed by signal (?P<signal2>\d+)"
            r"|child (?P<pid3>\d+) exited on signal (?P<signal3>\d+)"
            r"|[Ww]orker .*(?:died|exited|killed).*signal:? (?P<signal4>\w+)"
        ),
    ),
    (
        "ended",
        re.compile(
            r"Worker \(pid:\s?(?P<pid>\d+)\) exited with code (?P<code>[1-9]\d*)|Child process \[(?P<pid2>\d+)\] died"
            r"|[Ww]orker (?:process )?\[?(?P<pid3>\d+)\]? (?:has )?(?:died|crashed)"
            r"|child (?P<pid4>\d+) exited with code [1-9]"
        ),
    ),
)
_NUMBERS: Final = {"9": "SIGKILL", "11": "SIGSEGV", "6": "SIGABRT", "15": "SIGTERM", "7": "SIGBUS", "4": "SIGILL"}


@dataclass(slots=True)
class End:
    """A worker that ended, as its server says."""

    kind: str  # timeout signal ended
    at: float
    instance: str
    pid: int
    signal: str
    text: str


def told(known: Known, since: float) -> Iterator[End]:
    """Those that no stop by Triage explains, as they were printed."""
    for name, line in say.all_lines(known):
        if line.at < since:
            continue
        for kind, pattern in _SAID:
            if match := pattern.search(line.text):
                found = {key.rstrip("0123456789"): value for key, value in match.groupdict().items() if value}
                signal = found.get("signal", "")
                pid = int(found.get("pid", "0"))
                end = End(kind, line.at, name, pid, _NUMBERS.get(signal, signal), line.text)
                if not _planned(known, end):
                    yield end
                break


def _planned(known: Known, end: End) -> bool:
    """Whether its server stopped it because Triage was stopping the server."""
    if end.signal not in ("", "SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGKILL"):
        return False
    there = next((one for one in known.instances if one.name == end.instance), None)
    if there is not None and not there.gone and there.lifecycle in ("draining", "stopping"):
        return True
    return any(one.ours and one.instance == end.instance and -2.0 <= one.at - end.at <= STOPPING for one in known.exits)
