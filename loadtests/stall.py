"""The longest time a worker's loop stood still, at half of saturation.

`python -m loadtests.stall [--seconds 600]`

From inside: the largest loop lag that /metrics shows. From outside: a probe in its own process asks once
every 5 ms over one connection, in turn through the gateway and direct to the origin; what stalls both is the
machine, not the gateway.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import threading
import time
from typing import Final, Self

from loadtests import open_loop, wrk
from loadtests.gateway import Gateway, start_gateway
from loadtests.lab import Failed, Lab, python
from loadtests.open_loop import Plan, percentile
from loadtests.peers.triage import app, gateway
from loadtests.report import Report, arguments, finish_with, ms, say
from loadtests.stage import stage
from loadtests.works import WORKS

STALL: Final = 0.020
EVERY: Final = 0.005
LAG: Final = "loop_lag"
LOOK: Final = 0.4  # seconds between looks at /metrics


def probe(ports: list[int], seconds: float) -> dict[int, list[float]]:
    """Latencies over one connection to each port, asked in turn every EVERY seconds."""
    found: dict[int, list[float]] = {port: [] for port in ports}
    request = Plan(port=0, rate=0, seconds=0).requests[0]
    open_ = {port: socket.create_connection(("127.0.0.1", port), timeout=30.0) for port in ports}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for port, connection in open_.items():
            began = time.perf_counter()
            connection.sendall(request)
            if not connection.recv(65536).startswith(b"HTTP/1.1 200"):
                raise Failed(f"port {port} answered wrongly")
            found[port].append(time.perf_counter() - began)
            time.sleep(EVERY)
    return found


def largest_lag(running: Gateway) -> float | None:
    """The largest loop lag of a worker in seconds, from whatever series shows it; None when none does."""
    series = {
        name: value
        for name, value in running.metrics(LAG).items()
        if "control" not in name and not any(part in name for part in ("_bucket", "_count", "_sum", "_created"))
    }
    largest = {name: value for name, value in series.items() if "max" in name} or series
    return max(largest.values(), default=None)


class LagWatch:
    """Reads the lag more often than the half second that the gauge covers, in a thread; `largest` of all."""

    def __init__(self, running: Gateway) -> None:
        self.running = running
        self.largest: float | None = None
        self.missed = 0  # looks that got no answer
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *ignored: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(LOOK):
            try:
                lag = largest_lag(self.running)
            except (Failed, OSError):
                self.missed += 1
                continue
            if lag is not None:
                self.largest = max(self.largest or 0.0, lag)


def main() -> int:
    parser = arguments(__doc__, seconds=600.0, of="of load")
    parser.add_argument("--probe", help=argparse.SUPPRESS)  # the probe's own process: ports, then JSON on stdout
    told = parser.parse_args()
    if told.probe:
        ports = [int(port) for port in told.probe.split(",")]
        print(json.dumps({port: sorted(values) for port, values in probe(ports, told.seconds).items()}))
        return 0
    report = Report("stall", head=("way", "answers", "p50", "p99", "longest"))
    with Lab() as lab:
        standing = stage(lab)
        site = standing.site("triage")
        running = start_gateway(lab, site, gateway(site, tls=False) + app("web", [standing.origin_port]))
        work = WORKS["small"]
        figures = wrk.run(work, site.port, 5.0, lab.folder)
        if why := wrk.wrong(figures, work):
            raise Failed(f"at saturation: {why}")
        rate = figures.rate / 2
        say(f"{rate:,.0f} requests a second for {told.seconds:g} s")
        ways = {"through triage": site.port, "direct": standing.origin_port}
        output = lab.folder / "probe"
        argv = python(
            "loadtests.stall",
            "--probe",
            ",".join(str(port) for port in ways.values()),
            "--seconds",
            str(told.seconds),
        )
        probing = lab.start(argv, core=lab.generator_core, output=output)
        answered = wanted = 0
        end = time.monotonic() + told.seconds
        watch = LagWatch(running)
        with watch:
            while (left := end - time.monotonic()) > 0.5:
                # In pieces: ten minutes' outcomes are much memory.
                result = open_loop.run(Plan(port=site.port, rate=rate, seconds=min(10.0, left), connections=256))
                answered += len(result.good())
                wanted += len(result.due)
                running.running().forget_log()
        if probing.wait(timeout=60.0):
            raise Failed(f"the probe ended badly:\n{lab.said(probing)}")
        latencies = json.loads(output.read_text())
    for way, port in ways.items():
        found = latencies[str(port)]
        row = [way, str(len(found)), ms(percentile(found, 0.5)), ms(percentile(found, 0.99)), ms(found[-1])]
        report.rows.append(row)
    lag = watch.largest
    said = f"no series with {LAG} in /metrics" if lag is None else ms(lag)
    if watch.missed:
        report.notes.append(f"/metrics gave no answer {watch.missed} times: a stall may have been missed.")
    report.check(
        "largest loop lag of the worker, by its own account", said, f"≤ {ms(STALL)}", lag is not None and lag <= STALL
    )
    report.check("good answers", f"{answered} of {wanted}", "all", answered == wanted)
    report.notes.append(f"{rate:,.0f} requests a second, half of what it serves to wrk here, for {told.seconds:g} s.")
    return report.finish(told)


if __name__ == "__main__":
    try:
        finish_with(main)
    finally:
        sys.stdout.flush()
