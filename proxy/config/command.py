"""`triage run -- COMMAND`: the config file that one would have written."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence

from proxy.config.load import parse
from proxy.config.problems import shown
from proxy.config.schema import Config
from proxy.config.write import quoted

SOURCE = "triage run"
"""Stands where a file's name would in problems."""


def for_command(
    argv: Sequence[str],
    instances: int,
    listen: Sequence[str] | str,
    data_dir: str | os.PathLike[str],
    name: str = "web",
    *,
    admin: str = "127.0.0.1:0",
    socket: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> tuple[Config, str]:
    """The Config and its equal text, which may be saved anywhere: all paths in it are absolute.

    Raises ConfigProblems, for example for a placeholder that nobody fills in. Port 0 for the admin listener
    lets several gateways run side by side; they are found by their sockets.
    """
    listens = [listen] if isinstance(listen, str) else list(listen)
    lines = [
        "[gateway]",
        f"listen = [{', '.join(toml_text(text) for text in listens)}]",
        f"data_dir = {toml_text(os.path.abspath(data_dir))}",
        "",
        "[admin]",
        f"listen = {toml_text(admin)}",
        *([f"socket = {toml_text(os.path.abspath(socket))}"] if socket else []),
        "",
        f"[{shown(('apps', name, 'process'))}]",
        f"command = {toml_text(quoted(argv))}",
        f"instances = {instances}",
        f"cwd = {toml_text(os.getcwd())}",
        'inherit_env = ["*"]',
    ]
    if os.geteuid() == 0:  # who types the command as root has said so
        lines.append('user = "root"')
    text = "\n".join(lines) + "\n"
    return parse(text, SOURCE, environ), text


def toml_text(text: str) -> str:
    """A basic string of TOML that `parse` reads as the same text."""
    return json.dumps(text.replace("${", "$${"), ensure_ascii=False).replace("\x7f", "\\u007f")
