"""wrk, the closed-loop generator: run it, read what it says, refuse a run with a wrong answer.

wrk has no machine-readable output; its `done` hook in Lua prints one line of JSON, which runs once
after the run and so costs the run nothing. Answers are not looked at one by one, that would slow the
generator: bytes per request say whether the bodies were whole.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loadtests.lab import Failed
from loadtests.works import Work

GET: Final = "apt-get install wrk"
HEAD: Final = 2048  # bytes: no head of an answer here is longer
MARK: Final = "wrk-figures "

SCRIPT: Final = """\
wrk.method = "{method}"
{fields}
{body}
{varied}
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\\n{mark}{{"duration": %d, "requests": %d, "bytes": %d, "connect": %d, "read": %d, "write": %d,' ..
    ' "status": %d, "timeout": %d, "p50": %d, "p99": %d, "max": %d}}\\n',
    summary.duration, summary.requests, summary.bytes, e.connect, e.read, e.write, e.status, e.timeout,
    latency:percentile(50), latency:percentile(99), latency.max))
end
"""


@dataclass(frozen=True, slots=True)
class Figures:
    """One run. Seconds, bytes; `errors` names what went wrong, with counts, and is empty after a good run."""

    duration: float
    requests: int
    received: int
    p50: float
    p99: float
    longest: float
    errors: dict[str, int]

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.duration


# Made before the run, sent in turn over all connections.
VARIED: Final = """\
local heads, at = {{}}, 0
init = function(args)
  for number = 1, {count} do
    wrk.headers["Cookie"] = "session=0a1b2c3d4e5f60718293a4b5c6d7e8f9; theme=dark; n=" .. number
    heads[number] = wrk.format(nil, "{target}?n=" .. number)
  end
end
request = function()
  at = at % {count} + 1
  return heads[at]
end
"""


def script(work: Work) -> str:
    """The Lua script for a work."""
    fields = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in work.fields.items())
    body = f'wrk.body = string.rep("x", {work.post})' if work.post else ""
    varied = VARIED.format(count=work.varied, target=work.target) if work.varied else ""
    return SCRIPT.format(method=work.method, fields=fields, body=body, varied=varied, mark=MARK)


def parse(output: str) -> Figures:
    """Read the line that our `done` hook printed; ValueError when there is none."""
    for line in reversed(output.splitlines()):
        if line.startswith(MARK):
            said = json.loads(line.removeprefix(MARK))
            break
    else:
        raise ValueError(f"wrk printed no figures: {output.strip()[-300:]!r}")
    kinds = ("connect", "read", "write", "status", "timeout")
    return Figures(
        duration=said["duration"] / 1e6,
        requests=said["requests"],
        received=said["bytes"],
        p50=said["p50"] / 1e6,
        p99=said["p99"] / 1e6,
        longest=said["max"] / 1e6,
        errors={kind: said[kind] for kind in kinds if said[kind]},
    )


def wrong(figures: Figures, work: Work) -> str:
    """Why this run has no figures; empty when every answer was right."""
    if figures.errors:
        return ", ".join(f"{count} {kind} errors" for kind, count in figures.errors.items())
    if not figures.requests:
        return "no answer"
    least = figures.requests * work.length
    # Bytes of answers still under way at the end are counted, their requests are not.
    most = figures.requests * (work.length + HEAD) + work.connections * (work.length + HEAD)
    if not least < figures.received <= most:
        return f"{figures.received / figures.requests:.0f} bytes per answer, its body has {work.length}"
    return ""


def run(work: Work, port: int, seconds: float, folder: Path) -> Figures:
    """Load 127.0.0.1:`port` with a work, in this process's own affinity."""
    program = shutil.which("wrk")
    if program is None:
        raise Failed(f"wrk is not installed: {GET}")
    path = folder / f"{work.name}.lua"
    path.write_text(script(work))
    url = f"{'https' if work.tls else 'http'}://127.0.0.1:{port}{work.target}"
    lasting = f"-d{max(1, round(seconds))}s"
    argv = [program, "-t1", f"-c{work.connections}", lasting, "--timeout", "10s", "-s", str(path), url]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds + 60, check=False)
    try:
        return parse(done.stdout)
    except ValueError as error:
        raise Failed(f"{error} {done.stderr.strip()}") from error
