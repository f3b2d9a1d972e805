"""Exceptions that nobody caught, and those that a logger was given: of these the ones with no frame of the app's own,
for the others were reported where they were raised. What an asyncio loop's handler is told goes to a logger too.
"""

from __future__ import annotations

import atexit
import sys

from . import report
from .report import IGNORED, failed, flush, note, origin, site

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any


def install() -> None:
    """`threading` and `logging` are not imported for this: they are seen to when the app imports them."""
    before = sys.excepthook

    def excepthook(kind: Any, exc: Any, tb: Any) -> Any:
        uncaught(exc, tb)
        try:
            flush()
        except Exception as error:
            failed(error)
        return before(kind, exc, tb)

    sys.excepthook = excepthook
    raise_hook = sys.unraisablehook

    def unraisablehook(unraisable: Any) -> Any:
        uncaught(unraisable.exc_value, unraisable.exc_traceback)
        return raise_hook(unraisable)

    sys.unraisablehook = unraisablehook
    for name, act in (("threading", _threading), ("logging", _logging)):
        if name in sys.modules:
            act(sys.modules[name])
        else:
            _waiting[name] = act
    if _waiting:
        sys.meta_path.insert(0, _Later)
    atexit.register(_at_exit)


def uncaught(exc: BaseException | None, tb: TracebackType | None) -> None:
    """It went all the way up."""
    if exc is None or exc.__class__ in IGNORED:
        return
    try:
        at = origin(tb) or _last(tb)
        if at is None:
            return
        found = site(exc, at)
        if found is not None and not found.sampled:
            note(exc, at)
        if found is not None:
            found.uncaught += 1
    except Exception as error:
        failed(error)


def _last(tb: TracebackType | None) -> TracebackType | None:
    while tb is not None and tb.tb_next is not None:
        tb = tb.tb_next
    return tb


def _at_exit() -> None:
    try:
        flush()
    except Exception as error:
        failed(error)


def _threading(module: Any) -> None:
    before = module.excepthook

    def excepthook(args: Any) -> Any:
        uncaught(args.exc_value, args.exc_traceback)
        return before(args)

    module.excepthook = excepthook


def _logging(module: Any) -> None:
    before = module.getLogRecordFactory()

    def factory(*args: Any, **more: Any) -> Any:
        record = before(*args, **more)
        if record.exc_info:
            logged(record.exc_info)
        return record

    module.setLogRecordFactory(factory)


def logged(info: Any) -> None:
    """A logger writes it down."""
    try:
        exc = info[1] if isinstance(info, tuple) and len(info) == 3 else None
        if exc is None or exc.__class__ in IGNORED or origin(info[2]) is not None:
            return
        at = _last(info[2])
        if at is not None:
            note(exc, at, True)
    except Exception as error:
        failed(error)


_waiting: dict[str, Callable[[Any], None]] = {}


class _Later:
    """In sys.meta_path until all it waits for are imported: lets the others find a module, and acts once it is run."""


    @classmethod
    def find_spec(cls, name: str, path: Any = None, target: Any = None) -> Any:
        act = _waiting.pop(name, None)
        if act is None:
            return None
        if not _waiting and cls in sys.meta_path:
            sys.meta_path.remove(cls)
        try:
            for finder in list(sys.meta_path):
                if finder is cls:
                    continue
                spec = finder.find_spec(name, path, target)
                if spec is not None:
                    if spec.loader is not None and hasattr(spec.loader, "exec_module"):
                        spec.loader = _After(spec.loader, act)  # type: ignore[assignment]
                    return spec
        except Exception as error:
            failed(error)
        return None


class _After:
    """A loader that goes back to what it was once the module is run."""

    def __init__(self, loader: Any, act: Callable[[Any], None]) -> None:
        self._loader = loader
        self._act = act

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: Any) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        try:
            self._act(module)
        except Exception as error:
            report.STATE.failures += 1
            report.STATE.error = str(error)
