"""Each page in a real browser: it says the truth, breaks no rule, fits a narrow screen, is legible day and night."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.dashboard import scene
from tests.dashboard.browser import Page
from tests.e2e.support import Triage, until

pytestmark = pytest.mark.slow

Story = dict[str, str]
FIRST_PAGE = 100_000  # bytes, as they are sent
USABLE = 10.0  # seconds; on a quiet machine it is a fraction of one


@pytest.fixture(scope="module")
def story(triage: Triage) -> Iterator[Story]:
    """What happened before anybody looks: traffic, an exception, a crash with its incident, an act."""
    with scene.Traffic(triage.port):
        assert scene.ask(triage.port, "/raise") == 500
        request = scene.crash(triage)
        incident = until(
            lambda: next((one["id"] for one in triage.api("incidents", app="shop")["items"]), ""), "an incident"
        )
        exception = until(
            lambda: next((one["id"] for one in triage.api("exceptions", app="shop")["items"]), ""), "an exception"
        )
        desk = triage.ready("desk")[0]["id"]
        assert triage.cli("recycle", desk, "--no-collect").returncode == 0
        operation = next(one["id"] for one in triage.api("operations")["items"] if one["target"] == f"desk/{desk}")
        until(lambda: len(triage.ready("shop")) == 2, "the crashed one is replaced")
        yield {
            "request": request, "incident": incident, "exception": exception, "operation": operation,
            "instance": triage.ready("shop")[0]["id"], "old": desk,
        }  # fmt: skip


PAGES = {  # address to words that stand on it
    "": ["shop", "desk", "{instance}", "up"],
    "apps/shop": ["shop", "{instance}", "app-error"],
    "apps/shop/{instance}": ["{instance}", "ready"],
    "metrics?name=memory&app=shop&instance=each": ["{instance}"],
    "incidents": ["{incident}", "shop"],
    "incidents/{incident}": ["{incident}", "Why", "exit code 3"],
    "requests?fault=any": ["GET /crash", "502 instance-exited"],
    "requests/{request}": ["instance-exited", "GET /crash", "exit code 3", "triage requests", "wait"],
    "logs?app=shop": ["GET /products", "{instance}", "live"],
    "logs?app=shop&grep=price+list&since=10m": ["fatal: the price list cannot be read"],
    "exceptions": ["LookupError", "no price for product 4"],
    "exceptions/{exception}?app=shop": ["LookupError", "Traceback"],
    "events": ["recycle-done", "{old}", "live"],
    "events?kind=exited": ["ended: exit code 3"],
    "analyze": ["{incident}", "instance-exited", "LookupError", "Diagnose now", "S-1"],
    "why": ["An id stands in each answer"],
    "why/{request}": ["exit code 3", "triage requests"],
    "mitigate": ["{operation}", "recycle desk/{old}", "hung", "Restart"],
    "operations/{operation}": ["recycle desk/{old}", "done"],
    "apps/shop/{instance}?show=environment": ["Variables", "Runtimes", "aiohttp"],
    "apps/shop/{instance}?show=processes": ["1 process", "sleeping", "Kill"],
    "apps/shop/{instance}?show=stacks": ["MainThread"],
    "apps/shop/{instance}?show=profile": ["py-spy", "Profile"],
    "apps/shop/{instance}?show=memory-dump": ["every secret of the process", "Memory dump"],
    "gateway": ["Packages", "uvloop"],
    "gateway?show=processes": ["triage-control", "worker1", "shop/{instance}"],
    "gateway?show=config": ["apps.shop", "process.instances"],
    "access": ["admin.token", "Make a token", "POST"],
    "console": ["The console is off", "console = true", "triage reload"],
}


def settled(page: Page) -> None:
    """Nothing on it is still being loaded."""
    page.wait("!document.querySelector('main .loading') && document.querySelector('main h1')", "all is loaded")


@pytest.fixture
def clean(page: Page, admin: str) -> Iterator[Page]:
    """A page that must not have broken a rule when the test is over."""
    page.quiet()
    yield page
    assert not page.errors, page.errors
    assert not page.violations, page.violations
    assert not page.refused, page.refused
    assert page.hosts() <= {admin.removeprefix("http://")}


@pytest.mark.parametrize("to", PAGES)
def test_the_page_says_what_is(to: str, clean: Page, story: Story, admin: str) -> None:
    clean.go(f"{admin}/#/{to.format(**story)}")
    for words in PAGES[to]:
        clean.see(words.format(**story), selector="main")
    settled(clean)
    assert not clean.js("!!document.querySelector('main .problem')"), clean.text("main .problem")
    assert clean.js("document.title").endswith("Triage")
    assert clean.js("document.querySelectorAll('main h1').length") == 1
    clean.viewport(360, 740)
    clean.wait("innerWidth === 360")
    wide = clean.js("document.documentElement.scrollWidth")
    assert wide <= 360, f"{wide} px, by {clean.js(WIDEST)}"


WIDEST = """[...document.querySelectorAll('main *')].filter(one => one.getBoundingClientRect().right > 361)
  .slice(0, 3).map(one => one.outerHTML.slice(0, 160))"""

INKED = """(canvas => {
    const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    const seen = new Set();
    for (let at = 0; at < data.length; at += 4) if (data[at + 3]) seen.add(data.slice(at, at + 3).join());
    return seen.size;
})"""


def test_charts_are_drawn(clean: Page, story: Story, admin: str) -> None:
    clean.go(f"{admin}/#/apps/shop")
    charts = "[...document.querySelectorAll('main canvas')]"
    clean.wait(f"{charts}.length >= 4 && {charts}.every(one => one.width && {INKED}(one) > 2)", "lines in the charts")


def test_a_drag_over_a_chart_puts_its_span_into_the_address(clean: Page, story: Story, admin: str) -> None:
    clean.go(f"{admin}/#/metrics?name=memory&app=shop&instance=each")
    clean.wait("document.querySelector('.u-over')", "a chart")
    clean.drag(".u-over", 0.4, 0.8)
    clean.wait("/from=.*to=|to=.*from=/.test(location.hash)", "from and to in the address")


def test_a_filter_is_in_the_address_and_back_again(clean: Page, story: Story, admin: str) -> None:
    clean.go(f"{admin}/#/requests")
    clean.see("Requests", selector="main h1")
    clean.write("label:has(input) input[data-filter]", "desk")
    clean.wait("location.hash.includes('app=desk')")
    clean.see("No kept request matches", selector="main")
    clean.go(f"{admin}/#/requests?app=shop&fault=app-error")
    clean.see("GET /raise", selector="main")
    assert clean.js("document.querySelector('input[data-filter]').value") == "shop"


def test_a_row_leads_to_its_request(clean: Page, story: Story, admin: str) -> None:
    clean.go(f"{admin}/#/requests?fault=instance-exited")
    clean.click("main tbody td.wide")
    clean.wait("location.hash.startsWith('#/requests/')")
    clean.see("The process of", selector="main .block-why")


def test_a_command_can_be_copied(clean: Page, story: Story, admin: str) -> None:
    clean.call("Browser.grantPermissions", origin=admin, permissions=["clipboardReadWrite", "clipboardSanitizedWrite"],
               browserContextId=clean.context)  # fmt: skip
    clean.go(f"{admin}/#/requests/{story['request']}")
    clean.click(".block-do .copy")
    clean.see("copied", selector=".block-do")


# Of each element with words of its own: its ink on the ground behind it, WCAG 2.1 relative luminance.
CONTRAST = """(() => {
    const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
    const linear = (v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
    const light = ([r, g, b]) => .2126 * linear(r / 255) + .7152 * linear(g / 255) + .0722 * linear(b / 255);
    const ground = (one) => {
        for (let here = one; here; here = here.parentElement) {
            const [r, g, b, a = 1] = parse(getComputedStyle(here).backgroundColor);
            if (a > .99) return [r, g, b];
        }
        return matchMedia('(prefers-color-scheme: dark)').matches ? [0, 0, 0] : [255, 255, 255];
    };
    const poor = [];
    for (const one of document.querySelectorAll('body *')) {
        const own = [...one.childNodes].some(node => node.nodeType === 3 && node.data.trim());
        if (!own || !one.checkVisibility() || one.disabled) continue;
        const [a, b] = [light(parse(getComputedStyle(one).color)), light(ground(one))];
        const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
        if (ratio < 4.5) poor.push([ratio.toFixed(2), one.className, one.textContent.slice(0, 40)].join(' | '));
    }
    return poor.slice(0, 5);
})()"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_can_be_read_in_light_and_dark(scheme: str, clean: Page, story: Story, admin: str) -> None:
    clean.scheme(scheme)
    grounds = set()
    request = f"requests/{story['request']}"
    for to in ("", "requests", request, "mitigate", "logs?app=shop", "events", "access", "console"):
        clean.go(f"{admin}/#/{to}")
        settled(clean)
        clean.wait("!document.documentElement.classList.contains('stale')")
        assert not clean.js(CONTRAST), to
        grounds.add(clean.js("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 1
    assert (sum(json.loads(f"[{grounds.pop()[4:-1]}]")) > 384) == (scheme == "light")


def test_the_first_page_is_small_and_soon_usable(blank: Page, triage: Triage, story: Story, admin: str) -> None:
    blank.go(scene.login_link(triage))
    there = "document.querySelector('.verdict h1') && document.querySelector('tbody tr')"
    took = blank.js(
        f"new Promise(done => {{ const look = () => {there} ? done(performance.now()) : requestAnimationFrame(look);"
        " look(); })"
    )
    files = [one for one in blank.asked.values() if "/api/" not in one.url]
    blank.wait("performance.getEntriesByType('resource').filter(one => one.responseEnd === 0).length === 0")
    sent = sum(one.sent for one in files)
    print(f"first page: {sent:,} bytes in {len(files)} files, usable after {took:.0f} ms")
    assert 10_000 < sent < FIRST_PAGE
    assert took < USABLE * 1000
