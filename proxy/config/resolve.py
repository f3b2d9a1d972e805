"""What a config means on this machine, where the written value is kept as it is."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Mapping, Sequence
from typing import Final

from proxy.config.schema import Gateway, Process

_PLACEHOLDER: Final = re.compile(r"(?<!\$)\{([A-Za-z_][A-Za-z0-9_]*)\}", re.ASCII)

MOST_WORKERS: Final = 4
"""For "auto": one worker answers tens of thousands of requests a second, and each has pools of its own."""


def worker_count(gateway: Gateway) -> int:
    """`workers`, with "auto" as one per usable core, four at most."""
    if gateway.workers != "auto":
        return int(gateway.workers)
    return max(1, min(MOST_WORKERS, len(os.sched_getaffinity(0))))


def filled(command: Sequence[str], values: Mapping[str, object]) -> list[str]:
    """The argument list with {port}, {socket}, {name} … replaced; ${port} is the shell's, and stays."""

    def replace(match: re.Match[str]) -> str:
        return str(values.get(match[1], match[0]))

    return [_PLACEHOLDER.sub(replace, argument) for argument in command]


def environment(process: Process, environ: Mapping[str, str]) -> dict[str, str]:
    """What an instance inherits of `environ`, and its own `env` over it."""
    patterns = process.inherit_env
    kept = {
        name: value for name, value in environ.items() if any(fnmatch.fnmatchcase(name, p) for p in patterns)
    }
    return {**kept, **process.env}


def passes(status: int, ranges: tuple[tuple[int, int], ...]) -> bool:
    """Whether a status lies in ranges such as `health.status`."""
    return any(first <= status <= last for first, last in ranges)
