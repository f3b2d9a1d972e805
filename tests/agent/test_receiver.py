"""Control's end: who is believed, what is counted, and what a flood costs."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.config import parse
from proxy.control import agents
from proxy.control.agents import EACH, STRANGE, Agents
from proxy.control.logs.exceptions import Exceptions, Raised, shown
from proxy.control.state import AppState, InstanceState, Lifecycle

LONG = 30.0
CONFIG = """
[apps.web.process]
command = "app {port}"
user = "root"
[apps.web.diagnose]
agent = true
dump_on = ["MemoryError"]
"""
OFF = CONFIG.partition("[apps.web.diagnose]")[0]
SEND = """
import socket, sys
sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
for line in sys.stdin:
    count, _, text = line.rstrip("\\n").partition(" ")
    for _ in range(int(count)):
        sock.sendto(text.replace("|", "\\0").replace("/", "\\x1c").encode(), sys.argv[1])
    print("sent", flush=True)
"""
HELLO = "1|hello|3.12.1|monitoring|0.001|0|0"


def raised(kind: str = "KeyError", message: str = "'x'", counts: str = "3|2|0", place: str = "shop.py/7/price") -> str:
    return f"1|raised|0|{kind}|{message}|{counts}|{time.time()}|0|0|main.py/1/<module>|{place}"


class Scene:
    """An app with one instance, whose process sends what it is told to."""

    def __init__(self, folder: Path) -> None:
        config = parse(CONFIG, folder / "config.toml")
        self.app = AppState("web", config.apps["web"], 0, wanted=1)
        self.taken: list[Raised] = []
        self.events: list[tuple[Any, ...]] = []
        self.told: list[tuple[str, ...]] = []
        self.agents = Agents(
            folder, {"web": self.app}, self.taken.append, lambda *said, **more: self.events.append(said),
            lambda *said: self.told.append(said),
        )  # fmt: skip
        self.agents.open()
        self.processes: list[subprocess.Popen[str]] = []

    def process(self, *, believed: bool = True, argv: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*argv, sys.executable, "-c", SEND, str(self.agents.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        self.processes.append(process)
        if believed:
            name = f"web-{len(self.processes)}"
            self.app.instances[name] = InstanceState(
                name, "web", "process", len(self.processes), Lifecycle.READY, pid=process.pid, version="v1"
            )
        return process

    async def send(self, process: subprocess.Popen[str], *lines: str) -> None:
        assert process.stdin
        assert process.stdout
        process.stdin.write("".join(f"{line}\n" for line in lines))
        process.stdin.flush()
        for _ in lines:
            assert await asyncio.to_thread(process.stdout.readline) == "sent\n"
        await asyncio.sleep(0.05)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(LONG):
            while not condition():
                await asyncio.sleep(0.01)

    def end(self) -> None:
        self.agents.close()
        for process in self.processes:
            process.kill()
            process.communicate()


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    made = Scene(tmp_path)
    try:
        yield made
    finally:
        made.end()


@pytest.mark.slow
async def test_an_instance_is_believed_and_others_are_not(scene: Scene) -> None:
    ours, strange = scene.process(), scene.process(believed=False)
    await scene.send(ours, f"1 {HELLO}", f"1 {raised()}")
    await scene.send(strange, f"1 {HELLO}", f"1 {raised()}")
    await scene.until(lambda: scene.agents.refused == 2)
    assert [(one.app, one.instance, one.version, one.type, one.count, one.caught) for one in scene.taken] == [
        ("web", "web-1", "v1", "KeyError", 3, 2)
    ]
    assert [(one.pid, one.version, one.how) for one in scene.agents.of("web-1")] == [(ours.pid, "3.12.1", "monitoring")]


@pytest.mark.slow
async def test_a_descendant_is_its_instance_s(scene: Scene) -> None:
    shell = scene.process(argv=("sh", "-c", '"$@"; true', "sh"))
    await scene.send(shell, f"1 {raised()}")
    await scene.until(lambda: scene.taken)
    assert scene.taken[0].instance == "web-1"
    assert scene.agents.refused == 0


@pytest.mark.slow
async def test_an_app_that_did_not_ask_for_it(scene: Scene, tmp_path: Path) -> None:
    scene.app.config = parse(OFF, tmp_path / "config.toml").apps["web"]
    ours = scene.process()
    await scene.send(ours, f"1 {raised()}")
    await scene.until(lambda: scene.agents.refused)
    assert not scene.taken


@pytest.mark.slow
async def test_nonsense_is_refused(scene: Scene) -> None:
    ours = scene.process()
    lines = ["1 2|hello|x", "1 1|other|x", "1 1|raised|0|x", f"1 {raised(counts='a|b|c')}", "1 x",
             f"1 {raised(place='no parts')}"]  # fmt: skip
    await scene.send(ours, *lines)
    await scene.until(lambda: scene.agents.refused == len(lines))
    assert not scene.taken


@pytest.mark.slow
async def test_a_flood_is_bounded(scene: Scene) -> None:
    """One instance gets its share, the rest is counted; the loop goes on."""
    ours = scene.process()
    began = time.monotonic()
    await scene.send(ours, f"{5 * EACH} {raised()}")
    await scene.until(lambda: len(scene.taken) + scene.agents.dropped >= 5 * EACH)
    seconds = int(time.monotonic() - began) + 2
    assert len(scene.taken) <= EACH * seconds
    assert scene.agents.dropped


@pytest.mark.slow
async def test_strangers_can_not_keep_it_busy(scene: Scene) -> None:
    strange = scene.process(believed=False)
    assert strange.stdin
    strange.stdin.write(f"100000 {HELLO}\n")
    strange.stdin.flush()
    await scene.until(lambda: scene.agents.refused > STRANGE)
    began, before = time.monotonic(), scene.agents.refused
    await scene.until(lambda: scene.agents.refused >= before + 3 * STRANGE)
    assert time.monotonic() - began > 1.0


@pytest.mark.slow
async def test_a_type_of_dump_on_is_told(scene: Scene) -> None:
    ours = scene.process()
    await scene.send(ours, f"1 {raised('MemoryError', '', '1|0|0')}", f"1 {raised('MemoryError', '', '0|1|0')}")
    await scene.until(lambda: len(scene.taken) == 2)
    assert scene.told == [("web", "web-1", "MemoryError", "", "price in shop.py:7")], "a change of counts is no news"


async def test_who_never_said_hello_is_told_of_once(scene: Scene) -> None:
    now = time.monotonic()
    scene.app.instances["web-1"] = InstanceState(
        "web-1", "web", "process", 1, Lifecycle.READY, pid=1, ready_since=now - 100.0
    )
    scene.agents.tick(now)
    assert not scene.events, "those of a control before have time to say it again"
    scene.agents.tick(now + 60.0)
    scene.agents.tick(now + 61.0)
    assert [said[0] for said in scene.events] == ["agent"]
    assert "no agent said hello from web-1" in scene.events[0][1]


async def test_the_socket_is_there_while_an_app_wants_it(tmp_path: Path) -> None:
    made = Scene(tmp_path)
    path = made.agents.path
    assert path.is_socket()
    made.end()
    assert not path.exists()
    made.app.config = parse(OFF, tmp_path / "config.toml").apps["web"]
    made.agents.open()
    assert not path.exists()


async def test_a_folder_that_is_not_ours_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setattr(agents, "_open_to_all", lambda folder: True)
    made = Scene(tmp_path)
    assert "not Triage's own" in made.agents.error or made.agents.error
    assert not list((tmp_path / "elsewhere").iterdir())
    made.end()


def test_the_environment_of_an_instance(tmp_path: Path) -> None:
    env = agents.environment({"PATH": "/bin", "PYTHONPATH": "/srv/lib"}, tmp_path)
    assert env["PYTHONPATH"] == f"{agents.FOLDER}:/srv/lib"
    assert env["TRIAGE_AGENT"] == f"{os.geteuid()}:{agents.socket_path(tmp_path)}"
    assert agents.environment({}, tmp_path)["PYTHONPATH"] == str(agents.FOLDER)
    assert (agents.FOLDER / "sitecustomize.py").is_file()


def test_a_deep_data_dir_leads_to_a_short_path(tmp_path: Path) -> None:
    assert len(str(agents.socket_path(tmp_path / ("x" * 100)))) < 100


def one(**more: Any) -> Raised:
    fields: dict[str, Any] = {
        "app": "web", "instance": "web-1", "version": "v1", "at": time.time(), "type": "KeyError",
        "message": "password=hunter2hunter2", "count": 3, "caught": 2, "uncaught": 0,
        "frames": (("/srv/main.py", 3, "main"), ("/srv/shop.py", 7, "price"), ("/x/site-packages/db.py", 1, "get")),
    }  # fmt: skip
    return Raised(**{**fields, **more})


def test_groups_are_by_type_and_place_and_apart_from_what_is_printed() -> None:
    found = Exceptions()
    found.take(one())
    found.take(one(frames=(("/srv/other.py", 9, "caller"), ("/srv/shop.py", 8, "price")), instance="web-2", count=2,
                   caught=0, uncaught=1))  # fmt: skip
    found.take(one(type="OSError"))
    assert found.flush()
    groups = {group.type: group for group in found.groups("web")}
    assert set(groups) == {"KeyError", "OSError"}
    group = groups["KeyError"]
    assert (group.count, group.caught, group.uncaught, group.raised) == (5, 2, 1, True)
    assert group.fingerprint.startswith("r1-")
    assert group.message == "password=***"
    assert "hunter2" not in "".join(group.sample)
    assert group.instances == ["web-1", "web-2"]
    assert not found.news(), "most are caught: no event is made of them"
    assert found.counts("web") == 0, "what is printed is counted there"
    again = Exceptions()
    again.load(found.changed())
    kept = again.groups("web")
    assert {shown(one, time.time())["raised"] for one in kept} == {True}
    assert sorted(one.count for one in kept) == [3, 5]
    found.close()


def test_many_groups_leave_room_for_what_is_printed() -> None:
    found = Exceptions(most=10)
    for number in range(30):
        found.take(one(type=f"Error{number}", at=1000.0 + number))
    assert found.flush()
    assert len(found.groups("web")) == 5
    assert {group.type for group in found.groups("web")} == {f"Error{number}" for number in range(25, 30)}
    found.close()


async def test_processes_are_looked_at_once_in_a_while_and_a_few_at_a_time(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []

    def started(pid: int) -> int:
        looked.append(pid)
        return 0 if pid == 7 else 100

    monkeypatch.setattr(agents, "_started", started)
    count = agents.AT_ONCE + 10
    scene.agents._pids = {pid: agents._Process("web", "web-1", 100, 0.0) for pid in range(1, count + 1)}
    now = agents.LOOK_AGAIN + 1.0
    scene.agents.tick(now)
    assert looked == list(range(1, agents.AT_ONCE + 1))
    scene.agents.tick(now + 1)
    assert sorted(looked) == list(range(1, count + 1)), "the others"
    scene.agents.tick(now + 2)
    assert len(looked) == count and 7 not in scene.agents._pids and len(scene.agents._pids) == count - 1
