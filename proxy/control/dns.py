"""Addresses given by name: resolved again and again, because what a name means changes.

A failure keeps the last good addresses: a resolver that is down for a minute must not take the app with it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

INTERVAL: Final = 10.0
TIMEOUT: Final = 5.0


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a name means now. `error` is "", "error" or "timeout"; with addresses it says how old ones came to stay."""

    addresses: tuple[str, ...]
    error: str = ""
    words: str = ""


def literal(host: str) -> tuple[str, ...]:
    """The address itself if it is one; else ()."""
    try:
        return (str(ipaddress.ip_address(host)),)
    except ValueError:
        return ()


async def resolve(host: str, timeout: float = TIMEOUT) -> Resolved:
    """Ask the system's resolver, in its order."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout):
            answers = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except TimeoutError:
        return Resolved((), "timeout", f"{host} was not resolved within {timeout:g} s")
    except (OSError, UnicodeError) as error:
        return Resolved((), "error", f"{host} does not resolve: {getattr(error, 'strerror', None) or error}")
    return Resolved(tuple(dict.fromkeys(str(answer[4][0]) for answer in answers)))


class Watcher:
    """Names and what they mean. `changed(host)` is called when an answer differs from the last."""

    def __init__(self, changed: Callable[[str], None], interval: float = INTERVAL) -> None:
        self.known: dict[str, Resolved] = {}
        self._changed = changed
        self._interval = interval
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def watch(self, hosts: set[str]) -> None:
        """The names that matter from now on."""
        for host in set(self._tasks) - hosts:
            self._tasks.pop(host).cancel()
            self.known.pop(host, None)
        for host in hosts - set(self._tasks):
            self._tasks[host] = asyncio.get_running_loop().create_task(self._follow(host), name=f"dns {host}")

    def addresses(self, host: str) -> Resolved:
        """An address is itself; a name not asked for yet has none, without an error."""
        own = literal(host)
        return Resolved(own) if own else self.known.get(host, Resolved(()))

    def close(self) -> None:
        self.watch(set())

    async def _follow(self, host: str) -> None:
        while True:
            answer = await resolve(host)
            before = self.known.get(host)
            if answer.error and before is not None and before.addresses:
                answer = Resolved(before.addresses, answer.error, answer.words)
            self.known[host] = answer
            if answer != before:
                self._changed(host)
            await asyncio.sleep(self._interval)
