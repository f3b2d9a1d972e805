"""Analyze in a real browser: a session by hand from the button to its report, cancelled ones, and why by an id."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from proxy.cli.client import Gateway
from proxy.diagnostics.analyzers.contract import Analysis, Finding, Remedy
from tests.dashboard import scene
from tests.dashboard.browser import Page
from tests.dashboard.test_pages import CONTRAST, WIDEST
from tests.e2e.support import LONG, Triage, until

pytestmark = pytest.mark.slow


@pytest.fixture
def clean(page: Page, admin: str, triage: Triage) -> Iterator[Page]:
    """No session is active before; nothing broke a rule after."""
    until(lambda: not triage.api("sessions", state="active")["items"], "no session is active")
    page.quiet()
    yield page
    assert not page.errors, page.errors
    assert not page.violations, page.violations
    assert page.hosts() <= {admin.removeprefix("http://")}


def choose(page: Page, name: str, value: str) -> None:
    """Of a list, as a person who picks an entry."""
    field = f"document.querySelector('.diagnose select[name={name}]')"
    page.wait(f"[...{field}.options].some((one) => one.value === {value!r})", f"{value} can be chosen")
    page.js(f"{field}.value = {value!r}; {field}.dispatchEvent(new Event('change', {{bubbles: true}}))")


def begin(page: Page, admin: str, app: str, seconds: str) -> str:
    """Press the button; the id of the session that one is led to."""
    page.go(f"{admin}/#/analyze")
    page.see("Diagnose now", selector="main")
    choose(page, "app", app)
    choose(page, "seconds", seconds)
    page.click(".diagnose button.primary")
    page.wait("location.hash.startsWith('#/analyze/S-')", "the session's own page")
    return page.address.rpartition("/")[2]


def test_from_the_button_to_the_report(clean: Page, triage: Triage, admin: str) -> None:
    with scene.Traffic(triage.port):
        session = begin(clean, admin, "shop", "5")
        clean.wait("document.querySelector('progress')", "progress is shown")
        clean.see("running", selector="main")
        clean.see("Stacks", selector="main")
        clean.wait("document.querySelector('.result .verdict-words')", "the verdict")
    told: dict[str, Any] = triage.api(f"sessions/{session}")
    assert told["state"] == "done", told
    assert clean.text(".result .verdict-words").strip() == told["verdict"]
    clean.see("checks passed", selector=".result")
    clean.see(told["folder"], selector="main")
    assert not clean.js("!!document.querySelector('main .problem')"), clean.text("main .problem")
    frame = clean.wait("document.querySelector('iframe.report')?.src", "the report's frame")
    allowed = clean.js("document.querySelector('iframe.report').sandbox.value")
    assert allowed == "allow-downloads"  # no script, and an origin of its own
    shown = until(lambda: frame_of(clean, frame), "the frame has loaded")
    assert told["verdict"] in shown
    for name, start in (("Report", "<!doctype html>"), ("Report as data", '{"form":1'), ("Bundle", "PK")):
        links = "[...document.querySelectorAll('.downloads a')]"
        find = f"{links}.find((one) => one.innerText.trim().split(/\\s+/).join(' ') === {name!r})"
        assert clean.js(f"fetch({find}.href).then((one) => one.text())").startswith(start), name
    clean.viewport(360, 740)
    clean.wait("innerWidth === 360")
    assert clean.js("document.documentElement.scrollWidth") <= 360, clean.js(WIDEST)
    clean.go(f"{admin}/#/analyze")
    clean.see(session, selector="main table")
    clean.wait("!document.querySelector('main .loading')")
    assert clean.js("document.documentElement.scrollWidth") <= 360, clean.js(WIDEST)


def frame_of(page: Page, address: str) -> str:
    """The text of a frame, which is in a process of its own."""
    targets = page.browser.call("Target.getTargets")["targetInfos"]
    found = next((one for one in targets if one["type"] == "iframe" and one["url"] == address), None)
    if found is None:
        return ""
    inside = page.browser.call("Target.attachToTarget", targetId=found["targetId"], flatten=True)["sessionId"]
    said = page.browser.call("Runtime.evaluate", inside, expression="document.body.innerText", returnByValue=True)
    return str(said["result"].get("value", ""))


def test_cancel_analyzes_what_there_is(clean: Page, triage: Triage, admin: str) -> None:
    session = begin(clean, admin, "desk", "600")
    clean.wait("[...document.querySelectorAll('main td')].some((one) => one.innerText.includes('running'))", "it runs")
    clean.click("section.progress button")
    clean.wait("document.querySelector('.result')", "it is over")
    told = triage.api(f"sessions/{session}")
    assert told["state"] == "cancelled" and told["took_s"] < 300
    clean.see("cancelled", selector=".page-head")
    assert told["verdict"] and told["verdict"] in clean.text(".result")
    clean.wait("document.querySelector('iframe.report')", "there is a report all the same")


def test_a_second_one_of_an_app_is_refused_and_led_to_the_first(clean: Page, triage: Triage, admin: str) -> None:
    session = begin(clean, admin, "desk", "600")
    clean.go(f"{admin}/#/analyze?app=desk")
    clean.wait("document.querySelector('.diagnose button.primary:not([disabled])')")
    clean.click(".diagnose button.primary")
    clean.see(f"Look at {session}", selector=".diagnose")
    clean.click(".diagnose form > p a")
    clean.wait(f"location.hash === '#/analyze/{session}'")
    clean.click("section.progress button")
    clean.wait("document.querySelector('.result')", "it is over")
    clean.refused.clear()


def test_what_is_gathered_can_be_chosen_by_the_keyboard(clean: Page, triage: Triage, admin: str) -> None:
    clean.go(f"{admin}/#/analyze")
    clean.wait("document.querySelector('.diagnose details.what summary')")
    choose(clean, "app", "desk")
    choose(clean, "seconds", "2")
    clean.js("document.querySelector('.diagnose details.what summary').focus()")
    clean.press("Enter")
    clean.wait("document.querySelectorAll('.diagnose input[type=checkbox]').length > 8", "the collectors")
    known = {one["id"]: one for one in triage.api("collectors")["items"]}
    assert not clean.js("document.querySelector('.diagnose input[name=memory_dump]').checked")
    assert known["memory_dump"]["cost"] in clean.text(".diagnose")
    for name in known:
        if name not in ("stacks", "memory_dump"):
            clean.js(f"document.querySelector('.diagnose input[name={name}]').focus()")
            clean.press(" ")
    clean.write(".diagnose input[name=reason]", "only a look")
    clean.press("Enter")
    clean.wait("location.hash.startsWith('#/analyze/S-')")
    session = clean.address.rpartition("/")[2]
    told = until(lambda: ended(triage, session), "it ends")
    assert {one["name"] for one in told["steps"]} == {"stacks", "analyze", "report"}
    assert told["trigger"]["reason"] == "only a look"


def ended(triage: Triage, session: str) -> dict[str, Any] | None:
    told: dict[str, Any] = triage.api(f"sessions/{session}")
    return told if told["state"] in ("done", "cancelled", "failed", "lost") else None


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_can_be_read(scheme: str, clean: Page, triage: Triage, admin: str) -> None:
    session = triage.api("sessions", limit=1)["items"][0]["id"]
    clean.scheme(scheme)
    for to in ("analyze", f"analyze/{session}", "why/desk"):
        clean.go(f"{admin}/#/{to}")
        clean.wait("document.querySelector('main h1') && !document.querySelector('main .loading')")
        clean.js("document.querySelectorAll('main details').forEach((one) => one.open = true)")
        clean.wait("!document.querySelector('main .loading') && !document.documentElement.classList.contains('stale')")
        assert not clean.js(CONTRAST), to


def test_a_mitigation_says_what_it_will_do_and_a_session_is_removed_in_two_steps(
    clean: Page, triage: Triage, admin: str
) -> None:
    gateway = Gateway(triage.admin, timeout=LONG)
    try:
        session = gateway.post("sessions", {"app": "desk", "seconds": 2})["id"]
    finally:
        gateway.close()
    told = until(lambda: ended(triage, session), "it ends")
    more = Remedy(tag="mitigation", text="Raise the number of instances.", command="triage scale desk 3",
                  act="apps/desk/scale", fields={"instances": 3}, expect="Half as many again.")  # fmt: skip
    less = Remedy(tag="mitigation", text="Restart it.", act="apps/desk/restart", dont=True)
    found = Finding(id="busy", title="All slots are taken", cause="They are.", severity="warning", certainty="likely",
                    care="Requests wait.", remedies=[more, less])  # fmt: skip
    findings = msgspec.json.encode(Analysis(at=0.0, findings=[found], top="busy"))
    (Path(told["folder"]) / "findings.json").write_bytes(findings)
    clean.go(f"{admin}/#/analyze/{session}")
    clean.see("Expected: Half as many again.", selector=".remedies")
    assert clean.js("document.querySelectorAll('.remedies button.act').length") == 1  # none for what should not be done
    clean.click(".remedies button.act")
    clean.see("What will happen", selector="dialog")
    clean.press("Escape")
    clean.wait("!document.querySelector('dialog[open]')")
    assert not triage.api("operations", running="true")["items"]
    find = "[...document.querySelectorAll('main button')].find((one) => one.innerText.startsWith({0!r}))"
    clean.wait(find.format("Remove"))
    clean.js(f"{find.format('Remove')}.click()")
    clean.wait(find.format(f"Remove {session} for good"))
    assert triage.api(f"sessions/{session}")
    clean.js(f"{find.format(f'Remove {session} for good')}.click()")
    clean.wait("location.hash === '#/analyze'")
    until(lambda: triage.try_api(f"sessions/{session}") is None, "it is gone")
    clean.refused.clear()


def test_why_by_an_id_an_incident_or_an_app(clean: Page, triage: Triage, admin: str) -> None:
    request = scene.crash(triage)
    incident = until(
        lambda: next((one["id"] for one in triage.api("incidents", app="shop")["items"]), ""), "an incident"
    )
    for typed, words in ((request, "exit code 3"), (incident, "exit code 3"), ("desk", "desk is up")):
        clean.go(f"{admin}/#/analyze")
        clean.wait("[...document.querySelectorAll('#why-apps option')].some((one) => one.value === 'desk')", "the apps")
        clean.write(".ask-why input", typed)
        clean.press("Enter")
        clean.see(words, selector="main .why")
    clean.go(f"{admin}/#/requests/{request}")
    clean.see("Diagnose shop because of it", selector="main")
