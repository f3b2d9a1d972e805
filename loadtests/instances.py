"""A thousand instances in one app against four: what a request costs.

`python -m loadtests.instances [--seconds 4] [--rounds 5] [--instances 1000]`

The instances are addresses in 127.0.0.0/8 of one origin that listens on all of them. Both gateways run all
the time and are loaded in turn, with the default balancer; probes of all instances are part of the cost.
"""

from __future__ import annotations

import statistics
import time
from typing import Final

from loadtests.bench import Measured, measure
from loadtests.gateway import Gateway, start_gateway
from loadtests.lab import Failed, Lab
from loadtests.peers.triage import app, gateway
from loadtests.report import Report, arguments, finish_with, ms, say
from loadtests.stage import stage, start_static
from loadtests.works import WORKS

LIMIT: Final = 1.1
FEW: Final = 4


def addresses(count: int, port: int) -> list[int | str]:
    """`count` loopback addresses with this port."""
    return [f"127.{1 + n // 62500}.{n // 250 % 250}.{1 + n % 250}:{port}" for n in range(count)]


def main() -> int:
    parser = arguments(__doc__, seconds=4.0, of="of each run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--instances", type=int, default=1000)
    parser.add_argument("--rest", type=float, default=5.0, help="seconds without requests, before")
    told = parser.parse_args()
    report = Report("instances", head=("instances", "CPU µs", "requests/s", "p99"))
    work = WORKS["small"]
    with Lab() as lab:
        standing = stage(lab)
        port = start_static(lab, host="0.0.0.0")
        running: dict[int, Gateway] = {}
        for count in (FEW, told.instances):
            site = standing.site(f"triage-{count}")
            config = gateway(site, tls=False) + app("web", addresses(count, port))
            running[count] = start_gateway(lab, site, config)
        began = time.monotonic()
        before = {count: each.cpu() for count, each in running.items()}
        time.sleep(told.rest)
        for count, each in running.items():
            spent = {role: cpu - before[count].get(role, 0.0) for role, cpu in each.cpu().items()}
            shares = ", ".join(f"{role} {cpu / (time.monotonic() - began):.1%}" for role, cpu in spent.items())
            report.notes.append(f"{count} instances without requests, share of a core: {shares}.")
        runs: dict[int, list[Measured]] = {count: [] for count in running}
        for round_ in range(-1, told.rounds):
            for count, each in running.items():
                found = measure(each.running(), work, round_, told.seconds if round_ >= 0 else 2.0, lab.folder)
                if found.error:
                    raise Failed(f"{count} instances: {found.error}")
                if round_ >= 0:
                    runs[count].append(found)
                    say(f"round {round_ + 1}, {count} instances: {found.cpu * 1e6:.1f} µs")
    for count, measured in runs.items():
        report.rows.append(
            [
                str(count),
                f"{statistics.median(each.cpu for each in measured) * 1e6:.1f}",
                f"{statistics.median(each.rate for each in measured):,.0f}",
                ms(statistics.median(each.p99 for each in measured)),
            ]
        )
    ratios = [many.cpu / few.cpu for few, many in zip(runs[FEW], runs[told.instances], strict=True)]
    ratio = statistics.median(ratios)
    shown = f"{ratio:.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
    report.check(f"{told.instances} instances against {FEW}", shown, f"≤ {LIMIT}", ratio <= LIMIT)
    return report.finish(told)


if __name__ == "__main__":
    finish_with(main)
