"""Reading what instances print and stacks that were taken: the one line that says most."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from proxy.link.messages import Attempt, Record

_EXCEPTION: Final = re.compile(r"^(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Exit|Interrupt|Warning)\b(?::|$)")
_WORDS: Final = re.compile(
    r"(?<![/\w])(?:FATAL|CRITICAL|ERROR|[Ff]atal(?: error)?:|[Ff]atal Python error|panic:|[Ss]egmentation fault"
    r"|[Oo]ut of memory|OutOfMemoryError|UnhandledPromiseRejection|Uncaught|[Uu]nhandled exception)(?![/\w])"
)
_FATAL: Final = re.compile(r"(?<![/\w])(?:FATAL|CRITICAL|[Ff]atal(?: error)?:|[Ff]atal Python error|panic:)(?![/\w])")
_FRAME: Final = re.compile(r"^\s+(?P<what>\S.*\(.+:\d+\))\s*$")
_THREAD: Final = re.compile(r"^Thread\b.*?(?:\((?P<state>[^)]*)\))?(?::\s*\"?(?P<name>[^\"]*)\"?)?$")
_AT_REST: Final = re.compile(
    r"^(?:\w+\.)*(?:_?worker|select|e?poll|accept|wait|get|_?run_once|run_forever|serve_forever|_wait_for_tstate_lock)\b"
)
"""Innermost calls of threads that have nothing to do: event loops, pools, servers."""
_LIBRARY: Final = re.compile(r"^.*/lib/python[\d.]+/(?:(?:site|dist)-packages/)?")
_READS: Final = re.compile(r"^(?:\w+\.)*(?:readinto|readline|read|recv|recv_into)\b")


def only_attempt(record: Record) -> Attempt:
    """Of a record that tells of none by itself: it had one, and that is what it tells of."""
    return Attempt(
        record.instance, record.fault, record.detail, record.reused, record.idle_us, record.connect_us, record.tls_us,
        record.wait_us, record.sent, 0 if record.fault else record.status, 0, record.total_us,
    )  # fmt: skip


def traceback_line(lines: Iterable[str]) -> str:
    """The last line that names an exception, else the last that sounds like an error, else ""."""
    named, sounded = "", ""
    for line in lines:
        text = line.strip()
        if _EXCEPTION.match(text):
            named = text
        elif _WORDS.search(text) and not text.startswith("Traceback"):
            sounded = text
    return named or sounded


def last_words(lines: Iterable[str]) -> str:
    """What a process said of its end: a line that calls itself fatal, unless an exception is named after it.

    An exception before it may belong to a request that the process survived.
    """
    known = list(lines)
    for at in range(len(known) - 1, -1, -1):
        text = known[at].strip()
        if _EXCEPTION.match(text):
            break
        if _FATAL.search(text):
            return text
    return traceback_line(known)


def as_text(artifact: Mapping[str, Any]) -> str:
    """The last round of a saved `stacks.json` that has threads, in the form that py-spy prints."""
    said = []
    rounds = [one for one in artifact.get("rounds", ()) if any(each.get("threads") for each in one["processes"])]
    for process in rounds[-1]["processes"] if rounds else ():
        for thread in process.get("threads", ()):
            state = "active" if thread.get("active") else "idle"
            said.append(f'Thread {thread.get("id", 0)} ({state}): "{thread.get("name", "")}"')
            for frame in thread.get("frames", ()):
                where = _LIBRARY.sub("", frame.get("file", ""))
                said.append(f"    {frame['function']} ({where}:{frame.get('line', 0)})")
    return "\n".join(said)


def at_rest(stacks: str) -> bool:
    """Whether every thread's innermost call is one of those that wait for work."""
    found = [stack for stack, _ in _threads(stacks) if stack]
    return bool(found) and all(_waits_for_work(stack) for stack in found)


def frames(stacks: str, most: int = 3) -> list[str]:
    """What threads do, the most telling first: "sleep (app.py:12) < slow (app.py:40)   (3 of 8 threads)".

    Reads py-spy's text and any other whose frames are indented `name (file:line)`.
    """
    threads = _threads(stacks)
    found: Counter[str] = Counter()
    weight: dict[str, int] = {}
    for stack, busy in threads:
        if not stack:
            continue
        text = " < ".join(stack[:3])
        found[text] += 1
        weight[text] = (2 if busy else 0) + (0 if _waits_for_work(stack) and not busy else 1)
    order = sorted(found, key=lambda text: (-weight[text], -found[text]))
    many = len(threads)
    return [text + (f"   ({found[text]} of {many} threads)" if many > 1 else "") for text in order[:most]]


def _threads(stacks: str) -> list[tuple[list[str], bool]]:
    """Each thread's frames, innermost first, and whether it is said to be active."""
    threads: list[tuple[list[str], bool]] = []
    for line in stacks.splitlines():
        if line.startswith("Thread"):
            match = _THREAD.match(line)
            threads.append(([], "active" in ((match["state"] or "") if match else "")))
        elif match := _FRAME.match(line):
            if not threads:
                threads.append(([], False))
            threads[-1][0].append(match["what"])
    return threads


def _waits_for_work(stack: list[str]) -> bool:
    """Also a server's thread that waits for the next request of a kept connection."""
    if _AT_REST.match(stack[0]):
        return True
    return len(stack) > 1 and bool(_READS.match(stack[0])) and "handle_one_request" in stack[1]
