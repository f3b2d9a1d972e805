"""Requests that are kept: under way, failed, and the slowest; bounded, targets without the values of their queries."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from proxy import units
from proxy.diagnostics.report.contents import Contents, Data
from proxy.diagnostics.report.markup import Html, cut, fold, join, moment, quiet, table, tag
from proxy.diagnostics.text import clean, target
from proxy.link.messages import Record

FAILED: Final = 60
SLOW: Final = 40
OPEN: Final = 15


def data(contents: Contents) -> Data:
    records = contents.known.records
    failed = [one for one in records if one.fault or one.status >= 500]
    slow = sorted((one for one in records if not one.tunnel), key=lambda one: -one.total_us)
    return {
        "kept": len(records), "failed_count": len(failed),
        "failed": [_record(one) for one in _spread(failed)],
        "slow": [_record(one) for one in slow[:SLOW]],
    }  # fmt: skip


def _spread(failed: list[Record]) -> list[Record]:
    """The newest of each kind first come to their share, so that a storm of one hides no other."""
    kinds: dict[tuple[str, str], list[Record]] = {}
    for one in failed:
        kinds.setdefault((one.fault or str(one.status), one.instance), []).append(one)
    each = max(3, FAILED // max(1, len(kinds)))
    chosen = [one for kind in kinds.values() for one in kind[:each]][:FAILED]
    taken = {one.id for one in chosen}
    chosen += [one for one in failed if one.id not in taken][: FAILED - len(chosen)]
    return sorted(chosen, key=lambda one: -one.time)


def _record(one: Record) -> Data:
    tries = [{"instance": cut(each.instance, 80), "came": each.fault or str(each.status or "answered")}
             for each in (one.attempts or ())[:5]]  # fmt: skip
    return {
        "id": cut(one.id, 64), "time": one.time, "method": clean(one.method, 16), "target": target(one.target, 160),
        "instance": cut(one.instance, 80), "status": one.status, "fault": one.fault, "detail": clean(one.detail, 200),
        "queue": _seconds(one.queue_us), "connect": _seconds(one.connect_us), "wait": _seconds(one.wait_us),
        "body": _seconds(one.body_us), "total": _seconds(one.total_us), "bytes_in": one.bytes_in,
        "bytes_out": one.bytes_out, "sent": one.sent, "tries": tries,
    }  # fmt: skip


def _seconds(micros: int | None) -> float | None:
    return None if micros is None else micros / 1e6


# --- HTML --------------------------------------------------------------------------------------------


def html(data: Data) -> Html:
    if not data["kept"]:
        return quiet("None is kept: those that were served as asked, and soon, are only counted.")
    return join(
        tag("p", f"{units.several(data['kept'], 'request')} kept, {units.count(data['failed_count'])} of them failed. "
                 "Those that were served as asked, and soon, are only counted."),
        _list(f"Failed, the newest: {len(data['failed'])} of {units.count(data['failed_count'])}", data["failed"]),
        _list(f"The slowest {len(data['slow'])}", data["slow"], folded=True),
    )  # fmt: skip


def _list(title: str, rows: list[Data], *, folded: bool = False) -> Html | None:
    if not rows:
        return None
    if folded:
        return fold(title, _table(rows))
    more = fold(f"{len(rows) - OPEN} more", _table(rows[OPEN:])) if len(rows) > OPEN else None
    return join(tag("h3", title), _table(rows[:OPEN]), more)


def _table(rows: Iterable[dict[str, Any]]) -> Html:
    return table(
        ("Time", "Request", "Instance", "Came to", "Queue", "Connect", "Wait", "Total", "Sent", "Id"),
        [
            (moment(one["time"]), tag("span", f"{one['method']} {one['target']}"), one["instance"] or "–", _came(one),
             _span(one["queue"]), _span(one["connect"]), _span(one["wait"]), _span(one["total"]),
             units.size(one["sent"]) if one["sent"] else "–", tag("code", one["id"]))
            for one in rows
        ],
        num=(4, 5, 6, 7, 8), wide=1,
    )  # fmt: skip


def _came(one: dict[str, Any]) -> Html:
    said = f"{one['status'] or ('cut' if one['fault'] else 'under way')} {one['fault']}".strip()
    tries = ", then ".join(f"{each['instance']} {each['came']}" for each in one["tries"])
    more = "; ".join(part for part in (one["detail"], tries if len(one["tries"]) > 1 else "") if part)
    return join(said, tag("small", f" {more}") if more else None)


def _span(seconds: float | None) -> str:
    return "–" if seconds is None else units.duration(seconds)
