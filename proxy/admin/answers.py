"""From a question about a request or an app to facts, and from facts to the answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

from proxy import units
from proxy.admin import facts, kept, views
from proxy.admin.common import not_readable
from proxy.admin.errors import ApiProblem
from proxy.admin.findings import Findings, Told
from proxy.control.incidents.incident import Subject
from proxy.control.records import IdParts, decode_id
from proxy.control.state import AppState
from proxy.control.store import NotReadable
from proxy.diagnostics.facts import Facts
from proxy.diagnostics.text import stamp
from proxy.diagnostics.why import explain
from proxy.faults import FAULTS
from proxy.link.messages import Record

if TYPE_CHECKING:
    from proxy.control.gateway import Gateway

SHORTEST = 3
"""Of the start of an id: 4,096 possibilities."""


class NotKept(NamedTuple):
    """An id of ours of which nothing but the id is there."""

    id: str
    parts: IdParts


async def one(gateway: Gateway, text: str, *, latest: bool = False) -> Record | NotKept:
    """The request that is meant: ApiProblem for none and for several."""
    if latest and text == "latest":
        return await _latest(gateway)
    text = text.strip()
    if len(text) < SHORTEST:
        raise ApiProblem(
            400, "too-short", f"{text!r} is too short for an id", f"At least {SHORTEST} characters are needed."
        )
    found: list[Record] = []
    for each in dict.fromkeys((text, text.lower())):
        found = found or await kept.find(gateway, each)
    for each in dict.fromkeys((text, text.lower())):
        found = found or await gateway.find(each)
    ids = list(dict.fromkeys(record.id for record in found))
    if len(ids) == 1:
        return found[0]
    if ids:
        more = " and more" if len(ids) >= 10 else ""
        raise ApiProblem(
            409, "ambiguous", f"{len(ids)} requests begin with {text[:40]!r}",
            f"They are {', '.join(ids[:5])}{' …' if len(ids) > 5 else ''}{more}.", "Give more of the id.",
            matches=[views.record(record) for record in found[:10]],
        )  # fmt: skip
    parts = decode_id(text.lower())
    if parts is not None:
        return NotKept(text.lower(), parts)
    hint = "Ids stand in X-Request-ID of each answer and in the access log; triage requests lists what is kept."
    if text in ("latest",):
        hint = "Ask requests/latest/why."
    raise ApiProblem(
        404, "unknown-request", f"No request {text[:60]!r} is known here",
        "It is neither the start of an id of ours that was kept nor a client's X-Request-ID, "
        "and not a whole id of ours.", hint,
    )  # fmt: skip


async def _latest(gateway: Gateway) -> Record:
    try:
        found = await kept.latest(gateway)
    except NotReadable as error:
        raise not_readable(error) from None
    if found is not None:
        return found
    raise ApiProblem(
        404, "nothing-failed", "No failed request is kept",
        f"None has failed in the last {units.duration(gateway.config.keep.requests)}, as far as is known.",
        "triage why APP says how an app is; triage why ID takes any request's id.",
    )  # fmt: skip


async def why_request(
    gateway: Gateway, look: views.Look, found: Record | NotKept, findings: Findings
) -> dict[str, Any]:
    """The whole answer, as JSON."""
    if isinstance(found, NotKept):
        return explain(await facts.of_unkept(gateway, look, found.id, found.parts)).json()
    bad = found.fault in FAULTS or found.total_us / 1e6 >= gateway.config.gateway.slow
    gathered, story, told = await asyncio.gather(
        facts.of_request(gateway, look, found, findings.hanging),
        kept.story(gateway, found.id),
        findings.of_request(found) if bad else _none(),
    )
    gathered.story = story is not None
    if bad:
        _join(gathered, told, findings.running(found.app))
    answer = await asyncio.to_thread(lambda: explain(gathered).json())
    return {**answer, "request": views.record(found)}


async def _none() -> None:
    """Of a request that was served as asked, and soon."""


def _join(gathered: Facts, told: Told | None, running: str) -> None:
    gathered.running = running
    if told is not None:
        gathered.finding, gathered.session, gathered.session_at = told


async def why_app(gateway: Gateway, look: views.Look, state: AppState, findings: Findings) -> dict[str, Any]:
    gathered, told = await asyncio.gather(
        facts.of_app(gateway, look, state, findings.hanging), findings.of_app(state)
    )
    _join(gathered, told, findings.running(state.name))
    incident = gateway.incidents.open.get(Subject("app", state.name))
    found = await asyncio.to_thread(explain, gathered)
    if incident is not None:
        if not incident.signals:
            found.now.append(f"{incident.id} is not over yet: that takes half a minute without a sign of it.")
        elif found.cause == ["NOT KNOWN beyond that."]:
            found.certainty = incident.certainty
            found.cause = [f"{incident.certainty.capitalize()}: triage why {incident.id} says what it rests on."]
        found.evidence.insert(0, f"incident    {incident.id} since {stamp(incident.began)}: triage why {incident.id}")
    return await asyncio.to_thread(found.json)
