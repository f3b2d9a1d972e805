"""How soon one sees that an app fails, and what it costs when many look.

`python -m loadtests.how_seen [--times 5] [--seconds 10] [--dashboards 200] [--write]`

An app that was well closes each connection without an answer from one moment on. Measured from the first answer with a
fault: a dashboard's stream says so, an incident is open, a webhook has the message. Then many dashboards are open at
once, one of which never reads: what control pays, and what a client of the app notices of it.
"""

from __future__ import annotations

import http.client
import threading
import time
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import orjson

from loadtests import open_loop, procs
from loadtests.api import Api
from loadtests.ask import get
from loadtests.gateway import Gateway, start_gateway
from loadtests.lab import Failed, Lab
from loadtests.open_loop import Plan, percentile
from loadtests.peers.triage import app, gateway
from loadtests.report import Report, arguments, finish_with, ms, say
from loadtests.stage import become, stage, start_origin

DASHBOARD: Final = 1.0
INCIDENT: Final = 5.0
MESSAGE: Final = 15.0
WITHIN: Final = 60.0
SHARE: Final = 0.30  # of a core, that control may pay for all dashboards
RATE: Final = 500.0


class Receiver:
    """Takes webhooks: when each came, and what it said."""

    def __init__(self) -> None:
        self.came: list[tuple[float, dict[str, Any]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = orjson.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.came.append((time.monotonic(), body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Dashboard:
    """One stream of what the dashboard shows, read by a thread; `reads` false: it is opened and never read."""

    def __init__(self, api: Api, reads: bool = True) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=WITHIN)
        token = api.token.read_text().strip()
        self.connection.request(
            "GET", "/api/v1/metrics/stream?follow=true", headers={"Authorization": f"Bearer {token}"}
        )
        self.answer = self.connection.getresponse()
        if self.answer.status != 200:
            raise Failed(f"the stream answered {self.answer.status}: {self.answer.read()[:200]!r}")
        self.messages = 0
        self.failing_at = 0.0
        self.over = False
        if reads:
            threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            for line in self.answer:
                if not line.startswith(b"data:"):
                    continue
                self.messages += 1
                if not self.failing_at:
                    told = orjson.loads(line[5:])
                    if told.get("fault") or any(one["faults_per_s"] > 0 for one in told.get("apps", ())):
                        self.failing_at = time.monotonic()
        except (OSError, ValueError, AttributeError, http.client.HTTPException):
            pass  # it was closed
        self.over = True

    def close(self) -> None:
        self.connection.close()


def main() -> int:
    parser = arguments(__doc__, seconds=10.0, of="that dashboards are open")
    parser.add_argument("--times", type=int, default=5, help="that the app fails")
    parser.add_argument("--dashboards", type=int, default=200, help="open at once")
    told = parser.parse_args()
    report = Report("how_seen")
    seen: dict[str, list[float]] = {"dashboard": [], "incident": [], "message": []}
    for number in range(told.times):
        say(f"an app fails, {number + 1} of {told.times}")
        for what, took in fails().items():
            seen[what].append(took)
    limit(report, "a dashboard shows the first fault", seen["dashboard"], DASHBOARD)
    limit(report, "an incident is open", seen["incident"], INCIDENT)
    limit(report, "a webhook has the message", seen["message"], MESSAGE)
    many(report, told.dashboards, told.seconds)
    return report.finish(told)


def limit(report: Report, what: str, took: list[float], most: float) -> None:
    """The median and the longest; the longest counts."""
    middle = sorted(took)[len(took) // 2]
    report.check(f"from the first fault: {what}", f"{middle:.2f} s, longest {max(took):.2f} s", f"≤ {most:g} s",
                 max(took) <= most)  # fmt: skip


def begin(lab: Lab, more: str = "") -> tuple[Gateway, Api, int]:
    """A gateway with one app that is well, and its origin's port."""
    standing = stage(lab)
    site = standing.site("triage")
    origin = start_origin(lab)
    config = gateway(site, tls=False) + app("good", [standing.origin_port], 'paths = ["/small"]')
    config += app("web", [origin], 'paths = ["/web"]') + more
    running = start_gateway(lab, site, config)
    return running, Api(site.admin_port, site.folder / "data" / "admin.token"), origin


def fails() -> dict[str, float]:
    """Seconds from the first fault to each sign of it."""
    receiver = Receiver()
    with Lab() as lab:
        running, api, origin = begin(lab, f'\n[notify.ops]\nwebhook = "http://127.0.0.1:{receiver.port}/hook"\n')
        port = running.site.port
        for _ in range(50):
            get(port, "/web")
        dashboard = Dashboard(api)
        until(lambda: dashboard.messages > 1, "the dashboard gets its news")
        become(origin, fail="close")
        began = incident = 0.0
        end = time.monotonic() + WITHIN
        while time.monotonic() < end:
            if get(port, "/web").status >= 500 and not began:
                began = time.monotonic()
            if began and not incident and api.get("incidents?open=true")["items"]:
                incident = time.monotonic()
            if incident and receiver.came and dashboard.failing_at:
                break
            time.sleep(0.02)
        dashboard.close()
        receiver.server.shutdown()
        receiver.server.server_close()
        if not (incident and receiver.came and dashboard.failing_at):
            raise Failed(f"not all was seen within {WITHIN:g} s: incident {incident}, message {receiver.came}")
        return {
            "dashboard": max(0.0, dashboard.failing_at - began),
            "incident": incident - began,
            "message": receiver.came[0][0] - began,
        }


def until(condition: Any, what: str) -> None:
    end = time.monotonic() + WITHIN
    while not condition():
        if time.monotonic() > end:
            raise Failed(f"not within {WITHIN:g} s: {what}")
        time.sleep(0.02)


def many(report: Report, count: int, seconds: float) -> None:
    """What control pays for `count` dashboards, and what a client of the app notices."""
    with Lab() as lab, ExitStack() as stack:
        running, api, _ = begin(lab)
        plan = Plan(port=running.site.port, rate=RATE, seconds=seconds, targets=("/small",), connections=50)
        shares, tails = {}, {}
        for open_ in (0, count):
            say(f"{open_} dashboards for {seconds:g} s")
            boards = [Dashboard(api, reads=number > 0) for number in range(open_)]
            for board in boards:
                stack.callback(board.close)
            control = running.control()
            before, began = procs.cpu_seconds([control]), time.monotonic()
            result = open_loop.run(plan)
            shares[open_] = (procs.cpu_seconds([control]) - before) / (time.monotonic() - began)
            tails[open_] = percentile(sorted(result.latency), 0.99)
            good = result.counts().get("200", 0)
            report.check(f"{open_} dashboards: good answers", f"{good} of {len(result.latency)}", "all",
                         good == len(result.latency))  # fmt: skip
        served = [board.messages for board in boards[1:]]
        report.check(f"{count} dashboards: each gets its news", f"{min(served)} to {max(served)} messages",
                     f"≥ {seconds * 0.8:.0f}", min(served) >= seconds * 0.8)  # fmt: skip
        report.check(f"{count} dashboards: control's share of a core", f"{shares[0]:.1%} → {shares[count]:.1%}",
                     f"≤ {SHARE:.0%}", shares[count] <= SHARE)  # fmt: skip
        report.notes.append(f"p99 of a GET meanwhile: {ms(tails[0])} without, {ms(tails[count])} with {count}.")


if __name__ == "__main__":
    finish_with(main)
