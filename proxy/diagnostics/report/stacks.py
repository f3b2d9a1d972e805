"""Stacks grouped: threads that stood at the same place, how many in each round, those that wait for work last."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from proxy import units
from proxy.diagnostics.artifacts import Environment, Frame, Stacks
from proxy.diagnostics.reading import at_rest
from proxy.diagnostics.report.contents import Contents, Data
from proxy.diagnostics.report.markup import Html, cut, fold, join, moment, quiet, tag
from proxy.diagnostics.report.own import Own

GROUPS: Final = 30
"""Kept for each process; the others are counted."""
SHOWN: Final = 8
FRAMES: Final = 30
PROCESSES: Final = 8
INSTANCES: Final = 8
OUTERMOST: Final = ("<module>", "main", "run", "serve")
"""Functions of an app that start a server and stay below all of its stacks."""

Key = tuple[tuple[str, str, int], ...]


@dataclass(slots=True)
class Group:
    """Threads with one stack: how many in each round, and what is known of them."""

    frames: list[Frame]
    counts: Counter[int] = field(default_factory=Counter)
    names: Counter[str] = field(default_factory=Counter)
    active: int = 0
    gil: int = 0


def data(contents: Contents) -> list[Data]:
    found = []
    environments = contents.each(Environment)
    for name, stacks in list(contents.each(Stacks).items())[:INSTANCES]:
        packages = [
            package for one in (environments[name].runtimes if name in environments else ()) for package in one.packages
        ]
        own = Own(contents.known.app.cwd, packages)
        rounds = [one.at for one in stacks.rounds]
        pids = list(dict.fromkeys(process.pid for one in stacks.rounds for process in one.processes))
        found.append({
            "instance": name, "runtime": stacks.runtime, "note": cut(stacks.note, 400), "rounds": rounds[:50],
            "processes": [_process(stacks, pid, own) for pid in pids[:PROCESSES]],
            "left_out": max(0, len(pids) - PROCESSES),
        })  # fmt: skip
    return found


def _process(stacks: Stacks, pid: int, own: Own) -> Data:
    groups: dict[Key, Group] = {}
    threads: dict[int, int] = {}
    how, name, why = "", "", ""
    for number, each in enumerate(stacks.rounds):
        for process in each.processes:
            if process.pid != pid:
                continue
            how, name, why = process.how or how, process.name or name, process.why or why
            threads[number] = len(process.threads)
            for thread in process.threads:
                key = tuple((frame.function, frame.file, frame.line) for frame in thread.frames)
                group = groups.setdefault(key, Group(thread.frames))
                group.counts[number] += 1
                group.names[thread.name] += 1
                group.active += bool(thread.active)
                group.gil += bool(thread.gil)
    order = sorted(groups.values(), key=lambda one: (_rests(one, own), -max(one.counts.values()), -len(one.counts)))
    return {
        "pid": pid, "name": cut(name, 80), "how": how, "why": cut(why, 300),
        "threads": max(threads.values(), default=0),
        "seen": len(threads), "groups": [_group(one, len(threads), own) for one in order[:GROUPS]],
        "left_out": sum(max(one.counts.values()) for one in order[GROUPS:]),
    }  # fmt: skip


def _rests(group: Group, own: Own) -> bool:
    """It waits, and not from within the app's code: there it may wait for what never comes."""
    within = [one for one in group.frames if own(one.file) and one.function not in OUTERMOST]
    return not group.active and not within and at_rest(_text(group.frames))


def _text(frames: list[Frame]) -> str:
    """As py-spy prints a thread."""
    return "\n".join(["Thread 0 (idle)", *(f"    {one.function} ({one.file}:{one.line})" for one in frames[:3])])


def _group(group: Group, seen: int, own: Own) -> Data:
    frames = [
        {"function": cut(one.function, 200), "file": cut(own.short(one.file), 300), "line": one.line,
         "own": own(one.file)}
        for one in group.frames[:FRAMES]
    ]
    return {
        "counts": [group.counts[number] for number in range(max(group.counts, default=-1) + 1)][:50],
        "rounds": len(group.counts), "of_rounds": seen, "most": max(group.counts.values()),
        "names": [cut(name, 60) for name, _ in group.names.most_common(3) if name],
        "active": group.active, "gil": group.gil, "rests": _rests(group, own), "frames": frames,
        "deeper": max(0, len(group.frames) - FRAMES),
    }  # fmt: skip


# --- HTML --------------------------------------------------------------------------------------------


def html(items: list[Data]) -> Html:
    return join(*(_instance(item, open_=at < 2) for at, item in enumerate(items)))


def _instance(item: Data, *, open_: bool) -> Html:
    times = join(*(join(", " if at else "", moment(each)) for at, each in enumerate(item["rounds"][:10])))
    rounds = len(item["rounds"])
    said = join(units.several(rounds, "round"), " at ", times, ". " if rounds else None, item["note"])
    left = quiet(f"{item['left_out']} more processes are left out.") if item["left_out"] else None
    return fold(item["instance"], tag("p", said), *(_of_process(one) for one in item["processes"]), left, open_=open_)


def _of_process(one: Data) -> Html:
    title = tag("h3", f"Process {one['pid']} {one['name']}, {units.several(one['threads'], 'thread')}",
                tag("small", f" by {one['how']}") if one["how"] else None)  # fmt: skip
    if not one["groups"]:
        return join(title, quiet(one["why"] or "No stack could be taken."))
    busy = [group for group in one["groups"] if not group["rests"]]
    rests = [group for group in one["groups"] if group["rests"]]
    shown = [_stack(group, one["threads"]) for group in busy[:SHOWN]]
    folded = [_stack(group, one["threads"]) for group in busy[SHOWN:]]
    waiting = sum(group["most"] for group in rests)
    return join(
        title, quiet(one["why"]) if one["why"] else None, *shown,
        fold(f"{len(folded)} stacks of fewer threads", *folded) if folded else None,
        fold(f"Waiting for work, as it looks: {units.several(waiting, 'thread')}",
            *(_stack(group, one["threads"]) for group in rests))
        if rests else None,
        quiet(f"{units.several(one['left_out'], 'thread')} with yet other stacks.") if one["left_out"] else None,
    )  # fmt: skip


def _stack(group: Data, threads: int) -> Html:
    counts = group["counts"]
    where = (
        f"in all {group['of_rounds']} rounds"
        if group["rounds"] == group["of_rounds"] > 1
        else (f"in {group['rounds']} of {group['of_rounds']} rounds" if group["of_rounds"] > 1 else "in the one round")
    )
    figures = f" ({', '.join(str(n) for n in counts[:12])})" if len(set(counts)) > 1 else ""
    said = [f"{group['most']} of {units.several(threads, 'thread')}, {where}{figures}"]
    if group["active"]:
        said.append(f"on a CPU in {group['active']} of {sum(counts)} looks")
    if group["gil"]:
        said.append(f"with Python's global lock in {group['gil']}")
    if group["names"]:
        said.append(", ".join(group["names"]))
    rows = [_frame(frame) for frame in group["frames"]] or [Html("(no frames)")]
    deeper = f"\n… {group['deeper']} more" if group["deeper"] else ""
    body = [row if at == 0 else join("\n", row) for at, row in enumerate(rows)]
    return tag("div", tag("b", said[0]), tag("span", "; ".join(["", *said[1:]]), class_="quiet"),
               tag("pre", *body, deeper), class_="stack")  # fmt: skip


def _frame(frame: dict[str, Any]) -> Html:
    place = f"{frame['file']}:{frame['line']}" if frame["line"] else frame["file"]
    return tag("span", f"{frame['function']}  {place}", class_="own" if frame["own"] else "lib")
