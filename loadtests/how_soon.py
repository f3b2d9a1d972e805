"""How soon an app is served again, with no hand lifted: what is promised, measured.

`python -m loadtests.how_soon [--times 5] [--seconds 60] [--write]`

Each figure is of the app of chaos (it starts in a few tenths of a second), seen by a client that asks at a fixed rate
(chaos_load). The hung app has one
instance and no health path, and everything of Triage is a default, `first_byte` of 30 s too.
"""

from __future__ import annotations

import http.client
import os
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Final

from loadtests.ask import get
from loadtests.chaos import DOCUMENT, NOTICED
from loadtests.chaos_load import Outcome, read
from loadtests.chaos_scene import Scene, interrupt
from loadtests.lab import Lab, python
from loadtests.report import Report, arguments, finish_with, ms, say

RATE: Final = 200.0
DEFAULT_FIRST_BYTE: Final = 30.0
HEALED: Final = 15.0  # beyond first_byte
RECYCLED: Final = 2.0
LONE: Final = 0.5  # beyond its start
NO_GAP: Final = 0.25  # a hundred GETs a second are due; a start takes over a second


def main() -> int:
    parser = arguments(__doc__, seconds=60.0, of="over which the lone one is killed", document=DOCUMENT)
    parser.add_argument("--times", type=int, default=5, help="that each but the hung app is measured")
    told = parser.parse_args()
    report = Report("how_soon")
    for measure in (several, lone, hung):
        say(measure.__doc__ or "")
        measure(report, told.times, told.seconds)
    return report.finish(told, DOCUMENT)


@contextmanager
def load(scene: Scene, outcomes: list[Outcome]) -> Iterator[None]:
    """Requests at a fixed rate while the block runs; their outcomes are there afterwards."""
    output = scene.lab.folder / "outcomes"
    argv = python("loadtests.chaos_load", "--port", str(scene.port), "--rate", str(RATE), "--output", str(output))
    process = scene.lab.start(argv, core=scene.lab.generator_core)
    time.sleep(1.5)
    yield
    time.sleep(0.5)
    interrupt(process)
    process.wait(60.0)
    outcomes += read(output)


def several(report: Report, times: int, seconds: float) -> None:
    """one of two killed; recycles"""
    took, outcomes = [], list[Outcome]()
    with Lab() as lab:
        scene = Scene(lab, instances=2)
        scene.start()
        with load(scene, outcomes):
            for _ in range(times):
                victim = scene.ready()[0]
                at = time.time()
                os.kill(victim["pid"], signal.SIGKILL)
                scene.until(lambda: scene.wrong(), "its end is seen")
                scene.until_whole()
                scene.noticed.append(scene.ended_at(victim["id"]) - at)
                began = time.monotonic()
                scene.done(f"apps/web/instances/{scene.ready()[0]['id']}/recycle")
                took.append(time.monotonic() - began)
    gets = [one for one in outcomes if one.method == "GET"]
    answered = sorted(one.ended for one in gets if one.good)
    longest = max(after - before for before, after in pairwise(answered))
    lost = len(gets) - len(answered)
    limit(report, "an instance's end is noticed", scene.noticed, NOTICED)
    report.check(
        "one of two killed: the longest time without an answer", f"{ms(longest)}, {lost} of {len(gets)} GETs failed",
        f"≤ {ms(NO_GAP)}, 0", longest <= NO_GAP and not lost,
    )  # fmt: skip
    limit(report, "a recycle, its drain included", took, RECYCLED)


def lone(report: Report, times: int, seconds: float) -> None:
    """the only one killed"""
    beyond = []
    with Lab() as lab:
        scene = Scene(lab, instances=1)
        scene.start()
        for _ in range(times):
            before = scene.ready()[0]
            began = time.monotonic()
            os.kill(before["pid"], signal.SIGKILL)
            answer = get(scene.port, "/get?n=1&ms=0", timeout=60.0)
            gap = time.monotonic() - began
            if answer.status != 200:
                report.check("the only one killed: a GET waits", str(answer.status), "200", False)
            scene.until_whole()
            beyond.append(gap - start_of(scene, scene.ready()[0]["id"]))
            time.sleep(seconds / times)  # starts that follow each other closely are held back
    limit(report, "the only one killed: beyond its start, a GET that waits is answered", beyond, LONE)


def start_of(scene: Scene, name: str) -> float:
    """How long this instance took from its start to ready, by the events."""
    at = {event["kind"]: event["time"] for event in scene.api.events() if event["instance"] == name}
    return scene.seconds(at["ready"]) - scene.seconds(at["starting"])


def hung(report: Report, times: int, seconds: float) -> None:
    """the only one hangs: no health path, first_byte = 30 s"""
    with Lab() as lab:
        scene = Scene(lab, instances=1, health="", first_byte=DEFAULT_FIRST_BYTE)
        scene.start()
        before = scene.ready()[0]["pid"]
        began = time.monotonic()
        hang = threading.Thread(target=quietly, args=(lambda: get(scene.port, "/deadlock", timeout=90.0),))
        hang.start()
        while True:
            time.sleep(0.1)
            try:
                good = get(scene.port, "/get?n=1&ms=0", timeout=90.0).status == 200
            except OSError:
                good = False
            if good and before not in {one["pid"] for one in scene.ready()}:
                break
        took = time.monotonic() - began
        hang.join()
        stacks = [path for path in scene.data.rglob("*") if path.is_file() and holds(path, "deadlock (")]
    limit(report, "a hung app serves again (first_byte = 30 s)", [took], DEFAULT_FIRST_BYTE + HEALED)
    report.check("its stacks, taken before", str(len(stacks)), "≥ 1 file that names where it hung", bool(stacks))


def holds(path: Path, text: str) -> bool:
    return text.encode() in path.read_bytes()


def quietly(call: Callable[[], object]) -> None:
    """A request that is not expected to be answered well."""
    try:
        call()
    except (OSError, http.client.HTTPException):
        pass


def limit(report: Report, what: str, values: list[float], most: float) -> None:
    """One promise: the median is held against it, the longest is shown."""
    middle = statistics.median(values)
    shown = ms if most < 0.5 else (lambda value: f"{value:.2f} s")
    many = f", longest {shown(max(values))} of {len(values)}" if len(values) > 1 else ""
    report.check(what, f"{shown(middle)}{many}", f"≤ {shown(most)}", middle <= most)


if __name__ == "__main__":
    finish_with(main)
