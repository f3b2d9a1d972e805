"""One process whole: what its line has, and its files mapped, variables, limits, counters and cgroup."""

from __future__ import annotations

from typing import Any, Final

from proxy import masking
from proxy.diagnostics.inside import processes
from proxy.diagnostics.inside.opened import Opened, breathe, kib, shown

MAPS: Final = 4 << 20
"""Bytes that are read of what it has mapped; a line is about 100."""
MODULES: Final = 500
VARIABLES: Final = 500
ENVIRONMENT: Final = 1 << 18
VALUE: Final = 1000
STATUS: Final = {
    "VmPeak": "address space, most", "VmSize": "address space", "VmHWM": "in RAM, most", "VmRSS": "in RAM",
    "RssAnon": "in RAM, its own", "RssFile": "in RAM, of files", "RssShmem": "in RAM, shared", "VmSwap": "swapped out",
    "VmData": "data", "VmStk": "stack of its main thread", "VmPTE": "page tables", "VmLck": "locked",
    "HugetlbPages": "huge pages",
}  # fmt: skip
"""Lines of proc_pid_status(5) in kB, and what they are called here."""
COUNTS: Final = {
    "voluntary_ctxt_switches": "times it waited", "nonvoluntary_ctxt_switches": "times it was made to wait",
    "Seccomp": "seccomp mode", "NoNewPrivs": "no new privileges",
}  # fmt: skip
IO: Final = {"rchar": "read", "wchar": "written", "read_bytes": "read_from_disk", "write_bytes": "written_to_disk"}


def whole(one: Opened) -> dict[str, Any]:
    """Raises ProcessLookupError when it ended meanwhile."""
    found = processes.line(one, processes.Left())
    status = one.pairs("status")
    modules, left_out = ([], 0) if one.zombie else one.maybe("mapped files", lambda: mapped(one)) or ([], 0)
    if left_out:
        one.note(f"{left_out} more mapped files")
    counters = one.maybe("I/O", lambda: one.pairs("io")) or {}
    score = one.maybe("out-of-memory score", lambda: one.read("oom_score", 32)) or b""
    groups = one.maybe("cgroup", lambda: one.read("cgroup")) or b""
    return {
        **found,
        "exe": one.maybe("program", lambda: one.link("exe")),
        "cwd": one.maybe("working directory", lambda: one.link("cwd")),
        "root": one.maybe("root", lambda: one.link("root")),
        "nice": int(one.stat[16]),
        "session": int(one.stat[3]),
        "group": int(one.stat[2]),
        "memory_by_kind": {
            name: size for key, name in STATUS.items() if (size := kib(status, key)) is not None
        },
        "counts": {name: int(status[key]) for key, name in COUNTS.items() if status.get(key, "").isdigit()},
        "io": {name: int(counters[key]) for key, name in IO.items() if counters.get(key, "").isdigit()},
        "oom_score": int(score) if score.strip().isdigit() else None,
        "cgroups": [shown(line.split(b":", 2)[-1]) for line in groups.splitlines()[:20]],
        "limits": one.maybe("limits", lambda: limits(one)) or {},
        "environment": one.maybe("variables", lambda: variables(one)) or {},
        "modules": modules,
    }


def variables(one: Opened) -> dict[str, str]:
    """As it was started with them, masked. Raises OSError."""
    data, more = one.whole("environ", ENVIRONMENT)
    found: dict[str, str] = {}
    entries = data.split(b"\0")
    for entry in entries[: VARIABLES + 1]:
        name, equals, value = entry.decode("utf-8", "backslashreplace").partition("=")
        if equals and len(found) < VARIABLES:
            found[shown(name, 200)] = shown(masking.masked(name, value[: 4 * VALUE]), VALUE)
    if more or len(entries) > VARIABLES + 1:
        one.note(f"of its variables the first {len(found)}")
    return dict(sorted(found.items()))


def limits(one: Opened) -> dict[str, list[str]]:
    """Soft and hard by name, such as "max open files", as the kernel writes them. Raises OSError."""
    found = {}
    for line in one.read("limits").decode("ascii", "replace").splitlines()[1:]:
        found[line[:26].strip().lower()] = [line[26:47].strip(), line[47:68].strip()]
    return found


def mapped(one: Opened) -> tuple[list[dict[str, Any]], int]:
    """Files that it has mapped, programs and libraries first; and how many there are more. Raises OSError."""
    data, cut = one.whole("maps", MAPS)
    if cut:
        one.note(f"of what it has mapped the first {MAPS >> 20} MiB of lines")
    found: dict[bytes, dict[str, Any]] = {}
    for number, row in enumerate(data.splitlines()):
        breathe(number)
        fields = row.split(None, 5)
        if len(fields) < 6 or not fields[5].startswith(b"/"):
            continue
        path = fields[5]
        begin, _, end = fields[0].partition(b"-")
        module = found.setdefault(path, {"size": 0, "code": False})
        module["size"] += int(end, 16) - int(begin, 16)
        module["code"] = module["code"] or b"x" in fields[1]
    order = sorted(found.items(), key=lambda item: (not item[1]["code"], item[0]))
    chosen = [
        {
            "path": shown(path.removesuffix(b" (deleted)")), "size": module["size"], "code": module["code"],
            "deleted": path.endswith(b" (deleted)"),
        }
        for path, module in order[:MODULES]
    ]  # fmt: skip
    return chosen, len(found) - len(chosen)
