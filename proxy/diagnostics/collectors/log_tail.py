"""What the instance printed last, from its files."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from proxy import masking, units
from proxy.diagnostics.artifacts import LogFile, LogTail
from proxy.diagnostics.collectors.contract import Collector
from proxy.diagnostics.subject import Subject

LINES: Final = 200
BYTES: Final = 64 * units.KIB


def tail(path: str) -> LogFile:
    """The last lines of a file, masked."""
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        start = max(0, size - BYTES)
        file.seek(start)
        data = file.read(BYTES)
    if start:  # the first line is not whole
        data = data.partition(b"\n")[2]
    lines = data.decode(errors="replace").splitlines()
    cut = start > 0 or len(lines) > LINES
    return LogFile(path=path, size=size, lines=[masking.text(line) for line in lines[-LINES:]], cut=cut)


def collect(subject: Subject, folder: Path) -> LogTail:
    logs = subject.instance.logs if subject.instance is not None else []
    there = [path for path in logs if os.path.exists(path)]
    found = LogTail(at=time.time(), files=[tail(path) for path in there])
    if not there:
        found.note = "it printed nothing that was kept"
    text = "".join(f"==> {one.path} <==\n" + "".join(f"{line}\n" for line in one.lines) for one in found.files)
    (folder / "log_tail.txt").write_text(text)
    return found


COLLECTOR = Collector(
    name="log_tail",
    title="Last output",
    needs="the instance's files under data_dir/logs/instances",
    cost="one read of 64 KiB each",
    limit=3.0,
    most=4 * units.MIB,
    artifact=LogTail,
    collect=collect,
    when="after",
    quick=True,
)
