"""Charts of the second-by-second rings: first those that a finding names or that moved, the others folded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from proxy import units
from proxy.diagnostics.report.contents import Contents, Data
from proxy.diagnostics.report.markup import Html, cut, fold, join, quiet, tag
from proxy.diagnostics.report.plot import Mark, lines
from proxy.link.session import Ring

POINTS: Final = 300
"""Of one line: more could not be told apart at the width of a page."""
LINES: Final = 8
MARKS: Final = 200
MOVED: Final = 0.3
"""Share of its greatest value by which a line has to move to be shown among the first."""
UNITS: Final[dict[str, Callable[[float], str]]] = {
    "seconds": units.duration, "bytes": units.size, "count": units.count, "rate": lambda value: f"{value:,.1f}/s",
    "cores": lambda value: f"{value:.2f} cores", "ratio": units.percent,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Chart:
    """Columns of one ring, or one column of each instance's ring."""

    name: str
    title: str
    unit: str
    columns: tuple[str, ...]
    of: str = ""  # key of the ring; "each": every instance
    by: Literal["max", "mean"] = "max"
    always: bool = False  # among the first, if there is anything in it
    words: tuple[str, ...] = ()  # names of the lines


CHARTS: Final = (
    Chart("requests", "Requests", "rate", ("requests", "errors"), by="mean", always=True,
          words=("requests", "5xx of the app's own")),
    Chart("faults", "Faults by name", "rate", (), by="mean", always=True),
    Chart("response", "Response time", "seconds", ("p50", "p99"), always=True,
          words=("half take less", "99 of 100 take less")),
    Chart("wait", "Wait for the first byte", "seconds", ("wait_p50", "wait_p99"),
          words=("half wait less", "99 of 100 wait less")),
    Chart("in_flight", "In flight and waiting for a slot", "count", ("in_flight", "queue"),
        words=("in flight", "in the queue")),
    Chart("ready", "Ready instances", "count", ("ready",)),
    Chart("cpu", "CPU", "cores", ("cpu",), of="each"),
    Chart("memory", "Memory", "bytes", ("memory",), of="each"),
    Chart("descriptors", "Open files and sockets", "count", ("descriptors",), of="each"),
    Chart("threads", "Threads", "count", ("threads",), of="each"),
    Chart("processes", "Processes", "count", ("processes",), of="each"),
    Chart("connections", "Connections", "count", ("connections",), of="each"),
    Chart("io", "Read from and written to disks", "bytes", ("io_read", "io_write"), by="mean",
        words=("read a second", "written a second")),
    Chart("instance_p99", "Response time of each instance, 99 of 100 take less", "seconds", ("p99",), of="each"),
    Chart("instance_requests", "Requests of each instance", "rate", ("requests",), of="each", by="mean"),
    Chart("gateway", "CPU of the gateway", "cores", ("cpu",), of="gateway"),
    Chart("lag", "How late the gateway's own loop is", "seconds", ("lag",), of="gateway"),
    Chart("host", "CPU of the machine, all cores together", "ratio", ("busy",), of="host"),
    Chart("host_memory", "Memory that the machine has left", "bytes", ("memory_available",), of="host"),
    Chart("disk", "Room on the disk", "bytes", ("disk_free",), of="host"),
)  # fmt: skip


def data(contents: Contents) -> Data:
    """`charts` in order, `marks` and the session's `span` for all of them."""
    named = {column for one in contents.findings for column in one.charts}
    made = [found for chart in CHARTS if (found := _chart(contents, chart, named))]
    charts = sorted(made, key=lambda one: not one["first"])
    return {"span": [contents.began, contents.ended], "marks": _marks(contents)[-MARKS:], "charts": charts}


def _marks(contents: Contents) -> list[Data]:
    known = contents.known
    marks: list[Data] = [
        *({"at": one.at, "letter": "D", "text": f"{one.what}: {cut(one.text, 120)}"} for one in known.deploys),
        *({"at": one.at, "letter": "X", "text": f"{one.instance} ended: {cut(one.words, 120)}"} for one in known.exits),
        *({"at": one.began_at, "letter": "I", "text": f"{one.id}: {cut(one.cause, 120)}"} for one in known.incidents),
    ]
    return sorted(marks, key=lambda one: float(one["at"]))


def _chart(contents: Contents, chart: Chart, named: set[str]) -> Data | None:
    known = contents.known
    limit: float | None = None
    if chart.of == "each":
        names = [one.name for one in known.instances]
        rings = {name: ring for name in names if (ring := known.rings.get(name))}
        rows = {name: (ring, ring.values.get(chart.columns[0], [])) for name, ring in rings.items()}
        limit = _limit(contents, chart)
    else:
        ring = known.rings.get(chart.of)
        if ring is None:
            return None
        if chart.name == "faults":
            order = sorted(ring.faults, key=lambda name: -sum(ring.faults[name]))
            rows = {name: (ring, list[float | None](ring.faults[name])) for name in order}
        else:
            labels = chart.words or chart.columns
            rows = {
                label: (ring, ring.values.get(column, [])) for label, column in zip(labels, chart.columns, strict=True)
            }
    rows = {name: row for name, row in rows.items() if any(value is not None for value in row[1])}
    if chart.of == "each":  # the most troubled stand first in what control knew; of the others the largest
        rows = dict(sorted(rows.items(), key=lambda item: -_peak(item[1][1]))[: LINES * 2])
    left = max(0, len(rows) - LINES)
    rows = dict(list(rows.items())[:LINES])
    if chart.name.startswith("instance_") and len(rows) < 2:  # the same as the app's
        return None
    if not rows or (not any(_peak(row) for _, row in rows.values())):
        return None
    start, step, series = _aligned(rows, chart.by)
    top = max(_peak(row) for row in series.values())
    asked = bool(named & {chart.name, *(chart.columns if not chart.of or chart.of == "each" else ())})
    if chart.name == "faults" and any(name == "faults" for name in named):
        asked = True
    whole = top * 1.02 if limit is None or limit > 4 * top else max(top, limit) * 1.02
    return {
        "name": chart.name, "title": chart.title, "unit": chart.unit, "start": start, "step": step, "top": whole,
        "limit": limit, "left_out": left, "named": asked,
        "first": asked or chart.always or (chart.of in ("", "each") and chart.name not in ("processes",
                "connections", "ready")
                                           and _moves(series)) or (chart.name == "ready" and _sank(series)),
        "series": {name: [None if value is None else _short(value) for value in row] for name, row in series.items()},
    }  # fmt: skip


def _peak(row: list[float | None]) -> float:
    return max((value for value in row if value is not None), default=0.0)


def _limit(contents: Contents, chart: Chart) -> float | None:
    app = contents.known.app
    if chart.name == "memory":
        limits = [*(one.memory_limit for one in contents.known.instances), app.memory_limit]
        return max((float(one) for one in limits if one), default=None)
    return app.cpu_limit if chart.name == "cpu" else None


def _sank(series: Mapping[str, list[float | None]]) -> bool:
    """It was less after it had been more."""
    for row in series.values():
        most = 0.0
        for value in row:
            if value is not None and value < most:
                return True
            most = max(most, value or 0.0)
    return False


def _moves(series: Mapping[str, list[float | None]]) -> bool:
    """A tenth of the values at its end, or its beginning, differ from the rest by a good part of the greatest."""
    for row in series.values():
        found = [value for value in row if value is not None]
        part = max(3, len(found) // 10)
        if len(found) >= 3 * part:
            means = [sum(found[at : at + part]) / part for at in range(0, len(found) - part + 1, part)]
            if max(means) > 0 and max(means) - min(means) >= MOVED * max(means):
                return True
    return False


def _aligned(
    rows: Mapping[str, tuple[Ring, list[float | None]]], by: str
) -> tuple[int, int, dict[str, list[float | None]]]:
    """All on one axis, thinned out to POINTS; a peak stays a peak where it is what counts."""
    start = min(ring.start for ring, _ in rows.values())
    end = max(ring.start + len(row) for ring, row in rows.values())
    step = max(1, -(-(end - start) // POINTS))
    length = -(-(end - start) // step)
    series: dict[str, list[float | None]] = {}
    for name, (ring, row) in rows.items():
        found: list[list[float]] = [[] for _ in range(length)]
        for at, value in enumerate(row):
            if value is not None:
                found[(ring.start + at - start) // step].append(value)
        series[cut(name, 60)] = [
            None if not values else max(values) if by == "max" else sum(values) / len(values) for values in found
        ]
    return start, step, series


def _short(value: float) -> float:
    return float(f"{value:.4g}")


# --- HTML --------------------------------------------------------------------------------------------


def html(data: Data) -> Html:
    if not data["charts"]:
        return quiet("There are no figures second by second.")
    first = [_figure(one, data) for one in data["charts"] if one["first"]]
    others = [_figure(one, data) for one in data["charts"] if not one["first"]]
    return join(
        quiet(
            "Shaded: this session. D deploy or change of config · X an instance ended · I incident. Dashed: a limit."
        ),
        tag("div", *first, class_="charts"),
        fold(f"{len(others)} charts in which little moved", tag("div", *others, class_="charts")) if others else None,
    )


def _figure(one: Data, data: Data) -> Html:
    say = UNITS[one["unit"]]
    series = one["series"]
    names = list(series)
    legend = [
        tag(
            "span",
            tag("i", class_=f"s{at % 8 + 1}"),
            name,
            tag("span", f" {_range(series[name], say)}", class_="quiet"),
        )
        for at, name in enumerate(names)
    ]
    limit = tag("span", f"limit {say(one['limit'])}", class_="quiet") if one["limit"] else None
    left = tag("span", f"and {one['left_out']} more", class_="quiet") if one["left_out"] else None
    each = f", by {one['step']} s" if one["step"] > 1 else ""
    marks = [Mark(mark["at"], mark["letter"], mark["text"]) for mark in data["marks"]]
    drawn = lines(
        one["start"], one["step"], series, top=one["top"], most=say(one["top"]), marks=marks,
        span=(data["span"][0], data["span"][1]), limit=one["limit"], label=f"{one['title']}: {', '.join(names)}",
    )  # fmt: skip
    return tag(
        "figure", tag("figcaption", one["title"], tag("span", each, class_="quiet")), drawn,
        tag("div", *legend, limit, left, class_="legend"),
    )  # fmt: skip


def _range(row: list[float | None], say: Callable[[float], str]) -> str:
    found = [value for value in row if value is not None]
    return f"{say(min(found))} to {say(max(found))}, last {say(found[-1])}" if found else ""
