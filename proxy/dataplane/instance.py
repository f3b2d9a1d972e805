"""An instance as a worker sees it: its slots on the board, its idle connections, what was learned about it.

Always true:
  - `own` is this worker's cell on the board: raised at pick, lowered when the attempt is over;
  - `idle` holds open connections with nothing outstanding, newest last (LIFO keeps few of them warm);
  - an instance that left the table is kept until its last request ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from proxy.dataplane.adaptive import Gradient
from proxy.dataplane.balance import ramp
from proxy.dataplane.tally import Tally
from proxy.dataplane.upstream import HEAD
from proxy.dataplane.wheel import INFINITE
from proxy.faults import Blame, Fault
from proxy.link import messages
from proxy.link.board import COLUMNS

if TYPE_CHECKING:
    from proxy.dataplane.app import App
    from proxy.dataplane.upstream import InstanceConnection

IDLE_DEFAULT: Final = 60.0
"""Seconds an idle connection is kept while nothing is known; as nginx's upstream keepalive_timeout."""
IDLE_SHARE: Final = 0.8
"""Of the instance's own idle timeout; below it, so that the race between its FIN and our request is rare."""
IDLE_LEAST: Final = 0.5
IDLE_CONNECTIONS: Final = 512
DOWN_FOR: Final = 1.0
"""Seconds for which a worker leaves an instance alone that refused it, unless a table comes first."""


class Instance:
    """Implements balance.Candidate."""

    def __init__(self, app: App, spec: messages.Instance) -> None:
        self.app = app
        self.spec = spec
        self.name = spec.name
        self.row = spec.row
        self.weight = spec.weight
        self.backup = spec.backup
        self.adaptive = Gradient() if app.spec.adaptive else None
        self.slots = self.adaptive.limit if self.adaptive is not None else spec.slots
        self.own = 0
        self.tunnels = 0
        self.ewma = 0.0
        self.ewma_at = 0.0
        self.idle: list[InstanceConnection] = []
        self.open: set[InstanceConnection] = set()
        self.tally = Tally(app.name, spec.name)
        self.idle_limit = IDLE_DEFAULT
        self.learned_idle = 0.0
        self.down_until = 0.0
        self.gone = False
        """It left the table."""
        self.left_at = 0.0
        self.streak = 0
        self.good = 0
        self.news: dict[str, int] = {}
        """Blamed faults since the last `Learned`."""
        self.refused = False
        self.address_at = 0
        worker = app.worker
        self._board = worker.board
        self._cells = worker.board.inflight
        self._cell = spec.row * COLUMNS + worker.column

    def __repr__(self) -> str:
        limit = f" of {self.slots}" if self.slots else ""
        return f"<Instance {self.name} {self.spec.admission}, {self.own}{limit} in flight, {len(self.idle)} idle>"

    def renew(self, spec: messages.Instance) -> None:
        """A new table speaks of the same instance."""
        if spec.admission == "trial" and self.spec.admission != "trial":
            self.ewma_at = 0.0  # what was known of it is over: the trial request is to be picked for it
            self.good = 0
        self.spec = spec
        self.weight = spec.weight
        self.backup = spec.backup
        if not self.app.spec.adaptive:
            self.adaptive = None
        elif self.adaptive is None:
            self.adaptive = Gradient()
        self.slots = self.adaptive.limit if self.adaptive is not None else spec.slots

    # --- slots ------------------------------------------------------------------------------------

    @property
    def inflight(self) -> int:
        board = self._board
        return self.own if board.columns == 1 else board.total(self.row)

    @property
    def free(self) -> bool:
        if self.spec.admission == "trial":
            return self.inflight == 0  # one trial request decides
        slots = self.slots
        if not slots:
            return True
        board = self._board
        return (self.own if board.columns == 1 else board.total(self.row)) - self.tunnels < slots

    def take(self) -> None:
        own = self.own = self.own + 1
        self._cells[self._cell] = own

    def give(self) -> None:
        assert self.own > 0, f"{self!r} gives a slot that was not taken"
        own = self.own = self.own - 1
        self._cells[self._cell] = own

    def ramp(self, now: float) -> float:
        at = self.spec.admitted_at
        return ramp(now, at, self.app.spec.slow_start) if at else 1.0

    def usable(self, now: float) -> bool:
        """Whether the balancer may have it."""
        return self.spec.admission != "ejected" and self.down_until <= now

    def waits_since(self) -> float:
        """When the oldest of its requests that wait for a response head was sent whole; infinite when none waits."""
        since = INFINITE
        for connection in self.open:
            exchange = connection.exchange
            if exchange is not None and connection.state == HEAD and 0.0 < exchange.asked_at < since:
                since = exchange.asked_at
        return since

    def heard_at(self) -> float:
        """When content of a response or a tunnel that is under way last came from it; 0.0: none is under way."""
        return max((each.last for each in self.open if each.exchange is not None and each.state != HEAD), default=0.0)

    # --- connections ------------------------------------------------------------------------------

    def claim(self, now: float, fresh: bool, recent_only: bool) -> InstanceConnection | None:
        """An idle connection, taken out of the pool. `recent_only`: used within a tenth of its idle limit."""
        idle = self.idle
        if fresh or not idle:
            return None
        if recent_only and now - idle[-1].idle_since > self.idle_limit / 10:
            return None
        return idle.pop()

    def keep(self, connection: InstanceConnection, now: float) -> bool:
        """Put a connection into the pool; False if there is no place for it."""
        if self.gone or len(self.idle) >= IDLE_CONNECTIONS or self.spec.admission == "ejected":
            return False
        self.idle.append(connection)
        return True

    def hint_idle(self, seconds: float) -> None:
        """The instance says `Keep-Alive: timeout=`."""
        limit = max(seconds * IDLE_SHARE, IDLE_LEAST)
        if limit < self.idle_limit:
            self.idle_limit = limit

    def learn_idle(self, seconds: float) -> None:
        """It closed a connection that had been idle for so long."""
        if seconds >= IDLE_LEAST and (not self.learned_idle or seconds < self.learned_idle):
            self.learned_idle = seconds
            self.idle_limit = min(self.idle_limit, max(seconds * IDLE_SHARE, IDLE_LEAST))

    def close_idle(self) -> None:
        for connection in tuple(self.idle):
            connection.close()

    # --- health -----------------------------------------------------------------------------------

    def went_well(self) -> None:
        self.good += 1
        if self.streak:
            self.streak = 0
            self.app.worker.learned(self)
        elif self.spec.admission == "trial":
            self.app.worker.learned(self)

    def went_wrong(self, fault: Fault) -> None:
        if fault.blame is Blame.NO:
            return
        if fault.blame is Blame.YES:
            self.streak += 1
            if self.adaptive is not None:
                self.slots = self.adaptive.failed()
        self.news[fault.name] = self.news.get(fault.name, 0) + 1
        self.app.worker.learned(self)

    def ended(self, now: float) -> None:
        """Its process did: a table without it, and with its successor on the way, follows within moments."""
        if not self.gone:
            self.down_until = now + DOWN_FOR
            self.app.rebuild(now)

    def refuses(self, now: float) -> None:
        """It can't be connected to: leave it alone until control has looked."""
        self.refused = True
        self.down_until = now + DOWN_FOR
        self.app.rebuild(now)
