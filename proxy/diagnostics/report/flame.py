"""A flame graph: one box a function, as wide as its share of the samples, whoever called it above it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

from proxy import units
from proxy.diagnostics.artifacts import Environment, Profile
from proxy.diagnostics.report.contents import Contents, Data
from proxy.diagnostics.report.markup import Html, cut, fold, join, quiet, table, tag
from proxy.diagnostics.report.own import Own

BOXES: Final = 600
DEEPEST: Final = 90
WIDTH: Final = 1200
ROW: Final = 17
LETTER: Final = 6.7
"""Width of a letter of the boxes' type, in the units of the drawing."""
INSTANCES: Final = 4
HOTTEST: Final = 15
_PLACE: Final = re.compile(r"^(?P<function>.*?) \((?P<file>.+?)(?::(?P<line>\d+))?\)$")


@dataclass(slots=True)
class Node:
    """A function with those it called, at one place of the stacks."""

    name: str
    samples: int = 0
    below: dict[str, Node] = field(default_factory=dict)


def data(contents: Contents) -> list[Data]:
    """For each profiled instance: figures, the boxes that are wide enough, and the functions that ran most."""
    environments = contents.each(Environment)
    found = []
    for name, profile in list(contents.each(Profile).items())[:INSTANCES]:
        packages = [
            package
            for runtime in (environments[name].runtimes if name in environments else ())
            for package in runtime.packages
        ]
        own = Own(contents.known.app.cwd, packages)
        boxes, left = _boxes(_tree(profile), own)
        found.append({
            "instance": name, "pid": profile.pid, "how": profile.how, "seconds": profile.seconds, "rate": profile.rate,
            "samples": profile.samples, "possible": profile.possible, "gil": profile.gil,
            "note": cut(profile.note, 400),
            "boxes": boxes, "left_out": left, "hottest": _hottest(profile, own),
            "files": {kind: cut(str(file), 200) for kind, file in list(profile.files.items())[:6]},
            "folder": _folder(contents, name),
        })  # fmt: skip
    return found


def _folder(contents: Contents, instance: str) -> str:
    for step in contents.outcome.steps:
        if step.name == "profile" and step.instance == instance:
            return next((file.rpartition("/")[0] for file in step.files), "")
    return ""


def _tree(profile: Profile) -> Node:
    root = Node("all")
    for stack in profile.stacks:
        root.samples += stack.samples
        here = root
        for frame in stack.frames[:DEEPEST]:
            here = here.below.setdefault(frame, Node(frame))
            here.samples += stack.samples
    return root


def _boxes(root: Node, own: Own) -> tuple[list[list[Any]], int]:
    """The widest ones as [depth, start, samples, name, in the app], and how many there are besides."""
    flat: list[tuple[int, int, int, str]] = []
    waiting: list[tuple[Node, int, int]] = [(root, 0, 0)]
    while waiting:
        node, depth, start = waiting.pop()
        flat.append((depth, start, node.samples, node.name))
        at = start
        for below in sorted(node.below.values(), key=lambda one: one.name):
            waiting.append((below, depth + 1, at))
            at += below.samples
    flat.sort(key=lambda one: (-one[2], one[0]))
    kept = [
        [depth, start, samples, cut(_short(name, own), 200), own(_file(name))]
        for depth, start, samples, name in flat[:BOXES]
    ]
    return kept, max(0, len(flat) - BOXES)


def _file(frame: str) -> str:
    found = _PLACE.match(frame)
    return found["file"] if found else ""


def _short(frame: str, own: Own) -> str:
    file = _file(frame)
    return frame.replace(f"({file}", f"({own.short(file)}") if file else frame


def _hottest(profile: Profile, own: Own) -> list[Data]:
    """Functions by the samples in which they themselves ran, and those in which anything below them did."""
    itself: dict[str, int] = {}
    whole: dict[str, int] = {}
    for stack in profile.stacks:
        if stack.frames:
            itself[stack.frames[-1]] = itself.get(stack.frames[-1], 0) + stack.samples
        for frame in set(stack.frames):
            whole[frame] = whole.get(frame, 0) + stack.samples
    order = sorted(whole, key=lambda frame: (-itself.get(frame, 0), -whole[frame]))
    return [
        {
            "frame": cut(_short(frame, own), 200), "itself": itself.get(frame, 0), "whole": whole[frame],
            "own": own(_file(frame)),
        }
        for frame in order[:HOTTEST]
    ]  # fmt: skip


# --- HTML --------------------------------------------------------------------------------------------


def html(items: list[Data]) -> Html:
    return join(*(_one(item, open_=at == 0) for at, item in enumerate(items)))


def _one(item: Data, *, open_: bool) -> Html:
    total = max((box[2] for box in item["boxes"]), default=0)
    if not total:
        none = "no thread was on a CPU" if item["possible"] else "no sample was taken"
        said = f"{item['instance']}: {none} in {units.duration(item['seconds'])}. {item['note']}".strip()
        return tag("p", said)
    busy = ""
    if item["possible"]:
        busy = f", of {units.count(item['possible'])} looks"
    gil = (
        f" In {units.percent(item['gil'])} of the looks a thread held Python's global lock."
        if item["gil"] is not None
        else ""
    )
    words = (
        f"{units.count(total)} samples{busy} in {units.duration(item['seconds'])} at {item['rate']} a second, by "
        f"{item['how'] or 'a profiler'}.{gil} {item['note']}"
    )
    links = [
        tag("a", f"{kind} file", href=f"{item['folder']}/{file}" if item["folder"] and "/" not in file else file)
        for kind, file in item["files"].items()
        if ":" not in file
    ]
    rows = [
        (tag("code", one["frame"]), units.percent(one["itself"] / total), units.percent(one["whole"] / total))
        for one in item["hottest"]
    ]
    inside = join(
        tag("p", words),
        tag("p", "Beside this page, for speedscope.app: ", *links) if links else None,
        quiet("Each box is a function, as wide as its share of the samples; above it is who called it. "
              "Coloured: the app's own code."),
        tag("div", _svg(item["boxes"], total), class_="flame"),
        quiet(f"{units.count(item['left_out'])} narrower boxes are left out.") if item["left_out"] else None,
        fold("The functions that ran most", table(("Function", "Itself", "With what it called"), rows, num=(1, 2),
                wide=0)),
    )  # fmt: skip
    return fold(f"{item['instance']}, process {item['pid']}", inside, open_=open_)


def _svg(boxes: list[list[Any]], total: int) -> Html:
    deepest = max(box[0] for box in boxes)
    drawn = []
    for depth, start, samples, name, own in boxes:
        x, width = start / total * WIDTH, samples / total * WIDTH
        if width < 0.4:
            continue
        room = int((width - 6) / LETTER)
        found = _PLACE.match(name)
        short = found["function"] if found else name
        text = None
        if room >= 3:
            text = tag("text", cut(name if len(name) <= room else short, room), x=f"{x + 3:.1f}", y=depth * ROW + 12)
        box = tag("rect", x=f"{x:.1f}", y=depth * ROW, width=f"{width:.1f}", height=ROW - 1)
        title = tag("title", f"{name}: {units.count(samples)} samples, {units.percent(samples / total)}")
        drawn.append(tag("g", box, text, title, class_="own" if own else None))
    return tag("svg", *drawn, viewBox=f"0 0 {WIDTH} {(deepest + 1) * ROW}", role="img", aria_label="Flame graph")
