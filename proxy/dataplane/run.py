"""A worker's process: `python -m proxy.dataplane.run FD`, FD being its end of the channel to control."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import socket
import sys
import traceback
from typing import Any

import uvloop

from proxy.dataplane.account import settle
from proxy.dataplane.control import ControlLink
from proxy.dataplane.log import log, name

_PR_SET_NAME = 15
# mallopt(3). A read is up to 256 KB, above the default threshold for a mapping of its own; and a heap whose top is
# given back at each free is grown again at the next read: one brk and its page faults for two reads of a large body.
# So reads come from the heap, and up to 16 MiB of it are kept (1 MiB body: 558 µs before, 420 after).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEEP_HEAP, _FROM_HEAP = 16 << 20, 1 << 20


def main(fd: int) -> int:
    """Serve until drained, or until control's end of the channel is closed for good."""
    sock = socket.socket(fileno=fd)
    os.set_inheritable(fd, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _keep_heap()
    loop = uvloop.new_event_loop()
    loop.set_exception_handler(_told)
    link = ControlLink(loop, sock, loop.stop)

    def terminate() -> None:
        if link.worker is not None and not link.worker.draining:
            loop.create_task(link.worker.drain(link.worker.settings.drain_timeout, 2.0))

    loop.add_signal_handler(signal.SIGTERM, terminate)
    # What lives now lives for ever: it need not be looked through. Connections break their cycles when they end,
    # so full collections are rare, and none is long enough to be a stall.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)
    loop.call_later(0.2, lambda: _name_process(link))
    try:
        loop.run_forever()
    finally:
        if link.worker is not None and link.worker.log is not None:
            settle(link.worker)
            link.worker.log.close()
    os._exit(0)


def _keep_heap() -> None:
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # glibc's
        libc.mallopt(_M_MMAP_THRESHOLD, _FROM_HEAP)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEEP_HEAP)


def _name_process(link: ControlLink) -> None:
    column = link.worker.column + 1 if link.worker is not None else 0
    title = f"triage-worker{column}" if column else "triage-worker"
    name(title)
    ctypes.CDLL(None).prctl(_PR_SET_NAME, title.encode()[:15], 0, 0, 0)


def _told(_loop: Any, context: dict[str, Any]) -> None:
    """A defect of ours: into the log, with where it happened."""
    error = context.get("exception")
    if isinstance(error, ConnectionError):
        return
    trace = "".join(traceback.format_exception(error)) if error is not None else ""
    log("internal-error", level="error", why=str(context.get("message")), trace=trace)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
