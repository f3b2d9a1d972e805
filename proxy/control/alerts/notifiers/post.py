"""One HTTP POST, as webhooks want it: TLS verified, redirects not followed, bounded in time and in what is read.

aiohttp, and not http.client in a thread: a try that hangs is ended by cancelling it, with its socket, at whatever point
it is, while a thread would have to be waited for. Control has it in memory anyway, for the admin API; where it has not,
it is imported in the notifier's thread, once something is to be sent. Names are looked up in that thread too.
"""

from __future__ import annotations

import asyncio
import email.utils
import importlib
import socket
import ssl
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from proxy import masking
from proxy.control.alerts.notifiers.contract import Failed
from proxy.control.alerts.notifiers.lane import Lane

if TYPE_CHECKING:
    import aiohttp

READ: Final = 300
"""Bytes of an answer that are looked at, for what it says went wrong."""
LATER: Final = (408, 425, 429)
"""Statuses below 500 after which another try may do better."""
LONGEST: Final = 3600.0
"""Seconds of a Retry-After that are honoured."""


async def post(lane: Lane, url: str, content: bytes, headers: Mapping[str, str]) -> str:
    """Words such as "status 200". Raises Failed."""
    if "aiohttp" not in sys.modules:
        await lane.run(lambda: importlib.import_module("aiohttp"))
    import aiohttp

    connector = aiohttp.TCPConnector(resolver=_resolver(lane), force_close=True, limit=1, use_dns_cache=False)
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session,
            session.post(url, data=content, headers=dict(headers), allow_redirects=False) as answer,
        ):
            if 200 <= answer.status < 300:
                return f"status {answer.status}"
            said = (await answer.content.read(READ)).decode("utf-8", "replace")
            raise refused(answer.status, answer.headers, said, url)
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise Failed(_words(error, url)) from None


def refused(status: int, headers: Mapping[str, str], said: str, url: str) -> Failed:
    """What an answer that is no success means."""
    if 300 <= status < 400:
        return Failed(f"status {status}: redirects are not followed; notify has to name where it leads", again=False)
    text = " ".join(_clean(said, url).split())
    words = f"status {status}{f': {text}' if text else ''}"
    again = status >= 500 or status in LATER
    return Failed(words, again=again, after=retry_after(headers.get("Retry-After", ""), time.time()) if again else 0.0)


def retry_after(value: str, now: float) -> float:
    """Seconds, of a number or a date (RFC 9110 section 10.2.3); 0.0: it says nothing. `now` is Unix time."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        return min(float(value[:9]), LONGEST)
    try:
        at = email.utils.parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return min(max(0.0, at - now), LONGEST)


def shown(url: str) -> str:
    """Where it is, without what opens it: path and query are as good as a password."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}" + (f"/{masking.MASK}" if parts.path.strip("/") or parts.query else "")


def _clean(text: str, url: str) -> str:
    parts = urlsplit(url)
    for secret in (url, parts.path, parts.query, parts.password or ""):
        if len(secret) > 4:
            text = text.replace(secret, masking.MASK)
    return masking.text("".join(letter if letter.isprintable() else " " for letter in text))[:READ]


def _words(error: Exception, url: str) -> str:
    import aiohttp

    cause: BaseException = error
    if isinstance(error, aiohttp.ClientConnectorError):
        cause = error.os_error
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause = error.certificate_error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {cause.verify_message}"
    if isinstance(cause, OSError) and cause.strerror:
        return f"not reached: {_clean(cause.strerror, url)}"
    return f"not reached: {_clean(str(cause) or type(cause).__name__, url)}"


def _resolver(lane: Lane) -> aiohttp.abc.AbstractResolver:
    from aiohttp.abc import AbstractResolver

    class Resolver(AbstractResolver):
        async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> list[Any]:
            wanted = {"family": family, "type": socket.SOCK_STREAM, "flags": socket.AI_ADDRCONFIG}
            found = await lane.run(lambda: socket.getaddrinfo(host, port, **wanted))
            return [
                {"hostname": host, "host": address[0], "port": address[1], "family": kind, "proto": protocol,
                 "flags": socket.AI_NUMERICHOST | socket.AI_NUMERICSERV}
                for kind, _, protocol, _, address in found
            ]  # fmt: skip

        async def close(self) -> None:
            await asyncio.sleep(0)

    return Resolver()
