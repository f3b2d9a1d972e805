"""What a new control finds, made into state: instances and workers that run go on, untouched.

What runs is told by the launcher, what it means by the ledger. Where they differ, the launcher is right: it holds the
processes. Without a ledger (`fresh`) an instance that runs is probed again before it gets requests.
"""

from __future__ import annotations

import asyncio
import time

from proxy.config import App as AppConfig
from proxy.config import Process
from proxy.control.gateway import Gateway
from proxy.control.launcher import Refused
from proxy.control.ledger import Known
from proxy.control.ports import LOOPBACK
from proxy.control.process import ProcessRunner
from proxy.control.state import AppState, InstanceState, Lifecycle
from proxy.control.supervisor import Pool
from proxy.link.spawn import ChildState, ExitRecord, State

_RUNNING = (Lifecycle.STARTING, Lifecycle.WARMING, Lifecycle.READY, Lifecycle.DRAINING, Lifecycle.STOPPING)


async def adopt(gateway: Gateway, state: State, known: Known) -> int:
    """Make apps and pools, take over what runs; how many instances that were."""
    children = {child["name"]: child for child in state["children"] if child["kind"] == "instance"}
    exits = {record["name"]: record for record in state["exits"] if record["kind"] == "instance"}
    for name in gateway.config.apps:
        before = known.apps.get(name, {})
        pool = gateway.add_app(name, before.get("row", -1))
        pool.app.version = before.get("version", "")
        pool.app.gap = before.get("gap", 0.0)
        pool.app.scaled = before.get("scaled")
        pool.app.not_replaced = before.get("not_replaced", "")
        pool.app.suspects = known.suspects.get(name, [])
        pool.app.ended.extend(known.ended.get(name, ()))
    adopted = 0
    seen = set()
    for one, generation in known.instances:
        seen.add(one.name)
        child, record = children.get(one.name), exits.get(one.name)
        process = known.processes.get(generation)
        if one.kind == "address":
            adopted += _adopt_address(gateway, one)
        elif process is not None:
            adopted += await _adopt_process(gateway, one, process, child, record)
    for name, child in children.items():
        if name not in seen:
            adopted += await _adopt_unknown(gateway, child)
    for pool in (*gateway.pools.values(), *gateway.leaving):
        for name in pool.app.instances:
            _at_least(gateway, name)
    pools = (*gateway.pools.values(), *gateway.leaving)
    runners = [one for pool in pools for one in pool.runners.values() if isinstance(one, ProcessRunner)]
    await asyncio.to_thread(gateway.shared.limits.adopt, [(one.state.name, one.process) for one in runners])
    await gateway.sessions.adopt(state["children"], state["exits"])
    for record in state["exits"]:
        gateway.on_exit(record)
    await gateway.logbook.first_look()
    for app in gateway.apps.values():
        gateway.scaler.settle(app)
    gateway.agents.open()
    for pool in (*gateway.pools.values(), *gateway.leaving):
        pool.begin()
    gateway.mender.resume()
    gateway.killer.resume()
    return adopted


def _at_least(gateway: Gateway, name: str) -> None:
    app, _, number = name.rpartition("-")
    if app and number.isdigit():
        gateway.shared.numbers.at_least(app, int(number) + 1)


def _adopt_address(gateway: Gateway, state: InstanceState) -> int:
    pool = gateway.pools.get(state.app)
    if pool is None or state.lifecycle is not Lifecycle.READY:
        gateway.shared.rows.give_back(state.row)
        return 0
    pool.adopt(state, None)
    return 1


async def _adopt_process(
    gateway: Gateway, state: InstanceState, process: Process, child: ChildState | None, record: ExitRecord | None
) -> int:
    if state.lifecycle is Lifecycle.STOPPED:
        gateway.shared.rows.give_back(state.row)
        return 0
    if child is not None:
        state.pid, state.pid_started = child["pid"], child["start"]
        if not state.started:
            state.started, state.started_at = child["began"], time.time() - child["lasted"]
        if state.lifecycle in (Lifecycle.BACKOFF, Lifecycle.FAILED):
            state.lifecycle = Lifecycle.STARTING
    elif record is not None and state.lifecycle in _RUNNING:
        state.pid = record["pid"]
    elif state.lifecycle in _RUNNING:  # it ended, and a control that died before it could write it down knew
        state.pid = 0
        state.lifecycle = Lifecycle.BACKOFF
        state.why, state.retry_at = "it ended while control was away", time.monotonic()
    pool = _pool(gateway, state.app, process)
    if state.port:
        gateway.shared.ports.add(state.port)
    pool.adopt(state, process, *(await _pipes(gateway, state.name) if state.pid else (-1, -1)))
    return 1 if child is not None else 0


async def _adopt_unknown(gateway: Gateway, child: ChildState) -> int:
    """It runs and no ledger knows it: started at the last moment, or `fresh`."""
    note = child["note"] or {}
    config = gateway.config.apps.get(str(note.get("app", "")))
    if config is None or config.process is None:
        gateway.log.warning("unknown-child", f"{child['name']} runs but no app of the config has it: ended")
        try:
            await gateway.launcher.signal(child["name"], 15, to="group")
        except Refused:
            pass
        return 0
    path = str(note.get("path", ""))
    state = InstanceState(
        name=child["name"],
        app=str(note["app"]),
        kind="process",
        row=gateway.shared.rows.take_this(int(note["row"])),
        lifecycle=Lifecycle.STARTING,
        why="taken over; its probes must pass first",
        host="" if path else LOOPBACK,
        port=int(note.get("port", 0)),
        path=path,
        resolved=() if path else (LOOPBACK,),
        pid=child["pid"],
        pid_started=child["start"],
        started=child["began"],
        started_at=time.time() - child["lasted"],
        under=str(note.get("under", "")),
    )
    if state.port:
        gateway.shared.ports.add(state.port)
    gateway.pools[state.app].adopt(state, config.process, *await _pipes(gateway, state.name))
    return 1


def _pool(gateway: Gateway, app: str, process: Process) -> Pool:
    """The app's pool; one that leaves at once for instances of an app that is no more in the config."""
    pool = gateway.pools.get(app)
    if pool is None:
        pool = next((one for one in gateway.leaving if one.app.name == app), None)
    if pool is None:
        pool = Pool(gateway.shared, AppState(app, AppConfig(process=process), gateway.app_rows.take()))
        gateway.let_go(pool)
    return pool


async def _pipes(gateway: Gateway, name: str) -> tuple[int, int]:
    found = []
    for stream in ("stdout", "stderr"):
        try:
            found.append(await gateway.launcher.fetch(f"{name}.{stream}"))
        except Refused:
            found.append(-1)
    return found[0], found[1]
