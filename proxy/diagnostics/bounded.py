"""Calls that may never come back (a name looked up, a file system that is gone), waited for together and briefly.

Each is a thread that is left behind when it does not come back: only for a process that ends soon.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

K = TypeVar("K")
T = TypeVar("T")


def calls(of: Mapping[K, Callable[[], T]], seconds: float) -> dict[K, tuple[T | OSError, float]]:
    """What each gave or raised, and how long it took; those that did not come back in time are missing."""
    found: dict[K, tuple[T | OSError, float]] = {}

    def one(key: K, call: Callable[[], T]) -> None:
        began = time.monotonic()
        try:
            answer: T | OSError = call()
        except OSError as error:
            answer = error
        found[key] = (answer, time.monotonic() - began)

    threads = [threading.Thread(target=one, args=item, daemon=True) for item in of.items()]
    for thread in threads:
        thread.start()
    until = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return dict(found)
