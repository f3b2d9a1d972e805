"""The rules that are on by default, for each app: hung, slow, memory.

A rule of the config for the same thing wins, unless it is a dry run: then the built-in one is off, and says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from proxy import units
from proxy.config import App
from proxy.config.conditions import Condition, Step
from proxy.control.autoheal import watched
from proxy.control.autoheal.conditions import KINDS
from proxy.control.autoheal.contract import Kind, Seen, Series
from proxy.control.autoheal.rules import Rule
from proxy.control.autoheal.window import unknown, window
from proxy.link.messages import Watch

TIMEOUTS: Final = ("head-timeout", "send-timeout", "total-timeout")
"""Faults of a request that waited on an instance for all the time it was given."""
IMPATIENT: Final = 2.0
"""Times `first_byte`: if every client leaves before a timeout ends its request, silence must last so much longer."""
NEARLY: Final = 0.9
MOST: Final = 0.8
FEW: Final = 5
SLOW_WITHIN: Final = 120.0
"""The figures of Azure's proactive auto-heal: 5 requests and 80 % of them in 120 s; memory over 90 % for 30 s."""
GETS_WELL: Final = 5.0
"""Seconds beyond `first_byte` after which a replacement that answers counts as well."""


def _timeouts() -> Watch:
    return watched.fault(TIMEOUTS)


def look_hung(condition: Condition, series: Series, now: float) -> Seen:
    """`above` is first_byte."""
    limit = condition.above or 0.0
    last = series.last
    if last is None:
        return unknown(condition, limit, "s", "no reading yet")
    silent = last.at - last.answered if last.answered else last.age
    key = _timeouts().key
    before = series.before(last.at - silent)
    ended = last.watched.get(key, 0) - (before.watched.get(key, 0) if before is not None else 0)
    waited = last.waiting or last.oldest_wait
    asked = ended > 0 or last.oldest_wait >= limit or waited >= IMPATIENT * limit
    if not waited and not ended:
        return Seen(False, 0.0, limit, "s", "no request waits for it to answer")
    value = min(silent, max(waited, limit if ended else 0.0))
    words = f"nothing answered for {units.duration(silent)} while requests waited"
    if ended > 0:
        words += f", {units.count(ended)} of them to their timeout"
    return Seen(silent >= limit and asked, value, limit, "s", words)


def look_slow(condition: Condition, series: Series, now: float) -> Seen:
    """`above` is what counts as slow: most of first_byte."""
    found = window(series, now, condition.within)
    if found is None:
        return unknown(condition, MOST, "ratio", "no reading yet")
    key = watched.slow(condition.above or 0.0).key
    slow = found.grown(lambda reading: reading.watched.get(key, 0))
    requests = max(slow, found.grown(lambda reading: reading.requests))
    words = f"{units.count(slow)} of {units.count(requests)} requests waited over"
    words += f" {units.duration(condition.above or 0.0)} in the last {units.write_duration(condition.within)}"
    if requests < FEW:
        return unknown(condition, MOST, "ratio", f"{words}, too few to say: {FEW} are needed")
    return Seen(slow / requests >= MOST, slow / requests, MOST, "ratio", words)


HUNG: Final = Kind(
    name="hung",
    scope="instance",
    about="Nothing at all answered for as long as `timeouts.first_byte`, while a request waited that long: no response"
    " head, no content of a stream, no passed probe of `health.path`. If every client leaves before that: twice as"
    " long.",
    look=look_hung,
    watches=lambda condition: (_timeouts(),),
    recorded=lambda condition: "when in these 10 s it answered last",
)
SLOW: Final = Kind(
    name="slow",
    scope="instance",
    about="Of at least 5 requests within 2 min, 80 % waited over 90 % of `timeouts.first_byte` for the response head,"
    " or were ended by it.",
    look=look_slow,
    watches=lambda condition: (watched.slow(condition.above or 0.0),),
)
MEMORY: Final = KINDS["memory"]
ABOUT: Final[dict[str, str]] = {
    "hung": HUNG.about,
    "slow": SLOW.about,
    "memory": "For 30 s more than 90 % of the instance's memory limit; without a limit, of what it uses and the host or"
    " the cgroup still has.",
}
SAME: Final = {"hung": "stuck", "slow": "slow", "memory": "memory"}
"""What kind of a configured rule is for the same thing."""

_THEN: Final = (Step("collect"), Step("recycle"))


def rules(name: str, app: App) -> Iterable[Rule]:
    """The built-in rules of an app."""
    first_byte = app.timeouts.first_byte
    wanted = app.process.instances if app.process is not None else len(app.addresses)
    often = max(6, 2 * wanted)
    able = app.process is not None or app.recycle is not None
    none = "" if able else f"apps.{name}.recycle is not set, so it can do nothing"

    def off(builtin: str) -> str:
        winner = next((one.name for one in app.autoheal if one.when.kind == SAME[builtin] and not one.dry_run), "")
        return f"a rule of yours for the same thing, {winner}, wins" if winner else none

    yield Rule(
        "hung", name, Condition("hung", above=first_byte, within=2 * first_byte + 10), HUNG, _THEN,
        min_age=0.0, cooldown=max(60.0, 2 * first_byte), max_per_hour=often, builtin=True, longest=1800.0,
        one_first=True, why="it hangs", about=ABOUT["hung"], off=off("hung"),
    )  # fmt: skip
    yield Rule(
        "slow", name, Condition("slow", above=NEARLY * first_byte, within=SLOW_WITHIN, count=FEW), SLOW, _THEN,
        min_age=SLOW_WITHIN, cooldown=600.0, max_per_hour=often, builtin=True, one_first=True,
        why="most of its requests are too slow", about=ABOUT["slow"], off=off("slow"),
    )  # fmt: skip
    yield Rule(
        "memory", name, Condition("memory", above=0.9, relative=True, for_=30.0), MEMORY, _THEN,
        min_age=60.0, cooldown=300.0, max_per_hour=often, builtin=True,
        why="its memory runs out", about=ABOUT["memory"], off=off("memory"),
    )  # fmt: skip
