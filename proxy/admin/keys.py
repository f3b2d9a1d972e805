"""What handlers find in the application."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from proxy.admin.logins import Logins
from proxy.admin.routing import Route

if TYPE_CHECKING:
    from proxy.admin.findings import Findings
    from proxy.admin.live import Live
    from proxy.control.gateway import Gateway

GATEWAY: Final[web.AppKey[Gateway]] = web.AppKey("gateway")
TABLE: Final[web.AppKey[tuple[Route, ...]]] = web.AppKey("table")
LISTENING: Final[web.AppKey[list[str]]] = web.AppKey("listening")
"""Where the admin API itself listens."""
LOGINS: Final[web.AppKey[Logins]] = web.AppKey("logins")
Calls = dict["asyncio.Task[Any] | None", web.Request]
FOLLOWING: Final[web.AppKey[Calls]] = web.AppKey("following")
"""Calls that follow a stream."""
LIVE: Final[web.AppKey[Live]] = web.AppKey("live")
FINDINGS: Final[web.AppKey[Findings]] = web.AppKey("findings")
REPLAYING: Final[web.AppKey[asyncio.Lock]] = web.AppKey("replaying")
"""Held by the one replay that runs."""
BUNDLING: Final[web.AppKey[asyncio.Lock]] = web.AppKey("bundling")
"""Held while a bundle is made."""
WAITING: Final[web.AppKey[Calls]] = web.AppKey("waiting")
"""Calls that wait for an operation to move on."""
