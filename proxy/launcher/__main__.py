"""`python -m proxy.launcher FD`: FD is the memfd of the plan (see link/spawn.py).

`python -m proxy.launcher resume FD`: the same process with newer code; FD is the memfd of the handover.
"""

from __future__ import annotations

import os
import sys

from proxy.launcher import handover, record
from proxy.launcher.journal import Log
from proxy.launcher.launcher import Launcher
from proxy.launcher.sockets import CannotListen
from proxy.link.spawn import name_process, read_plan


def main(argv: list[str]) -> int:
    """0 after an orderly end; 1 when it could not start, and says why; 128 + signal when cut short."""
    while (spare := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass  # started without 0, 1 or 2: nothing else may take their numbers
    os.close(spare)
    _close_on_exec()
    name_process("triage")
    if argv[1] == "resume":
        return handover.resume(handover.read(int(argv[2]))).run()
    try:
        plan = read_plan(int(argv[1]))
        log = Log(quiet=plan["run"])
        lock = record.lock(plan["data_dir"])
        for pid, command in record.end_predecessor(plan["data_dir"]):
            log.warning("leftover-ended", pid=pid, command=command)
        launcher = Launcher(plan, log, lock)
        launcher.begin()
    except (CannotListen, record.InUse, OSError, ValueError, IndexError) as error:
        print(_said(error), file=sys.stderr)
        return 1
    return launcher.run()


def _said(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _close_on_exec() -> None:
    """Whatever else our parent left open is not for our children."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if int(name) > 2:
                os.set_inheritable(int(name), False)
        except OSError:
            pass


if __name__ == "__main__":
    sys.exit(main(sys.argv))
