"""Reading stacks: what each thread does or waits for, and which threads stand at one place. Pure.

A thread is read from its innermost frames outward to the first one of the app's own code: what stands above that is how
it waits. Where no frame tells (a call into C leaves none), where it sleeps in the kernel does. Longer than most: its
rules are read as one table.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from proxy.diagnostics.artifacts import Frame, ProcessStacks, ProcReport, Stacks, ThreadStack

Kind = Literal[
    "cpu", "lock", "pool", "result", "socket", "connect", "dns", "sleep", "child", "file", "pipe", "send",
    "idle", "waiting",
]  # fmt: skip
WORDS: Final[dict[str, str]] = {
    "cpu": "computes",
    "lock": "waits for a lock",
    "pool": "waits for something that others hold",
    "result": "waits for what another thread or task is to do",
    "socket": "waits for bytes on a socket",
    "connect": "waits for a connection",
    "dns": "waits for a name to be resolved",
    "sleep": "sleeps",
    "child": "waits for a process that it started",
    "file": "waits for a disk",
    "pipe": "waits on a pipe",
    "send": "waits until the other side takes its bytes",
    "idle": "waits for work",
    "waiting": "waits",
}
_PLURAL: Final[dict[str, str]] = {"computes": "compute", "waits": "wait", "sleeps": "sleep"}
BLOCKS: Final = frozenset(WORDS) - {"cpu", "idle", "waiting"}

_FOREIGN: Final = re.compile(
    r"/lib(?:64)?/python\d[\d.]*/|/lib(?:64)?/python\d+\.zip|(?:^|/)(?:site|dist)-packages/|^<(?:frozen|built|string)"
    r"|(?:^|/)node_modules/|^node:|^internal/|^native |^/usr/(?:lib|share)/|/go/src/(?:runtime|net|internal|database)/"
    r"|/usr/local/go/|^(?:java|javax|jdk|sun|com\.sun|org\.apache|org\.springframework|io\.netty)[./]|/gems/|^wasm:"
)
"""Files that are not the app's own: of the runtime, or installed."""
_LIBRARY: Final = re.compile(r"^.*/(?:lib(?:64)?/python[\d.]+(?:/(?:site|dist)-packages)?|node_modules|gems)/")

_SERVING: Final = re.compile(
    r"^(?:process_request_thread|finish_request|handle_one_request|handle_request|handle_request_\w+|run_wsgi"
    r"|dispatch_request|full_dispatch_request|wsgi_app|get_response|_get_response|inner|run_endpoint_function|run_asgi"
    r"|process_request|service|respond|execute|do_[A-Z]+|solve_dependencies|view|dispatch|_handle|_run|__call__"
    r"|parserOnIncoming|emit|serve_one|on_request|request_response)$"
)
"""Functions of servers and frameworks that are on the stack while one request is worked on."""
_HANDLES: Final = frozenset({
    "process_request_thread", "finish_request", "handle_one_request", "handle_request", "run_wsgi", "dispatch_request",
    "full_dispatch_request", "wsgi_app", "get_response", "_get_response",
})  # fmt: skip
"""Those of them that no event loop is called by but from a request."""
_POOL_PLACE: Final = re.compile(r"pool|queuepool|hikari|dbcp|generic-pool|checkout", re.IGNORECASE)
_POOL_CALL: Final = re.compile(
    r"^(?:acquire|checkout|check_out|borrow\w*|lease|take|get|getconn|get_conn\w*|_get_conn\w*|getConnection"
    r"|connect|connection|_do_get|_checkout|get_socket|rent|obtain|_acquire\w*|__enter__|__aenter__|wait_for_conn\w*)$"
)
_RULES: Final[tuple[tuple[Kind, re.Pattern[str]], ...]] = (
    ("dns", re.compile(r" (?:getaddrinfo|gethostby\w+|getnameinfo|getfqdn|_?resolve\w*) .*(?:socket|resolver|dns)")),
    ("connect", re.compile(r" (?:create_connection|_new_conn|do_handshake|_?connect_tcp|sock_connect|_connect) ")),
    ("child", re.compile(
        r" (?:_try_wait|_?wait|_?communicate|waitpid|execSync|spawnSync) .*(?:subprocess|child_process|popen)"
    )),
    ("pool", re.compile(r" get queue\.py| (?:acquire|__enter__) threading\.py|LifoQueue|Semaphore")),
    ("result", re.compile(
        r" (?:result|exception|_wait_for_tstate_lock|join|as_completed|waitUntil) | wait threading\.py"
    )),
    ("lock", re.compile(r" (?:acquire|__enter__|acquire_lock|flock|lockf|park|lock|lockInterruptibly) ")),
    ("sleep", re.compile(r" (?:sleep|_sleep|Sleep|nanosleep|sleepSync) ")),
    ("send", re.compile(r"^ (?:write|writelines|flush|_?send\w*) (?:socket|ssl|socketserver|server|http|wsgi)")),
    ("socket", re.compile(
        r" (?:_?read_status|readinto|_?recv\w*|read_packet\w*|readline|read|readexactly|read_response|_read_\w+"
        r"|socketRead\w*|getresponse|poll|wait_read|select) "
    )),
)  # fmt: skip
"""Kind of wait by the library's frames above the app's own, as " innermost file next file …"."""
_KERNEL: Final[tuple[tuple[Kind, re.Pattern[str]], ...]] = (
    ("lock", re.compile(r"futex|rwsem|mutex|flock|locks_lock|posix_lock")),
    ("sleep", re.compile(r"nanosleep")),
    ("connect", re.compile(r"wait_for_connect|inet_stream_connect|unix_stream_connect")),
    ("idle", re.compile(r"inet_csk_accept|inet_accept|unix_accept|epoll|ep_poll|sigtimedwait|pause")),
    ("pipe", re.compile(r"pipe")),
    ("file", re.compile(
        r"io_schedule|folio_wait|wait_on_page|blk_|bio_|jbd2|ext4|xfs|btrfs|nfs|rpc_wait|wait_on_bit|fsync|writeback"
    )),
    ("child", re.compile(r"do_wait|wait4|waitid")),
    ("send", re.compile(r"sk_stream_wait|sock_alloc_send|tcp_sendmsg|skb_wait_for_send")),
    ("socket", re.compile(
        r"wait_woken|sk_wait|tcp_|inet_recv|unix_stream|skb_wait|sk_stream|schedule_timeout|poll|select"
    )),
)  # fmt: skip
_ENGINE: Final = frozenset({
    "_run_once", "run_forever", "serve_forever", "run_until_complete", "accept", "_accept", "get_request", "_worker",
    "handler_thread", "_wait_for_tstate_lock", "sigwait",
})  # fmt: skip
"""Loops of servers, event loops and pools: innermost, or right below a wait, they have nothing to do."""
_AT_REST: Final = frozenset({
    *_ENGINE, "worker", "select", "poll", "epoll", "run", "wait_for_event", "_bootstrap", "pause", "wait", "get",
    "join", "_wait", "(idle)", "(program)",
})  # fmt: skip
_LOOP: Final = frozenset({
    "_run_once", "run_forever", "run_until_complete", "run", "_run", "processTimers", "processTicksAndRejections",
})  # fmt: skip
_READS: Final = frozenset({"readinto", "readline", "recv", "recv_into", "read"})
_LOOP_FILE: Final = re.compile(r"asyncio/|uvloop|selectors\.py|gevent/|tornado/|twisted/|trio/|curio/|node:internal")
_WAITS: Final = re.compile(r" (?:wait|get|acquire|park|__enter__|_wait|select) ")
_KEPT: Final = frozenset({"handle_one_request", "keepalive_request", "wait_for_request", "_wait_request", "keep_alive"})
"""A server's function that reads the next request of a kept connection, right below the read."""


@dataclass(frozen=True, slots=True)
class At:
    """Where one thread stood in one round."""

    thread: tuple[int, int]  # pid, thread
    kind: Kind
    would: Kind  # the same, if it is taken to work on a request
    place: str  # "load_prices (catalog.py:212)": the innermost frame of the app's own, else the innermost
    chain: str  # that and what called it, a few
    serving: bool  # it works on a request, as far as frames tell
    own: bool  # `place` is of the app's own code
    gil: bool
    loop: bool  # it runs within an event loop
    call: str  # what it called from there: "readinto (socket.py)", "" when it is at `place` itself
    function: str  # "load_prices (catalog.py)": `place` without the line
    fd: int | None = None
    name: str = ""
    told: bool = True  # frames tell the kind; else it is by where in the kernel it slept, a moment sooner or later


@dataclass(slots=True)
class Place:
    """Threads of one instance that stand at one line, doing the same."""

    instance: str
    kind: Kind
    would: Kind
    place: str
    chain: str
    call: str
    serving: bool
    own: bool
    loop: bool
    counts: list[int] = field(default_factory=list)  # per round
    same: int = 0  # threads that stood here in one round and in the next, in the median
    gil: int = 0  # times that one of them held the GIL
    threads: set[tuple[int, int]] = field(default_factory=set)

    @property
    def most(self) -> int:
        return max(self.counts, default=0)

    @property
    def least(self) -> int:
        """How many stood here in nearly all rounds: one of five may be missing."""
        return sorted(self.counts)[len(self.counts) // 5] if self.counts else 0

    @property
    def always(self) -> bool:
        """In nearly all of two rounds or more some stood here."""
        return len(self.counts) > 1 and self.least > 0

    @property
    def stuck(self) -> bool:
        """The same threads from one round to the next."""
        return len(self.counts) > 1 and self.same > 0

    def said(self) -> str:
        """ "193, 191 and 194 threads" """
        counts = [str(one) for one in (self.counts if len(self.counts) <= 4 else _few(self.counts))]
        listed = counts[0] if len(counts) == 1 else f"{', '.join(counts[:-1])} and {counts[-1]}"
        if len(set(self.counts)) == 1:
            listed = counts[0]
        return f"{listed} thread{'' if listed == '1' else 's'}"


def _few(counts: Sequence[int]) -> list[int]:
    return [counts[0], counts[len(counts) // 2], counts[-1]]


@dataclass(slots=True)
class Standing:
    """All rounds of one instance, read."""

    instance: str
    runtime: str
    rounds: list[list[At]]
    places: list[Place]  # most threads first
    span: float = 0.0  # seconds from the first round to the last

    @property
    def readable(self) -> bool:
        """Whether frames of a language were seen at all, in two rounds or more."""
        return len(self.rounds) > 1 and any(at.own or at.serving for seen in self.rounds for at in seen)

    def busy(self) -> list[Place]:
        """Those that do or wait for something, without those that wait for work."""
        return [one for one in self.places if one.kind != "idle"]

    def of(self, *kinds: Kind) -> list[Place]:
        return [one for one in self.places if one.kind in kinds]

    def threads(self) -> int:
        return max((len(seen) for seen in self.rounds), default=0)


def words(place: Place) -> str:
    """What its threads do: "wait for a disk", of one thread "waits for a disk"."""
    verb, _, rest = WORDS[place.kind].partition(" ")
    verb = verb if place.most == 1 else _PLURAL[verb]
    return f"{verb} {rest}".rstrip()


def own(frame: Frame) -> bool:
    """Whether it is of the app's own code, as far as its file's name tells."""
    return bool(frame.file) and not _FOREIGN.search(frame.file.removeprefix("file://"))


def short(frame: Frame) -> str:
    """ "load_prices (catalog.py:212)" """
    name = _file(frame)
    where = f"{name}:{frame.line}" if frame.line else name
    return f"{frame.function} ({where})" if name else frame.function


def name(frame: Frame) -> str:
    """Of the function alone: Python tells "Queue.get" or "get", as its version does."""
    return frame.function.rpartition(".")[2]


def _file(frame: Frame) -> str:
    """As short as it says something: below the library, or the last two parts."""
    path = frame.file.removeprefix("file://")
    cut = _LIBRARY.sub("", path)
    if cut != path:
        return cut
    parts = path.split("/")
    return "/".join(parts[-2:]) if len(parts) > 2 and parts[-2] not in ("app", "src", "srv") else parts[-1]


def read(instance: str, stacks: Stacks, report: ProcReport | None = None) -> Standing:
    """All threads in all rounds. `report` tells where in the kernel those slept whose round does not."""
    slept = _slept(report)
    told = {process.pid for one in stacks.rounds for process in one.processes if _language(process)}
    rounds = [
        [
            _at(process.pid, thread, slept.get(thread.id), process.how)
            for process in one.processes
            for thread in process.threads
            if process.pid not in told or _language(process)  # where it failed once, the kernel's side says less
        ]
        for one in stacks.rounds
    ]
    rounds = _agreed([one for one in rounds if one])
    span = stacks.rounds[-1].at - stacks.rounds[0].at if stacks.rounds else 0.0
    return Standing(instance, stacks.runtime, rounds, _places(instance, rounds), span)


def _agreed(rounds: Sequence[Sequence[At]]) -> list[list[At]]:
    """One kind for all at the same line: frames and kernel are not read at one moment, so what most say holds."""
    kinds: dict[str, Counter[Kind]] = {}
    for one in rounds:
        for at in one:
            if not at.told and at.kind != "waiting":  # of some the kernel tells nothing
                kinds.setdefault(at.place, Counter())[at.kind] += 1
    said: dict[str, Kind] = {}
    for place, counts in kinds.items():
        kind, number = counts.most_common(1)[0]
        said[place] = kind if number >= 0.6 * counts.total() else "waiting"
    return [
        [
            at
            if at.told or at.kind == "cpu" or at.place not in said
            else replace(at, kind=said[at.place], would=said[at.place])
            for at in one
        ]
        for one in rounds
    ]


def _language(process: ProcessStacks) -> bool:
    """Its frames are of a language, not of the kernel."""
    return process.how != "kernel" and any(thread.frames for thread in process.threads)


def _slept(report: ProcReport | None) -> dict[int, str]:
    threads = (thread for process in (report.processes if report else ()) for thread in process.threads)
    return {one.id: one.wchan or (one.kernel or [""])[0] for one in threads if one.wchan is not None or one.kernel}


def _at(pid: int, thread: ThreadStack, slept: str | None, how: str) -> At:
    frames = thread.frames
    if how == "kernel":
        kernel = " ".join(frame.function for frame in frames[:4])
        asleep: Kind = _by_kernel(kernel) or ("cpu" if thread.active else "waiting")
        asleep = "idle" if asleep in ("lock", "socket") else asleep  # what for can't be told: it accuses nobody
        place = frames[0].function if frames else "(no frames)"
        return At(
            (pid, thread.id), asleep, asleep, place, place, False, False, False, False, "", place, thread.fd,
            thread.name,
        )  # fmt: skip
    first = next((at for at, frame in enumerate(frames) if own(frame)), None)
    serving = any(_SERVING.match(name(frame)) for frame in frames) or _item(frames)
    would = _kind(thread, frames, first, thread.wchan if thread.wchan is not None else slept)
    if _between(frames):
        would = "idle"
    kind: Kind = "idle" if would == "idle" or _rests(frames, serving) else would
    inner = innermost(frames)
    here = frames[inner or 0] if frames else Frame(function="(no frames)")
    own_frames = [frame for frame in frames if own(frame)] if inner is not None else frames
    return At(
        thread=(pid, thread.id),
        kind=kind,
        would=would,
        place=short(here),
        chain=" < ".join(short(frame) for frame in own_frames[:3]),
        serving=serving,
        own=inner is not None,
        gil=bool(thread.gil),
        loop=any(name(frame) in _LOOP and _LOOP_FILE.search(frame.file) for frame in frames),
        call=short(frames[0]) if inner else "",
        function=f"{here.function} ({_file(here)})",
        fd=thread.fd,
        name=thread.name,
        told=kind == "idle" or bool(first),
    )


def innermost(frames: Sequence[Frame]) -> int | None:
    """The app's own innermost frame, innermost first; None: there is none, or none but what runs the event loop.

    A handler may run a loop of its own.
    """
    for at, frame in enumerate(frames):
        if own(frame):
            return at
        if name(frame) in _LOOP and _LOOP_FILE.search(frame.file):
            rest = frames[at + 1 :]
            if not _item(rest) and not any(name(one) in _HANDLES for one in rest):
                return None
    return None


def _item(frames: Sequence[Frame]) -> bool:
    """It runs a piece of work that was handed to a pool of threads."""
    return any(
        name(frame) == "run" and frame.file.endswith(("concurrent/futures/thread.py", "_backends/_asyncio.py"))
        for frame in frames
    )


def _kind(thread: ThreadStack, frames: Sequence[Frame], first: int | None, slept: str | None) -> Kind:
    """What it does, as if it worked on a request."""
    if not frames:
        return "idle"
    above = frames[: first if first is not None else len(frames)]
    found = _by_frames(above, frames) if above else None
    if found is None and thread.active:
        return "cpu"
    kernel = _by_kernel(slept) if slept else None
    if kernel == "idle":  # an event loop's wait, called from a handler
        kernel = "socket"
    if found is None:
        return kernel or "waiting"
    return kernel if found == "lock" and kernel in ("socket", "sleep") else found


def _between(frames: Sequence[Frame]) -> bool:
    """It is in the loop of a server, an event loop or a pool, or reads the next request of a kept connection."""
    if not frames:
        return True
    inner, below = frames[0], [name(frame) for frame in frames[1:3]]
    if own(inner):
        return False
    if name(inner) in _READS and any(one in _KEPT for one in below) and not own(frames[min(1, len(frames) - 1)]):
        return True
    return name(inner) in _ENGINE or (name(inner) in _AT_REST and bool(below) and below[0] in _ENGINE)


def _rests(frames: Sequence[Frame], serving: bool) -> bool:
    """It waits for a next piece of work, as far as its frames tell."""
    return not own(frames[0]) and name(frames[0]) in _AT_REST and not serving


def _by_frames(above: Sequence[Frame], frames: Sequence[Frame]) -> Kind | None:
    text = "".join(f" {name(frame)} {frame.file.rpartition('/')[2] or '?'}" for frame in above[:6]) + " "
    around = [*above[:8], *frames[len(above) : len(above) + 2]]
    if _WAITS.match(text) and any(
        _POOL_CALL.search(name(one)) and _POOL_PLACE.search(f"{one.file.rpartition('/')[2]} {one.function}")
        for one in around
    ):
        return "pool"
    return next((kind for kind, pattern in _RULES if pattern.search(text)), None)


def _by_kernel(where: str) -> Kind | None:
    return next((kind for kind, pattern in _KERNEL if pattern.search(where)), None)


def _places(instance: str, rounds: Sequence[Sequence[At]]) -> list[Place]:
    found: dict[tuple[Kind, str], Place] = {}
    seen: dict[tuple[Kind, str], list[set[tuple[int, int]]]] = {}
    for number, one in enumerate(rounds):
        for at in one:
            key = (at.kind, at.place)
            place = found.get(key)
            if place is None:
                place = found[key] = Place(
                    instance,
                    at.kind,
                    at.would,
                    at.place,
                    at.chain,
                    at.call,
                    at.serving,
                    at.own,
                    at.loop,
                    [0] * len(rounds),
                )
                seen[key] = [set() for _ in rounds]
            place.counts[number] += 1
            place.gil += at.gil
            place.serving |= at.serving
            place.threads.add(at.thread)
            seen[key][number].add(at.thread)
    for where, place in found.items():
        both = sorted(len(a & b) for a, b in zip(seen[where], seen[where][1:], strict=False))
        place.same = both[(len(both) - 1) // 2] if both else 0
    return sorted(found.values(), key=lambda one: (-sum(one.counts), one.place))


def working(standing: Standing, in_flight: float) -> list[Place]:
    """Places of threads that work on requests, most first: those that frames of a server tell, and event loops.

    Of a server whose frames are not known it is threads of the app's own code that stand about as many as requests are
    in flight; a thread that works in the background is not among them.
    """
    told = [one for one in standing.busy() if (one.serving or one.loop or standing.runtime == "node") and one.own]
    told += [one for one in standing.busy() if one.serving and not one.own]
    if told or in_flight < 1:
        return told
    least, most = max(1.0, 0.4 * in_flight), 2 * in_flight + 1
    found = []
    for one in standing.places:
        if one.own and least <= one.least and one.most <= most and (one.kind != "idle" or one.would in BLOCKS):
            one.kind = one.would
            found.append(one)
    return found


def read_all(stacks: Mapping[str, Stacks], reports: Mapping[str, ProcReport]) -> dict[str, Standing]:
    """By instance."""
    return {name: read(name, one, reports.get(name)) for name, one in stacks.items()}


def merged(standings: Iterable[Standing], *kinds: Kind) -> list[tuple[str, list[Place]]]:
    """Places with the same kind and line over all instances, most threads first: the line, and each instance's."""
    found: dict[str, list[Place]] = {}
    for one in standings:
        for place in one.of(*kinds):
            found.setdefault(place.place, []).append(place)
    return sorted(found.items(), key=lambda item: -sum(place.least for place in item[1]))
