"""Commands: where they run, what is told of them, and that nothing of them outlasts its call."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.console.support import Triage, alive, until, with_argument

pytestmark = pytest.mark.slow


def text(events: list[tuple[str, Any]], kind: str = "out") -> str:
    return "".join(value for name, value in events if name == kind)


def exit_of(events: list[tuple[str, Any]]) -> dict[str, Any]:
    assert [name for name, _ in events].count("exit") == 1 and events[-1][0] == "exit"
    return dict(events[-1][1])


def test_it_runs_without_a_shell_in_its_place(triage: Triage) -> None:
    events = triage.command(["echo", "$HOME", "; id", "*"])
    assert text(events) == "$HOME ; id *\n"
    assert exit_of(events)["words"] == "exit code 0"
    events = triage.command("sh -c 'echo to out; echo to err >&2; exit 3'")
    assert (text(events), text(events, "err")) == ("to out\n", "to err\n")
    assert (exit_of(events)["code"], exit_of(events)["out"], exit_of(events)["err"]) == (3, 7, 7)
    found = dict(line.split("=", 1) for line in text(triage.command("env", app="web")).splitlines())
    assert (found["GREETING"], found["TRIAGE_INSTANCE"]) == ("hello", "web-1") and found["PORT"].isdigit()
    own = dict(line.split("=", 1) for line in text(triage.command("env")).splitlines())
    for env in (found, own):
        assert "SOME_API_TOKEN" not in env and "geheim" not in env.values()
    assert not {"GREETING", "PORT", "TRIAGE_INSTANCE"} & set(own)
    assert text(triage.command("pwd", instance="web-1")).strip() == str(triage.site)
    (triage.site / "sub folder").mkdir(exist_ok=True)
    assert text(triage.command("pwd", root="site", dir="sub folder")).strip() == str(triage.site / "sub folder")
    assert text(triage.command([sys.executable, "-c", "import sys; print(sys.stdin.read(), 'end')"])) == " end\n"
    fds = text(triage.command(["ls", "/proc/self/fd"])).split()
    assert fds == ["0", "1", "2", "3"]  # 3 is the folder that ls reads


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({}, 400, "command"), ({"command": ""}, 400, "expected a list"), ({"command": []}, 400, "expected a list"),
        ({"command": [1]}, 400, "expected a list"), ({"command": "'open"}, 400, "No closing quotation"),
        ({"command": [""]}, 400, "nothing to run"), ({"command": ["a\0b"]}, 400, "NUL"),
        ({"command": ["/nowhere/x"]}, 422, "no such file"), ({"command": ["/etc/passwd"]}, 422, "may not be executed"),
        ({"command": ["/etc"]}, 422, "folder"), ({"command": "no-such-program"}, 422, "not found in PATH"),
        ({"command": "id", "app": "nope"}, 404, "no app"), ({"command": "id", "app": "away"}, 409, "environment"),
        ({"command": "id", "app": "web", "instance": "web-99"}, 404, "no instance"),
        ({"command": "id", "root": "nope"}, 404, "no root"), ({"command": "id", "dir": "x"}, 400, "root"),
        ({"command": "id", "timeout": "2h"}, 400, "1h"), ({"command": "id", "shell": True}, 400, "shell"),
        ({"command": ["x" * 200] * 2000}, 400, "1,000"),
    ],
)  # fmt: skip
def test_what_cannot_run_is_said_clearly(triage: Triage, fields: dict[str, Any], status: int, said: str) -> None:
    answer = triage.call("POST", "/api/v1/command", json.dumps(fields).encode(), Content_Type="application/json")
    assert answer.status == status, answer.body
    assert said in " ".join(str(answer.json[name]) for name in ("title", "detail", "hint"))


def test_exits_are_told_in_words(triage: Triage) -> None:
    end = exit_of(triage.command(["sh", "-c", "kill -SEGV $$"]))
    assert (end["code"], end["signal"], end["words"]) == (None, 11, "signal 11 (SIGSEGV)")
    events = triage.command(["sh", "-c", "trap '' TERM; echo began; sleep 31.1; sleep 31.1"], timeout="300ms")
    end = exit_of(events)
    assert end["late"] and end["words"].startswith("not within 300ms: ended; signal 9 (SIGKILL)")
    assert text(events) == "began\n" and end["took_s"] < 20
    events = triage.command(["sh", "-c", "setsid sleep 31.2 & sleep 31.2 & sleep 31.2 & echo left"])
    end = exit_of(events)
    assert end["code"] == 0 and end["left"] == 3 and "3 processes that it left were ended" in end["words"]
    assert not with_argument("31.1") and not with_argument("31.2")


def test_output_is_bounded_and_what_is_dropped_is_counted(triage: Triage) -> None:
    size = 20_000_000
    program = f"import os; [os.write(1, b'x' * 100000) for _ in range({size // 100000})]"
    events = triage.command([sys.executable, "-c", program])
    told = text(events)
    assert set(told) == {"x"} and len(told) == 16 << 20
    end = exit_of(events)
    assert (end["out"], end["dropped"]) == (size, size - len(told))
    assert [value for name, value in events if name == "dropped"] == [{"bytes": size - len(told)}]
    program = r"import os; [os.write(1, bytes([b])) for b in b'\xc3\xa9\xff\x00ok']"
    events = triage.command([sys.executable, "-c", program])
    assert text(events) == "é\ufffd\0ok"


def test_who_does_not_read_holds_the_command_up_and_nothing_else(triage: Triage) -> None:
    body = json.dumps({"command": ["sh", "-c", "yes marker-of-yes"], "timeout": "1h"}).encode()
    with triage.socket() as sock:
        sock.sendall(
            b"POST /api/v1/command HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            + f"Content-Length: {len(body)}\r\n\r\n".encode() + body
        )  # fmt: skip
        assert sock.recv(10)
        (pid,) = until(lambda: with_argument("marker-of-yes")[-1:], "it runs")
        until(lambda: "pipe" in _waits(pid), "it waits, because nobody reads")
        statm = Path(f"/proc/{triage.control}/statm").read_text()
        assert int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE") < 300_000_000
    until(lambda: not with_argument("marker-of-yes"), "its client left: it is ended")
    until(lambda: "it was ended, because its call was" in triage.noted()[0]["words"], "and that is written down")


def _waits(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/wchan") as file:
            where = file.read()
        with open(f"/proc/{pid}/stat") as file:
            return "pipe" if "pipe" in where or file.read().rpartition(")")[2].split()[0] == "S" else ""
    except OSError:
        return ""


def test_a_silent_one_ends_with_its_call_too(triage: Triage) -> None:
    body = json.dumps({"command": ["sh", "-c", "setsid sleep 31.3 & sleep 31.3"], "reason": "a try"}).encode()
    with triage.socket() as sock:
        sock.sendall(
            b"POST /api/v1/command HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            + f"Content-Length: {len(body)}\r\n\r\n".encode() + body
        )  # fmt: skip
        until(lambda: len(with_argument("31.3")) >= 2, "it runs")
    until(lambda: not with_argument("31.3"), "all of it is ended")


def test_there_are_not_too_many(triage: Triage) -> None:
    body = json.dumps({"command": ["sleep", "31.4"]}).encode()
    head = b"POST /api/v1/command HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    one = head + f"Content-Length: {len(body)}\r\n\r\n".encode() + body
    socks = [triage.socket() for _ in range(8)]
    try:
        for sock in socks:
            sock.sendall(one)
        until(lambda: len(with_argument("31.4")) == 8, "eight run")
        answer = triage.call("POST", "/api/v1/command", body, Content_Type="application/json")
        assert (answer.status, answer.kind) == (429, "too-many-commands") and "retry-after" in answer.headers
    finally:
        for sock in socks:
            sock.close()
    until(lambda: not with_argument("31.4"), "all are ended")


def test_secrets_in_a_command_are_not_written_down(triage: Triage) -> None:
    command = ["true", "--password=hunter22", "--token", "abcdef123456", "https://me:hunter22@host/"]
    triage.command(command, reason="a try")
    began, ended = [one for one in triage.noted() if "true" in one["words"]][:2][::-1]
    assert "(a try)" in began["words"] and "exit code 0" in ended["words"]
    assert "hunter22" not in json.dumps([began, ended]) and "abcdef123456" not in json.dumps([began, ended])


def test_the_keeper_killed_takes_it_along(triage: Triage) -> None:
    body = json.dumps({"command": ["sleep", "31.5"]}).encode()
    with triage.socket() as sock:
        sock.sendall(
            b"POST /api/v1/command HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            + f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        )  # fmt: skip
        (pid,) = until(lambda: with_argument("31.5"), "it runs")
        with open(f"/proc/{pid}/stat") as file:
            os.kill(int(file.read().rpartition(")")[2].split()[1]), signal.SIGKILL)
        data = b""
        while piece := sock.recv(65536):
            data += piece
    assert b"its keeper was killed" in data
    until(lambda: not alive(pid), "it is gone")
