"""The engine over real readings and operations; who performs the acts is a stand-in that begins and ends them."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from proxy.config import Config, parse
from proxy.control.autoheal.engine import Engine
from proxy.control.autoheal.readings import Readings
from proxy.control.autoheal.views import RuleView
from proxy.control.counters import Counters
from proxy.control.operations import Asked, Operation, Operations
from proxy.control.refusal import NotPossible
from proxy.control.state import AppState, ByHand, Event, Events, InstanceState, Lifecycle, Usage, WorkerState
from proxy.control.store.acts import Act
from proxy.link.board import Board, create
from proxy.link.messages import Row, Stats

MB = 1_000_000


@dataclass
class Acts:
    """Begins what is asked for. An operation ends when the test says so, unless `at_once`."""

    operations: Operations
    at_once: bool = True
    refuse: str = ""
    asked: list[tuple[str, str, Asked, dict[str, Any]]] = field(default_factory=list)

    def act(self, act: str, app: str, instance: str, asked: Asked, **fields: Any) -> Operation:
        if self.refuse:
            raise NotPossible("no", self.refuse, "do something else")
        self.asked.append((act, instance, asked, fields))
        operation = self.operations.begin(act, app, instance, asked)
        operation.targets = (instance,) if instance else ()
        if self.at_once:
            self.operations.done(operation, f"{act} done")
        return operation


class World:
    """One app named web, its counts as a test makes them, and time that moves by `tick`."""

    def __init__(self, config: str, instances: int = 2) -> None:
        self.config = read(config, instances)
        self.events = Events()
        self.acts: list[Act] = []
        self.app = AppState("web", self.config.apps["web"], 0, wanted=instances)
        self.counters = Counters()
        self.board = Board(create(), 1)
        self.oldest: dict[str, float] = {}  # instance -> since
        self.rows: dict[str, Row] = {}
        self.number = 0
        self.collected: list[str] = []
        self.shared: Any = SimpleNamespace(
            stopping=False, event=self._event, collect=self._collect, data_dir="/tmp",
            plan={"config_path": "/tmp/config.toml"}, log=SimpleNamespace(error=self._broke),
        )  # fmt: skip
        self.shared.operations = Operations(self._event, lambda: None)
        self.performer = Acts(self.shared.operations)
        worker = WorkerState(0, started_at=time.time() + 3600)
        self.readings = Readings({"web": self.app}, self.counters, self.board, lambda: [worker])
        self.now = time.monotonic()
        for _ in range(instances):
            self.start()
        self.engine = self.successor({})

    def successor(self, known: dict[str, Any]) -> Engine:
        engine = Engine(
            self.shared, self.performer, {"web": self.app}, self.readings, self, lambda: None  # type: ignore[arg-type]
        )
        engine.load(known)
        engine.configure(self.config)
        self.engine = engine
        return engine

    def act(self, act: Act) -> None:
        """The store's."""
        self.acts.append(act)

    def _event(self, kind: str, text: str, app: str = "", instance: str = "", **details: Any) -> Event:
        return self.events.add(kind, text, app, instance, **details)

    def _broke(self, kind: str, text: str, **more: Any) -> None:
        raise AssertionError(f"{text}\n{more.get('traceback')}")

    async def _collect(self, app: AppState, instance: InstanceState, operation: Operation) -> str:
        self.collected.append(instance.name)
        return "4 of 4 artifacts"

    def start(self) -> InstanceState:
        self.number += 1
        state = InstanceState(f"web-{self.number}", "web", "process", self.number, Lifecycle.READY, pid=1)
        state.ready_since = self.now
        self.app.instances[state.name] = state
        return state

    def count(self, instance: str, requests: int = 0, **more: int) -> None:
        """So many more; `more` are watched counts, with spaces for underscores, or `status_5xx`, `answers`."""
        row = self.rows.get(instance) or Row("web", instance, 0, [0] * 6, {}, 0, 0, 0, 0, {}, 0.0, {}, 0.0, 0.0)
        classes, watched, wait = list(row.classes), dict(row.watched), dict(row.wait)
        classes[4] += more.pop("errors", 0)
        wait[20] = wait.get(20, 0) + more.pop("answers", 0)
        for key, number in more.items():
            watched[key] = watched.get(key, 0) + number
        self.rows[instance] = Row(
            "web", instance, row.requests + requests, classes, {}, 0, 0, 0, 0, {}, 0.0, wait, 0.0, 0.0, watched
        )

    async def tick(self, seconds: int = 1, each: Callable[[], None] = lambda: None) -> None:
        """Time goes on, second by second."""
        for _ in range(seconds):
            self.now += 1.0
            each()
            stats = Stats(0, "e", self.now, 0, 0, 0, 0, 0, 0, 1, 0, 0, "", "", False, 0, list(self.rows.values()))
            stats.oldest = {"web": self.oldest} if self.oldest else {}
            self.counters.apply(stats)
            self.readings.tick(self.now)
            for _part in self.engine.work(self.now):
                pass
            for _ in range(20):
                await asyncio.sleep(0)

    def rule(self, name: str) -> RuleView:
        return next(one for one in self.engine.view("web") if one.name == name)

    def kinds(self, *kinds: str) -> list[Event]:
        return [event for event in self.events if event.kind in kinds]

    @property
    def done(self) -> list[tuple[str, str]]:
        return [(act, instance) for act, instance, _, _ in self.performer.asked]


def read(rules: str, instances: int = 2) -> Config:
    text = f'[apps.web.process]\ncommand = "x"\ninstances = {instances}\nuser = "root"\n{rules}'
    return parse(text, "/tmp/config.toml")


def rule(when: str, then: str = '["recycle"]', more: str = 'min_age = "0s"\n', name: str = "mine") -> str:
    return f'[[apps.web.autoheal]]\nname = "{name}"\nwhen = {when}\nthen = {then}\n{more}\n'


ERRORS = rule('{ status = { codes = "500-599", count = 5, within = "1m" } }', '["collect", "recycle"]')


async def test_a_rule_fires_for_the_instance_it_saw_and_says_why() -> None:
    world = World(ERRORS)
    await world.tick(5)
    world.count("web-2", 6, errors=6)
    await world.tick()
    assert world.done == [("recycle", "web-2")]
    (_, _, asked, _) = world.performer.asked[0]
    assert asked.by == "rule mine" and asked.rule == "mine" and "6 requests were answered 500-599" in asked.value
    assert asked.collect is False and world.collected == ["web-2"], "evidence first, and once"
    (firing,) = world.engine.history("web")
    assert [(one.act, one.state) for one in firing.outcomes] == [("collect", "done"), ("recycle", "done")]
    (act,) = world.acts
    assert act.rule == "mine" and act.instance == "web-2" and act.value == asked.value and not act.dry
    assert world.kinds("heal", "heal-done")
    shown = world.rule("mine")
    assert shown.last_fired and shown.fired_last_hour == 1 and shown.suppressed_until


async def test_below_the_threshold_the_distance_is_shown() -> None:
    world = World(ERRORS)
    world.count("web-1", 3, errors=3)
    await world.tick(3)
    shown = world.rule("mine")
    assert not world.done and shown.state == "watching"
    assert shown.nearest is not None and shown.nearest.instance == "web-1"
    assert shown.nearest.distance == "3 of 5" and shown.nearest.share == pytest.approx(0.6)


async def test_for_has_to_hold() -> None:
    world = World(rule('{ memory = { above = "100MB", for = "10s" } }'))
    state = world.app.instances["web-1"]

    def uses(amount: int) -> Callable[[], None]:
        def each() -> None:
            state.usage = Usage(world.now, rss=amount, pids=(1,))

        return each

    await world.tick(9, uses(200 * MB))
    await world.tick(1, uses(50 * MB))
    await world.tick(9, uses(200 * MB))
    assert not world.done
    shown = world.rule("mine").nearest
    assert shown is not None and 0.8 < shown.share < 1.0 and "for 8 s of 10 s" in shown.distance, shown
    await world.tick(3, uses(200 * MB))
    assert world.done == [("recycle", "web-1")]


async def test_all_are_mended_one_after_another_and_replacements_are_left_alone() -> None:
    world = World(ERRORS, 4)
    await world.tick(2)
    for name in list(world.app.instances):
        world.count(name, 9, errors=9)
    world.performer.at_once = False
    await world.tick(3)
    assert len(world.done) == 1, "a quarter of four, at once"
    seen = set()
    for _ in range(4):
        (running,) = world.shared.operations.running("web")
        seen.add(running.instance)
        del world.app.instances[running.instance]
        fresh = world.start()
        world.shared.operations.done(running)
        world.count(fresh.name, 9, errors=9)
        await world.tick(3)
    assert seen == {"web-1", "web-2", "web-3", "web-4"}
    assert len(world.done) == 4 and not world.shared.operations.running("web")
    await world.tick(20)
    assert len(world.done) == 4, "a replacement that is no better waits for the cooldown"
    assert world.rule("mine").state == "suppressed" and world.rule("mine").nearest.guard == "cooldown"  # type: ignore[union-attr]


async def test_dry_run_does_nothing_and_says_it() -> None:
    world = World(ERRORS.replace("min_age", "dry_run = true\nmin_age"))
    world.count("web-1", 9, errors=9)
    await world.tick(5)
    assert not world.done and not world.collected
    shown = world.rule("mine")
    assert shown.would_have_fired == 1 and shown.last_would_have_fired and shown.dry_run
    assert [act.dry for act in world.acts] == [True]
    (event,) = world.kinds("would-heal")
    assert "dry run" in event.text


async def test_switched_off_by_hand_it_counts_what_it_would_have_done() -> None:
    world = World(ERRORS)
    world.app.by_hand["autoheal"] = ByHand("off", "by hand", time.time(), "we are debugging", time.time() + 600)
    world.count("web-1", 9, errors=9)
    await world.tick(5)
    assert not world.done
    shown = world.rule("mine")
    assert shown.would_have_fired == 1 and shown.state == "suppressed" and "we are debugging" in shown.why
    assert shown.suppressed_until == pytest.approx(time.time() + 600, abs=30)
    del world.app.by_hand["autoheal"]
    await world.tick(1)
    assert world.done == [("recycle", "web-1")], "it acts as soon as it may"


async def test_an_instance_that_a_person_ejected_is_left_as_it_is() -> None:
    world = World(rule('{ age = { above = "5s" } }', '["recycle"]', 'min_age = "0s"\nmax_unavailable = "100%"\n'))
    world.app.by_hand["ejected web-1"] = ByHand(True, "by hand", time.time(), "look at it")
    await world.tick(10)
    assert world.done == [("recycle", "web-2")]
    assert world.rule("mine").would_have_fired == 1 and "look at it" in world.rule("mine").why


async def test_two_rules_that_fight_wait_for_each_other() -> None:
    fight = rule('{ status = { codes = "500-599", count = 5 } }', '["recycle"]', name="one")
    fight += rule('{ status = { codes = "500-599", count = 6 } }', '["restart"]', 'min_age = "0s"\n', "two")
    world = World(fight)
    world.performer.at_once = False
    world.count("web-1", 9, errors=9)
    await world.tick(5)
    assert world.done == [("recycle", "web-1")]
    two = world.rule("two")
    assert two.state == "suppressed" and "waits for op-1" in two.why
    assert len(world.kinds("heal-suppressed")) == 1, "said once, not each second"


async def test_an_act_that_is_refused_or_fails_does_not_end_the_chain() -> None:
    world = World(ERRORS.replace('["collect", "recycle"]', '["recycle", { run = ["true"] }]'))
    world.performer.refuse = "not now"
    world.count("web-1", 9, errors=9)
    await world.tick(1)
    await ended(world)
    (firing,) = world.engine.history()
    assert [(one.act, one.state) for one in firing.outcomes] == [("recycle", "skipped"), ("run", "done")]
    assert "not now" in firing.outcomes[0].why


async def ended(world: World, within: float = 30.0) -> None:
    deadline = time.monotonic() + within
    while any(one.running for one in world.engine.firings):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_a_command_gets_the_reason_and_its_last_lines_are_kept(tmp_path: Path) -> None:
    script = "import os; print(os.environ['TRIAGE_APP'], os.environ['TRIAGE_INSTANCE'], os.environ['TRIAGE_RULE']);"
    script += "print(os.environ['TRIAGE_VALUE']); raise SystemExit(3)"
    then = f"[{{ run = ['{sys.executable}', '-c', \"\"\"{script}\"\"\"] }}]"
    world = World(rule('{ status = { codes = "500-599", count = 5 } }', then))
    world.count("web-1", 9, errors=9)
    await world.tick(1)
    await ended(world)
    (outcome,) = world.engine.history()[0].outcomes
    assert outcome.state == "failed"
    assert outcome.why == "exit code 3: web web-1 mine | 9 requests were answered 500-599 in the last 1m"


async def test_an_instance_that_is_gone_is_not_acted_on() -> None:
    world = World(ERRORS)
    world.count("web-1", 9, errors=9)

    async def slow(app: AppState, instance: InstanceState, operation: Operation) -> str:
        del world.app.instances["web-1"]
        return "nothing"

    world.shared.collect = slow
    await world.tick(2)
    (firing,) = world.engine.history()
    assert [(one.act, one.state) for one in firing.outcomes] == [("collect", "done"), ("recycle", "skipped")]
    assert "gone" in firing.outcomes[1].why


async def test_scaling_by_a_rule_keeps_to_what_a_person_set() -> None:
    world = World(rule('{ status = { codes = "500-599", count = 5 } }', "[{ scale = 2 }]"))
    world.app.by_hand["count"] = ByHand(2, "by hand", time.time())
    world.count("web-1", 9, errors=9)
    await world.tick(2)
    assert not world.done and world.engine.history()[0].outcomes[0].state == "skipped"
    other = World(rule('{ status = { codes = "500-599", count = 5 } }', "[{ scale = 2 }]"))
    other.count("web-1", 9, errors=9)
    await other.tick(2)
    assert [(act, fields) for act, _, _, fields in other.performer.asked] == [("scale", {"instances": 4})]


async def test_an_app_wide_rule_about_unhealthy_ones_acts_on_them_only() -> None:
    world = World(rule('{ unhealthy = { above = 0, for = "3s" } }'), 3)
    world.app.instances["web-2"].failing = True
    await world.tick(6)
    assert world.done == [("recycle", "web-2")]


async def test_a_schedule_acts_once_in_its_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    started = time.mktime((2026, 11, 23, 3, 59, 30, 0, 0, -1))
    monkeypatch.setattr(time, "time", lambda: started)
    world = World(rule('{ schedule = { cron = "0 4 * * *" } }', '["restart"]', 'cooldown = "0s"\n'))
    begun = world.now
    step = 0.0
    monkeypatch.setattr(time, "time", lambda: started + world.now - begun + step)
    await world.tick(25)
    assert not world.done and "4 * * *" in world.rule("mine").why
    await world.tick(65)
    assert world.done == [("restart", "")], "once, though the minute has sixty seconds"
    step = -90.0
    await world.tick(120)
    assert world.done == [("restart", "")], "the clock was set back: the same minute again is none"
    step = 86_400.0 + 3600
    await world.tick(5)
    assert world.done == [("restart", "")], "a day later, long after four: it is left out"


FIRST_BYTE = '[apps.web.timeouts]\nfirst_byte = "2s"\n'
TIMED_OUT = "fault head-timeout,send-timeout,total-timeout"


def hangs(world: World, *names: str) -> Callable[[], None]:
    """Each second a request ends in its timeout, and others wait."""

    def each() -> None:
        for name in names:
            if name in world.app.instances:
                world.count(name, 1, **{TIMED_OUT: 1})
                world.oldest[name] = world.now - 2.0
        for name in list(world.oldest):
            if name not in world.app.instances:
                del world.oldest[name]

    return each


def answers(world: World, *names: str) -> Callable[[], None]:
    def each() -> None:
        for name in names:
            world.count(name, 1, answers=1)

    return each


async def test_a_hung_instance_is_recycled_without_a_rule() -> None:
    world = World(FIRST_BYTE)

    def each() -> None:
        world.count("web-2", 5, answers=5)

    await world.tick(5, each)
    hung = hangs(world, "web-1")
    await world.tick(4, lambda: (each(), hung())[0])
    assert world.done == [("recycle", "web-1")] and world.collected == ["web-1"]
    assert world.performer.asked[0][2].by == "rule hung (built in)"


async def test_when_all_hang_one_is_recycled_first_and_the_others_if_that_helps() -> None:
    world = World(FIRST_BYTE, 3)
    names = list(world.app.instances)
    await world.tick(3, answers(world, *names))
    await world.tick(8, hangs(world, *names))
    assert len(world.done) == 1, "one first"
    first = world.done[0][1]
    assert "all 3 instances" in world.performer.asked[0][2].reason
    del world.app.instances[first]
    fresh = world.start()
    others = [name for name in names if name != first]
    hung = hangs(world, *others)
    await world.tick(5, lambda: (hung(), world.count(fresh.name, 1, answers=1))[0])
    assert len(world.done) == 1, "too early to say that it helped"
    shown = world.rule("hung")
    assert shown.state == "suppressed" and "recycled first" in shown.why
    await world.tick(10, lambda: (hung(), world.count(fresh.name, 1, answers=1))[0])
    assert {name for _, name in world.done} == set(names), "it did"


async def test_when_all_hang_again_the_others_are_left() -> None:
    world = World(FIRST_BYTE, 3)
    names = list(world.app.instances)
    await world.tick(3, answers(world, *names))
    await world.tick(8, hangs(world, *names))
    first = world.done[0][1]
    del world.app.instances[first]
    fresh = world.start()
    await world.tick(45, hangs(world, *names, fresh.name))
    assert len(world.done) == 1, "a dead dependency is not mended by restarts"
    await world.tick(30, hangs(world, *names, fresh.name))
    assert len(world.done) == 2, "after the cooldown it is tried again, with one"
    assert world.rule("hung").backing_off or world.rule("hung").suppressed_until


async def test_a_busy_stream_or_a_passed_probe_is_an_answer() -> None:
    world = World(FIRST_BYTE, 1)
    world.count("web-1", 1, answers=1)
    await world.tick(2)
    hung = hangs(world, "web-1")
    world.counters.heard = lambda app, instance: world.now - 0.5  # type: ignore[method-assign]
    await world.tick(20, hung)
    assert not world.done


@pytest.mark.slow
async def test_a_healthy_app_fires_nothing() -> None:
    world = World(FIRST_BYTE, 3)
    names = list(world.app.instances)

    def each() -> None:
        for name in names:
            world.count(name, 50, answers=50)
            world.app.instances[name].usage = Usage(world.now, 0.5, 1.0, 100 * MB, 1, 4, 20, 20, (1,))

    await world.tick(300, each)
    assert not world.engine.firings and not world.events.ring


async def test_a_successor_keeps_cooldowns_and_goes_on_with_chains() -> None:
    world = World(ERRORS.replace('["collect", "recycle"]', '["recycle", { run = ["true"] }]'))
    world.performer.at_once = False
    world.count("web-1", 9, errors=9)
    await world.tick(2)
    (running,) = world.shared.operations.running("web")
    known = world.engine.dump()
    await world.engine.close()
    world.successor(known)
    await world.tick(1)
    assert len(world.done) == 1, "nothing is recycled twice"
    world.shared.operations.done(running)
    await world.tick(1)
    await ended(world)
    (firing,) = world.engine.history()
    assert [(one.act, one.state) for one in firing.outcomes] == [("recycle", "done"), ("run", "done")]
    assert world.rule("mine").fired_last_hour == 1 and world.rule("mine").suppressed_until
    world.count(world.start().name, 9, errors=9)
    await world.tick(3)
    assert len(world.done) == 1, "the cooldown goes on"


async def test_what_workers_counted_before_this_control_is_not_taken_for_now() -> None:
    world = World(rule('{ requests = { above = 100, within = "1m" } }'))
    world.count("web-1", 1_000_000)
    world.readings._workers = lambda: [WorkerState(0, started_at=1.0)]
    await world.tick(2)
    assert "just started" in world.rule("mine").why
    await world.tick(10)
    assert not world.done and world.rule("mine").state == "watching"
    world.count("web-1", 101)
    await world.tick(1)
    assert world.done == [("recycle", "web-1")]


async def test_a_reload_keeps_what_is_remembered() -> None:
    world = World(ERRORS)
    world.count("web-1", 9, errors=9)
    await world.tick(2)
    world.engine.configure(read(ERRORS + rule('{ age = { above = "9h" } }', name="other")))
    assert world.rule("mine").fired_last_hour == 1
    assert world.rule("other").last_fired is None
    world.engine.configure(read(""))
    assert [one.name for one in world.engine.view("web")] == ["hung", "slow", "memory"]
