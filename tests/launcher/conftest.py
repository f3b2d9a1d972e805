"""A real launcher, and a control that does what the test tells it.

The control is a script that connects with the real client and then obeys one JSON line after another from a
Unix socket of the test's: `{"do": "spawn", ...}`. Each new control connects again, so the test sees deaths and
births.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from proxy.launcher import processes
from proxy.link.spawn import VERSION, Admin, Plan

ROOT = Path(__file__).parents[2]
DEADLINE = 30.0
ENV = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
PYTHON = sys.executable

CONTROL = """
import asyncio, base64, json, os, signal, socket, sys, time
from proxy.control.launcher import Exit, Launcher, Refused, Reload, Terminate
from proxy.link.spawn import read_ledger, write_ledger

async def main():
    launcher, state = await Launcher.connect()
    reader, writer = await asyncio.open_unix_connection(sys.argv[1], limit=1 << 24)
    def say(**row):
        writer.write(json.dumps(row).encode() + b"\\n")
    def on_event(event):
        if isinstance(event, Exit): say(event="exit", how=event.how)
        else: say(event=type(event).__name__.lower())
    say(event="state", pid=os.getpid(), state=state)
    launcher.on_event = on_event
    fds, beating = {}, True
    async def beats():
        while beating:
            launcher.beat()
            await asyncio.sleep(0.5)
    beat = asyncio.create_task(beats())
    async def do(row):
        nonlocal beating
        what = row.pop("do")
        if what == "spawn":
            child = await launcher.spawn(row["child"])
            name = row["child"]["name"]
            fds[name + ".stdout"], fds[name + ".stderr"] = child.stdout, child.stderr
            return {"pid": child.pid, "start": child.start}
        if what == "read":
            fd, found = fds[row["name"]], b""
            while len(found) < row["least"]:
                try: part = os.read(fd, 65536)
                except BlockingIOError: await asyncio.sleep(0.01); continue
                if not part: break
                found += part
            return {"text": found.decode()}
        if what == "fetch":
            fds[row["name"]] = await launcher.fetch(row["name"])
            return {}
        if what == "hold":
            await launcher.hold(row["name"], fds[row["fd"]]); return {}
        if what == "file":
            fds[row["name"]] = os.open(row["path"], os.O_RDWR | os.O_CREAT); return {}
        if what == "close":
            for name in [name for name, fd in fds.items() if fd is not None]: os.close(fds.pop(name))
            return {}
        if what == "accept":
            sock = socket.socket(fileno=os.dup(fds[row["name"]])); sock.setblocking(False)
            count = 0
            try:
                while True:
                    one, _ = sock.accept(); one.sendall(b"hello"); one.close(); count += 1
            except BlockingIOError: pass
            sock.close()
            return {"count": count}
        if what == "ledger":
            fd = await launcher.fetch("ledger")
            if "text" in row: write_ledger(fd, row["text"].encode())
            text = read_ledger(fd)
            os.close(fd)
            return {"text": None if text is None else text.decode()}
        if what == "silent":
            beat.cancel(); return {}
        if what == "ack": launcher.acknowledge(*row["exits"]); return {}
        if what == "bye": launcher.bye(row.get("code", 0)); return {}
        if what == "die": os._exit(3)
        if what == "descriptors": return {"count": len(os.listdir("/proc/self/fd"))}
        if what == "together": return {"all": await asyncio.gather(*map(do, row["rows"]))}
        if what == "raw": return (await launcher._ask(row["message"]))[0]
        result = await getattr(launcher, what)(*row.get("args", ()))
        return {"result": result}
    while line := await reader.readline():
        try: say(answer=await do(json.loads(line)))
        except Refused as error: say(refused=str(error), step=error.step, errno=error.errno)
    beat.cancel()
    await asyncio.Event().wait()

asyncio.run(main())
"""


def until(condition: Callable[[], Any], what: str = "", within: float = DEADLINE) -> Any:
    """Wait for a condition; what it returned, once that is true."""
    deadline = time.monotonic() + within
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {within} s for {what or condition}"
        select.select([], [], [], 0.01)
    return found


def alive(pid: int) -> bool:
    row = processes.stat(pid)
    return row is not None and row.state not in "ZX"


class Control:
    """The test's end of one control."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.file = sock.makefile("rwb")
        self.events: list[dict[str, Any]] = []
        first = self._line()
        self.pid: int = first["pid"]
        self.state: dict[str, Any] = first["state"]

    def _line(self) -> dict[str, Any]:
        line = self.file.readline()
        if not line:
            raise EOFError("control ended")
        row: dict[str, Any] = json.loads(line)
        return row

    def do(self, what: str, **fields: Any) -> dict[str, Any]:
        """The answer; events that come meanwhile are kept. A refusal is the row itself."""
        self.file.write(json.dumps({"do": what, **fields}).encode() + b"\n")
        self.file.flush()
        while "event" in (row := self._line()):
            self.events.append(row)
        answer: dict[str, Any] = row.get("answer", row)
        return answer

    def die(self) -> None:
        self.file.write(b'{"do": "die"}\n')
        self.file.flush()

    def bye(self, code: int = 0) -> None:
        self.file.write(json.dumps({"do": "bye", "code": code}).encode() + b"\n")
        self.file.flush()

    def event(self, kind: str) -> dict[str, Any]:
        for row in self.events:
            if row["event"] == kind:
                self.events.remove(row)
                return row
        while (row := self._line())["event"] != kind:
            self.events.append(row)
        return row

    def exit_of(self, name: str) -> dict[str, Any]:
        while True:
            how: dict[str, Any] = self.event("exit")["how"]
            if how["name"] == name:
                return how

    def spawn(self, name: str, *argv: str, **fields: Any) -> dict[str, Any]:
        return self.do("spawn", child={"name": name, "argv": list(argv), "env": ENV, **fields})

    def python(self, name: str, code: str, **fields: Any) -> dict[str, Any]:
        return self.spawn(name, PYTHON, "-c", code, **fields)

    def close(self) -> None:
        self.file.close()
        self.sock.close()


class Triage:
    """One launcher in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.server.bind(str(folder / "test.sock"))
        self.server.listen(64)
        self.server.settimeout(DEADLINE)
        self.script = folder / "control.py"
        self.script.write_text(CONTROL)
        self.log = folder / "log.jsonl"
        self.process: subprocess.Popen[bytes] | None = None
        self.all: list[subprocess.Popen[bytes]] = []
        self.controls: list[Control] = []

    until = staticmethod(until)
    alive = staticmethod(alive)

    def gone(self, *pids: int) -> None:
        """Wait until none of these is there any more."""
        until(lambda: not any(alive(pid) for pid in pids), f"{pids} to end")

    def plan(self, **fields: Any) -> Plan:
        plan = Plan(
            version=VERSION,
            config_path=None,
            config_text="[apps.web]",
            data_dir=str(self.folder / "var"),
            listen=[],
            admin=Admin(listen=None, socket=None),
            workers=2,
            control=[PYTHON, str(self.script), str(self.folder / "test.sock")],
            grace=5.0,
            run=False,
            log="stderr",
        )
        return plan | fields  # type: ignore[return-value]

    def launch(
        self, prefix: Sequence[str] = (), python: str = PYTHON, root: Path = ROOT, **fields: Any
    ) -> subprocess.Popen[bytes]:
        code = "import json, sys; from proxy.link import spawn; spawn.become_launcher(json.load(open(sys.argv[1])))"
        plan = self.folder / f"plan-{len(self.all)}.json"
        plan.write_text(json.dumps(self.plan(**fields)))
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*prefix, python, "-c", code, str(plan)],
                env={**os.environ, "PYTHONPATH": str(root)},
                stdin=subprocess.DEVNULL,
                stderr=log,
            )
        self.all.append(self.process)
        return self.process

    def start(self, **fields: Any) -> Control:
        self.launch(**fields)
        return self.control()

    def control(self) -> Control:
        """The next control to connect."""
        sock, _ = self.server.accept()
        sock.settimeout(DEADLINE)
        control = Control(sock)
        self.controls.append(control)
        return control

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def wait(self) -> int:
        assert self.process is not None
        return self.process.wait(DEADLINE)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(DEADLINE)

    def logged(self, event: str) -> list[dict[str, Any]]:
        rows = []
        for line in self.log.read_text().splitlines():
            with contextlib.suppress(ValueError):
                rows.append(json.loads(line))
        return [row for row in rows if row["event"] == event]

    def close(self) -> None:
        for control in self.controls:
            control.close()
        self.server.close()
        for process in self.all:
            process.kill()
            process.wait()
        marks = [f"{process.pid}:" for process in self.all]
        for pid in processes.everyone():  # nothing outlives a test, whatever went wrong in it
            mark = (processes.environment(pid) or {}).get(processes.LAUNCHER, "")
            if any(mark.startswith(one) for one in marks):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@pytest.fixture
def triage(tmp_path: Path) -> Iterator[Triage]:
    one = Triage(tmp_path)
    yield one
    one.close()
