"""Stacks, sockets and samples as values: threads are told by lines such as "wait threading.py" or "load app:12"."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from proxy.diagnostics.artifacts import (
    Activity,
    ActivitySample,
    Frame,
    HostReport,
    HostSample,
    Listener,
    Peer,
    ProcessStacks,
    Profile,
    ProfileStack,
    Round,
    Sockets,
    SocketSample,
    Stacks,
    ThreadStack,
)
from tests.analyzers.made import NOW

SERVED = (
    "Handler.do_GET app:90", "BaseHTTPRequestHandler.handle_one_request lib:http/server.py:421",
    "BaseRequestHandler.__init__ lib:socketserver.py:755", "Thread.run lib:threading.py:982",
)  # fmt: skip
"""What stands below a handler of the standard library's threading server."""
LOOP = (
    "Handle._run lib:asyncio/events.py:80", "BaseEventLoop._run_once lib:asyncio/base_events.py:1922",
    "BaseEventLoop.run_forever lib:asyncio/base_events.py:607", "main app:200",
)  # fmt: skip
READING = ("SocketIO.readinto lib:socket.py:706", "HTTPResponse._read_status lib:http/client.py:279")
KEPT = ("SocketIO.readinto lib:socket.py:706", "BaseHTTPRequestHandler.handle_one_request lib:http/server.py:404")
ACQUIRES = ("Condition.wait lib:threading.py:327", "Queue.get lib:queue.py:171", "Pool.acquire app:36")
RESTING = (
    "EpollSelector.select lib:selectors.py:468", "BaseEventLoop._run_once lib:asyncio/base_events.py:1884",
    "BaseEventLoop.run_forever lib:asyncio/base_events.py:607", "main app:200",
)  # fmt: skip


def frame(text: str) -> Frame:
    """ "load app:12", "Queue.get lib:queue.py:171"."""
    function, _, where = text.partition(" ")
    place, _, rest = where.partition(":")
    if place == "lib":
        file, _, line = rest.rpartition(":")
        return Frame(function=function, file=f"/usr/lib/python3.11/{file}", line=int(line))
    return Frame(function=function, file="/srv/web/app.py", line=int(rest))


def thread(
    number: int, *frames: str, wchan: str | None = None, active: bool | None = False, gil: bool = False
) -> ThreadStack:
    return ThreadStack(id=number, frames=[frame(one) for one in frames], wchan=wchan, active=active, gil=gil)


def threads(
    count: int, *frames: str, first: int = 100, wchan: str | None = None, active: bool | None = False
) -> list[ThreadStack]:
    return [thread(first + number, *frames, wchan=wchan, active=active) for number in range(count)]


def stacks(*rounds: Iterable[ThreadStack], runtime: str = "python", pid: int = 1001) -> Stacks:
    """A round a second. One given round is there three times: nothing moves."""
    every = [list(one) for one in rounds]
    every = every * 3 if len(every) == 1 else every
    return Stacks(
        at=NOW - 3,
        runtime=runtime,
        rounds=[
            Round(at=NOW - 3 + number, processes=[ProcessStacks(pid=pid, name="python", how="py-spy", threads=one)])
            for number, one in enumerate(every)
        ],
    )


def asked(
    address: str = "10.0.3.12:5432", count: int = 0, waiters: Sequence[int] = (), seconds: float = 8.0, **fields: object
) -> Peer:
    """Connections to a server, of which `count` have a question out."""
    usual: dict[str, object] = {
        "address": address, "name": "PostgreSQL" if address.endswith(":5432") else "", "by": "server",
        "established": max(count, 5), "asked": count, "asked_for": seconds if count else None,
        "threads": len(waiters), "waiters": list(waiters),
    }  # fmt: skip
    return Peer(**{**usual, **fields})  # type: ignore[arg-type]


def sockets(*peers: Peer, waiting: int = 0) -> Sockets:
    """The same in three looks."""
    listener = Listener(address="127.0.0.1:9001", waiting=waiting, backlog=128)
    return Sockets(
        at=NOW,
        how="sock_diag",
        samples=[SocketSample(at=NOW - 3 + at, listeners=[listener], peers=list(peers)) for at in range(3)],
    )


def activity(cores: float = 0.02, busiest: float | None = None, **fields: object) -> Activity:
    """Ten seconds alike."""
    return Activity(
        at=NOW,
        samples=[
            ActivitySample(at=NOW - 10 + at, user=cores, busiest=cores if busiest is None else busiest, **fields)  # type: ignore[arg-type]
            for at in range(10)
        ],
    )


def profile(*rows: tuple[int, str]) -> Profile:
    """(samples, "outer < inner")."""
    found = [
        ProfileStack(
            samples=count,
            frames=[f"{name.strip()} (/srv/web/app.py:{7 + at})" for at, name in enumerate(text.split("<"))],
        )
        for count, text in rows
    ]
    return Profile(at=NOW, pid=1001, how="py-spy", samples=sum(count for count, _ in rows), stacks=found)


def host(
    busy: float = 0.2, pressure: float = 0.0, top: Sequence[tuple[str, int, float, int]] = (), **fields: object
) -> HostReport:
    sample = [
        HostSample(at=NOW - 10 + at, busy=busy, steal=0.0, iowait=0.0, pressure={"cpu some": pressure})
        for at in range(10)
    ]
    return HostReport(at=NOW, cores=2.0, samples=sample, top=list(top), **fields)  # type: ignore[arg-type]
