"""Console and control with a real browser: terminal, command, files, processes, tokens, what each role is offered."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.cli.client import Gateway
from tests.dashboard import scene
from tests.dashboard.browser import Page
from tests.e2e.support import LONG, Triage, process_table, until

pytestmark = pytest.mark.slow

MARKUP = "<img src=x onerror=alert(1)><b>bold</b>"
CONFIG = f"""\
[gateway]
listen = ["127.0.0.1:0"]
workers = 1
data_dir = "var"

[admin]
listen = "127.0.0.1:0"
console = true

[admin.roots]
work = "WORK"

[apps.shop]
{process_table("shop", 1, more=f'env = {{ NOTE = "{MARKUP}", API_TOKEN = "very-secret" }}')}
"""


@pytest.fixture(scope="module")
def work() -> Iterator[Path]:
    """A folder that is a root of the console."""
    made = Path(tempfile.mkdtemp(prefix="triage-"))
    os.chmod(made, 0o755)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="module")
def triage(work: Path) -> Iterator[Triage]:
    with scene.running(CONFIG.replace("WORK", str(work)), {"shop": 1}) as triage:
        yield triage


@pytest.fixture
def clean(page: Page, admin: str) -> Iterator[Page]:
    """A page that broke no rule when the test is over, and asked no other host."""
    page.quiet()
    yield page
    assert not page.errors, page.errors
    assert not page.violations, page.violations
    assert page.hosts() <= {admin.removeprefix("http://")}


@pytest.fixture(scope="module")
def tokens(triage: Triage) -> dict[str, str]:
    """A token of each role."""
    gateway = Gateway(triage.admin, timeout=LONG)
    try:
        made = {role: gateway.post("tokens", {"name": f"a-{role}", "role": role}) for role in ("viewer", "operator")}
        return {role: str(one["token"]) for role, one in made.items()}
    finally:
        gateway.close()


@contextlib.contextmanager
def as_role(blank: Page, admin: str, token: str) -> Iterator[Page]:
    blank.cookie(admin, *scene.login(admin, token))
    blank.go(f"{admin}/")
    blank.wait("document.querySelector('.side .who a')", "who one is")
    blank.quiet()
    yield blank
    assert not blank.errors and not blank.violations and not blank.refused, (blank.errors, blank.refused)


def loaded(page: Page, words: str) -> list[str]:
    return [asked.url for asked in list(page.asked.values()) if words in asked.url]


def settled(page: Page) -> None:
    page.wait("document.querySelector('main h1') && !document.querySelector('main .loading')", "all is loaded")


def press(page: Page, words: str, within: str = "main") -> None:
    """Click on the button, or what looks like one, with these words."""
    found = f"[...document.querySelectorAll({within + ' button, ' + within + ' summary'!r})]"
    match = f"{found}.find(one => one.checkVisibility() && one.innerText.trim() === {words!r})"
    page.wait(f"(() => {{ const one = {match}; if (one) one.dataset.said = {words!r}; return one; }})()", words)
    page.click(f"{within} [data-said={json.dumps(words)}]")


# --- terminal and command ------------------------------------------------------------------------------------


def terminal_text(page: Page) -> str:
    return str(page.js("document.querySelector('.xterm-rows')?.innerText || ''")).replace("\xa0", " ")


def typed(page: Page, text: str) -> None:
    page.call("Input.insertText", text=text)
    page.press("Enter")


def test_a_terminal_types_shows_resizes_and_ends(clean: Page, triage: Triage, admin: str) -> None:
    assert not loaded(clean, "xterm")
    clean.go(f"{admin}/#/console?show=terminal&app=shop")
    settled(clean)
    assert not loaded(clean, "xterm")  # nor where it is only offered
    press(clean, "Open a terminal")
    clean.see("open", selector="main .sum .state")
    assert loaded(clean, "vendor/xterm.js") and loaded(clean, "vendor/xterm.css")
    clean.wait("document.activeElement.classList.contains('xterm-helper-textarea')", "the terminal has the keyboard")
    typed(clean, "echo $((20+22)) $NOTE; stty size")
    until(lambda: f"42 {MARKUP}" in terminal_text(clean), "what it printed")
    until(lambda: re.search(r"^\d+ \d+$", terminal_text(clean), re.MULTILINE), "its size")
    before = clean.js("document.querySelectorAll('.xterm-rows > div').length")
    clean.viewport(1280, 1000)
    clean.wait(f"document.querySelectorAll('.xterm-rows > div').length > {before}", "more rows in a larger window")
    rows = clean.js("document.querySelectorAll('.xterm-rows > div').length")
    typed(clean, "clear; stty size")
    until(lambda: f"{rows} " in terminal_text(clean), "the program knows of it")
    typed(clean, r"printf '\033[38;2;10;200;90mgreen\033[0m\n'")
    colours = "[...document.querySelectorAll('.xterm-rows span')].map(one => one.style.color)"
    clean.wait(f"{colours}.includes('rgb(10, 200, 90)')", "a colour of its own")
    listed = triage.api("consoles")["items"]
    assert len(listed) == 1 and listed[0]["app"] == "shop"
    clean.see(listed[0]["id"], selector="main table")
    press(clean, "End")
    press(clean, "End it")
    clean.see("ended", selector="main .sum .state")
    press(clean, "Open another")
    clean.see("open", selector="main .sum .state")
    typed(clean, "exit 7")
    clean.see("ended", selector="main .sum .state")
    clean.see("7", selector="main .sum")
    until(lambda: not triage.api("consoles")["items"], "no terminal is left")


def test_a_command_streams_its_output_and_can_be_cancelled(clean: Page, admin: str) -> None:
    clean.go(f"{admin}/#/console?show=command&app=shop")
    clean.write("input[name=command]", f"sh -c \"echo out; echo '{MARKUP}' >&2; exit 3\"")
    press(clean, "Run")
    clean.see("exit code 3", selector="main .sum")
    assert clean.js("document.querySelector('main .output .out').textContent") == "out\n"
    assert clean.js("document.querySelector('main .output .err').textContent") == f"{MARKUP}\n"
    clean.write("input[name=command]", "sh -c 'echo begun; exec sleep 1000'")
    press(clean, "Run")
    clean.see("begun", selector="main .output")  # before it ends
    press(clean, "Cancel")
    clean.see("cancelled", selector="main .sum")
    clean.write("input[name=command]", "no-such-program-here")
    press(clean, "Run")
    clean.wait("document.querySelector('main .problem')", "what failed")


# --- files -----------------------------------------------------------------------------------------------------


def rows(page: Page) -> list[str]:
    names: list[str] = page.js("[...document.querySelectorAll('main .file-name')].map(one => one.innerText.trim())")
    return names


def test_files_are_brought_fetched_changed_and_taken_away(clean: Page, work: Path, admin: str) -> None:
    outside = Path(tempfile.mkdtemp(prefix="triage-"))
    try:
        (outside / "notes.txt").write_text("first\n")
        clean.go(f"{admin}/#/console")
        clean.see("work/", selector="main .file-name")
        clean.click("main .file-name a")
        clean.see("The folder is empty", selector="main")
        clean.files("input[name=upload]", [outside / "notes.txt"])
        clean.see("uploaded", selector="main .jobs")
        assert (work / "notes.txt").read_text() == "first\n"

        (outside / "notes.txt").write_text("second\n")  # the same name again: it is asked what is meant
        clean.files("input[name=upload]", [outside / "notes.txt"])
        clean.see("There is a file of this name already", selector="main .jobs")
        assert (work / "notes.txt").read_text() == "first\n"
        press(clean, "Overwrite it")
        clean.see("overwritten", selector="main .jobs")
        assert (work / "notes.txt").read_text() == "second\n"

        clean.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(outside / "got"),
                   browserContextId=clean.context)  # fmt: skip
        clean.click("main a[download='notes.txt']")
        got = outside / "got" / "notes.txt"
        until(lambda: got.exists() and got.read_text() == "second\n", "the download")

        clean.wait("document.querySelector('main .file-name a')", "its row")
        clean.click("main .file-name a")
        clean.wait("document.querySelector('textarea.editor')?.value === 'second\\n'", "its text")
        clean.write("textarea.editor", "third\n")
        (work / "notes.txt").write_text("by someone else\n")
        press(clean, "Save")
        clean.see("changed by someone else", selector="main")
        assert (work / "notes.txt").read_text() == "by someone else\n"
        press(clean, "Overwrite it with this")
        clean.see("Saved", selector="main")
        assert (work / "notes.txt").read_text() == "third\n"
        press(clean, "Back to the folder")

        press(clean, "New folder")
        clean.write("input[name=folder]", "sub & <i>more")
        press(clean, "Make it")
        clean.see("sub & <i>more/", selector="main table")
        assert (work / "sub & <i>more").is_dir()

        (work / MARKUP.replace("/", "_")).write_text("x")
        (work / "a\x1b[31m\u202etxt.exe").write_text("x")
        clean.reload()
        clean.see(MARKUP.replace("/", "_"), selector="main table")
        clean.see("a\\u{1b}[31m\\u{202e}txt.exe", selector="main table")

        for name in ("sub & <i>more", "notes.txt"):
            delete = f"main button[aria-label={json.dumps(f'Delete {name}')}]"
            clean.click(delete)
            press(clean, "Delete it with all that is in it" if name.startswith("sub") else "Delete it")
            until(lambda name=name: not (work / name).exists(), f"{name} is gone")  # type: ignore[misc]
        assert set(rows(clean)) >= {MARKUP.replace("/", "_")}
    finally:
        shutil.rmtree(outside, ignore_errors=True)


# --- looking inside ----------------------------------------------------------------------------------------------


def test_the_inside_of_an_instance_is_shown_and_a_process_killed(clean: Page, triage: Triage, admin: str) -> None:
    old = triage.ready()[0]
    at = f"{admin}/#/apps/shop/{old['id']}"
    clean.go(f"{at}?show=environment")
    clean.see(MARKUP, selector="main")  # as text
    assert "very-secret" not in clean.text("main")
    clean.go(f"{at}?show=stacks")
    clean.see("pid", selector="main h2")
    clean.go(f"{at}?show=processes")
    clean.see(str(old["pid"]), selector="main .tree")
    clean.click("main .tree td a")
    clean.see("Limits, soft and hard", selector="main")
    for look, words in (("threads", "(main)"), ("files", "socket"), ("connections", "LISTEN"), ("modules", "libc")):
        clean.click(f"main .one-process .tabs a[href*='look={look}']")
        clean.see(words, selector="main .one-process table")
    clean.click("main .one-process header button.danger")
    clean.see("main process of", selector="dialog[open] .will")
    assert triage.ready()[0]["pid"] == old["pid"]  # so far it was only asked about
    clean.write("dialog[open] input[maxlength]", "it hangs")
    clean.click("dialog[open] button.primary")
    clean.see("done", selector="dialog[open] .steps")
    until(lambda: [one["pid"] for one in triage.ready()] not in ([], [old["pid"]]), "another process")
    clean.press("Escape")
    clean.go(f"{admin}/#/access?what=kill")
    clean.see("it hangs", selector="main")


# --- roles and tokens ------------------------------------------------------------------------------------------


def test_a_token_is_made_shown_once_used_and_revoked(clean: Page, triage: Triage, admin: str) -> None:
    clean.go(f"{admin}/#/access")
    clean.write("input[name=name]", "night-shift")
    clean.js("(() => { const one = document.querySelector('select[name=role]'); one.value = 'operator';"
             " one.dispatchEvent(new Event('change', {bubbles: true})); })()")  # fmt: skip
    press(clean, "Make a token")
    clean.see("the only time that it is shown", selector="main .once")
    token = str(clean.js("document.querySelector('main .once code').innerText"))
    assert token.startswith("triage_")
    clean.see("night-shift", selector="main table")
    other = clean.browser.page()
    try:
        with as_role(other, admin, token) as page:
            page.see("night-shift, operator", selector=".side .who")
            clean.reload()
            settled(clean)
            assert token not in clean.js("document.documentElement.outerHTML")  # it was the only time
            clean.click("main button[aria-label='Revoke night-shift']")
            press(clean, "Revoke it")
            clean.see("night-shift", selector="main")
            until(lambda: "night-shift" not in [one["name"] for one in triage.api("tokens")["items"]], "it is revoked")
            page.see("Log in")
            page.refused.clear()  # that it may ask no more was said by refusals
    finally:
        other.close()
    clean.see("DELETE tokens/", selector="main")


OFFERED = """[...document.querySelectorAll('main button')].filter(one => one.checkVisibility()
  && one.matches('.act, .danger, .primary, [popovertarget]')).map(one => one.innerText)"""


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_a_role_is_offered_what_it_may_do_and_no_more(
    role: str, blank: Page, triage: Triage, admin: str, tokens: dict[str, str]
) -> None:
    instance = triage.ready()[0]["id"]
    with as_role(blank, admin, tokens[role]) as page:
        page.see(f"a-{role}, {role}", selector=".side .who")
        assert not page.js("!!document.querySelector('.side a[href=\"#/console\"]')")
        found: dict[str, list[Any]] = {}
        processes = f"apps/shop/{instance}?show=processes"
        pages = ("mitigate", "analyze", "access", "gateway", "console")
        for to in ("apps/shop", f"apps/shop/{instance}", "", processes, *pages):
            page.js("document.querySelector('main article').dataset.old = 'of the page before'")
            page.go(f"{admin}/#/{to}")
            page.wait("document.querySelector('main article:not([data-old])')", to)
            settled(page)
            if to == processes:
                page.see("1 process", selector="main")
            found[to] = page.js(OFFERED)
        page.see("The console needs the role admin", selector="main")
        if role == "viewer":
            assert not any(found.values()), found
            page.go(f"{admin}/#/mitigate")
            page.see("Acts need the role operator", selector="main")
        else:
            acts = {"Restart", "Scale", "Stop", "Hold", "Mute", "Resize", "Autoheal off", "Reload config", "Replay"}
            assert acts <= set(found["mitigate"])
            assert "Upgrade" not in found["mitigate"] + found["gateway"]
            assert not found["access"] and not found["console"]
            assert "Kill" in found[processes] and "Diagnose now" in found["analyze"]


def test_a_reload_checks_first_and_an_act_says_what_it_will_do(clean: Page, triage: Triage, admin: str) -> None:
    config = triage.folder / "config.toml"
    good = config.read_text()
    clean.go(f"{admin}/#/mitigate")
    try:
        config.write_text(good.replace("instances = 1", "instances = -1"))
        press(clean, "Reload config")
        clean.see("instances", selector="dialog[open] .problem")
        assert clean.js("document.querySelector('dialog[open] button.primary').disabled")
        clean.press("Escape")
    finally:
        config.write_text(good)
    clean.wait("!document.querySelector('dialog[open]')")
    press(clean, "Reload config")
    clean.see("has no problem", selector="dialog[open] .will")
    clean.click("dialog[open] button.primary")
    clean.see("nothing differs", selector="dialog[open] .steps")
    clean.press("Escape")
    clean.wait("!document.querySelector('dialog[open]')")
    press(clean, "Replay")
    clean.see("Looked at", selector="main .replay")
