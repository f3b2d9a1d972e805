"""What a peer is, and how one is started.

All peers do the same work for the same request: they pass it on over pooled keep-alive connections,
add X-Forwarded-For, -Proto, -Host and -Port, Forwarded, Via and a fresh X-Request-ID as far as they
can, and write one line with the timings of each request to a memory-backed file, buffered where they
know how. One core, one worker.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from loadtests import procs
from loadtests.ask import get
from loadtests.lab import Failed, Lab

CONNECTIONS: Final = 256  # kept open to each origin: more than any work has in flight


@dataclass(frozen=True, slots=True)
class Site:
    """What a peer is told to serve, and where it may write."""

    folder: Path
    log: Path
    port: int
    tls_port: int
    origin_port: int  # everything but /post
    post_port: int  # /post: an origin that reads the content before it answers
    certificate: Path
    key: Path
    admin_port: int = 0  # of the gateway itself

    @property
    def pem(self) -> Path:
        """Certificate and key in one file, as HAProxy wants them."""
        path = self.folder / "both.pem"
        path.write_text(self.certificate.read_text() + self.key.read_text())
        return path

    def write(self, name: str, text: str) -> Path:
        """Write a file of the peer's own, and give its path."""
        path = self.folder / name
        path.write_text(text)
        return path


@dataclass(frozen=True, slots=True)
class Command:
    """How a prepared peer is started; `check` only reads its configuration (empty: it can't)."""

    argv: Sequence[str | Path]
    check: Sequence[str | Path] = ()
    env: dict[str, str] = field(default_factory=dict)
    output: Path | None = None


@dataclass(frozen=True, slots=True)
class Peer:
    """One proxy: how to find it, how to get it, how to make it serve a site."""

    name: str
    find: Callable[[], str | None]
    get: str
    version: Callable[[str], str]
    prepare: Callable[[str, Site], Command]


@dataclass(frozen=True, slots=True)
class Running:
    """A started peer, answering."""

    peer: Peer
    site: Site
    process: subprocess.Popen[bytes]

    def pids(self) -> list[int]:
        """All its processes, the one started first."""
        return procs.tree(self.process.pid)

    def forget_log(self) -> None:
        """Empty the log between measurements: it lies in memory. All peers append."""
        if self.site.log.exists():
            os.truncate(self.site.log, 0)


def on_path(*names: str) -> Callable[[], str | None]:
    """Look for a program on PATH and where Debian puts servers."""
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
    return lambda: next((found for name in names if (found := shutil.which(name, path=path))), None)


def said_by(*arguments: str, pattern: str) -> Callable[[str], str]:
    """The version: what the first group of `pattern` finds in the program's words."""
    import re

    def version(program: str) -> str:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=30)
        found = re.search(pattern, done.stdout + done.stderr)
        return found[1] if found else "?"

    return version


def start(lab: Lab, peer: Peer, site: Site) -> Running:
    """Start a peer on the proxy's core and wait until it answers; Failed when it does not."""
    program = peer.find()
    if program is None:
        raise Failed(f"{peer.name} is not installed: {peer.get}")
    command = peer.prepare(program, site)
    process = lab.start(command.argv, core=lab.proxy_core, output=command.output, env=command.env)

    def ready() -> bool:
        try:
            return get(site.port, "/small").status == 200
        except OSError:
            return False

    lab.wait_until(ready, process, peer.name)
    # Nothing the process does once after its start belongs to a measurement.
    time.sleep(0.2)
    return Running(peer, site, process)
