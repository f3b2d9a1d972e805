"""A storm of faults: thousands a second for minutes. What does control pay, and does memory stand still?

`python -m loadtests.faults [--seconds 600] [--rate 5000]`

Four kinds in turn: no-route, an address where nobody listens, an instance that closes without an answer, and
one that answers 500. None is a good answer, so each is to be counted by app, instance, fault and second.
"""

from __future__ import annotations

import time
from typing import Final

from loadtests import open_loop, procs
from loadtests.ask import get
from loadtests.gateway import CONTROL, WORKER, Watch, fault_of, flat, start_gateway
from loadtests.lab import Lab
from loadtests.open_loop import Plan, percentile
from loadtests.peers.triage import app, gateway
from loadtests.report import Report, arguments, finish_with, mib, ms, say
from loadtests.stage import become, stage, start_origin

SHARE: Final = 0.30
TARGETS: Final = ("/nowhere", "/refused", "/closed", "/failed")


def main() -> int:
    parser = arguments(__doc__, seconds=600.0, of="of faults")
    parser.add_argument("--rate", type=float, default=5000.0, help="faults a second")
    told = parser.parse_args()
    report = Report("faults", head=("processes", "CPU, share of a core", "memory early", "memory late"))
    with Lab() as lab:
        standing = stage(lab)
        site = standing.site("triage")
        closing, failing, nobody = start_origin(lab), start_origin(lab), lab.free_port()
        become(closing, fail="close")
        become(failing, fail="500")
        config = gateway(site, tls=False)
        config += app("good", [standing.origin_port], 'paths = ["/small"]')
        for name, port in (("refused", nobody), ("closed", closing), ("failed", failing)):
            config += app(name, [port], f'paths = ["/{name}"]')
        running = start_gateway(lab, site, config)
        watches = {role: Watch(running.pids(role)) for role in (CONTROL, WORKER)}
        everything = Watch(running.pids())
        pids = {role: watch.pids for role, watch in watches.items()}
        control, worker = running.control(), running.worker()
        before = {pid: procs.cpu_seconds([pid]) for pid in running.pids()}
        say(f"{told.rate:g} faults a second for {told.seconds:g} s")
        plan = Plan(
            port=site.port,
            rate=told.rate,
            seconds=told.seconds,
            targets=TARGETS,
            connections=6000,
            timeout=15.0,
            kind=fault_of,
        )
        began = time.monotonic()
        with everything, watches[CONTROL], watches[WORKER]:
            result = open_loop.run(plan)
        lasted = time.monotonic() - began
        shares = {pid: (procs.cpu_seconds([pid]) - cpu) / lasted for pid, cpu in before.items()}
        if ended := [pid for pid in (control, worker) if pid not in running.pids()]:
            said = " and ".join("control" if pid == control else "the worker" for pid in ended)
            report.check("no process ended", f"{said} did", "none", False)
            report.notes.append(f"Its last words: {running.said(lab)}")
        for role, watch in {**watches, "all": everything}.items():
            early, late = watch.growth()
            share = sum(shares[pid] for pid in pids.get(role, list(shares)))
            report.rows.append([role, f"{share:.1%}", mib(early), mib(late)])
            tenths = ", ".join(map(mib, watch.tenths()))
            report.notes.append(f"Memory of {role} after each tenth of the time: {tenths}.")
            report.check(f"{role}: memory flat", f"{mib(early)} → {mib(late)}", "+5 % + 2 MiB", flat(early, late))
        report.check("control's share of a core", f"{shares[control]:.1%}", f"≤ {SHARE:.0%}", shares[control] <= SHARE)
        rate = (
            sum(count for kind, count in result.counts().items() if kind.isdigit() and kind[0] in "45") / told.seconds
        )
        report.check("faults answered a second", f"{rate:,.0f}", f"≥ {told.rate * 0.95:,.0f}", rate >= told.rate * 0.95)
        still = get(site.port, "/small").status
        report.check("a good request afterwards", str(still), "200", still == 200)
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(result.counts().items()))
    latency = sorted(result.latency)
    report.notes.append(f"Answers: {counts}; p50 {ms(percentile(latency, 0.5))}, p99 {ms(percentile(latency, 0.99))}.")
    return report.finish(told)


if __name__ == "__main__":
    finish_with(main)
