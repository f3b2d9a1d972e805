"""Chaos: a fixed rate of requests, while everything that can be killed, replaced or filled up is.

`make chaos` = `python -m loadtests.chaos [--seconds 300] [--seed 1] [--rate 400] [--only NAME,…] [--write]`

Half of the requests are GET, half are POST with a number of its own that the app writes down, so that loss and double
execution are counted, not guessed (chaos_load, chaos_app). Disturbances (chaos_acts) come one after the other in an
order drawn from the seed, each to the end: until all is well again. They go on until the time is over; every one
that is asked for is done at least once.

It ends with what was sent, answered and failed by cause, GET and POST apart (chaos_count), and with exit code 1 when a
promise was broken. What could not be tried here is named.
"""

from __future__ import annotations

import argparse
import re
import statistics
import time
from collections import deque
from collections.abc import Sequence
from random import Random
from typing import Final

from loadtests.api import Refused
from loadtests.chaos_acts import DISTURBANCES, Disturbance, NotNow, Untried
from loadtests.chaos_count import Counts, Promise, Tally, Window, tally
from loadtests.chaos_load import read
from loadtests.chaos_scene import FIRST_BYTE, INSTANCES, WORKERS, Scene, interrupt
from loadtests.lab import REPOSITORY, Failed, Lab, python
from loadtests.report import Report, finish_with, ms, say

DOCUMENT: Final = REPOSITORY / "docs" / "reliability.md"
NOTICED: Final = 0.05
CALM: Final = "no disturbance"
BETWEEN: Final = 0.4  # seconds of calm: a request of a quarter of a second ends in the window it was sent in
DEFECT: Final = re.compile('"event":"(?:internal-error|defect)"')
"""In Triage's own log: something that must not be, whatever is done to it."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300.0, help="at least; each disturbance is done once")
    parser.add_argument("--seed", type=int, default=1, help="of the order, and of who is hit")
    parser.add_argument("--rate", type=float, default=400.0, help="requests a second")
    parser.add_argument("--only", default="", help="names of disturbances, else parts of names, with commas")
    parser.add_argument("--short", action="store_true", help="leave out those that take over ten seconds")
    parser.add_argument("--write", action="store_true", help=f"put it into {DOCUMENT.relative_to(REPOSITORY)}")
    told = parser.parse_args()
    chosen = choose(told.only, told.short)
    untried: dict[str, str] = {}
    with Lab() as lab:
        scene = Scene(lab)
        scene.start()
        output = lab.folder / "outcomes"
        argv = python(
            "loadtests.chaos_load", "--port", str(scene.port), "--rate", str(told.rate), "--output", str(output)
        )
        windows = [Window(CALM, Promise.NOTHING, time.monotonic())]
        load = lab.start(argv, core=lab.generator_core)
        time.sleep(2.0)
        disturb(scene, chosen, Random(told.seed), told.seconds, windows, untried)
        interrupt(load)
        if load.wait(timeout=60.0):
            raise Failed(f"the load ended badly:\n{lab.said(load)}")
        lab.end(scene.process)  # what an instance still executes is in the book when it has ended
        result = tally(read(output), windows, map(int, scene.book.read_text().split()))
        defects = [line for line in lab.said(scene.process, lines=10**6).splitlines() if DEFECT.search(line)]
    broken = result.broken() + [f"a defect of Triage's own: {line}" for line in defects[:5]]
    shown = Report("chaos")
    fill(shown, result, broken, untried, told.rate)
    detection(shown, scene.noticed)
    for window, outcome in result.failures[:20]:
        killed = f", {', '.join(map(repr, window.workers))}" if window.workers else ""
        say(f"{window.name}: {outcome.ended - window.began:.2f} s after it began: {outcome}{killed}")
    for said in broken:
        say(f"BROKEN: {said}")
    return shown.finish(told, DOCUMENT)


def choose(only: str, short: bool) -> list[Disturbance]:
    """Those that are asked for; Failed for a name that is none."""
    chosen = [one for one in DISTURBANCES if not (short and one.long)]
    if only:
        parts = [part.strip() for part in only.split(",")]
        for part in parts:
            if not any(part in one.name for one in DISTURBANCES):
                raise Failed(f"no disturbance is named {part}; there are {', '.join(one.name for one in DISTURBANCES)}")
        names = {one.name for one in DISTURBANCES}
        exact = names.intersection(parts)
        inexact = [part for part in parts if part not in names]
        chosen = [one for one in DISTURBANCES if one.name in exact or any(part in one.name for part in inexact)]
    return chosen


def disturb(
    scene: Scene,
    chosen: list[Disturbance],
    random: Random,
    seconds: float,
    windows: list[Window],
    untried: dict[str, str],
) -> None:
    """One after the other, in rounds, until the time is over."""
    end = time.monotonic() + seconds
    first = True
    while first or time.monotonic() < end:
        todo = deque(random.sample(chosen, len(chosen)))
        while todo and (first or time.monotonic() < end):
            one = todo.popleft()
            if one.name in untried:
                continue
            window = Window(one.name, one.promise, time.monotonic())
            windows.append(window)
            try:
                one.do(scene, window, random)
            except NotNow:
                windows.remove(window)
                if first:  # each is done once: later, then
                    todo.append(one)
                    time.sleep(0.0 if len(todo) > 2 else 5.0)
                continue
            except Untried as why:
                untried[one.name] = str(why)
                windows.remove(window)
                continue
            except Refused as error:
                if error.status not in (404, 405):
                    window.broken = str(error)
                else:
                    untried[one.name] = f"the admin API does not know it yet ({error})"
                    windows.remove(window)
                    continue
            except Failed as error:
                window.broken = str(error)
            try:
                scene.until_whole()
            except Failed as error:
                window.broken = f"{window.broken}; {error}".lstrip("; ")
            window.ended = time.monotonic()
            say(f"{one.name}: {window.ended - window.began:.1f} s {window.broken}".rstrip())
            time.sleep(BETWEEN)
            windows.append(Window(CALM, Promise.NOTHING, time.monotonic()))
            if "not within" in window.broken:
                say(scene.lab.said(scene.process))
                scene.until_whole(120.0)
        first = False


def detection(shown: Report, noticed: list[float]) -> None:
    """How soon control knew that a killed instance had ended; a limit where there are enough of them."""
    if not noticed:
        return
    middle = statistics.median(noticed)
    measured = f"{ms(middle)}, longest {ms(max(noticed))} of {len(noticed)}"
    if len(noticed) >= 5:
        shown.check("an instance's end noticed, median", measured, f"≤ {ms(NOTICED)}", middle <= NOTICED)
    else:
        shown.notes.append(f"An instance's end was noticed after {measured}.")


def cell(counts: Counts) -> str:
    """Failed of sent, with what was inside a killed worker."""
    inside = f" + {counts.inside} inside" if counts.inside else ""
    return f"{counts.failed.total()}{inside} of {counts.sent:,}"


def fill(shown: Report, result: Tally, broken: list[str], untried: dict[str, str], rate: float) -> None:
    """Rows, limits and notes of the report."""
    get, post = result.of("GET"), result.of("POST")
    shown.head = ("disturbance", "times", "GET failed", "POST failed", "slowest", "promised")
    order = {one.name: place for place, one in enumerate(DISTURBANCES)}
    for row in sorted(result.rows.values(), key=lambda row: order.get(row.name, -1)):
        one, other = row.methods["GET"], row.methods["POST"]
        times = "" if row.name == CALM else str(row.times)
        slowest = f"{max(one.slowest, other.slowest):.2f} s"
        shown.rows.append([row.name, times, cell(one), cell(other), slowest, row.promise.value])
    causes: list[Sequence[str]] = [
        ["sent", f"{get.sent:,}", f"{post.sent:,}"],
        ["answered", f"{get.answered:,}", f"{post.answered:,}"],
        ["failed, inside a killed worker", f"{get.inside:,}", f"{post.inside:,}"],
    ]
    for row in sorted(result.rows.values(), key=lambda row: order.get(row.name, -1)):
        for fault in sorted(row.methods["GET"].failed | row.methods["POST"].failed):
            counts = [str(row.methods[method].failed[fault]) for method in ("GET", "POST")]
            causes.append([f"failed: {row.name}: {fault}", *counts])
    shown.tables.append((("by cause", "idempotent (GET)", "non-idempotent (POST)"), causes))
    shown.check("promises broken", str(len(broken)), "0", not broken)
    shown.check("POST executed twice", str(len(result.executed_twice)), "0", not result.executed_twice)
    lost = len(result.not_executed)
    shown.check("POST answered, but not executed", str(lost), "0", not lost)
    shown.notes.append(
        f"{rate:g} requests a second, {INSTANCES} instances, {WORKERS} workers, first_byte = {FIRST_BYTE:g} s,"
        f' retries on "head-timeout". Of the POSTs that failed {result.failed_executed} had been executed,'
        f" {result.failed_not_executed} not."
    )
    shown.notes += [f"Broken: {said}." for said in broken]
    shown.notes += [f"Not tried: {name}: {why}." for name, why in untried.items()]


if __name__ == "__main__":
    finish_with(main)
