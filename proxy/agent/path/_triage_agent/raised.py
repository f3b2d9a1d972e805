"""Exceptions as they are raised, told by sys.monitoring (3.12 and later): nothing is paid where nothing is raised.

RAISE comes for each frame that an exception passes, so a frame of a library costs one look into a dictionary, and what
libraries raise and catch among themselves is not reported. The first frame of the app's own is the one that counts.

What a callback for EXCEPTION_HANDLED or RERAISE raises is looked up in the wrong place by CPython (3.12 and 3.13: the
instruction before the handler). A handler of a signal may raise at any point, also in here: that is raised again later.
"""

from __future__ import annotations

import sys

from .report import SITES, STATE, WAKE, failed, note, own
from .report import _own as known

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType
    from typing import Any

TOOLS = (4, 3)
"""Numbers that no kind of tool has by custom."""


def install() -> str:
    """How it looks, in one word; "" when another tool has both numbers."""
    if sys.version_info >= (3, 12):
        monitoring = sys.monitoring
        for tool in TOOLS:
            if monitoring.get_tool(tool) is None:
                monitoring.use_tool_id(tool, "triage")
                events = monitoring.events
                monitoring.register_callback(tool, events.RAISE, on_raise)
                monitoring.register_callback(tool, events.EXCEPTION_HANDLED, on_handled)
                monitoring.register_callback(tool, events.RERAISE, on_again)
                monitoring.set_events(tool, events.RAISE | events.EXCEPTION_HANDLED | events.RERAISE)
                return "monitoring"
    return ""


def on_raise(
    code: CodeType, offset: int, exc: BaseException, *, _known: Any = known.get, _site: Any = SITES.get, _id: Any = id
) -> None:
    """An exception begins in this frame, or has come up to it."""
    if not _known(code.co_filename) and (code.co_filename in known or not own(code.co_filename)):
        return
    try:
        tb: Any = exc.__traceback__
        inner = tb.tb_next
        while inner is not None:
            if _known(inner.tb_frame.f_code.co_filename):
                return  # told by that frame
            inner = inner.tb_next
        found = _site((_id(code), tb.tb_lasti, exc.__class__))
        if found is not None and found.fresh:
            found.raised += 1
            if STATE.idle and not found.ignored:
                WAKE[0]()
        else:
            note(exc, tb)
    except Exception as error:
        failed(error)


def on_handled(code: CodeType, offset: int, exc: BaseException, *, _known: Any = known.get) -> None:
    """A handler of the app's own takes it; `finally` and `with` do as well, and raise it again."""
    if not _known(code.co_filename):
        return
    try:
        found = _of(exc)
        if found is not None:
            found.caught += 1
    except Exception as error:
        failed(error, later=True)


def on_again(code: CodeType, offset: int, exc: BaseException, *, _known: Any = known.get) -> None:
    """It goes on its way after all."""
    if not _known(code.co_filename):
        return
    try:
        found = _of(exc)
        if found is not None and found.caught:
            found.caught -= 1
    except Exception as error:
        failed(error, later=True)


def _of(exc: BaseException, *, _known: Any = known.get, _site: Any = SITES.get, _id: Any = id) -> Any:
    """Its place, by the innermost frame of the app's own."""
    tb: Any = exc.__traceback__
    at = None
    while tb is not None:
        if _known(tb.tb_frame.f_code.co_filename):
            at = tb
        tb = tb.tb_next
    return None if at is None else _site((_id(at.tb_frame.f_code), at.tb_lasti, exc.__class__))
