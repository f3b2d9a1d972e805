"""A session of a real process, made once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from proxy.diagnostics import report
from proxy.link.session import Input
from tests.dashboard.browser import Browser, running
from tests.report import scene


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its folder: gathered from the app of this folder in 2 s, with the finding that analyzers would have drawn."""
    place = tmp_path_factory.mktemp("real") / "S-12"
    with scene.running() as process:
        at = time.time()
        given = Input(
            id="S-12", app="shop", at=at, targets=["shop-3"], seconds=2.0, after=False,
            asked={"kind": "hand", "by": "root", "reason": "orders fail"},
            known=scene.known(at, scene.instance(process)),
        )  # fmt: skip
        outcome = scene.session(place, given)
    assert outcome.state == "done", (outcome, (place / "session.log").read_text())
    (place / "findings.json").write_bytes(msgspec.json.encode(scene.analysis(scene.finding())))
    report.write(place)
    return place


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running() as started:
        yield started
