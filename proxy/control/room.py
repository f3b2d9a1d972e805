"""How much memory a further process could take: of the host or the cgroup, whichever leaves less. Linux only."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ROOT: Final = Path("/sys/fs/cgroup")
MEMINFO: Final = Path("/proc/meminfo")
OWN: Final = Path("/proc/self/cgroup")
SHORT: Final = 0.1
"""Share of the host's memory that is left."""


def free() -> int | None:
    """Bytes; None where nothing can be read."""
    found = [one for one in (_host(), _cgroups()) if one is not None]
    return min(found, default=None)


def short() -> bool:
    """Whether the host has next to no memory left, as it must have before the kernel kills for it."""
    try:
        fields = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines())
        return int(fields["MemAvailable"].split()[0]) < SHORT * int(fields["MemTotal"].split()[0])
    except (OSError, ValueError, KeyError):
        return True


def memory_cgroup() -> Path | None:
    """The folder of the cgroup that this process's memory is counted in."""
    return next((folder for _, folder in _own()), None)


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
    found = []
    for root, folder in _own():
        v1 = root != ROOT
        limit, usage = ("memory.limit_in_bytes", "memory.usage_in_bytes") if v1 else ("memory.max", "memory.current")
        inactive = "total_inactive_file" if v1 else "inactive_file"
        while folder == root or root in folder.parents:
            left = _left(folder, limit, usage, inactive)
            if left is not None:
                found.append(left)
            folder = folder.parent
    return min(found, default=None)


def _own() -> list[tuple[Path, Path]]:
    """(root, folder) of our cgroup in the memory controller of v1 and in the hierarchy of v2, whichever are there."""
    try:
        lines = OWN.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "" or "memory" in controllers.split(","):
            root = ROOT / "memory" if controllers else ROOT
            found.append((root, root / path.lstrip("/")))
    return found


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
