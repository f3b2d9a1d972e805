"""Times as all shapes have them."""

from __future__ import annotations

from datetime import UTC, datetime


def iso(at: float) -> str | None:
    """UTC with milliseconds; None for 0.0, which means never."""
    if not at:
        return None
    moment = datetime.fromtimestamp(at, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def millis(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
