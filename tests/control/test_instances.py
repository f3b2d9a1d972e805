"""Instances, for real: the launcher, control, a worker, and apps that do what tests want."""

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from .conftest import APP, HERE, Triage, app, until

pytestmark = pytest.mark.slow
Start = Callable[..., Triage]


def script(folder: Path, text: str) -> str:
    path = folder / "script.py"
    path.write_text(text)
    return f"{sys.executable} {path} {{port}}"


def test_ready_after_its_probe_and_served(triage: Start, folder: Path) -> None:
    sick = folder / "sick"
    sick.touch()
    gateway = triage(app(f'env = {{ SICK_FILE = "{sick}", GREETING = "hi" }}'))
    until(lambda: gateway.instances().get("web-1", {}).get("probe"), "the first probe")
    one = gateway.instances()["web-1"]
    assert one["lifecycle"] == "warming"
    assert one["why"] == "not ready yet: status 500"
    sick.unlink()
    gateway.ready(1)
    status, body = gateway.get("/")
    assert (status, body.split()[0], body.split()[2]) == (200, "web-1", "hi")
    one = gateway.instances()["web-1"]
    assert one["usage"] is None or one["usage"]["rss"] > 0
    assert gateway.ask("last_lines", instance="web-1") == ["hello from web-1"]
    until(lambda: gateway.instances()["web-1"]["usage"], "a sample of its use")


def test_a_crash_costs_one_answer_and_is_replaced_at_once(triage: Start) -> None:
    gateway = triage(app("instances = 2"))
    gateway.ready(2)
    status, _ = gateway.get("/crash")
    assert status == 502
    event = gateway.event("exited")
    assert event["details"]["code"] == 3
    assert event["details"]["by_itself"]
    assert event["details"]["last_lines"][-1] == "about to crash"
    names = gateway.ready(2)
    assert "web-3" in names
    state = gateway.state()["apps"]["web"]
    replaced = state["instances"]["web-3"]
    assert replaced["restarts"] == 1
    assert replaced["last_exit"]["words"] == "exit code 3"
    assert state["gone"] == [event["instance"]]
    found = until(lambda: gateway.state()["apps"]["web"]["ended"], "the exit is kept")
    assert found[-1]["name"] == event["instance"]


def test_a_start_that_fails_backs_off_with_its_last_lines_then_has_failed(triage: Start, folder: Path) -> None:
    command = script(folder, "import sys; print('no database'); sys.exit(1)")
    gateway = triage(app(command=command))
    first = gateway.event("backoff")
    assert "code 1; tried again in" in first["text"]
    assert first["text"].endswith("its last lines: no database")
    failed = gateway.event("failed", deadline=60)
    assert failed["details"]["last_lines"] == ["no database"]
    one = gateway.instances()["web-1"]
    assert one["lifecycle"] == "failed"
    assert one["restarts"] == 5
    assert "no database" in one["why"]
    assert gateway.state()["verdict"]["state"] == "down"
    fixed = gateway.reload(app())
    assert fixed["ok"]
    gateway.ready(1)


def test_a_command_that_is_not_there_is_said(triage: Start) -> None:
    gateway = triage(app(command="/nowhere/app {port}"))
    event = gateway.event("backoff")
    assert "could not be started: /nowhere/app: no such file" in event["text"]


def test_the_wrong_port_is_named(triage: Start, folder: Path) -> None:
    text = (
        "import http.server, socket\n"
        "with socket.socket() as s:\n"
        "    s.bind(('127.0.0.1', 0)); port = s.getsockname()[1]\n"
        "http.server.HTTPServer(('127.0.0.1', port), http.server.SimpleHTTPRequestHandler).serve_forever()\n"
    )
    gateway = triage(app(command=script(folder, text)), run=True)
    event = gateway.event("hint")
    one = gateway.instances()["web-1"]
    other = one["listens_on"][0].rpartition(":")[2]
    said = f"web-1 runs but listens on {other}, not {one['port']}: pass {{port}} or read $PORT"
    assert event["text"] == said
    assert f"triage: {said}\n" in gateway.errors()
    until(lambda: gateway.instances()["web-1"]["why"] == said.partition(" ")[2], "status says so, probe after probe")


def test_the_right_port_of_a_wrong_address_is_named(triage: Start, folder: Path) -> None:
    text = (
        "import os, socket, time\n"
        "with socket.socket(socket.AF_INET6) as s:\n"
        "    s.bind(('::1', int(os.environ['PORT']))); s.listen(); time.sleep(1000)\n"
    )
    gateway = triage(app(command=script(folder, text)))
    port = until(lambda: gateway.instances().get("web-1", {}).get("port"), "its port")
    said = f"runs but listens on [::1]:{port}, not 127.0.0.1:{port}"
    until(lambda: gateway.instances()["web-1"]["why"] == said, said)


def test_output_is_echoed_under_run(triage: Start) -> None:
    gateway = triage(app(), run=True)
    gateway.ready(1)
    until(lambda: "web-1 | hello from web-1\n" in gateway.stdout_path.read_text(), "the echo")


def test_too_slow_is_said_and_tried_again(triage: Start, folder: Path) -> None:
    sick = folder / "sick"
    sick.touch()
    more = f'env = {{ SICK_FILE = "{sick}" }}'
    gateway = triage(app(more, health='ready_within = "1500ms"'))
    event = gateway.event("too-slow")
    assert event["text"] == "web-1 was not ready within 1.5 s: status 500; its last lines: hello from web-1"
    assert event["details"]["trouble"] == "too-slow"
    until(lambda: "web-2" in gateway.instances(), "its successor")
    sick.unlink()
    gateway.ready(1)


def test_a_number_is_never_used_again(triage: Start, folder: Path) -> None:
    gateway = triage(app())
    assert gateway.ready(1) == ["web-1"]
    assert gateway.stop() == 0
    again = triage(app())
    assert again.ready(1) == ["web-2"]


@pytest.mark.parametrize("bind", ["unix", "fd"])
def test_other_ways_to_listen(triage: Start, bind: str) -> None:
    command = f"{APP} {{socket}}" if bind == "unix" else APP
    gateway = triage(app(f'bind = "{bind}"', command=command))
    gateway.ready(1)
    assert gateway.get("/")[0] == 200
    before = gateway.instances()["web-1"]
    gateway.get("/crash")
    until(lambda: "web-2" in gateway.instances(), "its successor")
    gateway.ready(1)
    assert gateway.get("/")[0] == 200
    if bind == "unix":
        assert not os.path.exists(before["path"])


def test_one_that_does_not_stop_is_killed(triage: Start) -> None:
    gateway = triage(app('env = { IGNORE_TERM = "1" }').replace('"5s"', '"500ms"'))
    gateway.ready(1)
    pid = gateway.instances()["web-1"]["pid"]
    assert gateway.reload(app(name="shop"))["ok"]
    assert "so that it writes its stacks" in gateway.event("aborted")["text"]
    until(lambda: not psutil.pid_exists(pid), "it is gone")
    log = gateway.folder / "var/logs/instances/web-1.log"
    until(lambda: "serve_forever" in log.read_text(), "its stacks are written")
    assert "Fatal Python error: Aborted" in log.read_text()


def test_one_that_catches_nothing_is_killed_at_once(triage: Start, folder: Path) -> None:
    """A program without Python's fault handler is not aborted: it would write a core file of its whole memory."""
    path = folder / "stubborn.sh"
    path.write_text(f"trap '' TERM\n{APP} $1 &\nwhile :; do sleep 0.05; done\n")
    more = 'env = { PYTHONFAULTHANDLER = "" }'
    gateway = triage(app(more, command=f"sh {path} {{port}}").replace('"5s"', '"500ms"'))
    gateway.ready(1)
    tree = psutil.Process(gateway.instances()["web-1"]["pid"]).children(recursive=True)
    assert gateway.reload(app(name="shop"))["ok"]
    gateway.event("killed")
    assert not [e for e in gateway.state()["events"] if e["kind"] == "aborted"]
    until(lambda: not any(one.is_running() and one.status() != "zombie" for one in tree), "nothing is left of it")


def test_draining_waits_for_requests_and_cuts_at_the_limit(triage: Start) -> None:
    gateway = triage(app().replace('"5s"', '"2s"'))
    gateway.ready(1)
    port = gateway.port()
    answers: dict[str, tuple[int, str]] = {}

    def ask(path: str) -> None:
        answers[path] = gateway.get(path, port, "POST")

    threads = [threading.Thread(target=ask, args=(path,)) for path in ("/slow?1", "/slow?20")]
    for thread in threads:
        thread.start()
    until(lambda: gateway.instances()["web-1"]["inflight"] == 2, "both are on it")
    assert gateway.reload(app('env = { GREETING = "new" }').replace('"5s"', '"2s"'))["ok"]
    gateway.event("drain-cut", "1 request on web-1 outlasted the drain limit")
    for thread in threads:
        thread.join(30)
    assert answers["/slow?1"][0] == 200
    assert answers["/slow?20"][0] == 502
    assert "instance-recycled" in answers["/slow?20"][1]
    assert gateway.ready(1) == ["web-2"]
    assert gateway.get("/")[1].split()[2] == "new"


def test_an_event_stream_drains_by_its_own_rule(triage: Start) -> None:
    """The drain limit cuts what waits; the stream goes on until `tunnel.drain`, and the instance with it."""
    config = app().replace('"5s"', '"1s"') + '[apps.web.tunnel]\ndrain = "5s"\n'
    gateway = triage(config)
    gateway.ready(1)
    with socket.create_connection(("127.0.0.1", gateway.port()), timeout=30) as stream:
        stream.sendall(b"GET /events HTTP/1.1\r\nHost: a.example\r\n\r\n")
        assert b"text/event-stream" in stream.recv(65536)
        waiting = threading.Thread(target=gateway.get, args=("/slow?60", gateway.port(), "POST"))
        waiting.start()
        until(lambda: gateway.instances()["web-1"]["inflight"] == 2, "both are on it")
        pid = gateway.instances()["web-1"]["pid"]
        began = time.monotonic()
        assert gateway.reload(config.replace("user =", 'env = { GREETING = "new" }\nuser ='))["ok"]
        gateway.event("drain-cut", "1 request on web-1 outlasted the drain limit")
        waiting.join(30)
        assert stream.recv(65536) and psutil.pid_exists(pid)
        with contextlib.suppress(ConnectionResetError):
            while stream.recv(65536):
                pass
        assert time.monotonic() - began >= 5.0
    until(lambda: not psutil.pid_exists(pid), "it is gone")
    assert gateway.ready(1) == ["web-2"]


def test_failing_probes_of_all_still_serve(triage: Start, folder: Path) -> None:
    sick = folder / "sick"
    gateway = triage(app(f'instances = 2\nenv = {{ SICK_FILE = "{sick}" }}'))
    gateway.ready(2)
    sick.touch()
    gateway.event("ejected")
    gateway.event("failing")
    assert gateway.get("/")[0] == 200
    found = gateway.state()
    assert found["verdict"]["state"] == "degraded"
    sick.unlink()
    until(lambda: gateway.state()["verdict"]["state"] == "up", "well again")
    gateway.event("admitted")


def test_addresses_are_admitted_at_once_and_leave_when_refused(triage: Start, folder: Path) -> None:
    import http.server
    import threading

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    port = server.server_port
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        gateway = triage(
            f'[apps.web]\naddresses = ["http://localhost:{port}"]\n[apps.web.health]\ninterval = "1s"\n'
        )
        until(lambda: gateway.state()["ready"], "admitted")
        name = f"localhost:{port}"
        until(lambda: gateway.instances()[name]["resolved"], "its name is resolved")
        assert gateway.get("/")[0] == 200

        def probe() -> str:
            return str((gateway.instances()[name]["probe"] or {}).get("words"))

        until(lambda: gateway.get("/")[0] == 200 and probe() == "answers requests", "answers stand in for a probe")
        until(lambda: probe() == "connected", "without requests it is probed")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    gateway.event("ejected", "connection refused")
    assert gateway.instances()[name]["admission"] == "ejected"


def test_stop_takes_little_when_nothing_runs(triage: Start) -> None:
    gateway = triage(app("instances = 2"))
    gateway.ready(2)
    began = time.monotonic()
    assert gateway.stop() == 0
    assert time.monotonic() - began < 20


def test_a_suspect_is_listed(triage: Start) -> None:
    assert (HERE / "apps" / "app.py").exists()
    gateway = triage(app("instances = 2"))
    gateway.ready(2)
    gateway.get("/abort")
    event = gateway.event("exited")
    assert event["details"]["signal"] == 6
    assert event["details"]["by_itself"]
