"""A healthy day in a few minutes: every kind of traffic, and deploys. No rule may fire, nothing may fail.

`python -m loadtests.healthy_day [--seconds 180] [--rate 60] [--write]`

The sample shop on three instances, everything a default but `watch`: pages and orders at a rate that swells and falls,
requests that are slow but fine, uploads, downloads, server-sent events, WebSockets, and a deploy by touching a watched
file four times in the day. What fails, and every event that says that Triage did something about it, is a finding.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from loadtests.api import Api
from loadtests.chaos import DOCUMENT
from loadtests.gateway import start_gateway
from loadtests.lab import REPOSITORY, Lab
from loadtests.peers.triage import gateway
from loadtests.report import Report, arguments, finish_with, say
from loadtests.stage import answers, stage

WELL: Final = frozenset(
    {
        "starting", "started", "ready", "draining", "stopping", "stopped", "gone", "deployed", "changed", "limits",
        "restart", "restart-done", "recycle", "recycle-done", "worker-started", "reload", "hint",
    }
)  # fmt: skip
"""Kinds of event that a healthy day with deploys has. Any other is a finding: someone has to say that it is well."""


class Day:
    """All that goes on, and what became of it."""

    def __init__(self, port: int, rate: float, seconds: float) -> None:
        self.port = port
        self.rate = rate
        self.seconds = seconds
        self.done: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.began = time.monotonic()

    @property
    def left(self) -> float:
        return self.seconds - (time.monotonic() - self.began)

    async def run(self) -> None:
        many: list[Awaitable[None]] = [
            self.pages(),
            self.again("slow but fine", 0.5, self.slow),
            self.again("upload", 0.7, self.upload),
            self.again("download", 0.9, self.download),
            *(self.again("server-sent events", 0.1, self.events) for _ in range(3)),
            *(self.again("websocket", 0.1, self.websocket) for _ in range(3)),
        ]
        await asyncio.gather(*many)

    async def again(self, name: str, pause: float, one: Callable[[], Awaitable[str]]) -> None:
        """One after the other until the day is over."""
        while self.left > 0:
            await self.noted(name, one())
            await asyncio.sleep(pause)

    async def noted(self, name: str, one: Awaitable[str]) -> None:
        """`one` says what was wrong, or nothing."""
        try:
            wrong = await one
        except (OSError, EOFError, ConnectionClosed, TimeoutError) as error:
            wrong = repr(error)
        self.done[name] += 1
        if wrong:
            self.failed[f"{name}: {wrong}"] += 1

    async def pages(self) -> None:
        """Fast ones, swelling and falling as a day does."""
        running: set[asyncio.Task[None]] = set()
        number = 0
        while self.left > 0:
            kind = ("GET", "/products", b"") if number % 5 else ("POST", "/echo", b"an order, please")
            task = asyncio.create_task(self.noted("page" if number % 5 else "order", self.ask(*kind)))
            running.add(task)
            task.add_done_callback(running.discard)
            number += 1
            hour = 2 * math.pi * (1 - self.left / self.seconds)
            await asyncio.sleep(1 / (self.rate * (1.1 - math.cos(hour)) / 2))
        await asyncio.gather(*running)

    async def slow(self) -> str:
        return await self.ask("GET", "/slow?s=2.5")

    async def upload(self) -> str:
        return await self.ask("POST", "/echo", b"x" * 3_000_000, pace=0.02)

    async def download(self) -> str:
        return await self.ask("GET", "/stream?n=30&s=0.1")

    async def events(self) -> str:
        return await self.ask("GET", f"/sse?n={max(1, int(min(20.0, self.left)))}&s=1")

    async def websocket(self) -> str:
        """A tunnel that is drained ends in order: that is no failure, and the client comes again."""
        async with connect(f"ws://127.0.0.1:{self.port}/ws", proxy=None) as tunnel:
            end = min(self.left, 15.0) + time.monotonic()
            with contextlib.suppress(ConnectionClosed):
                while time.monotonic() < end:
                    await tunnel.send("ping")
                    if await tunnel.recv() != "ping":
                        return "something else came back"
                    await asyncio.sleep(1.0)
        return ""

    async def ask(self, method: str, target: str, content: bytes = b"", pace: float = 0.0) -> str:
        """What was wrong with the answer; content goes in pieces when there is a pace."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(
                f"{method} {target} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n"
                f"Content-Length: {len(content)}\r\n\r\n".encode()
            )
            for at in range(0, len(content), 65536):
                writer.write(content[at : at + 65536])
                await writer.drain()
                await asyncio.sleep(pace)
            answer = await reader.read(-1)
        finally:
            writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            return head.partition(b"\r\n")[0].decode() or "no answer"
        if b"chunked" in head.lower() and not body.endswith(b"0\r\n\r\n"):
            return "cut short"
        return "" if method == "GET" or body.endswith(content) or b"chunked" in head.lower() else "another body"


def main() -> int:
    parser = arguments(__doc__, seconds=180.0, of="that the day lasts", document=DOCUMENT)
    parser.add_argument("--rate", type=float, default=60.0, help="pages a second at noon")
    parser.add_argument("--deploys", type=int, default=4)
    told = parser.parse_args()
    report = Report("healthy_day", head=("traffic", "done", "failed"))
    with Lab() as lab:
        site = stage(lab).site("triage")
        folder = lab.folder / "shop"
        shutil.copytree(REPOSITORY / "examples" / "shop", folder)
        running = start_gateway(
            lab, site, gateway(site, tls=False) + app(folder), ready=lambda: answers(site.port, "/products")
        )
        api = Api(site.admin_port, site.folder / "data" / "admin.token")
        while sum(one["lifecycle"] == "ready" for one in api.get("apps/shop/instances")["items"]) < 3:
            time.sleep(0.1)
        first = max(int(event["id"]) for event in api.get("events?limit=1")["items"])
        day = Day(site.port, told.rate, told.seconds)
        asyncio.run(whole(day, folder / "app.py", told.deploys))
        lab.wait_until(lambda: at_rest(api), running.process, "the last deploy done", deadline=90.0)
        found = sorted((event for event in api.events(first)), key=lambda event: int(event["id"]))
        state = api.get("apps/shop")
        rules = api.get("autoheal")
        newest = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime((folder / "app.py").stat().st_mtime))
        said = running.said(lab)
    for name, done in sorted(day.done.items()):
        failed = sum(count for what, count in day.failed.items() if what.startswith(f"{name}:"))
        report.rows.append([name, str(done), str(failed)])
    judge(report, day, found, state, rules, told.deploys, newest)
    if not report.kept:
        say("\n".join(f"{event['time']} {event['kind']}: {event['words']}" for event in found))
        say(said)
    return report.finish(told, DOCUMENT)


def at_rest(api: Api) -> bool:
    """No operation goes on."""
    return not any(one["state"] == "running" for one in api.get("operations")["items"])


async def whole(day: Day, file: Path, deploys: int) -> None:
    """The traffic, and deploys at equal distances."""

    async def deploy() -> None:
        for number in range(deploys):
            await asyncio.sleep(day.seconds / (deploys + 1))
            say(f"deploy {number + 1} after {day.seconds - day.left:.0f} s")
            file.write_text(file.read_text() + f"\n# deploy {number + 1}\n")

    await asyncio.gather(day.run(), deploy())


def judge(
    report: Report,
    day: Day,
    found: list[dict[str, Any]],
    state: dict[str, Any],
    rules: dict[str, Any],
    deploys: int,
    newest: str,
) -> None:
    """What must hold of a healthy day."""
    failed = day.failed.total()
    report.check("requests failed", str(failed), "0", not failed)
    faults = sum(state["faults"].values())
    report.check("faults counted", str(faults), "0", not faults)
    odd = [event for event in found if event["kind"] not in WELL or str(event["data"].get("by", "")).startswith("rule")]
    report.check("events of mending", str(len(odd)), "0", not odd)
    noticed = sum(event["kind"] == "deployed" for event in found)  # one that comes while another goes on joins it
    report.check("deploys noticed", str(noticed), f"1 to {deploys}", 1 <= noticed <= deploys)
    versions = {one["version"] for one in state["instances"]}
    report.check("versions that run", ", ".join(sorted(versions)), newest, versions == {newest})
    names = [rule["name"] for each in rules["items"] for rule in each["rules"]]
    report.notes.append(f"Rules that looked at it all day: {', '.join(names)}.")
    report.notes += [f"Failed: {count} × {what}." for what, count in day.failed.most_common(10)]
    if faults:
        report.notes.append(f"Faults: {state['faults']}.")
    report.notes += [f"Event {event['kind']}: {event['words']}." for event in odd[:10]]


def app(folder: Path) -> str:
    user = 'user = "root"' if os.geteuid() == 0 else ""
    return f"""
[apps.shop.process]
command = "{sys.executable} app.py --port {{port}}"
cwd = "{folder}"
instances = 3
watch = ["*.py"]
{user}

[apps.shop.health]
path = "/healthz"
"""


if __name__ == "__main__":
    finish_with(main)
