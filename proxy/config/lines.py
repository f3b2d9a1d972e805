"""Key paths to line numbers: tomllib does not say where a key of a valid text stands.

Run over text that tomllib has accepted, so it is lenient; what it does not find has no line, and the path
alone is shown.
"""

from __future__ import annotations

import ast
import re
from typing import Final

from proxy.config.problems import Keys

_TOKEN: Final = re.compile(
    r"""(?P<skip>[ \t\r]+|\#[^\n]*)
      | (?P<newline>\n)
      | (?P<string>\"\"\"(?:\\.|[^\\])*?\"{3,5} | '''.*?'{3,5} | "(?:\\.|[^"\\\n])*" | '[^'\n]*')
      | (?P<mark>[\[\]{}=,.])
      | (?P<bare>[^\s\[\]{}=,."'\#]+)""",
    re.DOTALL | re.VERBOSE,
)
_END: Final = ("end", "", 0)


def find_lines(text: str) -> dict[Keys, int]:
    """The line, from 1, of every key and array item of a valid TOML text."""
    try:
        return _Scanner(text).scan()
    except RecursionError:
        return {}


class _Scanner:
    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, str, int]] = []
        line = 1
        for match in _TOKEN.finditer(text):
            if match.lastgroup != "skip":
                self.tokens.append((str(match.lastgroup), match[0], line))
            line += match[0].count("\n")
        self.at = 0
        self.lines: dict[Keys, int] = {}
        self.lengths: dict[Keys, int] = {}  # of arrays of tables

    def take(self) -> tuple[str, str, int]:
        token = self.peek()
        self.at += 1
        return token

    def peek(self) -> tuple[str, str, int]:
        return self.tokens[self.at] if self.at < len(self.tokens) else _END

    def scan(self) -> dict[Keys, int]:
        table: Keys = ()
        while (token := self.peek()) != _END:
            if token[0] == "newline":
                self.at += 1
            elif token[1] == "[" and token[0] == "mark":
                table = self.header()
            else:
                self.pair(table)
        return self.lines

    def header(self) -> Keys:
        line = self.take()[2]
        many = self.peek()[1] == "["
        names = self.names("]")
        keys: Keys = ()
        for number, name in enumerate(names, 1):
            keys += (name,)
            if many and number == len(names):
                self.lengths[keys] = self.lengths.get(keys, 0) + 1
            self.lines.setdefault(keys, line)
            if keys in self.lengths:
                keys += (self.lengths[keys] - 1,)
                self.lines.setdefault(keys, line)
        if many:
            self.take()
        return keys

    def names(self, end: str) -> list[str]:
        found = []
        while (token := self.take()) != _END and token[:2] != ("mark", end):
            if token[0] == "bare":
                found.append(token[1])
            elif token[0] == "string":
                found.append(_unquoted(token[1]))
        return found

    def pair(self, table: Keys) -> None:
        line = self.peek()[2]
        keys = table
        for name in self.names("="):
            keys += (name,)
            self.lines.setdefault(keys, line)
        self.value(keys)

    def value(self, keys: Keys) -> None:
        kind, text, line = self.peek()
        self.lines.setdefault(keys, line)
        if kind == "mark" and text in "[{":
            self.take()
            index = 0
            while (token := self.peek()) != _END and token[:2] not in (("mark", "]"), ("mark", "}")):
                if token[0] == "newline" or token[:2] == ("mark", ","):
                    self.take()
                elif text == "[":
                    self.value((*keys, index))
                    index += 1
                else:
                    self.pair(keys)
            self.take()
        else:
            while (token := self.peek()) != _END and token[0] != "newline":
                if token[0] == "mark" and token[1] in ",]}":
                    return
                self.take()


def _unquoted(text: str) -> str:
    if text.startswith("'"):
        return text[1:-1]
    try:  # TOML's escapes in a key are Python's, but for \e and \/
        return str(ast.literal_eval(text))
    except (SyntaxError, ValueError):
        return text[1:-1]
