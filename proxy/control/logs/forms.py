"""How tracebacks and panics look, as the runtimes print them: where one begins, and which lines go on with it.

A form is made when its first line was seen, and then asked of each line whether it belongs to it. Prefixes of log
formats are gone by then (see entries). `ok` says whether what was seen is an exception at all: a line that says
"panic: " is none without a goroutine's stack.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

MARKS: Final = (
    b"raceback", b"  File \"", b"\tat ", b"   at ", b"panic", b"atal ", b":in `", b":in '", b"tack", b"xc_info",
    b"[object] (",
)  # fmt: skip
"""One of these is in each line that begins a form, or by which one is found: an ordinary batch costs some searches."""


class Goes(Enum):
    """Whether a line belongs to what was begun."""

    ON = "on"
    MAYBE = "maybe"  # if the one after it does: an empty line
    OUT = "out"


class Form:
    """One kind of entry. `lines` are those so far."""

    name = ""

    def __init__(self) -> None:
        self.ok = False

    def more(self, line: str) -> Goes:
        raise NotImplementedError


TRACEBACK: Final = re.compile(r"(?:  ?\+ (Exception Group )?)?Traceback \(most recent call last\):\s*$")
_CHAINED: Final = (
    "During handling of the above exception, another exception occurred:",
    "The above exception was the direct cause of the following exception:",
)
_FINAL: Final = re.compile(r"[A-Za-z_][\w.]*(?:: |:$|$)")


class Python(Form):
    """`Traceback (most recent call last):` to the line with the exception, and what is chained to it."""

    name = "python"

    def __init__(self, first: str) -> None:
        super().__init__()
        self._state = "group" if "Exception Group" in first else "frames"

    def more(self, line: str) -> Goes:
        if not line.strip():
            return Goes.MAYBE
        inner = line.lstrip(" |")
        if inner.startswith(_CHAINED) and self._state != "frames":
            self._state = "group" if self._state == "group" and line[0] in " |" else "chain"
            return Goes.ON
        match self._state:
            case "group" if line[0] in " |+":
                self.ok = True
                return Goes.ON
            case "frames" if line[0] in " \t":
                return Goes.ON
            case "frames" if _FINAL.match(line):
                self._state, self.ok = "final", True
                return Goes.ON
            case "chain" if TRACEBACK.match(line):
                self._state = "group" if "Exception Group" in line else "frames"
                return Goes.ON
        return Goes.OUT


SYNTAX: Final = re.compile(r'  File "[^"]*", line \d+\s*$')


class Syntax(Form):
    """A file that Python cannot read: `  File "x.py", line 3`, the line, a caret, `SyntaxError: …`."""

    name = "syntax"

    def more(self, line: str) -> Goes:
        if self.ok:
            return Goes.OUT
        if line[:1] in " \t":
            return Goes.ON
        if re.match(r"(?:SyntaxError|IndentationError|TabError): ", line):
            self.ok = True
            return Goes.ON
        return Goes.OUT


FATAL: Final = re.compile(r"Fatal Python error: (?!Aborted)")


class PythonFatal(Form):
    """What faulthandler writes. `Aborted` is not one: so Triage takes the stacks of what hangs."""

    name = "python-fatal"

    def more(self, line: str) -> Goes:
        if not line.strip():
            return Goes.MAYBE
        if line.startswith(("Current thread", "Thread 0x", "  File ", "  ...", "Python runtime state")):
            self.ok = True
            return Goes.ON
        return Goes.ON if line.startswith(("Extension modules", "<no Python frame>")) else Goes.OUT


AT: Final = re.compile(
    r"\s+at (?:"
    r"(?:[\w.$@-]+/)*[\w$.<>/-]+\([\w$ .-]+\.\w{1,6}:\d+\)"  # Java
    r"|[\w$.<>/-]+\((?:Native Method|Unknown Source|<generated>)\)"
    r"|(?:.{1,300}? \()?(?:file://|node:|internal/|webpack|/|[A-Za-z]:[\\/])[^()]{1,500}:\d+:\d+\)?"  # Node
    r"|.{1,200}? \(<anonymous>\)|<anonymous>|native"
    r"|[\w.<>`+,\[\]|$ ]{1,300}\([^()]{0,500}\)(?: in .{1,500}:line \d+)?"  # .NET
    r")\s*$"
)
THEN: Final = re.compile(
    r"\s*(?:Caused by|Suppressed|Wrapped by): |\s+\.\.\. \d+ (?:more|common frames)|\s+---> |\s+--- End of "
    r"|--- End of stack"
)


class At(Form):
    """Frames are `at …`: Java, Node, .NET. Begun at the first frame, with the header that was found before it."""

    name = "at"

    def __init__(self) -> None:
        super().__init__()
        self.ok = True
        self._open = False  # an object's fields are printed behind the frames
        self._header = 0  # lines that a message may still take

    def more(self, line: str) -> Goes:
        if not line.strip():
            return Goes.MAYBE if self._open else Goes.OUT
        if AT.match(line) or line.startswith("\tat "):
            self._header = 0
            self._open = line.endswith("{")
            return Goes.ON
        if THEN.match(line):
            self._header = 3
            return Goes.ON
        if line[0] in " \t":
            self._open = self._open or line.endswith("{")
            return Goes.ON
        if self._open and line[0] in "}]":
            self._open = False
            return Goes.ON
        if self._header:
            self._header -= 1
            return Goes.ON
        return Goes.OUT


GO: Final = re.compile(r"(?:panic: |fatal error: |http: panic serving \S+: )")
_GOROUTINE: Final = re.compile(r"goroutine \d+ (?:gp=\S+ )?(?:m=\S+ )?(?:mp=\S+ )?\[")
_GO_FUNCTION: Final = re.compile(
    r"[\w./*()\[\]{}·\-,%~]+\(.*\)\s*$|created by |exit status \d|runtime stack:|\[signal "
)


class Go(Form):
    """`panic: …` or `fatal error: …`, with the goroutines' stacks."""

    name = "go"

    def __init__(self) -> None:
        super().__init__()
        self._said = 0

    def more(self, line: str) -> Goes:
        if not line.strip():
            return Goes.MAYBE
        if _GOROUTINE.match(line):
            self.ok = True
            return Goes.ON
        if line[0] in "\t" or _GO_FUNCTION.match(line) or GO.match(line):
            return Goes.ON
        if not self.ok and self._said < 5:  # a message of several lines
            self._said += 1
            return Goes.ON
        return Goes.OUT


RUBY: Final = re.compile(
    r"(?P<file>[^\s:]+):(?P<line>\d+):in [`'](?P<function>.+?)': (?P<message>.*) \((?P<type>[A-Z][\w:]*)\)$"
)
RUBY_FRAME: Final = re.compile(r"\s*(?:from )?(?P<file>[^\s:]+):(?P<line>\d+):in [`'](?P<function>.+?)'")
RUBY_AT: Final = re.compile(r"(?:^|(?<=\s))[^\s:]+:\d+:in [`']")
RUBY_HEADER: Final = re.compile(r"(?P<type>[A-Z]\w*(?:::\w+)*) \((?P<message>.*)\):?\s*$")


class Ruby(Form):
    """`x.rb:3:in 'f': message (Type)` and `from …`; or a framework's `Type (message):` and frames."""

    name = "ruby"

    def __init__(self) -> None:
        super().__init__()
        self.ok = True

    def more(self, line: str) -> Goes:
        if not line.strip():
            return Goes.OUT
        if RUBY.match(line):
            return Goes.OUT
        if line.startswith(("\tfrom ", "\t ... ")) or RUBY_FRAME.match(line):
            return Goes.ON
        return Goes.OUT


PHP: Final = re.compile(r"(?:PHP )?(?P<kind>Fatal error|Parse error|Recoverable fatal error): +(?P<rest>.*)$")
MONOLOG: Final = re.compile(
    r"\[object\] \((?P<type>[\w\\]+)\(code: \w+\): (?P<message>.*?) at (?P<file>\S+):(?P<line>\d+)\)"
)


class Php(Form):
    """`PHP Fatal error:  Uncaught …`, `Stack trace:`, `#0 …`, `thrown in …`."""

    name = "php"

    def __init__(self) -> None:
        super().__init__()
        self.ok = True
        self._said = 0

    def more(self, line: str) -> Goes:
        if line.startswith(("#", "Stack trace:", "[stacktrace]", "[previous exception]", "Next ")) or line == '"}':
            self._said = 9
            return Goes.ON
        if line.startswith("  thrown in "):
            return Goes.ON
        if not line.strip():
            return Goes.MAYBE
        self._said += 1
        return Goes.ON if self._said < 3 and not PHP.match(line) and not line.startswith("[") else Goes.OUT


RUST: Final = re.compile(r"thread '(?P<thread>[^']*)'(?: \(\d+\))? panicked at (?P<rest>.*)$")


class Rust(Form):
    """`thread 'main' panicked at src/main.rs:2:5:`, the message, and the backtrace if there is one."""

    name = "rust"

    def __init__(self, first: str) -> None:
        super().__init__()
        self.ok = True
        self._said = 0 if first.rstrip().endswith(":") else 9

    def more(self, line: str) -> Goes:
        if line.startswith(("note: ", "stack backtrace:")):
            self._said = 9
            return Goes.ON
        if re.match(r"\s+(?:\d+: |at )", line):
            return Goes.ON
        if self._said == 0 and line.strip():
            self._said += 1
            return Goes.ON
        return Goes.OUT


def begun(line: str) -> Form | None:
    """The form that this line, without a prefix, begins."""
    if TRACEBACK.match(line):
        return Python(line)
    if SYNTAX.match(line):
        return Syntax()
    if FATAL.match(line):
        return PythonFatal()
    if RUST.match(line):
        return Rust(line)
    if GO.match(line):
        return Go()
    if PHP.match(line) or MONOLOG.match(line):
        return Php()
    if RUBY.match(line):
        return Ruby()
    return None


BEGINS: Final = re.compile(
    r"(?:  ?\+ (?:Exception Group )?)?Traceback \(most recent call last\):|Fatal Python error: "
    r"|thread '[^']*'(?: \(\d+\))? panicked at |(?:http: )?panic(?: serving \S+)?: |fatal error: "
    r"|(?:PHP )?(?:Fatal error|Parse error|Recoverable fatal error): +|\[object\] \([\w\\]+\(code: "
    r"|[\w./-]+\.(?:rb|ru|rake|erb):\d+:in [`']|  File \"[^\"]*\", line \d+\s*$"
)
"""Where, behind a prefix, something may begin."""
EXCEPTION: Final = re.compile(
    r"(?P<type>(?:[A-Za-z_$][\w$]*[./])*[A-Z][\w$]*(?:Error|Exception|Throwable|Rejection|Failure|Fault)\w*|Error)"
    r"(?: \[(?P<code>[\w-]+)\])?(?P<end>:(?: (?P<message>.*))?$|\s*$|\]?\s*$)"
)
"""A header of frames, somewhere in its line."""
