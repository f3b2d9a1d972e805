"""The two smallest apps answer on the port they are given."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

import pytest

from proxy.control.ports import free_port

FOLDER = Path(__file__).parents[2] / "examples" / "own-app"
LIMIT = 30.0

pytestmark = pytest.mark.slow


@pytest.fixture
def port() -> int:
    return free_port(())


@pytest.fixture
def environment(port: int) -> dict[str, str]:
    return os.environ | {"PORT": str(port)}


def answer(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    """What GET /tea brings, once the command listens; it is stopped in any case."""
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + LIMIT
        while True:
            try:
                opened = build_opener(ProxyHandler({})).open(
                    f"http://127.0.0.1:{environment['PORT']}/tea", timeout=LIMIT
                )
                with opened as response:
                    return str(response.read().decode())
            except OSError:
                assert process.poll() is None, f"ended with code {process.returncode}"
                assert time.monotonic() < deadline
                time.sleep(0.05)
    finally:
        process.terminate()
        process.wait(LIMIT)


def test_python(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "uvicorn", "app:app", "--port", environment["PORT"]]
    assert answer(command, FOLDER / "python", environment) == "Hello from /tea\n"


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_node(environment: dict[str, str]) -> None:
    assert answer(["node", "server.js"], FOLDER / "node", environment) == "Hello from /tea\n"
