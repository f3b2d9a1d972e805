"""The works that are measured: what is asked for, how, and what a right answer is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

KIB: Final = 1024
SMALL: Final = 101  # bytes of a small answer

# What a browser sends over HTTP/1.1 with a page's request: eleven fields, Host included.
BROWSER: Final = {
    "Host": "bench.example.com",
    "Connection": "keep-alive",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Accept-Language": "en-GB,en;q=0.7,de;q=0.3",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Referer": "https://bench.example.com/products/81",
    "Cookie": "session=0a1b2c3d4e5f60718293a4b5c6d7e8f9; theme=dark; consent=1",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Site": "same-origin",
}


@dataclass(frozen=True, slots=True)
class Work:
    """One kind of request, sent over and over by a closed loop."""

    name: str
    title: str
    target: str
    length: int  # of a right answer's content, bytes
    limit: float  # CPU per request against nginx that is aimed at
    tls: bool = False
    post: int = 0  # bytes sent
    close: bool = False  # a new connection for each request
    varied: int = 0  # so many different cookies and targets, in turn; more than Triage remembers heads
    connections: int = 64

    @property
    def method(self) -> str:
        return "POST" if self.post else "GET"

    @property
    def fields(self) -> dict[str, str]:
        """What is sent besides the target."""
        return {**BROWSER, "Connection": "close"} if self.close else dict(BROWSER)


WORKS: Final[dict[str, Work]] = {
    work.name: work
    for work in (
        Work("small", "small GET", "/small", SMALL, limit=1.5),
        # No aim of its own: beside `small` it shows what understanding a head anew costs, as Triage remembers heads.
        Work("varied", "small GET, heads vary", "/small", SMALL, limit=2.0, varied=997),
        Work("16k", "16 KiB body", "/16k", 16 * KIB, limit=1.25),
        Work("1m", "1 MiB body", "/1m", 1024 * KIB, limit=0.6),
        Work("tls", "TLS small GET", "/small", SMALL, limit=1.4, tls=True),
        Work("post", "10 KiB POST", "/post", SMALL, limit=1.5, post=10 * KIB),
        Work("close", "new connection each", "/small", SMALL, limit=1.7, close=True),
    )
}
