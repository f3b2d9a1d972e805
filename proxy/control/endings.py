"""Asking a process tree that does not end for its stacks, before it is killed.

SIGABRT goes only to those processes that catch it, as Python's faulthandler does: others would write a core file of
their whole memory, or just die, which the kill that follows does as well.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from proxy.control import sampling

_ABORT = 1 << (signal.SIGABRT - 1)


def abort(root: int) -> list[int]:
    """Send SIGABRT to those of the tree below `root` that catch it; who they are. Slow: for a thread."""
    sent = []
    for pid in sampling.trees(sampling.sweep(), {"": root}).get("", ()):
        try:
            handle = os.pidfd_open(pid)
        except OSError:
            continue
        try:
            if catches_abort(pid):
                signal.pidfd_send_signal(handle, signal.SIGABRT)
                sent.append(pid)
        except OSError:
            continue
        finally:
            os.close(handle)
    return sent


def catches_abort(pid: int) -> bool:
    """By its mask of caught signals, proc(5)."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) & _ABORT)
    except (OSError, ValueError):
        pass
    return False
