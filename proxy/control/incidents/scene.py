"""What signals look at: what is known of one subject in one second. Frozen; a signal changes nothing.

Times: `now` and readings are monotonic seconds, `unix` and whatever ends in `_at` is on the clock of the wall.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from proxy.control.autoheal.contract import Series
from proxy.control.incidents.hits import Totals
from proxy.control.incidents.incident import Subject
from proxy.control.state import AppState, WorkerState


@dataclass(frozen=True, slots=True)
class Usual:
    """How long instances take to begin their answers, lately and in the hour before. Seconds, None without a value."""

    count: int  # lately
    p50: float | None
    p90: float | None
    before_count: int
    before_p50: float | None
    before_p90: float | None
    before_span: float  # seconds of that hour in which anything was answered
    since: float = 0.0  # Unix seconds since when it is so slow


@dataclass(frozen=True, slots=True)
class AppScene:
    """`planned`: the act under way on it, or just over, in words; "" if there is none. What it does is no trouble."""

    now: float
    unix: float
    app: AppState
    series: Series | None = None  # readings of the app as a whole; None: nothing is known yet
    instances: Mapping[str, Series] = field(default_factory=dict)  # of those that have a limit of memory
    planned: str = ""
    young: bool = False  # Triage or the app is new, and none of its instances was ever well
    slow: float = 1.0  # gateway.slow, seconds
    usual: Usual | None = None
    waiting_since: float = 0.0  # monotonic, of the oldest request in its queue; 0.0: none waits
    on: Callable[[str, float], Sequence[str]] = lambda fault, since: ()
    """Fault and Unix seconds to the instances that it was counted on since then, the most frequent first."""

    @property
    def subject(self) -> Subject:
        return Subject("app", self.app.name)

    def totals(self, since: float) -> Totals | None:
        """See engine.Scene."""
        if self.series is None:
            return None
        reading = self.series.before(self.now - max(0.0, self.unix - since))
        return Totals(reading.requests, reading.faults) if reading is not None else None


@dataclass(frozen=True, slots=True)
class Loss:
    """Evidence that is lost: what it is, how much of late, why."""

    name: str  # as in losses.WORDS
    lost: int  # since control began, or the worker did
    lately: int = 0  # of these, in the last ten seconds
    why: str = ""  # it can't be kept now; "" when it can


@dataclass(frozen=True, slots=True)
class Check:
    """What the self-check says; `fails` in a row."""

    ok: bool
    fails: int
    words: str
    since: float = 0.0  # Unix seconds, of the first failure in that row


@dataclass(frozen=True, slots=True)
class GatewayScene:
    now: float
    unix: float
    workers: Sequence[WorkerState] = ()
    planned: str = ""  # an upgrade or a change of the number of workers runs
    deaths: Sequence[tuple[float, str]] = ()  # of workers, in the last minute: Unix seconds, words
    shedding: Mapping[str, str] = field(default_factory=dict)  # worker to why
    lag: Mapping[str, float] = field(default_factory=dict)  # worker to its least lag over LAG_FOR seconds
    control_lag: float = 0.0  # the least of its last looks
    losses: Sequence[Loss] = ()
    certificates: Sequence[tuple[str, float]] = ()  # file, and Unix seconds of its end
    check: Check | None = None
    counted: Totals | None = None

    @property
    def subject(self) -> Subject:
        return Subject("gateway")

    def totals(self, since: float) -> Totals | None:
        return self.counted


@dataclass(frozen=True, slots=True)
class Host:
    """As read last. None: it can't be read here."""

    at: float  # monotonic
    disk_path: str = ""
    disk_free: int | None = None  # bytes that we may still take
    disk_size: int | None = None
    inodes_free: int | None = None
    inodes: int | None = None
    memory_total: int | None = None  # of the host
    memory_left: int | None = None  # of host or cgroup, whichever has less
    memory_stall: float | None = None  # share of the last 10 s in which every task waited for memory, 0 to 1
    swapped: float | None = None  # pages in and out a second
    oom_kills: int | None = None  # cumulative, of the machine
    busy: float | None = None  # share of all cores' time, 0 to 1
    steal: float | None = None  # share that other machines took


@dataclass(frozen=True, slots=True)
class HostScene:
    """`past`: of the last minute, oldest first, the newest is `host`."""

    now: float
    unix: float
    past: Sequence[Host] = ()
    lag: float = 0.0  # the largest least lag of a worker: what a starved machine does to us
    counted: Totals | None = None

    @property
    def subject(self) -> Subject:
        return Subject("host")

    @property
    def host(self) -> Host | None:
        return self.past[-1] if self.past else None

    def totals(self, since: float) -> Totals | None:
        return self.counted
