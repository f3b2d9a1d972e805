"""The machine: how busy, how full, what its kernel and journal wrote of late, and the gateway itself."""

from __future__ import annotations

from typing import Final

from proxy import units
from proxy.diagnostics.artifacts import HostEvents, HostReport, HostSample
from proxy.diagnostics.report.contents import Contents, Data
from proxy.diagnostics.report.markup import Html, cut, facts, fold, join, moment, quiet, table, tag

EVENTS: Final = 60
TOP: Final = 20


def data(contents: Contents) -> Data:
    report, events, known = contents.one(HostReport), contents.one(HostEvents), contents.known
    return {
        "report": _report(report) if report else None,
        "events": [
            {"at": one.at, "kind": one.kind, "text": cut(one.text, 400), "pid": one.pid,
                "process": cut(one.process, 60)}
            for one in (events.events if events else [])[-EVENTS:]
        ],
        "events_note": cut(events.note, 400) if events else "",
        "events_sources": events.sources[:10] if events else None,
        "workers": [
            {"slot": one.slot, "pid": one.pid, "state": one.state, "why": cut(one.why, 200), "lag": one.lag,
             "lag_max": one.lag_max, "connections": one.connections, "descriptors": one.descriptors,
             "descriptors_limit": one.descriptors_limit, "cpu": one.cpu, "restarts": one.restarts}
            for one in known.workers[:64]
        ],
        "self_check": cut(known.self_check, 300), "self_check_ok": known.self_check_ok,
        "other_apps": {cut(name, 60): state for name, state in list(known.other_apps.items())[:40]},
    }  # fmt: skip


def _report(one: HostReport) -> Data:
    samples = one.samples
    figures = {
        name: [min(row), sum(row) / len(row), max(row)]
        for name in ("busy", "steal", "iowait", "running", "load", "available", "swap_in", "swap_out", "major_faults")
        if (row := _row(samples, name))
    }
    pressure: dict[str, float] = {}
    for sample in samples:
        for name, value in sample.pressure.items():
            pressure[name] = max(pressure.get(name, 0.0), value)
    return {
        "note": cut(one.note, 400), "cores": one.cores, "memory_total": one.memory_total,
        "memory_limit": one.memory_limit,
        "swap_total": one.swap_total, "figures": figures, "pressure": dict(list(pressure.items())[:12]),
        "top": [{"name": cut(name, 80), "pid": pid, "cpu": cpu, "rss": rss} for name, pid, cpu, rss in one.top[:TOP]],
        "disks": {cut(path, 200): list(disk) for path, disk in list(one.disks.items())[:20]},
        "network": {name: value for name, value in list(one.network.items())[:40] if value},
        "conntrack": list(one.conntrack) if one.conntrack else None, "clock_step": one.clock_step,
        "clock_synced": one.clock_synced, "oom_kills": one.oom_kills, "uptime": one.uptime,
        "resolver": {cut(name, 120): value if isinstance(value, float) else cut(str(value), 200)
                     for name, value in list(one.resolver.items())[:20]},
    }  # fmt: skip


def _row(samples: list[HostSample], name: str) -> list[float]:
    return [value for one in samples if (value := getattr(one, name)) is not None]


# --- HTML --------------------------------------------------------------------------------------------

FIGURES: Final = {
    "busy": ("CPU, share of all cores", "{:.0%}"), "steal": ("CPU that the hypervisor kept", "{:.1%}"),
    "iowait": ("CPU idle while something waited for a disk", "{:.1%}"),
    "running": ("Tasks that run or could", "{:.0f}"),
    "load": ("Load", "{:.2f}"), "available": ("Memory left", "bytes"),
    "swap_in": ("Pages from swap a second", "{:.0f}"),
    "swap_out": ("Pages to swap a second", "{:.0f}"), "major_faults": ("Pages read from disk a second", "{:.0f}"),
}  # fmt: skip


def html(data: Data) -> Html:
    return join(_of_report(data["report"]), _events(data), _gateway(data))


def _of_report(one: Data | None) -> Html:
    if one is None:
        return quiet("It was not looked at.")
    rows = []
    for name, (label, form) in FIGURES.items():
        if name in one["figures"]:
            low, mean, high = ((units.size(v) if form == "bytes" else form.format(v)) for v in one["figures"][name])
            rows.append((label, low, mean, high))
    synced = {True: "yes", False: "no"}.get(one["clock_synced"], "")
    pairs = [
        ("Cores", f"{one['cores']:g}"), ("Memory", _size(one["memory_total"])),
        ("Limit of the container", _size(one["memory_limit"])),
        ("Swap", _size(one["swap_total"])), ("Up for", units.duration(one["uptime"]) if one["uptime"] else ""),
        ("Kills for memory since its start", one["oom_kills"]), ("Clock synchronized", synced),
        ("Clock moved by", units.duration(one["clock_step"]) if abs(one["clock_step"]) >= 0.05 else ""),
        ("Connections tracked", " of ".join(units.count(n) for n in one["conntrack"]) if one["conntrack"] else ""),
    ]  # fmt: skip
    pressure = ", ".join(f"{name} {value:.0%}" for name, value in one["pressure"].items() if value >= 0.005)
    disks = [(tag("code", path), units.size(free), units.size(size), "–" if inodes is None else units.count(inodes))
             for path, (free, size, inodes) in one["disks"].items()]  # fmt: skip
    names = [(tag("code", name), value if isinstance(value, str) else units.duration(value))
             for name, value in one["resolver"].items()]  # fmt: skip
    top = [(each["name"], each["pid"], f"{each['cpu']:.2f}", units.size(each["rss"])) for each in one["top"]]
    return join(
        quiet(one["note"]) if one["note"] else None, facts(pairs),
        table(("Figure", "Least", "Mean", "Most"), rows, num=(1, 2, 3)),
        tag("p", f"Share of 10 s in which something waited for it, at most: {pressure}.") if pressure else None,
        tag("p", "The kernel's network counters that grew: "
            + ", ".join(f"{name} +{value:g}" for name, value in one["network"].items())) if one["network"] else None,
        fold("What used most CPU", table(("Process", "Pid", "Cores", "Memory"), top, num=(1, 2, 3))) if top else None,
        fold("Disks", table(("Path", "Free", "Size", "Free inodes"), disks, num=(1, 2, 3))) if disks else None,
        fold("Names looked up", table(("Name", "Took"), names)) if names else None,
    )  # fmt: skip


def _size(value: float | None) -> str:
    return "" if value is None else units.size(value)


def _events(data: Data) -> Html | None:
    if data["events_sources"] is None:
        return None
    sources = ", ".join(data["events_sources"]) or "none could be read"
    rows = [(moment(one["at"], day=True), one["kind"], one["text"]) for one in reversed(data["events"])]
    none = None if rows else quiet("Nothing that matters was written.") if data["events_sources"] else None
    return join(
        tag("h3", "What kernel and journal wrote"), quiet(f"Read: {sources}. {data['events_note']}"), none,
        table(("When", "Kind", "Text"), rows, wide=2),
    )  # fmt: skip


def _gateway(data: Data) -> Html | None:
    rows = [
        (one["slot"] + 1, one["state"] or "–", one["pid"] or "–", _lag(one["lag"]), _lag(one["lag_max"]),
            one["connections"],
         "–" if one["cpu"] is None else f"{one['cpu']:.2f}", one["restarts"], one["why"])
        for one in data["workers"]
    ]  # fmt: skip
    others = ", ".join(f"{name} {state}" for name, state in data["other_apps"].items())
    check = f"Its own answer through its own listener: {data['self_check']}." if data["self_check"] else ""
    if not rows and not check:
        return None
    heads = ("Worker", "State", "Process", "Late by", "At most", "Connections", "Cores", "Restarts", "Why")
    return join(
        tag("h3", "The gateway itself"), tag("p", check) if check else None,
        table(heads, rows, num=(3, 4, 5, 6, 7), wide=8),
        tag("p", f"Other apps: {others}.") if others else None,
    )  # fmt: skip


def _lag(seconds: float | None) -> str:
    return "–" if seconds is None else units.duration(max(0.0, seconds))
