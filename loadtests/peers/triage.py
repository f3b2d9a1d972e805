"""Triage itself: one worker, given addresses; how it is started stands here and nowhere else."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from loadtests.lab import REPOSITORY
from loadtests.peers.peer import Command, Peer, Site


def find() -> str | None:
    """This interpreter, when it can import the gateway."""
    try:
        return sys.executable if importlib.util.find_spec("proxy.main") else None
    except ModuleNotFoundError:
        return None


def serve(config: Path, program: str = sys.executable) -> list[str]:
    """The command line that serves a config."""
    return [program, "-m", "proxy.main", "serve", "-c", str(config)]


# Triage starts its own processes with -P: a tree that is not installed has to be named.
ENVIRONMENT: Final = {"PYTHONPATH": str(REPOSITORY)}


def version(program: str) -> str:
    """The installed version, or that of a tree that is not installed."""
    try:
        return importlib.metadata.version("triage-proxy")
    except importlib.metadata.PackageNotFoundError:
        return "this tree"


def gateway(site: Site, *, limits: str = "", tls: bool = True) -> str:
    """The part of a config that every load test shares."""
    listen = f'"127.0.0.1:{site.port}"' + (f', "https://127.0.0.1:{site.tls_port}"' if tls else "")
    certificates = f"""
[[gateway.certificates]]
cert = "{site.certificate}"
key = "{site.key}"
"""
    return f"""\
[gateway]
listen = [{listen}]
workers = 1
data_dir = "{site.folder}/data"
access_log = "{site.log}"
{f"limits = {{ {limits} }}" if limits else ""}
{certificates if tls else ""}
[admin]
listen = "127.0.0.1:{site.admin_port}"
metrics = true
"""


def app(name: str, ports: Sequence[int | str], more: str = "") -> str:
    """One app with addresses (a port stands for loopback); `more` are further lines of its table."""
    urls = ", ".join(f'"http://127.0.0.1:{port}"' if isinstance(port, int) else f'"http://{port}"' for port in ports)
    return f"""
[apps.{name}]
addresses = [{urls}]
{more}
"""


def prepare(program: str, site: Site) -> Command:
    """Everything but the addresses is a default."""
    config = site.write(
        "config.toml",
        gateway(site) + app("web", [site.origin_port]) + app("post", [site.post_port], 'paths = ["/post"]'),
    )
    check = [program, "-m", "proxy.main", "check", "-c", str(config)]
    return Command(argv=serve(config, program), check=check, env=dict(ENVIRONMENT))


TRIAGE: Final = Peer(
    name="triage",
    find=find,
    get="pip install .",
    version=version,
    prepare=prepare,
)
