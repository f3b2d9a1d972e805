"""Which gateway the command talks to.

What is named (in this order: `--url`, `TRIAGE_URL`, `-c`) is the only one tried: a reload must not reach
another gateway because the named one is down. Unnamed, the places are, in order: /run/triage/admin.sock,
$XDG_RUNTIME_DIR/triage/*.sock, the state folders of `triage run` (where there is no runtime folder, their
sockets are there), ./config.toml. The token, likewise: `--token`, `--token-file`, `TRIAGE_TOKEN`,
`TRIAGE_TOKEN_FILE`, the `admin.token` beside what the config names.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from proxy.cli.client import TIMEOUT, Gateway, NotThere

SYSTEM_SOCKET: Final = Path("/run/triage/admin.sock")
DEFAULT_LISTEN: Final = "127.0.0.1:9900"  # admin.listen
DEFAULT_SOCKET: Final = "run/admin.sock"  # admin.socket
DEFAULT_DATA: Final = "var"  # gateway.data_dir
LONGEST_TOKEN: Final = 4096
LOOPBACK: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # everywhere includes here


@dataclass(frozen=True, slots=True)
class Where:
    """What the options of a verb say about the gateway; each "" where it was not given. `ca` is a file."""

    url: str = ""
    token: str = ""
    config: str = ""
    ca: str = ""
    timeout: float = TIMEOUT


class NoGateway(Exception):
    """None answered. `tried` has (where, why not)."""

    def __init__(self, tried: list[tuple[str, str]]) -> None:
        super().__init__("no gateway answers")
        self.tried = tried


class SeveralGateways(Exception):
    """More than one `triage run` is up, and none is of this folder."""

    def __init__(self, addresses: list[str]) -> None:
        super().__init__("several gateways run here")
        self.addresses = addresses


@dataclass(frozen=True, slots=True)
class Place:
    """Somewhere a gateway may be."""

    address: str
    token: str = ""
    said: str = ""  # which option, variable or file says so

    def __str__(self) -> str:
        return f"{self.address} ({self.said})" if self.said and self.address else self.address or self.said


def find(where: Where) -> Gateway:
    """The gateway to talk to, connected. Raises NoGateway, SeveralGateways, ValueError (a bad url, or CA)."""
    tried: list[tuple[str, str]] = []
    for place in named(where):
        try:
            return connect(place, where)
        except NotThere as why:
            tried.append((str(place), str(why)))
    if tried:
        raise NoGateway(tried)
    for group in unnamed():
        found: list[Gateway] = []
        for place in group:
            try:
                found.append(connect(place, where))
            except NotThere as why:
                tried.append((str(place), str(why)))
        if found:
            return the_one(found)
    raise NoGateway(tried)


def the_one(found: list[Gateway]) -> Gateway:
    """The only one; of several, that of this folder."""
    if len(found) == 1:
        return found[0]
    here = [gateway for gateway in found if of_run(gateway.address) == run_name(Path.cwd())]
    for gateway in found:
        if [gateway] != here:
            gateway.close()
    if len(here) == 1:
        return here[0]
    raise SeveralGateways([gateway.address for gateway in found])


def of_run(address: str) -> str:
    """The name of the `triage run` behind a socket: TRIAGE/NAME.sock, or TRIAGE/NAME/run/admin.sock."""
    path = Path(address.removeprefix("unix:"))
    return path.parents[1].name if path.match(DEFAULT_SOCKET) else path.stem


def connect(place: Place, where: Where) -> Gateway:
    if not place.address:
        raise NotThere("no such file")
    path = place.address.removeprefix("unix:")
    if path != place.address and not os.path.exists(path):
        raise NotThere("no such socket")
    gateway = Gateway(place.address, place.token, where.timeout, where.ca or os.environ.get("TRIAGE_CA", ""))
    gateway.connect()
    return gateway


def named(where: Where) -> list[Place]:
    """What options and environment say; empty if they say nothing."""
    token = where.token or token_of_environment()
    if where.url:
        return [Place(where.url, token, "--url")]
    if url := os.environ.get("TRIAGE_URL", ""):
        return [Place(url, token, "TRIAGE_URL")]
    if where.config:
        return of_config(Path(where.config), token)
    return []


def token_of_environment() -> str:
    """Raises ValueError where TRIAGE_TOKEN_FILE names what can't be read."""
    if found := os.environ.get("TRIAGE_TOKEN", ""):
        return found
    file = os.environ.get("TRIAGE_TOKEN_FILE", "")
    return token_of(file, "TRIAGE_TOKEN_FILE") if file else ""


def token_of(file: str, said: str) -> str:
    """The token in a file. Raises ValueError."""
    try:
        with open(file, encoding="utf-8") as opened:
            found = opened.read(LONGEST_TOKEN).strip()
    except (OSError, ValueError) as error:
        raise ValueError(f"{said}: {file}: {getattr(error, 'strerror', None) or error}") from None
    if not found or not found.isprintable() or " " in found or not found.isascii():
        raise ValueError(f"{said}: {file} holds no token: expected it alone, on one line")
    return found


def unnamed() -> Iterator[list[Place]]:
    """Groups of places; within a group all are asked."""
    yield [Place(f"unix:{SYSTEM_SOCKET}")]
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        sockets = sorted(Path(runtime, "triage").glob("*.sock"))
        yield [Place(f"unix:{path}") for path in sockets] or [Place(f"unix:{runtime}/triage/*.sock")]
    states = sorted(state_home().glob(f"*/{DEFAULT_SOCKET}"))
    yield [Place(f"unix:{path}", said="triage run") for path in states]
    for place in of_config(Path("config.toml")):
        yield [place]


def of_config(path: Path, token: str = "") -> list[Place]:
    """The socket, then the TCP address, of the gateway that serves this file.

    Read loosely: a file with problems still says where its gateway is.
    """
    if not path.exists():
        return [Place("", said=str(path))]
    try:
        tables = tomllib.loads(path.read_text())
    except (OSError, ValueError):
        tables = {}
    base = path.absolute().parent
    data = base / text(tables, "gateway", "data_dir", DEFAULT_DATA)
    listen = text(tables, "admin", "listen", DEFAULT_LISTEN)
    if not token:
        try:
            token = (data / "admin.token").read_text().strip()
        except OSError:
            token = ""
    places = [Place(f"unix:{data / text(tables, 'admin', 'socket', DEFAULT_SOCKET)}", said=str(path))]
    if listen.startswith("unix:"):
        return [*places, Place(f"unix:{base / listen.removeprefix('unix:')}", token, said=str(path))]
    return [*places, Place(reachable(listen), token, said=str(path))]


def reachable(listen: str) -> str:
    """An address to connect to for one that is listened on."""
    scheme, slashes, rest = listen.rpartition("://")
    host, _, port = rest.rpartition(":")
    return f"{scheme if slashes else 'http'}://{LOOPBACK.get(host, host)}:{port}"


def text(tables: dict[str, Any], table: str, key: str, default: str) -> str:
    """A string of a raw config with its ${NAME} filled in."""
    section = tables.get(table)
    value = section.get(key, default) if isinstance(section, dict) else default
    if not isinstance(value, str):
        return default
    return re.sub(
        r"\$\{(\w+)(?::-([^}]*))?\}", lambda match: os.environ.get(match[1]) or match[2] or "", value
    )


def state_home() -> Path:
    """Where `triage run` keeps state: a folder for each name."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "triage"


def run_name(folder: Path) -> str:
    """The name that `triage run` gives a folder's state: letters, digits, `-`, `_` and `.` of its name."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", folder.name).strip("-.") or "app"
