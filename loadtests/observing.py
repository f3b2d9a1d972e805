"""What observing costs: CPU per request of a worker that does all of it, beside one that does none.

`python -m loadtests.observing [--rounds 7] [--seconds 3] [--only small,faults]`

Two gateways of the same code run all the time. One observes as it does by default: counts, records, flight recorder,
kept requests, the access log in a memory-backed file, what control makes of it. In the workers of the other the
accounting of a finished request is replaced from outside (loadtests/without), and there is no access log. In each round
each is loaded in turn by wrk, the order changing from round to round; a ratio is taken within a round.

Works: a small GET; the same with heads that vary; every request a 502 (its instance closes without an answer); every
request a 503 (no instance can be connected to, and none waits).
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from loadtests import procs, wrk
from loadtests.ask import get
from loadtests.gateway import Gateway
from loadtests.lab import REPOSITORY, Failed, Lab
from loadtests.peers.peer import Site
from loadtests.peers.triage import app, gateway, serve
from loadtests.report import Report, arguments, finish_with, say
from loadtests.stage import Stage, become, stage, start_origin
from loadtests.works import WORKS, Work

WITHOUT: Final = REPOSITORY / "loadtests" / "without"
WORKER: Final = "triage-worker1"
SMALL: Final = WORKS["small"]


@dataclass(frozen=True, slots=True)
class Kind:
    """What is asked for, the status of every answer, and how much more CPU observing may take."""

    work: Work
    status: int
    limit: float


KINDS: Final = {
    "small": Kind(SMALL, 200, 1.05),
    "varied": Kind(WORKS["varied"], 200, 1.05),
    "502": Kind(replace(SMALL, name="502", title="every request a 502", target="/closed"), 502, 1.5),
    "503": Kind(replace(SMALL, name="503", title="every request a 503", target="/unready"), 503, 1.5),
}


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds of the worker's CPU per request, and of control's per second."""

    cpu: float
    rate: float
    control: float


def start(lab: Lab, standing: Stage, name: str, path: Sequence[Path], observes: bool) -> Gateway:
    """A gateway of one worker, whose processes find modules at `path` first."""
    site = standing.site(name)
    closing = start_origin(lab)
    become(closing, fail="close")
    text = gateway(site, tls=False)
    if not observes:
        text = text.replace(f'access_log = "{site.log}"', "access_log = false")
    text += app("web", [site.origin_port], 'paths = ["/small"]')
    text += app("closed", [closing], 'paths = ["/closed"]\nretries = { attempts = 0 }')
    text += app("unready", [lab.free_port()], 'paths = ["/unready"]\nqueue = { size = 0 }')
    text += '[apps.unready.health]\npath = "/healthz"\ninterval = "1s"\n'
    config = site.write("config.toml", text)
    env = {"PYTHONPATH": os.pathsep.join(map(str, path))}
    process = lab.start(serve(config), core=lab.proxy_core, env=env)

    def ready() -> bool:
        try:
            return all(get(site.port, kind.work.target).status == kind.status for kind in KINDS.values())
        except OSError:
            return False

    lab.wait_until(ready, process, name)
    running = Gateway(site, process)
    lab.wait_until(lambda: len(running.pids(WORKER)) == 1, process, f"{name}'s worker")
    return running


def measure(running: Gateway, kind: Kind, seconds: float, folder: Path) -> Measured:
    """Load it once. Raises Failed where an answer was not the one that is measured."""
    worker, control = running.worker(), running.control()
    before, control_before = procs.cpu_seconds([worker]), procs.cpu_seconds([control])
    figures = wrk.run(kind.work, running.site.port, seconds, folder)
    cpu, control_cpu = procs.cpu_seconds([worker]) - before, procs.cpu_seconds([control]) - control_before
    expected = figures.requests if kind.status >= 400 else 0
    wrong = {name: count for name, count in figures.errors.items() if name != "status"}
    if wrong or abs(figures.errors.get("status", 0) - expected) > kind.work.connections or not figures.requests:
        raise Failed(f"{kind.work.title}: not every answer was a {kind.status}: {figures.errors or 'none came'}")
    forget(running.site)
    return Measured(cpu / figures.requests, figures.rate, control_cpu / figures.duration)


def forget(site: Site) -> None:
    """Lines lie in memory."""
    for path in site.log.parent.glob(f"{site.log.name}*"):
        os.truncate(path, 0)


def main() -> int:
    parser = arguments(__doc__, seconds=3.0, of="of each run")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", metavar="WORKS", default=",".join(KINDS), help=f"of {', '.join(KINDS)}")
    told = parser.parse_args()
    head = ("work", "observing µs", "without µs", "ratio", "(spread)", "control, share of a core")
    report = Report("observing", head=head)
    with Lab() as lab:
        standing = stage(lab)
        both = {
            "observing": start(lab, standing, "observing", [REPOSITORY], True),
            "without": start(lab, standing, "without", [WITHOUT, REPOSITORY], False),
        }
        for name in told.only.split(","):
            kind = KINDS[name]
            found: dict[str, list[Measured]] = {each: [] for each in both}
            for each in both.values():
                measure(each, kind, 1.0, lab.folder)  # not counted: caches and pools are filled
            for round_ in range(told.rounds):
                for each in sorted(both, reverse=bool(round_ % 2)):
                    found[each].append(measure(both[each], kind, told.seconds, lab.folder))
                last = {each: f"{runs[-1].cpu * 1e6:.1f} µs" for each, runs in found.items()}
                say(f"{name}, round {round_ + 1} of {told.rounds}: {last}")
            ratios = [on.cpu / off.cpu for on, off in zip(found["observing"], found["without"], strict=True)]
            ratio = statistics.median(ratios)
            cpu = {each: statistics.median(run.cpu for run in runs) * 1e6 for each, runs in found.items()}
            control = statistics.median(run.control for run in found["observing"])
            spread = f"({min(ratios):.3f}-{max(ratios):.3f})"
            report.rows.append(
                [kind.work.title, f"{cpu['observing']:.1f}", f"{cpu['without']:.1f}", f"{ratio:.3f}", spread,
                 f"{control:.1%}"]
            )  # fmt: skip
            report.check(kind.work.title, f"{ratio:.3f}", f"≤ {kind.limit}", ratio <= kind.limit)
    return report.finish(told)


if __name__ == "__main__":
    finish_with(main)
