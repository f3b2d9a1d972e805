"""Conditions over made-up series: pure, so each case is a few numbers."""

import time

import pytest

from proxy.config import parse
from proxy.config.conditions import ALERTS_ONLY, AMOUNTS, Condition
from proxy.control.autoheal import builtin, conditions, cron
from proxy.control.autoheal.contract import CONFIG, FILES, Reading, Seen
from proxy.control.autoheal.series import Thinned
from proxy.control.autoheal.spell import GAP, Spell

NOW = 5000.0


def series(*readings: Reading) -> Thinned:
    found = Thinned(90_000)
    for one in readings:
        found.add(one)
    return found


def grew(seconds: float = 60.0, **fields: object) -> Thinned:
    """A series at whose start all counts were 0, and that has these values now."""
    return series(Reading(at=NOW - seconds), Reading(at=NOW, **fields))  # type: ignore[arg-type]


def look(condition: Condition, found: Thinned, now: float = NOW) -> Seen:
    return conditions.look(condition, found, now)


def key(condition: Condition) -> str:
    (watch,) = conditions.watches(condition)
    return watch.key


def test_every_kind_of_the_config_has_a_file() -> None:
    assert [*conditions.KINDS, *ALERTS_ONLY] == list(AMOUNTS)


@pytest.mark.slow
def test_every_example_is_valid_and_can_be_looked_at() -> None:
    for kind in conditions.KINDS.values():
        if kind.name in ("queue", "inflight"):
            continue
        rule = f'[[apps.a.autoheal]]\nname = "r"\nwhen = {kind.example}\nthen = ["recycle"]'
        config = parse(f'[apps.a.process]\ncommand = "x"\nuser = "root"\n{rule}', "/tmp/config.toml")
        condition = config.apps["a"].autoheal[0].when
        assert not look(condition, Thinned()).met, "without a reading nothing is met"
        assert look(condition, grew()).words


def test_the_same_question_has_the_same_key() -> None:
    one = Condition("slow", above=5.0, path="/api/*", count=3)
    other = Condition("slow", above=5.0, path="/api/*", count=99, within=5.0)
    assert conditions.watches(one) == conditions.watches(other)
    assert conditions.watches(one) != conditions.watches(Condition("slow", above=5.5, path="/api/*"))
    codes = Condition("status", codes=((500, 599), (404, 404))), Condition("status", codes=((404, 404), (500, 599)))
    assert conditions.watches(codes[0]) == conditions.watches(codes[1])
    assert len(conditions.all_watches([one, other, *codes])) == 2


@pytest.mark.parametrize(("number", "met"), [(19, False), (20, True), (500, True)])
def test_slow_counts_at_least(number: int, met: bool) -> None:
    condition = Condition("slow", above=5.0, count=20)
    seen = look(condition, grew(watched={key(condition): number}))
    assert (seen.met, seen.value, seen.threshold) == (met, number, 20)
    assert f"{number} requests waited over 5 s" in seen.words


def test_slow_below_needs_the_whole_time() -> None:
    condition = Condition("slow", below=5.0, within=60.0)
    assert look(condition, grew(60.0)).met
    assert not look(condition, grew(60.0, watched={key(condition): 1})).met
    assert not look(condition, grew(20.0)).met, "the 40 s before are not known"


def test_what_was_before_the_window_does_not_count() -> None:
    condition = Condition("requests", above=10, within=60.0)
    found = series(Reading(at=NOW - 300), Reading(at=NOW - 61, requests=1000), Reading(at=NOW, requests=1005))
    assert look(condition, found).value == 5


def test_a_count_that_went_back_is_nothing() -> None:
    found = series(Reading(at=NOW - 60, requests=1000), Reading(at=NOW, requests=10))
    assert look(Condition("requests", above=10), found).value == 0


def test_requests_below_and_by_path() -> None:
    few = Condition("requests", below=10, within=60.0)
    assert look(few, grew(60.0, requests=9)).met
    assert not look(few, grew(60.0, requests=10)).met
    assert not look(few, grew(30.0, requests=0)).met
    path = Condition("requests", above=10, path="/a*")
    assert look(path, grew(requests=999, watched={key(path): 11})).met
    assert not look(path, grew(requests=999)).met


def test_status_by_classes_and_by_codes() -> None:
    classes = Condition("status", codes=((500, 599),), count=3)
    assert look(classes, grew(classes=(0, 9, 0, 0, 3, 0))).met
    assert not look(classes, grew(classes=(0, 9, 0, 9, 2, 9))).met
    fine = Condition("status", codes=((502, 504),), count=3)
    assert not look(fine, grew(classes=(0, 0, 0, 0, 99, 0))).met
    assert look(fine, grew(watched={key(fine): 3})).met


def test_fault_and_fault_ratio() -> None:
    fault = Condition("fault", names=("head-timeout", "connect-refused"), count=5)
    assert look(fault, grew(faults={"head-timeout": 3, "connect-refused": 2, "client-left": 99})).met
    assert not look(fault, grew(faults={"head-timeout": 4})).met
    ratio = Condition("fault_ratio", above=0.5, relative=True, count=10)
    assert look(ratio, grew(requests=10, faults={"app-error": 6})).met
    assert not look(ratio, grew(requests=10, faults={"app-error": 5})).met
    assert look(ratio, grew(requests=9, faults={"app-error": 9})).value is None, "too few to say"
    assert look(ratio, grew(requests=100, faults={"client-left": 90, "stopped": 9})).value == 0, "nobody's failure"
    assert look(ratio, grew(requests=0, faults={"head-timeout": 12})).value == 1.0, "failed here, ended elsewhere"
    paths = Condition("fault_ratio", above=0.5, relative=True, path="/a", count=1)
    asked, failed = (watch.key for watch in conditions.watches(paths))
    assert look(paths, grew(watched={asked: 10, failed: 6})).met


def test_gauges() -> None:
    assert look(Condition("memory", above=1000), grew(memory=1001)).met
    assert not look(Condition("memory", above=1000), grew(memory=1000)).met
    assert look(Condition("memory", above=0.9, relative=True), grew(memory=91, memory_limit=100)).met
    unknown = look(Condition("memory", above=0.9, relative=True), grew(memory=91))
    assert unknown.value is None and not unknown.met
    assert look(Condition("memory", below=0.9, relative=True), grew()).met is False, "not known is not little"
    assert look(Condition("stuck", above=5.0), grew(oldest_wait=5.1)).met
    assert look(Condition("age", above=60.0), grew(age=61.0)).met
    assert look(Condition("descriptors", above=0.8, relative=True), grew(descriptors=9, descriptor_limit=10)).met
    assert look(Condition("queue", above=10), grew(queue=11)).met
    assert look(Condition("inflight", above=0.5, relative=True), grew(inflight=6, slots=10)).met
    assert look(Condition("inflight", above=0.5, relative=True), grew(inflight=6)).value is None
    assert look(Condition("unhealthy", above=0), grew(unhealthy=1, instances=4)).met
    assert not look(Condition("unhealthy", above=0.25, relative=True), grew(unhealthy=1, instances=4)).met
    assert look(Condition("crashes", above=2), grew(exits=3)).met


def test_cpu_is_a_mean_and_needs_its_time() -> None:
    condition = Condition("cpu", above=0.7, relative=True, within=60.0)
    start = Reading(at=NOW - 60, cpu_seconds=100.0, cpu_limit=2.0)
    assert look(condition, series(start, Reading(at=NOW, cpu_seconds=190.0, cpu_limit=2.0))).met
    assert not look(condition, series(start, Reading(at=NOW, cpu_seconds=180.0, cpu_limit=2.0))).met
    young = series(Reading(at=NOW - 20, cpu_seconds=0.0), Reading(at=NOW, cpu_seconds=40.0, cpu_limit=2.0))
    assert look(condition, young).value is None
    lasting = Condition("cpu", above=0.7, relative=True, for_=60.0)
    assert look(lasting, young).met, "with `for`, 10 s are enough to look at"


def test_changed_tells_which_change() -> None:
    condition = Condition("changed")
    assert not look(condition, grew()).met
    seen = look(condition, grew(changes={FILES: NOW - 5, CONFIG: NOW - 30}))
    assert seen.met and seen.token == NOW - 5
    assert not look(condition, grew(changes={FILES: NOW - 61})).met
    own = Condition("changed", files=("a", "b"))
    assert not look(own, grew(changes={FILES: NOW - 5})).met
    assert look(own, grew(changes={"a\nb": NOW - 5})).met


# --- schedules -------------------------------------------------------------------------------------------


def at(text: str) -> float:
    return time.mktime(time.strptime(text, "%Y-%m-%d %H:%M:%S"))


@pytest.mark.parametrize(
    ("schedule", "moment", "met"),
    [
        ("0 3 * * *", "2026-11-23 03:00:00", True),
        ("0 3 * * *", "2026-11-23 03:00:59", True),
        ("0 3 * * *", "2026-11-23 03:01:00", False),
        ("*/15 * * * *", "2026-11-23 10:45:10", True),
        ("*/15 * * * *", "2026-11-23 10:46:10", False),
        ("5-10/2 * * * *", "2026-11-23 10:07:10", True),
        ("5-10/2 * * * *", "2026-11-23 10:08:10", False),
        ("30 8 * * 1", "2026-11-23 08:30:00", True),  # a Monday
        ("30 8 * * 0", "2026-11-22 08:30:00", True),  # a Sunday
        ("30 8 * * 7", "2026-11-22 08:30:00", True),
        ("30 8 1 * 1", "2026-11-23 08:30:00", True),  # day or weekday
        ("30 8 1 * *", "2026-11-23 08:30:00", False),
        ("0 0 29 2 *", "2028-02-29 00:00:30", True),
        ("0 12 * 1,6-8 *", "2026-07-04 12:00:00", True),
        ("0 12 * 1,6-8 *", "2026-11-04 12:00:00", False),
    ],
)
def test_a_schedule(schedule: str, moment: str, met: bool) -> None:
    unix = at(moment)
    seen = look(Condition("schedule", cron=schedule), series(Reading(at=NOW, unix=unix)))
    assert seen.met is met
    following = cron.following(schedule, unix)
    assert following is not None and following > unix and cron.parse(schedule).matches(following)


def test_the_following_minute() -> None:
    assert cron.following("0 3 * * *", at("2026-11-23 03:00:30")) == at("2026-11-24 03:00:00")
    assert cron.following("0 0 29 2 *", at("2026-11-23 03:00:30")) == at("2028-02-29 00:00:00")
    assert cron.following("0 0 31 2 *", at("2026-11-23 03:00:30")) is None


def test_a_minute_has_one_token_and_later_ones_higher() -> None:
    condition = Condition("schedule", cron="* * * * *")
    tokens = [
        look(condition, series(Reading(at=NOW, unix=at(f"2026-11-23 03:{minute:02}:{second:02}")))).token
        for minute in (1, 2) for second in (0, 30, 59)
    ]  # fmt: skip
    assert tokens == sorted(tokens) and len(set(tokens)) == 2


# --- for -------------------------------------------------------------------------------------------------


def test_for_counts_what_is_met_without_a_break() -> None:
    spell = Spell()
    assert [spell.update(met, now) for now, met in ((1.0, True), (2.0, True), (5.0, True))] == [0.0, 1.0, 4.0]
    assert spell.update(False, 6.0) == 0.0
    assert spell.update(True, 7.0) == 0.0
    assert spell.update(True, 8.0) == 1.0


def test_for_begins_anew_after_a_gap_and_when_time_went_back() -> None:
    spell = Spell()
    spell.update(True, 100.0)
    assert spell.update(True, 100.0 + GAP) == GAP
    assert spell.update(True, 100.0 + 3 * GAP) == 0.0
    assert spell.update(True, 50.0) == 0.0


# --- hung, slow ------------------------------------------------------------------------------------------

HUNG = Condition("hung", above=30.0, within=70.0)
TIMED_OUT = builtin.watched.fault(builtin.TIMEOUTS).key


def hung(**fields: object) -> Seen:
    return builtin.look_hung(HUNG, grew(70.0, **fields), NOW)


def test_hung_needs_silence_and_a_request_that_waited_so_long() -> None:
    silent = {"answered": NOW - 31}
    assert hung(**silent, oldest_wait=30.2, waiting=30.2).met
    assert hung(**silent, watched={TIMED_OUT: 1}).met, "it had its 504 already"
    assert not hung(**silent, oldest_wait=20.0, waiting=20.0).met
    assert not hung(answered=NOW - 5, oldest_wait=31.0, waiting=31.0, watched={TIMED_OUT: 3}).met, "others are answered"
    assert not hung(**silent).met, "nobody asks"
    assert not hung(answered=NOW - 29, watched={TIMED_OUT: 1}).met


def test_hung_of_one_that_never_answered_counts_from_when_it_was_ready() -> None:
    assert hung(age=40.0, watched={TIMED_OUT: 1}).met
    assert not hung(age=20.0, watched={TIMED_OUT: 1}).met


def test_hung_with_impatient_clients_takes_twice_as_long() -> None:
    assert not hung(answered=NOW - 59, oldest_wait=5.0, waiting=59.0).met
    assert hung(answered=NOW - 61, oldest_wait=5.0, waiting=61.0).met


def slow(requests: int, number: int) -> Seen:
    condition = Condition("slow", above=27.0, within=120.0, count=5)
    watch = builtin.watched.slow(27.0).key
    return builtin.look_slow(condition, grew(120.0, requests=requests, watched={watch: number}), NOW)


@pytest.mark.parametrize(
    ("requests", "number", "met"),
    [(5, 4, True), (5, 3, False), (4, 4, False), (100, 80, True), (100, 79, False), (0, 5, True), (0, 0, False)],
)
def test_mostly_slow(requests: int, number: int, met: bool) -> None:
    assert slow(requests, number).met is met
