"""Terminals: a real shell on a real pty, over a real WebSocket; and every way in which one ends."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import socket
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.console.support import LONG, Triage, alive, answer_of, handshake, until, with_argument

pytestmark = pytest.mark.slow


def begun(ws: ClientConnection) -> dict[str, Any]:
    message = json.loads(ws.recv(LONG))
    assert list(message) == ["begun"]
    return dict(message["begun"])


def said(ws: ClientConnection, wanted: str) -> str:
    """What is printed, until that is in it."""
    found = ""
    while not re.search(wanted, found):
        data = ws.recv(LONG)
        assert isinstance(data, bytes), (data, found)
        found += data.decode(errors="replace")
    return found


def ends(ws: ClientConnection) -> tuple[dict[str, Any], int, str]:
    """The last message, and code and reason of the close frame."""
    last: dict[str, Any] = {}
    try:
        while True:
            data = ws.recv(LONG)
            last = json.loads(data) if isinstance(data, str) else last
    except ConnectionClosed as closed:
        if closed.rcvd is None:
            raise
        return last, closed.rcvd.code, closed.rcvd.reason


def test_a_real_terminal(triage: Triage) -> None:
    with triage.terminal("app=web&cols=91&rows=21") as ws:
        one = begun(ws)
        assert (one["app"], one["instance"], one["cols"], one["rows"]) == ("web", "web-1", 91, 21)
        assert "permessage-deflate" not in str(ws.response.headers if ws.response else "")
        ws.send(b"stty size; tty; echo $GREETING-$TERM; pwd\r")
        text = said(ws, r"site\r\n")
        assert "21 91\r\n" in text and "/dev/pts/" in text and "hello-xterm-256color" in text
        ws.send('{"resize": [132, 43]}')
        ws.send(b"stty size\r")
        said(ws, r"43 132\r\n")
        ws.send(b"ls -l /proc/$$/fd /proc/self/fd | grep -v pts; env | grep -c SOME_API; echo don''e\r")
        text = said(ws, r"done\r\n")
        assert "0\r\n" in text and "socket:" not in text and "pipe:" not in text.replace("pipe:[", "", 1)
        ws.send(b"sleep 32.1\r")
        until(lambda: with_argument("32.1"), "it runs")
        ws.send(b"\x03")
        until(lambda: not with_argument("32.1"), "Ctrl-C ends it")
        listed = triage.call("GET", "/api/v1/consoles").json["items"]
        assert [item["id"] for item in listed] == [one["id"]] and listed[0]["pid"] == one["pid"]
        assert listed[0]["idle_s"] < LONG
        ws.send(b"(setsid sleep 32.2 &); nohup sleep 32.2 & exit 7\r")
        last, code, reason = ends(ws)
    assert (last["exit"], code, reason) == (7, 1000, "its shell has ended")
    until(lambda: not with_argument("32.2"), "nothing of it is left")
    assert triage.call("GET", "/api/v1/consoles").json["items"] == []
    ended, opened = [item for item in triage.noted() if f"terminal {one['id']} " in item["words"]][:2]
    assert "opened the terminal" in opened["words"] and "its shell has ended" in ended["words"]
    assert opened["words"].startswith("admin.token")


def test_it_ends_with_its_socket(triage: Triage) -> None:
    with triage.terminal() as ws:
        pid = begun(ws)["pid"]
        ws.send(b"trap '' HUP TERM; (trap '' HUP; setsid sleep 32.3) & sleep 32.3\r")
        until(lambda: len(with_argument("32.3")) == 2, "it runs")
        ws.socket.shutdown(socket.SHUT_RDWR)  # no close frame: the network is gone
        until(lambda: not alive(pid) and not with_argument("32.3"), "all of it is ended")


def test_it_is_ended_by_others(triage: Triage) -> None:
    with triage.terminal() as ws:
        one = begun(ws)
        assert triage.call("DELETE", f"/api/v1/consoles/{one['id']}").status == 204
        last, code, reason = ends(ws)
        assert "ended it" in last["words"] and (code, reason.endswith("ended it")) == (1000, True)
        assert not alive(one["pid"])
    assert triage.call("DELETE", f"/api/v1/consoles/{one['id']}").status == 404


def test_a_revoked_token_ends_it(triage: Triage) -> None:
    made = triage.call("POST", "/api/v1/tokens", b'{"name": "short", "role": "admin"}', Content_Type="application/json")
    assert made.status == 201, made.body
    url = f"ws://127.0.0.1:{triage.port}/api/v1/console"
    headers = {"Authorization": f"Bearer {made.json['token']}"}
    with connect(url, additional_headers=headers, compression=None, open_timeout=LONG) as ws:
        one = begun(ws)
        assert one["by"] == "short"
        assert triage.call("DELETE", f"/api/v1/tokens/{made.json['id']}").status == 204
        with contextlib.suppress(ConnectionClosed):
            while True:
                ws.recv(LONG)
        until(lambda: not alive(one["pid"]), "its shell is ended")
    with pytest.raises(InvalidStatus), connect(url, additional_headers=headers, compression=None):
        pass


def test_switching_the_console_off_ends_it(triage: Triage) -> None:
    config = triage.folder / "config.toml"
    text = config.read_text()
    with triage.terminal() as ws:
        pid = begun(ws)["pid"]
        try:
            config.write_text(text.replace("console = true", "console = false"))
            assert triage.call("POST", "/api/v1/config/reload", b"{}", Content_Type="application/json").status == 202
            assert ends(ws)[1:] == (1008, "the Console was switched off")
            assert not alive(pid)
        finally:
            config.write_text(text)
            assert triage.call("POST", "/api/v1/config/reload", b"{}", Content_Type="application/json").status == 202


def test_who_may_not_open_one(triage: Triage) -> None:
    body = b'{"name": "op", "role": "operator"}'
    operator = triage.call("POST", "/api/v1/tokens", body, Content_Type="application/json")
    good = {"Authorization": f"Bearer {triage.token}"}
    for headers, status in (
        ({}, 401), ({"Authorization": f"Bearer {operator.json['token']}"}, 403),
        ({**good, "Origin": "https://evil.example.com"}, 403), ({**good, "Host": "evil.example.com"}, 403),
    ):  # fmt: skip
        host = headers.pop("Host", f"127.0.0.1:{triage.port}")
        with socket.create_connection(("127.0.0.1", triage.port), LONG) as sock:
            sock.sendall(handshake("/api/v1/console", **{"Host": host, **headers}))
            assert answer_of(sock).status == status, headers
    assert triage.call("GET", "/api/v1/console").status == 426
    for query in ("cols=0", "cols=1001", "rows=x", "nope=1"):
        assert triage.raw(handshake(f"/api/v1/console?{query}", Connection="Upgrade")).status == 400, query
    assert triage.raw(handshake("/api/v1/console?app=nope")).status == 404
    assert triage.raw(handshake("/api/v1/console?app=away")).status == 409
    assert triage.raw(handshake("/api/v1/console", **{"Sec-WebSocket-Version": "5"})).status == 400
    until(lambda: not triage.call("GET", "/api/v1/consoles").json["items"], "none was opened")


def test_there_are_not_too_many(triage: Triage) -> None:
    until(lambda: not triage.call("GET", "/api/v1/consoles").json["items"], "none is open")
    with contextlib.ExitStack() as stack:
        for _ in range(5):
            begun(stack.enter_context(triage.terminal()))
        answer = triage.raw(handshake("/api/v1/console"))
        assert (answer.status, answer.kind) == (429, "too-many-consoles")
    until(lambda: not triage.call("GET", "/api/v1/consoles").json["items"], "all are closed")


def test_frames_that_are_none(triage: Triage) -> None:
    for frame in ('{"resize": [0, 5]}', '{"resize": ["a", 5]}', "{}", "[]", "not JSON", '{"resize": [80, 24], "x": 1}'):
        with triage.terminal() as ws:
            pid = begun(ws)["pid"]
            ws.send(frame)
            last, code, _ = ends(ws)
            assert code == 1007 and "not understood" in last["words"], frame
        until(lambda pid=pid: not alive(pid), "its shell is ended")  # type: ignore[misc]
    with triage.terminal() as ws:
        begun(ws)
        with contextlib.suppress(ConnectionClosed):
            ws.send(b"x" * 300_000)
        assert ends(ws)[1] in (1009, 1002)


def test_who_does_not_read_fills_no_memory(triage: Triage) -> None:
    """`yes` to one who does not read: it waits. What is typed and not read waits too, and Ctrl-C still comes."""
    with triage.socket() as sock:
        sock.sendall(handshake("/api/v1/console"))
        assert sock.recv(12) == b"HTTP/1.1 101"
        command = b"yes marker-of-flood\r"
        sock.sendall(bytes([0x82, 0x80 | len(command), 0, 0, 0, 0]) + command)
        (pid,) = until(lambda: with_argument("marker-of-flood"), "it runs")
        until(lambda: _still(pid), "it waits, because nobody reads")
        statm = Path(f"/proc/{triage.control}/statm").read_text()
        assert int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE") < 300_000_000
        assert triage.call("GET", "/api/v1/status").status == 200
    until(lambda: not with_argument("marker-of-flood"), "it is ended with its socket")
    with triage.terminal() as ws:
        begun(ws)
        ws.send(b"sleep 32.4\r")
        until(lambda: with_argument("32.4"), "it runs, and reads nothing")
        stop = threading.Event()

        def paste() -> None:
            with contextlib.suppress(ConnectionClosed):
                for _ in range(40):
                    ws.send(b"x" * 100_000)
            stop.set()

        pasting = threading.Thread(target=paste)
        pasting.start()
        assert triage.call("GET", "/api/v1/status").status == 200
        statm = Path(f"/proc/{triage.control}/statm").read_text()
        assert int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE") < 300_000_000
        ws.socket.shutdown(socket.SHUT_RDWR)
        pasting.join(LONG)
        assert stop.is_set()
    until(lambda: not with_argument("32.4"), "it is ended")


def _still(pid: int) -> bool:
    """It has not run for a while."""
    try:
        before = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        threading.Event().wait(0.3)
        after = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return before[11:13] == after[11:13] and after[0] == "S"


def test_nothing_stays_open(triage: Triage) -> None:
    """Commands that ran and that could not, terminals, files: control has as many descriptors as before."""

    def once() -> None:
        triage.command(["true"])
        triage.call("POST", "/api/v1/command", b'{"command": "nope-nope"}', Content_Type="application/json")
        triage.vfs("PUT", "site/open.txt", b"x", If_Match="*")
        triage.vfs("GET", "site/open.txt")
        with triage.terminal() as ws:
            begun(ws)

    def count() -> int:
        return len(os.listdir(f"/proc/{triage.control}/fd"))

    (triage.site / "open.txt").write_text("x")
    once()
    until(lambda: not triage.call("GET", "/api/v1/consoles").json["items"], "it is closed")
    before = count()
    for _ in range(6):
        once()
    until(lambda: count() <= before, "all is closed")


@pytest.fixture(scope="module")
def short() -> Iterator[Triage]:
    """Where nobody may be idle for long."""
    made = Triage(idle="1s")
    try:
        yield made
    finally:
        made.stop()


def test_one_in_which_nobody_types_is_ended(short: Triage) -> None:
    with short.terminal() as ws:
        pid = begun(ws)["pid"]
        last, code, reason = ends(ws)
        assert (code, reason) == (1008, "nobody typed for 1s") and last["words"].startswith("nobody typed for 1s; ")
        assert not alive(pid)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may change user")
def test_it_is_the_apps_user(triage: Triage) -> None:
    """Of an app without any instance: its place is what its next one would get."""
    with triage.terminal("app=other") as ws:
        assert begun(ws)["user"] == "nobody"
        ws.send(b"id -un; stat -c %U $(tty); cat " + str(triage.data / "admin.token").encode() + b"; echo don''e\r")
        text = said(ws, r"done\r\n")
        assert text.count("nobody\r\n") == 2 and triage.token not in text and "denied" in text
    told = triage.command("sh -c 'id -un; echo $GREETING'", app="other")
    assert "".join(text for kind, text in told if kind == "out") == "nobody\nother\n"


def test_control_killed_while_a_zip_is_unpacked_leaves_nothing(short: Triage) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for number in range(15_000):
            file.writestr(f"u/{number}", b"x" * 50)
    data = out.getvalue()
    before = sorted(os.listdir(short.site))
    with short.socket() as sock:
        head = f"PUT /api/v1/zip/site/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
        sock.sendall(head.encode() + data)
        until(lambda: any(name.startswith(".triage-unzip") for name in os.listdir(short.site)), "it is unpacked beside")
        os.kill(short.control, signal.SIGKILL)
    until(lambda: not any(name.startswith(".triage") for name in os.listdir(short.site)), "nothing is left beside")
    assert sorted(set(os.listdir(short.site)) - {"u"}) == before  # it may have been done by then
    until(lambda: short.call("GET", "/readyz").status == 200, "the next control serves")


def test_no_shell_outlives_the_gateway(short: Triage) -> None:
    """Control killed, and then the launcher: what ran in a terminal is ended each time, whatever it ignores."""
    for of_control in (True, False):
        with short.terminal() as ws:
            pid = begun(ws)["pid"]
            ws.send(b"trap '' HUP TERM; (trap '' HUP TERM; setsid sleep 32.5) & sleep 32.5\r")
            until(lambda: len(with_argument("32.5")) == 2, "it runs")
            os.kill(short.control if of_control else short.process.pid, signal.SIGKILL)
            until(lambda pid=pid: not alive(pid) and not with_argument("32.5"), "all of it is ended")  # type: ignore[misc]
            with contextlib.suppress(ConnectionClosed):
                ws.recv(LONG)
        if of_control:
            until(lambda: short.call("GET", "/readyz").status == 200, "the next control serves")
