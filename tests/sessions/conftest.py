"""Gateways for sessions: real ones, each with the sample shop behind it."""

from __future__ import annotations

import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.cli.client import ApiError, Gateway
from tests.e2e.support import LONG, Triage, serve, shop_config, until

OVER = ("done", "cancelled", "failed", "lost")
SECRET = "very-secret-9"


def config(diagnose: str = "on = []", more: str = "", **how: Any) -> str:
    """The shop, whose sessions that start by themselves are as `diagnose` says."""
    process = f'env = {{ API_TOKEN = "{SECRET}" }}'
    return shop_config(workers=1, process=process, diagnose=diagnose, **how) + f"\n{more}\n"


class Sessions:
    """A gateway, and what is asked of its sessions."""

    def __init__(self, triage: Triage) -> None:
        self.triage = triage

    @property
    def data(self) -> Path:
        return self.triage.data / "diagnostics"

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        gateway = Gateway(self.triage.admin, timeout=LONG)
        try:
            return gateway.call(method, path, {}, body)
        finally:
            gateway.close()

    def begin(self, seconds: float = 2.0, **body: Any) -> str:
        answer = self.call("POST", "sessions", {"app": "shop", "seconds": seconds, **body})
        assert answer["state"] == "waiting"
        return str(answer["id"])

    def refused(self, method: str, path: str, body: dict[str, Any] | None = None) -> ApiError:
        with pytest.raises(ApiError) as refusal:
            self.call(method, path, body if body is not None else {} if method == "POST" else None)
        return refusal.value

    def one(self, id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", f"sessions/{id}")
        return found

    def in_state(self, id: str, *states: str) -> dict[str, Any]:
        """As soon as it is in one of these."""

        def look() -> Any:
            found = self.triage.try_api(f"sessions/{id}")
            assert found is None or found["state"] in states or found["state"] not in OVER, found
            return found if found is not None and found["state"] in states else None

        found: dict[str, Any] = until(look, f"{id} is {' or '.join(states)}")
        return found

    def over(self, id: str) -> dict[str, Any]:
        return self.in_state(id, *OVER)

    def listed(self, **query: Any) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.triage.api("sessions", **query)["items"]
        return items

    def get(self, path: str, method: str = "GET") -> int:
        """A request to the app; its status."""
        try:
            with urllib.request.urlopen(
                urllib.request.Request(f"{self.triage.url}{path}", method=method), timeout=LONG
            ) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="triage-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def gateway(folder: Path) -> Iterator[Callable[..., Sessions]]:
    """Started with `gateway(config)`; all its instances are ready when it is returned."""
    started: list[Triage] = []

    def start(text: str, ready: int = 2, name: str = "") -> Sessions:
        running = serve(folder / name, text)
        started.append(running)
        running.await_ready()
        until(lambda: len(running.ready()) == ready, f"{ready} are ready")
        return Sessions(running)

    yield start
    for running in started:
        running.end()


@pytest.fixture(scope="module")
def shop() -> Iterator[Sessions]:
    """One for all tests of a file."""
    made = Path(tempfile.mkdtemp(prefix="triage-"))
    running = serve(made, config())
    try:
        running.await_ready()
        until(lambda: len(running.ready()) == 2, "both are ready")
        yield Sessions(running)
    finally:
        running.end()
        shutil.rmtree(made, ignore_errors=True)
