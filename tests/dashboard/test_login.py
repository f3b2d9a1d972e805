"""Logging in with a real browser: by token, by a link, and out again."""

from __future__ import annotations

import pytest

from tests.dashboard import scene
from tests.dashboard.browser import Page
from tests.e2e.support import Triage, until

pytestmark = pytest.mark.slow

FIELD = "input[type=password]"
OVERVIEW = "document.querySelector('.verdict h1')"


def token(triage: Triage) -> str:
    return (triage.data / "admin.token").read_text().strip()


def test_the_token_logs_in_and_a_wrong_one_does_not(blank: Page, admin: str, triage: Triage) -> None:
    blank.go(f"{admin}/#/events")
    blank.wait(f"document.activeElement === document.querySelector('{FIELD}')", "the token's field has the focus")
    blank.write(FIELD, "not-the-token")
    blank.press("Enter")
    blank.see("Nobody has this token")
    blank.write(FIELD, token(triage))
    blank.press("Enter")
    blank.see("Events", selector="main h1")  # where one wanted to go
    assert blank.js("document.cookie") == ""  # no script may read it
    assert token(triage) not in str(blank.js("JSON.stringify([{...localStorage}, {...sessionStorage}, location.href])"))
    blank.reload()
    blank.see("Events", selector="main h1")
    assert not blank.errors and not blank.violations


def test_a_link_logs_in_once_and_leads_where_it_says(blank: Page, triage: Triage, admin: str) -> None:
    link = scene.login_link(triage, "#/apps/shop")
    blank.go(link)
    blank.see("shop", selector="main h1")
    assert blank.address == f"{admin}/#/apps/shop"  # without its code
    other = blank.browser.page()
    try:
        other.go(link)
        other.see("That link is over")
        other.see("Log in")
    finally:
        other.close()


def test_logging_out_ends_it_for_good(page: Page, admin: str) -> None:
    page.wait(OVERVIEW)
    page.click(".side nav footer button")
    page.see("triage open")
    page.go(f"{admin}/#/requests")
    page.reload()
    page.see("triage open")
    assert page.js("fetch('/api/v1/status').then((answer) => answer.status)") == 401


def test_pages_of_other_places_cannot_frame_it_nor_ask(blank: Page, admin: str) -> None:
    blank.go(f"{admin}/")
    blank.wait(f"document.querySelector('{FIELD}')")
    policy = blank.js("fetch('/').then((answer) => answer.headers.get('Content-Security-Policy'))")
    assert "frame-ancestors 'none'" in policy and "unsafe" not in policy
    blank.js("document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.bad = 1'}))")
    until(lambda: blank.violations, "the violation is told")
    assert blank.js("window.bad === undefined")
