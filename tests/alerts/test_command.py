"""Commands: real ones."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from proxy.config import Notify
from proxy.control.alerts.message import Message
from proxy.control.alerts.notifiers import make
from proxy.control.alerts.notifiers.contract import Failed, Place
from tests.alerts.receivers import until

Make = Callable[..., Message]
pytestmark = pytest.mark.slow


def notifier(folder: Path, *arguments: str) -> Any:
    return make("pager", Notify(command=arguments), Place(str(folder), "box", "1"))


async def test_the_message_is_its_input_and_its_environment(tmp_path: Path, message: Make) -> None:
    script = (
        "import json, os, sys; open('out', 'w').write(json.dumps([json.load(sys.stdin), sys.argv[1:],"
        " {n: v for n, v in os.environ.items() if n.startswith('TRIAGE_')}])); print('told')"
    )
    way = notifier(tmp_path, sys.executable, "-c", script, "$(touch no-shell)", "{app}")
    assert await way.send(message()) == "exit code 0: told"
    content, arguments, environment = json.loads((tmp_path / "out").read_text())
    assert arguments == ["$(touch no-shell)", "{app}"]
    assert not (tmp_path / "no-shell").exists()
    assert content["incident"] == environment["TRIAGE_INCIDENT"] == "INC-31"
    assert content["event"] == environment["TRIAGE_EVENT"] == "opened"
    assert content["state"] == environment["TRIAGE_STATE"] == "open"
    assert environment["TRIAGE_SUMMARY"].startswith("web is down: 12 of 20")
    assert content["share"] == 0.6
    assert content["link"] == environment["TRIAGE_LINK"] == "https://ops.example.com/#/incidents/INC-31"
    assert content["command"] == "triage why INC-31"


async def test_an_exit_code_is_a_failure_with_what_it_said(tmp_path: Path, message: Make) -> None:
    script = "import sys; print('x' * 100_000); print('no: token=geheim', file=sys.stderr); sys.exit(3)"
    with pytest.raises(Failed, match="exit code 3") as raised:
        await notifier(tmp_path, sys.executable, "-c", script).send(message())
    assert raised.value.again
    assert "geheim" not in str(raised.value)
    assert len(str(raised.value)) < 400


async def test_one_that_reads_nothing_is_fine(tmp_path: Path, message: Make) -> None:
    assert await notifier(tmp_path, "true").send(message(cause="x" * 300)) == "exit code 0"


async def test_one_that_is_not_there(tmp_path: Path, message: Make) -> None:
    with pytest.raises(Failed, match="did not start"):
        await notifier(tmp_path, str(tmp_path / "nothing")).send(message())


async def test_it_is_killed_with_all_that_it_started(tmp_path: Path, message: Make) -> None:
    way = notifier(tmp_path, "sh", "-c", "cat >/dev/null; sleep 1000 & echo $! >child; echo $$ >own; wait")
    sending = asyncio.create_task(way.send(message()))
    own = tmp_path / "own"
    await until(lambda: own.exists() and own.read_text().endswith("\n"), "both run")
    sending.cancel()  # as a time limit does
    with pytest.raises(asyncio.CancelledError):
        await sending
    pids = [int((tmp_path / name).read_text()) for name in ("child", "own")]

    def gone(pid: int) -> bool:
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    await until(lambda: all(map(gone, pids)), "all ended")
    assert os.getpid() not in pids


def test_its_target_shows_no_secret(tmp_path: Path) -> None:
    assert notifier(tmp_path, "page", "--token", "geheim", "--to=ops").target == "page --token *** --to=ops"
