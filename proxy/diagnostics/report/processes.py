"""Instances as they are, their processes, what these did second by second, and how instances ended."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from proxy import masking, units
from proxy.diagnostics.artifacts import Activity, ActivitySample, Process, ProcReport
from proxy.diagnostics.report.contents import Contents, Data
from proxy.diagnostics.report.markup import Html, bullets, cut, facts, fold, join, moment, quiet, table, tag, words
from proxy.link.session import Instance

INSTANCES: Final = 60
EXITS: Final = 40
PROCESSES: Final = 20
FILES: Final = 60
COUNTERS: Final = 40


def data(contents: Contents) -> Data:
    known = contents.known
    reports, activity = contents.each(ProcReport), contents.each(Activity)
    return {
        "instances": [_instance(one) for one in known.instances[:INSTANCES]],
        "left_out": max(0, len(known.instances) - INSTANCES),
        "exits": [
            {"at": one.at, "instance": one.instance, "lasted": one.lasted, "words": cut(one.words, 200), "oom": one.oom,
             "ours": one.ours, "why": cut(one.why, 200), "last": [cut(line, 300) for line in one.last_lines[-5:]]}
            for one in known.exits[-EXITS:]
        ],
        "reports": {name: _report(one) for name, one in list(reports.items())[:INSTANCES]},
        "activity": {name: _activity(one) for name, one in list(activity.items())[:INSTANCES]},
    }  # fmt: skip


def _instance(one: Instance) -> Data:
    return {
        "name": one.name, "state": "gone" if one.gone else one.lifecycle, "admission": one.admission,
        "failing": one.failing,
        "why": cut(one.ejection or one.why, 300), "pid": one.pid, "address": cut(one.address, 120),
        "started": one.started_at, "restarts": one.restarts, "in_flight": one.in_flight, "slots": one.slots,
        "memory": one.memory, "memory_limit": one.memory_limit, "cpu_limit": one.cpu_limit,
        "limited_by": one.limited_by,
        "probe": cut(one.probe, 200), "probe_ok": one.probe_ok, "listens_on": one.listens_on[:8],
        "version": cut(one.version, 60),
    }  # fmt: skip


def _report(report: ProcReport) -> Data:
    group = report.cgroup
    return {
        "note": cut(report.note, 400), "processes": [_process(one) for one in report.processes[:PROCESSES]],
        "left_out": max(0, len(report.processes) - PROCESSES),
        "cgroup": None if group is None else {
            "path": cut(group.path, 300), "version": group.version, "own": group.own,
            "values": {cut(name, 80): cut(value, 300) for name, value in list(group.values.items())[:COUNTERS]},
        },
    }  # fmt: skip


def _process(one: Process) -> Data:
    states: dict[str, int] = {}
    asleep: dict[str, int] = {}
    for thread in one.threads:
        states[thread.state] = states.get(thread.state, 0) + 1
        if thread.wchan:
            asleep[cut(thread.wchan, 60)] = asleep.get(cut(thread.wchan, 60), 0) + 1
    return {
        "pid": one.pid, "parent": one.parent, "name": cut(one.name, 60), "state": one.state, "cpu": one.cpu,
        "command": cut(" ".join(masking.arguments(one.command)), 400), "threads": one.thread_count or len(one.threads),
        "thread_states": states, "asleep": dict(sorted(asleep.items(), key=lambda item: -item[1])[:8]),
        "descriptors": one.descriptors, "limits": {
            name: list(limit) for name, limit in one.limits.items()
            if "open files" in name.lower() or "processes" in name.lower()
        },
        "memory": {name: one.status[name] for name in ("VmRSS", "VmSwap", "RssAnon", "VmPeak") if name in one.status},
        "files": [cut(path, 200) for path in one.files[:FILES]],
        "files_left_out": max(0, len(one.files) - FILES), "sockets": one.socket_states, "oom_score": one.oom_score,
    }  # fmt: skip


def _activity(one: Activity) -> Data:
    samples = one.samples
    said = {
        name: [min(row), sum(row) / len(row), max(row)]
        for name in ("user", "system", "wait_cpu", "busiest", "major_faults", "read", "written", "switches", "forced",
                     "throttled", "rss", "swap", "threads", "processes", "blocked", "running", "log_bytes")
        if (row := _row(samples, name))
    }  # fmt: skip
    return {
        "note": cut(one.note, 400), "samples": len(samples), "figures": said,
        "busiest_thread": next((each.busiest_thread for each in reversed(samples) if each.busiest_thread), ""),
        "descriptors": [
            {"pid": each.pid, "used": each.used, "limit": each.limit, "kinds": each.kinds,
                "growing": cut(each.growing, 200),
             "grew": each.grew}
            for each in one.descriptors[:PROCESSES]
        ],
        "counters": {cut(name, 80): value for name, value in list(one.changed.items())[:COUNTERS] if value},
    }  # fmt: skip


def _row(samples: Iterable[ActivitySample], name: str) -> list[float]:
    return [value for one in samples if (value := getattr(one, name)) is not None]


# --- HTML --------------------------------------------------------------------------------------------

FIGURES: Final = {
    "user": ("CPU in its own code, cores", "{:.2f}"), "system": ("CPU in the kernel, cores", "{:.2f}"),
    "busiest": ("CPU of its busiest thread, cores", "{:.2f}"),
    "wait_cpu": ("Threads that wanted a CPU and had none", "{:.2f}"),
    "throttled": ("Share of periods in which it was throttled", "{:.0%}"),
    "rss": ("Resident memory", "bytes"), "swap": ("In swap", "bytes"),
    "major_faults": ("Pages read from disk a second", "{:.1f}"),
    "read": ("Read from disks a second", "bytes"), "written": ("Written to disks a second", "bytes"),
    "threads": ("Threads", "{:.0f}"), "processes": ("Processes", "{:.0f}"),
    "running": ("Threads that run or could", "{:.0f}"),
    "blocked": ("Threads that wait for a disk or the like", "{:.0f}"),
    "switches": ("Went to sleep, times a second", "{:,.0f}"),
    "forced": ("Were put off a CPU, times a second", "{:,.0f}"), "log_bytes": ("Output a second", "bytes"),
}  # fmt: skip


def html(data: Data) -> Html:
    return join(
        _instances(data), _exits(data["exits"]),
        *(fold(f"{name}: what it did", _did(one)) for name, one in data["activity"].items() if one["figures"]),
        *(fold(f"{name}: its processes", _processes(one)) for name, one in data["reports"].items() if one["processes"]),
    )  # fmt: skip


def _instances(data: Data) -> Html:
    if not data["instances"]:
        return quiet("No instance is known.")
    rows = [
        (tag("b", one["name"]), _state(one), one["pid"] or "–", moment(one["started"]),
         f"{one['in_flight']}{' of ' + str(one['slots']) if one['slots'] else ''}",
         _of(one["memory"], one["memory_limit"]),
         one["restarts"], one["probe"] or "–", ", ".join(one["listens_on"]) or one["address"])
        for one in data["instances"]
    ]  # fmt: skip
    heads = (
        "Instance",
        "State",
        "Process",
        "Started",
        "In flight",
        "Memory",
        "Restarts",
        "Last health check",
        "Listens on",
    )
    left = quiet(f"{data['left_out']} more are left out.") if data["left_out"] else None
    return join(table(heads, rows, num=(2, 4, 5, 6), wide=1), left)


def _state(one: dict[str, Any]) -> Html:
    said = one["state"] or "–"
    if one["failing"] or one["admission"] != "admitting":
        said += f", {'failing' if one['failing'] else one['admission']}"
    if one["why"].startswith(said):
        return join(one["why"])
    return join(said, tag("small", f" {one['why']}") if one["why"] else None)


def _of(value: float | None, limit: float | None) -> str:
    if value is None:
        return "–"
    return units.size(value) + (f" of {units.size(limit)}" if limit else "")


def _exits(exits: list[Data]) -> Html | None:
    if not exits:
        return None
    rows = [
        (moment(one["at"]), tag("b", one["instance"]), units.duration(one["lasted"]),
         join(one["words"], tag("small", f" {one['why']}") if one["why"] else None,
              fold("Its last lines", tag("pre", "\n".join(one["last"]))) if one["last"] else None),
         "Triage" if one["ours"] else "not Triage", one["oom"])
        for one in reversed(exits)
    ]  # fmt: skip
    heads = ("When", "Instance", "After", "How it ended", "Who ended it", "Out of memory")
    return join(tag("h3", "Ended"), table(heads, rows, wide=3))


def _did(one: Data) -> Html:
    rows = []
    for name, (label, form) in FIGURES.items():
        if name in one["figures"]:
            low, mean, high = ((units.size(v) if form == "bytes" else form.format(v)) for v in one["figures"][name])
            rows.append((label, low, mean, high))
    open_files = [
        f"Process {each['pid']}: {units.count(each['used'])} open files and sockets"
        + (f" of {units.count(each['limit'])}" if each["limit"] else "")
        + (f"; {each['growing']} grew by {units.count(each['grew'])}" if each["grew"] > 0 and each["growing"] else "")
        for each in one["descriptors"]
    ]
    return join(
        quiet(f"Over {units.several(one['samples'], 'look')}. {one['note']}"),
        table(("Figure", "Least", "Mean", "Most"), rows, num=(1, 2, 3)), bullets(open_files),
        tag("p", "By the kernel's counters of its cgroup, in that time: "
            + ", ".join(f"{name} +{value:g}" for name, value in one["counters"].items())) if one["counters"] else None,
    )  # fmt: skip


def _processes(one: Data) -> Html:
    group = one["cgroup"]
    parts: list[Html | None] = [quiet(words(one["note"])) if one["note"] else None]
    for each in one["processes"]:
        kinds = each["descriptors"] or {}
        pairs = [
            ("State", each["state"]), ("Threads", f"{each['threads']}: {_counts(each['thread_states'])}"),
            ("Asleep in", _counts(each["asleep"])), ("CPU time", units.duration(each["cpu"])),
            ("Open files and sockets", f"{sum(kinds.values())}: {_counts(kinds)}" if kinds else ""),
            ("Sockets", _counts(each["sockets"])), *each["memory"].items(),
            *((name, " / ".join(limit)) for name, limit in each["limits"].items()),
        ]  # fmt: skip
        parts += [tag("h3", f"{each['pid']} {each['name']}"), tag("p", tag("code", each["command"])), facts(pairs)]
        if each["files"]:
            left = f" and {each['files_left_out']} more" if each["files_left_out"] else ""
            parts.append(fold(f"{len(each['files'])} open files{left}", tag("pre", "\n".join(each["files"]))))
    if group:
        said = f"cgroup v{group['version']} {group['path']}, {'its own' if group['own'] else 'shared with others'}"
        values = tag("pre", "\n".join(f"{name}  {value}" for name, value in group["values"].items()))
        parts.append(fold(said, values))
    return join(*parts)


def _counts(of: dict[str, int]) -> str:
    return ", ".join(f"{n} {name}" for name, n in sorted(of.items(), key=lambda item: -item[1]))
