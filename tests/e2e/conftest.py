"""Gateways for whole-program tests: real processes, one for each file where its tests leave it as it was."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.support import Triage, serve


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder with a short name: a Unix socket's path has 107 bytes at most."""
    made = Path(tempfile.mkdtemp(prefix="triage-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="module")
def module_folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="triage-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def gateway(folder: Path) -> Iterator[Callable[..., Triage]]:
    """Start gateways by `gateway(config_text)`; each is ready when returned, ended with the test."""
    started: list[Triage] = []

    def start(config: str, *, name: str = "", ready: bool = True) -> Triage:
        running = serve(folder / name, config)
        started.append(running)
        return running.await_ready() if ready else running

    try:
        yield start
    finally:
        errors = []
        for running in reversed(started):
            try:
                running.end()
            except AssertionError as error:
                errors.append(error)
        if errors:
            raise errors[0]
