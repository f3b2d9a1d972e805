"""The one place that says what a secret looks like: whatever Triage shows or saves of others goes through here.

A value is masked for its name (`DB_PASSWORD`), a password within a URL for its place, and in any text what follows a
word such as `password=`, `Bearer` or `Cookie:`. A secret that looks like nothing of that kind is not found.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

MASK: Final = "***"

_SECRET: Final = re.compile(
    r"PASS|PWD|TOKEN|SECRET|KEY|DSN|CREDENTIAL|AUTH|PRIVATE|COOKIE|SIGNATURE|SALT|CERT", re.IGNORECASE
)
_IN_URL: Final = re.compile(
    r"([A-Za-z][A-Za-z0-9+.-]{0,30}://)([^\s/?#@:]{0,250}):([^\s/?#]{0,2000})(?=@)"
    r"|([A-Za-z][A-Za-z0-9+.-]{0,30}://)[^\s/?#@:]{16,2000}(?=@)"
)
_OPTION: Final = re.compile(r"(--?[A-Za-z0-9_-]+|[A-Za-z0-9_]+)=(.*)", re.DOTALL)
_IN_TEXT: Final = re.compile(
    r"(\b(?:bearer|basic)\s{1,4})[A-Za-z0-9._~+/=-]{8,}"
    r"|((?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credential)[\w-]{0,30}"
    r"[\"']?\s{0,4}[:=]\s{0,4}[\"']?)[^\s\"',;&)}\]]{3,}",
    re.IGNORECASE,
)
_OWN: Final = re.compile(r"(triage_[0-9a-f]{8}_)[A-Za-z0-9_-]{43}", re.IGNORECASE)
"""A token of Triage's own, wherever it stands; its id stays."""
_IN_FIELD: Final = re.compile(
    r"((?<![A-Za-z0-9])authorization[\"']?\s{0,4}[:=]\s{0,4}[\"']?(?:[a-z][a-z0-9-]{0,20}\s{1,4})?)[^\s\"'\\<,;]{8,}"
    r"|((?<![A-Za-z0-9])(?:set-)?cookie[\"']?\s{0,4}[:=]\s{0,4}[\"'])(?=[^\s=;,\"'\\<]{1,200}=)[^\"'\\<\r\n]{3,}"
    r"|((?<![A-Za-z0-9])(?:set-)?cookie[\"']?\s{0,4}[:=]\s{0,4})(?=[^\s=;,\"'\\<]{1,200}=)[^\\<\r\n]{3,}",
    re.IGNORECASE,
)
"""Repetitions have bounds, or end the match: a line made to be slow to read must not be."""


def masked(name: str, value: str) -> str:
    """The value of a variable: all of it where its name looks secret, else what looks so in it."""
    return MASK if value and _SECRET.search(name) else text(value)


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
    """A line that an app printed, or any other text."""
    return _hidden(line, lambda match, kept: f"{kept}{MASK}")


def raw(data: bytes) -> bytes:
    """A message's bytes, as many as before: an offset in them stays true."""
    line = _hidden(data.decode("latin-1"), lambda match, kept: kept + "*" * (len(match[0]) - len(kept)))
    return line.encode("latin-1")


def _hidden(line: str, put: Callable[[re.Match[str], str], str]) -> str:
    """With `put` of a match and what stands in it before the secret, for each match."""
    line = _IN_URL.sub(lambda match: put(match, f"{match[1]}{match[2]}:" if match[1] else match[4]), line)
    lower = line.lower()
    if "cookie" in lower or "authorization" in lower:  # trying these at each place would double the time of a line
        line = _IN_FIELD.sub(lambda match: put(match, match[1] or match[2] or match[3]), line)
    if "triage_" in lower:
        line = _OWN.sub(lambda match: put(match, match[1]), line)
    return _IN_TEXT.sub(lambda match: put(match, match[1] or match[2]), line)
