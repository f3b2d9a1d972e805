"""What moves: acts through the dialog, news without a reload, the keyboard alone, and a control that is killed."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.dashboard import scene
from tests.dashboard.browser import Page
from tests.e2e.support import Triage, until

pytestmark = pytest.mark.slow

VERDICT = "document.querySelector('.verdict h1')?.innerText"


@pytest.fixture(autouse=True)
def whole(triage: Triage) -> None:
    def rests(app: str) -> bool:
        return len(triage.ready(app)) == 2 and not triage.api(f"apps/{app}")["operations"]

    until(lambda: rests("shop") and rests("desk"), "two ready instances of each app")


@pytest.fixture
def overview(page: Page) -> Page:
    page.wait(VERDICT, "the verdict")
    return page


def test_the_first_fault_is_seen_without_a_reload(overview: Page, triage: Triage) -> None:
    overview.js("window.sameDocument = true")
    row = "[...document.querySelectorAll('main tr')].find(row => /^shop\\b/.test(row.innerText))"
    with scene.Traffic(triage.port):
        overview.wait(f"({VERDICT}).includes('up') && {row} && !{row}.querySelector('.bad-words')", "all is well")
        at = time.monotonic()
        assert scene.ask(triage.port, "/crash") == 502
        overview.wait(f"{row}.querySelector('.bad-words')", "the fault is counted in its app's row")
        print(f"from the first fault to its count on the page: {time.monotonic() - at:.2f} s")
        overview.wait(f"/shop is (degraded|down)/.test({VERDICT})", "the verdict says it")
        print(f"from the first fault to the verdict: {time.monotonic() - at:.2f} s")
        overview.wait("/INC-\\d+/.test(document.querySelector('main table').innerText)", "its incident")
        print(f"from the first fault to its incident on the page: {time.monotonic() - at:.2f} s")
    assert overview.js("window.sameDocument")


def test_a_recycle_is_foreseen_done_and_seen(page: Page, triage: Triage, admin: str) -> None:
    old = triage.ready("desk")[0]["id"]
    page.go(f"{admin}/#/apps/desk/{old}")
    page.see(old, selector="main h1")
    act = "[...document.querySelectorAll('main button.act')].find(one => one.textContent === 'Recycle')"
    page.wait(f"({act} || {{}}).id = 'recycle', {act}?.id", "the act")
    page.click("#recycle")
    page.see("What will happen", selector="dialog[open]")
    page.wait("document.querySelectorAll('dialog[open] .will li').length >= 1", "what it will do")
    assert not triage.api("apps/desk")["operations"]  # so far it was only asked about
    page.write("dialog[open] input[maxlength]", "a try")
    page.click("dialog[open] button.primary")
    page.see("done", selector="dialog[open] .steps")
    found = triage.api("operations", app="desk")["items"][0]
    assert (found["act"], found["state"], found["targets"], found["reason"]) == ("recycle", "done", [old], "a try")
    assert "cookie" in found["way"] or "login" in found["way"] or "from 127.0.0.1" in found["way"]
    page.press("Escape")
    page.wait("!document.querySelector('dialog[open]')", "the dialog is closed")
    assert old not in [one["id"] for one in triage.ready("desk")]
    assert not page.errors and not page.violations


def test_events_and_requests_come_by_themselves(page: Page, triage: Triage, admin: str) -> None:
    page.go(f"{admin}/#/events?app=desk")
    page.see("live", selector="main .stream")
    new = triage.ready("desk")[0]["id"]
    assert triage.cli("recycle", new, "--no-collect").returncode == 0
    page.see(f"recycle of desk/{new} done", selector="main .events")
    page.go(f"{admin}/#/requests?app=desk&fault=app-error")
    page.see("No kept request matches", selector="main")
    assert scene.ask(triage.port, "/raise", host=scene.DESK) == 500
    page.see("GET /raise", selector="main")


def test_log_lines_come_by_themselves_and_wait_while_paused(page: Page, triage: Triage, admin: str) -> None:
    page.go(f"{admin}/#/logs?app=desk&grep=wanted")
    page.see("live", selector="main .stream")
    scene.ask(triage.port, "/products?wanted=1", host=scene.DESK)
    page.see("wanted=1", selector="main .log")
    page.click("main .sum button")
    page.see("paused", selector="main .stream")
    scene.ask(triage.port, "/products?wanted=2", host=scene.DESK)
    page.see("1 new lines", selector="main .sum")
    assert "wanted=2" not in page.text("main .log")
    page.click("main .sum button")
    page.see("wanted=2", selector="main .log")
    assert page.js("document.querySelectorAll('.log .line').length") == 2


def test_a_traceback_is_one_entry(page: Page, triage: Triage, admin: str) -> None:
    page.go(f"{admin}/#/logs?app=desk")
    page.see("live", selector="main .stream")
    scene.ask(triage.port, "/raise", host=scene.DESK)
    page.see("LookupError: no price for product 4", selector="main .log details summary")
    assert "File " not in page.js("document.querySelector('.log details:not([open])').innerText")
    page.click(".log details summary")
    page.see("in raises", selector=".log details pre")


def test_the_keyboard_alone_is_enough(page: Page, triage: Triage, admin: str) -> None:
    page.wait(VERDICT)
    page.js("document.activeElement.blur()")
    page.press("Tab")
    assert page.js("document.activeElement.className") == "skip"
    assert page.js("document.activeElement.getBoundingClientRect().left") >= 0  # it can be seen
    page.press("Enter")
    assert page.js("document.activeElement.id") == "main"
    page.press("/")
    page.wait("document.activeElement.matches('[data-filter]')", "the filter has the focus")
    name = triage.ready("shop")[0]["id"]
    tab_to(page, f"document.activeElement.matches('td a') && document.activeElement.innerText.trim() === {name!r}")
    assert page.js("getComputedStyle(document.activeElement).outlineStyle") != "none"
    page.press("Enter")
    page.see(name, selector="main h1")
    tab_to(page, "document.activeElement.matches('button.act') && document.activeElement.innerText === 'Recycle'")
    page.press("Enter")
    page.wait("document.querySelector('dialog[open]')?.contains(document.activeElement)", "the dialog has the focus")
    for _ in range(12):  # the focus does not leave it
        page.press("Tab")
        assert page.js("document.activeElement === document.body || !!document.activeElement.closest('dialog')")
    page.press("Escape")
    page.wait("!document.querySelector('dialog[open]')", "the dialog is closed")
    assert page.js("document.activeElement.innerText") == "Recycle"  # where it was before
    assert not triage.api("operations", running="true")["items"]


def tab_to(page: Page, condition: str, most: int = 80) -> None:
    """Press Tab until the condition holds of what has the focus."""
    for _ in range(most):
        page.press("Tab")
        if page.js(condition):
            return
    raise AssertionError(f"not within {most} tabs: {condition}; {page.js('document.activeElement.outerHTML')}")


def test_a_killed_control_is_said_and_then_all_goes_on_by_itself(overview: Page, triage: Triage) -> None:
    overview.js("window.sameDocument = true")
    killed = triage.control()
    os.kill(killed, signal.SIGSTOP)  # so that it is gone for as long as it takes to see that the page says so
    try:
        overview.see("No news since", selector=".news")
        overview.wait("document.documentElement.classList.contains('stale')", "stale figures are grey")
    finally:
        os.kill(killed, signal.SIGKILL)
    overview.wait("!document.documentElement.classList.contains('stale')", "there is news again")
    until(lambda: triage.control() not in (0, killed), "another control")
    overview.wait("!document.querySelector('.news').innerText", "nothing is late")
    assert overview.js("window.sameDocument") and not overview.errors
    assert "shop" in overview.text("main")
