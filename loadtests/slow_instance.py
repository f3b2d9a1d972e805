"""One of four instances gets ten times slower, or fails at once: how many requests are hurt in a minute?

`python -m loadtests.slow_instance [--seconds 60] [--rate 500]`

A request is hurt when it fails, or takes more than five times as long as an instance normally takes: nobody
else is that slow. Failing comes in three ways: an answer 500, the connection closed without an answer, and
nobody listening any more.
"""

from __future__ import annotations

from typing import Final

from loadtests import open_loop
from loadtests.gateway import fault_of, start_gateway
from loadtests.lab import Lab, python
from loadtests.open_loop import Plan, percentile
from loadtests.peers.triage import app, gateway
from loadtests.report import Report, arguments, finish_with, ms, say
from loadtests.stage import answers, become, stage, start_origin

SERVICE: Final = 0.010
TIMES_SLOWER: Final = 10
SHARE: Final = 0.01
WAYS: Final = ("slow", "500", "close", "refuse")


def main() -> int:
    parser = arguments(__doc__, seconds=60.0, of="after the instance went bad")
    parser.add_argument("--rate", type=float, default=500.0, help="requests a second")
    parser.add_argument("--ways", default=",".join(WAYS), help=f"of {', '.join(WAYS)}")
    told = parser.parse_args()
    report = Report("slow_instance", head=("one of four", "requests", "hurt", "share", "p50", "p99", "answers"))
    for way in told.ways.split(","):
        one(way, told.rate, told.seconds, report)
    report.notes.append(f"{told.rate:g} requests a second, {SERVICE * 1e3:g} ms each; the first {told.seconds:g} s.")
    return report.finish(told)


def one(way: str, rate: float, seconds: float, report: Report) -> None:
    """Run one way of going bad, with fresh instances and a fresh gateway."""
    say(f"{way}: {seconds:g} s")
    with Lab() as lab:
        ports = [start_origin(lab, delay=SERVICE) for _ in range(3)]
        port = lab.free_port()
        argv = python("loadtests.origin", "--port", str(port), "--delay", str(SERVICE))
        bad = lab.start(argv, core=lab.generator_core)
        lab.wait_until(lambda: answers(port), bad, "origin")
        site = stage(lab).site("triage")
        running = start_gateway(lab, site, gateway(site, tls=False) + app("web", [*ports, port]))
        plan = Plan(port=site.port, rate=rate, seconds=10.0, timeout=10.0, kind=fault_of)
        open_loop.run(plan)
        match way:
            case "slow":
                become(port, delay=SERVICE * TIMES_SLOWER)
            case "refuse":
                lab.end(bad)
            case _:
                become(port, fail=way)
        result = open_loop.run(Plan(port=site.port, rate=rate, seconds=seconds, timeout=10.0, kind=fault_of))
        lab.end(running.process)
    good = result.good()
    hurt = len(result.due) - sum(1 for latency in good if latency <= 5 * SERVICE)
    share = hurt / len(result.due)
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(result.counts().items()))
    name = f"{TIMES_SLOWER} times slower" if way == "slow" else f"fails: {way}"
    report.rows.append(
        [
            name,
            str(len(result.due)),
            str(hurt),
            f"{share:.2%}",
            ms(percentile(good, 0.5)),
            ms(percentile(good, 0.99)),
            counts,
        ]
    )
    report.check(f"{name}: hurt", f"{share:.2%}", f"≤ {SHARE:.0%}", share <= SHARE)


if __name__ == "__main__":
    finish_with(main)
