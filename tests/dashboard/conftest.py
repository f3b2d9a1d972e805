"""A gateway and a browser for each file of tests; each test has a page of its own, logged in."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dashboard import scene
from tests.dashboard.browser import MISSING, Browser, Page, program
from tests.e2e.support import Triage


@pytest.fixture(scope="module")
def triage() -> Iterator[Triage]:
    with scene.running() as triage:
        yield triage


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if program() is None:
        pytest.skip(MISSING)
    folder = Path(tempfile.mkdtemp(prefix="triage-"))
    try:
        started = Browser(folder)
        try:
            yield started
        finally:
            started.end()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def admin(triage: Triage) -> str:
    return scene.admin(triage)


@pytest.fixture(scope="module")
def cookie(triage: Triage, admin: str) -> tuple[str, str]:
    """Of a browser that has logged in: name and value."""
    return scene.login(admin, (triage.data / "admin.token").read_text().strip())


@pytest.fixture
def blank(browser: Browser) -> Iterator[Page]:
    """A page that was nowhere yet."""
    made = browser.page()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def page(blank: Page, admin: str, cookie: tuple[str, str]) -> Page:
    """A page that is logged in, on the overview."""
    blank.cookie(admin, *cookie)
    blank.go(f"{admin}/")
    blank.wait("document.querySelector('.side nav')", "the shell")
    return blank
