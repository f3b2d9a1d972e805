"""How often who shows wrong tokens may try: so many a minute for each address, whoever else does what.

Always true:
  - an address that does wrong never slows another one down, nor the Unix socket;
  - it remembers MOST_SOURCES addresses at most, the latest.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict, deque
from typing import Final

MOST_WRONG: Final = 20
"""Within WINDOW: a person mistypes a few times; a token of 256 bits is not found by any number of tries."""
WINDOW: Final = 60.0
MOST_SOURCES: Final = 2000


class Tries:
    """Wrong tries by source. `now` is monotonic."""

    def __init__(self) -> None:
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._wrong)

    def wait(self, source: str, now: float) -> float:
        """Seconds until it may try again; 0.0: it may."""
        wrong = self._wrong.get(source)
        if wrong is None or len(wrong) < MOST_WRONG:
            return 0.0
        return max(0.0, WINDOW - (now - wrong[0]))

    def wrong(self, source: str, now: float) -> None:
        """It has just shown something that nobody has."""
        self._wrong.setdefault(source, deque(maxlen=MOST_WRONG)).append(now)
        self._wrong.move_to_end(source)
        while len(self._wrong) > MOST_SOURCES:
            self._wrong.popitem(last=False)


def source_of(address: str) -> str:
    """What an address counts as: IPv6 by its /64, of which anybody has all; IPv4 within IPv6 as IPv4."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        if not found.is_loopback:
            return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)
