"""`serve` and `run`, until the launcher takes over: what will be served, where, and what to type next."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import orjson
from msgspec.structs import replace

from proxy import __version__
from proxy.cli import show
from proxy.cli.check import summary
from proxy.cli.find import run_name, state_home
from proxy.config import for_command, load, parse, parse_listen, warnings
from proxy.config.problems import Bad

if TYPE_CHECKING:
    from proxy.config import Config, Listen

ADMIN: Final = parse_listen("127.0.0.1:9900")
ANYWHERE: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # where one on this machine connects


class Refused(Exception):
    """It can't be started so; the lines say why, and what would do."""

    def __init__(self, *lines: str) -> None:
        super().__init__(lines[0])
        self.lines = lines


@dataclass(frozen=True, slots=True)
class Prepared:
    """A good config, about to be served. `path` is None under `triage run`."""

    config: Config
    text: str
    path: str | None
    run: bool = False
    command: tuple[str, ...] = ()


def for_serve(path: str) -> Prepared:
    """Raises ConfigProblems."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError):
        load(path)  # says it with the right words
        raise
    return Prepared(parse(text, path), text, os.path.abspath(path))


def for_run(
    command: tuple[str, ...],
    instances: int,
    listen: str,
    admin: str | None,
    name: str | None,
    holder: Callable[[int], str] | None = None,
) -> Prepared:
    """Raises Refused, ConfigProblems. Without a `holder` it is not looked whether addresses are taken."""
    if name is not None and run_name(Path(name)) != name:
        raise click.BadParameter("letters, digits, '-', '_' and '.'", param_hint="--name")
    name = name or run_name(Path.cwd())
    if shutil.which(command[0]) is None:
        raise Refused(f"{command[0]}: no such command here or in PATH")
    clients = read_listen(listen, "--listen")
    asked = read_listen(admin or ADMIN.text, "--admin")
    if holder is not None:
        clients = available(clients, holder, "--listen")
        if admin is None and (asked.port == clients.port or not free(asked)):
            asked = with_free_port(asked)
        asked = available(asked, holder, "--admin")
    data = state_home() / name
    data.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    config, text = for_command(
        command, instances, clients.text, data, admin=asked.text, socket=runtime_socket(name)
    )
    return Prepared(config, text, None, run=True, command=command)


def read_listen(text: str, option: str) -> Listen:
    """A port alone is one of loopback."""
    try:
        return parse_listen(f"127.0.0.1:{text}" if text.isdigit() else text, os.getcwd())
    except Bad as error:
        raise click.BadParameter(str(error), param_hint=option) from None


def runtime_socket(name: str) -> Path | None:
    """Where the command looks for a `triage run`; without a runtime folder it is below the state."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if not runtime or not os.path.isdir(runtime):
        return None
    folder = Path(runtime, "triage")
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / f"{name}.sock"


def available(listen: Listen, holder: Callable[[int], str], option: str) -> Listen:
    """The address, with a port in place of 0. Raises Refused when somebody has it."""
    if listen.kind != "tcp":
        return listen
    if not listen.port:
        return with_free_port(listen)
    if not free(listen):
        another = with_free_port(parse_listen("127.0.0.1:0"))
        raise Refused(
            f"{listen.text} is in use by {holder(listen.port)}.",
            f"Choose another address: triage run {option} {another.text} -- …",
        )
    return listen


def free(listen: Listen) -> bool:
    """Whether this address could be listened on now. Other reasons against it are the launcher's to tell."""
    with socket.socket(socket.AF_INET6 if ":" in listen.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((listen.host, listen.port))
            probe.listen(1)
        except OSError as error:
            return error.errno != errno.EADDRINUSE
    return True


def with_free_port(listen: Listen) -> Listen:
    """The same host with a port that nobody has at this moment."""
    with socket.socket(socket.AF_INET6 if ":" in listen.host else socket.AF_INET) as probe:
        probe.bind((listen.host, 0))
        return replace(listen, port=probe.getsockname()[1])


# -- what is said ------------------------------------------------------------------------------------------


def announce(prepared: Prepared, *, as_json: bool) -> None:
    """On standard error: where it listens, how to ask it, and what `check` would remark."""
    config = prepared.config
    token = os.path.join(config.gateway.data_dir, "admin.token")
    if as_json:
        facts = {
            "version": __version__, "config": prepared.path,
            "listen": [url(listen) for listen in config.gateway.listen],
            "admin": url(config.admin.listen), "socket": config.admin.socket, "token_file": token,
        }  # fmt: skip
        click.echo(orjson.dumps(facts), err=True)
        return
    lines = (
        run_lines(prepared)
        if prepared.run
        else [f"Triage {__version__} starts {prepared.path}: {summary(config)}"]
    )
    lines.append(f"  admin    {url(config.admin.listen)}, token in {token}")
    if not prepared.run:
        lines += [f"  warning  {line}" for line in map(str, warnings(config))]
        lines.append(
            f"  ask      triage status{asked(prepared)} · triage why · triage requests · triage reload"
        )
    for line in lines:
        click.echo(show.clean(line), err=True)


def run_lines(prepared: Prepared) -> list[str]:
    config = prepared.config
    first = url(config.gateway.listen[0])
    path = first.removeprefix("unix:")
    curl = f"curl {first}/" if path == first else f"curl --unix-socket {path} http://localhost/"
    return [
        f"Triage {__version__} runs {shlex.join(prepared.command)}   (Ctrl-C stops it)",
        f"  state    {config.gateway.data_dir}",
        f"  clients  {first}",
        f"  try      {curl}",
        "  ask      triage status · triage why · triage requests     in another terminal",
    ]


def asked(prepared: Prepared) -> str:
    """What leads the command to this gateway from here; nothing where it looks by itself."""
    return "" if prepared.path == os.path.abspath("config.toml") else f" -c {prepared.path}"


def url(listen: Listen) -> str:
    """What one types to reach it from this machine."""
    if listen.kind == "unix":
        return listen.text
    host = ANYWHERE.get(listen.host, listen.host)
    scheme = "https" if listen.tls else "http"
    return f"{scheme}://[{host}]:{listen.port}" if ":" in host else f"{scheme}://{host}:{listen.port}"
