"""What autoheal did, or would have done: one value per time a rule fired."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Act:
    """`id` is given by the store; it grows."""

    rule: str
    app: str
    instance: str = ""  # "": the app as a whole
    value: str = ""  # what the rule saw: "24 requests slower than 5 s in 1m"
    reason: str = ""
    outcomes: tuple[tuple[str, str], ...] = ()  # (action, what came of it), in the order of the chain
    operation: str = ""
    dry: bool = False  # dry_run: nothing was done
    details: dict[str, Any] = field(default_factory=dict)
    at: float = field(default_factory=time.time)  # Unix seconds
    id: int = 0
