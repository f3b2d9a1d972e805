"""Overload: an app that can serve so many a second is asked for 1, 2 and 5 times as many.

`python -m loadtests.overload [--seconds 60]`

Four instances with ten slots each and 20 ms for a request: 2,000 a second on paper. What the whole serves is
measured first, at 1.3 times that, and is the "1x" of the phases; normal is half of it. Requests come at a
fixed rate (open loop), so that waiting clients do not slow the flood down.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

from loadtests import open_loop
from loadtests.gateway import Gateway, Watch, fault_of, flat, start_gateway
from loadtests.lab import Lab
from loadtests.open_loop import Plan, Result, percentile
from loadtests.peers.triage import app, gateway
from loadtests.report import Report, arguments, finish_with, mib, ms, say
from loadtests.stage import stage, start_origin

INSTANCES: Final = 4
SLOTS: Final = 10
SERVICE: Final = 0.020
QUEUE_TIMEOUT: Final = 1.0
QUEUE_SIZE: Final = 1000
TIMES: Final = (1, 2, 5)
RECOVERED_AFTER: Final = 2.0
QUEUE_FULL: Final = 0.005  # seconds within which a full queue is said
HEAD: Final = (
    "phase",
    "asked/s",
    "good/s",
    "good p50",
    "good p99",
    "queue-full p50, p99",
    "generator late p99",
    "memory",
    "others",
)


def flood(
    running: Gateway, plan: Plan, rate: float, seconds: float, then: tuple[float, float] | None = None
) -> tuple[Result, Watch]:
    """Send at a rate, watching the gateway's memory."""
    with Watch(running.pids()) as watch:
        result = open_loop.run(replace(plan, rate=rate, seconds=seconds, then=then))
    return result, watch


def queue_full(result: Result, until: float) -> list[float]:
    """Sorted times of the answers that said the queue was full."""
    return result.latencies(lambda outcome, kind: kind == "queue-full", 0.0, until)


def row(name: str, rate: float, seconds: float, result: Result, watch: Watch) -> list[str]:
    """One phase in the table: what was due in its time."""
    good = result.good(0.0, seconds)
    full = queue_full(result, seconds)
    others = {kind: count for kind, count in result.counts(0.0, seconds).items() if not kind.startswith("2")}
    return [
        name,
        f"{rate:,.0f}",
        f"{result.good_answers(seconds) / seconds:,.0f}",
        ms(percentile(good, 0.5)),
        ms(percentile(good, 0.99)),
        f"{ms(percentile(full, 0.5))}, {ms(percentile(full, 0.99))}" if full else "",
        ms(percentile(result.lateness(seconds), 0.99)),
        mib(watch.growth()[1]),
        ", ".join(f"{count} {kind}" for kind, count in sorted(others.items())),
    ]


def main() -> int:
    told = arguments(__doc__, seconds=60.0, of="of each phase").parse_args()
    report = Report("overload", head=HEAD)
    with Lab() as lab:
        ports = [start_origin(lab, delay=SERVICE, slots=SLOTS) for _ in range(INSTANCES)]
        site = stage(lab).site("triage")
        more = f'max_inflight = {SLOTS}\nqueue = {{ size = {QUEUE_SIZE}, timeout = "{QUEUE_TIMEOUT:g}s" }}'
        running = start_gateway(lab, site, gateway(site, tls=False) + app("web", ports, more))
        plan = Plan(port=site.port, rate=0, seconds=0, connections=4000, timeout=10.0, kind=fault_of)

        nominal = INSTANCES * SLOTS / SERVICE
        say(f"measuring capacity ({nominal:,.0f}/s on paper)")
        probing = min(10.0, told.seconds)
        probe, _ = flood(running, plan, nominal * 1.3, probing)
        capacity = (probe.good_answers(probing) - probe.good_answers(probing / 4)) / (probing * 3 / 4)
        report.notes.append(
            f"{INSTANCES} instances with {SLOTS} slots of {SERVICE * 1e3:g} ms serve {nominal:,.0f}/s "
            f"on paper, {capacity:,.0f}/s measured; queue of {QUEUE_SIZE}, {QUEUE_TIMEOUT:g} s."
        )
        normal, watch = flood(running, plan, capacity / 2, told.seconds / 4)
        normal_p99 = percentile(normal.good(), 0.99)
        report.rows.append(row("normal", capacity / 2, told.seconds / 4, normal, watch))

        rates: dict[int, float] = {}
        for times in TIMES:
            say(f"{times} times capacity, {told.seconds:g} s")
            then = (capacity / 2, RECOVERED_AFTER + 5.0) if times == max(TIMES) else None
            result, watch = flood(running, plan, capacity * times, told.seconds, then)
            rates[times] = result.good_answers(told.seconds) / told.seconds
            report.rows.append(row(f"{times}x", capacity * times, told.seconds, result, watch))
            phase(report, times, result, told.seconds, normal_p99, watch)
            if then:
                took = recovered(result, told.seconds, 2 * normal_p99)
                kept = took <= RECOVERED_AFTER
                report.check("normal again after", f"{took:.2f} s", f"≤ {RECOVERED_AFTER:g} s", kept)
        share = rates[max(TIMES)] / rates[1]
        report.check(f"good at {max(TIMES)}x against 1x", f"{share:.1%}", "≥ 90 %", share >= 0.9)
    return report.finish(told)


def phase(report: Report, times: int, result: Result, seconds: float, normal_p99: float, watch: Watch) -> None:
    """The limits of one phase."""
    limit = QUEUE_TIMEOUT + 2 * normal_p99
    p99 = percentile(result.good(0.0, seconds), 0.99)
    report.check(f"{times}x: p99 of the good", ms(p99), f"≤ {ms(limit)}", p99 <= limit)
    before, after = watch.growth()
    report.check(f"{times}x: memory flat", f"{mib(before)} → {mib(after)}", "+5 % + 2 MiB", flat(before, after))
    if times > 1:
        full = percentile(queue_full(result, seconds), 0.99)
        said = "not said once" if math.isnan(full) else ms(full)
        report.check(f"{times}x: queue-full p99", said, f"≤ {ms(QUEUE_FULL)}", full <= QUEUE_FULL)
    odd = sum(count for kind, count in result.counts().items() if kind in open_loop.FAILURES)
    report.check(f"{times}x: requests without an answer", str(odd), "0", odd == 0)


def recovered(result: Result, flood_ended: float, limit: float, step: float = 0.25) -> float:
    """Seconds after the flood until every later step had only good answers, 99 % of them within the limit."""
    last_bad = since = flood_ended
    end = max(result.due)
    while since < end:
        good = result.good(since, since + step)
        if sum(result.counts(since, since + step).values()) > len(good) or percentile(good, 0.99) > limit:
            last_bad = since + step
        since += step
    return last_bad - flood_ended


if __name__ == "__main__":
    finish_with(main)
