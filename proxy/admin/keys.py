"""What handlers find in the application."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from proxy.admin.routing import Route

if TYPE_CHECKING:
    from proxy.control.gateway import Gateway

GATEWAY: Final[web.AppKey[Gateway]] = web.AppKey("gateway")
TABLE: Final[web.AppKey[tuple[Route, ...]]] = web.AppKey("table")
LISTENING: Final[web.AppKey[list[str]]] = web.AppKey("listening")
"""Where the admin API itself listens."""
OPERATIONS: Final[web.AppKey[deque[dict[str, Any]]]] = web.AppKey("operations")
"""The newest acts; done or failed, since each is waited for."""
