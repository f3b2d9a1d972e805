"""Control's entry: `main(fd)` runs until everything has ended, or the launcher is gone.

Control must not import the admin API; who composes the program passes it in as `admin`.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import os
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Protocol

from proxy.config import Config, ConfigProblems, parse, worker_count
from proxy.control import ledger, reload
from proxy.control.adopt import adopt
from proxy.control.gateway import Gateway
from proxy.control.launcher import Event, Exit, Gone, Launcher, Refused, Reload, Renewed, Terminate
from proxy.control.log import Log
from proxy.control.workers import ADMIN, eventfds
from proxy.link import board as boards
from proxy.link.spawn import Address, State, name_process, read_ledger

LAST: Final = 10.0
"""Seconds for what control was doing to be let go of: less than the launcher lets it be silent."""


class Served(Protocol):
    """The admin API, as long as it is served."""

    async def cleanup(self) -> None:
        """Let go of the sockets; answers under way are finished."""


Admin = Callable[[Gateway, dict[str, socket.socket]], Awaitable[Served]]
"""Starts the admin API on the sockets "admin" and "admin-socket" (those that there are)."""

BOARD: Final = f"board-{boards.LAYOUT}"


def main(fd: int, admin: Admin | None = None) -> int:
    """The exit code. 0: everything ended as it should."""
    faulthandler.enable()  # SIGABRT from the launcher, when this loop hangs, writes all stacks
    name_process("triage-control")
    return asyncio.run(_run(fd, admin))


async def _run(fd: int, admin: Admin | None) -> int:
    launcher, state = await Launcher.connect(fd)
    launcher.beat()
    log = Log(state["plan"]["log"], plain=state["plan"]["run"])
    gateway = await _build(launcher, state, log)
    gone = asyncio.Event()

    def on_event(event: Event) -> None:
        match event:
            case Exit(how=record):
                gateway.on_exit(record)
            case Terminate():
                gateway.stop_later()
            case Reload():
                gateway.reload_later("SIGHUP")
            case Renewed(state=renewed):
                gateway.upgrade.launcher_is(renewed)
                if renewed["reload"]:
                    gateway.reload_later("SIGHUP")
            case Gone():
                gone.set()

    workers = [child for child in state["children"] if child["kind"] == "worker"]
    launcher.on_event = on_event
    sockets = await _admin_sockets(launcher, state)
    gateway.admin_address = _address(sockets.get("admin"), state["plan"]["admin"]["listen"])
    started = await admin(gateway, sockets) if admin is not None else None
    await gateway.worker_set.begin(worker_count(gateway.config.gateway), state["listeners"], workers)
    # What lives now lives long: looking through it, with a thousand instances, would hold the loop for 20 ms.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)
    ticking = asyncio.ensure_future(_forever(gateway))
    gateway.upgrade.launcher_is(state)
    if not gateway.upgrade.resume() and state["deaths"]:
        said = f"control was started again ({state['deaths']} deaths so far); what runs was taken over"
        gateway.shared.event("control-restarted", said, deaths=state["deaths"], fresh=state["fresh"])
    if state["reload"]:
        gateway.reload_later("SIGHUP")
    if state["stopping"]:
        gateway.stop_later()
    ends = (gateway.over, gone, gateway.upgrade.successor)
    waits = [*(asyncio.ensure_future(event.wait()) for event in ends), ticking]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for task in waits:
        task.cancel()
    if ticking.done() and not ticking.cancelled() and (error := ticking.exception()) is not None:
        raise error
    if gateway.over.is_set():
        await gone.wait()  # the launcher ends us, after everything else
    if gateway.upgrade.successor.is_set() and not gone.is_set():
        if started is not None:
            await started.cleanup()
        gateway.hand_over()
        await launcher.again()
    try:
        async with asyncio.timeout(LAST):
            await gateway.close()
    except TimeoutError:
        log.error("not-closed", f"not all of control ended within {LAST:g} s")
    if gateway.upgrade.successor.is_set():
        sys.stdout.flush()
        os._exit(0)  # its end of the launcher's channel closes with it, and no thread is waited for
    return 0


async def _forever(gateway: Gateway) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(gateway.beating(), name="beat")
        group.create_task(gateway.ticking(), name="tick")


async def _build(launcher: Launcher, state: State, log: Log) -> Gateway:
    plan = state["plan"]
    ledger_fd = await launcher.fetch("ledger")
    known = ledger.read(read_ledger(ledger_fd))
    config, text = _config(plan["config_text"], known.config_text, plan["config_path"] or "triage run", log)
    if state["fresh"]:
        known = ledger.Known()  # the config in force stays, for a reload was answered with it
    board_fd, descriptors = await _board(launcher, state)
    gateway = Gateway(
        launcher,
        plan,
        log,
        config,
        text,
        known,
        boards.Board(board_fd, worker_count(config.gateway)),
        descriptors,
        ledger_fd,
        state["pid"],
    )
    if not known.table and state["children"]:  # workers know a higher version than a new count would reach
        gateway.table_version = int(time.monotonic() * 1000)
    gateway.secret = reload.secret(Path(plan["data_dir"]))
    gateway.pages = await asyncio.to_thread(reload.pages, config.gateway.error_pages)
    gateway.worker_set.listeners = [one for one in state["listeners"] if one["name"] not in ADMIN]
    gateway.worker_set.drain_limit = config.gateway.timeouts.drain
    gateway.worker_set.tls = reload.speaking_tls(config.gateway.listen, state["listeners"])
    gateway.watch_names()
    await gateway.open_store()
    await adopt(gateway, state, known)
    return gateway


def _config(plan: str, known: str, path: str, log: Log) -> tuple[Config, str]:
    """What was in force, else what the launcher was started with. Raises ConfigProblems only for the latter."""
    if known and known != plan:
        try:
            return parse(known, path), known
        except ConfigProblems as error:  # an environment variable or a file it names has changed meanwhile
            log.error("config", f"the config in force can't be read any more, back to the first: {error}")
    return parse(plan, path), plan


async def _board(launcher: Launcher, state: State) -> tuple[int, list[int]]:
    """The board and the wake-up descriptors, from the launcher or new and given to it."""
    names = [BOARD, *(f"eventfd-{column}" for column in range(boards.COLUMNS))]
    if all(name in state["held"] for name in names):
        found = [await launcher.fetch(name) for name in names]
    else:
        found = [boards.create(), *eventfds()]
        for name, fd in zip(names, found, strict=True):
            await launcher.hold(name, fd)
    return found[0], found


async def _admin_sockets(launcher: Launcher, state: State) -> dict[str, socket.socket]:
    found: dict[str, socket.socket] = {}
    for name in ADMIN:
        if name in state["held"]:
            found[name] = socket.socket(fileno=await launcher.fetch(name))
    return found


def _address(sock: socket.socket | None, asked: Address | None) -> str:
    """For links; of a wildcard with this machine's name."""
    if sock is None or sock.family == socket.AF_UNIX:
        return ""
    host, port = sock.getsockname()[:2]
    host = socket.gethostname() if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
    secure = asked is not None and asked["name"].startswith("https://")
    return f"{'https' if secure else 'http'}://{host}:{port}"


if __name__ == "__main__":
    try:
        sys.exit(main(int(sys.argv[1])))
    except (ConfigProblems, Refused) as error:
        print(error, file=sys.stderr)
        os._exit(1)
