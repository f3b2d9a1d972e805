"""The wall clock is set, by a day forwards and by two backwards: nothing is mended that is well, and acts go on.

Every deadline and rule is on the monotonic clock; only what is shown, and what a person set until a time, is not.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.client import Load
from tests.e2e.mending import APPS, act, config, events, operations, well
from tests.e2e.support import Triage, serve, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("cc") is None, reason="a C compiler makes the library that sets the clock"),
]
DAY = 86_400.0


class Clock:
    """What the wall clock of a Triage is off by."""

    def __init__(self, folder: Path) -> None:
        self.library = folder / "clock.so"
        self.file = folder / "step"
        subprocess.run(["cc", "-shared", "-fPIC", "-O", "-o", self.library, APPS / "clock.c"], check=True, timeout=60)
        self.set(0.0)

    def set(self, seconds: float) -> None:
        with open(self.file, "r+b" if self.file.exists() else "wb") as file:  # in place: it is mapped
            file.write(struct.pack("d", seconds))


@pytest.fixture
def clock(folder: Path) -> Clock:
    return Clock(folder)


@pytest.fixture
def running(folder: Path, clock: Clock) -> Iterator[Triage]:
    rule = """
[[apps.web.autoheal]]
name = "old"
when = { age = { above = "10m" } }
then = ["recycle"]
"""
    started = serve(
        folder / "here", config(instances=2, more=rule), LD_PRELOAD=str(clock.library), CLOCK_STEP=str(clock.file)
    )
    try:
        yield started.await_ready()
    finally:
        started.end()


def test_the_clock_is_set_and_nothing_happens(running: Triage, clock: Clock) -> None:
    before = well(running, 2)
    control, workers = running.control(), {one["pid"] for one in running.workers()}
    with Load(running.port, "/", clients=4) as load:
        for seconds in (DAY, -DAY, 0.0):
            clock.set(seconds)
            aim = load.good + 200
            until(lambda aim=aim: load.good >= aim, "requests go on")  # type: ignore[misc]
            checked = running.ready("web")[0]["health"]["checked"]
            until(lambda old=checked: running.ready("web")[0]["health"]["checked"] != old, "probes go on")  # type: ignore[misc]
    assert not load.failed, load.summary()
    after = running.ready("web")
    assert [one["pid"] for one in after] == [one["pid"] for one in before]
    assert (running.control(), {one["pid"] for one in running.workers()}) == (control, workers)
    assert not operations(running), "no rule fired"
    kinds = {event["kind"] for event in events(running)}
    assert not kinds & {"ejected", "failing", "worker-silent", "control-restarted"}


def test_an_act_goes_on_while_the_clock_is_set(running: Triage, clock: Clock) -> None:
    first, second = well(running, 2)
    with Load(running.port, "/", clients=4) as load:
        clock.set(DAY)
        act(running, f"apps/web/instances/{first['id']}/recycle")
        clock.set(-DAY)
        done = act(running, f"apps/web/instances/{second['id']}/recycle")
    assert not load.failed, load.summary()
    assert 0.0 <= done["took_s"] < 3600.0
    assert not {first["id"], second["id"]} & {one["id"] for one in running.ready("web")}
