"""What chaos does: each disturbance with its promise, in one ordered registry.

A disturbance acts, and may wait for what it caused; the run then waits until all is well again. It raises Failed when
the act itself did not go as it should, and Untried when it can't be done here.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from loadtests.chaos_count import Promise, Window
from loadtests.chaos_scene import FIRST_BYTE, HEALTH, INSTANCES, Scene, alive
from loadtests.lab import Failed

HEALED_WITHIN: Final = FIRST_BYTE + 15.0
RULE_RESTS: Final = 125.0
"""Seconds after which a firing of the rule `hung` is no repetition to back off from: its cooldown twice."""
FULL_FOR: Final = 3.0  # seconds a disk stays full
HELD_FOR: Final = 1.0
FLAPS_AFTER: Final = 2.0


class Untried(Exception):
    """It can't be done here; the text says why."""


class NotNow(Exception):
    """It was done too short a time ago."""


@dataclass(frozen=True, slots=True)
class Disturbance:
    """`long`: it takes over ten seconds, and is left out of short runs."""

    name: str
    promise: Promise
    do: Callable[[Scene, Window, Random], None]
    long: bool = False


# --- kills ---------------------------------------------------------------------------------------------


def _kill_instance(scene: Scene, window: Window, random: Random, *signals: int) -> None:
    """So many instances at once; each is replaced."""
    victims = random.sample(scene.ready(), len(signals))
    killed = {}
    for victim, number in zip(victims, signals, strict=True):
        killed[victim["id"]] = time.time()
        os.kill(victim["pid"], number)
    for victim in victims:
        scene.until(lambda pid=victim["pid"]: not alive(pid), f"{victim['id']} ended", HEALED_WITHIN)  # type: ignore[misc]
    if set(signals) == {signal.SIGKILL}:
        scene.until_whole()
        scene.noticed += [scene.ended_at(name) - at for name, at in killed.items()]


def instance_kill(scene: Scene, window: Window, random: Random) -> None:
    _kill_instance(scene, window, random, signal.SIGKILL)


def instance_term(scene: Scene, window: Window, random: Random) -> None:
    _kill_instance(scene, window, random, signal.SIGTERM)


def two_instances(scene: Scene, window: Window, random: Random) -> None:
    _kill_instance(scene, window, random, signal.SIGKILL, signal.SIGKILL)


def instance_stop(scene: Scene, window: Window, random: Random) -> None:
    """It hangs, and nobody helps but the gateway."""
    _rule_has_rested(scene)
    victim = random.choice(scene.ready())["pid"]
    os.kill(victim, signal.SIGSTOP)
    try:
        scene.until(lambda: not alive(victim), f"the stopped instance replaced (pid {victim})", HEALED_WITHIN)
    except Failed:
        os.kill(victim, signal.SIGKILL)  # so that the run can go on
        raise


def _rule_has_rested(scene: Scene) -> None:
    """NotNow if it has fired of late."""
    for event in scene.api.events():
        if event["kind"] == "heal" and time.time() - scene.seconds(event["time"]) < RULE_RESTS:
            raise NotNow


def control_kill(scene: Scene, window: Window, random: Random) -> None:
    _end_control(scene, signal.SIGKILL, 30.0)


def control_stop(scene: Scene, window: Window, random: Random) -> None:
    """The launcher ends a control that is silent for 15 s."""
    _end_control(scene, signal.SIGSTOP, 40.0)


def _end_control(scene: Scene, number: int, within: float) -> None:
    victim = scene.control()
    if not victim:
        raise Failed("there is no control to kill")
    os.kill(victim, number)
    scene.until(lambda: not alive(victim), "control gone", within)
    scene.until(lambda: scene.control() not in (0, victim), "a new control")


def worker_kill(scene: Scene, window: Window, random: Random) -> None:
    scene.kill_worker(window, signal.SIGKILL, random.choice(scene.workers()))


def worker_stop(scene: Scene, window: Window, random: Random) -> None:
    """Control ends a worker that is silent for 5 s."""
    scene.kill_worker(window, signal.SIGSTOP, random.choice(scene.workers()))


def worker_term(scene: Scene, window: Window, random: Random) -> None:
    """It drains: nothing inside it is lost."""
    victim = random.choice(scene.workers())
    os.kill(victim["pid"], signal.SIGTERM)
    scene.until(lambda: not alive(victim["pid"]), f"worker {victim['id']} gone")


# --- planned acts --------------------------------------------------------------------------------------


def recycle(scene: Scene, window: Window, random: Random) -> None:
    victim = random.choice(scene.ready())
    scene.done(f"apps/web/instances/{victim['id']}/recycle")
    if alive(victim["pid"]):
        raise Failed(f"{victim['id']} lives on after its recycle")


def restart(scene: Scene, window: Window, random: Random) -> None:
    before = {one["pid"] for one in scene.ready()}
    scene.done("apps/web/restart")
    if left := before & {one["pid"] for one in scene.ready()}:
        raise Failed(f"{len(left)} instances were not restarted")


def scale_out(scene: Scene, window: Window, random: Random) -> None:
    scene.done("apps/web/scale", instances=INSTANCES + 2)


def scale_in(scene: Scene, window: Window, random: Random) -> None:
    scene.done("apps/web/scale", instances=INSTANCES - 1)
    scene.until_whole()
    scene.done("apps/web/scale", auto=True)


def eject(scene: Scene, window: Window, random: Random) -> None:
    victim = random.choice(scene.ready())["id"]
    scene.done(f"apps/web/instances/{victim}/eject")
    time.sleep(0.5)
    scene.done(f"apps/web/instances/{victim}/admit")


def hold(scene: Scene, window: Window, random: Random) -> None:
    """Requests wait, none fails."""
    scene.done("apps/web/hold")
    time.sleep(HELD_FOR)
    scene.done("apps/web/release")


def reload_same(scene: Scene, window: Window, random: Random) -> None:
    scene.reload()


def reload_process(scene: Scene, window: Window, random: Random) -> None:
    """The environment changes: each instance is replaced, rolling."""
    before = {one["pid"] for one in scene.ready()}
    scene.reload(generation=scene.settings["generation"] + 1)
    scene.until(lambda: not before & {one["pid"] for one in scene.ready()}, "instances of the new config", 60.0)


def reload_workers(scene: Scene, window: Window, random: Random) -> None:
    """One worker more, then one fewer again."""
    scene.reload(workers=scene.settings["workers"] + 1)
    scene.until_whole()
    scene.reload(workers=scene.settings["workers"] - 1)


def upgrade(scene: Scene, window: Window, random: Random) -> None:
    """Control, workers and launcher start anew from the code on disk; the instances stay."""
    before = {one["pid"] for one in scene.ready()}
    try:
        scene.command("upgrade")
    except Failed as error:
        if "No such command" in str(error):
            raise Untried("there is no upgrade yet") from None
        raise
    scene.until(lambda: scene.api.maybe_get("status"), "the admin API answers again")
    if before != {one["pid"] for one in scene.ready()}:
        raise Failed("instances did not live through the upgrade")


# --- what breaks besides ---------------------------------------------------------------------------------


def disk_full(scene: Scene, window: Window, random: Random) -> None:
    """Its data_dir takes not one byte more for a while, and one instance is recycled meanwhile."""
    if scene.no_disk:
        raise Untried(scene.no_disk)
    filler = scene.data / "filler"
    try:
        with open(filler, "wb", buffering=0) as file:
            try:
                while file.write(b"\0" * 65536):
                    pass
            except OSError:
                pass
        victim = random.choice(scene.ready())
        operation = scene.api.act(f"apps/web/instances/{victim['id']}/recycle", reason="chaos")
        time.sleep(FULL_FOR)
    finally:
        filler.unlink(missing_ok=True)
    found = scene.api.followed(operation)
    if found["state"] != "done":
        raise Failed(f"a recycle with a full disk {found['state']}: {found.get('why')}")


def _broken(scene: Scene, random: Random, mode: str) -> None:
    """The replacement does not come: the last good instances stay."""
    before = {one["pid"] for one in scene.ready()}
    victim = random.choice(scene.ready())
    scene.reload(health=HEALTH.format(3.0))
    with scene.broken_starts(mode):
        operation = scene.api.act(f"apps/web/instances/{victim['id']}/recycle", reason="chaos")
        end = time.monotonic() + 5.0
        while time.monotonic() < end:
            if before != {one["pid"] for one in scene.ready()}:
                raise Failed("a good instance was given up for a replacement that does not start")
            time.sleep(0.2)
        said = scene.api.get(f"operations/{operation}")
        if said["state"] == "done":
            raise Failed("the recycle is done, they say")
    scene.reload(health=HEALTH.format(20.0))
    scene.api.followed(operation)


def broken_exit(scene: Scene, window: Window, random: Random) -> None:
    _broken(scene, random, "exit")


def broken_hang(scene: Scene, window: Window, random: Random) -> None:
    _broken(scene, random, "hang")


def broken_port(scene: Scene, window: Window, random: Random) -> None:
    _broken(scene, random, "wrong-port")


def flap(scene: Scene, window: Window, random: Random) -> None:
    """Fresh instances get ready and end by themselves soon after."""
    first = scene.newest_event()
    victim = random.choice(scene.ready())["id"]
    with scene.broken_starts(f"flap {FLAPS_AFTER:g}"):
        operation = scene.api.act(f"apps/web/instances/{victim}/recycle", reason="chaos")
        time.sleep(8.0)
    time.sleep(FLAPS_AFTER + 0.5)  # the last that was told so has ended
    scene.api.followed(operation)
    scene.until_whole()
    window.exits = sum("exit code 3" in event["words"] for event in scene.api.events(first))
    if not window.exits:
        raise Failed("no instance ended by itself")


def control_in_recycle(scene: Scene, window: Window, random: Random) -> None:
    """Control dies in the middle of a restart: its successor goes on, and nothing is recycled twice."""
    before = {one["id"] for one in scene.ready()}
    first = scene.newest_event()
    operation = scene.api.act("apps/web/restart", reason="chaos")
    scene.until(lambda: before - {one["id"] for one in scene.ready()}, "the first of them replaced")
    control_kill(scene, window, random)
    scene.until(lambda: scene.api.maybe_get("status"), "a new control answers")
    found = scene.api.followed(operation)
    scene.until_whole()
    if found["state"] == "failed":
        raise Failed(f"the restart failed: {found.get('why')}")
    if left := before & {one["id"] for one in scene.ready()}:
        raise Failed(f"{', '.join(sorted(left))} not restarted after control's death")
    events = scene.api.events(first)
    fresh = [event["instance"] for event in events if event["kind"] == "starting"]
    if len(fresh) > len(before):
        told = "; ".join(f"{event['time'][17:]} {event['words']}" for event in reversed(events))
        raise Failed(f"{len(fresh)} instances were started for {len(before)}: {told}")


def control_in_heal(scene: Scene, window: Window, random: Random) -> None:
    """Control dies while a rule mends a hung instance: its successor goes on, and one replacement is all there is."""
    _rule_has_rested(scene)
    before = {one["id"] for one in scene.ready()}
    victim = random.choice(scene.ready())["pid"]
    os.kill(victim, signal.SIGSTOP)
    try:
        scene.until(
            lambda: any(one["rule"] and one["state"] == "running" for one in scene.api.get("operations")["items"]),
            "a rule acts", HEALED_WITHIN,
        )  # fmt: skip
        control_kill(scene, window, random)
        scene.until(lambda: not alive(victim), "the hung instance ended", 2 * HEALED_WITHIN)
    except Failed:
        if alive(victim):
            os.kill(victim, signal.SIGKILL)  # so that the run can go on
        raise
    scene.until_whole()
    if len(fresh := {one["id"] for one in scene.ready()} - before) != 1:
        raise Failed(f"{len(fresh)} instances were replaced, not one")


def instance_in_recycle(scene: Scene, window: Window, random: Random) -> None:
    """One that is not being replaced is killed while another is."""
    victim, other = random.sample(scene.ready(), 2)
    before = len(scene.instances())
    operation = scene.api.act(f"apps/web/instances/{victim['id']}/recycle", reason="chaos")
    scene.until(lambda: len(scene.instances()) > before, "the replacement's start")
    os.kill(other["pid"], signal.SIGKILL)
    found = scene.api.followed(operation)
    if found["state"] != "done":
        raise Failed(f"the recycle {found['state']}: {found.get('why')}")


def worker_in_restart(scene: Scene, window: Window, random: Random) -> None:
    """A worker dies that was told half of a restart."""
    before = {one["pid"] for one in scene.ready()}
    operation = scene.api.act("apps/web/restart", reason="chaos")
    scene.until(lambda: before - {one["pid"] for one in scene.ready()}, "the first of them replaced")
    worker_kill(scene, window, random)
    if (found := scene.api.followed(operation))["state"] != "done":
        raise Failed(f"the restart {found['state']}: {found.get('why')}")


NOTHING, INSTANCE, WORKER, EXIT = Promise.NOTHING, Promise.INSTANCE, Promise.WORKER, Promise.EXIT
DISTURBANCES: Final = (
    Disturbance("recycle", NOTHING, recycle),
    Disturbance("restart", NOTHING, restart),
    Disturbance("scale out", NOTHING, scale_out),
    Disturbance("scale in and back", NOTHING, scale_in),
    Disturbance("eject and admit", NOTHING, eject),
    Disturbance("hold and release", NOTHING, hold),
    Disturbance("reload without a change", NOTHING, reload_same),
    Disturbance("reload with another environment", NOTHING, reload_process),
    Disturbance("reload with more workers then fewer", NOTHING, reload_workers),
    Disturbance("upgrade", NOTHING, upgrade),
    Disturbance("instance KILL", INSTANCE, instance_kill),
    Disturbance("instance TERM from outside", INSTANCE, instance_term),
    Disturbance("instance STOP (hangs)", INSTANCE, instance_stop, long=True),
    Disturbance("two of three KILL at once", INSTANCE, two_instances),
    Disturbance("instance KILL during a recycle", INSTANCE, instance_in_recycle),
    Disturbance("control KILL", NOTHING, control_kill),
    Disturbance("control KILL during a restart", NOTHING, control_in_recycle, long=True),
    Disturbance("control KILL while a rule mends", INSTANCE, control_in_heal, long=True),
    Disturbance("control STOP (hangs)", NOTHING, control_stop, long=True),
    Disturbance("worker KILL", WORKER, worker_kill),
    Disturbance("worker KILL during a restart", WORKER, worker_in_restart, long=True),
    Disturbance("worker TERM", NOTHING, worker_term),
    Disturbance("worker STOP (hangs)", WORKER, worker_stop),
    Disturbance("recycle on a full disk", NOTHING, disk_full),
    Disturbance("replacement exits with 1", NOTHING, broken_exit, long=True),
    Disturbance("replacement hangs", NOTHING, broken_hang, long=True),
    Disturbance("replacement on the wrong port", NOTHING, broken_port, long=True),
    Disturbance("replacements flap", EXIT, flap, long=True),
)
