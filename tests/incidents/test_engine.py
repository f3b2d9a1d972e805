"""Incidents over virtual time: they open, change, close, and open again; what they know survives deaths."""

from __future__ import annotations

import asyncio
import time

from proxy.control.incidents.incident import STEPS, Subject
from proxy.control.incidents.scene import Check, GatewayScene
from proxy.control.self_check import Last
from proxy.control.state import Exit
from proxy.control.store.reader import NotReadable
from tests.incidents.virtual import WALL, World

WEB = Subject("app", "web")


def test_a_storm_of_faults_opens_one_within_five_seconds(world: World) -> None:
    world.second(good=100, seconds=60)
    first = world.unix + 1.0
    seconds = 0
    while not world.incidents.open:
        world.second(good=50, faults={"connect-refused": 50})
        seconds += 1
        assert seconds <= 5
    incident = world.incidents.open[WEB]
    assert incident.began == first, "it begins with the first fault, not when it was opened"
    assert (incident.signal, incident.id, incident.severity) == ("faults", "INC-1", "degraded")
    assert "connect-refused" in incident.cause and incident.certainty == "certain"
    assert world.told == [("opened", "INC-1")] and world.said[0][0] == "incident-opened"


def test_requests_and_faults_of_its_span_are_counted_from_the_first_sign(world: World) -> None:
    world.second(good=100, seconds=30)
    world.second(good=90, faults={"head-timeout": 10, "client-left": 3}, seconds=10)
    incident = world.open
    assert incident is not None
    assert (incident.requests, incident.hit, incident.faults) == (1030, 100, {"head-timeout": 100})
    assert 0.09 < incident.share < 0.1, "client-left is the clients' own doing"


def test_it_closes_after_three_clean_checks_and_says_when_it_was_over(world: World) -> None:
    world.second(good=100, faults={"connect-refused": 50}, seconds=5)
    world.second(good=100, seconds=10)
    incident = world.open
    assert incident is not None
    seen_last = incident.updated
    while incident.signals:
        seen_last = world.unix
        world.second(good=100)
    over = world.now
    while world.open is not None:
        world.second(good=100)
        assert world.now < over + 60
    assert 28 <= world.now - over <= 31, "three checks, ten seconds apart"
    assert abs(incident.ended - seen_last) <= 1.0, "it ended when it was seen last, not when that was certain"
    assert incident.steps[-1].kind == "closed" and world.told[-1] == ("closed", "INC-1")
    assert world.incidents.recent[-1] is incident


def test_a_sign_between_two_checks_begins_the_count_anew(world: World) -> None:
    world.second(good=10, faults={"connect-refused": 10}, seconds=5)
    world.second(good=100, seconds=35)
    assert world.open is not None and not world.open.signals
    world.second(good=10, faults={"connect-refused": 200}, seconds=1)
    world.second(good=100, seconds=38)
    assert world.open is not None, "closing begins again at the last sign"
    world.second(good=100, seconds=5)
    assert world.open is None


def test_the_same_soon_again_is_the_same_incident_and_later_another(world: World) -> None:
    world.second(good=10, faults={"connect-refused": 10}, seconds=5)
    world.second(good=100, seconds=60)
    assert world.open is None
    world.second(good=10, faults={"connect-refused": 10}, seconds=5)
    assert world.open is not None and world.open.id == "INC-1" and ("reopened", "INC-1") in world.told
    world.second(good=100, seconds=60)
    world.second(good=100, seconds=301)
    world.second(good=10, faults={"connect-refused": 10}, seconds=5)
    assert world.open is not None and world.open.id == "INC-2"


def test_a_crash_explains_faults_that_were_seen_before_it(world: World) -> None:
    world.second(good=50, faults={"instance-exited": 10}, seconds=2)
    assert world.open is not None and world.open.signal == "faults"
    end = Exit(world.unix, 30.0, code=3, by_itself=True, words="exit code 3", name="web-1")
    world.state.ended.append(end)
    world.second(good=50)
    assert world.open.signal == "crashes" and "exit code 3" in world.open.cause
    assert ("cause", "INC-1") in world.told and "incident-cause" in [kind for kind, _ in world.said]
    world.second(good=50, faults={"instance-exited": 10}, seconds=20)
    assert world.open.signal == "crashes", "what explains more stands while it is fresh"
    world.second(good=50, faults={"head-timeout": 10}, seconds=30)
    assert world.open.signal == "faults", "and gives way when it was not seen for long"
    assert len(world.incidents.open) == 1


def test_a_gateway_that_does_not_answer_itself_explains_the_apps_faults(world: World) -> None:
    broken = Check(False, 2, "127.0.0.1:8080 refused the connection", WALL + world.now)
    world.gateway = lambda now, unix: GatewayScene(now, unix, check=broken)
    world.second(good=10, faults={"head-timeout": 30}, seconds=3)
    assert {subject.scope for subject in world.incidents.open} == {"app", "gateway"}
    gateway = world.incidents.open[Subject("gateway")]
    assert gateway.signal == "self-check" and gateway.severity == "down"
    assert world.open is not None and gateway.id in world.open.cause and world.open.certainty == "likely"
    world.incidents.check = lambda: Last(world.unix, False, None, "127.0.0.1:8080 refused the connection")
    who, words = world.incidents.is_it()
    assert who == "gateway" and "refused the connection" in words


def test_what_happens_meanwhile_is_its_timeline_and_bounded(world: World) -> None:
    world.happens("exited", "web-1 ended: exit code 3")
    world.second(good=10, faults={"instance-exited": 10}, seconds=3)
    world.happens("recycle", "recycle of web/web-2, by hand: it hangs")
    world.happens("ready", "other-1 is ready", app="other")
    incident = world.open
    assert incident is not None
    texts = [step.text for step in incident.steps]
    assert texts[0] == "web-1 ended: exit code 3", "what led to it stands first"
    assert ("act", "recycle of web/web-2, by hand: it hangs") in [(one.kind, one.text) for one in incident.steps]
    assert not any("other-1" in text for text in texts)
    for number in range(200):
        world.happens("ejected", f"web-1 ejected the {number}th time")
    assert len(incident.steps) == STEPS and incident.steps[0].text == texts[0]
    assert incident.steps[-1].text == "web-1 ejected the 199th time" and incident.details["steps_dropped"] > 100


def test_another_part_raises_a_signal_keeps_it_up_and_clears_it(world: World) -> None:
    since = world.unix - 60
    incident = world.incidents.signal(WEB, "alert errors", "5 % of requests failed", since=since, rule="errors")
    assert world.open is incident and incident.began == world.unix - 60 and incident.rules == ["errors"]
    for _ in range(20):
        world.incidents.signal(WEB, "alert errors", "6 % of requests failed", rule="errors")
        world.second(good=10)
    assert incident.cause == "6 % of requests failed" and incident.signals
    world.incidents.clear(WEB, "alert errors")
    world.second(good=10, seconds=32)
    assert world.open is None and incident.ended


def test_a_signal_that_is_not_raised_again_fades(world: World) -> None:
    world.incidents.signal(WEB, "alert gone", "a rule that was removed said so")
    world.second(good=10, seconds=40)
    assert world.open is None


def test_open_ones_survive_controls_death_with_their_counts(world: World) -> None:
    world.second(good=90, faults={"head-timeout": 10}, seconds=10)
    kept = world.incidents.dump()
    before = world.open
    assert before is not None
    world.incidents = world.control()
    world.incidents.load(kept)
    after = world.open
    assert after is not None and after is not before
    assert (after.id, after.hit, after.steps, after.began) == (before.id, before.hit, before.steps, before.began)
    world.second(good=90, faults={"head-timeout": 10}, seconds=5)
    assert world.open is after and after.hit == before.hit + 50 and len(world.store.rows) == 1
    assert not [one for one in world.told if one[0] != "opened" and one[0] != "updated"]


def test_after_a_stop_of_everything_what_was_open_is_closed_with_the_gap_said(world: World) -> None:
    world.second(good=90, faults={"head-timeout": 10}, seconds=10)
    world.incidents.leave()
    left = world.unix
    world.now += 3600.0
    world.incidents = world.control()
    world.incidents.started = world.unix
    asyncio.run(world.incidents.begin(launched=world.unix - 1.0))
    assert world.open is None
    closed = world.incidents.recent[-1]
    assert closed.id == "INC-1" and abs(closed.ended - left) < 0.01
    gap = f"Triage was not running from {_clock(left)} to {_clock(world.unix)}"
    assert gap in closed.steps[-1].text
    world.second(good=90, faults={"head-timeout": 10}, seconds=10)
    assert world.open is not None and world.open.id == "INC-2"


def test_what_the_ledger_lost_within_one_run_goes_on_from_the_store(world: World) -> None:
    launched = world.unix - 1.0
    world.second(good=90, faults={"head-timeout": 10}, seconds=10)
    world.incidents.leave()
    world.incidents = world.control()
    asyncio.run(world.incidents.begin(launched))
    assert world.open is not None and world.open.id == "INC-1"


def test_a_store_that_can_not_be_read_is_asked_again(world: World) -> None:
    world.second(good=90, faults={"head-timeout": 10}, seconds=10)
    world.incidents = world.control()
    world.store.readable = False
    asyncio.run(world.incidents.begin(world.unix))
    assert not world.incidents.begun
    try:
        asyncio.run(world.incidents.list())
        raise AssertionError("memory has none of them, so it must say that it does not know")
    except NotReadable:
        pass
    world.store.readable = True
    asyncio.run(world.incidents.begin(world.unix + 1.0))
    assert world.incidents.begun and world.incidents.recent[-1].id == "INC-1"


def test_the_list_is_of_memory_and_store_newest_first(world: World) -> None:
    for _ in range(3):
        world.second(good=10, faults={"connect-refused": 10}, seconds=5)
        world.second(good=100, seconds=400)
    world.second(good=10, faults={"connect-refused": 10}, seconds=5)
    found = asyncio.run(world.incidents.list())
    assert [one.id for one in found] == ["INC-4", "INC-3", "INC-2", "INC-1"]
    world.incidents.recent.clear()
    assert [one.id for one in asyncio.run(world.incidents.list())] == ["INC-4", "INC-3", "INC-2", "INC-1"]
    assert [one.id for one in asyncio.run(world.incidents.list(before=3, limit=1))] == ["INC-2"]
    assert [one.id for one in asyncio.run(world.incidents.list(open_only=True))] == ["INC-4"]
    assert asyncio.run(world.incidents.found(2)) is not None
    assert asyncio.run(world.incidents.found(77)) is None


def _clock(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
