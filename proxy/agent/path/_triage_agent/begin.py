"""Installs the agent: called once, by sitecustomize, before any code of the app."""

from __future__ import annotations

import sys
import time

from . import hooks, listen, report


def begin(where: str) -> None:
    """`where` is TRIAGE_AGENT: Triage's user id, a colon, and the path of the socket to report to."""
    began = time.perf_counter()
    uid, _, path = where.partition(":")
    report.STATE.path = path
    listen.STATE.uid = int(uid)
    if sys.version_info >= (3, 12):
        from . import raised

        report.STATE.how = raised.install()
    else:
        from . import rewrite

        report.STATE.how = rewrite.install()
    hooks.install()
    report.STATE.took = time.perf_counter() - began
    listen.install()
