"""A report in a real browser, opened as a file: no script, no request, legible day and night, on paper and narrow."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest

from proxy.diagnostics import report
from tests.dashboard.browser import Browser, Page
from tests.dashboard.test_pages import CONTRAST
from tests.report import scene

pytestmark = pytest.mark.slow


@pytest.fixture
def page(browser: Browser, real: Path) -> Page:
    made = browser.page()
    made.quiet()
    made.go(f"file://{real}/report.html")
    made.wait("document.readyState === 'complete' && document.querySelector('.answer')")
    return made


def test_the_first_screen_is_the_answer_and_nothing_is_asked_for(page: Page) -> None:
    seen = page.js(
        "[...document.querySelectorAll('.answer dt')].map(one => [one.innerText, one.getBoundingClientRect().bottom])"
    )
    assert [name for name, _ in seen] == ["WHY", "CAUSE", "LOST", "NOW", "DONE", "DO", "EVIDENCE"]
    assert all(bottom <= 800 for _, bottom in seen), seen  # of a screen of 1280 x 800
    assert page.text("h1") == "Very likely: 10.0.3.12:5432 (PostgreSQL, by its port) answers slowly."
    assert not page.errors and not page.violations and not page.refused
    assert not page.hosts() and len(page.asked) <= 1
    assert page.js("document.scripts.length") == 0
    page.close()


def test_it_fits_a_narrow_screen_and_opens_each_fold(page: Page) -> None:
    page.js("document.querySelectorAll('details').forEach((one) => one.open = true)")
    page.viewport(360, 740)
    page.wait("innerWidth === 360")
    assert page.js("document.documentElement.scrollWidth") <= 360
    assert page.js("document.querySelectorAll('.flame rect').length") > 3
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_can_be_read_in_light_and_dark(scheme: str, page: Page) -> None:
    page.scheme(scheme)
    page.js("document.querySelectorAll('details').forEach((one) => one.open = true)")
    assert not page.js(CONTRAST)
    page.close()


def test_a_fold_opens_by_the_keyboard_and_links_lead_to_parts(page: Page) -> None:
    page.js("document.querySelector('nav a[href=\"#stacks\"]').focus()")
    page.press("Enter")
    page.wait("location.hash === '#stacks' && scrollY > 500")
    page.js("document.querySelector('#checks summary').focus()")
    page.press("Enter")
    page.wait("document.querySelector('#checks details').open")
    assert "No thread waited for a lock" in page.text("#checks")
    page.close()


def test_on_paper_nothing_is_cut_off_at_the_side(page: Page) -> None:
    page.call("Emulation.setEmulatedMedia", media="print")
    page.viewport(760, 1000)
    page.wait("getComputedStyle(document.querySelector('nav')).display === 'none'")
    assert page.js("document.documentElement.scrollWidth") <= 760
    page.close()


def test_a_large_one_opens_soon(browser: Browser, tmp_path: Path) -> None:
    at = time.time()
    instances = [scene.Instance(name=f"shop-{n}") for n in range(16)]
    known = scene.known(at, *instances, seconds=1500)
    known.lines = {one.name: known.lines["shop-0"] * 10 for one in instances}
    place = scene.folder_of(tmp_path, scene.Input(id="S-1", app="shop", at=at, known=known), scene.analysis())
    rounds = [{"at": at, "processes": [{"pid": pid, "how": "py-spy", "threads": [
        {"id": t, "frames": [{"function": f"f{t}_{d}", "file": "/srv/x.py", "line": d} for d in range(30)]}
        for t in range(40)]} for pid in range(8)]}]  # fmt: skip
    for one in instances[:8]:
        (place / one.name).mkdir()
        (place / one.name / "stacks.json").write_bytes(msgspec.json.encode({"rounds": rounds}))
    report.write(place)
    size = (place / "report.html").stat().st_size
    assert 1_000_000 < size < 5_000_000
    page = browser.page()
    began = time.monotonic()
    page.go(f"file://{place}/report.html")
    page.wait("document.readyState === 'complete'")
    took = time.monotonic() - began
    print(f"{size:,} bytes, opened in {took:.2f} s")
    assert took < 20, "a quiet machine takes a fraction of a second"
    page.close()
