"""A small driver of headless Chromium over the DevTools protocol, for tests that look at pages as a person does.

Calls block; the WebSocket lives on a loop in a thread of its own, so that one browser serves a whole module of tests.
Longer than most: the protocol, what a page says, a hand and an eye are read together.

Always true:
  - the browser can reach 127.0.0.1 and nothing else, and keeps all it writes in the folder it was given;
  - clicks and keys are input events as from a mouse and a keyboard, not calls of handlers;
  - what a page says on its console, throws, violates and asks for is kept with the page;
  - after `end` no process of the browser is left.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import aiohttp
import psutil
import pytest

T = TypeVar("T")

LONG: Final = 40.0  # seconds; a deadline for what takes a fraction of one on an ordinary machine
CALL: Final = 30.0  # seconds for one call of the protocol
LOOK: Final = 0.04  # seconds between two looks at a condition
MOST_KEPT: Final = 20_000  # of each kind of a page's notes

# PR_SET_PDEATHSIG outlives exec: a test run that is killed takes its browser along.
_BOUND: Final = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); os.execv(sys.argv[1], sys.argv[1:])"
)
_FLAGS: Final = (
    "--headless=new", "--no-sandbox", "--remote-debugging-port=0", "--disable-dev-shm-usage", "--no-first-run",
    "--no-default-browser-check", "--disable-gpu", "--disable-extensions", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-default-apps",
    "--disable-breakpad", "--disable-crash-reporter",
    "--disable-client-side-phishing-detection", "--disable-domain-reliability", "--no-pings",
    "--disable-features=Translate,OptimizationHints,MediaRouter,DialMediaRouteProvider,AutofillServerCommunication",
    "--disable-background-timer-throttling", "--disable-renderer-backgrounding",
    "--disable-backgrounding-occluded-windows", "--metrics-recording-only", "--mute-audio", "--hide-scrollbars",
    "--password-store=basic", "--use-mock-keychain", "--force-color-profile=srgb",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--no-proxy-server",
)  # fmt: skip

_KEYS: Final[dict[str, tuple[str, int, str]]] = {  # key: (code, virtual key code, text)
    "Enter": ("Enter", 13, "\r"), "Escape": ("Escape", 27, ""), "Tab": ("Tab", 9, ""), " ": ("Space", 32, " "),
    "/": ("Slash", 191, "/"), "ArrowDown": ("ArrowDown", 40, ""), "ArrowUp": ("ArrowUp", 38, ""),
    "Backspace": ("Backspace", 8, ""), "End": ("End", 35, ""), "Home": ("Home", 36, ""),
}  # fmt: skip
_SHIFT: Final = 8


class ProtocolError(Exception):
    """The browser refused a call, or the script that it ran threw."""


def program() -> str | None:
    """Where Chromium is: `CHROMIUM`, else on the path; None: there is none."""
    named = os.environ.get("CHROMIUM")
    if named:
        return named if os.access(named, os.X_OK) else None
    return next((found for name in ("chromium", "chromium-browser") if (found := shutil.which(name))), None)


MISSING: Final = "there is no Chromium: install the package `chromium`, or name the program in CHROMIUM"


class Browser:
    """One running browser with its own profile in `folder`. Each page has cookies of its own."""

    def __init__(self, folder: Path) -> None:
        found = program()
        if found is None:
            raise FileNotFoundError(MISSING)
        self.profile = folder / "profile"
        self.profile.mkdir(parents=True)
        self._said = folder / "chromium.log"
        self._calls: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._numbers = itertools.count(1)
        self._pages: dict[str, Page] = {}
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._session: aiohttp.ClientSession | None = None
        self._reading: asyncio.Task[None] | None = None
        with self._said.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _BOUND, found, *_FLAGS, f"--user-data-dir={self.profile}", "about:blank"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_CACHE_HOME": str(folder)},
            )  # fmt: skip
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="browser", daemon=True)
        self._thread.start()
        try:
            self.run(self._connect(self._address()), LONG)
        except BaseException:
            self.end()
            raise

    def __repr__(self) -> str:
        return f"<Browser pid {self.process.pid}, {len(self._pages)} pages>"

    # -- the protocol

    def _address(self) -> str:
        """Of the DevTools WebSocket, as soon as the browser has written its port."""
        file = self.profile / "DevToolsActivePort"
        deadline = time.monotonic() + LONG
        while True:
            with contextlib.suppress(OSError):
                port, _, path = file.read_text().partition("\n")
                if path.strip():
                    return f"ws://127.0.0.1:{int(port)}{path.strip()}"
            assert self.process.poll() is None, f"Chromium ended with {self.process.returncode}:\n{self.said()}"
            assert time.monotonic() < deadline, f"Chromium did not come up within {LONG:g} s:\n{self.said()}"
            time.sleep(LOOK)

    def said(self) -> str:
        """The last of what the browser printed."""
        return self._said.read_text(errors="replace")[-3000:]

    def run(self, work: Coroutine[Any, Any, T], within: float = CALL) -> T:
        """Run on the browser's loop and wait. Raises TimeoutError."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(within)

    async def _connect(self, address: str) -> None:
        self._session = aiohttp.ClientSession()
        self._socket = await self._session.ws_connect(address, max_msg_size=0, autoping=True)
        self._reading = asyncio.create_task(self._read(self._socket))

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                continue
            told = message.json()
            if "id" in told:
                waiting = self._calls.pop(told["id"], None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(told)
            elif page := self._pages.get(told.get("sessionId", "")):
                page.hear(told["method"], told["params"])
        for waiting in self._calls.values():
            if not waiting.done():
                waiting.set_exception(ConnectionError("the browser has gone"))

    async def _call(self, method: str, params: dict[str, Any], session: str) -> dict[str, Any]:
        assert self._socket is not None
        number = next(self._numbers)
        waiting = self._calls[number] = self._loop.create_future()
        told = {"id": number, "method": method, "params": params, **({"sessionId": session} if session else {})}
        try:
            await self._socket.send_json(told)
            async with asyncio.timeout(CALL):
                answer = await waiting
        finally:
            self._calls.pop(number, None)
        if "error" in answer:
            raise ProtocolError(f"{method}: {answer['error'].get('message')}")
        result: dict[str, Any] = answer["result"]
        return result

    def call(self, method: str, /, session: str = "", **params: Any) -> dict[str, Any]:
        """One call. Raises ProtocolError, TimeoutError, ConnectionError."""
        return self.run(self._call(method, params, session), CALL + 5)

    # -- pages

    def page(self, width: int = 1280, height: int = 800) -> Page:
        """A new page that shares nothing with the others."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call(
            "Target.createTarget", url="about:blank", browserContextId=context, width=width, height=height
        )["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self._pages[session] = Page(self, session, target, context)
        for domain in ("Page", "Runtime", "Network", "Log", "Audits"):
            page.call(f"{domain}.enable")
        page.viewport(width, height)
        return page

    def forget(self, page: Page) -> None:
        """Close a page and what it kept."""
        self._pages.pop(page.session, None)
        with contextlib.suppress(ProtocolError, ConnectionError, TimeoutError):
            self.call("Target.disposeBrowserContext", browserContextId=page.context)

    # -- its end

    def processes(self) -> list[psutil.Process]:
        """All of this browser: those of its session, and its descendants."""
        found: dict[int, psutil.Process] = {}
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self.process.pid)
            found.update((one.pid, one) for one in [parent, *parent.children(recursive=True)])
        for one in psutil.process_iter():
            with contextlib.suppress(OSError, psutil.Error):
                if os.getsid(one.pid) == self.process.pid:
                    found[one.pid] = one
        return [one for one in found.values() if one.pid != os.getpid()]

    def end(self) -> None:
        """Ask it to close, then end what is left, one process after the other. Safe to call twice."""
        if not self._thread.is_alive():
            return
        known = self.processes()
        if self._socket is not None and not self._socket.closed:
            with contextlib.suppress(Exception):
                self.call("Browser.close")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        for one in {*known, *self.processes()}:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.send_signal(signal.SIGKILL)  # psutil checks that the pid is still the same process
        self.process.wait(LONG)
        self.run(self._disconnect(), LONG)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(LONG)
        self._loop.close()

    async def _disconnect(self) -> None:
        if self._socket is not None:
            await self._socket.close()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
        await asyncio.sleep(0)


@contextlib.contextmanager
def running() -> Iterator[Browser]:
    """A browser in a folder of its own; where there is none, the test is skipped."""
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


@dataclass
class Asked:
    """One thing that a page asked for."""

    url: str
    method: str
    kind: str  # Document, Script, Stylesheet, Fetch, EventSource, …
    status: int = 0
    sent: int = 0  # bytes as they came over the wire, head and content; 0: not finished
    failed: str = ""


@dataclass
class Page:
    """One page, and all that it said since `quiet`."""

    browser: Browser
    session: str
    target: str
    context: str
    asked: dict[str, Asked] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)  # on its console, or thrown and not caught
    warnings: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)  # answers of 400 and more, connections that failed
    violations: list[str] = field(default_factory=list)  # of its Content-Security-Policy
    size: tuple[int, int] = (0, 0)

    def __repr__(self) -> str:
        return f"<Page {self.js('location.href')}>"

    # -- what it says

    def hear(self, method: str, params: dict[str, Any]) -> None:
        """An event of the protocol; on the browser's loop."""
        if method == "Network.requestWillBeSent" and len(self.asked) < MOST_KEPT:
            request = params["request"]
            self.asked[params["requestId"]] = Asked(request["url"], request["method"], params.get("type", ""))
        elif method == "Network.webSocketCreated":
            self.asked[params["requestId"]] = Asked(params["url"], "GET", "WebSocket")
        elif method.startswith("Network.") and (asked := self.asked.get(params.get("requestId", ""))):
            if method == "Network.responseReceived":
                asked.status = params["response"]["status"]
            elif method == "Network.loadingFinished":
                asked.sent = int(params["encodedDataLength"])
            elif method == "Network.loadingFailed":
                asked.failed = params.get("errorText", "")
        elif method == "Runtime.exceptionThrown":
            thrown = params["exceptionDetails"]
            self._note(self.errors, thrown.get("exception", {}).get("description") or thrown["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert", "warning"):
            words = " ".join(str(one.get("value", one.get("description", ""))) for one in params["args"])
            self._note(self.warnings if params["type"] == "warning" else self.errors, words)
        elif method == "Log.entryAdded":
            self._log(params["entry"])
        elif method == "Audits.issueAdded" and params["issue"]["code"] == "ContentSecurityPolicyIssue":
            self._note(self.violations, str(params["issue"]["details"].get("contentSecurityPolicyIssueDetails")))

    def _log(self, entry: dict[str, Any]) -> None:
        words = f"{entry['text']} {entry.get('url', '')}".strip()
        if "Content Security Policy" in entry["text"]:
            self._note(self.violations, words)
        elif entry["source"] == "network":
            self._note(self.refused, words)
        elif entry["level"] == "error":
            self._note(self.errors, words)
        elif entry["level"] == "warning":
            self._note(self.warnings, words)

    @staticmethod
    def _note(kept: list[str], words: str) -> None:
        if len(kept) < MOST_KEPT:
            kept.append(words)

    def quiet(self) -> None:
        """Forget all that it said."""
        for kept in (self.errors, self.warnings, self.refused, self.violations):
            kept.clear()
        self.asked.clear()

    def hosts(self) -> set[str]:
        """`host:port` of everything that it asked for over a network."""
        urls = [asked.url for asked in list(self.asked.values())]
        return {url.split("/")[2] for url in urls if url.startswith(("http:", "https:", "ws:", "wss:"))}

    # -- what it is told

    def call(self, method: str, /, **params: Any) -> dict[str, Any]:
        return self.browser.call(method, session=self.session, **params)

    def go(self, url: str) -> None:
        """Navigate. Raises ProtocolError when nothing answers there."""
        answer = self.call("Page.navigate", url=url)
        if answer.get("errorText"):
            raise ProtocolError(f"{url}: {answer['errorText']}")

    def reload(self) -> None:
        self.call("Page.reload")

    def js(self, expression: str) -> Any:
        """The value of an expression, awaited where it is a promise. Raises ProtocolError with what it threw."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True, userGesture=True
        )
        if thrown := answer.get("exceptionDetails"):
            raise ProtocolError(thrown.get("exception", {}).get("description") or thrown["text"])
        return answer["result"].get("value")

    def wait(self, expression: str, what: str = "", within: float = LONG) -> Any:
        """The first true value of an expression; an assertion with what is on the page when there is none in time."""
        deadline = time.monotonic() + within
        asked = f"(async () => {{ const it = await ({expression}); return it instanceof Node ? true : it; }})()"
        while True:
            problem = ""
            try:
                if value := self.js(asked):
                    return value
            except ProtocolError as error:  # the page is changing, or what is asked about is not there yet
                problem = str(error)
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"not within {within:g} s: {what or expression} {problem}\n"
                    f"errors {self.errors[-5:]}\nrefused {self.refused[-5:]}\nat {self.address}\n{self.text()[-3000:]}"
                )
            time.sleep(LOOK)

    def see(self, words: str, within: float = LONG, selector: str = "body") -> None:
        """Wait until these words can be read on the page."""
        there = f"(document.querySelector({selector!r})?.innerText || '')"
        try:
            self.wait(f"{there}.includes({words!r})", repr(words), within)
        except AssertionError as error:
            raise AssertionError(f"{error}\nin {selector}: {self.text(selector)[-2000:]}") from None

    @property
    def address(self) -> str:
        return str(self.js("location.href"))

    def text(self, selector: str = "body") -> str:
        """What can be read there; empty without such an element."""
        with contextlib.suppress(ProtocolError):
            return str(self.js(f"document.querySelector({selector!r})?.innerText || ''"))
        return ""

    def cookie(self, url: str, name: str, value: str) -> None:
        self.call("Network.setCookie", url=url, name=name, value=value)

    # -- a hand

    def click(self, selector: str, within: float = LONG) -> None:
        """Press the left button in the middle of the first such element, once it is there and nothing lies over it.

        Again where another got the click: a page that was just loaded, or that is told something, may have moved it."""
        for _ in range(10):
            if self._clicked(selector, within):
                return
        raise AssertionError(f"{selector} cannot be hit: it moves")

    def _clicked(self, selector: str, within: float) -> bool:
        find = f"""(() => {{
            const one = document.querySelector({selector!r});
            if (!one || one.disabled) return null;
            one.scrollIntoView({{block: 'center', inline: 'center', behavior: 'instant'}});
            const box = one.getBoundingClientRect();
            if (!box.width || !box.height) return null;
            const x = box.x + box.width / 2, y = box.y + box.height / 2;
            const top = document.elementFromPoint(x, y);
            if (!top || !(one === top || one.contains(top) || top.contains(one))) return null;
            window.hitByClick = false;
            document.addEventListener("click", (event) => {{
                window.hitByClick = event.composedPath().some((node) => node.matches?.({selector!r}));
            }}, {{ capture: true, once: true }});
            return [x, y];
        }})()"""
        x, y = self.wait(find, f"{selector} to click", within)
        for kind, buttons in (("mouseMoved", 0), ("mousePressed", 1), ("mouseReleased", 0)):
            self.call(
                "Input.dispatchMouseEvent", type=kind, x=x, y=y, buttons=buttons,
                button="none" if kind == "mouseMoved" else "left", clickCount=0 if kind == "mouseMoved" else 1,
            )  # fmt: skip
        return self.js("window.hitByClick") is not False  # undefined: it led to another page

    def drag(self, selector: str, start: float, end: float) -> None:
        """From one share of the element's width to another, at half its height, with the button held."""
        box = self.wait(
            f"(() => {{ const one = document.querySelector({selector!r}); one.scrollIntoView({{block: 'center'}});"
            " const b = one.getBoundingClientRect(); return b.width ? [b.x, b.y, b.width, b.height] : null; })()"
        )
        y = box[1] + box[3] / 2
        steps = [box[0] + box[2] * (start + (end - start) * step / 4) for step in range(5)]
        held: dict[str, Any] = {"y": y, "button": "left", "buttons": 1}
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=steps[0], y=y, button="none")
        self.call("Input.dispatchMouseEvent", type="mousePressed", x=steps[0], clickCount=1, **held)
        for x in steps[1:]:
            self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, **held)
        self.call("Input.dispatchMouseEvent", type="mouseReleased", x=steps[-1], clickCount=1, **held | {"buttons": 0})

    def write(self, selector: str, text: str) -> None:
        """Click into a field, take out what is in it, and type."""
        self.click(selector)
        self.js(f"document.querySelector({selector!r}).select?.()")
        self.call("Input.insertText", text=text)

    def files(self, selector: str, paths: list[Path]) -> None:
        """Choose files in a field for them, as a person does in the window that it opens."""
        self.wait(f"document.querySelector({selector!r})", selector)
        root = self.call("DOM.getDocument", depth=0)["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", files=[str(path) for path in paths], nodeId=node)

    def press(self, key: str, *, shift: bool = False) -> None:
        """One key, down and up, to whatever has the focus."""
        if key in _KEYS:
            code, number, text = _KEYS[key]
        else:
            code, number, text = f"Key{key.upper()}", ord(key.upper()), key
        modifiers = _SHIFT if shift else 0
        named = {"key": key, "code": code, "windowsVirtualKeyCode": number, "modifiers": modifiers}
        down = {"text": text, "unmodifiedText": text} if text else {}
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **named, **down)
        self.call("Input.dispatchKeyEvent", type="keyUp", **named)

    # -- an eye

    def viewport(self, width: int, height: int) -> None:
        """Size in CSS pixels."""
        self.size = (width, height)
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def scheme(self, value: str) -> None:
        """`light` or `dark`, as the system of the person has it."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": value}])

    def screenshot(self, path: Path) -> int:
        """What is in the viewport, as PNG; its bytes."""
        data = base64.b64decode(self.call("Page.captureScreenshot", format="png", optimizeForSpeed=False)["data"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return len(data)

    def close(self) -> None:
        self.browser.forget(self)
