"""Objects by type, asked of a live process."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.diagnostics import subject
from proxy.diagnostics.collectors import types
from proxy.diagnostics.collectors.contract import NotThere
from proxy.link.session import App, Input, Instance, Known
from tests.agent.inside import LONG, environment

pytestmark = pytest.mark.slow

GROWS = """
    import sys
    class Order:
        def __init__(self, number):
            self.number = number
    held = [Order(n) for n in range(3000)]
    blobs = [bytes(1000) + str(n).encode() for n in range(4000)]
    class Odd:
        def __sizeof__(self):
            raise RuntimeError("asked")
    odd = [Odd() for _ in range(10)]
    print("up", flush=True)
    for line in sys.stdin:
        held += [Order(n) for n in range(int(line))]
        print("grown", flush=True)
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    began: list[subprocess.Popen[str]] = []

    def begin(source: str = GROWS, agent: bool = True, *args: str) -> subprocess.Popen[str]:
        (tmp_path / "main.py").write_text(textwrap.dedent(source))
        env = environment(str(tmp_path / "missing.sock"))
        if not agent:
            env = {name: value for name, value in env.items() if not name.startswith(("TRIAGE", "PYTHONPATH"))}
        process = subprocess.Popen(
            [sys.executable, *args, "main.py"], cwd=tmp_path, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        began.append(process)
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        return process

    yield begin
    for process in began:
        process.kill()
        process.communicate(timeout=LONG)


def asked(pid: int, seconds: float = 0.0) -> subject.Subject:
    known = Known(at=0.0, app=App(name="web"))
    return subject.Subject(
        Input(id="S-1", app="web", at=0.0, known=known), Instance(name="web-1", pid=pid), seconds=seconds
    )


def test_the_largest_types(start: Start, tmp_path: Path) -> None:
    process = start()
    found = types.collect(asked(process.pid), tmp_path)
    rows = {row.name: row for row in found.rows}
    assert (found.pid, found.seconds_between) == (process.pid, 0.0)
    assert rows["__main__.Order"].count == pytest.approx(3000, rel=0.05)
    assert rows["bytes"].count == pytest.approx(4000, rel=0.05)
    assert rows["bytes"].size > 4_000_000
    assert found.rows[0].name == "bytes", "most bytes first"
    assert found.size >= sum(row.size for row in found.rows) * 0.9


def test_what_grew_between_two_looks(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = start()

    def wait(self: subject.Subject, seconds: float) -> bool:
        assert process.stdin
        assert process.stdout
        process.stdin.write("5000\n")
        process.stdin.flush()
        return process.stdout.readline() == "grown\n"

    monkeypatch.setattr(subject.Subject, "wait", wait)
    found = types.collect(asked(process.pid, 2.0), tmp_path)
    rows = {row.name: row for row in found.rows}
    assert rows["__main__.Order"].grew == pytest.approx(5000, rel=0.1)
    assert abs(rows["bytes"].grew) < 400
    assert found.seconds_between > 0


def test_the_process_goes_on_meanwhile_and_a_look_is_bounded(start: Start, tmp_path: Path) -> None:
    source = """
        import sys, time
        held = [(n, [n]) for n in range(400_000)]
        print("up", flush=True)
        for line in sys.stdin:
            print("still here", flush=True)
    """
    process = start(source)
    found = types.collect(asked(process.pid), tmp_path)
    assert process.stdin
    assert process.stdout
    process.stdin.write("?\n")
    process.stdin.flush()
    assert process.stdout.readline() == "still here\n"
    rows = {row.name: row for row in found.rows}
    assert rows["tuple"].count == pytest.approx(400_000, rel=0.15)


def test_without_an_agent_it_says_which_key_is_off(start: Start, tmp_path: Path) -> None:
    process = start(GROWS, False)
    with pytest.raises(NotThere, match=r"apps\.web\.diagnose\.agent is off"):
        types.collect(asked(process.pid), tmp_path)


def test_a_python_that_reads_no_environment(start: Start, tmp_path: Path) -> None:
    process = start(GROWS, True, "-I")
    with pytest.raises(NotThere, match="reads no PYTHONPATH"):
        types.collect(asked(process.pid), tmp_path)


def test_no_process_at_all(tmp_path: Path) -> None:
    with pytest.raises(NotThere, match="no process of it runs"):
        types.collect(asked(0), tmp_path)


ASK = """
import os, socket, sys
os.setuid(int(sys.argv[2]))
sock = socket.socket(socket.AF_UNIX)
sock.settimeout(20)
sock.connect("\\0triage-agent-" + sys.argv[1])
try:
    sock.sendall(b"types\\n")
    print(len(sock.recv(1000)))
except (ConnectionResetError, BrokenPipeError):
    print(0)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_others_get_no_answer(start: Start) -> None:
    process = start()
    for uid, answered in ((0, True), (65534, False)):
        asks = [sys.executable, "-c", ASK, str(process.pid), str(uid)]
        run = subprocess.run(asks, capture_output=True, text=True, timeout=LONG, check=True)
        assert (int(run.stdout) > 0) is answered


def test_who_sits_at_the_name_of_another_is_not_believed(start: Start) -> None:
    import socket

    process = start(GROWS, False)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"\0triage-agent-{process.pid}")
        sock.listen()
        assert types.ask(process.pid) is None


def test_a_nonsensical_answer_is_none() -> None:
    assert types.read(1, b"") is None
    assert types.read(1, b"a\tb\n") is None
    found = types.read(1, b"3\t100\t1.0000\t0.1\t0\t\ndict\t3\t100\n")
    assert found is not None
    assert [(row.name, row.count) for row in found.rows] == [("dict", 3)]
