"""A time of day."""

from __future__ import annotations

from typing import Final

from proxy import units
from proxy.config.conditions import Condition
from proxy.control.autoheal import cron
from proxy.control.autoheal.contract import Kind, Seen, Series

DAY: Final = 86400.0


def look(condition: Condition, series: Series, now: float) -> Seen:
    last = series.last
    assert condition.cron is not None, "the config's reader wants it"
    if last is None:
        return Seen(False, None, 0.0, "s", "no reading yet", below=True)
    schedule = cron.parse(condition.cron)
    if schedule.matches(last.unix):
        words = f"the time of {condition.cron} has come"
        return Seen(True, 0.0, 0.0, "s", words, below=True, token=cron.local_minute(last.unix))
    following = cron.following(condition.cron, last.unix)
    if following is None:
        return Seen(False, None, 0.0, "s", f"{condition.cron} never comes", below=True)
    left = following - last.unix
    return Seen(False, left, 0.0, "s", f"{condition.cron} comes in {units.duration(left)}", below=True)


KIND = Kind(
    name="schedule",
    scope="app",
    about="The minute of `cron` (minute, hour, day, month, weekday; local time). Once a minute at most, whatever the"
    " clock does; one that is missed by less than that minute is made up for, by more it is left out.",
    look=look,
    once=True,
    example='{ schedule = { cron = "0 4 * * *" } }',
)
