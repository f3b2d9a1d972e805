"""A schedule of minute, hour, day, month, weekday, in local time. Pure: moments are Unix seconds.

As in crontab(5): when both day and weekday are restricted, either is enough; 0 and 7 are Sunday. A minute that a change
of the clock leaves out does not come; one that comes twice has the same `local_minute` twice.
"""

from __future__ import annotations

import calendar
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

LOOK: Final = 366 * 4 + 1
"""Days that `following` looks ahead: a 29 February comes within."""
_RANGES: Final = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


@dataclass(frozen=True, slots=True)
class Schedule:
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]  # 0 is Sunday
    either: bool  # day or weekday is enough

    def day(self, year: int, month: int, day: int) -> bool:
        if month not in self.months:
            return False
        by_day = day in self.days
        by_weekday = (calendar.weekday(year, month, day) + 1) % 7 in self.weekdays
        return by_day or by_weekday if self.either else by_day and by_weekday

    def matches(self, unix: float) -> bool:
        """Whether the minute that `unix` lies in is one of it."""
        at = time.localtime(unix)
        return at.tm_min in self.minutes and at.tm_hour in self.hours and self.day(at.tm_year, at.tm_mon, at.tm_mday)


@lru_cache(maxsize=256)
def parse(text: str) -> Schedule:
    """A text that the config's reader let pass; raises ValueError else."""
    fields = text.split()
    if len(fields) != len(_RANGES):
        raise ValueError(f"{text!r} is no schedule of five fields")
    parts = [_numbers(one, *range_) for one, range_ in zip(fields, _RANGES, strict=True)]
    minutes, hours, days, months, weekdays = parts
    either = not fields[2].startswith("*") and not fields[4].startswith("*")
    return Schedule(
        tuple(sorted(minutes)), tuple(sorted(hours)), days, months, frozenset(day % 7 for day in weekdays), either
    )


def _numbers(field: str, least: int, most: int) -> frozenset[int]:
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        low = least if first == "*" else int(first)
        high = int(last) if last else (most if first == "*" or step else low)
        if not least <= low <= high <= most:
            raise ValueError(f"{part!r} is not within {least} to {most}")
        found.update(range(low, high + 1, int(step or 1)))
    return frozenset(found)


def local_minute(unix: float) -> float:
    """The local time of that minute as a number that grows with it; an hour that comes twice has the same twice."""
    at = time.localtime(unix)
    return float(calendar.timegm((at.tm_year, at.tm_mon, at.tm_mday, at.tm_hour, at.tm_min, 0)))


def following(text: str, unix: float) -> float | None:
    """The start of the first matching minute after that of `unix`; None: there is none in four years."""
    return _following(text, int(unix // 60))


@lru_cache(maxsize=256)
def _following(text: str, minute: int) -> float | None:
    schedule = parse(text)
    at = time.localtime(minute * 60)
    for ahead in range(LOOK):
        date = time.localtime(time.mktime((at.tm_year, at.tm_mon, at.tm_mday + ahead, 12, 0, 0, 0, 0, -1)))
        if not schedule.day(date.tm_year, date.tm_mon, date.tm_mday):
            continue
        for hour in schedule.hours:
            for minute_ in schedule.minutes:
                found = time.mktime((date.tm_year, date.tm_mon, date.tm_mday, hour, minute_, 0, 0, 0, -1))
                if found >= (minute + 1) * 60 and schedule.matches(found):
                    return found
    return None
