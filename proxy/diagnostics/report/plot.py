"""Lines over time as SVG that stretches to any width; words stand beside it as HTML, so that they keep their size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from proxy.diagnostics.report.markup import Html, join, moment, tag

WIDTH: Final = 1000
HEIGHT: Final = 100
MOST_MARKS: Final = 60
LETTERS_APART: Final = 2.5
"""Percent of the width between two letters, so that they can be read."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened. `plain`: it has a whole line and a letter."""

    at: float
    letter: str
    title: str
    plain: bool = True


@dataclass(frozen=True, slots=True)
class Axis:
    """From Unix seconds to a place from 0 to WIDTH."""

    start: float
    end: float

    def x(self, at: float) -> float:
        span = max(1e-9, self.end - self.start)
        return round(max(0.0, min(1.0, (at - self.start) / span)) * WIDTH, 1)


def strip(start: float, end: float, marks: Iterable[Mark]) -> Html:
    """A bare line of time."""
    axis = Axis(start, max(end, start + 1))
    inside = [one for one in marks if one.at >= start][-MOST_MARKS * 2 :]
    drawn = join(tag("line", x1=0, x2=WIDTH, y1=HEIGHT - 25, y2=HEIGHT - 25, class_="grid"), _lines(axis, inside))
    return tag("figure", _plot(drawn, join(_letters(axis, inside))), _ends(axis), class_="track", role="img",
               aria_label="When it happened")  # fmt: skip


def lines(
    start: float,
    step: float,
    series: Mapping[str, Sequence[float | None]],
    *,
    top: float,
    most: str,
    marks: Iterable[Mark] = (),
    span: tuple[float, float] | None = None,
    limit: float | None = None,
    label: str = "",
) -> Html:
    """Each series begins at `start`, one value each `step` seconds; None is a gap. `top`: the greatest value shown,
    `most` it in words; `span`: the session; `limit`: a line across."""
    length = max((len(row) for row in series.values()), default=0)
    axis = Axis(start, start + max(1, length - 1) * step)
    inside = [one for one in marks if axis.start <= one.at <= axis.end][-MOST_MARKS:]
    shade = None
    if span is not None and span[1] >= axis.start and span[0] <= axis.end:
        left = axis.x(span[0])
        shade = tag("rect", x=left, y=0, width=max(1.0, axis.x(span[1]) - left), height=HEIGHT, class_="span")
    paths = [
        tag("path", d=_path(row, top, step, axis), class_=f"s{at % 8 + 1}") for at, row in enumerate(series.values())
    ]
    across = None
    if limit and limit <= top:
        y = _y(limit, top)
        across = tag("line", x1=0, x2=WIDTH, y1=y, y2=y, class_="limit")
    grid = [tag("line", x1=0, x2=WIDTH, y1=y, y2=y, class_="grid") for y in (HEIGHT / 2, HEIGHT - 1)]
    drawn = join(shade, grid, _lines(axis, inside), across, paths)
    return tag(
        "div", _plot(drawn, join(tag("span", most, class_="most"), _letters(axis, inside))), _ends(axis),
        role="img", aria_label=label,
    )  # fmt: skip


def _plot(drawn: Html, over: Html) -> Html:
    svg = tag("svg", drawn, viewBox=f"0 0 {WIDTH} {HEIGHT}", preserveAspectRatio="none", aria_hidden="true")
    return tag("div", svg, over, class_="plot")


def _ends(axis: Axis) -> Html:
    middle = (axis.start + axis.end) / 2
    return tag("div", moment(axis.start), moment(middle), moment(axis.end), class_="ends")


def _y(value: float, top: float) -> float:
    return round(HEIGHT - 1 - min(1.0, max(0.0, value / top if top else 0.0)) * (HEIGHT - 3), 1)


def _path(row: Sequence[float | None], top: float, step: float, axis: Axis) -> str:
    """A value between two gaps is a short dash, else it could not be seen."""
    parts: list[str] = []
    drawing = False
    for at, value in enumerate(row):
        if value is None:
            drawing = False
            continue
        x, y = axis.x(axis.start + at * step), _y(value, top)
        lone = not drawing and (at + 1 >= len(row) or row[at + 1] is None)
        parts.append(f"{'L' if drawing else 'M'}{x:g} {y:g}" + ("h3" if lone else ""))
        drawing = True
    return "".join(parts)


def _lines(axis: Axis, marks: Iterable[Mark]) -> list[Html]:
    drawn = []
    for one in marks:
        x, top = axis.x(one.at), 0 if one.plain else HEIGHT - 45
        line = tag("line", x1=x, x2=x, y1=top, y2=HEIGHT, class_="at")
        drawn.append(tag("g", line, tag("title", one.title)))
    return drawn


def _letters(axis: Axis, marks: Iterable[Mark]) -> list[Html]:
    drawn, last = [], -LETTERS_APART
    for one in sorted((mark for mark in marks if mark.letter), key=lambda mark: mark.at):
        left = min(98.0, axis.x(one.at) * 100 / WIDTH)
        if left - last >= LETTERS_APART:
            drawn.append(tag("span", one.letter, class_="mark", title=one.title, style=f"left:{left:.1f}%"))
            last = left
    return drawn
