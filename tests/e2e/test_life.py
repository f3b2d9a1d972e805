"""How a gateway starts, reloads and ends."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

import psutil
import pytest
from websockets.sync.client import connect

from tests.e2e.client import Answer, ask
from tests.e2e.support import LONG, Triage, marked, process_table, shop_config, until

pytestmark = pytest.mark.slow

Start = Callable[..., Triage]


def asking(port: int, target: str) -> tuple[threading.Thread, list[Answer]]:
    """A request under way; its answer is in the list when the thread has ended."""
    answers: list[Answer] = []
    thread = threading.Thread(target=lambda: answers.append(ask(port, target)))
    thread.start()
    return thread, answers


def in_flight(running: Triage, number: int) -> None:
    until(lambda: sum(one["in_flight"] for one in running.ready()) == number, f"{number} in flight")


def test_a_second_one_on_the_same_address_is_refused(gateway: Start) -> None:
    first = gateway(shop_config(instances=1, workers=2))
    same = shop_config(instances=1).replace('["127.0.0.1:0"]', f'["127.0.0.1:{first.port}"]')
    second = gateway(same, name="second", ready=False)
    assert second.await_exit() == 1
    assert f"127.0.0.1:{first.port} is in use by" in second.output
    assert f"pid {first.pid}" in second.output
    assert ask(first.port, "/products").status == 200


def test_a_second_one_on_the_same_data_is_refused(gateway: Start) -> None:
    first = gateway(shop_config(instances=1, workers=1))
    second = gateway(shop_config(instances=1, workers=1), ready=False)
    assert second.await_exit() == 1
    assert f"another Triage (pid {first.pid})" in second.output


def test_nothing_is_left_of_a_killed_launcher(gateway: Start) -> None:
    first = gateway(shop_config())
    assert len(marked(first.marker)) >= 6  # launcher, control, two workers, two instances
    os.kill(first.pid, signal.SIGKILL)
    first.await_exit()
    second = gateway(shop_config())
    until(lambda: not marked(first.marker), "nothing left of the first")
    assert ask(second.port, "/products").status == 200


def test_sigterm_lets_requests_end(gateway: Start) -> None:
    running = gateway(shop_config())
    port = running.port
    thread, answers = asking(port, "/slow?s=4")
    in_flight(running, 1)
    os.kill(running.pid, signal.SIGTERM)
    until(lambda: ask(port, "/products").status == 0, "who comes now is refused")
    assert running.process.poll() is None and not answers, "while the request goes on"
    thread.join(LONG)
    assert [answer.status for answer in answers] == [200], answers
    assert running.await_exit() == 0
    running.nothing_left()
    assert ask(port, "/products").status == 0


def test_a_second_sigterm_ends_it_now(gateway: Start) -> None:
    running = gateway(shop_config())
    thread, answers = asking(running.port, "/slow?s=60")
    in_flight(running, 1)
    os.kill(running.pid, signal.SIGTERM)
    until(
        lambda: (running.try_api("status") or {"gateway": {}})["gateway"].get("draining", True), "it drains"
    )
    assert running.process.poll() is None, "it waits for the request"
    os.kill(running.pid, signal.SIGTERM)
    assert running.await_exit(25) == 128 + signal.SIGTERM
    thread.join(LONG)
    assert [answer.status for answer in answers] == [0]
    running.nothing_left()


def test_processes_have_their_names(gateway: Start) -> None:
    running = gateway(shop_config(instances=1))
    launcher = psutil.Process(running.pid)
    assert launcher.name() == "triage"
    wanted = ["triage-control", "triage-worker1", "triage-worker2"]

    def named() -> bool:  # one that answers already may not have named itself yet
        names = sorted(child.name() for child in launcher.children())
        return [name for name in names if name.startswith("triage")] == wanted

    until(named, f"{wanted}")


def test_a_bad_file_changes_nothing(gateway: Start) -> None:
    running = gateway(shop_config())
    until(lambda: len(running.ready()) == 2, "both are ready")
    before = {one["id"]: one["pid"] for one in running.ready()}
    (running.folder / "config.toml").write_text(shop_config().replace("workers", "wrkers"))
    os.kill(running.pid, signal.SIGHUP)
    until(lambda: running.api("status")["gateway"]["config"]["error"], "the refusal is shown")
    done = running.cli("reload")
    assert done.returncode == 1
    assert 'gateway.wrkers: unknown key - did you mean "workers"?' in done.stderr
    assert {one["id"]: one["pid"] for one in running.ready()} == before
    assert ask(running.port, "/products").status == 200


def test_a_reload_keeps_what_did_not_change(gateway: Start) -> None:
    """An app is added and taken away again; a WebSocket through the other lives on."""
    config = shop_config(instances=1)
    running = gateway(config)
    port = running.port
    before = {one["id"]: one["pid"] for one in running.ready()}
    with connect(f"ws://127.0.0.1:{port}/ws", open_timeout=LONG, proxy=None) as tunnel:
        tunnel.send("before")
        assert tunnel.recv(LONG) == "before"
        second = '\n[apps.second]\npaths = ["/second"]\nstrip_prefix = true\n' + process_table("second", 1)
        (running.folder / "config.toml").write_text(config + second)
        done = running.cli("reload")
        assert done.returncode == 0, done.stderr
        until(lambda: ask(port, "/second/products").status == 200, "the new app answers")
        tunnel.send("with it")
        assert tunnel.recv(LONG) == "with it"
        (running.folder / "config.toml").write_text(config)
        os.kill(running.pid, signal.SIGHUP)
        until(lambda: ask(port, "/second/products").status != 200, "the app is gone")
        tunnel.send("after")
        assert tunnel.recv(LONG) == "after"
    assert {one["id"]: one["pid"] for one in running.ready()} == before


def test_an_instance_count_changed_by_reload(gateway: Start) -> None:
    running = gateway(shop_config(instances=1, workers=1))
    first = running.ready()[0]["pid"]
    (running.folder / "config.toml").write_text(shop_config(instances=2, workers=1))
    assert running.cli("reload").returncode == 0
    until(lambda: len(running.ready()) == 2, "a second instance")
    assert first in {one["pid"] for one in running.ready()}


def test_the_state_is_private(gateway: Start) -> None:
    running = gateway(shop_config(instances=1, workers=1))
    assert running.data.stat().st_mode & 0o777 == 0o700
