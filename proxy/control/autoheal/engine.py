"""Rules over readings, once a second: what is due, what keeps it from acting, and what is done about it.

Longer than most: it is the one place where rules, their memory, chains and the ledger meet.

Always true:
  - what a rule does it does through the mender, with what it saw and why;
  - on one instance one chain runs at a time, and over all rules no more instances of an app are under way than the
    rule that acts allows, one at least: no rule takes a whole app down;
  - what a successor needs is in the ledger: cooldowns, firings, `for` in progress, chains that run.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any, Final, Protocol

from proxy.config import Config
from proxy.control.autoheal import builtin, cron, guards, replay, rules, scene, views, words
from proxy.control.autoheal.actions import ACTIONS
from proxy.control.autoheal.conditions import KINDS, all_watches
from proxy.control.autoheal.contract import Seen
from proxy.control.autoheal.firing import Bench, Firing, perform
from proxy.control.autoheal.guards import Hold
from proxy.control.autoheal.readings import Readings
from proxy.control.autoheal.replay import Replay
from proxy.control.autoheal.rules import Memory, Rule
from proxy.control.autoheal.scene import Scene
from proxy.control.autoheal.spread import Spread
from proxy.control.autoheal.views import RuleView, Status
from proxy.control.mend import Mender
from proxy.control.operations import Operation
from proxy.control.shared import Shared
from proxy.control.state import AppState, Lifecycle
from proxy.control.store.acts import Act
from proxy.control.store.points import STEPS, Point

HISTORY: Final = 200
KEPT: Final = 20
"""Firings that go along in the ledger; all of them are in the store."""
DAY: Final = 86400.0
AT_ONCE: Final = 20
"""Targets of a rule that guards look at in one tick, the worst first: the others come when these are seen to."""


REPLAYED: Final = 200_000
"""Points that a replay looks at; over a longer time they are coarser. Some 10 s of one core, in a thread."""


class Store(Protocol):
    def act(self, act: Act) -> None: ...

    async def instances(self, app: str) -> list[str]: ...

    async def points(
        self, app: str, instance: str, since: float, until: float, step: int
    ) -> list[tuple[int, Point]]: ...


class Engine:
    """`keep` has the ledger written soon."""

    def __init__(
        self,
        shared: Shared,
        mender: Mender,
        apps: Mapping[str, AppState],
        readings: Readings,
        store: Store,
        keep: Callable[[], None],
    ) -> None:
        self.shared = shared
        self.mender = mender
        self.apps = apps
        self.readings = readings
        self.firings: deque[Firing] = deque(maxlen=HISTORY)
        """Newest last; those that run are among them."""
        self.rules: dict[str, tuple[Rule, ...]] = {}
        self._store = store
        self._keep = keep
        self._memories: dict[str, dict[str, Memory]] = {}  # by app and rule
        self._status: dict[tuple[str, str], Status] = {}
        self._next = 1
        self._running: dict[str, Firing] = {}  # by id
        self._scene = Scene(shared, readings, self._running)
        self._spread = Spread(self._broke)
        self._told = ""
        self._tasks: set[asyncio.Task[None]] = set()
        self._orphans: list[Firing] = []  # of a former control, to go on with

    def __repr__(self) -> str:
        count = sum(len(found) for found in self.rules.values())
        return f"<Engine {count} rules of {len(self.rules)} apps, {len(self._tasks)} chains run>"

    # --- for who looks ----------------------------------------------------------------------------------

    def view(self, app: str) -> list[RuleView]:
        """Its rules as they stand: configured ones first. Raises KeyError."""
        now, unix = time.monotonic(), time.time()
        return [
            views.view(rule, self._memory(rule), self._status.get((app, rule.key)) or Status(), now, unix)
            for rule in self.rules[app]
        ]

    def history(self, app: str = "", limit: int = 50) -> list[Firing]:
        """Newest first; what is older is in the store."""
        found = [one for one in reversed(self.firings) if not app or one.app == app]
        return found[:limit]

    async def replay(self, app: str, rule: str | Mapping[str, Any], since: float, until: float = 0.0) -> Replay:
        """A rule of the app by name ("builtin slow" if one of the config is called so too), or one that is not in the
        config, as a table or its TOML, over what is recorded since then (Unix seconds).

        Raises KeyError for an unknown app or rule, ConfigProblems, TOMLDecodeError, NotReadable."""
        until = until or time.time()
        if isinstance(rule, str) and "=" not in rule:
            chosen = next((one for one in self.rules[app] if rule in (one.name, one.key)), None)
            if chosen is None:
                raise KeyError(rule)
        else:
            chosen = rules.configured(app, replay.parse(rule, str(self.shared.data_dir)))
        names = await self._store.instances(app)
        whole = chosen.kind.scope == "app"
        wanted = [name for name in names if name == replay.ALL or not whole]
        span = max(0.0, until - since)
        step = next((one for one in STEPS if span / one * len(wanted) <= REPLAYED), STEPS[-1])
        step = step if step > STEPS[0] else 0  # the finest that there is of that time
        points = {name: await self._store.points(app, name, since, until, step) for name in wanted}
        return await asyncio.to_thread(replay.run, chosen, points, since, until)

    # --- what is configured -----------------------------------------------------------------------------

    def configure(self, config: Config) -> None:
        """At the start, and after each reload."""
        for name in config.apps:
            self.configure_app(config, name)
        for name in [name for name in self.rules if name not in config.apps]:
            del self.rules[name]
            self._memories.pop(name, None)
        keys = {(name, rule.key) for name, found in self.rules.items() for rule in found}
        self._status = {key: status for key, status in self._status.items() if key in keys}

    def configure_app(self, config: Config, name: str) -> None:
        """An app's rules, and what is counted for them, for its scaling, and for alerts."""
        app = config.apps[name]
        given = (*(rules.configured(name, one) for one in app.autoheal), *rules.diagnosing(name, app.diagnose))
        found = (*given, *builtin.rules(name, app))
        self._remember(name, found)
        self.rules[name] = found
        scaling = (*app.scale.out, *app.scale.in_) if app.scale is not None else ()
        own = [rule.condition for rule in found if not rule.builtin]
        alerts = [one.when for one in config.alerts if not one.apps or name in one.apps]
        others = [*scaling, *(when for when in alerts if when.kind in KINDS)]
        watches = {watch.key: watch for watch in all_watches(others)}
        watches |= {watch.key: watch for rule in found for watch in rule.kind.watches(rule.condition)}
        if name in self.apps:
            self.apps[name].watches = tuple(watches[key] for key in sorted(watches))
        reach = max(one.within for one in (*others, *(rule.condition for rule in found)))
        self.readings.need("rules", name, reach)
        self.readings.watch_files(name, (one.files for one in own if one.kind == "changed" and one.files))

    def _remember(self, name: str, found: Iterable[Rule]) -> None:
        """What is known of rules that are still there; what has happened before a rule was is none of its business."""
        known = self._memories.setdefault(name, {})
        before = {rule.key: rule.condition for rule in self.rules.get(name, ())}
        for rule in found:
            memory = known.get(rule.key)
            if memory is None:
                memory = known[rule.key] = Memory()
                if rule.kind.once:
                    changed = rule.kind.name == "changed"
                    memory.handled = time.monotonic() if changed else cron.local_minute(time.time())
            elif before.get(rule.key, rule.condition) != rule.condition:
                memory.spells.clear()
        for key in known.keys() - {rule.key for rule in found}:
            del known[key]

    # --- once a second ----------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Readings, then rules, in pieces that leave the loop to others. `now` is monotonic."""
        self._spread.start(chain(self.readings.work(now), self.work(now)))

    def work(self, now: float) -> Iterator[None]:
        """Rules, one after another."""
        unix = time.time()
        if self.shared.stopping:
            for task in self._tasks:
                task.cancel()
            return
        self._go_on()
        for name, found in list(self.rules.items()):
            for rule in found:
                app = self.apps.get(name)
                if app is not None and rule in self.rules.get(name, ()):
                    yield from self._rule(app, rule, now, unix)

    def _broke(self, error: Exception) -> None:
        """A defect in a rule or a reading must not end control; the same one is told once."""
        if repr(error) != self._told:
            self._told = repr(error)
            where = "".join(traceback.format_exception(error))[-2000:]
            self.shared.log.error("defect", f"rules or their readings failed: {error!r}", traceback=where)

    def _rule(self, app: AppState, rule: Rule, now: float, unix: float) -> Iterator[None]:
        memory = self._memory(rule)
        status = self._status.setdefault((app.name, rule.key), Status())
        status.waits = ""
        if rule.off:
            return
        if not self.readings.settled:
            status.seen, status.holds = {}, {}
            status.waits = "control has just started: there is no reading long enough"
            return
        due: list[tuple[str, Seen]] = []
        looked: dict[str, tuple[Seen, float]] = {}
        for target in self._targets(app, rule):
            series = self.readings.instance(app.name, target) if target else self.readings.app(app.name)
            if series is None or series.last is None:
                continue
            seen = rule.kind.look(rule.condition, series, now)
            fresh = not rule.kind.once or seen.token > self._handled(memory, seen)
            known = target in memory.spells and memory.spells[target].since
            if seen.met and not fresh:
                seen = replace(seen, met=False, value=0.0, words=f"{seen.words}; it has been seen to")
            held = memory.held(target, seen.met, seen.token, now)
            looked[target] = (seen, held)
            if seen.met:
                if not known and rule.condition.for_:
                    self._keep()
                if held >= rule.condition.for_:
                    due.append((target, seen))
            yield
        status.seen, status.holds = looked, {}
        memory.forget(set(app.instances))
        acting = {one.instance for one in self._running.values() if (one.app, one.title) == (app.name, rule.title)}
        due = [(target, seen) for target, seen in due if target not in acting and "" not in acting]
        for target in [target for target in status.said if target not in {one for one, _ in due}]:
            del status.said[target]
        for target, seen in sorted(due, key=lambda one: -(one[1].value or 0.0))[:AT_ONCE]:
            if self._consider(app, rule, memory, status, target, seen, now, unix):
                break  # one at a time: the next in a second
            yield

    @staticmethod
    def _targets(app: AppState, rule: Rule) -> list[str]:
        if rule.kind.scope == "app":
            return [""]
        return [one.name for one in app.instances.values() if one.lifecycle is Lifecycle.READY]

    @staticmethod
    def _handled(memory: Memory, seen: Seen) -> float:
        """The last token that was acted on; one that lies far ahead is of a clock that was wrong."""
        if seen.token and memory.handled > seen.token + DAY:
            memory.handled = 0.0
        return memory.handled

    def _consider(
        self,
        app: AppState,
        rule: Rule,
        memory: Memory,
        status: Status,
        target: str,
        seen: Seen,
        now: float,
        unix: float,
    ) -> bool:
        """Whether it fired."""
        at = self._scene.situation(app, rule, memory, status, target, now, unix)
        hold = guards.first(rule, memory, at)
        if hold is not None:
            status.holds[target] = hold
            if hold.guard == "off":
                self._would(app, rule, memory, target, seen, now, unix, hold)
            elif status.said.get(target) != hold.guard and not rule.dry_run and self._is_news(memory, target, hold):
                status.said[target] = hold.guard
                what = f"{rule.title} would {words.steps(rule.steps)} {target or app.name} ({seen.words}), but"
                self.shared.event(
                    "heal-suppressed", f"{what} {hold.why}", app.name, target, rule=rule.name, guard=hold.guard
                )
            return False
        reason = scene.reason(rule, status, target)
        if rule.kind.once:
            memory.handled = seen.token
        memory.fire(rule, target, now, unix, at.ready_since)
        self._fire(app, rule, memory, status, target, seen, reason, unix)
        self._keep()
        return True

    @staticmethod
    def _is_news(memory: Memory, target: str, hold: Hold) -> bool:
        """That what it has acted on is still so in its cooldown is none."""
        spell = memory.spells.get(target)
        return hold.guard != "cooldown" or (spell is not None and spell.since > memory.fired_at)

    def _fire(
        self,
        app: AppState,
        rule: Rule,
        memory: Memory,
        status: Status,
        target: str,
        seen: Seen,
        reason: str,
        unix: float,
    ) -> None:
        firing = Firing(
            id=f"heal-{self._next}", app=app.name, rule=rule.name, title=rule.title, instance=target, value=seen.words,
            reason=reason, at=unix, steps=rule.steps, builtin=rule.builtin, dry=rule.dry_run,
            batch=rule.max_unavailable, eject_for=rule.cooldown or 300.0,
            targets=scene.unhealthy(app) if rule.kind.name == "unhealthy" else (),
        )  # fmt: skip
        self._next += 1
        self.firings.append(firing)
        if rule.dry_run:
            memory.would, memory.would_unix = memory.would + 1, unix
            self._said_would(firing, "it is a dry run")
            return
        text = f"{rule.title} fires: {words.steps(rule.steps)} {target or app.name}; it saw: {seen.words}"
        self.shared.event(
            "heal", text, app.name, target, rule=rule.name, value=seen.words, reason=reason, firing=firing.id
        )
        self._start(app, rule, firing)
        status.acting = f"{words.steps(rule.steps)} of {firing.target} since it saw: {seen.words}"

    def _would(
        self, app: AppState, rule: Rule, memory: Memory, target: str, seen: Seen, now: float, unix: float, hold: Hold
    ) -> None:
        """A person has autoheal off: say what it would have done, as often as it could have done it."""
        if now < memory.would_until:
            return
        memory.would_until = now + max(rule.cooldown, rules.LEAST)
        memory.would, memory.would_unix = memory.would + 1, unix
        if rule.kind.once:
            memory.handled = seen.token
        firing = Firing(
            id=f"heal-{self._next}", app=app.name, rule=rule.name, title=rule.title, instance=target, value=seen.words,
            reason=rules.reason(rule), at=unix, steps=rule.steps, builtin=rule.builtin, dry=True,
        )  # fmt: skip
        self._next += 1
        self.firings.append(firing)
        self._said_would(firing, hold.why)
        self._keep()

    def _said_would(self, firing: Firing, why: str) -> None:
        text = f"{firing.title} would {words.steps(firing.steps)} {firing.target}, but {why}; it saw: {firing.value}"
        self.shared.event(
            "would-heal", text, firing.app, firing.instance, rule=firing.rule, value=firing.value, firing=firing.id
        )
        self._store.act(_act(firing))

    # --- chains -----------------------------------------------------------------------------------------

    def _start(self, app: AppState, rule: Rule | None, firing: Firing) -> None:
        def note(operation: Operation) -> None:
            firing.outcomes[-1].operation = operation.id
            if rule is not None:
                self._memory(rule).operation = operation.id
            self._keep()

        bench = Bench(self.shared, self.mender, app, firing, note, lambda: self._scene.crowded(app, firing))

        async def work() -> None:
            await perform(bench, ACTIONS, self._keep)
            del self._running[firing.id]
            came = "; ".join(f"{one.act} {one.state}{f' ({one.why})' if one.why else ''}" for one in firing.outcomes)
            bad = any(one.state == "failed" for one in firing.outcomes)
            text = f"{firing.title} on {firing.target}: {came}"
            self.shared.event(
                "heal-failed" if bad else "heal-done", text, firing.app, firing.instance, rule=firing.rule,
                firing=firing.id, outcomes=[[one.act, one.state, one.why] for one in firing.outcomes],
            )  # fmt: skip
            self._store.act(_act(firing))
            if rule is not None and (status := self._status.get((firing.app, rule.key))) is not None:
                status.acting = ""
            self._keep()

        self._running[firing.id] = firing
        task = asyncio.get_running_loop().create_task(work(), name=f"{firing.id} {firing.title}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _go_on(self) -> None:
        """Chains of a former control, once their apps are there."""
        orphans, self._orphans = self._orphans, []
        for firing in orphans:
            app = self.apps.get(firing.app)
            if app is None:
                firing.ended = time.time()
                continue
            found = (
                one for one in self.rules.get(app.name, ()) if (one.name, one.builtin) == (firing.rule, firing.builtin)
            )
            self._start(app, next(found, None), firing)

    async def close(self) -> None:
        """Control ends; a successor goes on with the chains."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- for a successor --------------------------------------------------------------------------------

    def dump(self) -> dict[str, Any]:
        return {
            "next": self._next,
            "rules": {
                app: {key: raw for key, memory in known.items() if (raw := memory.dump())}
                for app, known in self._memories.items()
            },
            "firings": [one.dump() for one in self._worth_keeping()],
        }

    def _worth_keeping(self) -> Iterable[Firing]:
        ended = [one for one in self.firings if not one.running][-KEPT:]
        return [one for one in self.firings if one.running or one in ended]

    def load(self, raw: dict[str, Any]) -> None:
        """Before `configure`."""
        self._next = max(self._next, int(raw.get("next", 1)))
        self._memories = {
            app: {key: Memory.load(one) for key, one in known.items()} for app, known in raw.get("rules", {}).items()
        }
        for one in raw.get("firings", ()):
            firing = Firing.load(one)
            self.firings.append(firing)
            if firing.running:
                self._orphans.append(firing)

    def _memory(self, rule: Rule) -> Memory:
        return self._memories.setdefault(rule.app, {}).setdefault(rule.key, Memory())


def _act(firing: Firing) -> Act:
    last = next((one.operation for one in reversed(firing.outcomes) if one.operation), "")
    return Act(
        rule=firing.rule, app=firing.app, instance=firing.instance, value=firing.value, reason=firing.reason,
        outcomes=tuple((one.act, f"{one.state}{f': {one.why}' if one.why else ''}") for one in firing.outcomes),
        operation=last, dry=firing.dry, details={"firing": firing.id, "builtin": firing.builtin}, at=firing.at,
    )  # fmt: skip
