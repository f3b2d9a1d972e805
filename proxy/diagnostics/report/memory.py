"""What memory holds: objects by type, and a memory dump as far as it was read back."""

from __future__ import annotations

from typing import Any, Final

from proxy import units
from proxy.diagnostics.artifacts import MemoryDump, Types
from proxy.diagnostics.report.contents import Contents, Data
from proxy.diagnostics.report.markup import Html, bullets, cut, fold, join, quiet, table, tag

ROWS: Final = 40
INSTANCES: Final = 12
STACKS: Final = 20


def data(contents: Contents) -> Data:
    return {
        "types": [_types(name, one) for name, one in list(contents.each(Types).items())[:INSTANCES]],
        "dumps": [_dump(name, one) for name, one in list(contents.each(MemoryDump).items())[:INSTANCES]],
    }


def _types(name: str, one: Types) -> Data:
    grown = sorted(one.rows, key=lambda row: -row.grew)[:ROWS]
    rows = {row.name: row for row in [*one.rows[:ROWS], *(row for row in grown if row.grew > 0)]}
    return {
        "instance": name, "pid": one.pid, "note": cut(one.note, 400), "objects": one.objects, "size": one.size,
        "garbage": one.garbage, "seconds_between": one.seconds_between,
        "rows": [
            {"name": cut(row.name, 160), "count": row.count, "size": row.size,
                "grew": row.grew} for row in rows.values()
        ],
    }  # fmt: skip


def _dump(name: str, one: MemoryDump) -> Data:
    return {
        "instance": name, "pid": one.pid, "note": cut(one.note, 400), "how": one.how, "file": cut(one.file, 200),
        "form": one.form, "size": one.size, "holds": one.holds, "virtual": one.virtual, "pause": one.pause,
        "threads": one.threads,
        "mappings": [
            {"name": cut(each.name, 200), "size": each.size, "resident": each.resident, "count": each.count}
            for each in one.mappings[:ROWS]
        ],
        "stacks": [
            {"thread": each.id, "name": cut(each.name, 60),
             "frames": [cut(f"{frame.function} {frame.file}:{frame.line}", 300) for frame in each.frames[:20]]}
            for each in one.stacks[:STACKS]
        ],
    }  # fmt: skip


# --- HTML --------------------------------------------------------------------------------------------


def html(data: Data) -> Html:
    return join(*(_of_types(one) for one in data["types"]), *(_of_dump(one) for one in data["dumps"]))


def _of_types(one: dict[str, Any]) -> Html:
    compared = one["seconds_between"] > 0
    rows = [
        (tag("code", row["name"]), units.count(row["count"]), units.size(row["size"]),
         f"{row['grew']:+,}" if compared else "–")
        for row in one["rows"]
    ]  # fmt: skip
    between = f" Grew: within {units.duration(one['seconds_between'])}." if compared else ""
    garbage = f" {units.count(one['garbage'])} can't be freed." if one["garbage"] else ""
    return join(
        tag("h3", f"{one['instance']}: objects by type"),
        tag("p", f"{units.count(one['objects'])} objects, {units.size(one['size'])} without what they refer to."
                 f"{garbage}{between} {one['note']}"),
        table(("Type", "Objects", "Size", "Grew"), rows, num=(1, 2, 3), wide=0),
    )  # fmt: skip


def _of_dump(one: dict[str, Any]) -> Html:
    if not one["file"]:
        return join(tag("h3", f"{one['instance']}: memory dump"), quiet(one["note"] or "None was taken."))
    pause = f" The process stood still for {units.duration(one['pause'])}." if one["pause"] is not None else ""
    rows = [
        (
            tag("code", each["name"] or "anonymous"),
            units.size(each["size"]),
            units.size(each["resident"]),
            each["count"],
        )
        for each in one["mappings"]
    ]
    return join(
        tag("h3", f"{one['instance']}: memory dump"),
        tag("p", f"{one['file']}, {units.size(one['size'])} as {one['form']}, by {one['how']}: "
                 f"{units.size(one['holds'])} of {units.size(one['virtual'])} of process {one['pid']}, "
                 f"{units.several(one['threads'], 'thread')}.{pause} {one['note']}"),
        quiet("It holds all that the process had in memory, secrets too: it is in no bundle unless one asks for it."),
        fold("What the memory is used for", table(("Mapping", "Size", "Resident", "Number"), rows, num=(1, 2, 3),
                wide=0))
        if rows else None,
        fold(
            f"Stacks of {len(one['stacks'])} threads in it",
            bullets(join(f"{each['thread']} {each['name']}",
                    tag("pre", "\n".join(each["frames"]))) for each in one["stacks"]),
        ) if one["stacks"] else None,
    )  # fmt: skip
