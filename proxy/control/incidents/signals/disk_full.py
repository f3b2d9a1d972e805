"""The disk with data_dir is full: nothing more is kept, and apps on it may fail too."""

from __future__ import annotations

from proxy import units
from proxy.control.incidents.contract import Found, Signal
from proxy.control.incidents.scene import HostScene
from proxy.control.incidents.signals.disk import FULL


def look(scene: HostScene) -> Found | None:
    host = scene.host
    if host is None or host.disk_free is None or not host.disk_size or host.disk_free >= FULL:
        return None
    return Found(
        "disk-full", f"the disk with {host.disk_path} is full: {units.size(host.disk_free)} free", "degraded",
        "certain", scene.unix,
    )  # fmt: skip


SIGNAL = Signal("disk-full", "host", "less than 8 MB is free on data_dir's disk", look)
