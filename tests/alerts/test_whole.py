"""A whole gateway: from the fault to the message, a notifier that fails, a control that is killed, mute."""

from __future__ import annotations

import http.server
import json
import os
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.cli.client import ApiError, Gateway
from tests.alerts.receivers import Answer, Hook
from tests.e2e.support import LONG, Triage, serve, until

pytestmark = pytest.mark.slow

WITHIN = 15.0
"""Seconds from the first fault to the message."""


class Origin:
    """An app that a test can take off the network."""

    def __init__(self) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.there = True

    def leave(self) -> None:
        if self.there:
            self.there = False
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()


class Scene:
    """The gateway with two apps, and those who are told."""

    def __init__(self, folder: Path) -> None:
        self.ops, self.bad = Hook(), Hook()
        self.bad.then = Answer(500, content=b"out of order")
        self.web, self.quiet = Origin(), Origin()
        self.file = folder / "told"
        self.triage: Triage = serve(
            folder,
            f"""
            [gateway]
            listen = ["127.0.0.1:0"]
            workers = 1
            data_dir = "var"
            [admin]
            listen = "127.0.0.1:0"
            url = "https://ops.example.com/"
            [apps.web]
            addresses = ["http://127.0.0.1:{self.web.port}"]
            diagnose = {{ on = [] }}
            health = {{ path = "/", interval = "1s", fails = 1 }}
            queue = {{ timeout = "50ms" }}
            [apps.quiet]
            paths = ["/quiet"]
            addresses = ["http://127.0.0.1:{self.quiet.port}"]
            diagnose = {{ on = [] }}
            health = {{ path = "/", interval = "1s", fails = 1 }}
            queue = {{ timeout = "50ms" }}
            [[alerts]]
            name = "acts"
            when = {{ event = {{ kinds = ["mute"], within = "5s" }} }}
            notify = []
            [notify.ops]
            webhook = "{self.ops.url}"
            secret = "geheim"
            [notify.bad]
            webhook = "{self.bad.url}"
            [notify.file]
            command = ["sh", "-c", "cat >> {self.file}"]
            """,
        )

    def close(self) -> None:
        try:
            self.triage.end()
        finally:
            for one in (self.web, self.quiet):
                one.leave()
            for hook in (self.ops, self.bad):
                hook.close()

    def post(self, path: str, body: dict[str, Any]) -> Any:
        gateway = Gateway(self.triage.admin, timeout=LONG)
        try:
            return gateway.post(path, body)
        finally:
            gateway.close()

    def notifier(self, name: str) -> dict[str, Any]:
        found = self.triage.api("alerts")["notifiers"]
        return dict(next(one for one in found if one["id"] == name))

    def rules(self, name: str) -> list[str]:
        """States."""
        return [one["state"] for one in self.triage.api("alerts")["items"] if one["name"] == name]

    def events(self, kind: str) -> list[dict[str, Any]]:
        return list(self.triage.api("events", kind=kind)["items"])

    def ask(self, path: str) -> int:
        try:
            with urllib.request.urlopen(self.triage.url + path, timeout=40) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    try:
        made.triage.await_ready()
        yield made
    finally:
        made.close()
        print(made.triage.output)  # shown of a test that fails


@pytest.mark.timeout(180)
def test_from_the_fault_to_the_message_and_on(scene: Scene) -> None:
    triage = scene.triage
    until(lambda: (scene.ask("/"), scene.ask("/quiet")) == (200, 200), "both apps answer")
    found = triage.api("alerts")
    assert [one["state"] for one in found["notifiers"]] == ["unused"] * 3
    assert "geheim" not in json.dumps(found) and "sekret" not in json.dumps(found)

    # A test message, and what came of it.
    answer = scene.post("alerts/test", {"notifier": "ops"})
    assert (answer["ok"], answer["words"]) == (True, "status 200")
    answer = scene.post("alerts/test", {"notifier": "bad"})
    assert (answer["ok"], answer["error"]) == (False, "status 500: out of order")
    with pytest.raises(ApiError, match="There is no notifier 'nobody'"):
        scene.post("alerts/test", {"notifier": "nobody"})
    scene.ops.got.clear()

    # Mute one of the apps.
    with pytest.raises(ApiError, match="mute of quiet is not possible"):
        scene.post("apps/quiet/mute", {"for": "31d"})
    foreseen = scene.post("apps/quiet/mute", {"for": "1h", "preview": True})
    assert "nobody is told of incidents of quiet for" in foreseen["will"][0]
    assert scene.post("apps/quiet/mute", {"for": "1h", "reason": "we know"})["act"] == "mute"
    shown = triage.api("apps/quiet")
    assert shown["muted_until"] == shown["by_hand"]["muted"]["until"]
    assert shown["by_hand"]["muted"]["why"] == "we know"
    assert triage.api("apps/web")["muted_until"] is None

    # An alert that nobody is told of is an incident all the same. By then both apps were seen to be well.
    until(lambda: "firing" in scene.rules("acts"), "the rule about acts")

    # Both go down; one is told of.
    scene.web.leave()
    scene.quiet.leave()
    began = time.time()
    for _ in range(10):
        assert scene.ask("/") >= 500
        scene.ask("/quiet")
    first = until(lambda: scene.ops.of("opened"), "the message")[0]
    assert first.at - began < WITHIN
    message = first.json
    assert message["status"] == "firing"
    assert message["commonLabels"]["app"] == "web"
    assert message["commonLabels"]["severity"] == "down"
    incident = message["groupLabels"]["incident"]
    annotations = message["commonAnnotations"]
    assert annotations["command"] == f"triage why {incident}"
    assert annotations["link"] == f"https://ops.example.com/#/incidents/{incident}"
    assert "requests failed (" in annotations["hit"]
    lines = until(lambda: scene.file.exists() and scene.file.read_text().splitlines(), "the command was told")
    assert json.loads(lines[0])["incident"] == incident

    # Who can't be told is named, once.
    until(lambda: scene.events("notify-failing"), "said that it fails")
    assert scene.notifier("bad")["state"] == "failing"
    assert scene.notifier("bad")["waiting"] == 1
    assert any("bad can't be told of alerts" in line for line in triage.api("status")["gateway"]["notices"])
    assert "geheim" not in triage.output and "sekret" not in triage.output

    # Control is killed; the next one brings what was unsent, and nothing twice.
    ids = {got.headers["x-triage-id"] for got in scene.bad.of("opened")}
    assert len(ids) == 1
    control = triage.control()
    os.kill(control, signal.SIGKILL)
    until(lambda: triage.control() not in (0, control) and triage.try_api("alerts"), "another control")
    scene.bad.then = Answer(200)
    until(lambda: scene.notifier("bad")["state"] == "ok", "the message of before")
    assert scene.bad.got[-1].headers["x-triage-id"] in ids
    assert {got.json["groupLabels"]["incident"] for got in scene.bad.of("opened")} == {incident}
    until(lambda: scene.events("notify-recovered"), "said that it works again")
    assert len(scene.ops.of("opened")) == 1, "nobody is told twice"
    assert len(scene.events("notify-failing")) == 1
    assert not [got for got in scene.ops.got if got.json["commonLabels"].get("app") == "quiet"]

    # The mute ends: what is open is told of.
    scene.post("apps/quiet/mute", {"unmute": True})
    until(lambda: len(scene.ops.of("opened")) == 2, "the muted app's message")
    assert scene.ops.got[-1].json["commonLabels"]["app"] == "quiet"
    assert triage.api("apps/quiet")["muted_until"] is None
    messages = triage.api("alerts")["messages"]
    assert {one["state"] for one in messages if one["incident"] == incident} == {"sent"}
    assert {one["notifier"] for one in messages} == {"ops", "bad", "file"}
