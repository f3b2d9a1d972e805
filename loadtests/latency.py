"""What the gateway adds: to one connection without load, and at half of its saturation.

`python -m loadtests.latency [--seconds 5] [--rounds 5]`

Direct to the origin, through nginx and through Triage, in turn. Without load: one request after the other
over one connection. At half of saturation: an open loop at half of what Triage serves to wrk here, the same
rate for all three, so that what the generator itself adds stands in all of them.
"""

from __future__ import annotations

import socket
import statistics
import time
from typing import Final

from loadtests import open_loop, wrk
from loadtests.lab import Failed, Lab
from loadtests.open_loop import Plan, percentile
from loadtests.peers import PEERS, start
from loadtests.report import Report, arguments, finish_with, ms, say
from loadtests.stage import stage
from loadtests.works import WORKS

ADDED: Final = 0.0003  # at the median, without load
ADDED_P99: Final = 0.001  # more than nginx adds, at half of saturation
DIRECT: Final = "direct"
HALF: Final = 0.5
FILLING: Final = 0.5  # seconds in which the generator's connections are made: left out


def alone(port: int, seconds: float) -> list[float]:
    """Sorted latencies of requests sent one after the other over one connection."""
    request = Plan(port=port, rate=0, seconds=0).requests[0]
    found = []
    with socket.create_connection(("127.0.0.1", port), timeout=10.0) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        end = time.perf_counter() + seconds
        while (began := time.perf_counter()) < end:
            connection.sendall(request)
            answer = b""
            while not answer.endswith(b"x"):
                part = connection.recv(65536)
                if not part:
                    raise Failed("the connection was closed")
                answer += part
            found.append(time.perf_counter() - began)
            if not answer.startswith(b"HTTP/1.1 200"):
                raise Failed(f"answered {answer[:60]!r}")
    return sorted(found)


def main() -> int:
    parser = arguments(__doc__, seconds=5.0, of="of each run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--peers", default="nginx,triage", help="compared with going direct; the last one sets the rate"
    )
    told = parser.parse_args()
    report = Report(
        "latency",
        head=("way", "alone p50", "alone p99", "added p50", "loaded p50", "loaded p99", "added p99"),
    )
    quiet: dict[str, list[list[float]]] = {}
    loaded: dict[str, list[list[float]]] = {}
    with Lab() as lab:
        standing = stage(lab)
        running = {name: start(lab, PEERS[name], standing.site(name)) for name in told.peers.split(",")}
        ports = {DIRECT: standing.origin_port, **{name: each.site.port for name, each in running.items()}}
        last = list(running)[-1]
        work = WORKS["small"]
        figures = wrk.run(work, ports[last], told.seconds, lab.folder)
        if why := wrk.wrong(figures, work):
            raise Failed(f"{last} at saturation: {why}")
        rate = figures.rate * HALF
        report.notes.append(f"{last} serves {figures.rate:,.0f}/s to wrk here; half of it is {rate:,.0f}/s.")
        for round_ in range(told.rounds):
            for name, port in ports.items():
                say(f"round {round_ + 1} of {told.rounds}, {name}")
                quiet.setdefault(name, []).append(alone(port, told.seconds / 2))
                result = open_loop.run(Plan(port=port, rate=rate, seconds=told.seconds, connections=256))
                good = result.good()
                if len(good) < len(result.due):
                    raise Failed(f"{name} at {rate:,.0f}/s: {dict(result.counts())}")
                loaded.setdefault(name, []).append(result.good(since=FILLING))
                for each in running.values():
                    each.forget_log()

    def median(runs: list[list[float]], share: float) -> float:
        return statistics.median(percentile(run, share) for run in runs)

    def added(runs: dict[str, list[list[float]]], name: str, share: float) -> float:
        pairs = zip(runs[name], runs[DIRECT], strict=True)
        return statistics.median(percentile(run, share) - percentile(direct, share) for run, direct in pairs)

    for name in ports:
        report.rows.append(
            [
                name,
                ms(median(quiet[name], 0.5)),
                ms(median(quiet[name], 0.99)),
                ms(added(quiet, name, 0.5)),
                ms(median(loaded[name], 0.5)),
                ms(median(loaded[name], 0.99)),
                ms(added(loaded, name, 0.99)),
            ]
        )
    if "triage" in ports:
        own = added(quiet, "triage", 0.5)
        report.check("added alone, median", ms(own), f"≤ {ms(ADDED)}", own <= ADDED)
    if "triage" in ports and "nginx" in ports:
        pairs = zip(loaded["triage"], loaded["nginx"], strict=True)
        more = statistics.median(percentile(run, 0.99) - percentile(nginx, 0.99) for run, nginx in pairs)
        report.check("added p99 at half of saturation, over nginx's", ms(more), f"≤ {ms(ADDED_P99)}", more <= ADDED_P99)
    return report.finish(told)


if __name__ == "__main__":
    finish_with(main)
