"""An app fails, and gets well: what a dashboard, an incident, a message and the past say of it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from proxy.cli.client import Gateway, NotThere
from tests.e2e.client import ask
from tests.e2e.support import LONG, Triage, serve, shop_config, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
CLOSES: float = 150.0
"""Seconds: three clean checks, ten seconds apart, on a busy machine."""


class Receiver:
    """Takes webhooks."""

    def __init__(self) -> None:
        self.came: list[tuple[float, dict[str, Any]]] = []
        came = self.came

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                came.append((time.monotonic(), json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/hook"

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


class Dashboard:
    """The stream that the dashboard shows, read by a thread until the first fault is seen in it."""

    def __init__(self, admin: str) -> None:
        self.messages = 0
        self.failing_at = 0.0
        self._gateway = Gateway(admin, timeout=LONG)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        try:
            for message in self._gateway.stream("metrics/stream", follow="true"):
                self.messages += 1
                if message.data and message.data["fault"]:
                    self.failing_at = time.monotonic()
                    return
        except NotThere:
            pass

    def close(self) -> None:
        self._thread.join(LONG)
        self._gateway.close()


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture(scope="module")
def shop(module_folder: Path, receiver: Receiver) -> Iterator[Triage]:
    config = shop_config() + f'\n[notify.ops]\nwebhook = "{receiver.url}"\n'
    running = serve(module_folder, config)
    try:
        yield running.await_ready()
    finally:
        running.end()


def incidents(shop: Triage, **query: Any) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = shop.api("incidents", **query)["items"]
    return items


def written(shop: Triage, table: str) -> int:
    """Rows in the store's file."""
    with contextlib.closing(sqlite3.connect(f"file:{shop.data}/store.db?mode=ro", uri=True)) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def test_a_failing_app_is_seen_is_told_and_is_over(shop: Triage, receiver: Receiver) -> None:
    until(lambda: len(shop.ready()) == 2, "two instances")
    for _ in range(20):
        assert ask(shop.port, "/products").status == 200
    assert incidents(shop) == [], "an app that is well has none"
    dashboard = Dashboard(shop.admin)
    until(lambda: dashboard.messages > 1, "the dashboard has its news")
    first = opened = 0.0
    deadline = time.monotonic() + 2 * LONG
    while not (opened and dashboard.failing_at and receiver.came):
        assert time.monotonic() < deadline, f"fault {first}, incident {opened}, told {receiver.came}, {dashboard}"
        if ask(shop.port, "/garbage").status >= 502 and not first:
            first = time.monotonic()
        time.sleep(0.05)
        if not opened and incidents(shop, open="true"):
            opened = time.monotonic()
    dashboard.close()
    told, message = receiver.came[0]
    print(f"dashboard {dashboard.failing_at - first:.2f} s, incident {opened - first:.2f} s, told {told - first:.2f} s")

    (one,) = incidents(shop, open="true")
    assert one["app"] == "shop" and one["scope"] == "app" and one["faults"] and one["hit"]
    assert message["status"] == "firing" and message["version"] == "4"
    assert one["id"] in json.dumps(message)

    status = shop.api("status")
    assert one["id"] in [each["id"] for each in status["incidents"]]
    why = shop.api(f"incidents/{one['id']}/why")
    assert why["subject"] == "incident" and why["why"] and one["id"] in why["text"]

    def closed() -> bool:
        ask(shop.port, "/products")  # who is asked again, and answers, is well
        return bool(shop.api(f"incidents/{one['id']}")["state"] == "closed")

    until(closed, "it is closed", CLOSES)
    whole = shop.api(f"incidents/{one['id']}")
    assert whole["ended"] > whole["began"] and "opened" in [step["kind"] for step in whole["steps"]]
    resolved = until(lambda: [each for _, each in receiver.came if each["status"] == "resolved"], "its end is told")
    assert resolved[0]["groupKey"] == message["groupKey"]
    kinds = [event["kind"] for event in shop.api("events", app="shop", limit=1000)["items"]]
    assert "incident-opened" in kinds and "incident-closed" in kinds


def test_the_past_outlives_control_and_a_restart(shop: Triage, module_folder: Path) -> None:
    answer = ask(shop.port, "/raise")
    assert answer.status == 500
    lost = ask(shop.port, "/crash")
    assert lost.status == 502
    id = lost.fields["x-request-id"]
    until(lambda: any(one["id"] == id for one in shop.api("requests", limit=100)["items"]), "it is kept")
    until(lambda: shop.api("exceptions", app="shop")["items"], "the traceback is an exception")
    until(lambda: written(shop, "exceptions") and written(shop, "requests"), "the store has both")

    def past(running: Triage) -> None:
        assert any(one["id"] == id for one in running.api("requests", limit=200)["items"])
        assert running.api(f"requests/{id}/why")["request"]["fault"] == "instance-exited"
        assert incidents(running)
        assert running.api("exceptions", app="shop")["items"][0]["count"] >= 1
        assert running.api("logs", app="shop", grep="fatal")["items"]
        found = running.api("metrics/query", name="requests", app="shop", **{"from": "15m", "step": "10s"})
        assert any(value for _, value in found["series"][0]["points"])

    until(lambda: shop.api("metrics/query", name="requests", app="shop", **{"from": "15m", "step": "10s"}), "asked")
    past(shop)
    told = {event["id"] for event in shop.api("events", limit=1000)["items"]}
    until(lambda: written(shop, "events") >= len(told), "the store has all events")
    control = shop.control()
    os.kill(control, signal.SIGKILL)
    until(lambda: shop.control() not in (0, control) and shop.try_api("/readyz"), "a new control")
    past(shop)
    assert told <= {event["id"] for event in shop.api("events", limit=1000)["items"]}

    shop.process.send_signal(signal.SIGTERM)
    shop.await_exit()
    again = serve(module_folder, (module_folder / "config.toml").read_text())
    try:
        again.await_ready()
        past(again)
    finally:
        again.end()
