"""The dashboard's files: a fixed set, read once and again when one changed, compressed once.

What is not in the folder at the start is not served, so no path leads out of it. The files hold nothing of this
gateway, so they need no token; all that they show they ask the API for.
"""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import BytesPayload

FOLDER: Final = Path(__file__).with_name("dashboard")
TYPES: Final = {
    ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml", ".png": "image/png",
}  # fmt: skip
PIECE: Final = 1 << 15
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


@dataclass(frozen=True, slots=True)
class Page:
    """One file, as it is sent."""

    type: str
    body: bytes
    packed: bytes
    tag: str
    stamp: tuple[int, int]  # of the file


class _Pieces(BytesPayload):
    """Sent piece by piece as it is taken: who reads nothing holds some 100 KB of ours, not all of it."""

    async def write(self, writer: AbstractStreamWriter) -> None:
        await self.write_with_length(writer, None)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        body = memoryview(self._value)[:content_length]
        for at in range(0, len(body), PIECE):
            await writer.write(body[at : at + PIECE])


class Pages:
    """All files of the folder that a browser may have."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._files = {
            "/" + str(path.relative_to(folder)): path for path in folder.rglob("*") if path.suffix in TYPES
        }
        if "/index.html" in self._files:
            self._files["/"] = self._files["/index.html"]
        self._pages: dict[Path, Page] = {}

    def __contains__(self, path: str) -> bool:
        return path in self._files

    def answer(self, request: web.Request) -> web.Response:
        """The file at the call's path, which is one of ours; 304 when the browser has it."""
        page = self._page(self._files[request.path])
        headers = {
            "Content-Type": page.type, "ETag": page.tag, "Cache-Control": "no-cache",
            "Content-Security-Policy": POLICY, "Vary": "Accept-Encoding",
        }  # fmt: skip
        if page.tag in request.headers.get("If-None-Match", ""):
            return web.Response(status=304, headers=headers)
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            return web.Response(body=_Pieces(page.packed), headers={**headers, "Content-Encoding": "gzip"})
        return web.Response(body=_Pieces(page.body), headers=headers)

    def _page(self, path: Path) -> Page:
        page = self._pages.get(path)
        try:
            found = path.stat()
            stamp = (found.st_mtime_ns, found.st_size)
            if page is None or page.stamp != stamp:
                body = path.read_bytes()
                tag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
                page = self._pages[path] = Page(TYPES[path.suffix], body, gzip.compress(body, 9, mtime=0), tag, stamp)
        except OSError:
            if page is None:
                raise web.HTTPNotFound from None
        return page
