"""Where CPU time goes: stacks of threads that run, sampled through the session. The app is not stopped for it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

import msgspec

from proxy import units
from proxy.diagnostics import forks, proc
from proxy.diagnostics.artifacts import Profile, ProfileStack
from proxy.diagnostics.collectors.contract import Collector, NotThere
from proxy.diagnostics.runtimes import inspector, node, python
from proxy.diagnostics.runtimes.sampled import Sampled
from proxy.diagnostics.subject import Subject

MOST_SECONDS: Final = 60.0
QUICK: Final = 1.0
STACKS: Final = 2000
SPEEDSCOPE: Final = "profile.speedscope.json"


def collect(subject: Subject, folder: Path) -> Profile:
    """Of the first process of a runtime that can be sampled; Python's with all its children."""
    tree = proc.tree(subject.pid, subject.started)
    seconds = min(MOST_SECONDS, subject.seconds) or QUICK
    began = time.time()
    taken = _sample(tree, seconds, subject, folder)
    order = sorted(taken.stacks.items(), key=lambda one: -one[1])
    found = Profile(
        at=began, pid=taken.pid, how=taken.how, seconds=round(taken.seconds, 2), rate=taken.rate,
        samples=sum(taken.stacks.values()), possible=taken.possible, gil=taken.gil, note=taken.note,
        stacks=[ProfileStack(frames=list(frames), samples=count) for frames, count in order[:STACKS]],
    )  # fmt: skip
    if len(order) > STACKS:
        rest = sum(count for _, count in order[STACKS:])
        found.note += f"{'; ' if found.note else ''}{len(order) - STACKS} rare stacks with {rest} samples left out"
    forks.write(folder / SPEEDSCOPE, msgspec.json.encode(speedscope(found)))
    found.files = {"speedscope": SPEEDSCOPE}
    return found


def _sample(tree: dict[int, proc.Stat], seconds: float, subject: Subject, folder: Path) -> Sampled:
    runtimes = {pid: proc.maybe_runtime(pid) for pid in tree}
    pythons = [pid for pid, runtime in runtimes.items() if runtime == "python"]
    if pythons:
        return python.profile(pythons, tree, seconds, subject.wait, folder / "profile")
    instance = subject.instance
    addresses = (instance.address, *instance.listens_on) if instance is not None else ()
    for pid, runtime in runtimes.items():
        if runtime == "node":
            inspect = subject.known.app.inspect
            return node.profile(pid, inspector.ports_of(*addresses), seconds, subject.wait, may_open=inspect)
    raise NotThere("none of its processes is Python or Node")


def speedscope(found: Profile) -> dict[str, Any]:
    """In the format of speedscope.app, version 0.7."""
    index: dict[str, int] = {}
    samples = [[index.setdefault(frame, len(index)) for frame in stack.frames] for stack in found.stacks]
    weights = [stack.samples for stack in found.stacks]
    return {
        "$schema": "https://www.speedscope.app/file-format-schema.json",
        "exporter": "triage",
        "name": f"process {found.pid}",
        "shared": {"frames": [{"name": name} for name in index]},
        "profiles": [
            {
                "type": "sampled", "name": f"CPU, {found.seconds:g} s at {found.rate}/s", "unit": "none",
                "startValue": 0, "endValue": sum(weights), "samples": samples, "weights": weights,
            }
        ],
    }  # fmt: skip


COLLECTOR = Collector(
    name="profile",
    title="CPU profile",
    needs="Python: py-spy and the right to trace; Node: its inspector open",
    cost="the app is not stopped; py-spy takes 5 to 8 % of a core, at low priority; Node samples itself",
    limit=8.0,
    most=8 * units.MIB,
    artifact=Profile,
    collect=collect,
    when="through",
    runtimes=("python", "node"),
    each=2,
)
