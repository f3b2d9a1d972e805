"""The public status page: one static file without a script, off by default (`[status_page] file`).

It says how each app is and what went wrong in 90 days, in words for those who use the apps: no instance, no address, no
path of a request, no fault's name stands in it. Made again when an app's state or an incident changes, and each minute.

Always true: the file is replaced whole; one making runs at a time, in a thread where it writes; what keeps it from
being written is said once as an event, and in `error`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Final

from proxy import units
from proxy.control.incidents.engine import Incidents
from proxy.control.incidents.incident import Incident, Subject
from proxy.control.names import write_whole
from proxy.control.one_task import OneTask
from proxy.control.state import AppState
from proxy.control.store.reader import NotReadable

if TYPE_CHECKING:
    from proxy.control.gateway import Gateway

EVERY: Final = 60.0
LEAST: Final = 2.0
"""Seconds between two makings, however often incidents change."""
DAYS: Final = 90
SHOWN: Final = 100
OLD: Final = 3
"""Minutes after which a reader shall not believe it any more."""
HIDDEN: Final = frozenset({"certificate", "lost-evidence", "control-lag", "disk"})
"""Signals that users of an app do not feel."""


class StatusPage:
    def __init__(self, gateway: Gateway, incidents: Incidents, broke: Callable[[Exception], None]) -> None:
        self.error = ""
        """Why it can't be written now; "" when all is well, or it is off."""
        self._gateway = gateway
        self._incidents = incidents
        self._due = 0.0  # monotonic
        self._made = 0.0
        self._before: list[Incident] | None = None  # of the store, when it could be read last
        self._seen: list[tuple[str, str, str]] = []
        self._task = OneTask("status-page", broke)

    def on_incident(self, word: str, incident: Incident) -> None:
        """A listener of incidents."""
        if word != "updated":
            self._due = 0.0

    def tick(self, now: float) -> None:
        """Once a second; `now` is monotonic."""
        config = self._gateway.config.status_page
        if config.file is None:
            self.error = ""
            return
        seen = [(app.name, *state_of(app, self._active())) for app in self._gateway.apps.values()]
        if seen != self._seen:
            self._seen, self._due = seen, 0.0
        if now < max(self._due, self._made + LEAST) or self._task.running:
            return
        self._due, self._made = now + EVERY, now
        self._task.start(self._make(Path(config.file), config.title))

    def _active(self) -> dict[Subject, Incident]:
        """Those that are felt at this moment."""
        return {subject: one for subject, one in self._incidents.open.items() if one.signals and felt(one)}

    async def close(self) -> None:
        await self._task.close()

    async def _make(self, path: Path, title: str) -> None:
        now = time.time()
        try:
            found = await self._incidents.list(since=now - DAYS * units.DAYS, limit=1000)
            self._before = found
        except NotReadable:
            found = self._before or []
        text = html(title, list(self._gateway.apps.values()), self._active(), found, now)
        try:
            await asyncio.to_thread(write_whole, path, text.encode())
        except OSError as error:
            why = error.strerror or str(error)
            if why != self.error:
                self.error = why
                self._gateway.shared.event("status-page", f"the status page {path} can't be written: {why}")
            return
        self.error = ""


# --- the page, pure --------------------------------------------------------------------------------------


def html(
    title: str, apps: Sequence[AppState], active: Mapping[Subject, Incident], past: Sequence[Incident], now: float
) -> str:
    """The whole file. `active`: open ones that are felt now; `past`: newest first, these among them."""
    states = [(app.name, *state_of(app, active)) for app in apps]
    whole = verdict([state for _, state, _ in states], Subject("gateway") in active or Subject("host") in active)
    rows = "".join(
        f'<li class="{state}"><b>{escape(name)}</b><span>{escape(words)}</span></li>' for name, state, words in states
    )
    shown = [one for one in past if felt(one)]
    lines = "".join(_line(one, now) for one in shown[:SHOWN]) or f"<li><span>None in {DAYS} days.</span></li>"
    more = f"<p>{len(shown) - SHOWN} more are not shown.</p>" if len(shown) > SHOWN else ""
    return _PAGE.format(
        title=escape(title), state=whole[0], words=escape(whole[1]), apps=rows, days=DAYS, incidents=lines, more=more,
        made=_stamp(now), old=OLD,
    )  # fmt: skip


def felt(incident: Incident) -> bool:
    """Whether users of the apps could feel it."""
    if all(name in HIDDEN or name.startswith("alert ") for name in incident.seen):
        return False
    return incident.severity == "down" or incident.hit > 0 or bool({"slow", "queue", "loop-lag"} & set(incident.seen))


def state_of(app: AppState, active: Mapping[Subject, Incident]) -> tuple[str, str]:
    """("up" | "degraded" | "down", words)."""
    if app.state == "stopped" or (app.wanted == 0 and not app.instances):
        return "down", "switched off"
    if app.state == "held":
        return "degraded", "paused: requests wait"
    if not app.serving and not app.gap:
        return "down", "not available"
    incident = active.get(Subject("app", app.name))
    incident = incident or active.get(Subject("gateway")) or active.get(Subject("host"))
    if incident is None:
        return "up", "works"
    return ("down", "not available") if _down_now(incident) else ("degraded", words_of(incident))


def _down_now(incident: Incident) -> bool:
    return bool({"down", "self-check"} & incident.signals.keys())


def words_of(incident: Incident) -> str:
    """What it was for those who use the app."""
    seen = set(incident.seen)
    if incident.severity == "down":
        return "not available"
    if "slow" in seen and not incident.hit:
        return "slower than usual"
    if "queue" in seen:
        return "overloaded: some requests were turned away" if incident.hit else "slower than usual"
    return "some requests failed" if incident.hit else "slower than usual"


def verdict(states: Sequence[str], gateway: bool) -> tuple[str, str]:
    """The worst of all, in words."""
    if states and all(state == "down" for state in states):
        return "down", "Nothing is available at the moment."
    if "down" in states:
        count = states.count("down")
        return "down", f"{count} of {len(states)} {'is' if count == 1 else 'are'} not available at the moment."
    if "degraded" in states or gateway:
        return "degraded", "It works, but not as well as it should."
    return "up", "All is well."


def _line(incident: Incident, now: float) -> str:
    who = incident.subject.app or "everything"
    lasted = units.duration(max(1.0, (incident.ended or now) - incident.began))
    span = f"lasted {lasted}" if incident.ended else f"goes on, for {lasted}"
    share = f", {units.percent(incident.share)} of requests" if incident.hit and incident.share >= 0.001 else ""
    kind = "past" if incident.ended else incident.severity
    return (
        f'<li class="{kind}"><b>{escape(who)}</b><span>{escape(words_of(incident))}{share}; {span}</span>'
        f"<time>{_stamp(incident.began)}</time></li>"
    )


def _stamp(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at))


_PAGE: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="60">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}: {words}</title>
<style>
:root {{ color-scheme: light dark; --ok: #1a7f37; --warn: #9a6700; --bad: #cf222e; --line: #8884 }}
@media (prefers-color-scheme: dark) {{ :root {{ --ok: #3fb950; --warn: #d29922; --bad: #f85149 }} }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 44rem; margin: 2rem auto; padding: 0 1rem }}
h1 {{ font-size: 1.25rem; font-weight: 600 }} h2 {{ font-size: 1rem; margin-top: 2rem }}
p.verdict {{ font-size: 1.5rem; border-left: .4rem solid; padding-left: .8rem }}
ul {{ list-style: none; padding: 0 }}
li {{ display: flex; flex-wrap: wrap; gap: .2rem 1rem; padding: .4rem 0; border-top: 1px solid var(--line) }}
li b {{ min-width: 8rem }} li span {{ flex: 1 }} li time {{ opacity: .7 }}
.up {{ border-color: var(--ok) }} .degraded {{ border-color: var(--warn) }} .down {{ border-color: var(--bad) }}
li.up span {{ color: var(--ok) }} li.degraded span {{ color: var(--warn) }} li.down span {{ color: var(--bad) }}
footer {{ margin-top: 2rem; font-size: .85rem; opacity: .8 }}
</style>
<h1>{title}</h1>
<p class="verdict {state}">{words}</p>
<ul>{apps}</ul>
<h2>The last {days} days</h2>
<ul>{incidents}</ul>{more}
<footer>Made {made}. If that is more than {old} minutes ago, this page does not say how things are: what makes it does
not run, or cannot write it.</footer>
</html>
"""
