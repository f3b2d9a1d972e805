"""What tests of mending share: apps that get sick, their config, acts, and what the events say."""

from __future__ import annotations

import os
import shutil
import sys
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pytest

from proxy.cli.client import ApiError, Gateway, NotThere
from tests.e2e.support import LONG, MARKER, Triage, until

APPS: Final = Path(__file__).parent / "apps"
UNWELL: Final = f"{sys.executable} -I -S {APPS / 'unwell.py'} {{port}}"
NODE: Final = f"{shutil.which('node') or 'node'} {APPS / 'plain.js'} {{port}}"
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")


def config(
    command: str = UNWELL,
    *,
    instances: int = 1,
    env: str = "",
    app: str = "",
    process: str = "",
    health: str = "",
    more: str = "",
    gateway: str = "",
) -> str:
    """One app named web; the other arguments are lines of its tables, `env` of an inline table."""
    user = 'user = "root"' if os.geteuid() == 0 else ""
    return f"""\
[gateway]
listen = ["127.0.0.1:0"]
workers = 2
data_dir = "var"
{gateway}

[admin]
listen = "127.0.0.1:0"

[apps.web]
{app}

[apps.web.diagnose]
on = []

[apps.web.process]
command = "{command}"
instances = {instances}
inherit_env = ["PATH", "HOME", "LANG", "TZ", "{MARKER}"]
env = {{ {env} }}
stop = {{ timeout = "2s" }}
{user}
{process}

[apps.web.health]
interval = "1s"
{health}

{more}
"""


def begin(running: Triage, path: str, **body: Any) -> str:
    """An act; its operation's id. ApiError when it is refused."""
    gateway = Gateway(running.admin, timeout=LONG)
    try:
        return str(gateway.post(path, body)["id"])
    finally:
        gateway.close()


def ended(running: Triage, operation: str, within: float = LONG) -> dict[str, Any]:
    """The operation when it is done or failed."""

    def over() -> dict[str, Any]:
        try:
            found: dict[str, Any] = running.api(f"operations/{operation}")
        except NotThere:
            return {}
        return found if found["state"] != "running" else {}

    return until(over, f"the end of {operation}", within)


def act(running: Triage, path: str, **body: Any) -> dict[str, Any]:
    """An act, to its good end."""
    found = ended(running, begin(running, path, **body))
    assert found["state"] == "done", found
    return found


def refused(running: Triage, path: str, **body: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        begin(running, path, **body)
    return caught.value


def events(running: Triage, *kinds: str) -> list[dict[str, Any]]:
    """Those of these kinds, or all; newest first."""
    found = running.api("events", limit=1000)["items"]
    return [event for event in found if not kinds or event["kind"] in kinds]


def operations(running: Triage, act: str = "") -> list[dict[str, Any]]:
    found = running.api("operations", limit=1000)["items"]
    return [one for one in found if not act or one["act"] == act]


def seconds(time: str) -> float:
    """Unix seconds of a time in JSON."""
    return datetime.fromisoformat(time).timestamp()


def pids(running: Triage, app: str = "web") -> set[int]:
    """Of its ready instances."""
    return {one["pid"] for one in running.ready(app)}


def well(running: Triage, count: int, app: str = "web") -> list[dict[str, Any]]:
    """Wait until exactly so many instances are ready and nothing goes on; they."""

    def whole() -> list[dict[str, Any]]:
        found = running.instances(app)
        good = [one for one in found if one["lifecycle"] == "ready" and one["admission"] == "admitting"]
        goes_on = any(one["state"] == "running" for one in operations(running))
        return good if len(good) == len(found) == count and not goes_on else []

    return until(whole, f"{count} instances, nothing going on; there are {running.instances(app)}")
