"""Scaling by rules, and watched files: a whole Triage, real requests, and nothing fails meanwhile."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.client import HOST, Load
from tests.e2e.mending import APPS, act, config, events, operations, pids, well
from tests.e2e.support import MARKER, Triage, until

pytestmark = pytest.mark.slow

SCALE = """
[apps.web.scale]
min = {least}
max = 3
out = [{{ inflight = {{ above = "60%" }} }}]
in = [{{ inflight = {{ below = "30%" }} }}]
cooldown = "1s"
"""


class Held:
    """Requests that last until they are let go."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.sockets: list[socket.socket] = []

    def more(self, count: int) -> None:
        for _ in range(count):
            sock = socket.create_connection((HOST, self.port))
            sock.sendall(b"GET /slow?ms=300000 HTTP/1.1\r\nHost: x\r\n\r\n")
            self.sockets.append(sock)

    def let_go(self) -> None:
        while self.sockets:
            self.sockets.pop().close()

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go()


def wanted(running: Triage) -> int:
    return int(running.api("apps/web")["wanted"])


def settled(running: Triage, count: int) -> None:
    def look() -> bool:
        return wanted(running) == count == len(running.instances("web")) == len(running.ready("web"))

    try:
        until(look, f"{count} instances, all ready")
    except AssertionError as error:
        raise AssertionError(f"{error}; {[one['words'] for one in events(running)]}") from None


def test_rules_scale_out_and_in_and_a_person_wins(gateway: Callable[..., Triage], folder: Path) -> None:
    app = 'max_inflight = 4\nretries = { attempts = 0 }\ntimeouts = { first_byte = "10m" }'
    text = config(app=app, more=SCALE.format(least=1))
    running = gateway(text)
    with Held(running.port) as held, Load(running.port, "/", clients=1) as load:
        held.more(3)  # 75 % of one's slots
        settled(running, 2)
        held.more(3)
        settled(running, 3)
        held.let_go()
        settled(running, 1)
        told = operations(running, "scale")
        assert [one["state"] for one in told] == ["done"] * 4
        assert {one["by"] for one in told} == {"rule scale"}
        first = min(told, key=lambda one: str(one["time"]))
        assert first["rule"] == "inflight above 60%"
        assert "out from 1 to 2: inflight above 60%: " in first["reason"]
        assert "of 4 slots in use" in first["value"]

        # by hand: rules only say what they would do
        act(running, "apps/web/scale", instances=2, reason="a sale")
        settled(running, 2)
        would = until(lambda: events(running, "would-scale"), "what they would do")[0]
        assert "would scale in to 1, but 2 are set by hand (a sale)" in would["words"]
        held.more(7)
        until(lambda: len(events(running, "would-scale")) > 1, "they changed their mind")
        assert "would scale out to 3" in events(running, "would-scale")[0]["words"]
        assert wanted(running) == 2
        act(running, "apps/web/scale", auto=True)
        settled(running, 3)  # and not first back to the one that rules had set before
        assert [one["details"].get("before") for one in operations(running, "scale")][:1] == [2]

        # what they set outlives control
        before = pids(running)
        os.kill(running.control(), signal.SIGKILL)
        until(lambda: running.try_api("events") and events(running, "control-restarted"), "control is back")
        settled(running, 3)
        assert pids(running) == before
        held.let_go()
        settled(running, 1)

        # bounds hold at once when they change
        (folder / "config.toml").write_text(config(app=app, more=SCALE.format(least=2)))
        assert running.cli("reload").returncode == 0
        settled(running, 2)
        assert "2 instances instead of 1: scale.min is 2" in events(running, "scale-bounds")[0]["words"]
    assert not load.failed, load.summary()


RULE = """
[[apps.web.autoheal]]
name = "files"
when = { changed = {} }
then = ["restart"]
min_age = "0s"
cooldown = "1s"
max_per_hour = 100
"""


def watched(folder: Path, rule: str = "", other_more: str = "") -> str:
    other = f'command = "{sys.executable} -I -S {APPS / "unwell.py"} {{port}}"'
    user = 'user = "root"' if os.geteuid() == 0 else ""
    table = f'[apps.other.process]\ninherit_env = ["PATH", "{MARKER}"]\n{other}\n{user}\n{other_more}\n'
    more = f'[apps.other]\npaths = ["/other"]\n{table}{rule}'
    command = f"{sys.executable} -I -S app.py {{port}}"
    return config(
        command, instances=2, process=f'cwd = "{folder}/app"\nwatch = ["*.py", "pages/**"]', more=more
    )


def by_watch(running: Triage, state: str) -> list[dict[str, Any]]:
    return [one for one in operations(running, "restart") if one["by"] == "watch" and one["state"] == state]


def test_changed_files_restart_their_app_only(gateway: Callable[..., Triage], folder: Path) -> None:
    home = folder / "app"
    home.mkdir()
    shutil.copy(APPS / "unwell.py", home / "app.py")
    good = (home / "app.py").read_text()
    running = gateway(watched(folder))
    until(lambda: len(running.ready("web")) == 2 and len(running.ready("other")) == 1, "all ready")
    before, other = pids(running), pids(running, "other")
    # what is changed before the first look is what instances started with: wait for one
    until(lambda: running.api("apps/web")["version"], "a version")
    with Load(running.port, "/", clients=2) as load:
        until(lambda: load.good > 200, "some answers: a few seconds, so files were looked at")
        (home / "app.py").write_text(f"{good}\n# another version\n")
        until(lambda: by_watch(running, "done"), "a restart")
        assert not pids(running) & before
        assert by_watch(running, "done")[0]["reason"] == "app.py changed"
        until(lambda: len(events(running, "deployed")) >= 1, "it is told as deployed")

        # a change that this control has no time to see is seen by the next
        kept = pids(running)
        (home / "app.py").write_text(f"{good}\n# a third one\n")
        os.kill(running.control(), signal.SIGKILL)
        until(lambda: running.try_api("operations") and len(by_watch(running, "done")) == 2, "a restart all the same")
        assert not pids(running) & kept

        # a thousand files in some moments are one change
        (home / "pages" / "deep").mkdir(parents=True)
        for number in range(500):
            (home / "pages" / "deep" / f"{number}.html").write_text("x")
            (home / "pages" / f"{number}.html").write_text("x")
        until(lambda: len(by_watch(running, "done")) == 3, "one more restart")
        assert by_watch(running, "done")[0]["reason"].endswith("changed (and 999 more)")

        # a file that does not work leaves the old ones, and says why
        kept = pids(running)
        (home / "app.py").write_text("this is no Python\n")
        failed = until(lambda: by_watch(running, "failed"), "a restart that fails")[0]
        assert "SyntaxError" in failed["why"], failed
        assert pids(running) == kept
        assert "serving on" in running.api("apps/web")["verdict"], running.api("apps/web")["verdict"]
        (home / "app.py").write_text(good)
        until(lambda: len(by_watch(running, "done")) == 4, "the next change tries again")
        until(lambda: len(running.ready("web")) == 2 == len(running.instances("web")), "two again")
        assert not pids(running) & kept
        assert len(operations(running, "restart")) == 5
        assert pids(running, "other") == other

        # a rule for the same files decides instead, and a changed process table concerns its own app only
        kept = pids(running)
        (folder / "config.toml").write_text(watched(folder, RULE, 'env = { WHICH = "other" }'))
        assert running.cli("reload").returncode == 0
        until(lambda: well(running, 1, "other") and not pids(running, "other") & other, "the other one is replaced")
        assert pids(running) == kept
        (home / "app.py").write_text(f"{good}\n# one more\n")
        until(lambda: well(running, 2) and not pids(running) & kept, "the rule has restarted it")
        assert len(by_watch(running, "done")) == 4
        assert any(one["rule"] == "files" for one in operations(running, "restart"))
    assert not load.failed, load.summary()
