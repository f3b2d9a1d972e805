"""The one place that says what a secret looks like: whatever Triage shows or saves of others goes through here.

A value is masked for its name (`DB_PASSWORD`), a password within a URL for its place, and in a line of text what
follows a word such as `password=` or `Bearer`. A secret that looks like nothing of that kind is not found.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

MASK: Final = "***"

_SECRET: Final = re.compile(
    r"PASS|PWD|TOKEN|SECRET|KEY|DSN|CREDENTIAL|AUTH|PRIVATE|COOKIE|SIGNATURE|SALT|CERT", re.IGNORECASE
)
_IN_URL: Final = re.compile(
    r"([A-Za-z][A-Za-z0-9+.-]{0,30}://)([^\s/?#@:]{0,250}):([^\s/?#]{0,2000})@"
    r"|([A-Za-z][A-Za-z0-9+.-]{0,30}://)[^\s/?#@:]{16,2000}@"
)
_OPTION: Final = re.compile(r"(--?[A-Za-z0-9_-]+|[A-Za-z0-9_]+)=(.*)", re.DOTALL)
_IN_TEXT: Final = re.compile(
    r"(\b(?:bearer|basic)\s{1,4})[A-Za-z0-9._~+/=-]{8,}"
    r"|((?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credential)[\w-]{0,30}"
    r"[\"']?\s{0,4}[:=]\s{0,4}[\"']?)[^\s\"',;&)}\]]{3,}",
    re.IGNORECASE,
)
"""Repetitions have bounds: a line made to be slow to read must not be."""


def masked(name: str, value: str) -> str:
    """The value of a variable, unless its name looks secret; a password within a URL is masked alone."""
    if value and _SECRET.search(name):
        return MASK
    return _IN_URL.sub(
        lambda match: f"{match[1]}{match[2]}:{MASK}@" if match[1] else f"{match[4]}{MASK}@", value
    )


def arguments(given: Iterable[str]) -> list[str]:
    """An argument list: `--token=x` and `--token x` alike."""
    out: list[str] = []
    secret = False  # the argument is the value of the option before it
    for argument in given:
        option = _OPTION.fullmatch(argument)
        if secret and not argument.startswith("-"):
            out.append(MASK)
        elif option and _SECRET.search(option[1]):
            out.append(f"{option[1]}={MASK}")
        else:
            out.append(masked("", argument))
        secret = argument.startswith("-") and not option and bool(_SECRET.search(argument))
    return out


def text(line: str) -> str:
    """A line that an app printed."""
    return _IN_TEXT.sub(lambda match: f"{match[1] or match[2]}{MASK}", masked("", line))
