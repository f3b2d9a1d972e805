"""What control costs at rest: 200 instances under one control, each a process with probes, no requests.

`python -m loadtests.control_cost [--seconds 30] [--instances 200] [--write]`

Everything but the instances' number is a default: probes each 5 s, samples of each process, rules on. Once with a
health path, once without (then a probe is a TCP connect). The share of a core is CPU time from /proc over wall time.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Final

from loadtests import procs
from loadtests.api import Api
from loadtests.chaos import DOCUMENT
from loadtests.gateway import CONTROL, LAUNCHER, WORKER, Gateway, start_gateway
from loadtests.lab import REPOSITORY, Lab
from loadtests.peers.triage import gateway
from loadtests.report import Report, arguments, finish_with, mib, say
from loadtests.stage import stage

LIMIT: Final = 0.05
SETTLE: Final = 10.0  # after the last is ready: starts are no rest
WAYS: Final = {"with health.path": 'path = "/healthz"', "without": ""}


def main() -> int:
    parser = arguments(__doc__, seconds=30.0, of="measured, of each way", document=DOCUMENT)
    parser.add_argument("--instances", type=int, default=200)
    told = parser.parse_args()
    report = Report("control_cost", head=("probes", "control", "launcher", "worker", "control, resident"))
    for way, health in WAYS.items():
        one(way, health, told.instances, told.seconds, report)
    report.notes.append(f"{told.instances} processes, no requests, {told.seconds:g} s; shares of a core.")
    return report.finish(told, DOCUMENT)


def one(way: str, health: str, count: int, seconds: float, report: Report) -> None:
    with Lab() as lab:
        site = stage(lab).site("triage")
        api = Api(site.admin_port, site.folder / "data" / "admin.token")
        began = time.monotonic()

        def all_ready() -> bool:
            found = api.maybe_get("apps/web")
            return bool(found) and found["ready"] == count

        running = start_gateway(lab, site, gateway(site, tls=False) + app(count, health), ready=all_ready, within=180.0)
        say(f"{way}: {count} ready after {time.monotonic() - began:.1f} s")
        time.sleep(SETTLE)
        shares = measure(running, seconds)
        size = procs.resident([running.control()])
    names = (CONTROL, LAUNCHER, WORKER)
    report.rows.append([way, *(f"{shares[name]:.2%}" for name in names), mib(size)])
    control = shares[CONTROL]
    report.check(f"control, {way}", f"{control:.2%} of a core", f"< {LIMIT:.0%}", control < LIMIT)


def app(count: int, health: str) -> str:
    user = 'user = "root"' if os.geteuid() == 0 else ""
    return f"""
[apps.web.process]
command = "{sys.executable} -I -S {REPOSITORY}/loadtests/tiny_app.py {{port}}"
instances = {count}
{user}

[apps.web.health]
{health}
"""


def measure(running: Gateway, seconds: float) -> dict[str, float]:
    """The share of a core of each of its own processes, by name."""
    pids = {name: running.pids(name)[0] for name in (CONTROL, LAUNCHER, WORKER)}
    before = {name: procs.cpu_seconds([pid]) for name, pid in pids.items()}
    began = time.monotonic()
    time.sleep(seconds)
    lasted = time.monotonic() - began
    return {name: (procs.cpu_seconds([pid]) - before[name]) / lasted for name, pid in pids.items()}


if __name__ == "__main__":
    finish_with(main)
