"""A browser logs in: by the token, by a link that works once; and what it may not do then."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import aiohttp
import pytest
import yarl

from proxy.admin import logins, pages, tries
from proxy.admin.callers import Caller
from proxy.admin.logins import Logins
from proxy.admin.tries import Tries

STATUS = "/api/v1/status"
OPERATOR = Caller("ci", "operator", "token ci, from there", "0123abcd")


class Browser:
    """Keeps cookies, and sends Origin with what it posts."""

    def __init__(self, api) -> None:
        self.base = api.triage.admin
        self.session = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))

    async def __aenter__(self) -> Browser:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.session.close()

    async def get(self, path: str, **headers: str) -> aiohttp.ClientResponse:
        url = yarl.URL(f"{self.base}{path}", encoded=True)
        async with self.session.get(url, headers=headers, allow_redirects=False) as answer:
            await answer.read()
            return answer

    async def post(self, path: str, body: object, origin: str | None = "") -> aiohttp.ClientResponse:
        headers = {"Origin": self.base if origin == "" else origin} if origin is not None else {}
        async with self.session.post(f"{self.base}{path}", json=body, headers=headers) as answer:
            await answer.read()
            return answer


@pytest.fixture
async def browser(api):
    async with Browser(api) as made:
        yield made


async def test_the_token_logs_in_and_logging_out_ends_it(api, browser: Browser) -> None:
    assert (await browser.get(STATUS)).status == 401
    answer = await browser.post("/login", {"token": api.triage.token})
    assert answer.status == 204
    cookie = answer.headers["Set-Cookie"]
    assert "Secure" not in cookie and "HttpOnly" in cookie and "SameSite=Strict" in cookie and "Max-Age=43200" in cookie
    assert (await browser.get(STATUS)).status == 200
    events = (await api.get("events", kind="login"))["items"]
    assert "logged in with the token" in events[0]["words"] and "127.0.0.1" in events[0]["words"]
    assert (await browser.post("/logout", {})).status == 204
    assert (await browser.get(STATUS)).status == 401


async def test_a_cookie_for_a_name_with_tls_goes_over_tls_only(api, browser: Browser) -> None:
    headers = {"Host": "ops.example.com", "Origin": "https://ops.example.com"}
    body = {"token": api.triage.token}
    async with browser.session.post(f"{browser.base}/login", json=body, headers=headers) as answer:
        assert answer.status == 204 and "Secure" in answer.headers["Set-Cookie"]


async def test_a_wrong_token_does_not_log_in_and_is_told(api, browser: Browser) -> None:
    answer = await browser.post("/login", {"token": api.triage.token + "x"})
    assert answer.status == 403 and "Set-Cookie" not in answer.headers
    refused = (await api.get("events", kind="login-refused"))["items"]
    assert "wrong token" in refused[0]["words"] and api.triage.token not in refused[0]["words"]


async def test_a_link_logs_in_once_and_leads_to_its_page(api, browser: Browser) -> None:
    _, made = await api.call("POST", "login-links", body={"to": "#/incidents/INC-31?from=1h"})
    assert made["url"].startswith("https://ops.example.com/login?code=") and made["expires_s"] == 60.0  # admin.url
    path = made["url"].removeprefix("https://ops.example.com")
    answer = await browser.get(path, **{"Sec-Fetch-Site": "cross-site"})
    assert answer.status == 303 and answer.headers["Location"] == "/#/incidents/INC-31?from=1h"
    assert (await browser.get(STATUS)).status == 200
    async with Browser(api) as other:
        answer = await other.get(path)
        assert answer.status == 303 and "over" in answer.headers["Location"] and "Set-Cookie" not in answer.headers


async def test_a_link_never_leads_to_another_place(api) -> None:
    for to in ("https://evil.example.com", "//evil", "/x", "#/\r\nSet-Cookie: a=b"):
        status, problem = await api.call("POST", "login-links", body={"to": to})
        assert status == 400 and problem["type"] == "urn:triage:bad-field", to


async def test_a_cookie_alone_changes_nothing(api, browser: Browser) -> None:
    """Another page can make a browser send it; only this one's own pages say so in Origin."""
    await browser.post("/login", {"token": api.triage.token})
    for origin, wanted in ((None, 401), ("https://evil.example.com", 403), ("", 202)):
        answer = await browser.post("/api/v1/config/reload", {}, origin)
        assert answer.status == wanted, origin
    assert (await browser.get(STATUS, **{"Sec-Fetch-Site": "cross-site"})).status == 403


async def test_pages_are_served_to_anybody_who_may_come_here(api, browser: Browser) -> None:
    answer = await browser.get("/", **{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"})
    assert answer.status == 200 and answer.headers["Content-Type"].startswith("text/html")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    again = await browser.get("/", **{"If-None-Match": answer.headers["ETag"]})
    assert again.status == 304
    assert (await browser.get("/", Host="evil.example.com")).status == 403
    for path in ("/../server.py", "/%2e%2e/server.py", "/lib/../../server.py", "/README.md", "/vendor", "/%2e"):
        assert (await browser.get(path)).status == 401, path


def test_a_file_that_changed_is_read_again_and_none_from_outside_is_served(tmp_path: Path) -> None:
    folder = tmp_path / "pages"
    folder.mkdir()
    (folder / "index.html").write_text("one")
    (tmp_path / "secret.js").write_text("no")
    found = pages.Pages(folder)
    assert "/" in found and "/index.html" in found and "/secret.js" not in found and "/../secret.js" not in found
    first = found._page(folder / "index.html")
    (folder / "index.html").write_text("two, and longer")
    second = found._page(folder / "index.html")
    assert (first.body, second.body) == (b"one", b"two, and longer") and first.tag != second.tag


def test_logins_outlive_a_control_and_their_file_holds_no_cookie(tmp_path: Path) -> None:
    first = Logins(tmp_path, "the-token")
    cookie = first.begin(OPERATOR, "here")
    path = tmp_path / logins.FILE
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert cookie not in path.read_text() and "the-token" not in path.read_text()
    again = Logins(tmp_path, "the-token")
    known = again.known(cookie)
    assert known is not None and known.way == "here" and known.ends > time.time() + 3600
    assert (known.name, known.role, known.token) == ("ci", "operator", "0123abcd")
    assert Logins(tmp_path, "another").known(cookie) is None  # the cookie's value alone opens nothing then
    again.end(cookie)
    assert Logins(tmp_path, "the-token").known(cookie) is None
    path.write_text("[{]")
    assert Logins(tmp_path, "the-token").known(cookie) is None


def test_a_login_ends_with_its_token(tmp_path: Path) -> None:
    dead: set[str] = set()
    tried = Logins(tmp_path, "the-token", lambda id: id not in dead)
    cookie, code = tried.begin(OPERATOR, "here"), tried.link("#/", OPERATOR)
    dead.add(OPERATOR.token)
    assert tried.known(cookie) is None and tried.follow(code) is None
    soon = time.time() + 60
    known = tried.known(tried.begin(Caller("x", "viewer", "", "other", expires=soon), "here"))
    assert known is not None and known.ends == soon


def test_guessing_is_slowed_down() -> None:
    tried = Tries()
    for number in range(tries.MOST_WRONG):
        assert tried.wait("there", 100.0 + number) == 0.0
        tried.wrong("there", 100.0 + number)
    last = 100.0 + tries.MOST_WRONG
    assert 0.0 < tried.wait("there", last) <= tries.WINDOW
    assert tried.wait("elsewhere", last) == 0.0
    assert tried.wait("there", 100.0 + tries.WINDOW) == 0.0
    for number in range(tries.MOST_SOURCES + 10):
        tried.wrong(f"address {number}", last)
    assert len(tried) == tries.MOST_SOURCES


def test_a_link_works_once(tmp_path: Path) -> None:
    tried = Logins(tmp_path, "the-token")
    code = tried.link("#/", OPERATOR)
    assert tried.follow(code) == (OPERATOR, "#/") and tried.follow(code) is None


def test_there_are_never_more_than_so_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one token, and of all; who makes too many loses the own ones."""
    tried = Logins(tmp_path, "the-token")
    other = Caller("other", "admin", "", "")
    spared, code = tried.begin(other, "here"), tried.link("#/", other)
    cookies = [tried.begin(OPERATOR, "here") for _ in range(logins.MOST_OF_ONE + 1)]
    codes = [tried.link("#/", OPERATOR) for _ in range(logins.MOST_LINKS + 1)]
    assert tried.known(cookies[0]) is None and tried.known(cookies[-1]) is not None
    assert tried.known(spared) is not None and tried.follow(code) == (other, "#/")
    assert tried.follow(codes[0]) is None and tried.follow(codes[-1]) is not None
    monkeypatch.setattr(logins, "MOST", 30)
    for number in range(4):
        for _ in range(10):
            tried.begin(Caller("x", "viewer", "", f"{number:08x}"), "here")
    assert repr(tried).startswith("<Logins 30 cookies")
