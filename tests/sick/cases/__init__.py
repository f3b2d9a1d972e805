"""All cases, by kind."""

from typing import Final

from tests.sick.case import Case
from tests.sick.cases.endings import ENDINGS
from tests.sick.cases.healthy import HEALTHY
from tests.sick.cases.short import SHORTAGES
from tests.sick.cases.stuck import STUCK
from tests.sick.cases.traffic import TRAFFIC
from tests.sick.cases.two import TWO
from tests.sick.cases.wire import WIRE

CASES: Final[tuple[Case, ...]] = (*ENDINGS, *STUCK, *SHORTAGES, *WIRE, *TRAFFIC, *TWO, *HEALTHY)

__all__ = ["CASES"]
