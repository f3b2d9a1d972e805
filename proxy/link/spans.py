"""What workers and control both know of traces: which are sampled, and how the span of an attempt is called.

The span of a request has the request's id (16 hex digits, no other request has it). The span of its n-th attempt has
the same digits but for the ninth and tenth: these are the highest of the Unix second in an id, below 80 until 2038, and
a0 and what follows in an attempt's.
"""

from __future__ import annotations

from typing import Final

_RANDOM: Final = 1 << 56
"""The last 14 hex digits of a trace id are the random ones (W3C Trace Context level 2)."""
_ATTEMPTS: Final = 95


def threshold(share: float) -> int:
    """For `sampled`: of all traces this share (0 to 1) has at least so much in its random digits."""
    return round((1.0 - min(max(share, 0.0), 1.0)) * _RANDOM)


def sampled(trace: str, threshold: int) -> bool:
    """Whether a trace (32 hex digits) is sampled, by OpenTelemetry's rule: whoever asks with the same share agrees."""
    return int(trace[18:], 16) >= threshold


def attempt_span(request: str, number: int) -> str:
    """The span id of a request's attempt; the first has the number 1."""
    return f"{request[:8]}{0xA0 + min(number, _ATTEMPTS):02x}{request[10:]}"
