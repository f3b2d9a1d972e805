"""What a route of the admin API is: enough to serve it, to check a call of it, and to describe it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from aiohttp import web

from proxy.admin.fields import Field
from proxy.admin.params import Param

Role = Literal["viewer", "operator", "admin"]
ROLES: Final[tuple[Role, ...]] = ("viewer", "operator", "admin")
"""Each may what those before it may."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path.

    `params` are all the query parameters it takes, each with a sentence, `body` all the fields of its JSON content;
    anything else in a call is refused with 400. `example` is an answer, shortened.

    Which errors it may answer follows from its shape (openapi.statuses); `errors` are those that do not.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    example: Any
    params: Mapping[str, str | Param] = field(default_factory=dict)
    body: Mapping[str, Field] = field(default_factory=dict)
    status: int = 200
    open: bool = False  # no token needed
    content: str = "application/json"
    others: tuple[str, ...] = ()  # content types that it may answer besides
    tail: bool = False  # its last parameter may have slashes
    errors: tuple[int, ...] = ()
    also: Mapping[int, str] = field(default_factory=dict)  # other statuses than `status` that are no errors, and when
    takes: str = ""  # the media type of content that is not JSON
    audit: bool = False  # a GET that is written down like an act: it takes content away, or touches something
    role: Role | None = None  # the least that is needed; None: viewer to read, operator to act

    @property
    def needs(self) -> Role:
        """The least role that may call it; of no meaning where `open`."""
        return self.role or ("viewer" if self.method == "GET" else "operator")

    @property
    def pattern(self) -> str:
        """As the router wants it."""
        return f"{self.path[:-1]}:(?s:.+)}}" if self.tail else self.path
