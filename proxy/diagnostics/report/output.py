"""What instances printed: exceptions grouped, and the last lines of each."""

from __future__ import annotations

from typing import Any, Final

from proxy import units
from proxy.diagnostics.artifacts import LogTail
from proxy.diagnostics.report.contents import Contents, Data
from proxy.diagnostics.report.markup import Html, cut, fold, join, moment, quiet, table, tag

GROUPS: Final = 40
SAMPLE: Final = 60
LINES: Final = 200
INSTANCES: Final = 12
FILES: Final = 6
LONG: Final = 500


def exceptions(contents: Contents) -> list[Data]:
    found = sorted(contents.known.exceptions, key=lambda one: (-one.lately, -one.last_at))[:GROUPS]
    return [
        {
            "type": cut(one.type, 200), "message": cut(one.message, LONG), "where": cut(one.where, 300),
            "count": one.count,
            "lately": one.lately, "first": one.first_at, "last": one.last_at, "instances": one.instances[:10],
            "versions": one.versions[:10], "raised": one.raised, "runtime": one.runtime,
            "sample": [cut(line, LONG) for line in one.sample[:SAMPLE]],
        }
        for one in found
    ]  # fmt: skip


def exceptions_html(items: list[Data]) -> Html:
    if not items:
        return quiet("None was seen in the output, nor told of by the agent.")
    rows = [
        (join(tag("b", one["type"]), tag("div", one["message"]), tag("small", one["where"]),
              fold("One of them", tag("pre", "\n".join(one["sample"]))) if one["sample"] else None),
         units.count(one["lately"]), units.count(one["count"]), moment(one["first"]), moment(one["last"]),
         ", ".join(one["instances"]), "as raised" if one["raised"] else "in the log")
        for one in items
    ]  # fmt: skip
    return table(("Exception", "Last 15 min", "All", "First", "Last", "Instances", "Seen"), rows, num=(1, 2), wide=0)


def logs(contents: Contents) -> list[Data]:
    """What control kept of each instance's output; where it has nothing, its files."""
    found: list[Data] = []
    for name, lines in list(contents.known.lines.items())[:INSTANCES]:
        if lines:
            kept = [
                {"at": one.at, "stream": cut(one.stream, 60), "text": cut(one.text, LONG)} for one in lines[-LINES:]
            ]
            found.append({"instance": name, "of": "output", "lines": kept, "earlier": len(lines) > LINES})
    there = {one["instance"] for one in found}
    for name, tail in list(contents.each(LogTail).items())[:INSTANCES]:
        for file in tail.files[-FILES:]:
            if file.lines and (name not in there or not _is_output(file.path, name)):
                kept = [{"at": 0.0, "stream": "", "text": cut(line, LONG)} for line in file.lines[-LINES:]]
                earlier = file.cut or len(file.lines) > LINES
                found.append({"instance": name, "of": cut(file.path, 300), "lines": kept, "earlier": earlier})
    return found


def _is_output(path: str, instance: str) -> bool:
    """Triage's own file of its output: the same lines once more."""
    return path.rpartition("/")[2].startswith(f"{instance}.log")


def logs_html(items: list[Data]) -> Html:
    if not items:
        return quiet("No line of output is known.")
    return join(*(
        fold(f"{one['instance']}, {one['of']}: the last {units.several(len(one['lines']), 'line')}", _lines(one))
        for one in items
    ))  # fmt: skip


def _lines(one: dict[str, Any]) -> Html:
    rows = []
    for line in one["lines"]:
        at = join(moment(line["at"]), " ") if line["at"] else None
        rows.append(
            join(at, tag("span", line["text"], class_="err") if line["stream"] == "err" else line["text"], "\n")
        )
    earlier = "… earlier lines are left out\n" if one["earlier"] else None
    return tag("pre", earlier, *rows, class_="log", tabindex=0)
