"""What the tests of the command share."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.admin.routes import ROUTES
from tests.cli.api import Api, serving

ROOT = Path(__file__).resolve().parents[2]

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """`triage ARGS` in an empty folder, with an environment that leads nowhere."""

    def call(*args: str, python: tuple[str, ...] = (), **env: str) -> subprocess.CompletedProcess[str]:
        clean = {
            name: value for name, value in os.environ.items() if not name.startswith(("TRIAGE_", "XDG_"))
        }
        clean |= {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path / "home"), "TZ": "Etc/GMT-1", **env}
        argv = [sys.executable, *python, "-m", "proxy.main", *args]
        return subprocess.run(
            argv,
            cwd=tmp_path,
            env=clean,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return call


@pytest.fixture
def short() -> Iterator[Path]:
    """An empty folder with a short name: a Unix socket's path has 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="triage-") as made:
        yield Path(made)


@pytest.fixture
def api(short: Path) -> Iterator[Api]:
    """The route table's examples, on a Unix socket."""
    with serving(Api(examples()), short / "api.sock") as running:
        yield running


def examples() -> dict[str, tuple[int, object]]:
    """By method and path; those of an app also for the one that the examples are of."""
    found = {f"{route.method} {route.path}": (route.status, copy.deepcopy(route.example)) for route in ROUTES}
    return found | {call.replace("{app}", "web"): answer for call, answer in found.items()}
