"""Composition root: puts the parts together, and is the `triage` command.

`serve` and `run` end in `launch`: the config becomes a plan, and this process the launcher. The launcher
starts `python -m proxy.main control FD`, which is wired here to the admin API. Everything is imported where
it is used: a command that asks one thing imports neither the gateway nor the config, and control does not
import the command's parts.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from socket import socket

    from proxy.cli.start import Prepared
    from proxy.config import Listen
    from proxy.control.gateway import Gateway
    from proxy.control.run import Served
    from proxy.link.spawn import Address, Plan


def main() -> None:
    """The entry point; ends with the exit code."""
    if len(sys.argv) == 3 and sys.argv[1] == "control":
        sys.exit(control(int(sys.argv[2])))
    if sys.argv[1:] == ["rehearse"]:
        sys.exit(rehearse())
    from proxy.cli.command import Wiring, triage

    triage(prog_name="triage", obj=Wiring(launch=launch, holder=holder))


def control(fd: int) -> int:
    """Run as control: everything that decides, and the admin API in front of it."""
    from proxy.control.run import main as run

    async def admin(gateway: Gateway, sockets: dict[str, socket]) -> Served:
        from proxy.admin.server import start

        return await start(gateway, list(sockets.values()))

    return run(fd, admin)


def rehearse() -> int:
    """Whether this code could take over: the config, the ledger and the launcher's state of a running gateway come in
    by standard input, what is wrong goes out. Nothing is touched."""
    import json

    import proxy.admin.server
    import proxy.control.run
    import proxy.dataplane.run
    import proxy.launcher.__main__
    from proxy.config import ConfigProblems, parse
    from proxy.control import ledger
    from proxy.launcher import handover
    from proxy.link import messages, spawn

    given = json.load(sys.stdin)
    problems = []
    try:
        parse(given["config"], given["path"])
    except ConfigProblems as error:
        problems += [f"the config in force is not one for it: {problem}" for problem in error.problems]
    if given["ledger"]:
        ledger.read(given["ledger"].encode("utf-8", "surrogateescape"))
    if given["handover"]:
        try:
            handover.rehearse(given["handover"])
        except ValueError as error:
            problems.append(str(error))
    protocols = {"launcher": spawn.VERSION, "handover": spawn.HANDOVER, "workers": messages.PROTOCOL}
    print(json.dumps({"version": proxy.__version__, "protocols": protocols, "problems": problems}))
    return 1 if problems else 0


def launch(prepared: Prepared) -> NoReturn:
    """Become the launcher. Raises OSError when data_dir can't be made."""
    from proxy.link.spawn import become_launcher

    data_dir = prepared.config.gateway.data_dir
    os.makedirs(data_dir, mode=0o700, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    become_launcher(plan(prepared))


def plan(prepared: Prepared) -> Plan:
    from proxy.config import worker_count
    from proxy.link.spawn import CONTROL_FD, VERSION, Admin, Plan

    config = prepared.config
    return Plan(
        version=VERSION,
        config_path=prepared.path,
        config_text=prepared.text,
        data_dir=config.gateway.data_dir,
        listen=[address(listen) for listen in config.gateway.listen],
        admin=Admin(listen=address(config.admin.listen), socket=config.admin.socket),
        workers=worker_count(config.gateway),
        control=[sys.executable, "-P", "-m", "proxy.main", "control", str(CONTROL_FD)],
        grace=config.gateway.timeouts.drain,
        run=prepared.run,
        log=config.gateway.log,
    )


def address(listen: Listen) -> Address:
    """A listener is named by its text, so that a reload finds the one that is there already."""
    from proxy.link.spawn import Address

    if listen.kind == "unix":
        return Address(name=listen.text, kind="unix", path=listen.path)
    return Address(name=listen.text, kind="tcp", host=listen.host, port=listen.port)


def holder(port: int) -> str:
    """Who listens at a port: "nginx (pid 812)"."""
    from proxy.launcher.sockets import holder_of

    return holder_of(port)


if __name__ == "__main__":
    main()
