"""How much memory a further process could take: of the host or the cgroup, whichever leaves less. Linux only."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ROOT: Final = Path("/sys/fs/cgroup")
MEMINFO: Final = Path("/proc/meminfo")
OWN: Final = Path("/proc/self/cgroup")


def free() -> int | None:
    """Bytes; None where nothing can be read."""
    found = [one for one in (_host(), _cgroups()) if one is not None]
    return min(found, default=None)


def _host() -> int | None:
    try:
        for line in MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return None


def _cgroups() -> int | None:
    """The tightest of ours and all above it; v2, or the memory controller of v1."""
    try:
        lines = OWN.read_text().splitlines()
    except OSError:
        return None
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, limit, usage, inactive = ROOT, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            root, limit = ROOT / "memory", "memory.limit_in_bytes"
            usage, inactive = "memory.usage_in_bytes", "total_inactive_file"
        else:
            continue
        folder = root / path.lstrip("/")
        while folder == root or root in folder.parents:
            left = _left(folder, limit, usage, inactive)
            if left is not None:
                found.append(left)
            folder = folder.parent
    return min(found, default=None)


def _left(folder: Path, limit: str, usage: str, inactive: str) -> int | None:
    """Page cache that can be given up counts as free, as it does in MemAvailable."""
    try:
        most = (folder / limit).read_text().strip()
        if most == "max" or int(most) >= 1 << 60:
            return None
        used = int((folder / usage).read_text())
        for line in (folder / "memory.stat").read_text().splitlines():
            if line.startswith(f"{inactive} "):
                used -= int(line.split()[1])
        return max(0, int(most) - used)
    except (OSError, ValueError):
        return None
