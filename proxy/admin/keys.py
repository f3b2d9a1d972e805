"""What handlers find in the application."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from proxy.admin.logins import Logins
from proxy.admin.routing import Route

if TYPE_CHECKING:
    from proxy.admin.audit import Audit
    from proxy.admin.callers import UnderWay
    from proxy.admin.console.desk import Desk
    from proxy.admin.findings import Findings
    from proxy.admin.guard import Guard
    from proxy.admin.live import Live
    from proxy.admin.tls import Certificate
    from proxy.admin.tokens import Tokens
    from proxy.admin.tries import Tries
    from proxy.control.gateway import Gateway

GATEWAY: Final[web.AppKey[Gateway]] = web.AppKey("gateway")
TABLE: Final[web.AppKey[tuple[Route, ...]]] = web.AppKey("table")
LISTENING: Final[web.AppKey[list[str]]] = web.AppKey("listening")
"""Where the admin API itself listens."""
LOGINS: Final[web.AppKey[Logins]] = web.AppKey("logins")
GUARD: Final[web.AppKey[Guard]] = web.AppKey("guard")
TOKENS: Final[web.AppKey[Tokens]] = web.AppKey("tokens")
TRIES: Final[web.AppKey[Tries]] = web.AppKey("tries")
AUDIT: Final[web.AppKey[Audit]] = web.AppKey("audit")
CERTIFICATE: Final[web.AppKey[Certificate | None]] = web.AppKey("certificate")
"""Of the TCP listener; None: it speaks no TLS."""
UNDER_WAY: Final[web.AppKey[UnderWay]] = web.AppKey("under-way")
"""All calls that are being answered, by caller."""
DESK: Final[web.AppKey[Desk]] = web.AppKey("desk")
"""The Console's."""
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
