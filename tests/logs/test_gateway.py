"""Logs of a whole gateway: a real instance that prints, searched and followed, over deaths of control too."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import sqlite3
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.support import MARKER, ROOT, Triage, serve, until

pytestmark = pytest.mark.slow


def config(folder: Path, more: str = "") -> str:
    user = 'user = "root"' if os.geteuid() == 0 else ""
    return f"""\
[gateway]
listen = ["127.0.0.1:0"]
workers = 1
data_dir = "var"
[admin]
listen = "127.0.0.1:0"
[apps.web.diagnose]
on = []
[apps.web.process]
command = "{sys.executable} {ROOT}/tests/logs/app.py {{port}}"
instances = 1
cwd = "{folder}"
inherit_env = ["PATH", "{MARKER}"]
env = {{ API_TOKEN = "x" }}
version = "one"
logs = ["log/*.log"]
{user}
{more}
[apps.web.health]
path = "/healthz"
interval = "1s"
"""


@contextlib.contextmanager
def running() -> Iterator[Triage]:
    folder = Path(tempfile.mkdtemp(prefix="triage-"))
    (folder / "log").mkdir()
    (folder / "log" / "old.log").write_text("from before\n")
    made = serve(folder, config(folder))
    try:
        yield made.await_ready()
    finally:
        made.end()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def triage() -> Iterator[Triage]:
    with running() as made:
        yield made


@pytest.fixture
def another() -> Iterator[Triage]:
    """A control that has died often of late begins without the ledger: a gateway for more deaths."""
    with running() as made:
        yield made


def say(triage: Triage, text: str, to: str = "out") -> None:
    request = urllib.request.Request(f"{triage.url}/print?to={to}", data=text.encode(), method="POST")
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.read() == b"printed"


def get(triage: Triage, path: str) -> str:
    with urllib.request.urlopen(f"{triage.url}{path}", timeout=30) as answer:
        found: str = answer.read().decode()
        return found


def lines(triage: Triage, **asked: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = triage.api("logs", **asked)["items"]
    return found


def stored(triage: Triage) -> int:
    """Exceptions that the store has counted."""
    with contextlib.closing(sqlite3.connect(f"file:{triage.data}/store.db?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT coalesce(sum(count), 0) FROM exceptions").fetchone()[0])


def die(triage: Triage) -> None:
    """Control is killed, and the next one is there."""
    before = triage.control()
    os.kill(before, signal.SIGKILL)
    until(lambda: triage.control() not in (0, before), "another control")
    triage.await_ready()


class Following(threading.Thread):
    """A client of the stream; `messages` are (kind, data), `ids` what it would resume from."""

    def __init__(self, triage: Triage, last: int | None = None, **asked: str) -> None:
        super().__init__(daemon=True)
        self.messages: list[tuple[str, Any]] = []
        self.last = last
        self.begun = threading.Event()
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(triage.admin.removeprefix("unix:"))
        query = "&".join(f"{name}={value}" for name, value in {"follow": "true", **asked}.items())
        resume = f"Last-Event-ID: {last}\r\n" if last is not None else ""
        self.socket.sendall(f"GET /api/v1/logs?{query} HTTP/1.1\r\nHost: x\r\n{resume}\r\n".encode())
        self.start()
        assert self.begun.wait(30)

    def run(self) -> None:
        answer = http.client.HTTPResponse(self.socket)
        try:
            answer.begin()
            kind = ""
            for raw in answer:
                line = raw.decode().rstrip("\n")
                self.begun.set()
                if line.startswith("id: "):
                    self.last = int(line[4:])
                elif line.startswith("event: "):
                    kind = line[7:]
                elif line.startswith("data: "):
                    self.messages.append((kind, json.loads(line[6:])))
        except (OSError, ValueError, http.client.HTTPException):
            pass

    def lines(self) -> list[str]:
        return [data["line"] for kind, data in list(self.messages) if kind == "line"]

    def close(self) -> None:
        with_shutdown = self.socket
        try:
            with_shutdown.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.join(10)
        self.socket.close()


def test_lines_are_found_newest_first_each_with_its_own_number(triage: Triage) -> None:
    say(triage, "alpha one\nalpha two\n")
    say(triage, "alpha three\n", "err")
    found = until(lambda: len(one := lines(triage, grep="ALPHA")) == 3 and one, "three lines")
    assert [one["line"] for one in found] == ["alpha three", "alpha two", "alpha one"]
    assert [one["stream"] for one in found] == ["err", "out", "out"]
    assert found[0]["id"] > found[1]["id"] > found[2]["id"] > 1_700_000_000_000_000
    assert {(one["app"], one["instance"]) for one in found} == {("web", "web-1")}
    text = (triage.data / "logs" / "instances" / "web-1.log").read_text()
    assert f"{found[0]['time']} err alpha three\n" in text  # the stamp is the number
    page = triage.api("logs", grep="alpha", limit=2)
    rest = triage.api("logs", grep="alpha", limit=2, cursor=page["next"])
    assert [one["line"] for one in page["items"] + rest["items"]] == ["alpha three", "alpha two", "alpha one"]
    assert rest["next"] is None and rest["searched_until"] is None
    assert [one["line"] for one in lines(triage, grep="/^alpha t(wo|hree)$/")] == ["alpha three", "alpha two"]
    assert [one["line"] for one in lines(triage, grep="alpha", stream="err")] == ["alpha three"]
    assert lines(triage, grep="alpha", instance="web-2") == []
    shown = triage.api("apps/web/instances/web-1/logs")["items"]
    assert found[0]["id"] in {one["id"] for one in shown}


def test_an_expression_that_never_ends_is_stopped(triage: Triage) -> None:
    say(triage, "a" * 60 + "\n")
    until(lambda: lines(triage, grep="aaaaaaaa"), "the line")
    began = time.monotonic()
    answer = triage.api("logs", grep="/(a+)+$x/")
    assert "one line" in answer["stopped"] and answer["searched_until"]
    assert time.monotonic() - began < 30
    assert triage.api("/healthz") == {"status": "ok"}


def test_secrets_are_masked(triage: Triage) -> None:
    say(triage, "bravo password=hunter22 given\n")
    found = until(lambda: lines(triage, grep="bravo"), "the line")
    assert found[0]["line"] == "bravo password=*** given"


def test_exceptions_are_grouped_counted_and_told(triage: Triage) -> None:
    for item in ("tea", "coffee", "milk"):
        get(triage, f"/raise?item={item}")

    def counted() -> Any:
        found = [one for one in triage.api("exceptions", app="web")["items"] if one["type"] == "KeyError"]
        return found[0] if found and found[0]["count"] == 3 else None

    one = until(counted, "three of one group")
    assert one["id"].startswith("v1-") and one["runtime"] == "python"
    assert one["where"].startswith("price in logs/app.py:")
    assert one["in_last_hour"] == 3 and sum(one["minutes"]) == 3 and len(one["minutes"]) == 60
    assert one["versions"] == ["one"] and one["instances"] == ["web-1"]
    assert one["sample"][0] == "Traceback (most recent call last):"
    assert triage.api(f"exceptions/{one['id']}")["count"] == 3
    event = until(lambda: triage.api("events", kind="exception")["items"], "the event")
    assert len(event) == 1 and event[0]["data"]["fingerprint"] == one["id"] and "is new" in event[0]["words"]
    tagged = [line for line in lines(triage, grep="KeyError", stream="err") if line["exception"] == one["id"]]
    assert len(tagged) == 3
    until(lambda: stored(triage) == 3, "the store has them")
    die(triage)
    assert until(counted, "it is known after a death")["first"] == one["first"]
    get(triage, "/raise")
    until(lambda: triage.api(f"exceptions/{one['id']}")["count"] == 4, "the count goes on")
    assert len(triage.api("events", kind="exception")["items"]) == 1


def test_a_stream_goes_on_after_its_last_number_over_a_death_of_control(triage: Triage) -> None:
    first = Following(triage, app="web", stream="out")
    say(triage, "charlie 1\ncharlie 2\n")
    until(lambda: first.lines() == ["charlie 1", "charlie 2"], f"both lines, not {first.messages}")
    first.close()
    say(triage, "charlie 3\n")
    until(lambda: lines(triage, grep="charlie 3"), "it is written")
    die(triage)
    second = Following(triage, first.last, app="web", stream="out")
    say(triage, "charlie 4\n")
    until(lambda: second.lines() == ["charlie 3", "charlie 4"], f"what was missed, once, not {second.messages}")
    second.close()
    notes = [one["line"] for one in lines(triage, stream="triage", instance="web-1")]
    assert any("control was started again here" in note for note in notes)
    numbers = [one["id"] for one in lines(triage, limit=1000)]
    assert numbers == sorted(set(numbers), reverse=True)


def test_the_apps_own_files_are_followed_and_a_death_repeats_nothing(another: Triage) -> None:
    triage = another
    path = triage.folder / "log" / "app.log"
    stop = threading.Event()
    written = []

    def write() -> None:
        with open(path, "a", buffering=1) as file:
            while not stop.wait(0.003):
                written.append(f"delta {len(written)}")
                file.write(f"{written[-1]}\n")

    thread = threading.Thread(target=write)
    thread.start()
    try:
        until(lambda: lines(triage, grep="delta"), "it is followed")
        for _ in range(2):
            die(triage)
            count = len(written)
            until(lambda c=count: lines(triage, grep=f"delta {c}", limit=1), "it goes on")  # type: ignore[misc]
    finally:
        stop.set()
        thread.join()
    until(lambda: lines(triage, grep=written[-1]), "the last one")
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        more = {"cursor": cursor} if cursor else {}
        page = triage.api("logs", grep="delta", stream="file:log/app.log", limit=1000, **more)
        found += page["items"]
        if not (cursor := page["next"]):
            break
    assert [one["line"] for one in reversed(found)] == written
    assert {one["instance"] for one in found} <= {"web-1", ""}
    assert not lines(triage, grep="from before")


def test_an_upgrade_loses_no_line_and_leaves_no_gap(another: Triage) -> None:
    get(another, "/count?to=3000")
    until(lambda: lines(another, grep="foxtrot 100", limit=1), "it counts")
    before = another.control()
    assert another.cli("upgrade").returncode == 0
    assert another.control() != before
    until(lambda: lines(another, grep="foxtrot 2999"), "the last line")
    found = [path.read_text() for path in (another.data / "logs" / "instances").glob("web-1.log*")]
    said = [line.split(" ", 2)[1:] for line in "".join(found).splitlines()]
    assert [line for _, line in said if line.startswith("foxtrot")] == [f"foxtrot {number}" for number in range(3000)]
    assert not [line for stream, line in said if stream == "triage"]


def test_a_storm_costs_others_nothing(triage: Triage) -> None:
    """As fast as it can: requests go on, most is dropped and counted, and each client knows what it did not get."""
    following = [Following(triage, instance="web-1") for _ in range(5)]
    until(lambda: all(one.last is not None or one.begun.is_set() for one in following), "they follow")
    say(triage, "echo before the storm\n")
    until(lambda: all("echo before the storm" in one.lines() for one in following), "they hear")
    answers: list[float] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            began = time.monotonic()
            assert get(triage, "/healthz") == "fine"
            answers.append(time.monotonic() - began)
            time.sleep(0.02)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        printed = int(get(triage, "/storm?seconds=2&line=20"))
    finally:
        done.set()
        asking.join()
    assert len(answers) > 10 and sorted(answers)[len(answers) // 2] < 1.0
    notes = until(
        lambda: lines(triage, stream="triage", grep="bytes of output were dropped", limit=1000), "what was dropped"
    )
    dropped = sum(int(one["line"].split()[0]) for one in notes)
    kept = sum(path.stat().st_size for path in (triage.data / "logs" / "instances").glob("web-1.log*"))
    assert printed > 8_000_000 * 2 and dropped > printed / 2
    assert kept < 4 * printed
    say(triage, "echo after the storm\n")
    until(lambda: lines(triage, grep="echo after"), "it is heard again")
    until(
        lambda: all("echo after the storm" in one.lines()[-50:] for one in following), "all are told of the end", 80.0
    )
    files = sorted((triage.data / "logs" / "instances").glob("web-1.log*"), reverse=True)
    until(lambda: files[-1].read_bytes().endswith(b"echo after the storm\n"), "it is written")
    written = "".join(path.read_text() for path in files).partition(" out echo before the storm\n")[2]
    count = written.count("\n")
    for one in following:
        one.close()
        told = sum(data["dropped"] for kind, data in one.messages if kind == "dropped")
        assert told > 0 and len(one.lines()) - 1 + told == count
        numbers = [data["id"] for kind, data in one.messages if kind == "line"]
        assert numbers == sorted(set(numbers))
