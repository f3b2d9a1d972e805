import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from .conftest import Triage, app, until

pytestmark = pytest.mark.slow
Start = Callable[..., Triage]


def test_apps_come_and_go_and_the_others_stay(triage: Start) -> None:
    gateway = triage(app())
    gateway.ready(1)
    pid = gateway.instances()["web-1"]["pid"]
    result = gateway.reload(app() + app(name="shop"))
    assert (result["ok"], result["changes"]) == (True, ["app shop added"])
    gateway.ready(1, "shop")
    assert gateway.get("/shop")[1].startswith("shop-1")
    result = gateway.reload(app())
    assert result["changes"] == ["app shop removed"]
    until(lambda: gateway.get("/shop")[1].startswith("web-1"), "routed by web again")
    until(lambda: gateway.state()["leaving"] == 0, "the instances of shop are gone")
    assert gateway.instances()["web-1"]["pid"] == pid


def test_a_bad_config_changes_nothing(triage: Start) -> None:
    gateway = triage(app())
    gateway.ready(1)
    before = gateway.state()
    result = gateway.reload(app("instances = 'x'\nspeed = 1"))
    assert not result["ok"]
    assert len(result["problems"]) == 2
    assert all(":" in problem for problem in result["problems"])
    emptied = gateway.reload("# an editor has just begun to write this file\n")
    assert (emptied["ok"], len(emptied["problems"])) == (False, 1)
    after = gateway.state()
    assert after["apps"]["web"]["instances"]["web-1"]["pid"] == before["apps"]["web"]["instances"]["web-1"]["pid"]
    assert after["table"] == before["table"]
    assert gateway.event("reload-refused")


def test_a_taken_address_refuses_the_whole(triage: Start) -> None:
    import socket

    gateway = triage(app())
    gateway.ready(1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        text = f'[gateway]\nlisten = ["127.0.0.1:0", "127.0.0.1:{port}"]\nworkers = 1\n{app()}{app(name="shop")}'
        result = gateway.reload(text)
    assert not result["ok"]
    assert f"127.0.0.1:{port} is in use" in result["problems"][0]
    assert list(gateway.state()["apps"]) == ["web"]


def test_listeners_come_and_go(triage: Start, folder: Path) -> None:
    gateway = triage(app())
    gateway.ready(1)
    path = folder / "gw.sock"
    more = f'[gateway]\nlisten = ["127.0.0.1:0", "[::1]:0", "unix:{path}"]\nworkers = 1\n{app()}'
    assert gateway.reload(more)["ok"]
    listeners = gateway.state()["listeners"]
    assert len(listeners) == 3
    assert path.exists()
    six = next(one for one in listeners if one["host"] == "::1")

    def over_six() -> bool:
        import urllib.request

        with urllib.request.urlopen(f"http://[::1]:{six['port']}/", timeout=30) as answer:
            return bool(answer.status == 200)

    assert over_six()
    assert gateway.reload(app())["ok"]
    assert not path.exists()
    assert len(gateway.state()["listeners"]) == 1
    assert gateway.get("/")[0] == 200


def test_sighup_reads_the_file(triage: Start) -> None:
    gateway = triage(app())
    gateway.ready(1)
    gateway.config.write_text(gateway.whole(app("instances = 2")))
    os.kill(gateway.process.pid, signal.SIGHUP)
    gateway.ready(2)
    assert "reloaded by SIGHUP: apps.web: process changed" in gateway.event("reload")["text"]


def test_a_roll_loses_no_request(triage: Start) -> None:
    import threading

    gateway = triage(app("instances = 2"))
    gateway.ready(2)
    port = gateway.port()
    seen: list[tuple[int, str]] = []
    done = threading.Event()

    def load() -> None:
        while not done.is_set():
            status, body = gateway.get("/", port, "POST")
            seen.append((status, body.split()[0]))

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        assert gateway.reload(app('instances = 2\nenv = { GREETING = "new" }'))["ok"]

        def rolled() -> bool:
            found = gateway.instances()
            return set(found) == {"web-3", "web-4"} and all(o["lifecycle"] == "ready" for o in found.values())

        until(rolled, "both replaced", 60)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert {status for status, _ in seen} == {200}


def test_the_number_of_workers(triage: Start) -> None:
    gateway = triage(app())
    gateway.ready(1)
    text = f'[gateway]\nlisten = ["127.0.0.1:0"]\nworkers = 3\n{app()}'
    assert gateway.reload(text)["ok"]

    def alive() -> int:
        return sum(one["state"] == "alive" and one["acked"] > 0 for one in gateway.state()["workers"])

    until(lambda: alive() == 3, "three workers")
    assert len(gateway.state()["listeners"][0]["sockets"]) == 3
    for _ in range(20):
        assert gateway.get("/")[0] == 200
    assert gateway.reload(app())["ok"]
    until(lambda: len(gateway.state()["workers"]) == 1, "one is left")
    assert len(gateway.state()["listeners"][0]["sockets"]) == 3  # kept: giving one up resets who connects just then
    for _ in range(20):
        assert gateway.get("/")[0] == 200
    assert psutil.pid_exists(gateway.state()["workers"][0]["pid"])


def test_what_waits_for_the_next_start(triage: Start) -> None:
    gateway = triage(app())
    gateway.ready(1)
    result = gateway.reload(f'[gateway]\nlisten = ["127.0.0.1:0"]\nworkers = 1\ndata_dir = "other"\n{app()}')
    assert result["ok"]
    assert [line.partition(" ")[0] for line in result["next_start"]] == ["gateway.data_dir"]
