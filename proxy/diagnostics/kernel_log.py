"""Which lines of the kernel and the journal matter to an app that fails, and what they say.

Only the kernel's own lines count as the kernel's: whoever may write to /dev/kmsg could say anything.
"""

from __future__ import annotations

import re
from typing import Final

from proxy import masking
from proxy.diagnostics.artifacts import HostEvent

_KILLED: Final = re.compile(
    r"(?:Memory cgroup out of memory|Out of memory(?: \([^)]*\))?): Killed process (\d+) \((.+?)\)"
    r"(?:.*?anon-rss:(\d+)kB)?(?:.*?file-rss:(\d+)kB)?(?:.*?shmem-rss:(\d+)kB)?"
)
_OOM: Final = re.compile(r"oom-kill:constraint=(\w+),.*?task_memcg=([^,]*),task=(.+),pid=(\d+),uid=\d+")
_OOM_GROUP: Final = re.compile(r"oom_memcg=([^,]*),")
_FAULT: Final = re.compile(
    r"^(?:traps: )?(?P<name>.+?)\[(?P<pid>\d+)\]:? (?:segfault at|general protection|trap |bus error)"
)
_LIBRARY: Final = re.compile(r" in (\S+?)\[[0-9a-f,+]+\]")
_DEVICE: Final = re.compile(r"\bdev(?:ice)? ([a-z][\w-]*)|\(([a-z][\w-]*)\):|^((?:eth|en|wl|bond|br|veth|ifb)\w*):? ")
KINDS: Final[tuple[tuple[str, re.Pattern[str]], ...]] = tuple(
    (kind, re.compile(pattern, re.IGNORECASE))
    for kind, pattern in (
        ("limit", r"fork rejected by pids controller|file-max limit \d+ reached|table is full|Too many open files"),
        ("network", r"nf_conntrack: .*table full|neighbou?r(?: table)?:? .*overflow|neighbor table overflow"),
        ("network", r"possible SYN flooding|TCP: out of memory|too many orphaned sockets|NETDEV WATCHDOG"),
        ("network", r"\blink (?:is )?(?:down|up)\b|carrier (?:lost|acquired)|link becomes ready|lost carrier"),
        ("hung", r"task .* blocked for more than \d+ seconds|soft lockup|hard LOCKUP|rcu.*(?:stall|starved)"),
        ("disk", r"I/O error|remounting filesystem read-only|No space left on device|md/raid.*fail"),
        ("disk", r"(?:EXT\d|XFS|BTRFS|F2FS)\b.*(?:\berror\b|corrupt|shutdown)"),
        ("disk", r"\bata\d.*(?:failed command|exception)|nvme\S* .*(?:timeout|reset)"),
        ("disk", r"nfs: server .* not responding|critical (?:medium|target|space) error|lost async page write"),
        ("clock", r"clocksource.*unstable|timekeeping watchdog|time has been changed"),
        ("clock", r"clock (?:wrong by|step|was stepped)|time (?:jumped|reset)|(?:Forward|Backward) time jump"),
        ("clock", r"(?:System|clock) time .*(?:stepped|jumped)"),
        ("hardware", r"Machine Check|Hardware Error|EDAC .*(?:CE|UE)\b|temperature above threshold"),
    )
)
_UNIT_KILLED: Final = re.compile(r"killed by the OOM killer|due to memory (?:pressure|used)", re.IGNORECASE)


def told(at: float, text: str, source: str, events: list[HostEvent]) -> None:
    """Adds what one line says to the events before it; most lines say nothing that matters.

    A kill is two lines, one with the cgroups and one with the sizes: they become one event.
    """
    line = masking.text(text.strip())[:400]
    if match := _OOM.search(line):
        group = _OOM_GROUP.search(line)
        event = _kill(at, int(match[4]), match[3], source, events)
        event.where, event.limited = match[2], group[1] if group and match[1] == "CONSTRAINT_MEMCG" else ""
        event.text = event.text or line
    elif match := _KILLED.search(line):
        event = _kill(at, int(match[1]), match[2], source, events)
        event.text = line
        sizes = [int(part) for part in match.groups()[2:] if part]
        event.rss = sum(sizes) * 1024 if sizes else None
    elif match := _FAULT.search(line):
        library = _LIBRARY.search(line)
        events.append(
            HostEvent(
                at=at, kind="segfault", text=line, source=source, pid=int(match["pid"]),
                process=match["name"], where=library[1] if library else "",
            )
        )  # fmt: skip
    elif source == "journal" and _UNIT_KILLED.search(line):
        events.append(HostEvent(at=at, kind="oom-kill", text=line, source=source))
    else:
        for kind, pattern in KINDS:
            if pattern.search(line):
                device = _DEVICE.search(line) if kind in ("disk", "network") else None
                where = next((part for part in device.groups() if part), "") if device else ""
                events.append(HostEvent(at=at, kind=kind, text=line, source=source, where=where))
                return


def _kill(at: float, pid: int, name: str, source: str, events: list[HostEvent]) -> HostEvent:
    for event in reversed(events[-8:]):
        if event.kind == "oom-kill" and event.pid == pid and abs(event.at - at) < 2.0:
            return event
    event = HostEvent(at=at, kind="oom-kill", text="", pid=pid, process=name, source=source)
    events.append(event)
    return event
