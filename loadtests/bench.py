"""The benchmark: CPU per request, requests a second, p50 and p99 of Triage beside its peers.

`python -m loadtests.bench [--rounds 5] [--seconds 4] [--only small,tls] [--peers triage,nginx] [--write]`

Every peer runs all the time, pinned to one core; origin and wrk are on the other. In each round each peer is
loaded in turn, the order moving on by one from round to round, so that a noisy minute hits all of them.
CPU is user+sys of all processes of the peer, from /proc, divided by the requests that wrk counted. A ratio
is taken within a round, and shown as the median over rounds with the least and the largest beside it.

Always true: a run with a wrong answer has no figures; it shows as an error, with what was wrong.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, TypeVar

from loadtests import machine, procs, table, wrk
from loadtests.ask import get
from loadtests.lab import REPOSITORY, Failed, Lab
from loadtests.peers import PEERS, Peer, Running, start
from loadtests.report import DOCUMENT, finish_with, say
from loadtests.stage import stage, wrk_version
from loadtests.works import WORKS, Work

T = TypeVar("T")
BASE: Final = "nginx"
HEAD: Final = (
    "work",
    "peer",
    "CPU µs",
    "against nginx",
    "(spread)",
    "aim",
    "requests/s",
    "p50 ms",
    "p99 ms",
    "core busy",
)


@dataclass(frozen=True, slots=True)
class Measured:
    """One peer, one work, one round: seconds, and the share of its core it used. `error`: no figures."""

    peer: str
    work: str
    round: int
    cpu: float = 0.0
    rate: float = 0.0
    p50: float = 0.0
    p99: float = 0.0
    busy: float = 0.0
    error: str = ""


def measure(peer: Running, work: Work, round_: int, seconds: float, folder: Path) -> Measured:
    """Load a peer once; whatever goes wrong stands in `error`."""
    name = peer.peer.name
    port = peer.site.tls_port if work.tls else peer.site.port
    try:
        check(port, work)
        pids = peer.pids()
        began, before = time.monotonic(), procs.cpu_seconds(pids)
        figures = wrk.run(work, port, seconds, folder)
        cpu, lasted = procs.cpu_seconds(peer.pids()) - before, time.monotonic() - began
        if peer.pids() != pids:
            return Measured(name, work.name, round_, error="a process ended or began during the run")
        check(port, work)
    except (Failed, OSError) as error:
        return Measured(name, work.name, round_, error=str(error))
    finally:
        peer.forget_log()
    if why := wrk.wrong(figures, work):
        return Measured(name, work.name, round_, error=why)
    return Measured(
        name, work.name, round_, cpu / figures.requests, figures.rate, figures.p50, figures.p99, cpu / lasted
    )


def check(port: int, work: Work) -> None:
    """One answer looked at whole, before and after each run; Failed when it is not the right one."""
    content = b"x" * work.post if work.post else None
    answer = get(port, work.target, method=work.method, content=content, tls=work.tls, fields=work.fields)
    if answer.status != 200 or answer.content != b"x" * work.length:
        raise Failed(f"answered {answer.status} with {len(answer.content)} bytes, not 200 with {work.length}")


def bench(peers: Sequence[Peer], works: Sequence[Work], rounds: int, seconds: float) -> list[Measured]:
    """Run everything; a peer that can't be started is named, and left out."""
    measured: list[Measured] = []
    with Lab() as lab:
        standing = stage(lab)
        running: list[Running] = []
        for peer in peers:
            try:
                running.append(start(lab, peer, standing.site(peer.name)))
            except Failed as error:
                say(str(error))
                if peer.find():
                    why = str(error).splitlines()[0]
                    measured += [Measured(peer.name, work.name, 0, error=why) for work in works]
        for work in works:
            for each in running:  # a second each, not counted: caches, pools and buffers are filled
                measure(each, work, -1, 1.0, lab.folder)
            for round_ in range(rounds):
                turn = round_ % max(1, len(running))
                for each in running[turn:] + running[:turn]:
                    found = measure(each, work, round_, seconds, lab.folder)
                    measured.append(found)
                    figures = found.error or f"{found.cpu * 1e6:.1f} µs, {found.rate:.0f}/s"
                    say(f"{work.name}, round {round_ + 1} of {rounds}, {each.peer.name}: {figures}")
    return measured


def ratios(measured: Sequence[Measured], peer: str, work: str) -> list[float]:
    """CPU of a peer against nginx's, round by round, where both have figures."""
    cpu = {(each.peer, each.round): each.cpu for each in measured if each.work == work and not each.error}
    rounds = sorted(round_ for name, round_ in cpu if name == peer and (BASE, round_) in cpu)
    return [cpu[peer, round_] / cpu[BASE, round_] for round_ in rounds]


def rows(measured: Sequence[Measured]) -> list[list[str]]:
    """One row for each work and peer, in the order measured."""
    found = []
    for work, peer in dict.fromkeys((each.work, each.peer) for each in sorted(measured, key=_order)):
        runs = [each for each in measured if (each.work, each.peer) == (work, peer)]
        title = WORKS[work].title
        if any(each.error for each in runs):
            found.append([title, peer, "error", *[""] * (len(HEAD) - 3)])
            continue
        against = ratios(measured, peer, work)
        found.append(
            [
                title,
                peer,
                f"{statistics.median(each.cpu for each in runs) * 1e6:.1f}",
                f"{statistics.median(against):.2f}" if against else "",
                f"({min(against):.2f}-{max(against):.2f})" if against else "",
                f"≤ {WORKS[work].limit}" if peer == "triage" else "",
                f"{statistics.median(each.rate for each in runs):,.0f}",
                f"{statistics.median(each.p50 for each in runs) * 1e3:.2f}",
                f"{statistics.median(each.p99 for each in runs) * 1e3:.2f}",
                f"{statistics.median(each.busy for each in runs):.0%}",
            ]
        )
    return found


def errors(measured: Sequence[Measured]) -> list[str]:
    """What was wrong with the runs that have no figures: a line for each work and peer."""
    found: dict[tuple[str, str], list[str]] = {}
    for each in measured:
        if each.error:
            found.setdefault((each.work, each.peer), []).append(each.error.splitlines()[0])
    return [
        f"{peer}, {WORKS[work].title}: {said[0]} ({len(said)} of its rounds)" for (work, peer), said in found.items()
    ]


def _order(each: Measured) -> tuple[int, int]:
    return list(WORKS).index(each.work), list(PEERS).index(each.peer)


def how(peers: Sequence[Peer], rounds: int, seconds: float) -> str:
    """Everything one needs to judge a table, or to make it again."""
    versions = [f"{peer.name} {peer.version(found)}" for peer in peers if (found := peer.find())]
    missing = [f"{peer.name} ({peer.get})" for peer in peers if not peer.find()]
    lines = [
        f"Machine: {machine.describe()}.",
        f"Peers: {', '.join(versions)}; wrk {wrk_version()}."
        + (f" Not installed: {', '.join(missing)}." if missing else ""),
        f"Made {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}: {rounds} rounds of {seconds:g} s "
        "for each work and peer, medians.",
        f"Command: `{shlex.join(['python', '-m', 'loadtests.bench', *sys.argv[1:]])}`.",
    ]
    return "\n\n".join(lines)


def chosen(known: dict[str, T], names: str | None) -> list[T]:
    """Comma-separated names looked up; every one by default."""
    wanted = [name.strip() for name in names.split(",")] if names else list(known)
    if unknown := [name for name in wanted if name not in known]:
        raise SystemExit(f"unknown: {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in wanted]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each run")
    parser.add_argument("--only", metavar="WORKS", help=f"of {', '.join(WORKS)}")
    parser.add_argument("--peers", metavar="PEERS", help=f"of {', '.join(PEERS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every run's figures there")
    parser.add_argument("--write", action="store_true", help=f"put the table into {DOCUMENT.relative_to(REPOSITORY)}")
    told = parser.parse_args()
    peers, works = chosen(PEERS, told.peers), chosen(WORKS, told.only)
    for peer in peers:
        if not peer.find():
            say(f"{peer.name} is not installed and left out: {peer.get}")
    measured = bench(peers, works, told.rounds, told.seconds)
    made, found = how(peers, told.rounds, told.seconds), rows(measured)
    wrong = "".join(f"\n\nError: {line}." for line in errors(measured))
    print(f"\n{table.plain(HEAD, found)}{wrong}\n\n{made}")
    if told.json:
        told.json.write_text(json.dumps({"made": made, "runs": [asdict(each) for each in measured]}, indent=1))
    if told.write:
        table.put(DOCUMENT, "bench", f"{table.markdown(HEAD, found)}{wrong}\n\n{made}")
    return 1 if not measured or any(each.error for each in measured) else 0


if __name__ == "__main__":
    finish_with(main)
