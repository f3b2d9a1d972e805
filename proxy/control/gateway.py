"""The root object: all of control's parts, put together, and what admin reads and calls.

Reading is plain attributes: `config`, `apps` (AppState), `workers` (WorkerState), `events`, `records`, `counters`,
`board`, `listeners`.
Calls: `reload`, `find`, `verdict`, `last_lines`, `stacks`, `shutdown`.

It is longer than most modules: it is the one place where news from launcher and workers meets state, table and ledger.

Always true:
  - whatever changes state calls `changed()`; one table and one ledger text per turn of the loop follow from it;
  - an exit is acknowledged to the launcher only after the ledger knows of it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

import proxy
from proxy import faults, masking, units
from proxy.config import Config, ConfigProblems, Process, diff, worker_count
from proxy.control import cgroups, ledger, reload, room, routing, sampling
from proxy.control.agents import Agents
from proxy.control.alerts.engine import Alerts
from proxy.control.alerts.metrics import Metrics as AnyMetric
from proxy.control.autoheal.engine import Engine
from proxy.control.autoheal.readings import Readings
from proxy.control.counters import Counters
from proxy.control.dns import Watcher, literal
from proxy.control.fate import OomWatch
from proxy.control.fates import Fates
from proxy.control.incidents.health import Health
from proxy.control.inside.kill import Killer
from proxy.control.launcher import Launcher, Refused
from proxy.control.limits import Limits
from proxy.control.log import Log
from proxy.control.logs.book import LogBook
from proxy.control.logs.writer import LogWriter
from proxy.control.mend import Mender
from proxy.control.metrics.exemplars import Exemplars
from proxy.control.metrics.own import Lag, Own
from proxy.control.metrics.rings import Rings
from proxy.control.names import Numbers, Rows
from proxy.control.process import ProcessRunner
from proxy.control.records import RecordStore
from proxy.control.scaler import Scaler
from proxy.control.sessions.engine import Sessions
from proxy.control.sessions.run import KIND
from proxy.control.sessions.triggers import Triggers
from proxy.control.shared import Shared
from proxy.control.stacks import stacks
from proxy.control.state import AppState, Events, InstanceState, ReloadResult, Usage, Verdict, WorkerState
from proxy.control.store import Store, retention, sample
from proxy.control.store.points import STEPS
from proxy.control.supervisor import Pool
from proxy.control.traces import Traces
from proxy.control.upgrade import Upgrade
from proxy.control.watch import FileWatcher
from proxy.control.workers import Workers
from proxy.link import messages as link
from proxy.link.board import APPS, ROWS, Board
from proxy.link.spawn import ExitRecord, Listener, Plan, write_ledger

FIND_WITHIN: Final = 1.0
BEAT: Final = 2.0
AFTER_WORKERS: Final = 3.0
"""Seconds that instances get to end when the workers used up the drain limit."""


class Lasting(Protocol):
    """A part that a new control goes on with."""

    def dump(self) -> dict[str, Any]: ...

    def load(self, raw: dict[str, Any]) -> None:
        """`raw` is {} when nothing is known."""


class Gateway:
    """See the module."""

    def __init__(
        self,
        launcher: Launcher,
        plan: Plan,
        log: Log,
        config: Config,
        text: str,
        known: ledger.Known,
        board: Board,
        descriptors: list[int],
        ledger_fd: int,
        launcher_pid: int,
    ) -> None:
        self.version: str = proxy.__version__
        self.launcher = launcher
        self.launcher_pid = launcher_pid
        self.plan = plan
        self.run_mode: bool = plan["run"]
        self.config = config
        self.config_path: str = plan["config_path"] or "triage run"
        self.config_text = text
        self.started_at = time.time()  # of this control
        self.data_dir = Path(plan["data_dir"])
        self.log = log
        self.board = board
        self.events = Events(known.next_event)
        self.events.ring.extend(known.events)
        self.records = RecordStore(age=config.keep.requests)
        self.counters = Counters()
        self.apps: dict[str, AppState] = {}
        self.stopping = False
        self.lag = 0.0
        """How late this loop's last tick came, in seconds."""
        self.table_version = known.table
        self.ledger_error = ""
        self.pools: dict[str, Pool] = {}
        self.leaving: list[Pool] = []  # of apps that left the config; their instances drain
        self.app_rows = Rows(APPS, (int(app["row"]) for app in known.apps.values()))
        self.secret = ""
        self.pages: dict[str, str] = {}
        self.admin_address = ""
        """Of the admin API over TCP, as it really is."""
        self._ledger_fd = ledger_fd
        self._dirty = False
        self._unsaved = False
        self._handed_over = False
        self._writer = ledger.Writer()
        self._questions: dict[int, asyncio.Future[None]] = {}
        self._answers: dict[int, list[link.Record]] = {}
        self._missing: dict[int, int] = {}
        self._next_question = 1
        self._to_ack: list[int] = []
        self._reloading = asyncio.Lock()
        self._seen: dict[tuple[int, str, str, str], tuple[int, int, int]] = {}  # (worker, epoch, app, instance)
        self._ended = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.each_second: list[Callable[[float], None]] = []
        """Called with monotonic time, by who has something to do once a second."""
        self.on_fault: list[Callable[[link.Record], None]] = []
        """Called with each record of a fault that is not the client's doing, the moment it comes; must be quick."""
        self.lasting: dict[str, Lasting] = {}
        """Parts whose state goes along in the ledger, by name."""
        numbers = Numbers(self.data_dir / "numbers.json", known.numbers)
        self.shared = Shared(
            launcher=launcher,
            plan=plan,
            log=log,
            events=self.events,
            board=board,
            numbers=numbers,
            rows=Rows(ROWS, (state.row for state, _ in known.instances)),
            logs=LogWriter(
                self.data_dir / "logs" / "instances", config.keep.instance_logs.size, config.keep.instance_logs.files
            ),
            dns=Watcher(self._resolved),
            oom=OomWatch(room.memory_cgroup()),
            limits=Limits(lambda: cgroups.find(self.data_dir, launcher_pid)),
            changed=self.changed,
            noted=self._save_soon,
            left=self._left,
            broadcast=lambda message: self._workers.broadcast(message),
        )
        self.operations = self.shared.operations
        self.store = Store(
            self.data_dir, self.events, self.shared.event, _limits(config), fresh=not known.table
        )
        self.events.listeners.append(self.store.event)
        self.logbook = self.shared.logbook = LogBook(
            self.shared.logs, self.apps, self.shared.event, self._save_soon, self.store.exception
        )
        self.records.keep = self.store.request
        self.operations.keep = self.store.operation
        self._sampled = 0
        self.sessions = Sessions(self)
        self.killer = Killer(self)
        self.shared.collect = self.sessions.evidence.collect
        self.lasting["sessions"] = self.sessions
        self.each_second.append(self.sessions.tick)
        self.mender = Mender(self.shared, self.operations, self.pools)
        self.watcher = FileWatcher(
            self.shared, self.apps, self.mender.act, lambda app: self.pools[app].try_failed()
        )
        self.readings = Readings(self.apps, self.counters, board, lambda: self.workers, self.watcher.fingerprint)
        self.own = Own(self.data_dir)
        self.exemplars = Exemplars()
        self.own_lag = Lag()
        self.sampler = sampling.Sampler()
        self.rings = Rings(
            self.apps,
            self.counters,
            board,
            lambda: self.workers,
            lambda: self.readings.settled,
            self.own,
            fresh=not known.table,
            find=self.find,
            keep=self.store.freeze,
            losses=lambda: (self.output_lost, sum(self.store.dropped.values())),
            lag=self.own_lag.take,
            broke=lambda error: log.error("defect", f"the rings of metrics failed: {error!r}"),
        )
        self.scaler = Scaler(
            self.shared, self.apps, self.mender.act, self.readings, lambda app: self.pools[app].wake()
        )
        self.autoheal = Engine(self.shared, self.mender, self.apps, self.readings, self.store, self._save_soon)
        self.each_second += [self.watcher.tick, self.autoheal.tick, self.scaler.tick]
        self.lasting["autoheal"] = self.autoheal
        self.lasting["watcher"] = self.watcher
        self.lasting["logs"] = self.logbook
        self.each_second.append(self.logbook.tick)
        self.lasting["scaler"] = self.scaler
        self.lasting["operations"] = self.operations
        self.lasting["by_hand"] = self.shared.by_hand
        self.each_second.append(self.mender.tick)
        self.each_second.append(self.rings.tick)
        self.health = Health(self, fresh=not known.table)
        self.incidents, self.self_check = self.health.incidents, self.health.self_check
        self.incidents.freeze = lambda app, why: self.rings.freeze(app, "", why)
        self.each_second.append(self.health.tick)
        self.lasting["incidents"] = self.health
        self.triggers = Triggers(self, self.sessions)
        self.shared.diagnose = self.triggers.by_rule
        self.agents = Agents(
            self.data_dir, self.apps, self.logbook.exceptions.take, self.shared.event, self.triggers.raised
        )
        self.each_second.append(self.agents.tick)
        self.alerts = Alerts(
            self.shared, self.apps, self.readings, self.incidents, AnyMetric(self.rings), self.store,
            lambda: (self.config.admin.url or self.admin_address).rstrip("/"), self._save_soon,
        )  # fmt: skip
        self.each_second.append(self.alerts.tick)
        self.lasting["alerts"] = self.alerts
        for name, part in self.lasting.items():
            part.load(known.parts.get(name, {}))
        self.alerts.configure(config)
        self._workers = Workers(
            launcher, self.shared.event, board, descriptors, self.data_dir, self._from_worker, self._table
        )
        self.traces = Traces(self._place, lambda: routing.gateway_id(self.secret))
        self.traces.configure(config.traces, config.gateway.slow)
        self.upgrade = Upgrade(self, ledger_fd)
        self._workers.on_other_code = self.upgrade.other_code
        self.fates = Fates(self.find_runner, self._workers.send)

    def __repr__(self) -> str:
        return f"<Gateway {len(self.apps)} apps, {len(self._workers.slots)} workers, table {self.table_version}>"

    # --- what admin asks -----------------------------------------------------------------------------

    @property
    def workers(self) -> list[WorkerState]:
        """By slot."""
        return list(self._workers.states.values())

    @property
    def listeners(self) -> list[Listener]:
        """Where clients connect, as it really is."""
        return self._workers.listeners

    @property
    def output_lost(self) -> int:
        """Bytes of instances' output that could not be written."""
        return self.shared.logs.lost

    def instance(self, name: str) -> InstanceState | None:
        """Present or gone of late."""
        for app in self.apps.values():
            found = app.instances.get(name) or next((one for one in reversed(app.gone) if one.name == name), None)
            if found is not None:
                return found
        return None

    def _place(self, app: str, instance: str) -> tuple[str, int]:
        """Address and port of an instance, for its spans."""
        state = self.apps.get(app)
        found = state.instances.get(instance) if state is not None else None
        found = found or (self.instance(instance) if instance else None)
        return (found.path, 0) if found and found.path else (found.host, found.port) if found else ("", 0)

    async def find(
        self, id_prefix: str, limit: int = 10, app: str = "", path: str = "", instance: str = ""
    ) -> list[link.Record]:
        """Records in the workers' flight recorders whose id (ours or the client's) begins so, newest first."""
        number, self._next_question = self._next_question, self._next_question + 1
        asked = [worker for worker in self._workers.slots.values() if worker.live]
        if not asked:
            return []
        found: list[link.Record] = []
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._answers[number], self._questions[number] = found, done
        self._missing[number] = len(asked)
        for worker in asked:
            worker.send(link.Find(number, id_prefix, limit, app, path, instance))
        try:
            async with asyncio.timeout(FIND_WITHIN):
                await done
        except TimeoutError:
            pass
        finally:
            del self._answers[number], self._questions[number], self._missing[number]
        return sorted(found, key=lambda record: record.time, reverse=True)[:limit]

    def verdict(self) -> Verdict:
        """Is it up, and if not quite, why."""
        if self.stopping:
            return Verdict("draining", ["Triage stops: running requests go on to their end"])
        lines = [f"{app.name}: {app.degraded}" for app in self.apps.values() if app.degraded]
        lines += [
            f"{worker.why}"
            if worker.why.startswith("worker")
            else f"worker{worker.slot + 1} {worker.state}: {worker.why}"
            for worker in self.workers
            if worker.why and worker.state in ("silent", "ended")
        ]
        wanted = [app for app in self.apps.values() if app.wanted]
        if not any(worker.state in ("alive", "silent") for worker in self.workers):
            return Verdict("down", ["no worker runs", *lines])
        if wanted and not any(app.serving for app in wanted):
            return Verdict("down", lines or ["no app has an instance that can be served"])
        return Verdict("degraded" if lines else "up", lines)

    @property
    def ready(self) -> bool:
        """For /readyz: listening, routing loaded, at least one app can be served, not draining."""
        working = any(worker.state == "alive" and worker.acked for worker in self.workers)
        return working and not self.stopping and any(app.serving for app in self.apps.values())

    def last_lines(self, instance: str, count: int = 20) -> list[str]:
        """What it printed last; of one that is gone, what its exit carries."""
        state = self.instance(instance)
        if state is None:
            return []
        if state.output is not None:
            lines = [line.text for line in state.output.last(count)]
            if lines:
                return lines
        return list(state.last_exit.last_lines[-count:]) if state.last_exit else []

    async def stacks(self, pid: int) -> str:
        """Of a Python process; raises stacks.NoStacks."""
        return await stacks(pid)

    async def reload(self, text: str | None, by: str, reason: str = "") -> ReloadResult:
        """A new config from `text`, or from the file. A bad one changes nothing."""
        async with self._reloading:
            try:
                config, read = await asyncio.to_thread(reload.read, text, self.config_path)
                if self.config.apps and not config.apps:
                    # An editor that empties a file before it writes it must not take every app off the network.
                    return self._refuse(["apps: none is left - to serve nothing, stop Triage"], by, reason)
                config, waits = reload.kept(self.config, config)
                pages = await asyncio.to_thread(reload.pages, config.gateway.error_pages)
                listeners = await self._listen(config)
            except ConfigProblems as error:
                return self._refuse(reload.problems(error), by, reason)
            except (Refused, OSError, UnicodeDecodeError) as error:
                return self._refuse([str(error)], by, reason)
            return await self._apply(config, read, pages, listeners, waits, by, reason)

    async def shutdown(self) -> None:
        """As SIGTERM: drain, end the instances, end."""
        self._later(self._stop())
        await self._ended.wait()

    # --- reload --------------------------------------------------------------------------------------

    def _refuse(self, problems: list[str], by: str, reason: str) -> ReloadResult:
        first = problems[0] if problems else ""
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        text = f"reload refused, nothing was changed: {first}{more}"
        self.shared.event("reload-refused", text, by=by, reason=reason, problems=problems)
        return ReloadResult(False, problems)

    async def _listen(self, config: Config) -> list[Listener]:
        """Open what is new, all or nothing. Raises Refused."""
        opened: list[Listener] = []
        add, _ = reload.listeners(config.gateway.listen, self.listeners)
        try:
            for address in add:
                opened.append(await self.launcher.listen(address))
        except Refused:
            for one in opened:
                await self.launcher.unlisten(one["name"])
            raise
        return opened

    async def _apply(
        self,
        config: Config,
        text: str,
        pages: dict[str, str],
        opened: list[Listener],
        waits: list[str],
        by: str,
        reason: str,
    ) -> ReloadResult:
        changes = diff(self.config, config)
        lines = reload.described(changes)
        if pages != self.pages and "error_pages" not in changes.gateway:
            lines.append("error pages changed")
        self.config, self.config_text, self.pages = config, text, pages
        self._workers.drain_limit = config.gateway.timeouts.drain
        self.shared.logs.size = config.keep.instance_logs.size
        self.shared.logs.files = config.keep.instance_logs.files
        self.records.age = config.keep.requests
        self.store.configure(_limits(config))
        self.traces.configure(config.traces, config.gateway.slow)
        for name in changes.removed:
            del self.apps[name]
            self.let_go(self.pools.pop(name))
        self.watch_names()
        self.autoheal.configure(config)
        self.alerts.configure(config)
        for name, change in changes.changed.items():
            self.pools[name].configure(config.apps[name])
            self.scaler.settle(self.apps[name])
            if change.fresh_instances:
                self.mender.config_changed(name, change.process_keys)
        self.logbook.look_soon()
        for name in changes.added:
            pool = self.add_app(name)
            self.scaler.settle(pool.app)
            pool.begin()
        _, close = reload.listeners(config.gateway.listen, self.listeners)
        for name in close:
            await self.launcher.unlisten(name)
        tls = reload.speaking_tls(config.gateway.listen, [*self.listeners, *opened])
        if opened or close or tls != self._workers.tls:
            self._workers.tls = tls
            await self._workers.listen([one for one in [*self.listeners, *opened] if one["name"] not in close])
        self.changed()
        await self._workers.resize(worker_count(config.gateway))
        said = "; ".join(lines) if lines else "nothing differs"
        self.shared.event("reload", f"reloaded by {by}: {said}", by=by, reason=reason, changes=lines, next_start=waits)
        return ReloadResult(True, [], lines, waits)

    def add_app(self, name: str, row: int = -1) -> Pool:
        """An app of the config, and its pool, which is yet to `begin`."""
        state = AppState(name, self.config.apps[name], self.app_rows.take() if row < 0 else row)
        self.apps[name] = state
        pool = self.pools[name] = Pool(self.shared, state)
        self.autoheal.configure_app(self.config, name)
        self.changed()
        return pool

    def let_go(self, pool: Pool) -> None:
        """Its app left the config: what is on its instances may end."""
        pool.remove()
        self.leaving.append(pool)
        self.changed()

        async def gone() -> None:
            await pool.ended()
            await self._left()
            self.leaving.remove(pool)
            self.app_rows.give_back(pool.app.row)
            self.changed()

        self._later(gone())

    def watch_names(self) -> None:
        """Addresses given by name are resolved from now on."""
        hosts = {address.host for app in self.config.apps.values() for address in app.addresses if address.host}
        self.shared.dns.watch({host for host in hosts if not literal(host)})

    def _resolved(self, host: str) -> None:
        answer = self.shared.dns.addresses(host)
        if answer.error:
            kept = f"; kept: {', '.join(answer.addresses)}" if answer.addresses else ""
            self.shared.event("dns", f"{answer.words}{kept}", host=host)
        for pool in self._all_pools():
            pool.resolved(host)

    # --- table and ledger ----------------------------------------------------------------------------

    def changed(self) -> None:
        """Something that workers or a successor must know is different now."""
        if not self._dirty:
            self._dirty = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        if self._dirty and not self._handed_over:
            self._dirty = False
            self._workers.publish()
            self._save_soon()

    def _save_soon(self) -> None:
        if not self._unsaved:
            self._unsaved = True
            asyncio.get_running_loop().call_soon(self.save)  # apart: with many instances each takes its time

    async def _left(self) -> None:
        if self._handed_over:
            await asyncio.Event().wait()  # no table is made here any more; who waits is cancelled
        self._flush()
        await self._workers.left(self.table_version)

    def _table(self) -> link.Table:
        self.table_version += 1
        return routing.table(
            self.table_version,
            self._workers.columns_told,
            self.config,
            self.apps.values(),
            self.secret,
            self.pages,
            time.monotonic(),
        )

    def hand_over(self) -> None:
        """Write the ledger for the last time: what happens from now on the launcher tells the next control."""
        self.logbook.hand_over()
        self.save()
        self._handed_over = True

    def save(self) -> None:
        """Write the ledger, then acknowledge the exits that it knows of now."""
        self._unsaved = False
        if self._handed_over:
            return
        generations: dict[str, str] = {}
        processes: dict[str, Process] = {}
        for pool in self._all_pools():
            for runner in pool.runners.values():
                if isinstance(runner, ProcessRunner):
                    generations[runner.state.name] = runner.generation
                    processes[runner.generation] = runner.process
        apps = [pool.app for pool in self._all_pools()]
        numbers = self.shared.numbers.next
        text = self._writer.write(
            self.config_text, self.table_version, apps, generations, processes, self.events, numbers,
            {name: part.dump() for name, part in self.lasting.items()},
        )  # fmt: skip
        try:
            write_ledger(self._ledger_fd, text)
            self.ledger_error = ""
        except OSError as error:
            self.ledger_error = str(error)
            self.log.error("ledger", f"the ledger could not be written: {error}")
        if self._to_ack:
            self.launcher.acknowledge(*self._to_ack)
            self._to_ack = []

    def _all_pools(self) -> Iterator[Pool]:
        yield from self.pools.values()
        yield from self.leaving

    # --- news ----------------------------------------------------------------------------------------

    def find_runner(self, instance: str) -> ProcessRunner | None:
        for pool in self._all_pools():
            runner = pool.runners.get(instance)
            if isinstance(runner, ProcessRunner):
                return runner
        return None

    def on_exit(self, record: ExitRecord) -> None:
        """The launcher reaped a child. One whose start is not answered yet has to wait: its output is on the way."""
        runner = self.find_runner(record["name"])
        if (runner is not None and runner.spawning) or self._workers.spawning(record["name"]):
            asyncio.get_running_loop().call_soon(self.on_exit, record)
            return
        self._to_ack.append(record["exit"])
        if record["kind"] == "worker":
            slot = next((slot for slot, one in self._workers.slots.items() if one.name == record["name"]), None)
            self._workers.on_exit(record)
            if slot is not None:
                self.counters.forget_worker(slot)
                for pool in self._all_pools():
                    pool.ejector.worker_gone(slot)
        elif record["kind"] == KIND:
            self.sessions.on_exit(record)
        else:
            for pool in self._all_pools():
                if record["name"] in pool.runners:
                    state = pool.app.instances[record["name"]]
                    ended = pool.on_exit(record)
                    if ended is not None:
                        inflight = self.board.total(state.row)
                        self._workers.broadcast(self.fates.of(state.name, state.row, ended, inflight))
                        self.records.refine(state.name, ended)
                        if not ended.ours and not self.stopping:
                            frozen = self.rings.ended(pool.app.name, state.name, f"{state.name} ended: {ended.words}")
                            self.triggers.crashed(pool.app, state.name, ended, frozen)
                    break
        self.changed()

    def _from_worker(self, slot: int, message: link.ToControl) -> None:
        match message:
            case link.Stats():
                began = self._workers.states[slot].started_at
                self.counters.apply(message, news=began >= self.started_at)
                self.rings.heard(message)
                self._count(slot, message)
            case link.Records(items=items):
                for record in items:
                    if record.fault in faults.FAULTS and faults.FAULTS[record.fault].origin is not faults.Origin.CLIENT:
                        for call in self.on_fault:
                            call(record)
                    if self.records.add(record):
                        self.exemplars.add(record)
                self.traces.add(items)
            case link.Sampled(items=items):
                self.traces.add(items)
            case link.Stories(items=told):
                for story in told:
                    self.store.story(story)
            case link.Learned():
                pool = self.pools.get(message.app)
                if pool is not None:
                    pool.learned(slot, message)
            case link.Lost():
                self.fates.lost(slot, message)
            case link.Suspect():
                pool = self.pools.get(message.app)
                if pool is not None:
                    pool.suspect(message)
            case link.BadResponse():
                pool = self.pools.get(message.app)
                if pool is not None:
                    pool.app.bad_response = msgspec.structs.replace(message, data=masking.raw(message.data))
            case link.Found():
                self._found(message)
            case link.Ready() | link.Ack() | link.Drained():
                pass  # workers.py has read it

    def _count(self, slot: int, stats: link.Stats) -> None:
        """For the windowed ratio of ejection, and for who answers: what was added since the last word."""
        now = time.monotonic()
        for row in stats.rows:
            pool = self.pools.get(row.app)
            if pool is None or not row.instance:
                continue
            key = (slot, stats.epoch, row.app, row.instance)
            bad = sum(
                count
                for name, count in row.faults.items()
                if name in faults.FAULTS and faults.FAULTS[name].blame is not faults.Blame.NO
            )
            good = row.classes[1] + row.classes[2]
            before = self._seen.get(key)
            self._seen[key] = (row.requests, bad, good)
            if before is not None:
                if good > before[2] and (state := pool.app.instances.get(row.instance)) is not None:
                    state.answered = now
                pool.ejector.counted(row.instance, now, row.requests - before[0], bad - before[1])

    def _found(self, message: link.Found) -> None:
        found = self._answers.get(message.question)
        if found is None:
            return
        found.extend(message.items)
        self._missing[message.question] -= 1
        if self._missing[message.question] == 0 and not self._questions[message.question].done():
            self._questions[message.question].set_result(None)

    # --- time ----------------------------------------------------------------------------------------

    async def beating(self) -> None:
        """The launcher ends a control that says nothing for 15 s: a loop that hangs does not get here."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + BEAT
            await asyncio.sleep(BEAT)
            self.lag = max(0.0, loop.time() - due)
            self.launcher.beat()

    async def ticking(self) -> None:
        """Once a second, as long as control lives."""
        ticks = 0
        self.own_lag.start()
        due = time.monotonic()
        while True:
            due = max(due + 1.0, time.monotonic() + 0.2)  # each second, whatever the work of one takes
            await asyncio.sleep(due - time.monotonic())
            ticks += 1
            self._workers.tick()
            for pool in self._all_pools():
                pool.tick()
            self.shared.oom.sample()
            for call in tuple(self.each_second):
                call(time.monotonic())
                await asyncio.sleep(0)  # each may take its 2 ms: not all in one turn of the loop
            await self._sample_store()
            if ticks % 5 == 0 and self.shared.numbers.error:
                await self.shared.numbers.write()
            if ticks % 60 == 0:
                self._tidy()
            await self._sample()

    async def _sample(self) -> None:
        states = [state for pool in self._all_pools() for state in pool.app.instances.values() if state.pid]
        own = {f"worker{worker.slot + 1}": worker.pid for worker in self.workers if worker.pid}
        own |= {"control": os.getpid(), "launcher": self.launcher_pid}
        found = await asyncio.to_thread(self._look, {state.name: state.pid for state in states}, own)
        for state in states:
            usage = found.get(state.name)
            if usage is not None and state.pid and state.pid == usage.pids[0]:
                before = state.usage if state.usage and state.pid in state.usage.pids else None
                sampling.follow(before, usage)
                state.usage = usage
                state.usage_history.append(usage)

    def _look(self, pids: dict[str, int], own: dict[str, int]) -> dict[str, Usage]:
        """In a thread."""
        self.own.look(own, time.monotonic())
        if not pids:
            return {}
        found = self.sampler.sample(pids, time.monotonic())
        self.shared.limits.look(found)
        return found

    async def open_store(self) -> None:
        """Numbers go on from what is there; what a former control could not write any more is handed over again."""
        began = await self.store.open()
        if self.events.ring and began.next_event > self.events.next_id:  # those since the ledger was written last
            self.events.ring.extend(await self.store.events_after(self.events.ring[-1].id))
        self.events.next_id = max(self.events.next_id, began.next_event)
        self.operations.at_least(began.next_operation)
        self.rings.at_least(began.next["frozen"])
        self.records.at_least(began.next["requests"])
        await self.health.begin(began.next["incidents"])
        await self.logbook.begin(self.store.exceptions)
        for event in self.events:
            self.store.event(event)
        for operation in self.operations:
            if not operation.running:
                self.store.operation(operation)

    async def _sample_store(self) -> None:
        """Points are of whole intervals of the clock. In parts: with a thousand instances each takes 2 ms."""
        now = time.time()
        interval = int(now) // STEPS[0]
        if interval != self._sampled:
            self._sampled = interval
            snapshot = self.counters.snapshot()
            await asyncio.sleep(0)
            extra = self.readings.extra()
            await asyncio.sleep(0)
            for key, more in self.rings.extra().items():
                extra.setdefault(key, {}).update(more)
            own, anew, self.rings.anew = self.rings.own_points(), self.rings.anew, False
            self.store.sample(
                sample.take(self.apps.values(), self.board, snapshot, now, time.monotonic(), extra, own, anew)
            )

    def _tidy(self) -> None:
        present = {(app.name, name) for app in self.apps.values() for name in app.instances}
        self.counters.fold_gone(present)
        epochs = {(slot, worker.state.epoch) for slot, worker in self._workers.slots.items()}
        self._seen = {
            key: value for key, value in self._seen.items() if key[:2] in epochs and (key[2], key[3]) in present
        }

    def _later(self, work: asyncio._CoroutineLike[None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- the end -------------------------------------------------------------------------------------

    def reload_later(self, by: str) -> None:
        """From the file, as soon as it can be."""

        async def work() -> None:
            await self.reload(None, by)

        self._later(work())

    def stop_later(self) -> None:
        """The launcher was asked to end."""
        self._later(self._stop())

    async def _stop(self) -> None:
        """Workers drain, then the instances end, then the launcher."""
        if self.stopping:
            return
        self.stopping = self.shared.stopping = True
        limit = self.config.gateway.timeouts.drain
        began = time.monotonic()
        self.shared.stop_by = began + limit
        self.shared.event("stopping", f"Triage stops; running requests have {units.duration(limit)}")
        await self.sessions.stop()
        await self._unlisten()
        self._workers.drain(max(0.5, limit - 1.0))
        if not await self._workers.ended(limit):
            self.log.warning("drain-cut", "workers outlasted the drain limit and were killed")
            await self._workers.kill()
            await self._workers.ended(2.0)
        self.shared.stop_by = max(self.shared.stop_by, time.monotonic() + AFTER_WORKERS)
        for pool in self._all_pools():
            pool.wake()
        try:
            async with asyncio.timeout(max(0.0, self.shared.stop_by - time.monotonic()) + 5.0):
                for pool in list(self._all_pools()):
                    await pool.ended()
        except TimeoutError:
            self.log.warning("will-not-end", "some instances did not end; the launcher kills them")
        took = units.duration(time.monotonic() - began)
        self.shared.event("stopped", f"all ended after {took}")
        if self.shared.numbers.error:
            await self.shared.numbers.write()
        self.save()
        self.agents.close()
        await self.alerts.close(1.0)
        await self.health.close()
        await self.traces.close()
        await self.logbook.close()
        self.logbook.last_words()
        await self.store.close()
        await asyncio.to_thread(self.shared.limits.close)
        self.launcher.bye(0)
        self._ended.set()

    async def _unlisten(self) -> None:
        """From now on who connects is refused, instead of waiting for an answer that will not come."""
        names = [one["name"] for one in self._workers.listeners]
        try:
            for name in names:
                await self.launcher.unlisten(name)
        except Refused as error:
            self.log.warning("not-unlistened", str(error))
        await self._workers.let_go()

    @property
    def over(self) -> asyncio.Event:
        """Set when everything has ended."""
        return self._ended

    @property
    def worker_set(self) -> Workers:
        """For composition only."""
        return self._workers

    async def close(self) -> None:
        """Let go of everything without touching it: control ends, the rest goes on."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.upgrade.close()
        self.own_lag.close()
        self.agents.close()
        await self.triggers.close()
        await self.rings.close()
        await self.alerts.close()
        await self.health.close()
        await self.traces.close()
        await self.autoheal.close()
        for pool in list(self._all_pools()):
            await pool.close()
        self.shared.dns.close()
        await self._workers.close()
        await self.logbook.close()
        self.logbook.last_words()
        await self.store.close()
        await self.sessions.close()
        await self.killer.close()
        os.close(self._ledger_fd)


def _limits(config: Config) -> retention.Limits:
    """How much and how long the store keeps."""
    return retention.Limits(config.keep.store, requests=config.keep.requests, incidents=config.keep.incidents)
