"""What a case is: an app, its config, its load, what is wrong with it, and which answers are right.

A truth is written from what was built, before any answer is seen, in *labels* (labels.py), never in the words or ids
that an analyzer happens to use.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.sick.scene import Scene


@dataclass(frozen=True)
class Stream:
    """Requests of one kind, from the start or from the turn on. `rate` a second; `count` for those of no rate: so many
    clients that do the same again and again. `how`: a function of load.HOW."""

    path: str = "/"
    rate: float = 10.0
    method: str = "GET"
    body: int = 0
    timeout: float = 40.0
    client: str = "127.0.0.1"
    how: str = "ask"
    count: int = 0
    at_most: int = 60  # under way at a time
    late: bool = False  # from the turn on
    until_turn: bool = False
    rates: tuple[tuple[float, float], ...] = ()  # (seconds since its begin, rate), instead of one
    pause: float = 0.0  # of a client that does the same again
    size: int = 1024  # bytes a second of a slow reader


@dataclass(frozen=True)
class Peer:
    """A server that the app depends on, in a process of its own: at `host`:`port`, which the config can name as
    @NAME@, @NAME_HOST@ and @NAME_PORT@. port 0: any."""

    kind: str  # sql http shut
    port: int = 0
    delay: float = 0.005


@dataclass(frozen=True)
class Truth:
    """`right`: labels of findings that name it. `fine`: those that are true as well and help, though another one says
    more. `also`: for two sicknesses, each set of labels that has to be among the findings. `names`: words of which one
    has to stand in the finding, where only that makes it useful. `unknown`: what lies behind can't be known, so what is
    more than *likely* and not in `right` or `fine` is wrong, and *not known* is right."""

    right: tuple[str, ...] = ()
    fine: tuple[str, ...] = ()
    also: tuple[tuple[str, ...], ...] = ()
    names: tuple[str, ...] = ()
    unknown: bool = False
    nothing: bool = False  # no finding above info is right too: the app is well
    healthy: bool = False


@dataclass(frozen=True)
class Case:
    name: str
    what: str  # in plain words
    config: str  # TOML, with @WORDS@
    truth: Truth
    why: Truth | None = None  # None: as the session's
    streams: tuple[Stream, ...] = (Stream(),)
    peers: dict[str, Peer] | None = None
    turn: Callable[[Scene], None] | None = None  # what happens to it, after `before`
    seen: Callable[[Scene], bool] | None = None
    before: float = 5.0  # seconds of load before the turn
    settle: float = 3.0  # seconds between the first symptoms and the session
    ask: tuple[str, ...] = ()  # faults of the request that is asked about; () any; "slow"; "none": nothing is asked
    ask_path: str = ""
    needs: tuple[str, ...] = ()  # root node gunicorn cgroup
    starts: bool = True  # it gets ready
    prepare: Callable[[Scene], None] | None = None  # before the gateway is started
    quick: bool = False  # one of its kind, for --quick


def table(
    command: str = "@PYTHON@ app.py",
    *,
    instances: int = 1,
    app: str = "",
    process: str = "",
    health: str = 'path = "/healthz"\ninterval = "1s"',
    gateway: str = "",
    env: str = "",
    more: str = "",
    addresses: str = "",
) -> str:
    """A whole config of one app `web`; the arguments are lines of its tables."""
    given = f"addresses = [{addresses}]" if addresses else ""
    run = f"""
[apps.web.process]
command = '{command}'
instances = {instances}
cwd = "@CWD@"
inherit_env = ["PATH", "HOME", "LANG", "TZ", "TRIAGE_TEST_RUN"]
env = {{ {env} }}
stop = {{ timeout = "3s" }}
@USER@
{process}
"""
    return f"""\
[gateway]
listen = ["127.0.0.1:0"]
workers = 2
data_dir = "var"
{gateway}

[admin]
listen = "127.0.0.1:0"

[apps.web]
{app}
{given}
{"" if addresses else run}
[apps.web.health]
{health}
{more}
"""
