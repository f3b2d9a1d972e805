"""Reading what a process printed last: an error that nobody caught, a crash, or a reason why it could not start.

Knows how runtimes print such things, not how any app does. Lines are oldest first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple


class Error(NamedTuple):
    """An error that ended a process, as its runtime printed it."""

    runtime: str  # python node go rust java ruby php dotnet native
    name: str  # "ValueError", "panic"
    message: str = ""
    where: str = ""  # "app.py:12 handle": the innermost line outside of libraries, if one was printed
    at: int = -1  # which line names it

    @property
    def words(self) -> str:
        """ "ValueError: bad value"."""
        return f"{self.name}: {self.message}" if self.message else self.name


class Start(NamedTuple):
    """Why a process could not start or go on, in a few words, and the line that says so."""

    kind: str  # port-in-use missing-module missing-file missing-command permission config syntax address name
    words: str
    line: str


_PYTHON: Final = re.compile(r"^(?P<name>(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*)(?:: (?P<message>.*))?$")
_PYTHON_AT: Final = re.compile(r'^\s+File "(?P<file>[^"]+)", line (?P<line>\d+)(?:,? in (?P<name>.+))?')
_NODE: Final = re.compile(
    r"^(?:Uncaught )?(?P<name>(?:[A-Z]\w*)?(?:Error|Exception)\b)(?: \[[\w-]+\])?(?:: (?P<message>.*))?$"
)
_NODE_AT: Final = re.compile(
    r"^\s+at (?:(?P<name>.+?) \()?(?:file://)?(?P<file>/[^():]+|[A-Za-z]:[^():]+):(?P<line>\d+):\d+\)?$"
)
_GO: Final = re.compile(r"^(?P<name>panic|fatal error): (?P<message>.*)$")
_GO_AT: Final = re.compile(r"^\t(?P<file>/\S+\.go):(?P<line>\d+)")
_RUST: Final = re.compile(
    r"^thread '.*' (?:\(\d+\) )?panicked at (?:'(?P<message>.*)', )?(?P<file>[^\s:]+):(?P<line>\d+)"
)
_JAVA: Final = re.compile(r"^Exception in thread \".*\" (?P<name>[\w.$]+)(?:: (?P<message>.*))?$")
_JAVA_AT: Final = re.compile(r"^\s+at (?P<name>[\w.$<>/]+)\((?P<file>\w+\.\w+):(?P<line>\d+)\)")
_RUBY: Final = re.compile(
    r"^(?P<file>[^\s:]+\.rb):(?P<line>\d+):in [`'](?P<name>[^']*)': (?P<message>.*) \((?P<kind>[\w:]+)\)$"
)
_PHP: Final = re.compile(
    r"^(?:PHP )?Fatal error:\s+(?:Uncaught )?(?P<name>[\w\\]+)(?:: (?P<message>.*?))?"
    r"(?: in (?P<file>/\S+?)(?: on line |:)(?P<line>\d+))?$"
)
_DOTNET: Final = re.compile(r"^Unhandled exception\. (?P<name>[\w.]+)(?:: (?P<message>.*))?$")
_CPP: Final = re.compile(r"^terminate called after throwing an instance of '(?P<name>[^']+)'")
_WHAT: Final = re.compile(r"^\s+what\(\):\s+(?P<message>.*)$")
_FATAL: Final = re.compile(r"^Fatal Python error: (?P<message>.*)$")
_ABORT: Final = re.compile(
    r"(?P<message>Assertion [`'].*' failed|double free or corruption.*|free\(\): .*|malloc\(\): .*"
    r"|corrupted size vs\. .*"
    r"|munmap_chunk\(\): .*|\*\*\* stack smashing detected \*\*\*.*|\*\*\* buffer overflow detected \*\*\*.*)"
)
_HEAP: Final = re.compile(r"JavaScript heap out of memory|Reached heap limit|Allocation failed - process out of memory")
_LIBRARY: Final = re.compile(
    r"/(?:site|dist)-packages/|/lib/python[\d.]+/|/node_modules/|^node:|^internal/|/gems/|^<frozen|^<string>"
    r"|/usr/local/go/src/|/rustc/"
)
_NOT_NAMES: Final = frozenset({"INFO", "DEBUG", "WARNING", "ERROR", "CRITICAL", "Traceback", "None", "True", "False"})
_TAIL: Final = 12
"""Lines after the one that names the error: frames, a version, an exit hook's word."""


def uncaught(lines: Sequence[str]) -> Error | None:
    """The error that nobody caught, if the last lines are its print; not one that was printed long before."""
    for read in (_python, _node, _rejected, _go, _rust, _java, _ruby, _php, _dotnet, _cpp):
        found = read(lines)
        if found is not None and _at_the_end(found, lines):
            return found
    return None


def crash(lines: Sequence[str]) -> Error | None:
    """What is printed as a process crashes: by Python's faulthandler, the C library, an assertion."""
    for at in range(len(lines) - 1, -1, -1):
        text = lines[at].rstrip()
        if match := _FATAL.match(text):
            where = ""
            for line in lines[at + 1 :]:
                if found := _PYTHON_AT.match(line):
                    where = _place(found["file"], found["line"], found["name"] or "")
                    break
            return Error("python", "Fatal Python error", match["message"].strip(), where, at)
        if match := _ABORT.search(text):
            return Error("native", "abort", match["message"].strip(), "", at)
    return _cpp(lines)


def heap_limit(lines: Sequence[str]) -> str:
    """The line by which a runtime says that its own heap's limit was reached; "" if none does."""
    for line in reversed(lines[-60:]):
        if _HEAP.search(line) or "java.lang.OutOfMemoryError" in line:
            return line.strip()
    return ""


_STARTS: Final[tuple[tuple[str, re.Pattern[str], str], ...]] = (
    (
        "port-in-use",
        re.compile(
            r"EADDRINUSE|[Aa]ddress already in use|[Pp]ort \d+ is (?:already )?in use|Only one usage of each socket"
        ),
        "its port is taken",
    ),
    (
        "address",
        re.compile(r"EADDRNOTAVAIL|[Cc]annot assign requested address|Can't assign requested address"),
        "it wants an address that this machine does not have",
    ),
    (
        "missing-module",
        re.compile(
            r"ModuleNotFoundError|No module named|ImportError|Cannot find module|Cannot find package"
            r"|ERR_MODULE_NOT_FOUND|ClassNotFoundException|NoClassDefFoundError|cannot load such file"
            r"|error while loading shared libraries|could not find or load main class",
            re.IGNORECASE,
        ),
        "a module or library is missing",
    ),
    ("syntax", re.compile(r"^(?:\w+\.)?(?:SyntaxError|IndentationError|TabError)\b"), "its code can't be read"),
    (
        "missing-command",
        re.compile(r"command not found|: not found$|exec: .*not found|No such file or directory: '[^'/]+'$"),
        "a command is missing",
    ),
    (
        "permission",
        re.compile(r"PermissionError|EACCES|EPERM|[Pp]ermission denied|Operation not permitted"),
        "it may not do what it wants to do",
    ),
    (
        "missing-file",
        re.compile(r"FileNotFoundError|ENOENT|[Nn]o such file or directory|can't open file|[Cc]annot open file"),
        "a file is missing",
    ),
    (
        "config",
        re.compile(
            r"^(?:\w+\.)?KeyError: '[A-Z][A-Z0-9_]+'|ImproperlyConfigured"
            r"|[Mm]issing (?:required )?(?:environment|env|config|setting)"
            r"|environment variable \S+ (?:is )?(?:not set|required|missing)"
            r"|(?:is|must be) (?:not )?set in (?:the )?environment|ValidationError|[Ii]nvalid config"
            r"|[Cc]onfiguration error|[Uu]nrecognized (?:arguments?|option)|[Nn]o such option"
            r"|error: (?:the following arguments are required|argument )"
        ),
        "a setting is missing or wrong",
    ),
    (
        "dependency",
        re.compile(
            r"ConnectionRefusedError|ECONNREFUSED|[Cc]onnection refused|could not connect to server"
            r"|Name or service not known|getaddrinfo (?:ENOTFOUND|EAI_AGAIN)|Temporary failure in name resolution"
            r"|No route to host"
        ),
        "something that it asks at its start does not answer",
    ),
    ("descriptors", re.compile(r"\[Errno 24\]|EMFILE|ENFILE|[Tt]oo many open files"), "it has no file descriptor left"),
    ("disk", re.compile(r"\[Errno 28\]|ENOSPC|[Nn]o space left on device"), "the disk is full"),
)


_KEY: Final = re.compile(r"^(?:\w+\.)?KeyError: ")
"""Of the environment only where a line of the traceback names that."""


def start(lines: Sequence[str]) -> Start | None:
    """Why it could not start: the last line that says a reason, but first the one that names an error."""
    error = uncaught(lines)
    tries = [lines[error.at]] if error is not None and 0 <= error.at < len(lines) else []
    for text in (*tries, *reversed(lines[-15:])):
        stripped = text.strip()
        for kind, pattern, words in _STARTS:
            if pattern.search(stripped) and (not _KEY.match(stripped) or any("environ" in line for line in lines)):
                return Start(kind, words, stripped)
    return None


# --- one runtime each --------------------------------------------------------------------------------


def _at_the_end(found: Error, lines: Sequence[str]) -> bool:
    return sum(1 for line in lines[found.at + 1 :] if line.strip() and not _frame(line)) <= _TAIL


def _frame(line: str) -> bool:
    return line[:1] in " \t" or line.startswith(
        ("goroutine ", "created by ", "main.", "exit status", "Node.js v", "stack backtrace")
    )


def _place(file: str, line: str, name: str) -> str:
    return f"{_short(file)}:{line}{f' {name}' if name else ''}"


def _short(file: str) -> str:
    return "/".join(file.split("/")[-2:])


def _python(lines: Sequence[str]) -> Error | None:
    begin = next(
        (
            at
            for at in range(len(lines) - 1, -1, -1)
            if lines[at].strip().endswith("Traceback (most recent call last):")
        ),
        None,
    )
    if begin is None:
        return _python_syntax(lines)
    where, inner = "", ""
    for at in range(begin + 1, len(lines)):
        text = lines[at]
        if match := _PYTHON_AT.match(text):
            inner = _place(match["file"], match["line"], match["name"] or "")
            where = where if _LIBRARY.search(match["file"]) else inner
        elif text[:1] not in " \t" and text.strip():
            match = _PYTHON.match(text.strip())
            if match is None or match["name"] in _NOT_NAMES:
                return None
            return Error("python", match["name"], (match["message"] or "").strip(), where or inner, at)
    return None


def _python_syntax(lines: Sequence[str]) -> Error | None:
    for at in range(len(lines) - 1, max(-1, len(lines) - 8), -1):
        match = re.match(r"(?P<name>SyntaxError|IndentationError|TabError): (?P<message>.*)", lines[at].strip())
        if match:
            place = next((found for line in reversed(lines[:at]) if (found := _PYTHON_AT.match(line))), None)
            where = _place(place["file"], place["line"], "") if place else ""
            return Error("python", match["name"], match["message"], where, at)
    return None


def _node(lines: Sequence[str]) -> Error | None:
    """Node prints `Node.js v…` as its last line when an error was not caught (since v17), and frames before it."""
    version = any(line.startswith("Node.js v") for line in lines[-4:])
    for at in range(len(lines) - 1, -1, -1):
        match = _NODE.match(lines[at].strip())
        if match is None or lines[at][:1] in " \t":
            continue
        frames = [found for line in lines[at + 1 : at + 12] if (found := _NODE_AT.match(line.rstrip()))]
        if not frames and not version:
            continue
        own = next((one for one in frames if not _LIBRARY.search(one["file"])), frames[0] if frames else None)
        where = _place(own["file"], own["line"], own["name"] or "") if own else ""
        return Error("node", match["name"], (match["message"] or "").strip(), where, at)
    return None


_REJECTED: Final = re.compile(r"^\[UnhandledPromiseRejection: .*reason \"?(?P<message>.*?)\"?\.\]")


def _rejected(lines: Sequence[str]) -> Error | None:
    """Node, where a promise was rejected with what is no error: it has no stack."""
    for at in range(len(lines) - 1, -1, -1):
        if match := _REJECTED.match(lines[at].strip()):
            return Error("node", "UnhandledPromiseRejection", match["message"], "", at)
    return None


def _go(lines: Sequence[str]) -> Error | None:
    for at in range(len(lines) - 1, -1, -1):
        match = _GO.match(lines[at].rstrip())
        if match and any(line.startswith("goroutine ") for line in lines[at + 1 : at + 8]):
            frames = [found for line in lines[at + 1 :] if (found := _GO_AT.match(line))]
            own = next((one for one in frames if not _LIBRARY.search(one["file"])), frames[0] if frames else None)
            return Error("go", match["name"], match["message"], _place(own["file"], own["line"], "") if own else "", at)
    return None


def _rust(lines: Sequence[str]) -> Error | None:
    for at in range(len(lines) - 1, -1, -1):
        if match := _RUST.match(lines[at].rstrip()):
            after = lines[at + 1].strip() if at + 1 < len(lines) else ""
            return Error("rust", "panic", match["message"] or after, _place(match["file"], match["line"], ""), at)
    return None


def _java(lines: Sequence[str]) -> Error | None:
    for at in range(len(lines) - 1, -1, -1):
        if match := _JAVA.match(lines[at].rstrip()):
            place = next((found for line in lines[at + 1 :] if (found := _JAVA_AT.match(line))), None)
            where = _place(place["file"], place["line"], place["name"]) if place else ""
            return Error("java", match["name"], (match["message"] or "").strip(), where, at)
    return None


def _ruby(lines: Sequence[str]) -> Error | None:
    for at in range(len(lines) - 1, -1, -1):
        if match := _RUBY.match(lines[at].rstrip()):
            return Error(
                "ruby", match["kind"], match["message"], _place(match["file"], match["line"], match["name"]), at
            )
    return None


def _php(lines: Sequence[str]) -> Error | None:
    for at in range(len(lines) - 1, -1, -1):
        if match := _PHP.match(lines[at].rstrip()):
            where = _place(match["file"], match["line"], "") if match["file"] else ""
            return Error("php", match["name"], (match["message"] or "").strip(), where, at)
    return None


def _dotnet(lines: Sequence[str]) -> Error | None:
    for at in range(len(lines) - 1, -1, -1):
        if match := _DOTNET.match(lines[at].rstrip()):
            return Error("dotnet", match["name"], (match["message"] or "").strip(), "", at)
    return None


def _cpp(lines: Sequence[str]) -> Error | None:
    for at in range(len(lines) - 1, -1, -1):
        if match := _CPP.match(lines[at].rstrip()):
            what = _WHAT.match(lines[at + 1]) if at + 1 < len(lines) else None
            return Error("native", match["name"], what["message"] if what else "", "", at)
    return None
