"""What was done and tried: an event of kind `audit` for each act and each denied call.

Always true:
  - nothing of a call's query, content or tokens is in it but the reason that its caller gave, masked;
  - acts are all there; of denied calls, which anybody can make, SHOWN a minute and source (and SHOWN_ALL of all
    sources) are, and the others are counted: the next minute says how many there were;
  - it remembers MOST_SOURCES sources at most, and counts those beyond together.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web

from proxy import masking, units
from proxy.admin.callers import Caller, Denied
from proxy.admin.keys import GATEWAY

KIND: Final = "audit"
SHOWN: Final = 5
SHOWN_ALL: Final = 60
MINUTE: Final = 60.0
MOST_SOURCES: Final = 500
TOLD: Final = 10
"""Sources that a summary names, those with most tries."""
LONGEST_PATH: Final = 200
OTHERS: Final = "other addresses"

Event = Callable[..., object]
"""As Shared.event: kind, text, app, instance, and details."""


class Audit:
    """`event` tells; `close` says what is still only counted."""

    def __init__(self, event: Event) -> None:
        self._event = event
        self._began = 0.0  # monotonic; of this minute
        self._seen: Counter[str] = Counter()
        self._shown = 0
        self._counted: dict[str, Counter[str]] = {}  # by source, by what was wrong
        self._timer: asyncio.TimerHandle | None = None

    def act(self, request: web.Request, caller: Caller, status: int, outcome: str = "") -> None:
        """A call that does something has been answered, or begins to be."""
        outcome = outcome or ("done" if status < 400 else "refused" if status < 500 else "failed")
        body = request.get("body")
        said = body.get("reason", "") if isinstance(body, dict) else ""
        reason = masking.text(said) if isinstance(said, str) else ""
        what = self._what(request)
        did = str(request.get("did", ""))
        words = f"{_who(caller)}: {what}: {outcome}{f' ({status})' if status else ''}"
        words += "".join(f", {one}" for one in (did, reason) if one)
        app, instance = self._about(request)
        self._event(
            KIND, words, app, instance, who=caller.name, role=caller.role or "", way=caller.way, method=request.method,
            path=path_of(request), status=status, outcome=outcome, reason=reason, did=did,
        )  # fmt: skip

    def answered(self, request: web.Request, status: int, outcome: str = "") -> None:
        """What came of a call that is to be written down: once, when its answer is known or begins.

        What nobody does is not: without a token nothing is done, and anybody could fill the events.
        """
        caller = request.get("caller")
        if request.get("audit") and caller is not None and caller.role is not None:
            request["audit"] = False
            self.act(request, caller, status, outcome)

    def denied(self, request: web.Request, denied: Denied) -> bool:
        """A call that was not let in; whether it is an event of its own, or only counted."""
        request["audit"] = False
        source, way, caller, kind = request["source"], request["way"], denied.caller, denied.kind
        now = time.monotonic()
        if now - self._began >= MINUTE:
            self._tell()
            self._began = now
            self._seen.clear()
            self._shown = 0
        if source not in self._seen and len(self._seen) >= MOST_SOURCES:
            source = OTHERS
        if self._seen[source] >= SHOWN or self._shown >= SHOWN_ALL:
            self._counted.setdefault(source, Counter())[kind] += 1
            self._wake(self._began + MINUTE - now)
            if source not in self._seen:
                self._seen[source] = 0
            return False
        self._seen[source] += 1
        self._shown += 1
        name, role = (caller.name, caller.role or "") if caller is not None else ("", "")
        who = _who(caller) if caller is not None and name else way
        self._event(
            KIND, f"denied, {kind}: {who}: {self._what(request)} ({denied.status})", "", "", who=name, role=role,
            way=way, method=request.method[:20], path=path_of(request), status=denied.status, outcome="denied",
            reason=kind,
        )  # fmt: skip
        return True

    def close(self) -> None:
        """Say what was only counted so far."""
        self._tell()

    def _wake(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, seconds), self._tell)

    def _tell(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        counted, self._counted = self._counted, {}
        if not counted:
            return
        sums = sorted(((kinds.total(), source) for source, kinds in counted.items()), reverse=True)
        total = sum(count for count, _ in sums)
        kinds: Counter[str] = Counter()
        for one in counted.values():
            kinds.update(one)
        most = ", ".join(f"{count} from {source}" for count, source in sums[:TOLD])
        more = f", and {len(sums) - TOLD} more" if len(sums) > TOLD else ""
        text = f"denied: {units.several(total, 'more call')} within a minute: {most}{more}"
        self._event(
            KIND, text, "", "", outcome="denied", count=total, reasons=dict(kinds),
            sources={source: count for count, source in sums[:TOLD]},
        )  # fmt: skip

    @staticmethod
    def _what(request: web.Request) -> str:
        return f"{request.method[:20]} {path_of(request)}"

    @staticmethod
    def _about(request: web.Request) -> tuple[str, str]:
        """App and instance that the call names, where there are such."""
        state = request.app[GATEWAY].apps.get(request.match_info.get("app", ""))
        if state is None:
            return "", ""
        instance = request.match_info.get("instance", "")
        return state.name, instance if instance in state.instances else ""


def path_of(request: web.Request) -> str:
    """Its path, without the query, shortened, and with nothing that acts on a terminal or looks secret."""
    text = "".join(letter if letter.isprintable() else "?" for letter in request.path[:LONGEST_PATH])
    return masking.text(text)


def _who(caller: Caller) -> str:
    name = caller.name or "nobody"
    role: Any = caller.role
    return f"{name} ({role}, {caller.way})" if role else f"{name} ({caller.way})"
