"""`triage upgrade`: the code on disk takes over under load; instances stay, no request fails, a tunnel goes on."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.client import HOST, Load, exchange
from tests.e2e.support import LONG, ROOT, Triage, environment, serve, shop_config, triage, until

pytestmark = pytest.mark.slow

CONFIG = shop_config(gateway='timeouts = { drain = "6s" }')
FILE = "proxy/__init__.py"


class Code:
    """A copy of the package: what is on disk, and may change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(ROOT / "proxy", folder / "proxy", ignore=shutil.ignore_patterns("*.pyc.*"))
        self.release = "0.0.0"

    def change(self, file: str, pattern: str, put: str) -> None:
        path = self.folder / file
        text, count = re.subn(pattern, put, path.read_text(), flags=re.MULTILINE)
        assert count == 1, f"{pattern} is {count} times in {file}"
        path.write_text(text)
        # a compiled file is taken for good by second and size of its source
        moment = time.time() + 10 + len(list(self.folder.rglob("*.pyc")))
        os.utime(path, (moment, moment))

    def become(self, release: str) -> None:
        self.release = release
        self.change(FILE, r'^__version__ = ".*"$', f'__version__ = "{release}"')


@pytest.fixture
def code(folder: Path) -> Code:
    made = Code(folder / "code")
    made.become("1.0.0")
    return made


@pytest.fixture
def shop(folder: Path, code: Code) -> Iterator[Triage]:
    running = serve(folder / "run", CONFIG, PYTHONPATH=str(code.folder))
    try:
        running.await_ready()
        until(lambda: len(running.ready()) == 2, "both instances")
        yield running
    finally:
        running.end()


def releases(shop: Triage) -> dict[str, set[str]]:
    """What each of Triage's processes says of its own code."""
    gateway = shop.api("status")["gateway"]
    return {
        "control": {gateway["version"]},
        "launcher": {gateway["launcher"]["release"]},
        "workers": {worker["release"] for worker in gateway["workers"]},
    }


def all_are(release: str) -> dict[str, set[str]]:
    return {part: {release} for part in ("control", "launcher", "workers")}


def await_all(shop: Triage, release: str) -> None:
    """A worker that has just begun has not said yet what it is of."""
    until(lambda: shop.try_api("status") and releases(shop) == all_are(release), f"all are of {release}")


def pids(shop: Triage) -> dict[str, int]:
    return {one["id"]: one["pid"] for one in shop.ready()}


class Posts(Load):
    """A load of POST requests, each of which must come back whole."""

    def _run(self) -> None:
        import http.client

        connection = http.client.HTTPConnection(HOST, self.port, timeout=LONG)
        with contextlib.closing(connection):
            while not self._stop.is_set():
                self.answers.append(exchange(connection, "/echo", "POST", "x" * 20_000))
                if self.fresh:
                    connection.close()
                self._stop.wait(0.005)


class Tunnel:
    """A WebSocket, spoken by hand: `say` returns what comes back."""

    HEAD = (
        b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection((HOST, port), timeout=LONG)
        self.sock.sendall(self.HEAD)
        self.file = self.sock.makefile("rb")
        assert b" 101 " in self.file.readline()
        while self.file.readline() != b"\r\n":
            pass

    def say(self, text: bytes) -> bytes:
        self.sock.sendall(bytes((0x81, 0x80 | len(text))) + b"\0\0\0\0" + text)
        head = self.file.read(2)
        return self.file.read(head[1])

    def close(self) -> None:
        self.file.close()
        self.sock.close()


class Stream(threading.Thread):
    """Server-sent events, read until they end."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.sock = socket.create_connection((HOST, port), timeout=LONG)
        self.sock.sendall(b"GET /sse?s=0.1&n=40 HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
        self.text = b""
        self.error = ""

    def run(self) -> None:
        try:
            while data := self.sock.recv(65536):
                self.text += data
        except OSError as error:
            self.error = repr(error)
        self.sock.close()


def test_the_code_on_disk_takes_over_under_load(shop: Triage, code: Code) -> None:
    before, launcher, port = pids(shop), shop.pid, shop.port
    await_all(shop, "1.0.0")
    old = {worker["pid"] for worker in shop.workers()}
    tunnel, stream = Tunnel(port), Stream(port)
    stream.start()
    loads = (Load(port), Load(port, clients=4, fresh=True), Posts(port, clients=2), Posts(port, clients=2, fresh=True))
    with contextlib.ExitStack() as stack:
        for load in loads:
            stack.enter_context(load)
        until(lambda: all(load.good > 50 for load in loads), "a load")
        assert tunnel.say(b"before") == b"before"
        code.become("2.0.0")
        done = shop.cli("upgrade")
        assert done.returncode == 0, done.stdout + done.stderr
        aims = [load.good + 50 for load in loads]
        until(lambda: all(load.good >= aim for load, aim in zip(loads, aims, strict=True)), "it goes on")
    for load in loads:
        assert not load.failed, load.summary()
    stream.join(LONG)
    assert not stream.error and stream.text.count(b"data: ") == 40, (stream.error, stream.text[-200:])
    assert shop.pid == launcher and shop.process.poll() is None
    assert releases(shop) == all_are("2.0.0")
    assert not old & {worker["pid"] for worker in shop.workers()} and len(shop.workers()) == 2
    assert pids(shop) == before
    steps = done.stdout
    assert "the code on disk starts: version 2.0.0" in steps and "1.0.0 before, 2.0.0 now" in steps
    events = [one["kind"] for one in shop.api("events", limit=200)["items"]]
    assert "upgrade-done" in events and not {"control-restarted", "worker-died", "exited"} & set(events)
    tunnel.close()


def test_a_tunnel_lives_on_until_the_drain_limit(shop: Triage, code: Code) -> None:
    tunnel = Tunnel(shop.port)
    code.become("2.0.0")
    begun = shop.cli("upgrade", "--no-wait", "--json")
    id = json.loads(begun.stdout)["id"]
    until(
        lambda: (status := shop.try_api("status")) and status["gateway"]["launcher"]["release"] == "2.0.0",
        "a new launcher",
    )
    assert tunnel.say(b"still") == b"still"
    found = shop.api(f"operations/{id}")
    assert found["state"] == "running"
    refused = shop.cli("upgrade")
    assert refused.returncode == 1 and "an upgrade runs already" in refused.stderr
    tunnel.close()
    until(lambda: shop.api(f"operations/{id}")["state"] == "done", "the end of the upgrade")
    assert len(shop.workers()) == 2


BROKEN = (
    ("proxy/dataplane/worker.py", r"^class Worker:$", "class Worker(:", "invalid syntax"),
    ("proxy/link/spawn.py", r"^RESUMES: Final = .*$", "RESUMES: Final = (7,)", "handover is not one of version 7"),
    ("proxy/config/load.py", r"\Z", "raise RuntimeError('not today')\n", "not today"),
)


def test_code_that_cannot_start_changes_nothing(shop: Triage, code: Code) -> None:
    before = (pids(shop), shop.control(), {worker["pid"] for worker in shop.workers()})
    code.become("2.0.0")
    for file, pattern, put, said in BROKEN:
        good = (code.folder / file).read_text()
        code.change(file, pattern, put)
        failed = cli_of_root(shop, "upgrade")
        assert failed.returncode == 1 and said in failed.stderr and "nothing was changed" in failed.stderr, failed
        assert (pids(shop), shop.control(), {worker["pid"] for worker in shop.workers()}) == before
        assert releases(shop) == all_are("1.0.0") and exchange_ok(shop) == []
        (code.folder / file).write_text(good)
    assert shop.cli("upgrade").returncode == 0
    assert releases(shop) == all_are("2.0.0")


def test_other_protocols_are_answered_by_replacing_who_differs(shop: Triage, code: Code) -> None:
    """All three are raised at once: launcher, workers and ledger of the former code are of another version."""
    before = pids(shop)
    code.become("3.0.0")
    code.change("proxy/link/spawn.py", r"^VERSION: Final = 1$", "VERSION: Final = 2")
    code.change("proxy/link/messages.py", r"^PROTOCOL: Final = 1$", "PROTOCOL: Final = 2")
    code.change("proxy/link/board.py", r"^LAYOUT: Final = 1$", "LAYOUT: Final = 2")
    code.change("proxy/control/ledger.py", r"^VERSION: Final = 1$", "VERSION: Final = 2")
    with Load(shop.port, clients=4) as load, Load(shop.port, clients=2, fresh=True) as fresh:
        done = shop.cli("upgrade")
        assert done.returncode == 0, done.stdout + done.stderr
    assert not load.failed and not fresh.failed, f"{load.summary()} | {fresh.summary()}"
    assert releases(shop) == all_are("3.0.0") and pids(shop) == before


def test_a_worker_of_newer_code_makes_the_rest_follow(shop: Triage, code: Code) -> None:
    """The package was replaced, nobody said `upgrade`, and a worker dies: its successor is of the code on disk."""
    before = pids(shop)
    code.become("2.0.0")
    code.change("proxy/link/messages.py", r"^PROTOCOL: Final = 1$", "PROTOCOL: Final = 2")
    os.kill(shop.workers()[0]["pid"], signal.SIGKILL)
    until(lambda: shop.try_api("status") and releases(shop) == all_are("2.0.0"), "all are of the code on disk")
    until(lambda: not [one for one in shop.api("operations")["items"] if one["state"] == "running"], "it is done")
    assert pids(shop) == before and exchange_ok(shop) == []


@pytest.mark.parametrize(("kills", "workers_too"), [(2, False), (3, True)], ids=["control", "everything"])
def test_cut_short_it_goes_on(shop: Triage, code: Code, kills: int, workers_too: bool) -> None:
    """Twice, a new control goes on from the ledger; after three deaths in 10 s it is not given that any more."""
    before = pids(shop)
    code.become("2.0.0")
    id = json.loads(shop.cli("upgrade", "--no-wait", "--json").stdout)["id"]
    for _ in range(kills):
        victims = [until(shop.control, "a control")]
        if workers_too and (found := shop.try_api("status")):
            victims.append(found["gateway"]["workers"][-1]["pid"])
        for pid in filter(None, victims):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        until(lambda killed=victims[0]: shop.control() not in (0, killed), "a new control")  # type: ignore[misc]
        until(lambda: shop.try_api("/readyz"), "it is ready")

    def ended() -> str:
        if shop.try_api("operations") is None or (found := shop.try_api(f"operations/{id}")) is None:
            return "lost" if shop.try_api("operations") is not None else ""
        return str(found["state"]) if found["state"] != "running" else ""

    result = until(ended, "the end of the upgrade")
    if workers_too and result != "done":  # it says how far it came; asked again, it goes to its end
        result = "done" if shop.cli("upgrade").returncode == 0 else "failed"
    assert result == "done", shop.output
    until(lambda: len(shop.workers()) == 2, "two workers")
    await_all(shop, "2.0.0")
    assert pids(shop) == before
    assert exchange_ok(shop) == []


def test_sigterm_meanwhile_ends_it_in_order(folder: Path, code: Code) -> None:
    for delay in (0.3, 1.0):
        running = serve(folder / f"run-{delay}", CONFIG, PYTHONPATH=str(code.folder))
        try:
            running.await_ready()
            assert running.cli("upgrade", "--no-wait").returncode == 0
            time.sleep(delay)  # the moment is what is varied
            running.process.send_signal(signal.SIGTERM)
            assert running.await_exit() == 0, running.output
        finally:
            running.end()


def exchange_ok(shop: Triage) -> list[str]:
    """What went wrong with some requests, on connections new and kept."""
    with Load(shop.port, clients=2) as load:
        until(lambda: len(load.answers) > 20, "answers")
    return [load.summary()] if load.failed else []


def cli_of_root(shop: Triage, *args: str) -> Any:
    """The command from the repository: the copy's own can't be imported."""
    return triage(*args, "--url", shop.admin, cwd=shop.folder, env=environment(shop.marker))
