"""What an entry is: its runtime, type, message and frames, and the id of its group.

The id is made of the type and the frames within the app, each as file and function without line numbers, so that it
stays over edits elsewhere in a file and over deploys into other folders. Frames of libraries count only where there are
no others; the message, with its numbers and ids masked, only where there are no frames. Sentry does it so. The
algorithm's version is in the id: another one makes other groups, and the old ones stay what they were.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final

from proxy import masking
from proxy.control.logs import forms

VERSION: Final = "v1"
FRAMES: Final = 40
"""Different frames that count: a recursion is a few."""
MESSAGE: Final = 500


@dataclass(frozen=True, slots=True)
class Frame:
    file: str
    function: str
    line: int = 0
    library: bool = False

    @property
    def words(self) -> str:
        """`price in shop/cart.py:12`"""
        place = f"{_short(self.file)}:{self.line}" if self.line else _short(self.file)
        return f"{self.function} in {place}" if self.function and place else self.function or place


@dataclass(frozen=True)
class Found:
    """One exception. `frames` are the innermost last."""

    runtime: str
    type: str
    message: str
    frames: tuple[Frame, ...]

    @property
    def own(self) -> tuple[Frame, ...]:
        """Frames within the app; all, where there are none."""
        return tuple(frame for frame in self.frames if not frame.library) or self.frames

    @cached_property
    def where(self) -> str:
        return self.own[-1].words if self.own else ""

    @cached_property
    def shown(self) -> str:
        """The message, masked as everything that is shown."""
        return masking.text(self.message)

    @cached_property
    def fingerprint(self) -> str:
        """`v1-3f2a91c0`"""
        parts = list(dict.fromkeys(f"{_stable(frame.file)} {_steady(frame.function)}" for frame in self.own))[:FRAMES]
        if not parts:
            parts = [masked(self.message)]
        text = "\n".join((self.runtime, self.type, *parts))
        return f"{VERSION}-{hashlib.blake2b(text.encode('utf-8', 'replace'), digest_size=4).hexdigest()}"


def masked(message: str) -> str:
    """A message without what differs from one time to the next."""
    for pattern, instead in _VARIES:
        message = pattern.sub(instead, message)
    return message[:MESSAGE]


_VARIES: Final = (
    (re.compile(r"\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b"), "<id>"),
    (re.compile(r"0x[0-9a-fA-F]+"), "<address>"),
    (re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b"), "<address>"),
    (re.compile(r"\b(?=[0-9a-fA-F]*\d)(?=[0-9a-fA-F]*[a-fA-F])[0-9a-fA-F]{8,}\b"), "<id>"),
    (re.compile(r"\d+(?:[.,]\d+)*"), "<n>"),
)


def _short(file: str) -> str:
    """The last two parts of a path."""
    return "/".join(file.replace("\\", "/").rsplit("/", 2)[-2:])


def _stable(file: str) -> str:
    """The same in every release: `/srv/app/releases/20260105/shop/cart.py` is `shop/cart.py`."""
    return re.sub(r"\d+", "0", _short(file))


def _steady(function: str) -> str:
    """Without what a compiler numbers: `lambda$price$3`, `$Proxy12`, `func1`."""
    return re.sub(r"\d+", "0", re.sub(r"0x[0-9a-f]+", "", function))


@lru_cache(maxsize=256)
def read(form: str, lines: tuple[str, ...]) -> Found:
    """What the lines of an entry say; what they don't is "". In a storm they are often the same."""
    found = _READERS[form](lines)
    return Found(found.runtime, found.type[:200], found.message[:MESSAGE], found.frames)


# --- Python ------------------------------------------------------------------------------------------

_PYTHON_FRAME: Final = re.compile(
    r'[\s|]*File "(?P<file>[^"]*)", line (?P<line>\d+)(?:, in (?P<function>.*?)| in (?P<other>.*?))?\s*$'
)
_PYTHON_LIBRARY: Final = re.compile(
    r"/(?:site|dist)-packages/|/lib(?:64)?/python\d|^<(?:frozen|string|stdin)|/python\d[\d.]*/lib/|\.zip/"
)
_PYTHON_END: Final = re.compile(r"(?P<type>[A-Za-z_][\w.]*)(?:: ?(?P<message>.*))?$")


def _python_frames(lines: Sequence[str]) -> tuple[Frame, ...]:
    return tuple(
        Frame(
            match["file"], match["function"] or match["other"] or "", int(match["line"]),
            bool(_PYTHON_LIBRARY.search(match["file"])),
        )
        for line in lines
        if (match := _PYTHON_FRAME.match(line))
    )  # fmt: skip


def _python(lines: Sequence[str]) -> Found:
    kind = message = ""
    for line in reversed(lines):
        if line[:1] in " |+\t" or not (match := _PYTHON_END.match(line)):
            continue
        kind, message = match["type"], match["message"] or ""
        break
    else:
        for line in lines:  # a group: its own line is the first one of least depth
            if (match := re.match(r"  \| (?P<type>[A-Za-z_][\w.]*)(?:: (?P<message>.*))?$", line)) is not None:
                kind, message = match["type"], match["message"] or ""
                break
    return Found("python", kind, message, _python_frames(lines))


def _syntax(lines: Sequence[str]) -> Found:
    kind, _, message = lines[-1].partition(": ")
    return Found("python", kind, message, _python_frames(lines[:1]))


def _python_fatal(lines: Sequence[str]) -> Found:
    message = lines[0].partition("Fatal Python error: ")[2]
    first = [index for index, line in enumerate(lines) if line.startswith("Current thread")]
    begin = first[0] + 1 if first else 1
    end = next((index for index in range(begin, len(lines)) if not lines[index].startswith("  ")), len(lines))
    return Found("python", "Fatal Python error", message, _python_frames(lines[begin:end])[::-1])


def raised(kind: str, message: str, frames: Sequence[tuple[str, int, str]]) -> Found:
    """What the agent in a Python process says: file, line and function of each frame, innermost last."""
    made = tuple(
        Frame(file, function, line, bool(_PYTHON_LIBRARY.search(file))) for file, line, function in frames
    )
    return Found("python", kind[:200], message[:MESSAGE], made)


# --- frames that begin with "at" ---------------------------------------------------------------------

_JAVA: Final = re.compile(
    r"\s*at (?:[\w.$@-]+/)*(?P<class>[\w$.<>-]+)\.(?P<method>[\w$<>-]+)\((?P<file>[^():]+)(?::(?P<line>\d+))?\)"
)
_JAVA_LIBRARY: Final = re.compile(
    r"(?:java|javax|jdk|sun|com\.sun|jakarta|kotlin|kotlinx|scala|groovy|clojure|reactor|org\.springframework|org\.apache"
    r"|org\.hibernate|org\.eclipse|org\.jboss|org\.junit|org\.slf4j|org\.postgresql|com\.mysql|io\.netty|io\.undertow"
    r"|io\.vertx|io\.micronaut|io\.quarkus|com\.zaxxer|com\.fasterxml|com\.google|ch\.qos|okhttp3|retrofit2)\."
)
_NODE: Final = re.compile(
    r"\s*at (?:async )?(?:(?P<function>.+?) \((?:file://)?(?P<file>[^()]+?)(?::(?P<line>\d+))?(?::\d+)?\)"
    r"|(?:file://)?(?P<only>\S+?):(?P<at>\d+):\d+)\s*\{?\s*$"
)
_NODE_LIBRARY: Final = re.compile(r"/node_modules/|^node:|^internal/|^<anonymous>|^native")
_DOTNET: Final = re.compile(r"\s*at (?P<function>[^()]+)\([^()]*\)(?: in (?P<file>.+):line (?P<line>\d+))?\s*$")
_DOTNET_LIBRARY: Final = re.compile(r"(?:System|Microsoft|MS|Npgsql|Newtonsoft)\.")
_ENDS: Final = re.compile(r"\.(?:java|kt|scala|groovy|clj)$|^(?:Native Method|Unknown Source|<generated>)$")


def _at(lines: Sequence[str]) -> Found:
    first = next((index for index, line in enumerate(lines) if re.match(r"\s+at ", line)), len(lines))
    header = _header(lines[:first])
    frames: list[Frame] = []
    runtime = ""
    for line in lines[first:]:
        frame, kind = _one_at(line)
        if frame is not None:
            frames.append(frame)
            runtime = runtime or kind
    return Found(runtime or "node", header[0], header[1], tuple(frames[::-1]))


def _one_at(line: str) -> tuple[Frame | None, str]:
    if not re.match(r"\s*at ", line):
        return None, ""
    if (match := _JAVA.match(line)) and (_ENDS.search(match["file"]) or match["line"]):
        name = match["class"]
        return Frame(name, match["method"], int(match["line"] or 0), bool(_JAVA_LIBRARY.match(name + "."))), "java"
    if match := _NODE.match(line):
        file = match["file"] or match["only"]
        number = int(match["line"] or match["at"] or 0)
        if match["function"] is None or number or _NODE_LIBRARY.search(file):
            function = (match["function"] or "").removeprefix("new ").removeprefix("async ")
            return Frame(file, function, number, bool(_NODE_LIBRARY.search(file))), "node"
    if match := _DOTNET.match(line):
        function = match["function"]
        library = bool(_DOTNET_LIBRARY.match(function))
        return Frame(match["file"] or "", function, int(match["line"] or 0), library), "dotnet"
    return None, ""


def _header(lines: Sequence[str]) -> tuple[str, str]:
    """Type and message out of what stands before the frames."""
    for index, line in enumerate(lines):
        if match := forms.EXCEPTION.search(line):
            message = match["message"] or ""
            rest = [one.strip() for one in lines[index + 1 :] if one.strip() and not forms.THEN.match(one)]
            return match["type"], " ".join([message, *rest]).strip()
    if lines:
        first = lines[-1].strip()
        kind, _, message = first.partition(": ")
        return (kind, message) if re.fullmatch(r"[\w.$\[\]]+", kind) else ("", first)
    return "", ""


# --- the others --------------------------------------------------------------------------------------

_GO_LIBRARY: Final = re.compile(r"/go/src/|/usr/(?:local/)?(?:lib/)?go[^/]*/src/|/pkg/mod/|/vendor/|/libexec/src/")
_GO_FUNCTIONS: Final = re.compile(
    r"panic$|(?:runtime|net|net/http|syscall|sync|internal/[\w/]+|reflect|testing|encoding/\w+|database/sql)\."
)


def _go(lines: Sequence[str]) -> Found:
    kind, _, message = lines[0].partition(": ")
    if kind == "http":
        kind, message = "panic", message.partition(": ")[2]
    message = message.removesuffix(" [recovered]").strip()
    if match := re.match(r"(runtime error|[\w./]+\.[A-Z]\w*)(?:: |\()(.*)", message):
        kind, message = f"{kind}: {match[1]}", match[2]
    frames: list[Frame] = []
    inside = False
    function = ""
    for line in lines[1:]:
        if line.startswith("goroutine "):
            if inside:
                break
            inside = True
        elif inside and line.startswith("\t"):
            if match := re.match(r"\t(?P<file>.+?):(?P<line>\d+)", line):
                library = bool(_GO_LIBRARY.search(match["file"]) or _GO_FUNCTIONS.match(function))
                frames.append(Frame(match["file"], function, int(match["line"]), library))
        elif inside and line.startswith("created by "):
            break
        elif inside:
            function = re.sub(r"\((?:[^()]|\([^()]*\))*\)\s*$", "", line)
    return Found("go", kind, message, tuple(frames[::-1]))


_RUBY_LIBRARY: Final = re.compile(r"/gems/|/lib/ruby/|/rubygems/|^<internal:|/bundler/")


def _ruby(lines: Sequence[str]) -> Found:
    kind = message = ""
    frames: list[Frame] = []
    for line in lines:
        if (match := forms.RUBY.match(line)) or (not kind and (match := forms.RUBY_HEADER.search(line))):
            kind, message = match["type"], match["message"]
        if match := forms.RUBY_FRAME.match(line):
            library = bool(_RUBY_LIBRARY.search(match["file"]))
            frames.append(Frame(match["file"], match["function"], int(match["line"]), library))
    return Found("ruby", kind, message, tuple(frames[::-1]))


_PHP_FRAME: Final = re.compile(
    r"#\d+ (?:(?P<file>[^(]+)\((?P<line>\d+)\)|\[internal function\]): (?P<function>[\w\\:>{}-]+)"
)

_PHP_UNCAUGHT: Final = re.compile(
    r"Uncaught (?:exception ')?(?P<type>[\w\\]+)'?(?::| with message '| in)(?P<rest>.*)$"
)


def _php(lines: Sequence[str]) -> Found:
    kind = message = ""
    thrown: Frame | None = None
    if match := forms.MONOLOG.search(lines[0]):
        kind, message = match["type"], match["message"]
        thrown = Frame(match["file"], "", int(match["line"]), "/vendor/" in match["file"])
    elif match := forms.PHP.match(lines[0]):
        rest = match["rest"]
        kind = match["kind"]
        if uncaught := _PHP_UNCAUGHT.match(rest):
            kind, rest = uncaught["type"], uncaught["rest"].strip()
        place = re.search(r"^(?P<message>.*?)'? ?in (?P<file>/\S+?|\w:\\\S+?)(?::| on line )(?P<line>\d+)", rest)
        message = place["message"].strip() if place else rest
        if place:
            thrown = Frame(place["file"], "", int(place["line"]), "/vendor/" in place["file"])
    frames = [thrown] if thrown else []
    for line in lines:
        if match := _PHP_FRAME.match(line):
            file = match["file"] or ""
            frames.append(Frame(file, match["function"], int(match["line"] or 0), not file or "/vendor/" in file))
    return Found("php", kind, message, tuple(frames[::-1]))


_RUST_PLACE: Final = re.compile(r"(?:'(?P<message>.*)', )?(?P<file>[^\s:']+):(?P<line>\d+)(?::\d+)?:?\s*$")
_RUST_LIBRARY: Final = re.compile(
    r"<?(?:std|core|alloc|test|tokio|hyper|__?\w+)(?:::|$)|rust_begin_unwind|rust_panic|_start|main$|<unknown>"
)


def _rust(lines: Sequence[str]) -> Found:
    match = forms.RUST.match(lines[0])
    rest = match["rest"] if match else ""
    place = _RUST_PLACE.search(rest)
    message = (place["message"] if place and place["message"] else "") or (
        lines[1] if len(lines) > 1 and not lines[1].startswith(("note:", "stack backtrace:")) else ""
    )
    frames: list[Frame] = []
    for index, line in enumerate(lines):
        if found := re.match(r"\s+\d+: +(?:0x[0-9a-f]+ - )?(?P<function>.+?)\s*$", line):
            function = re.sub(r"::h[0-9a-f]{16}$", "", found["function"])
            at = re.match(r"\s+at (?P<file>.+?):(?P<line>\d+)", lines[index + 1]) if index + 1 < len(lines) else None
            file = at["file"] if at else ""
            library = "/rustc/" in file or ".cargo/registry" in file or bool(_RUST_LIBRARY.match(function))
            frames.append(Frame(file, function, int(at["line"]) if at else 0, library))
    frames.reverse()
    if not [frame for frame in frames if not frame.library] and place:
        frames = [Frame(place["file"], "", int(place["line"]))]
    return Found("rust", "panic", message, tuple(frames))


_READERS: Final = {
    "python": _python, "syntax": _syntax, "python-fatal": _python_fatal, "at": _at, "go": _go, "ruby": _ruby,
    "php": _php, "rust": _rust,
}  # fmt: skip
