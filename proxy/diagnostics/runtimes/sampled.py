"""What a sampling profiler saw, whichever it was."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Sampled:
    """`stacks`: frames as "function (file:line)", outermost first, to how often a running thread was seen there."""

    pid: int
    how: str
    seconds: float
    rate: int  # samples a second
    possible: int  # samples taken, whether something ran or not
    stacks: dict[tuple[str, ...], int] = field(default_factory=dict)
    gil: float | None = None  # share of samples in which a thread of `pid` held the GIL
    note: str = ""
