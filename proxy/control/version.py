"""Which version of an app runs: what the config says, else its folder's commit, else the newest file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from proxy.config import Process
from proxy.config.diff import IN_PLACE
from proxy.control import files


def of(process: Process) -> str:
    """ "3f2a91c", "2026-01-05T02:49:31Z", or "" when nothing tells."""
    if process.version:
        return process.version
    return commit(Path(process.cwd)) or _newest(Path(process.cwd), process.watch)


def commit(folder: Path) -> str:
    """The commit checked out there, without asking git: it may not be installed, or distrust the owner."""
    for parent in (folder, *folder.parents):
        dot_git = parent / ".git"
        try:
            if dot_git.is_file():  # a worktree: "gitdir: PATH"
                dot_git = (parent / dot_git.read_text().partition(":")[2].strip()).resolve()
            head = (dot_git / "HEAD").read_text().strip()
        except OSError:
            continue
        reference = head.removeprefix("ref: ")
        return (head if reference == head else _reference(dot_git, reference))[:12]
    return ""


def _reference(dot_git: Path, name: str) -> str:
    try:
        common = (dot_git / "commondir").read_text().strip()
        dot_git = (dot_git / common).resolve()
    except OSError:
        pass
    try:
        return (dot_git / name).read_text().strip()
    except OSError:
        pass
    try:
        for line in (dot_git / "packed-refs").read_text().splitlines():
            if line.endswith(f" {name}"):
                return line.partition(" ")[0]
    except OSError:
        pass
    return ""


def _newest(folder: Path, patterns: tuple[str, ...]) -> str:
    newest = files.look(str(folder), patterns).newest
    return datetime.fromtimestamp(newest, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if newest else ""


def generation(process: Process) -> str:
    """What an instance was started with, as one short text: another one means it must be replaced.

    How many there are, and how they are stopped or drained, concerns no running instance.
    """
    relevant = {name: value for name, value in msgspec.to_builtins(process).items() if name not in IN_PLACE}
    return hashlib.sha256(msgspec.json.encode(relevant, order="sorted")).hexdigest()[:12]


def made_of(process: Process, env: Iterable[str]) -> dict[str, str]:
    """Hashes of what an instance is started with: `command`, the names in its environment, the whole `config`."""
    return {
        "command": _hash(process.command),
        "environment": _hash(sorted(env)),
        "config": generation(process),
    }


def _hash(value: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(value)).hexdigest()[:12]
