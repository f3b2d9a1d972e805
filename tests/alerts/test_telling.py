"""Who is told what when: pure, in a time of its own."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest

from proxy.config import parse
from proxy.control.alerts import builtin, patience
from proxy.control.alerts.telling import CAUSE_EVERY, FLAPS, GATHER, HOLD, Track, due
from proxy.control.incidents.signals import ALL

HOURS = 3600.0
REPEAT = 4 * HOURS


class Story:
    """One incident and one notifier, second by second."""

    def __init__(self, repeat: float = REPEAT, muted: bool = False) -> None:
        self.track = Track(1)
        self.now = 1000.0
        self.signal, self.severity = "faults", "degraded"
        self.repeat = repeat
        self.muted = muted
        self.told: list[tuple[float, str]] = []
        self._began = self.now

    def run(self, seconds: float, step: float = 1.0) -> list[str]:
        """What was told meanwhile."""
        before = len(self.told)
        end = self.now + seconds
        while self.now < end:
            kind = None if self.muted else due(self.track, "ops", self.signal, self.severity, self.repeat, self.now)
            if kind is not None:
                self.track.tell("ops", kind, int(self.now), self.signal, self.severity, self.now)
                self.told.append((self.now - self._began, kind))
            self.now += step
        return [kind for _, kind in self.told[before:]]

    def want(self) -> Story:
        self.track.want(["ops"], self.now)
        return self

    def cause(self, signal: str) -> None:
        self.signal, self.track.changed = signal, self.now


def test_it_is_gathered_for_before_it_is_told() -> None:
    story = Story().want()
    assert story.run(60) == ["opened"]
    assert story.told[0][0] == GATHER


def test_whom_it_does_not_concern_is_not_told_of_its_end_either() -> None:
    story = Story()
    assert story.run(60) == []
    story.track.close(story.now)
    assert story.run(60) == []
    assert not Story().want().track.over(1e9), "an open one is never over"


def test_whoever_was_told_is_told_of_the_end_once() -> None:
    story = Story().want()
    story.run(60)
    story.track.close(story.now)
    assert story.run(600) == ["closed"]
    assert story.track.over(story.now)


def test_an_end_that_was_not_told_keeps_the_track() -> None:
    story = Story().want()
    story.run(60)
    story.muted = True
    story.track.close(story.now)
    assert story.run(10 * HOLD) == []
    assert not story.track.over(story.now)
    story.muted = False
    assert story.run(5) == ["closed"]
    assert story.track.over(story.now)


def test_it_is_repeated_while_it_lasts() -> None:
    story = Story().want()
    assert story.run(13 * HOURS, step=10.0) == ["opened", "repeat", "repeat", "repeat"]
    assert Story(repeat=0.0).want().run(13 * HOURS, step=10.0) == ["opened"]


def test_another_cause_is_told_when_it_stays() -> None:
    story = Story().want()
    story.run(100)
    story.cause("queue")
    assert story.run(GATHER - 1) == []
    assert story.run(100) == ["cause"]


def test_causes_that_change_to_and_fro_are_told_once_a_minute_at_most() -> None:
    story = Story().want()
    story.run(100)
    for place in range(120):
        story.cause("queue" if place % 2 else "faults")
        story.run(10)
    kinds = [at for at, kind in story.told if kind == "cause"]
    assert all(later - earlier >= CAUSE_EVERY for earlier, later in pairwise(kinds))
    assert len(kinds) <= 1200 / CAUSE_EVERY


def test_what_gets_worse_is_told_at_once() -> None:
    story = Story().want()
    story.run(10)
    story.severity = "down"
    assert story.run(10) == ["cause"]
    assert story.track.told["ops"].severities == ["degraded", "down"]
    assert story.run(100) == []


def test_one_that_opens_again_is_the_same_incident() -> None:
    story = Story().want()
    story.run(60)
    story.track.close(story.now)
    story.run(60)
    story.track.reopen(story.now)
    assert story.run(60) == ["reopened"]
    assert story.track.told["ops"].first == 1005


def test_one_that_flaps_is_told_less_and_less() -> None:
    story = Story().want()
    for _ in range(30):
        story.run(45)
        story.track.close(story.now)
        story.run(30)
        story.track.reopen(story.now)
    assert len(story.told) <= 2 * FLAPS + 1
    assert story.told[-1][1] != "closed", "its end is told only when it has lasted"
    story.track.close(story.now)
    assert story.run(HOLD + 10) == ["closed"]


def test_a_track_goes_on_under_another_control() -> None:
    story = Story().want()
    story.run(60)
    story.track = Track.load(story.track.dump())
    story.track.close(story.now)
    assert story.run(10) == ["closed"]


# --- built-in ones ---------------------------------------------------------------------------------------


def names(signals: dict[str, float], severity: str = "degraded", now: float = 100.0) -> dict[str, bool]:
    return {one.name: lasted for one, lasted in builtin.meant(signals, severity, now)}


def test_every_signal_has_a_built_in_alert() -> None:
    assert {signal.name for signal in ALL} - set(builtin.BY_SIGNAL) == {"down"}, "down is told by its severity"
    assert set(builtin.BY_SIGNAL) <= {signal.name for signal in ALL}


def test_the_remarks_name_the_built_in_alerts() -> None:
    from proxy.config.remarks import BUILTIN_ALERTS

    assert [one.name for one in (builtin.DOWN, *builtin.BUILTIN, builtin.DEFAULT)] == list(BUILTIN_ALERTS)


def test_some_are_told_at_once_some_when_they_last_some_never() -> None:
    assert names({"faults": 100.0}) == {"faults": True}
    assert names({"slow": 100.0}) == {"slow": False}
    assert names({"slow": 40.0}) == {"slow": True}
    assert names({"host-cpu": -1e6}) == {"busy": False}
    assert names({"slow": 100.0}, "down") == {"slow": False, "down": True}
    assert names({"something-new": 100.0}) == {"others": False}
    assert names({"something-new": 40.0}) == {"others": True}


def test_a_rule_of_the_config_is_none_of_them() -> None:
    assert names({"alert errors": 0.0}) == {}
    assert names({"alert errors": 0.0}, "down") == {}


def test_a_rule_of_the_same_name_takes_its_place_for_its_apps() -> None:
    config = parse(
        """
        [apps.web]
        addresses = ["http://127.0.0.1:1"]
        [apps.api]
        paths = ["/api"]
        addresses = ["http://127.0.0.1:2"]
        [[alerts]]
        name = "slow"
        when = { slow = { above = "2s" } }
        notify = ["ops"]
        apps = ["web"]
        [notify.ops]
        command = ["true"]
        """,
        "/tmp/config.toml",
    )
    assert builtin.replaced(config, "slow", "web")
    assert not builtin.replaced(config, "slow", "api")
    assert not builtin.replaced(config, "faults", "web")


def test_a_certificate_is_told_daily_and_no_more() -> None:
    assert builtin.seldom(["certificate"]) == 24 * HOURS
    assert builtin.seldom(["certificate", "worker"]) == 0.0
    assert builtin.seldom([]) == 0.0


# --- patience --------------------------------------------------------------------------------------------


def pauses(chance: float) -> Iterator[float]:
    return (patience.pause(failures, chance) for failures in range(1, 60))


def test_pauses_double_up_to_a_bound() -> None:
    found = list(pauses(0.5))
    assert found[:8] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 120.0]
    assert set(found[8:]) == {patience.LONGEST}
    for chance in (0.0, 1.0):
        for plain, other in zip(found, pauses(chance), strict=True):
            assert abs(other - plain) == pytest.approx(plain * patience.JITTER)


def test_what_the_receiver_asks_for_is_heeded() -> None:
    assert patience.pause(1, 0.5, after=30.0) == 30.0
    assert patience.pause(30, 0.5, after=30.0) == patience.LONGEST


def test_it_is_given_up_after_an_hour() -> None:
    assert not patience.hopeless(100.0, 100.0 + HOURS - 1)
    assert patience.hopeless(100.0, 100.0 + HOURS)
