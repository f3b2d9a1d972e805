"""The admin API, for load tests that act on a gateway: JSON over loopback, operations followed to their end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import orjson

from loadtests.ask import get
from loadtests.lab import Failed

POLL: Final = 0.05


class Refused(Failed):
    """An answer of 400 or more."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(f"{status}: {said}")
        self.status = status


class Api:
    """Of one gateway. `token` is read anew each time: it is made at the first start."""

    def __init__(self, port: int, token: Path) -> None:
        self.port = port
        self.token = token

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The decoded answer. Refused; OSError when nobody answers."""
        answer = get(
            self.port, f"/api/v1/{path}", method=method,
            content=None if body is None else orjson.dumps(body),
            fields={"Authorization": f"Bearer {self.token.read_text().strip()}", "Content-Type": "application/json"},
        )  # fmt: skip
        if answer.status >= 400:
            raise Refused(answer.status, answer.content.decode(errors="replace")[:400])
        return orjson.loads(answer.content)

    def get(self, path: str) -> Any:
        return self.call("GET", path)

    def maybe_get(self, path: str) -> Any:
        """None while control is not there."""
        try:
            return self.get(path)
        except (OSError, Refused):
            return None

    def act(self, path: str, **body: Any) -> str:
        """Begin an act; its operation's id."""
        return str(self.call("POST", path, body)["id"])

    def events(self, since: int = 0) -> Iterator[dict[str, Any]]:
        """Newest first, of those with a greater id."""
        cursor = ""
        while True:
            page = self.get(f"events?limit=1000{cursor}")
            for event in page["items"]:
                if int(event["id"]) <= since:
                    return
                yield event
            if not page["next"]:
                return
            cursor = f"&cursor={page['next']}"

    def followed(self, operation: str, within: float = 60.0) -> dict[str, Any]:
        """The operation when it has ended, over a control's death too; Failed when it does not end in time."""
        end = time.monotonic() + within
        while True:
            found = self.maybe_get(f"operations/{operation}")
            if found and found["state"] in ("done", "failed"):
                return dict(found)
            if time.monotonic() > end:
                raise Failed(f"operation {operation} did not end within {within:g} s: {found}")
            time.sleep(POLL)
