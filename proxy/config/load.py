"""A file to a Config, or to all of its problems at once."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from typing import Any, Final

from proxy.config.check import check
from proxy.config.lines import find_lines
from proxy.config.problems import ConfigProblems, Keys, Problem, Report
from proxy.config.readers import Place
from proxy.config.schema import Config
from proxy.config.walk import BROKEN, Walker

_VARIABLE: Final = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|\$\{[^}]*\}?", re.ASCII)
_DEEPEST: Final = 50


def load(path: str | os.PathLike[str], environ: Mapping[str, str] | None = None) -> Config:
    """Read a config file. Raises ConfigProblems, also when it cannot be read."""
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:
            data = file.read()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigProblems([Problem(name, 0, "", f"cannot be read: {reason}")]) from None
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigProblems([Problem(name, line, "", "is not UTF-8 text")]) from None
    return parse(text, name, environ)


def parse(text: str, path: str | os.PathLike[str], environ: Mapping[str, str] | None = None) -> Config:
    """Text that stands in the file `path`, whose folder relative paths mean. Raises ConfigProblems."""
    name = os.fspath(path)
    try:
        text.encode()
        raw = tomllib.loads(text)
        lines = find_lines(text)
        report = Report(name, lines)
        raw = _filled(raw, (), os.environ if environ is None else environ, report)
    except tomllib.TOMLDecodeError as error:
        raise ConfigProblems([_syntax(name, text, error)]) from None
    except RecursionError:
        raise ConfigProblems([Problem(name, 0, "", "is nested too deeply")]) from None
    except UnicodeEncodeError:
        raise ConfigProblems([Problem(name, 0, "", "is not UTF-8 text")]) from None
    except ValueError as error:  # int() refuses thousands of digits
        raise ConfigProblems([Problem(name, 0, "", f"is not TOML: {error}")]) from None
    folder = os.path.dirname(os.path.abspath(name))
    gateway = raw.get("gateway")
    data_dir = gateway.get("data_dir", "var") if isinstance(gateway, dict) else "var"
    if not isinstance(data_dir, str) or "\0" in data_dir:
        data_dir = "var"
    data_dir = os.path.normpath(os.path.join(folder, os.path.expanduser(data_dir)))
    config = Walker(report, Place(folder, data_dir)).table(Config, raw, ())
    if config is not BROKEN:
        check(config, raw, report)
    if report.found:
        raise ConfigProblems(report.problems())
    assert isinstance(config, Config)
    return config


def _syntax(name: str, text: str, error: tomllib.TOMLDecodeError) -> Problem:
    message = str(error)
    match = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", message)
    if match is None:
        return Problem(name, 0, "", f"is not TOML: {message}")
    what = message[: match.start()]
    if match[1] is None:
        return Problem(
            name, max(1, len(text.splitlines())), "", f"is not TOML: {what}, at the end of the file"
        )
    return Problem(name, int(match[1]), "", f"is not TOML: {what}, at column {match[2]}")


def _filled(raw: Any, keys: Keys, environ: Mapping[str, str], report: Report) -> Any:
    """The same tables with `${NAME}` and `${NAME:-default}` replaced; `$${` stands for `${`."""
    if len(keys) > _DEEPEST:
        raise RecursionError
    if isinstance(raw, dict):
        return {name: _filled(item, (*keys, name), environ, report) for name, item in raw.items()}
    if isinstance(raw, list):
        return [_filled(item, (*keys, index), environ, report) for index, item in enumerate(raw)]
    if not isinstance(raw, str) or "${" not in raw:
        return raw
    broken = False

    def replace(match: re.Match[str]) -> str:
        nonlocal broken
        if match[0] == "$${":
            return "${"
        if match[1] is None:
            problem = 'is not a variable - "${NAME}" or "${NAME:-default}"; "$${" stands for "${"'
            report.add(keys, f"{match[0]} {problem}")
        elif environ.get(match[1]):
            return environ[match[1]]
        elif match[2] is not None:
            return match[2]
        elif match[1] in environ:
            return ""
        else:
            report.add(keys, f'${{{match[1]}}} is not set - set it, or write "${{{match[1]}:-default}}"')
        broken = True
        return ""

    text = _VARIABLE.sub(replace, raw)
    return BROKEN if broken else text
