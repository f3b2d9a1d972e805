"""All that control knows of an app at one moment, for a session: `gather` takes it, `Taken.encode` makes bytes of it.

Taking is on the loop, in small pieces: references and copies of some microseconds. Masking, percentiles and encoding
come later, in a thread.

Always true:
  - a part that fails is left out, and `notes` says so; so does each bound that left something out;
  - what is told of requests has no query.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import resource
import time
from collections.abc import AsyncIterator, Awaitable, Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import msgspec

from proxy import masking
from proxy.control.autoheal import words
from proxy.control.counters import ALL
from proxy.control.logs.exceptions import Group
from proxy.control.logs.lines import Line
from proxy.control.metrics.own import Use
from proxy.control.metrics.ring import Held
from proxy.control.records import Filter
from proxy.control.sessions import behind, pieces, seconds, values
from proxy.control.state import AppState, Event, InstanceState, WorkerState
from proxy.control.store import NotReadable
from proxy.control.store.frozen import Packed, whole
from proxy.faults import FAULTS, NO_ROUTE, Origin
from proxy.link import session as link
from proxy.link.messages import BadResponse, Record

if TYPE_CHECKING:
    from proxy.control.gateway import Gateway

INSTANCES: Final = 40
RINGS: Final = 12
"""Instances whose seconds are told."""
GONE: Final = 10
RECORDER: Final = 1000
"""Records of each worker's flight recorder: decoding them takes control's loop some 3 ms."""
RECORDS: Final = 4000
REFUSED: Final = 2000
"""Newest kept requests among which those that reached no app are looked for."""
UNROUTED: Final = 100
EVENTS: Final = 500
LINES: Final = 400
OF_EXCEPTIONS: Final = 50
OTHERS: Final = 20
"""Other apps whose seconds are told."""
LOOK_BACK: Final = 900.0
DAY: Final = 86400.0
WITHIN: Final = 4.0
"""Seconds for each question to the store; then it goes on without."""
NOISE: Final = frozenset({"hint", "login", "token", "config-check"})
"""Events that tell nothing of an app."""


@dataclass(slots=True)
class Taken:
    """References and copies of one moment; for any thread."""

    at: float
    known: link.Known
    records: list[Record] = field(default_factory=list)
    stored: list[Record] = field(default_factory=list)
    held: list[tuple[str, Held, dict[str, str], bool, frozenset[str] | None]] = field(default_factory=list)
    frozen: Packed | None = None
    frozen_app: str = ""
    events: list[Event] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    unrouted: dict[str, dict[int, int]] = field(default_factory=dict)  # faults of what reached no app, by second
    lines: dict[str, list[Line]] = field(default_factory=dict)
    workers: list[WorkerState] = field(default_factory=list)
    uses: dict[str, Use] = field(default_factory=dict)
    exits: list[tuple[link.Exit, tuple[str, ...]]] = field(default_factory=list)  # and what was printed last
    addresses: list[InstanceState] = field(default_factory=list)
    malformed: BadResponse | None = None

    def encode(self) -> bytes:
        """The whole as JSON. Some tens of milliseconds, with rests for control's loop."""
        return pieces.of_known(self.whole())

    def whole(self) -> link.Known:
        """In a thread."""
        known, notes = self.known, self.known.notes
        for part in (
            self._records, self._rings, self._frozen_rings, self._unrouted, self._exits, self._events,
            self._exceptions, self._lines, self._workers, self._behind, self._malformed,
        ):  # fmt: skip
            try:
                part()
            except Exception as error:
                notes.append(f"{part.__name__.strip('_').replace('_', ' ')} left out: {error!r}")
            time.sleep(0)
        return known

    def _records(self) -> None:
        found: dict[str, Record] = {}
        for one in (*self.stored, *self.records):  # the recorder's is the later word, the store's may be refined
            if one.id in found and not one.fault:
                continue
            found[one.id] = one
        ordered = sorted(found.values(), key=lambda one: one.time, reverse=True)
        if len(ordered) > RECORDS:
            self.known.notes.append(f"requests: the newest {RECORDS:,} of {len(ordered):,} that are kept")
        self.known.records = [_cut(one) for one in ordered[:RECORDS]]

    def _rings(self) -> None:
        cores = float(os.cpu_count() or 1)
        for name, held, names, counts, only in self.held:
            made = seconds.ring(held, names, counts, only)
            if made is not None:
                if name == "host":
                    _share(made, cores)
                self.known.rings[name] = made

    def _unrouted(self) -> None:
        """Of what reached no app, with the gateway's own seconds."""
        ring = self.known.rings.get("gateway")
        for name, counts in self.unrouted.items() if ring is not None else ():
            assert ring is not None
            row = ring.faults.setdefault(name, [0] * ring.length)
            for second, count in counts.items():
                if 0 <= second - ring.start < ring.length:
                    row[second - ring.start] += count

    def _frozen_rings(self) -> None:
        """What was frozen reaches further back than the rings: it takes their place where it begins before."""
        if self.frozen is None:
            return
        for app, instance, blocks in self.frozen.rings:
            if app == self.frozen_app:
                name, names, counts = ("" if instance == ALL else instance), seconds.OF_APPS, True
            elif not app and instance in (ALL, "host"):
                name, counts = ("gateway" if instance == ALL else "host"), False
                names = seconds.OF_GATEWAY if instance == ALL else seconds.OF_HOST
            else:
                continue
            made = seconds.frozen(blocks, names, counts)
            now = self.known.rings.get(name)
            if made is None or (now is not None and now.start <= made.start):
                continue
            if name == "host":
                _share(made, float(os.cpu_count() or 1))
            self.known.rings[name] = made if now is None else seconds.joined(made, now)

    def _exits(self) -> None:
        for one, lines in self.exits:
            one.last_lines = [masking.text(line) for line in lines]
            self.known.exits.append(one)
            time.sleep(seconds.REST)

    def _events(self) -> None:
        self.known.events = [values.event(one) for one in self.events]
        self.known.deploys = [found for one in self.events if (found := values.deploy(one)) is not None]
        have = {(one.instance, round(one.at, 1)): one for one in self.known.exits}
        for one in self.events:
            told = values.exit_told(one) if one.app == self.known.app.name else None
            if told is None:
                continue
            known = have.get((told.instance, round(told.at, 1)))
            if known is None:
                self.known.exits.append(told)
            else:  # a control that took it over did not see it become ready
                known.was_ready = known.was_ready or told.was_ready
        self.known.exits.sort(key=lambda one: one.at)

    def _exceptions(self) -> None:
        self.known.exceptions = [values.exception(one, self.at) for one in self.groups]

    def _lines(self) -> None:
        for name, lines in self.lines.items():
            self.known.lines[name] = [
                link.Line(at=one.at, stream=one.stream, text=masking.text(one.text)) for one in lines
            ]
            time.sleep(seconds.REST)

    def _workers(self) -> None:
        self.known.workers = [values.worker(one, self.uses, _descriptors) for one in self.workers]

    def _behind(self) -> None:
        """Of given addresses: who listens there, if that is on this machine."""
        known = {one.name: one for one in self.known.instances}
        for state in self.addresses:
            one = known.get(state.name)
            if one is not None and not one.pid:
                one.pid, one.started = behind.process(state)

    def _malformed(self) -> None:
        bad = self.malformed
        if bad is not None:
            self.known.malformed = {
                "id": bad.id, "instance": bad.instance, "offset": bad.offset, "why": bad.why,
                "data": base64.b64encode(bad.data).decode(),
            }  # fmt: skip


async def gather(
    gateway: Gateway, state: AppState, first: Iterable[str] = (), frozen: int = 0, moment: float = 0.0
) -> Taken:
    """`first`: instances that must be among those that are told in full. `frozen`: number of what was frozen at the
    trigger, `moment` its time (Unix seconds; 0.0: now). Never raises but for being cancelled."""
    monotonic, unix = time.monotonic(), time.time()
    waiting, oldest = gateway.board.waiting(state.row), gateway.board.oldest(state.row)
    shown, verdict = values.state_of(state)
    rules = [
        f"{rule.title}: {rule.about or words.described(rule.condition)}{f' (off: {rule.off})' if rule.off else ''}"
        for rule in gateway.autoheal.rules.get(state.name, ())
    ]
    present, gone = list(state.instances.values()), list(state.gone)[-GONE:]
    in_flight = {one.name: max(0, gateway.board.total(one.row)) for one in present}
    known = link.Known(
        at=unix,
        app=values.app(
            state, shown, verdict, sum(in_flight.values()), waiting, monotonic - oldest if oldest else None, rules
        ),
    )
    taken = Taken(unix, known)
    wanted = list(first)
    present.sort(key=lambda one: (one.name not in wanted, -in_flight[one.name]))
    if len(present) > INSTANCES:
        known.notes.append(f"instances: {INSTANCES} of {len(present)}, those with most requests")
    for count, one in enumerate(present[:INSTANCES]):
        known.instances.append(values.instance(state, one, in_flight[one.name], monotonic, unix, gone=False))
        if one.kind == "address" and behind.local(one):
            taken.addresses.append(one)
        if count % 10 == 9:
            await asyncio.sleep(0)
    there = {one.name for one in known.instances}
    known.instances += [
        values.instance(state, one, 0, monotonic, unix, gone=True) for one in gone if one.name not in there
    ]
    remembered = {one.name: one for one in (*gone, *present)}
    taken.exits = [
        (values.exit_of(one, _own(remembered.get(one.name), one.at)), one.last_lines) for one in state.ended
    ]
    known.other_apps = {
        one.name: values.state_of(one)[0] for one in list(gateway.apps.values())[:200] if one is not state
    }
    last = gateway.self_check.last
    known.self_check, known.self_check_ok = last.words, last.ok
    taken.malformed, taken.workers, taken.uses = state.bad_response, gateway.workers, dict(gateway.own.processes)
    for one in (*gone[-3:], *(each for each in present if each.name in there))[: RINGS + 3]:
        taken.lines[one.name] = _last(one, LINES)
        await asyncio.sleep(0)
    named = [one.name for one in known.instances]
    await _take_rings(gateway, state, [*(name for name in wanted if name in named), *named], taken)
    await _ask(gateway, state.name, taken, unix, moment or unix, frozen)
    return taken


async def _take_rings(gateway: Gateway, state: AppState, names: list[str], taken: Taken) -> None:
    def one(name: str, key: tuple[str, str], columns: dict[str, str], counts: bool, only: Any = None) -> None:
        held = gateway.rings.held(key)
        if held is not None:
            taken.held.append((name, held, columns, counts, only))

    one("", (state.name, ALL), seconds.OF_APPS, True)
    one("gateway", ("", ALL), seconds.OF_GATEWAY, False)
    one("host", ("", "host"), seconds.OF_HOST, False)
    chosen = list(dict.fromkeys(names))
    if len(chosen) > RINGS:
        taken.known.notes.append(f"metrics by the second: of {RINGS} of {len(chosen)} instances")
    for name in chosen[:RINGS]:
        one(name, (state.name, name), seconds.OF_APPS, True)
        await asyncio.sleep(0)
    others = [name for name in gateway.apps if name != state.name]
    if len(others) > OTHERS:
        taken.known.notes.append(f"metrics by the second: of {OTHERS} of {len(others)} other apps")
    for name in others[:OTHERS]:
        one(f"app:{name}", (name, ALL), seconds.OF_APPS, True, seconds.BRIEF)
        await asyncio.sleep(0)


async def _ask(gateway: Gateway, app: str, taken: Taken, unix: float, moment: float, frozen: int) -> None:
    """What takes time: workers, the store."""
    known, notes = taken.known, taken.known.notes
    since = min(unix, moment) - LOOK_BACK
    async with _part(notes, "the flight recorder"):
        taken.records = await gateway.find("", RECORDER, app)
    taken.unrouted = gateway.counters.recent.seconds("", unix - LOOK_BACK)
    refused = gateway.records.newest_first(None)
    taken.records += [one for _, one in islice(refused, REFUSED) if _turned_away(one) and one.time >= since][:UNROUTED]
    async with _part(notes, "kept requests"):
        kept = await _soon(gateway.store.requests(Filter(app=app, since=since), RECORDS))
        taken.stored = [one.record for one in kept]
    async with _part(notes, "events"):
        found = {one.id: one for one in gateway.events if one.app in (app, "") and one.at >= unix - DAY}
        with contextlib.suppress(NotReadable, TimeoutError):
            found |= {one.id: one for one in await _soon(gateway.store.events(app, since=unix - DAY, limit=EVENTS))}
        ordered = [one for _, one in sorted(found.items()) if one.kind not in NOISE]
        if len(ordered) > EVENTS:
            notes.append(f"events: the newest {EVENTS} of {len(ordered)} of a day")
        taken.events = ordered[-EVENTS:]
    async with _part(notes, "incidents"):
        listed = await _soon(gateway.incidents.list(app, since=unix - DAY, limit=50))
        own = [one for one in gateway.incidents.open.values() if one.subject.scope != "app"]
        known.incidents = [values.incident(one) for one in (*reversed(listed), *own)]
    async with _part(notes, "exceptions"):
        groups = await asyncio.to_thread(gateway.logbook.exceptions.groups, app)
        if len(groups) > OF_EXCEPTIONS:
            notes.append(f"exceptions: {OF_EXCEPTIONS} of {len(groups)} groups, those seen last")
        taken.groups = groups[:OF_EXCEPTIONS]
    if frozen:
        async with _part(notes, "what was frozen"):
            row = await _soon(gateway.store.ask(whole(frozen)))
            if row is not None:
                taken.frozen, taken.frozen_app = row[1], app
                taken.stored += row[2]


@contextlib.asynccontextmanager
async def _part(notes: list[str], name: str) -> AsyncIterator[None]:
    """What fails is left out."""
    try:
        yield
    except TimeoutError:
        notes.append(f"{name} left out: no answer in time")
    except NotReadable as error:
        notes.append(f"{name} left out: {error}")
    except Exception as error:
        notes.append(f"{name} left out: {error!r}")
    await asyncio.sleep(0)


async def _soon(asked: Awaitable[Any]) -> Any:
    async with asyncio.timeout(WITHIN):
        return await asked


def _own(state: InstanceState | None, at: float) -> InstanceState | None:
    """The instance of an exit; one that was started again since then has figures of another process."""
    return state if state is not None and (not state.pid or state.started_at <= at) else None


def _last(state: InstanceState, count: int) -> list[Line]:
    if state.output is not None:
        found = state.output.last(count)
        if found:
            return found
    last = state.last_exit
    if last is None or last.name not in ("", state.name):
        return []
    return [Line(last.at, "err", line) for line in last.last_lines]


def _cut(record: Record) -> Record:
    path, mark, _ = record.target.partition("?")
    return msgspec.structs.replace(record, target=f"{path}?…") if mark else record


def _turned_away(record: Record) -> bool:
    """It reached no app, and that was not the client's doing alone."""
    fault = FAULTS.get(record.fault)
    return not record.app and fault is not None and (fault.origin is Origin.GATEWAY or fault is NO_ROUTE)


def _share(ring: link.Ring, cores: float) -> None:
    """Cores in use become a share of all."""
    busy = ring.values.get("busy")
    if busy is not None:
        ring.values["busy"] = [None if one is None else round(min(1.0, one / cores), 4) for one in busy]


def _descriptors(pid: int) -> tuple[int | None, int | None]:
    """In use, and the limit."""
    try:
        used: int | None = len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        used = None
    try:
        limit: int | None = resource.prlimit(pid, resource.RLIMIT_NOFILE)[0]
    except (OSError, ValueError):
        limit = None
    return used, limit
