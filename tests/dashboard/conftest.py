"""A gateway for each file of tests, one browser for all; each test has a page of its own, logged in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.dashboard import scene
from tests.dashboard.browser import Browser, Page, running
from tests.e2e.support import Triage


@pytest.fixture(scope="module")
def triage() -> Iterator[Triage]:
    with scene.running() as triage:
        yield triage


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with running() as started:
        yield started


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
