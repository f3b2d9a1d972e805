"""What all connections of a worker share: the table in force, clocks, timers, counts, and the ways to control.

Always true:
  - nothing here waits; what has to be waited for is a task in connector or listen;
  - connections are accepted only after the first table, and each table is acknowledged once it is in force.

It is longer than most modules: what every connection uses is an attribute here, one step away.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from proxy import faults
from proxy.dataplane.access_log import AccessLog
from proxy.dataplane.account import settle
from proxy.dataplane.app import App
from proxy.dataplane.connector import Connector
from proxy.dataplane.exchange import Exchange
from proxy.dataplane.guard import RESERVE, Guard
from proxy.dataplane.ids import Ids
from proxy.dataplane.listen import Listening
from proxy.dataplane.log import log
from proxy.dataplane.recorder import FlightRecorder, Kept
from proxy.dataplane.spans import Spans
from proxy.dataplane.splice import Pipes
from proxy.dataplane.story import Stories
from proxy.dataplane.tally import Tally
from proxy.dataplane.wheel import TICK, Wheel
from proxy.link import messages
from proxy.link.board import Board
from proxy.wire.forwarding import Forwarding, via_loops
from proxy.wire.hosts import HostTable
from proxy.wire.request import HeadError
from proxy.wire.response import ResponseHead

if TYPE_CHECKING:
    from proxy.dataplane.client import ClientConnection
    from proxy.dataplane.instance import Instance
    from proxy.dataplane.upstream import InstanceConnection
    from proxy.wire.request import Fields

monotonic = time.monotonic

LOOK: Final = 0.02
"""How often a queue is looked at while somebody waits."""
FATE_WAIT: Final = 1.0
"""Seconds to wait for control's word on an instance that ended; then it counts as ended by itself."""
OLDEST: Final = 1.0
"""Seconds that a request waits for its response head before control is told since when."""
_LEARN: Final = 0.01
HEADS_REMEMBERED: Final = 512
ANSWERS_REMEMBERED: Final = 64
HEAD_REMEMBERED: Final = 4096
"""Bytes of the longest section worth it: 2 MiB at most."""


class Worker:
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        column: int,
        epoch: str,
        board: Board,
        wakeups: list[int],
        send: Callable[[messages.ToControl], None],
    ) -> None:
        self.loop = loop
        self.column = column
        self.epoch = epoch
        self.board = board
        self.send = send
        self._wakeups = wakeups
        self.settings = messages.Settings()
        self.version = 0
        self.apps: dict[str, App] = {}
        self.routes = HostTable([])
        self.forwarding = Forwarding([], self.settings.gateway_id)
        self.secret = b""
        self.ids = Ids(column, int(time.time()))
        self.trace = b"\r\ntraceparent: 00-" + self.ids.trace_prefix
        self.now = monotonic
        now = monotonic()
        self.wall = time.time() - now
        self.wheel = Wheel(now, self._due_broke)
        self.guard = Guard()
        self.ended: list[Exchange] = []
        """Finished, and not yet counted and recorded: see account.py."""
        self.flight = FlightRecorder()
        self.kept = Kept()
        self.stories = Stories()
        self.log: AccessLog | None = None
        self.spans: Spans | None = None
        """While traces are exported."""
        self.tell_spans_soon: Callable[[], object] = lambda: None
        self.self_checks = 0
        self.connector = Connector(self)
        self.connect = self.connector.begin
        self.forget_connect = self.connector.forget
        self.listening = Listening(self)
        self.heads: dict[bytes, Fields] = {}
        self.answers: dict[bytes, ResponseHead] = {}
        self._lines: dict[tuple[str, bool, int, bytes, bytes], bytes] = {}
        self.clients: set[ClientConnection] = set()
        self.paused: set[ClientConnection] = set()
        self.accepted = 0
        self.tunnels = 0
        self.replaying = 0
        self.pipes = Pipes()
        self.draining = False
        self.calm = True
        """Neither draining nor shedding."""
        self.slow = self.settings.slow
        self.head_limit = self.settings.head_limit
        self.idle_timeout = self.settings.idle_timeout
        self.target_limit = self.settings.target_limit
        self.on_drained: Callable[[], None] | None = None
        self._drain_idle = 2.0
        self.lag_us = 0
        self.lag_max_us = 0
        self._expected = now + TICK
        self._second = 0
        self._gateway_tallies: dict[str, Tally] = {}
        self._leaving: list[Instance] = []
        self._gone_tallies: list[Tally] = []
        self._waiting_apps: set[App] = set()
        self._news: set[Instance] = set()
        self._fates: dict[int, list[Exchange]] = {}
        self._fate_known: dict[int, messages.Fate] = {}
        loop.add_reader(wakeups[column], self._woken)
        loop.call_later(TICK, self._tick)

    # --- the table --------------------------------------------------------------------------------

    def apply(self, table: messages.Table) -> None:
        """Put a table in force and acknowledge it."""
        settle(self)
        if table.version != self.version:
            first = self.version == 0
            self.version = table.version
            self.board.columns = table.workers
            self.board.first = self.column if table.workers == 1 else 0
            self._apply_settings(table.settings)
            apps: dict[str, App] = {}
            for spec in table.apps:
                known = self.apps.pop(spec.name, None)
                if known is not None and known.spec.row != spec.row:
                    known.close()
                    known = None
                if known is None:
                    known = App(self, spec)
                else:
                    known.renew(spec)
                apps[spec.name] = known
            gone, self.apps = self.apps, apps
            self.routes = HostTable((spec.name, spec.hosts, spec.paths) for spec in table.apps)
            for app in gone.values():
                app.close()
            if first and not self.draining:
                self.loop.create_task(self.listening.open())
        self.send(messages.Ack(table.version))

    def _apply_settings(self, settings: messages.Settings) -> None:
        before, self.settings = self.settings, settings
        self.slow = settings.slow
        self.head_limit = settings.head_limit
        self.idle_timeout = self._drain_idle if self.draining else settings.idle_timeout
        self.target_limit = settings.target_limit
        if settings == before and self.log is not None:
            return
        self.forwarding = Forwarding(settings.trusted_proxies, settings.gateway_id)
        self.heads.clear()
        self._lines.clear()
        for client in self.clients:
            client.forget_heads()
        self.secret = bytes.fromhex(settings.secret)
        if settings.trace_sample != before.trace_sample:
            dropped = self.spans.dropped if self.spans is not None else 0
            on = settings.trace_sample >= 0
            self.spans = Spans(settings.trace_sample, dropped, self.tell_spans_soon) if on else None
        self.guard.limit(settings.connections_limit)
        self.listening.certificates.set(settings.certificates)
        self._set_log(settings, before)
        if settings.proxy_protocol != before.proxy_protocol and self.listening.is_open:
            self.loop.create_task(self._reopen())

    def _set_log(self, settings: messages.Settings, before: messages.Settings) -> None:
        log = self.log
        path, format = settings.access_log, settings.access_log_format
        size, files, age = settings.access_log_size, settings.access_log_files, settings.access_log_age
        if (path, format) != (before.access_log, before.access_log_format):
            if log is not None:
                log.close()
            self.log = AccessLog(path, format, size, files, age) if path else None
        elif log is not None:
            log.size, log.files, log.age = size, files, age

    async def _reopen(self) -> None:
        await self.listening.close()
        await self.listening.open()

    async def listen(self, listeners: list[messages.Listener], fds: list[int]) -> None:
        """Other listeners from now on."""
        was_open = self.listening.is_open
        await self.listening.close()
        self.listening.give(listeners, fds)
        if was_open:
            await self.listening.open()

    def left(self, instance: Instance) -> None:
        """An instance left the table: its counts are still to be told."""
        self._leaving.append(instance)
        instance.left_at = monotonic()
        if instance.own:
            drain = instance.app.spec.tunnel_drain
            self.loop.call_later(drain, self._cut_streams, instance)

    def _cut_streams(self, instance: Instance) -> None:
        """It left the table `tunnel.drain` ago."""
        for connection in tuple(instance.open):
            if connection.endless:
                self._cut(connection, faults.INSTANCE_RECYCLED, "tunnel.drain passed")

    # --- for exchanges ----------------------------------------------------------------------------

    def tally(self, app: App | None) -> Tally:
        """Counts of what reached no instance."""
        name = app.name if app is not None else ""
        found = self._gateway_tallies.get(name)
        if found is None:
            found = self._gateway_tallies[name] = Tally(name, "")
        return found

    def loops(self, via: bytes) -> bool:
        return via_loops(via, self.forwarding.pseudonym)

    def remember(self, section: bytes, fields: Fields) -> None:
        """Field lines that were understood: who sends the same again need not be read again."""
        if len(section) <= HEAD_REMEMBERED:
            if len(self.heads) >= HEADS_REMEMBERED:
                self.heads.clear()
            self.heads[section] = fields

    def remember_answer(self, raw: bytes, head: ResponseHead) -> None:
        """A response's head that may come again, on any connection: most differ by their Date only."""
        if len(raw) <= HEAD_REMEMBERED:
            if len(self.answers) >= ANSWERS_REMEMBERED:
                self.answers.clear()
            self.answers[raw] = head

    def forwarding_lines(self, peer: str, tls: bool, port: int, host: bytes, version: bytes) -> bytes:
        """The forwarding lines of a client that says nothing of others before it."""
        key = (peer, tls, port, host, version)
        lines = self._lines.get(key)
        if lines is None:
            if len(self._lines) >= HEADS_REMEMBERED:
                self._lines.clear()
            lines = self._lines[key] = self.forwarding.lines(peer, tls, port, host, None, version)
        return lines

    def default_host(self, transport: asyncio.Transport | None) -> bytes:
        """For a request of HTTP/1.0 without Host: where it came to."""
        name = transport.get_extra_info("sockname") if transport is not None else None
        if isinstance(name, tuple):
            host = f"[{name[0]}]" if ":" in name[0] else name[0]
            return f"{host}:{name[1]}".encode()
        return b"localhost"

    def queue_began(self, app: App) -> None:
        if not self._waiting_apps:
            self.loop.call_later(LOOK, self._look)
        self._waiting_apps.add(app)

    def _look(self) -> None:
        now = monotonic()
        for app in list(self._waiting_apps):
            try:
                app.look(now)
            except Exception as error:
                self.broke(error, None)
            if not app.queue:
                self._waiting_apps.discard(app)
        if self._waiting_apps:
            self.loop.call_later(LOOK, self._look)

    def wake(self, column: int) -> None:
        with contextlib.suppress(OSError):
            os.eventfd_write(self._wakeups[column], 1)

    def _woken(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wakeups[self.column])
        now = monotonic()
        for app in list(self._waiting_apps):
            app.serve(now)

    def stop_accepting(self) -> None:
        """Who connects now waits in the kernel's backlog; `_tick` opens again."""
        if self.listening.is_open:
            self.listening.is_open = False
            self.loop.create_task(self.listening.close())

    def client_gone(self) -> None:
        if self.draining:
            self._maybe_drained()

    def broke(self, error: BaseException, exchange: Exchange | None, client: ClientConnection | None = None) -> None:
        """A defect of ours in the course of a request: told, and the request ends instead of hanging."""
        trace = "".join(traceback.format_exception(error))
        log("internal-error", level="error", request=exchange.id.decode() if exchange is not None else "", trace=trace)
        if exchange is not None:
            client = exchange.client
        try:
            if exchange is not None:
                exchange.refuse(faults.INTERNAL_ERROR)
            elif client is not None and not client.closed:
                client.reject(HeadError(faults.INTERNAL_ERROR, ""), b"", monotonic())
        except Exception as second:
            log("internal-error", level="error", trace="".join(traceback.format_exception(second)))
        if client is not None and exchange is not None and client.exchange is exchange:
            client.cut()

    # --- instances --------------------------------------------------------------------------------

    def learned(self, instance: Instance) -> None:
        """Something happened on it that control should know: said within 10 ms."""
        if not self._news:
            self.loop.call_later(_LEARN, self._tell_news)
        self._news.add(instance)

    def _tell_news(self) -> None:
        for each in self._news:
            news, each.news = each.news, {}
            refused, each.refused = each.refused, False
            good, each.good = each.good, 0
            self.send(messages.Learned(each.app.name, each.name, each.row, good, news, each.streak, refused))
        self._news.clear()

    def has_ended(self, instance: Instance) -> bool:
        """Whether its process has ended, or is ending: the kernel closes its sockets after marking it so."""
        try:
            with open(f"/proc/{instance.spec.pid}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            return True
        return fields[0] in (b"Z", b"X") or bool(int(fields[6]) & 0x4)  # PF_EXITING

    def ask_fate(self, instance: Instance, exchange: Exchange) -> None:
        """The instance ended while it had this request: control knows how."""
        known = self._fate_known.get(instance.row)
        if known is not None and known.instance == instance.name:
            self.loop.call_soon(exchange.fate, known, monotonic())
            return
        waiting = self._fates.setdefault(instance.row, [])
        waiting.append(exchange)
        if len(waiting) == 1:
            self.send(messages.Lost(instance.name, instance.row))
            unknown = messages.Fate(
                instance.name, instance.row, True, by_itself=True, words="how it ended is not known"
            )
            self.loop.call_later(FATE_WAIT, self.fate, unknown, False)

    def fate(self, fate: messages.Fate, told: bool = True) -> None:
        """Control's word on an instance."""
        if told and fate.ended:
            if len(self._fate_known) > 256:
                self._fate_known.clear()
            self._fate_known[fate.row] = fate
        if not fate.ended:
            return  # /proc says it is ending: the word will follow
        now = monotonic()
        for exchange in self._fates.pop(fate.row, ()):
            exchange.fate(fate, now)

    def cut(self, row: int, fault_name: str) -> None:
        """The drain limit passed: end what is still on this instance, but for what `tunnel.drain` still lets go on."""
        now = monotonic()
        fault = faults.FAULTS[fault_name]
        instances = [*self._leaving, *(each for app in self.apps.values() for each in app.instances.values())]
        for instance in instances:
            if instance.row == row:
                streams_go_on = instance.gone and now < instance.left_at + instance.app.spec.tunnel_drain
                for exchange in self.connector.for_whom(instance):
                    exchange.failed(fault, "the drain limit passed", now=now)
                for connection in tuple(instance.open):
                    if not (streams_go_on and connection.endless):
                        self._cut(connection, fault, "the drain limit passed")

    def _cut(self, connection: InstanceConnection, fault: faults.Fault, why: str) -> None:
        now = monotonic()
        exchange = connection.exchange
        if exchange is None:
            connection.close()
        elif exchange.tunnel:
            client = exchange.client
            exchange.tunnel_ended(now, fault, why)
            client.close_after_writing()
        else:
            exchange.failed(fault, why, now=now)

    # --- time -------------------------------------------------------------------------------------

    def _due_broke(self, error: Exception, entry: object) -> None:
        self.broke(error, entry if isinstance(entry, Exchange) else getattr(entry, "exchange", None))

    def _tick(self) -> None:
        now = monotonic()
        lag = now - self._expected
        self.lag_us = lag_us = int(lag * 1e6)
        if lag_us > self.lag_max_us:
            self.lag_max_us = lag_us
        self.guard.tick(lag)
        self.calm = not (self.draining or self.guard.shedding)
        self._expected = now + TICK
        self.loop.call_later(TICK, self._tick)
        settle(self)
        self.wheel.turn(now)
        wall = time.time()
        second = int(wall)
        if second != self._second:
            self._second = second
            self.ids.tell(second)
            self.wall = wall - now
            self._each_second(now)
        if not self.draining:
            clients, guard = len(self.clients), self.guard
            if clients >= guard.most_clients + RESERVE:
                self.stop_accepting()
            elif not self.listening.is_open and self.version and clients < guard.most_clients:
                self.loop.create_task(self.listening.open())

    def _each_second(self, now: float) -> None:
        self.guard.look_at_memory()
        if self.guard.descriptors_short:
            for app in self.apps.values():
                for instance in app.instances.values():
                    instance.close_idle()
        for client in tuple(self.paused):
            client.look(now)
        if self._second % 10 == 0:
            self.listening.certificates.look()
        for instance in tuple(self._leaving):
            if not instance.own and not instance.open:
                self._leaving.remove(instance)
                instance.tally.dirty = True
                self._gone_tallies.append(instance.tally)

    # --- what is told twice a second --------------------------------------------------------------

    def changed(self, everything: bool = False) -> list[Tally]:
        """Counts that were not told since they changed."""
        settle(self)
        tallies = [*self._gateway_tallies.values(), *self._gone_tallies]
        tallies += [each.tally for each in self._leaving]
        tallies += [each.tally for app in self.apps.values() for each in app.instances.values()]
        self._gone_tallies.clear()
        return tallies if everything else [each for each in tallies if each.dirty]

    def oldest(self, now: float) -> dict[str, dict[str, float]]:
        """App and instance to since when its oldest request, sent whole, waits for a response head; over 1 s only."""
        found: dict[str, dict[str, float]] = {}
        for app in self.apps.values():
            for instance in app.instances.values():
                if instance.own:
                    since = instance.waits_since()
                    if now - since > OLDEST:
                        found.setdefault(app.name, {})[instance.name] = since
        return found

    def heard(self) -> dict[str, dict[str, float]]:
        """App and instance to when content last came from it: a stream shows that it lives, whichever worker has it."""
        found: dict[str, dict[str, float]] = {}
        for app in self.apps.values():
            for instance in app.instances.values():
                if instance.own and (at := instance.heard_at()):
                    found.setdefault(app.name, {})[instance.name] = at
        return found

    # --- the end ----------------------------------------------------------------------------------

    async def drain(self, limit: float, idle: float) -> None:
        """Stop accepting; end when the last connection has, or when `limit` seconds passed."""
        if self.draining:
            return
        self.draining = True
        self.calm = False
        self.idle_timeout = self._drain_idle = idle
        await self.listening.close()
        self.listening.give([], [])
        now = monotonic()
        for client in tuple(self.clients):
            client.drain(now, idle)
        self.loop.call_later(limit, self._end_now)
        self._maybe_drained()

    def _end_now(self) -> None:
        for client in tuple(self.clients):
            exchange = client.exchange
            if exchange is not None and not exchange.tunnel:
                exchange.refuse(faults.GATEWAY_OVERLOAD, "the gateway is ending")
            client.cut()
        if self.on_drained is not None:
            self.on_drained()

    def _maybe_drained(self) -> None:
        if not self.clients:
            self.loop.call_later(TICK, self._drained)

    def _drained(self) -> None:
        """A tick later: one that was accepted just before the listeners closed may have come."""
        if self.listening.handing_over:
            self._maybe_drained()
        elif not self.clients and self.on_drained is not None:
            self.on_drained()
