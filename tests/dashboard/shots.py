"""Make the pictures of docs/screenshots/ anew: `python -m tests.dashboard.shots`, some two minutes.

A gateway with two apps, requests all the time, a few crashes and errors; then each page as a person sees it.
"""

from __future__ import annotations

import shutil
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Final

from proxy.cli.client import Gateway
from tests.dashboard import scene
from tests.dashboard.browser import Browser, Page
from tests.e2e.support import LONG, ROOT, SHOP, Triage, until

FOLDER: Final = ROOT / "docs" / "screenshots"
MOST: Final = 150_000  # bytes of a picture
CONFIG: Final = scene.CONFIG.replace(f"{sys.executable} {SHOP}", f"python {SHOP.name}").replace(
    "[admin]\n", "[admin]\nconsole = true\n"
)
TYPED: Final = (
    "PS1='$ '; clear", "ls -l --color", "echo I am $TRIAGE_INSTANCE", "curl -i http://127.0.0.1:$PORT/healthz",
    "grep -n --color=always 'async def' app.py | head",
)  # fmt: skip
BEFORE: Final = 75.0  # seconds of ordinary traffic, so that charts have something to show
AFTER: Final = 8.0


def main() -> int:
    folder = Path(tempfile.mkdtemp(prefix="triage-"))
    with scene.running(CONFIG, files=[SHOP]) as triage:
        browser = Browser(folder)
        try:
            with scene.Traffic(triage.port, 40):
                to = happen(triage)
                page = browser.page()
                page.go(scene.login_link(triage))
                page.wait("document.querySelector('.verdict h1')")
                sizes = [take(page, triage, name, *where) for name, where in to.items()]
        finally:
            browser.end()
            shutil.rmtree(folder, ignore_errors=True)
    return 1 if max(sizes) > MOST else 0


def happen(triage: Triage) -> dict[str, tuple[str, str, int]]:
    """Let things go well, then wrong; name of a picture to address, colour scheme and width."""
    time.sleep(BEFORE)
    for _ in range(3):
        scene.ask(triage.port, "/raise")
    scene.ask(triage.port, "/slow?s=1.5", host=scene.DESK)
    scene.crash(triage, "desk")
    request = scene.crash(triage)
    incident = until(
        lambda: next((one["id"] for one in triage.api("incidents", app="shop")["items"]), ""), "an incident"
    )
    time.sleep(AFTER)
    session = diagnosed(triage)
    acted(triage)
    return {
        "overview": ("", "light", 1280),
        "app": ("apps/shop?from=5m", "light", 1280),
        "incident": (f"incidents/{incident}", "light", 1280),
        "request": (f"requests/{request}", "light", 1280),
        "logs": ("logs?app=desk", "light", 1280),
        "analyze": ("analyze", "light", 1280),
        "session": (f"analyze/{session}", "light", 1280),
        "mitigate": ("mitigate", "light", 1280),
        "processes": (f"apps/shop/{triage.ready()[0]['id']}?show=processes", "light", 1280),
        "files": ("console?at=shop%2F", "light", 1280),
        "terminal": ("console?show=terminal&app=shop", "dark", 1280),
        "access": ("access", "light", 1280),
        "dark": ("apps/desk?from=5m", "dark", 1280),
        "narrow": ("", "light", 390),
    }


def diagnosed(triage: Triage) -> str:
    """A session of the shop by hand, ended; its id."""
    until(lambda: not triage.api("sessions", state="active")["items"], "what a crash began is over", 120)
    gateway = Gateway(triage.admin, timeout=LONG)
    try:
        session: str = gateway.post("sessions", {"app": "shop", "seconds": 10, "reason": "a crash at noon"})["id"]
    finally:
        gateway.close()
    until(lambda: triage.api(f"sessions/{session}")["ended"], "the session has ended", 120)
    return session


def acted(triage: Triage) -> None:
    """Tokens, and acts by hand with their reasons."""
    gateway = Gateway(triage.admin, timeout=LONG)
    try:
        tokens = (("night-shift", "operator", "30d"), ("dashboard-wall", "viewer", "365d"), ("ci", "operator", "1h"))
        for name, role, lasts in tokens:
            gateway.post("tokens", {"name": name, "role": role, "for": lasts})
        gateway.post("apps/desk/mute", {"for": "1h", "reason": "maintenance of the database"})
        one = triage.ready("desk")[0]["id"]
        gateway.post(f"apps/desk/instances/{one}/recycle", {"reason": "leaks since noon", "collect": False})
    finally:
        gateway.close()
    until(lambda: not triage.api("operations", running="true")["items"], "the acts are done")


def take(page: Page, triage: Triage, name: str, to: str, scheme: str, width: int) -> int:
    """One picture; its bytes."""
    page.viewport(width, 800)
    page.scheme(scheme)
    page.go(f"{scene.admin(triage)}/#/{to}")
    page.wait("document.querySelector('main h1') && !document.querySelector('main .loading')")
    if name == "logs":
        page.wait("document.querySelectorAll('.log .line').length > 30")
        scene.ask(triage.port, "/raise", host=scene.DESK)
        page.wait("document.querySelector('.log details')")  # folded: what is inside are paths of this machine
    if name == "terminal":
        page.click("main div:not([hidden]) > p > button.primary")
        page.see("open", selector="main .sum .state")
        for line in TYPED:
            page.call("Input.insertText", text=line)
            page.press("Enter")
            time.sleep(1)
    time.sleep(1.5)  # charts are drawn after what they show has come
    path = FOLDER / f"{name}.png"
    page.screenshot(path)
    path.write_bytes(smaller(path.read_bytes()))
    print(f"{path.relative_to(ROOT)}  {path.stat().st_size:,} bytes", *page.errors, *page.violations)
    return path.stat().st_size


def smaller(png: bytes) -> bytes:
    """The same picture with 256 colours at most, each in one byte: text and lines need no more."""
    width, height, rows = pixels(png)
    counted = Counter(pixel for row in rows for pixel in row)
    palette = [pixel for pixel, _ in counted.most_common(160)]
    places = {pixel: min(range(len(palette)), key=partial(far, palette, pixel)) for pixel in counted}
    while len(palette) < 256:  # beside what is there most often, what is farthest from all of it
        added = max(counted, key=lambda pixel: far(palette, pixel, places[pixel]))
        palette.append(added)
        for pixel, at in places.items():
            if far(palette, pixel, len(palette) - 1) < far(palette, pixel, at):
                places[pixel] = len(palette) - 1
    data = b"".join(b"\0" + bytes(places[pixel] for pixel in row) for row in rows)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        (b"PLTE", b"".join(palette)), (b"IDAT", zlib.compress(data, 9)), (b"IEND", b""),
    ]  # fmt: skip
    return png[:8] + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


def far(palette: list[bytes], pixel: bytes, at: int) -> int:
    """How far a colour is from one of the palette."""
    return sum((one - other) ** 2 for one, other in zip(pixel, palette[at], strict=True))


def pixels(png: bytes) -> tuple[int, int, list[list[bytes]]]:
    """Width, height, and rows of three bytes each, of a PNG as Chromium writes it: 8 bits, RGB or RGBA (PNG, 9)."""
    at, data, width, height, size = 8, b"", 0, 0, 3
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        kind, content = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            width, height, depth, colours = struct.unpack_from(">IIBB", content)
            assert depth == 8 and colours in (2, 6), (depth, colours)
            size = 4 if colours == 6 else 3
        elif kind == b"IDAT":
            data += content
        at += 12 + length
    flat = zlib.decompress(data)
    stride, before, rows = width * size, bytearray(width * size), []
    for number in range(height):
        begin = number * (stride + 1)
        row = unfiltered(flat[begin], bytearray(flat[begin + 1 : begin + 1 + stride]), before, size)
        rows.append([bytes(row[x : x + 3]) for x in range(0, stride, size)])
        before = row
    return width, height, rows


def unfiltered(kind: int, row: bytearray, up: bytearray, size: int) -> bytearray:
    """A row as it was before one of the five filters; `up` is the one above it."""
    for x in range(len(row)) if kind else ():
        left, above = row[x - size] if x >= size else 0, up[x]
        if kind == 1:
            guess = left
        elif kind == 2:
            guess = above
        elif kind == 3:
            guess = (left + above) // 2
        else:
            corner = up[x - size] if x >= size else 0
            far = (abs(above - corner), abs(left - corner), abs(left + above - 2 * corner))
            guess = (left, above, corner)[far.index(min(far))]
        row[x] = (row[x] + guess) & 255
    return row


if __name__ == "__main__":
    sys.exit(main())
