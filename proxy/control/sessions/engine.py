"""All sessions: where one is asked for, refused, followed, listed, ended and thrown away.

Longer than most: it is the one place where budgets, folders, processes and the ledger meet.

Always true:
  - of an app one session is active, beside those that take evidence before an act; budget.AT_ONCE over all;
  - whoever is refused is told why, and when again; what nobody asked for and is refused is an event, once a while;
  - a number is never used again, also not after a restart of everything;
  - what runs is in the ledger: a new control follows it on, or says that it is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from proxy import units
from proxy.control.operations import Asked, Operation
from proxy.control.refusal import NotPossible
from proxy.control.sessions import budget, folders, known, pieces, targets
from proxy.control.sessions.adopting import NUMBERS, Adoption
from proxy.control.sessions.evidence import Evidence
from proxy.control.sessions.folders import FOLDER, NoRoom
from proxy.control.sessions.run import KIND, SILENT, Run
from proxy.control.sessions.session import Mode, Session, Trigger, dump, load
from proxy.control.state import AppState, InstanceState
from proxy.link.session import Input
from proxy.link.spawn import ChildState, ExitRecord

if TYPE_CHECKING:
    from proxy.control.gateway import Gateway

SHORTEST: Final = 2.0
LONGEST: Final = 600.0
BUDGET: Final = 8.0
DUMP_BUDGET: Final = 120.0
"""Seconds beyond its own for gathering; a memory dump takes longer."""
ANALYZING: Final = 60.0
TIDY: Final = 600.0
"""Seconds between looks for what is too old."""
MEMORY_DUMP: Final = "memory_dump"
REMEMBERED: Final = 50
"""Sessions whose steps are kept in memory."""

T = TypeVar("T")
Listed = list[Session]
Names = list[str]


class Sessions:
    """Made on control's loop, used only there. Part of Gateway.lasting."""

    def __init__(self, gateway: Gateway) -> None:
        self.shared = gateway.shared
        self.runs: dict[int, Run] = {}
        """Those that are active, by number."""
        self.evidence = Evidence(self)
        self.book = budget.Book()
        self._gateway = gateway
        self._known: dict[int, Session] = {}
        self.parent = self.shared.data_dir / FOLDER
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="sessions")  # its own: a disk may hang
        self._tasks: set[asyncio.Task[None]] = set()
        self._exits: dict[str, ExitRecord] = {}  # of children whose run is not there yet
        self._tidied = 0.0
        self._told: dict[tuple[str, str], float] = {}  # refusals, by app and kind: when that was said last

    def __repr__(self) -> str:
        return f"<Sessions {len(self.runs)} active, {len(self._known)} known>"

    # --- what is asked ---------------------------------------------------------------------------------

    def get(self, number: int) -> Session | None:
        return self._known.get(number)

    def list(
        self, app: str = "", state: str = "", since: float = 0.0, before: int = 0, limit: int = 100
    ) -> Listed:
        """Newest first. `state` may be "active"; `since`: that were active then or later; `before`: a number."""
        found = []
        for number in sorted(self._known, reverse=True):
            one = self._known[number]
            if (before and number >= before) or (app and one.app != app) or (not one.active and one.ended < since):
                continue
            if state and state != one.state and not (state == "active" and one.active):
                continue
            found.append(one)
            if len(found) == limit:
                break
        return found

    def every(self) -> Listed:
        """All, the oldest first."""
        return [self._known[number] for number in sorted(self._known)]

    def remember(self, session: Session) -> bool:
        """Of its folder; False: it is known, and better."""
        return self._known.setdefault(session.number, session) is session

    def folder(self, session: Session) -> Path:
        return self.parent / session.id

    def covering(self, app: str, instance: str) -> Run | None:
        """The active session that looks into this instance."""
        for run in self.runs.values():
            one = run.session
            if one.app == app and one.covers(instance) and not one.again and not run.over.is_set():
                return run
        return None

    # --- beginning -------------------------------------------------------------------------------------

    async def begin(
        self, app: str, instance: str = "", *, trigger: Trigger, mode: Mode = "analyze", seconds: float = 30.0,
        collectors: Sequence[str] = (), names: Sequence[str] = (), frozen: int = 0, evidence: bool = False,
        budget: float = 0.0,
    ) -> Session:  # fmt: skip
        """It runs when this returns. `names` are instances that it is about, gone ones among them; `frozen` the number
        of what was frozen at its trigger. Raises NotPossible, KeyError for an unknown app or instance."""
        state = self._gateway.apps[app]
        if instance and not names and instance not in state.instances:
            raise KeyError(instance)
        self._check(state, instance, trigger, mode, evidence)
        chosen, left_out = self._targets(state, instance, names, alone=evidence)
        session = Session(
            number=self._number(), app=app, instance=instance, mode=mode, seconds=seconds, trigger=trigger,
            began=time.time(), collectors=tuple(collectors), targets=tuple(chosen), left_out=left_out,
            budget=budget or (DUMP_BUDGET if MEMORY_DUMP in collectors else BUDGET), analyzing=ANALYZING, frozen=frozen,
        )  # fmt: skip
        session.until = session.began + seconds
        run = self.runs[session.number] = Run(self, session)  # from now on another one is refused
        try:
            await self._make(session)
        except BaseException:
            del self.runs[session.number]
            run.over.set()
            raise
        self._known[session.number] = session
        if trigger.automatic:
            self.book.started(app, trigger, session.began)
        if not evidence:
            self._event(session, "begun", f"{session.id} of {_target(session)} began, {_because(trigger)}")
        self.task(run.begin())
        return session

    def _check(self, state: AppState, instance: str, trigger: Trigger, mode: Mode, evidence: bool) -> None:
        """Raises NotPossible."""
        self._goes_on()
        if evidence:
            return
        now = time.time()
        active = [
            run.session for run in self.runs.values() if not run.session.trigger.operation and not run.session.again
        ]
        no = budget.first(state.name, active, now)
        if no is None and trigger.automatic:
            no = self.book.refuse(state.name, trigger, state.config.diagnose.per_day, now)
        if no is not None:
            raise Refusal(no)
        if mode == "recycle":
            act = ("recycle", instance) if instance else ("restart", "")
            self._gateway.mender.foresee(act[0], state.name, act[1])

    def _goes_on(self) -> None:
        """Raises NotPossible."""
        if self._gateway.stopping:
            raise NotPossible("stopping", "Triage stops: nothing new is begun")

    async def _make(self, session: Session) -> None:
        """Room and folder. Raises NotPossible."""
        keep = self._gateway.config.keep
        running = {run.session.id for run in self.runs.values() if run.session is not session}
        dump = MEMORY_DUMP in session.collectors
        try:
            session.room = await self.in_thread(
                lambda: folders.make_room(self.parent, keep, running, dump), 2 * SILENT
            )
            for _ in range(5):
                try:
                    await self.in_thread(lambda: folders.create(self.folder(session), session), SILENT)
                    return
                except FileExistsError:  # of a time that numbers.json does not know
                    number, session.number = session.number, self._number()
                    self.runs[session.number] = self.runs.pop(number)
            raise NotPossible("no-folder", f"{self.folder(session)} is there already")
        except NoRoom as error:
            hint = "make room on that disk, or remove sessions: triage sessions; keep.sessions says what they may take"
            raise NotPossible("no-room", str(error), hint) from None
        except TimeoutError:
            raise NotPossible("disk-silent", f"the disk of {self.parent} does not answer") from None
        except OSError as error:
            raise NotPossible("no-folder", f"{self.parent} can't be written: {error.strerror or error}") from None

    def _targets(self, state: AppState, instance: str, names: Sequence[str], alone: bool) -> tuple[Names, str]:
        """`alone`: no others than those that are named."""
        if names and not instance and alone:
            return targets.chosen(_only(state, names), "", names, self._in_flight, self._oldest)
        return targets.chosen(state, instance, names, self._in_flight, self._oldest)

    def _in_flight(self, one: InstanceState) -> int:
        return max(0, self._gateway.board.total(one.row))

    def _oldest(self, one: InstanceState) -> float:
        """Seconds that the oldest request has waited for its response head, of those over 1 s."""
        found = [
            at for worker in self._gateway.workers if worker.stats is not None
            and (at := worker.stats.oldest.get(one.app, {}).get(one.name, 0.0))
        ]  # fmt: skip
        return time.monotonic() - min(found) if found else 0.0

    def _number(self) -> int:
        numbers = self.shared.numbers
        number = numbers.next.get(NUMBERS, 1)
        numbers.next[NUMBERS] = number + 1
        self.task(numbers.write())
        return number

    # --- what is done to one ---------------------------------------------------------------------------

    def cancel(self, number: int, by: str) -> Session:
        """Raises KeyError, NotPossible."""
        session = self._known[number]
        run = self.runs.get(number)
        if run is None or not session.active:
            raise NotPossible("ended", f"{session.id} is {session.state} already")
        if run.cancel():
            session.why = f"cancelled {by}"
            self.shared.event("session", f"{session.id} of {_target(session)} is cancelled {by}", session.app,
                              session.instance, session=session.id, what="cancel")  # fmt: skip
        return session

    def analyze(self, number: int) -> Session:
        """Once more, from what was gathered. Raises KeyError, NotPossible."""
        session = self._known[number]
        self._goes_on()
        if session.active:
            raise NotPossible("session-active", f"{session.id} is {session.state}", "wait for its end")
        if len([run for run in self.runs.values() if not run.session.trigger.operation]) >= budget.AT_ONCE:
            raise NotPossible("too-many-sessions", f"{len(self.runs)} sessions run already", "again in a minute")
        session.state, session.why, session.again, session.outcome = "analyzing", "", True, None
        run = self.runs[number] = Run(self, session)
        self.changed(session)
        self.task(run.again())
        return session

    async def delete(self, number: int) -> None:
        """With all that it gathered. Raises KeyError, NotPossible."""
        session = self._known[number]
        if session.active:
            raise NotPossible("session-active", f"{session.id} is {session.state}", "cancel it first")
        del self._known[number]  # first: what goes is not to be analyzed again meanwhile
        try:
            await self.in_thread(lambda: folders.remove(self.folder(session)), 2 * SILENT)
        except FileNotFoundError:
            pass
        except (OSError, TimeoutError) as error:
            self._known[number] = session
            why = str(error) or "the disk does not answer"
            raise NotPossible("not-removed", f"{self.folder(session)} could not be removed: {why}") from None

    async def automatically(self, app: str, **how: Any) -> Session | None:
        """One that nobody asked for; a refusal is an event, the same one once in a while. Never raises."""
        trigger: Trigger = how["trigger"]
        try:
            return await self.begin(app, **how)
        except NotPossible as error:
            self._refused(app, trigger, error)
        except KeyError:
            pass  # the app is gone
        except Exception as error:
            self.shared.log.error("defect", f"a session of {app} could not begin: {error!r}", app=app)
        return None

    def _refused(self, app: str, trigger: Trigger, error: NotPossible) -> None:
        """Another start of the same, within a minute of one, is no news: that one is about it."""
        now = time.monotonic()
        key = (app, f"{error.kind} {trigger.kind} {trigger.rule}")
        if now - self._told.get(key, float("-inf")) < budget.COOLDOWN:
            return
        if len(self._told) > 1000:
            self._told.clear()
        self._told[key] = now
        text = f"no session of {app}, {_because(trigger)}: {error}"
        self.shared.event(
            "session", text, app, what="refused", why=error.kind, hint=error.hint, trigger=asdict(trigger)
        )

    # --- what runs ask (run.Desk) ----------------------------------------------------------------------

    async def in_thread(self, work: Callable[[], T], within: float) -> T:
        """Raises TimeoutError; what hangs goes on hanging in its thread."""
        async with asyncio.timeout(within):
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def input(self, session: Session) -> bytes:
        """What its process is to do, and all that is known."""
        taken = await self._take(session)
        given = Input(
            id=session.id, app=session.app, at=session.began, targets=list(session.targets), seconds=session.seconds,
            collectors=list(session.collectors), analyze=session.mode != "collect", after=session.seconds > 0,
            budget=session.budget, analyzing=session.analyzing, room=session.room,
            asked={**asdict(session.trigger), "mode": session.mode, "instance": session.instance},
            data_dir=str(self.shared.data_dir), known=taken.known,
        )  # fmt: skip

        def make() -> bytes:
            taken.whole()
            if session.left_out:
                given.known.notes.append(session.left_out)
            return pieces.of_input(given)

        return await asyncio.to_thread(make)

    async def after(self, session: Session) -> bytes:
        taken = await self._take(session)
        return await asyncio.to_thread(taken.encode)

    async def _take(self, session: Session) -> known.Taken:
        state = self._gateway.apps.get(session.app)
        if state is None:
            raise OSError(f"the app {session.app} left the config")
        return await known.gather(
            self._gateway, state, session.targets, session.frozen, session.trigger.at or session.began
        )

    def recycle(self, session: Session) -> Operation:
        asked = Asked(
            session.trigger.by, session.trigger.reason or f"after session {session.id}", session.trigger.rule,
            session.trigger.saw, collect=False, way=session.trigger.way,
        )  # fmt: skip
        act = "recycle" if session.instance else "restart"
        operation = self._gateway.mender.act(act, session.app, session.instance, asked)
        operation.evidence = f"{FOLDER}/{session.id} (triage report {session.id})"
        return operation

    def changed(self, session: Session) -> None:
        self.shared.noted()
        self.task(self._save(session))

    def ended(self, session: Session) -> None:
        self.runs.pop(session.number, None)
        self.shared.noted()
        for one in list(self._known.values())[:-REMEMBERED]:  # it is on the disk
            if not one.active:
                one.outcome = None
        found = f": {session.verdict}" if session.verdict else f": {session.why}" if session.why else ""
        took = "analyzed again" if session.again else f"after {units.duration(session.ended - session.began)}"
        session.again = False
        self._event(session, "ended", f"{session.id} of {_target(session)} {session.state} {took}{found}")
        self.task(self._put_away(session))

    async def _put_away(self, session: Session) -> None:
        """Its record; then what is too much goes."""
        await self._save(session)
        await self._tidy(keep=session.id)

    async def _save(self, session: Session) -> None:
        """A full disk must not end a session: the ledger has it too."""
        folder = self.folder(session)
        with contextlib.suppress(TimeoutError, OSError):
            await self.in_thread(lambda: folders.save(folder, session), SILENT)

    async def _tidy(self, keep: str = "") -> None:
        config, running = self._gateway.config.keep, {run.session.id for run in self.runs.values()}
        if keep:
            running.add(keep)

        def work() -> set[str]:
            folders.prune(self.parent, config, running)
            return {path.name for path in self.parent.iterdir()}

        try:
            there = await self.in_thread(work, 4 * SILENT)
        except (TimeoutError, OSError):
            return
        for number, session in list(self._known.items()):
            if not session.active and session.id not in there and session.id != keep:
                del self._known[number]

    def _event(self, session: Session, what: str, text: str) -> None:
        self.shared.event(
            "session", text, session.app, session.instance, session=session.id, what=what, state=session.state,
            mode=session.mode, verdict=session.verdict, severity=session.severity, certainty=session.certainty,
            trigger=asdict(session.trigger),
        )  # fmt: skip

    # --- its life --------------------------------------------------------------------------------------

    def on_exit(self, record: ExitRecord) -> None:
        """The launcher reaped a session's process."""
        for run in self.runs.values():
            if run.session.child == record["name"]:
                run.exited(record)
                return
        self._exits[record["name"]] = record  # its start is not answered yet, or nobody follows it yet
        while len(self._exits) > 50:
            del self._exits[next(iter(self._exits))]

    def early_exit(self, child: str) -> ExitRecord | None:
        """Of a child that ended before its start was answered."""
        return self._exits.pop(child, None)

    def tick(self, now: float) -> None:
        """Once a second; `now` is monotonic."""
        if now - self._tidied >= TIDY:
            first, self._tidied = not self._tidied, now
            self.book.forget(list(self._gateway.apps), time.time())
            if not first:
                self.task(self._tidy())

    async def adopt(self, children: Iterable[ChildState], exits: Iterable[ExitRecord]) -> None:
        """What a former control had begun goes on; what ended meanwhile is ended; what is gone is lost."""
        for record in exits:
            if record["kind"] == KIND:
                self._exits[record["name"]] = record
        await Adoption(self, children).run()

    def dump(self) -> dict[str, Any]:
        """For a successor."""
        return {"active": [dump(run.session) for run in self.runs.values()], "book": self.book.dump()}

    def load(self, raw: dict[str, Any]) -> None:
        self.book.load(raw.get("book", {}))
        for one in raw.get("active", ()):
            session = load(one)
            self._known[session.number] = session

    async def stop(self) -> None:
        """Triage stops: what runs is ended and lost."""
        for run in list(self.runs.values()):
            await run.stop()

    async def close(self) -> None:
        """Control ends; what runs goes on, and a successor follows it."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def task(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class Refusal(NotPossible):
    """By a budget; `until` says when again (Unix seconds, 0.0: not by time alone)."""

    def __init__(self, no: budget.No) -> None:
        super().__init__(no.kind, no.text, no.hint)
        self.until = no.until


def _only(state: AppState, names: Iterable[str]) -> AppState:
    """The app with these instances alone."""
    wanted = set(names)
    made = AppState(state.name, state.config, state.row)
    made.instances = {name: one for name, one in state.instances.items() if name in wanted}
    return made


def _target(session: Session) -> str:
    return f"{session.app}/{session.instance}" if session.instance else session.app


def _because(trigger: Trigger) -> str:
    """ "by hand: slow since noon", "incident INC-3: web fails"."""
    head = trigger.by
    if trigger.kind == "crash":
        head = "after a crash"
    elif trigger.kind == "incident":
        head = f"incident {trigger.incident}"
    elif trigger.kind == "agent":
        head = "an exception was raised"
    said = "; ".join(part for part in (trigger.reason if trigger.reason != trigger.by else "", trigger.saw) if part)
    return f"{head}: {said}" if said else head
