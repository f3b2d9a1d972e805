"""What kernel and journal wrote of late that may matter: kills for memory, crashes, disks, links, the clock."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from proxy import units
from proxy.diagnostics import kernel_log
from proxy.diagnostics.artifacts import HostEvent, HostEvents
from proxy.diagnostics.collectors.contract import Collector
from proxy.diagnostics.subject import Subject

BACK: Final = units.HOURS
MOST: Final = 200
RECORDS: Final = 50_000
KMSG: Final = Path("/dev/kmsg")
PATIENCE: Final = 1.5
READ: Final = 8 * units.MIB
TELLERS: Final = ("systemd", "systemd-timesyncd", "chronyd", "ntpd", "systemd-networkd", "NetworkManager")
"""Who says of clock and links what is below a notice."""
_RAW: Final = re.compile(r"<(\d+)>\[\s*(\d+\.\d+)(?:,\d+)?\](?:\[[^\]]*\])? ?(.*)")


def _booted() -> float:
    """Wall time of 0 on the clock that the kernel's log is stamped with."""
    return time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)


def _kmsg(since: float, events: list[HostEvent]) -> None:
    """Raises OSError. Documentation/ABI/testing/dev-kmsg: "level,number,microseconds,flags;text", then more lines."""
    booted = _booted()
    file = os.open(KMSG, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        for _ in range(RECORDS):
            try:
                record = os.read(file, 8192)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.EPIPE:
                    continue  # overwritten meanwhile
                raise
            head, _, text = record.partition(b";")
            level, _, stamp, *_ = head.split(b",")
            at = booted + int(stamp) / 1e6
            if at >= since and int(level) >> 3 == 0:
                kernel_log.told(at, text.partition(b"\n")[0].decode(errors="replace"), "kernel", events)
    finally:
        os.close(file)


def _dmesg(since: float, events: list[HostEvent]) -> None:
    """The same by the system call that dmesg may use where /dev/kmsg is not there. Raises OSError."""
    program = shutil.which("dmesg")
    if program is None:
        raise FileNotFoundError(errno.ENOENT, "there is no dmesg")
    booted = _booted()
    for line in _printed([program, "--raw"]).splitlines():
        match = _RAW.match(line)
        if match and int(match[1]) >> 3 == 0 and booted + float(match[2]) >= since:
            kernel_log.told(booted + float(match[2]), match[3], "kernel", events)


def _journal(since: float, events: list[HostEvent], *, kernel: bool) -> None:
    """`kernel`: its lines are wanted too, as they could not be read otherwise. Raises OSError."""
    program = shutil.which("journalctl")
    if program is None:
        raise FileNotFoundError(errno.ENOENT, "there is no journalctl")
    fields = "--output-fields=MESSAGE,_TRANSPORT,SYSLOG_IDENTIFIER"
    common = [program, "-o", "json", "--no-pager", "-q", f"--since=@{since:.0f}", "-n", "5000", fields]
    seen: set[str] = set()
    for more in (["-p", "notice"], [word for teller in TELLERS for word in ("-t", teller)]):
        for line in _printed([*common, *more]).splitlines():
            try:
                entry: dict[str, Any] = msgspec.json.decode(line)
                at, text = int(entry["__REALTIME_TIMESTAMP"]) / 1e6, entry.get("MESSAGE")
            except (msgspec.DecodeError, KeyError, ValueError):
                continue
            mark = str(entry.get("__CURSOR"))
            from_kernel = entry.get("_TRANSPORT") == "kernel"
            if isinstance(text, str) and mark not in seen and (kernel or not from_kernel):
                seen.add(mark)
                kernel_log.told(at, text, "kernel" if from_kernel else "journal", events)


def _printed(command: list[str]) -> str:
    """Its output, up to READ bytes. Raises OSError when it fails, or takes too long."""
    try:
        run = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        raise OSError(errno.ETIMEDOUT, f"{Path(command[0]).name} took longer than {PATIENCE:g} s") from None
    if run.returncode != 0:
        said = run.stderr.decode(errors="replace").strip().splitlines()
        raise OSError(errno.EIO, said[-1][:200] if said else f"{Path(command[0]).name} ended with {run.returncode}")
    return run.stdout[-READ:].decode(errors="replace")


def collect(subject: Subject, folder: Path) -> HostEvents:
    """PermissionError when none of the sources may be read."""
    now = time.time()
    found = HostEvents(at=now, since=min(subject.input.at or now, now) - BACK)
    problems: list[str] = []
    kernel = False
    for name, read in (("/dev/kmsg", _kmsg), ("dmesg", _dmesg)):
        try:
            read(found.since, found.events)
        except OSError as error:
            problems.append(f"{name}: {(error.strerror or str(error)).lower()}")
        else:
            kernel = True
            found.sources.append(name)
            problems.clear()
            break
    try:
        _journal(found.since, found.events, kernel=not kernel)
    except OSError as error:
        problems.append(f"journal: {(error.strerror or str(error)).lower()}")
    else:
        if has_journal():
            found.sources.append("journal")
        else:
            problems.append("journal: there is none here")
    if not found.sources:
        raise PermissionError("; ".join(problems))
    found.events.sort(key=lambda event: event.at)
    if len(found.events) > MOST:
        problems.append(f"the newest {MOST} of {len(found.events)}")
        found.events = found.events[-MOST:]
    found.note = "; ".join(problems)
    return found


def has_journal() -> bool:
    """journalctl says nothing and succeeds where nothing was ever written."""
    return any(any(Path(path).glob("*/*.journal")) for path in ("/var/log/journal", "/run/log/journal"))


COLLECTOR = Collector(
    name="host_events",
    title="Kernel and journal",
    needs="/dev/kmsg or dmesg (root, or kernel.dmesg_restrict = 0), journalctl (root, or group systemd-journal)",
    cost="some ten milliseconds of CPU; nothing of the app",
    limit=12.0,
    most=2 * units.MIB,
    artifact=HostEvents,
    collect=collect,
    of="host",
    when="after",
)
