"""The disk with data_dir is nearly full."""

from __future__ import annotations

from typing import Final

from proxy import units
from proxy.control.incidents.contract import Found, Signal
from proxy.control.incidents.scene import HostScene

SHARE: Final = 0.05
MOST: Final = units.GB
LEAST: Final = 64 * units.MB
"""Nearly full: less free than 5 %, but a gigabyte is enough on any disk, and 64 MB on none."""
FULL: Final = 8 * units.MB
INODES: Final = 0.01


def look(scene: HostScene) -> Found | None:
    host = scene.host
    if host is None or host.disk_free is None or not host.disk_size:
        return None
    if host.inodes and host.inodes_free is not None and host.inodes_free < INODES * host.inodes:
        return Found(
            "disk", f"the disk with {host.disk_path} has {host.inodes_free:,} inodes left of {host.inodes:,}",
            "degraded", "certain", scene.unix,
        )  # fmt: skip
    low = max(LEAST, min(MOST, SHARE * host.disk_size))
    if not FULL <= host.disk_free < low:
        return None
    free = f"{units.size(host.disk_free)} of {units.size(host.disk_size)} free"
    return Found("disk", f"the disk with {host.disk_path} is nearly full: {free}", "degraded", "certain", scene.unix)


SIGNAL = Signal(
    "disk", "host", "less than 5 % (1 GB at most, 64 MB at least) is free on data_dir's disk", look,
    touches=False,
)
