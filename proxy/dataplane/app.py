"""An app as a worker sees it: its limits, its balancer, and the requests that wait for a slot.

The queue is bounded over all workers (the board holds each worker's count) and in time. It is first come, first served
until an arrival finds it full; from then on, until it is half empty, the newest are served first and those that have
waited longest are shed: under overload somebody must be turned away, and who has waited long has often left.

Always true:
  - nobody waits in two queues, and who waits holds no slot;
  - this worker's cells on the board say how many wait here and since when the oldest does;
  - who frees a slot while another worker's oldest has waited longer wakes that worker instead of taking it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from proxy import faults
from proxy.dataplane.balance import BALANCERS, Balancer
from proxy.dataplane.buckets import Buckets
from proxy.dataplane.instance import Instance
from proxy.dataplane.retries import RetryBudget
from proxy.dataplane.story import Wanted
from proxy.dataplane.watches import Watches
from proxy.faults import Fault
from proxy.link import messages
from proxy.link.board import COLUMNS

if TYPE_CHECKING:
    from proxy.dataplane.exchange import Exchange
    from proxy.dataplane.worker import Worker

DRAIN_KEPT: Final = 0.1
"""Seconds; Retry-After is in whole ones."""


class App:
    def __init__(self, worker: Worker, spec: messages.App) -> None:
        self.worker = worker
        self.name = spec.name
        self.spec = spec
        self.instances: dict[str, Instance] = {}
        self.balancer: Balancer = BALANCERS[spec.balance]()
        self.budget = RetryBudget(spec.budget, spec.per_second)
        self.buckets: Buckets | None = None
        self.watches: Watches | None = None
        self.whole: Wanted | None = None
        self.queue: deque[Exchange] = deque()
        self.pressed = False
        self.any_usable = False
        self._cell = spec.row * COLUMNS + worker.column
        self._row = spec.row * COLUMNS
        self._rebuild_at = 0.0
        self._served_at: deque[float] = deque(maxlen=64)
        self._drain = 1.0
        self._drain_until = 0.0
        self.only: Instance | None = None
        """The one instance, where there is just one and it is not on trial."""
        self.shared = False
        """Other workers have a part in its slots."""
        self.plain = False
        """No limit, key or rewriting applies to its requests."""
        self.renew(spec, first=True)

    def __repr__(self) -> str:
        return f"<App {self.name} {self.spec.state}, {len(self.instances)} instances, {len(self.queue)} waiting>"

    def renew(self, spec: messages.App, first: bool = False) -> None:
        """A new table. Instances that stay keep their connections and what was learned about them."""
        before, self.spec = self.spec, spec
        if spec.balance != before.balance:
            self.balancer = BALANCERS[spec.balance]()
        if (spec.budget, spec.per_second) != (before.budget, before.per_second):
            self.budget = RetryBudget(spec.budget, spec.per_second)
        if first or (spec.rate, spec.burst) != (before.rate, before.burst):
            board, salt = self.worker.board, spec.name.encode()
            self.buckets = (
                Buckets(spec.rate, max(spec.burst, 1.0), board.rate_marks, board.rate_times, salt)
                if spec.rate
                else None
            )
        if first or spec.watches != before.watches:
            self.watches = Watches(spec.watches) if spec.watches else None
            if self.watches is not None:
                for tally in (self.worker.tally(self), *(each.tally for each in self.instances.values())):
                    self.watches.tidy(tally)
        if first or spec.whole != before.whole:
            self.whole = Wanted(spec.whole, self.worker.stories) if spec.whole else None
        instances: dict[str, Instance] = {}
        for each in spec.instances:
            known = self.instances.get(each.name)
            if known is not None and known.row == each.row and _same_place(known.spec, each):
                known.renew(each)
            else:
                if known is not None:
                    self._leave(known)
                known = Instance(self, each)
            known.down_until = 0.0
            instances[each.name] = known
        for name, known in self.instances.items():
            if name not in instances:
                self._leave(known)
        self.instances = instances
        self.shared = self.worker.board.columns > 1
        self.plain = not (
            self.buckets or spec.strip_prefix or spec.sticky_cookie or spec.balance == "hash" or spec.total
        ) and (spec.state == "up")
        now = self.worker.now()
        self.rebuild(now)
        self.serve(now)
        self._answer_hopeless(now)

    def _leave(self, instance: Instance) -> None:
        instance.gone = True
        instance.close_idle()
        self.worker.left(instance)

    def close(self) -> None:
        """The app left the table."""
        for instance in self.instances.values():
            self._leave(instance)
        for exchange in list(self.queue):
            self.leave_queue(exchange)
            exchange.refuse(faults.NO_ROUTE)

    def rebuild(self, now: float) -> None:
        """Tell the balancer which instances there are."""
        usable = [each for each in self.instances.values() if each.usable(now)]
        self.any_usable = bool(usable)
        self.balancer.rebuild(usable)
        later = [each.down_until for each in self.instances.values() if each.down_until > now]
        self._rebuild_at = min(later, default=0.0)
        alone = len(usable) == 1 and not later  # while another is left alone `pick` has to look when it may come back
        self.only = usable[0] if alone and usable[0].spec.admission == "admitting" else None

    # --- picking and waiting ----------------------------------------------------------------------

    def pick(self, exchange: Exchange, now: float) -> Instance | None:
        """An instance with a free slot for this request, or None."""
        if self._rebuild_at and now >= self._rebuild_at:
            self.rebuild(now)
        if exchange.sticky:
            wanted = self.instances.get(exchange.sticky)
            if wanted is not None and wanted.usable(now) and wanted.free and wanted not in exchange.tried:
                return wanted
        tried = exchange.tried
        picked = self.balancer.pick(now, exchange.hash_key, tried)
        if picked is None and tried:
            # Balancers know backups only when no primary is left; a request that primaries failed may have one.
            for each in self.instances.values():
                if each.backup and each.usable(now) and each.free and each not in tried:
                    return each
        return picked  # type: ignore[return-value]

    def trouble(self) -> Fault | None:
        """Why no instance can be picked, apart from full ones; None if only slots are missing."""
        if self.any_usable:
            return None
        if not self.spec.wanted and not self.instances:
            return faults.NO_INSTANCE
        if any(each.spec.admission == "ejected" or each.down_until for each in self.instances.values()):
            return faults.ALL_EJECTED
        return faults.ALL_UNREADY

    def hope(self, exchange: Exchange, now: float) -> bool:
        """Whether an instance for this request may come by waiting."""
        if self.spec.starting:
            return True
        for each in self.instances.values():
            if each.down_until > now and each.spec.kind == "process":
                return True  # it refuses: control sees that within moments, and starts it again
            if each.spec.admission != "admitting":
                return True
            if each not in exchange.tried:
                return True
        return False

    def has_other(self, exchange: Exchange, now: float) -> bool:
        """Whether an instance that this request has not been on could take it."""
        return any(
            each is not exchange.instance and each not in exchange.tried and each.usable(now)
            for each in self.instances.values()
        )

    def wait(self, exchange: Exchange, now: float) -> None:
        """Queue a request for which no instance has a slot; or turn it away."""
        if self.spec.state != "held" and not self.hope(exchange, now):
            exchange.refuse(exchange.first_fault or self.trouble() or faults.ALL_UNREADY)
            return
        if self.worker.board.waiting(self.spec.row) >= self.spec.queue_size:
            if not self.queue or now - self.queue[0].queued_at < self.spec.queue_timeout / 2:
                exchange.refuse(faults.QUEUE_FULL)
                return
            self.pressed = True
            oldest = self.queue.popleft()
            oldest.queued = False
            oldest.refuse(faults.SHED)
        exchange.queued = True
        exchange.queued_at = now
        self.queue.append(exchange)
        self._tell()
        self.worker.queue_began(self)

    def leave_queue(self, exchange: Exchange) -> None:
        """It is served, turned away, or its client left."""
        if exchange.queued:
            exchange.queued = False
            queue = self.queue
            if queue and queue[-1] is exchange:
                queue.pop()  # under pressure it is always the newest: no search through all the others
            else:
                try:
                    queue.remove(exchange)
                except ValueError:
                    return
            self._tell()

    def freed(self, now: float) -> None:
        """A slot came free."""
        if self.queue:
            self.serve(now)
        elif self.shared and self.worker.board.waiting(self.spec.row):
            self._wake_older(0.0)

    def serve(self, now: float) -> None:
        """Give free slots to who waits, as long as it is this worker's turn."""
        queue = self.queue
        if self.spec.state != "up":
            return
        while queue:
            if self.shared and self._wake_older(queue[0].queued_at):
                return
            exchange = queue[-1] if self.pressed else queue[0]
            instance = self.pick(exchange, now)
            if instance is None:
                if not exchange.tried or len(queue) == 1:
                    return
                # This one has been refused by whom is free now; who has tried nothing may go first.
                for exchange in queue:
                    instance = None if exchange.tried else self.pick(exchange, now)
                    if instance is not None:
                        break
                if instance is None:
                    return
            self.leave_queue(exchange)
            if len(queue) * 2 < self.spec.queue_size:
                self.pressed = False
            self._served_at.append(now)
            exchange.assign(instance, now)
        if self.shared and self.worker.board.waiting(self.spec.row):
            self._wake_older(0.0)  # more may be free than those who waited here took

    def look(self, now: float) -> None:
        """Every 20 ms while somebody waits: limits in time, and wake-ups that were lost."""
        timeout = self.spec.queue_timeout
        while self.queue and now - self.queue[0].queued_at >= timeout:
            exchange = self.queue.popleft()
            exchange.queued = False
            if self.spec.state == "held":
                fault = faults.HELD_TOO_LONG
            else:
                fault = exchange.first_fault or self.trouble() or faults.QUEUE_TIMEOUT
            exchange.refuse(fault)
        self._tell()
        if self._rebuild_at and now >= self._rebuild_at:
            self.rebuild(now)
        self.serve(now)

    def _answer_hopeless(self, now: float) -> None:
        if self.spec.state == "held":
            return
        for exchange in list(self.queue):
            if self.spec.state == "stopped":
                self.leave_queue(exchange)
                exchange.refuse(faults.STOPPED)
            elif not self.hope(exchange, now):
                self.leave_queue(exchange)
                exchange.refuse(exchange.first_fault or self.trouble() or faults.ALL_UNREADY)

    def drain_time(self, now: float) -> float:
        """Seconds until one who came now would be served: what Retry-After says, 1 to 30."""
        if now < self._drain_until:
            return self._drain  # in a storm of full queues it would cost as much as the rest of the answer
        self._drain_until = now + DRAIN_KEPT
        waiting = self.worker.board.waiting(self.spec.row)
        served = [at for at in self._served_at if now - at < 10.0]
        rate = len(served) / max(now - served[0], 0.1) if len(served) > 1 else 0.0
        self._drain = min(max(waiting / (rate * self.worker.board.columns) if rate else 5.0, 1.0), 30.0)
        return self._drain

    def _tell(self) -> None:
        board = self.worker.board
        board.counts[self._cell] = len(self.queue)
        board.since[self._cell] = self.queue[0].queued_at if self.queue else 0.0

    def _wake_older(self, mine: float) -> bool:
        """Wake the worker whose oldest has waited longest, if longer than `mine` (0.0: nobody waits here)."""
        board, row, own = self.worker.board, self._row, self.worker.column
        oldest, whose = mine, own
        for column, at in enumerate(board.since[row : row + board.columns]):
            if at and column != own and (not oldest or at < oldest):
                oldest, whose = at, column
        if whose == own:
            return False
        self.worker.wake(whose)
        return True


def _same_place(one: messages.Instance, other: messages.Instance) -> bool:
    return (one.host, one.port, one.path, one.resolved, one.tls, one.pid) == (
        other.host,
        other.port,
        other.path,
        other.resolved,
        other.tls,
        other.pid,
    )
