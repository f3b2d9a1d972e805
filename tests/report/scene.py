"""Session folders as tests need them: one of a real process, and the values that control would have written."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil

from proxy.diagnostics.analyzers.contract import Analysis, Check, Finding, Proof, Remedy, Rival
from proxy.link.messages import Attempt, Record
from proxy.link.session import (
    App,
    Deploy,
    Event,
    ExceptionGroup,
    Exit,
    Incident,
    Input,
    Instance,
    Known,
    Line,
    Outcome,
    Ring,
    Step,
    Worker,
)  # fmt: skip
from tests.e2e.support import LONG, ROOT, until

APP = Path(__file__).with_name("app.py")


@contextlib.contextmanager
def running(threads: int = 12) -> Iterator[subprocess.Popen[str]]:
    """The app of this folder with a peer that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=threads + 8) as peer:
        process = subprocess.Popen(
            [sys.executable, str(APP), str(peer.getsockname()[1]), str(threads)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("ready")
            yield process
        finally:
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()


def instance(process: subprocess.Popen[str], name: str = "shop-3") -> Instance:
    """As control tells of it."""
    found = psutil.Process(process.pid)
    ticks = int(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19])
    return Instance(
        name=name, pid=process.pid, started=ticks, started_at=found.create_time(), ready_at=found.create_time() + 1,
        lifecycle="ready", in_flight=12, slots=12, memory=found.memory_info().rss, memory_limit=512_000_000,
        probe="GET /healthz: 200 in 3 ms", probe_status=200, probe_seconds=0.003, listens_on=["127.0.0.1:40001"],
    )  # fmt: skip


def known(at: float, *instances: Instance, seconds: int = 900, **more: Any) -> Known:
    """A quarter of an hour in which something began to fail five minutes ago."""
    start = int(at) - seconds
    bad = seconds * 2 // 3
    first = instances[0].name if instances else ""
    values: dict[str, list[float | None]] = {
        "requests": [176.0] * seconds, "errors": [0.0] * seconds, "p50": [0.042] * bad + [9.8] * (seconds - bad),
        "p99": [0.3] * bad + [13.1] * (seconds - bad), "in_flight": [8.0] * bad + [200.0] * (seconds - bad),
        "queue": [0.0] * bad + [798.0] * (seconds - bad), "ready": [2.0] * seconds,
    }  # fmt: skip
    faults = {"queue-timeout": [0] * bad + [160] * (seconds - bad)}
    each: dict[str, list[float | None]] = {
        "cpu": [0.2] * seconds, "memory": [180e6 + 1e5 * n for n in range(seconds)], "threads": [120.0] * seconds,
        "descriptors": [64.0] * seconds, "p99": [0.1] * seconds,
    }  # fmt: skip
    records = [
        Record(
            f"{n:012x}", at - n, 0, "shop", first, "203.0.113.9", "POST" if n % 3 else "GET", "shop.example.com",
            f"/orders/{n}?card=4111-1111-1111-1111", 503, "queue-timeout", total_us=5_001_000, queue_us=5_000_000,
            sent=1912 * (n % 2),
            attempts=[Attempt(first, "head-timeout", sent=1912)] if n % 2 else None,
        )
        for n in range(120)
    ]  # fmt: skip
    app = App(
        name="shop", state="degraded", verdict="shop is degraded: 89 % of requests fail.", wanted=2, ready=2,
        command=["python", "app.py", "--token", "abc"], cwd=str(APP.parent), max_inflight=100, queue_size=1000,
        queue_timeout=5.0, connect=2.0, first_byte=30.0, in_flight=200, waiting=798, version="1.4.2",
    )  # fmt: skip
    return Known(
        at=at, app=app, instances=list(instances), records=records,
        rings={
            "": Ring(start=start, length=seconds, values=values, faults=faults),
            **{one.name: Ring(start=start, length=seconds, values=each) for one in instances},
        },
        exits=[Exit(instance="shop-1", at=at - 700, lasted=1100, words="exit code 3", code=3, by_itself=True)],
        events=[
            Event(id=1, at=at - 700, kind="exited", text="shop-1 ended: exit code 3", app="shop", instance="shop-1"),
            Event(id=2, at=at - 300, kind="incident-opened", text="INC-32 opened: queue-timeout", app="shop"),
        ],
        incidents=[Incident(id="INC-32", scope="app", app="shop", severity="degraded", signal="faults",
                            cause="No slot comes free.", certainty="likely", began_at=at - 300)],
        deploys=[Deploy(at=at - 800, what="deployed", text="commit 1f2e3d", version="1.4.2")],
        exceptions=[ExceptionGroup(fingerprint="ab", runtime="python", type="LookupError", message="no price",
                                   where="app.py:12 price", count=4, first_at=at - 600, last_at=at - 20, lately=4,
                                   instances=[first],
                                   sample=["Traceback (most recent call last):", "LookupError: no price"])],
        lines={first: [Line(at=at - 60 + n, stream="err" if n % 9 == 0 else "out",
                    text=f"line {n}") for n in range(60)]},
        workers=[Worker(slot=0, pid=os.getpid(), state="serving", lag=0.0004, connections=3)],
        self_check="200 in 0.4 ms", **more,
    )  # fmt: skip


def finding(**more: Any) -> Finding:
    """The one of a slow peer."""
    given: dict[str, Any] = {
        "id": "slow-dependency", "title": "10.0.3.12:5432 (PostgreSQL, by its port) answers slowly",
        "cause": "10.0.3.12:5432 (PostgreSQL, by its port) answers slowly: 193, 191 and 194 of 200 requests wait at "
                 "one line in three rounds of stacks, catalog.py:212 load_prices.",
        "severity": "critical", "certainty": "very likely", "care": "160 of 180 requests a second get a 503.",
        "since": time.time() - 300, "analyzer": "slow-dependency", "charts": ["in_flight", "p99"],
        "evidence": [Proof(text="193, 191 and 194 of 200 threads stand at catalog.py:212.", source="shop-3/stacks"),
                     Proof(text="194 connections to 10.0.3.12:5432 have a question out.", source="shop-3/sockets")],
        "against": [Proof(text="6 threads wait elsewhere.", source="shop-3/stacks")],
        "rivals": [Rival(cause="a deadlock", speaks_for=["All slots are taken."],
                against=["20 requests a second finish."])],
        "unknown": "Why it is slow can't be seen from this machine.",
        "remedies": [
            Remedy(tag="mitigation", text="Let fewer wait, so that others get an answer sooner.",
                   command="triage restart shop", act="apps/shop/restart", fields={"reason": "slow peer"},
                   expect="Nothing, while the peer is slow.", dont=True),
            Remedy(tag="investigation", text="Look at its load, locks and longest queries.", expect="Shows why."),
            Remedy(tag="mitigation", text="Raise the number of instances.", command="triage scale shop 4",
                   act="apps/shop/scale", fields={"instances": 4},
                   expect="Twice the slots, and twice the connections."),
            Remedy(tag="prevention", text="Give that call a time limit in the app."),
        ],
        "faults": ["queue-timeout"],
    }  # fmt: skip
    return Finding(**given | more)


def analysis(*findings: Finding) -> Analysis:
    """With checks of each state."""
    first = findings[0] if findings else None
    nothing = "Nothing is wrong with shop, as far as could be seen."
    return Analysis(
        at=time.time(), findings=list(findings), top=first.id if first else "",
        verdict=f"{first.certainty.capitalize()}: {first.title}." if first else nothing,
        checks=[
            Check(analyzer="slow-dependency", title="A slow peer", state="found", words="One answers slowly."),
            Check(analyzer="deadlock", title="Deadlock", state="passed",
                words="No thread waited for a lock in all rounds."),
            Check(analyzer="leak", title="Memory leak", state="inconclusive",
                words="Not looked at: there is no types."),
        ],
    )  # fmt: skip


def folder_of(place: Path, given: Input, found: Analysis | None = None, outcome: Outcome | None = None) -> Path:
    """A session's folder with what control and the stages before the report write, but for artifacts."""
    place.mkdir(parents=True, exist_ok=True)
    outcome = outcome or Outcome(
        state="analyzing", began=given.at, until=given.at + given.seconds,
        steps=[Step(name="memory_dump", title="Memory dump", instance="shop-3", state="no room", why="it needs 2 GB")],
    )
    for name, value in (
        ("input.json", given), ("known.json", given.known), ("findings.json", found), ("outcome.json", outcome),
    ):  # fmt: skip
        if value is not None:
            (place / name).write_bytes(msgspec.json.encode(value))
    return place


def session(place: Path, given: Input) -> Outcome:
    """Run a whole session of what `given` names, in a process of its own, to its end."""
    place.mkdir(parents=True, exist_ok=True)
    (place / "input.json").write_bytes(msgspec.json.encode(given))
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "proxy.diagnostics.session", str(place)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        until(lambda: process.poll() is not None, "the session has ended", given.seconds + LONG)
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()
    return msgspec.json.decode((place / "outcome.json").read_bytes(), type=Outcome)
