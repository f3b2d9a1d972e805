"""One health check: an HTTP/1.1 request over a connection of its own, or a connect when no path is set.

Raw sockets rather than an HTTP client: a probe must see what a client would see, a redirect or a half answer
included, and cost little at a thousand instances.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import dataclass
from typing import Final

from proxy import units
from proxy.control.state import ProbeResult

AGENT: Final = "triage-probe"
HEAD_LIMIT: Final = 65536
BODY_KEPT: Final = 200


@dataclass(frozen=True, slots=True)
class Target:
    """Where to look, and what is right."""

    host: str = ""  # an IP address, or "" with `unix`
    port: int = 0
    unix: str = ""
    tls: ssl.SSLContext | None = None
    server_name: str = ""
    path: str = ""  # "": a connect is enough
    host_field: str = ""
    timeout: float = 2.0
    statuses: tuple[tuple[int, int], ...] = ((200, 299),)


async def probe(target: Target) -> ProbeResult:
    """Never raises for anything the other side does."""
    at, began = time.time(), time.monotonic()

    def result(ok: bool, words: str, status: int | None = None, refused: bool = False, body: str = "") -> ProbeResult:
        return ProbeResult(ok, words, at, time.monotonic() - began, status, refused, body)

    stage = "connect"
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(target.timeout):
            reader, writer = await _open(target)
            if not target.path:
                return result(True, "connected")
            stage = "answer"
            writer.write(_request(target))
            head = await _read_head(reader)
            status, location = _parse(head)
            if status is None:
                return result(False, f"no HTTP response: {head[:60]!r}")
            body = (await reader.read(BODY_KEPT)).decode("utf-8", "replace") if status != 204 else ""
            if any(low <= status <= high for low, high in target.statuses):
                return result(True, f"status {status}", status, body=body)
            words = f"status {status}"
            if 300 <= status < 400 and location:
                words += f", a redirect to {location}: redirects are not followed, set health.path to what it leads to"
            return result(False, words, status, body=body)
    except TimeoutError:
        what = "no connection" if stage == "connect" else "no answer"
        return result(False, f"{what} within {units.duration(target.timeout)}")
    except ConnectionRefusedError:
        return result(False, "connection refused", refused=True)
    except FileNotFoundError:
        return result(False, f"there is no socket {target.unix}", refused=True)
    except ssl.SSLError as error:
        return result(False, f"TLS: {error.reason or error}")
    except asyncio.IncompleteReadError:
        return result(False, "closed without a whole answer")
    except OSError as error:
        return result(False, error.strerror or str(error), refused=stage == "connect")
    finally:
        if writer is not None:
            writer.transport.abort()  # nothing is owed, and many connections in FIN-WAIT would be


async def _open(target: Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    name = target.server_name or None
    if target.unix:
        return await asyncio.open_unix_connection(
            target.unix, limit=HEAD_LIMIT, ssl=target.tls, server_hostname=(name or "") if target.tls else None
        )
    return await asyncio.open_connection(
        target.host, target.port, limit=HEAD_LIMIT, ssl=target.tls, server_hostname=name if target.tls else None
    )


def _request(target: Target) -> bytes:
    return (
        f"GET {target.path} HTTP/1.1\r\nHost: {target.host_field}\r\nUser-Agent: {AGENT}\r\n"
        "Accept: */*\r\nConnection: close\r\n\r\n"
    ).encode("latin-1", "replace")


async def _read_head(reader: asyncio.StreamReader) -> bytes:
    """The final response's head; 1xx before it are passed over."""
    while True:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return await reader.read(BODY_KEPT)
        except asyncio.IncompleteReadError as error:
            if error.partial:
                return error.partial
            raise
        if not head.startswith(b"HTTP/1.1 1"):
            return head


def _parse(head: bytes) -> tuple[int | None, str]:
    lines = head.decode("latin-1").split("\r\n")
    version, _, rest = lines[0].partition(" ")
    code = rest[:3]
    if version not in ("HTTP/1.1", "HTTP/1.0") or not code.isdigit() or len(code) != 3:
        return None, ""
    location = ""
    for line in lines[1:]:
        name, _, value = line.partition(":")
        if name.lower() == "location":
            location = value.strip()
    return int(code), location
