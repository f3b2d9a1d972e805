"""Metrics as the API shows them: for Prometheus, as a list, over time, and what was frozen."""

from __future__ import annotations

import asyncio
import difflib
import time
from collections.abc import Iterator
from typing import Any, Final

from aiohttp import web

from proxy import units
from proxy.admin import query, views
from proxy.admin.common import answer, items, no_app, not_readable
from proxy.admin.errors import ApiProblem
from proxy.admin.keys import GATEWAY
from proxy.control.metrics import exposition as prometheus
from proxy.control.metrics.frame import frame_of
from proxy.control.metrics.query import EACH, Asked, TooMuch
from proxy.control.metrics.query import answer as asked_of
from proxy.control.metrics.ring import Block, Part, decode, unpack
from proxy.control.metrics.table import BY_ID, METRICS, STATS, Metric
from proxy.control.store import NotReadable, frozen
from proxy.control.store.sample import gently
from proxy.faults import FAULTS
from proxy.link.histogram import quantile

MOST_NAMES: Final = 30
RANGE: Final = 15 * units.MINUTES
LONGEST: Final = 366 * units.DAYS
LONGEST_STEP: Final = 7 * units.DAYS


async def exposition(request: web.Request) -> web.Response:
    """Prometheus' text format, or OpenMetrics where it is asked for."""
    gateway = request.app[GATEWAY]
    openmetrics = "application/openmetrics-text" in request.headers.get("Accept", "")
    made = frame_of(gateway, openmetrics)
    await asyncio.sleep(0)
    data = await asyncio.to_thread(prometheus.render, made, openmetrics)
    kind = prometheus.OPENMETRICS_TYPE if openmetrics else prometheus.CONTENT_TYPE
    return web.Response(body=data, headers={"Content-Type": kind, "Vary": "Accept"})


async def metrics(request: web.Request) -> web.Response:
    """All that can be asked for over time."""
    at, to, following = query.window(request, [metric.id for metric in METRICS])
    return items([_metric(metric) for metric in METRICS[at:to]], following)


def _metric(metric: Metric) -> dict[str, Any]:
    return {
        "id": metric.id,
        "kind": metric.kind,
        "unit": metric.unit,
        "meaning": metric.meaning,
        "of": list(metric.of),
        "stats": list(metric.stats),
        "default_stat": metric.default_stat,
        "prometheus": metric.prometheus,
        "otel": metric.otel,
    }


# --- over time ----------------------------------------------------------------------------------------


async def metrics_query(request: web.Request) -> web.Response:
    gateway = request.app[GATEWAY]
    asked = _asked(request)
    if asked.app not in ("", EACH) and asked.app not in gateway.apps:
        raise no_app(gateway, asked.app)
    try:
        return answer(await asked_of(gateway, asked))
    except TooMuch as error:
        raise ApiProblem(400, "too-much", "The answer would be too large", f"{error}.") from None
    except NotReadable as error:
        raise not_readable(error) from None


def _asked(request: web.Request) -> Asked:
    found = request.query
    names = list(dict.fromkeys(name for name in found.get("name", "").split(",") if name))
    if not names:
        raise query.bad("name", "It is missing.", "GET /api/v1/metrics lists all metrics.")
    if len(names) > MOST_NAMES:
        raise query.bad("name", f"There are {len(names)}; at most {MOST_NAMES} at once.")
    chosen = tuple(_named(name) for name in names)
    fault = found.get("fault", "")
    if fault and fault not in FAULTS:
        near = difflib.get_close_matches(fault, FAULTS, 1)
        raise query.bad("fault", f"There is no fault {fault[:60]!r}.", f"Did you mean {near[0]!r}?" if near else "")
    if fault and any(metric.id != "faults" for metric in chosen):
        raise query.bad("fault", "It goes with the metric `faults` alone.")
    stat = found.get("stat", "")
    now = time.time()
    since, until = _time(request, "from", now - RANGE), min(_time(request, "to", now), now)
    if until <= since:
        raise query.bad("from", "It is not before `to`.")
    if until - since > LONGEST:
        raise query.bad("from", "It is more than a year before `to`.")
    step = round(query.duration(request, "step", LONGEST_STEP)) if found.get("step") else 0
    if found.get("step") and step < 1:
        raise query.bad("step", "It is less than a second.")
    stats = tuple(_stat(metric, stat, alone=len(chosen) == 1) for metric in chosen)
    return Asked(chosen, stats, since, until, found.get("app", ""), found.get("instance", ""), fault, step)


def _named(name: str) -> Metric:
    found = BY_ID.get(name)
    if found is None:
        near = difflib.get_close_matches(name, BY_ID, 1)
        hint = f"Did you mean {near[0]!r}?" if near else "GET /api/v1/metrics lists all metrics."
        raise query.bad("name", f"There is no metric {name[:60]!r}.", hint)
    return found


def _stat(metric: Metric, stat: str, alone: bool) -> str:
    """The one that was asked for, else the metric's own; of several metrics some may not have it."""
    if not stat:
        return metric.default_stat
    if stat not in {name for names in STATS.values() for name in names}:
        raise query.bad("stat", f"There is no {stat[:40]!r}.", f"{metric.id} has {', '.join(metric.stats)}.")
    if stat not in metric.stats and not alone:
        return metric.default_stat
    if stat not in metric.stats:
        raise query.bad("stat", f"{metric.id} has no {stat}.", f"It has {', '.join(metric.stats)}.")
    return stat


def _time(request: web.Request, name: str, default: float) -> float:
    text = request.query.get(name, "")
    if not text or text == "now":
        return default
    try:
        return query.moment(text)
    except ApiProblem as problem:
        raise query.bad(name, problem.detail) from None


# --- frozen -------------------------------------------------------------------------------------------


async def frozen_list(request: web.Request) -> web.Response:
    """What was frozen, newest first."""
    gateway = request.app[GATEWAY]
    before, most = query.cursor(request), query.limit(request)
    question = frozen.listed(request.query.get("app", ""), query.since(request), before or 0, most + 1)
    try:
        found = await gateway.store.ask(question)
    except NotReadable as error:
        raise not_readable(error) from None
    following = found[most - 1].number if len(found) > most else None
    return items([_listed(one) for one in found[:most]], following)


async def frozen_one(request: web.Request) -> web.Response:
    """Its seconds and records."""
    gateway = request.app[GATEWAY]
    text = request.match_info["id"]
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 16 else 0
    try:
        found = await gateway.store.ask(frozen.whole(number)) if number else None
    except NotReadable as error:
        raise not_readable(error) from None
    if found is None:
        raise ApiProblem(
            404, "not-frozen", f"There is nothing frozen under {text[:40]!r}",
            hint="GET /api/v1/frozen lists what there is. It is written within a second or two of an exit or incident.",
        )  # fmt: skip
    listed, packed, records = found
    series = await asyncio.to_thread(_series, packed)
    shown = []
    for number, record in enumerate(records, 1):
        shown.append(views.record(record))
        if number % 50 == 0:
            await asyncio.sleep(0)
    return answer({**_listed(listed), "series": series, "records": shown})


def _listed(one: frozen.Listed) -> dict[str, Any]:
    return {
        "id": str(one.number), "time": views.iso(one.at), "app": one.app, "instance": one.instance, "why": one.why,
        "size": one.size,
    }  # fmt: skip


_COUNTS: Final = ("requests", "status_5xx", "p50_ms", "p99_ms", "faults")


def _series(packed: frozen.Packed) -> list[dict[str, Any]]:
    """In a thread. `points` are rows in the order of `columns`, oldest first; null is what was not known."""
    found = []
    for app, instance, blocks in packed.rings:
        columns: list[str] = []
        points: list[list[Any]] = []
        for block in gently(blocks):
            part = unpack(Block(*block))
            names = [name for name in part.columns if name not in ("seconds", "counted")]
            columns = ["time", *names, *(_COUNTS if app else ())]
            points += _rows(part, names, bool(app))
        name = "" if instance == "*" else instance
        found.append({"app": app, "instance": name, "columns": columns, "points": points})
    return found


def _rows(part: Part, names: list[str], of_app: bool) -> Iterator[list[Any]]:
    looked, counted = part.columns["seconds"], part.columns["counted"]
    values = [part.columns[name] for name in names]
    for index, data in enumerate(part.counts):
        if looked[index] != looked[index]:
            continue
        row: list[Any] = [part.start + index, *(_value(column[index]) for column in values)]
        if of_app and counted[index] != counted[index]:
            row += [None] * len(_COUNTS)
        elif of_app:
            one = decode(data) if data else None
            if one is None:
                row += [0, 0, None, None, {}]
            else:
                p50, p99 = quantile(one.total, 0.5), quantile(one.total, 0.99)
                row += [one.requests, one.classes[4], views.millis(p50), views.millis(p99), one.faults]
        yield row


def _value(value: float) -> float | None:
    if value != value:
        return None
    return int(value) if value == int(value) else round(value, 4)
