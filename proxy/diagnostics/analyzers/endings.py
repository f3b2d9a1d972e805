"""How a process ended, read from its status, its last words, counters and kernel lines: one `Ending` an exit.

The status is a direct record; what lies behind it mostly is not. `sure` follows the contract's rule: certain only what
one direct record shows, very likely where two kinds of evidence agree, and *not known* is a result.

Longer than most: one table of ways to end, read from top to bottom.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from proxy import units
from proxy.diagnostics.analyzers import say
from proxy.diagnostics.analyzers.contract import CERTAIN, LIKELY, VERY_LIKELY, Certainty, Proof, Rival
from proxy.diagnostics.analyzers.last_words import crash, heap_limit, uncaught
from proxy.diagnostics.artifacts import Exit, HostEvent, HostEvents, HostReport, Known
from proxy.diagnostics.reading import last_words

CRASHES: Final = {
    4: ("SIGILL", "it ran an instruction that this CPU does not have"),
    6: ("SIGABRT", "it gave itself up"),
    7: ("SIGBUS", "it touched memory behind which there was nothing"),
    8: ("SIGFPE", "it divided by zero or the like, in native code"),
    11: ("SIGSEGV", "it touched memory that is not its own"),
}
"""Signals that a process brings upon itself: name, and what it means."""
OWN: Final = {
    13: ("SIGPIPE", "it wrote to a pipe or socket that nobody reads any more, and did not expect that"),
    14: ("SIGALRM", "an alarm that it had set itself went off, and it did not handle it"),
    24: ("SIGXCPU", "it used more CPU time than its limit (ulimit -t) allows"),
    25: ("SIGXFSZ", "it wrote a file larger than its limit (ulimit -f) allows"),
    31: ("SIGSYS", "it made a system call that a filter (seccomp) forbids"),
}
"""Signals that nobody sends by hand."""
NEAR: Final = 2.0
"""Seconds before an end within which a line is among its last words."""
FULL: Final = 0.93
"""Share of a memory limit at which memory is a reason."""
_CODES: Final = {"python": (1,), "node": (1, 7), "go": (2,), "rust": (101,), "java": (1,), "ruby": (1,), "php": (255,)}
"""Exit codes with which runtimes end after an error that nobody caught."""
_ASKED: Final = re.compile(
    r"[Hh]andling signal: \w+|[Rr]eceived (?:signal )?(?:SIG)?(?:TERM|INT|HUP|QUIT)\b|SIG(?:TERM|INT|QUIT) received"
    r"|caught signal|got signal",
    re.IGNORECASE,
)

_CRASHED: Final = re.compile(r"SIG(?:SEGV|ABRT|BUS|FPE|ILL)|signal (?:4|6|7|8|11)\b", re.IGNORECASE)


@dataclass(slots=True)
class Ending:
    """`kind` is an id of a finding; those with one `mark` are the same thing happening again."""

    exit: Exit
    kind: str
    mark: str
    words: str  # "an uncaught ValueError: bad value at app.py:12 handle"
    cause: str  # sentences
    sure: Certainty
    evidence: list[Proof] = field(default_factory=list)
    against: list[Proof] = field(default_factory=list)
    rivals: list[Rival] = field(default_factory=list)
    unknown: str = ""


class Reader:
    """Reads ends with all that is known around them."""

    def __init__(self, known: Known, events: HostEvents | None, host: HostReport | None) -> None:
        self.known = known
        self.events = events
        self.host = host

    def read(self, ended: Exit) -> Ending:
        """What kind of an end it was. Not for those that Triage asked for."""
        if found := self._memory(ended):
            return found
        if ended.signal is not None:
            return self._by_signal(ended)
        return self._by_code(ended)

    def lines(self, ended: Exit) -> list[str]:
        """What it printed in its last seconds, else its last lines, oldest first."""
        began = ended.at - max(NEAR, 0.0)
        near = say.printed(self.known, ended.instance, began, ended.at + 1.5)
        texts = [line.text for line in near if line.at >= ended.at - ended.lasted - 1]
        return texts or list(ended.last_lines) if not self._old(ended) else texts

    def _old(self, ended: Exit) -> bool:
        """Whether its last lines are known to be older than its last seconds: then they belong to something else."""
        said = [text for text in ended.last_lines if text.strip()][-1:]
        for line in reversed(self.known.lines.get(ended.instance, ())):
            if said and line.text == said[0] and line.at <= ended.at + 1.5:
                return line.at < ended.at - NEAR
        return False  # what was kept of its output may end before its end

    # --- memory ------------------------------------------------------------------------------------

    def _memory(self, ended: Exit) -> Ending | None:
        gave_up = ended.signal == 6 or (ended.signal is None and ended.code != 0)
        line = heap_limit(self.lines(ended)) if gave_up else ""
        if line and ended.oom == "no":
            return Ending(
                ended,
                "heap-limit",
                "heap-limit",
                "its runtime's own heap limit",
                f"{ended.instance} reached the limit of its runtime's own heap and gave up: {say.clean(line)}.",
                VERY_LIKELY,
                [
                    say.proof(f"It ended with {ended.words} at {say.stamp(ended.at)}.", say.EXITS),
                    say.proof(f"Its last words: {say.clean(line)}.", say.OUTPUT),
                    *self._sizes(ended),
                ],
                unknown="What filled the heap can't be seen from its last words.",
            )
        event, sure = self._kernel(ended)
        if ended.oom == "no" and event is None and not self._blind(ended):
            return None
        evidence = [say.proof(f"It ended with {ended.words} at {say.stamp(ended.at)}; Triage sent nothing.", say.EXITS)]
        degree: Certainty = LIKELY
        sizes = self._sizes(ended)
        if ended.oom == "certain":
            degree = CERTAIN
            evidence.append(say.proof("The counter oom_kill of its own cgroup rose at its end.", "cgroup"))
        elif ended.oom == "likely":
            evidence.append(say.proof("A count of out-of-memory kills that others share rose at its end.", say.EXITS))
        if event is not None:
            degree = CERTAIN if sure else degree if degree == CERTAIN else VERY_LIKELY
            evidence.append(
                say.proof(f"The kernel wrote at {say.stamp(event.at)}: {say.clean(event.text, 200)}.", "host_events")
            )
        if degree == LIKELY and ended.oom == "likely" and self._full(ended):
            degree = VERY_LIKELY
        limit = f" ({units.size(ended.memory_limit)})" if ended.memory_limit else ""
        grew = f" {sizes[0].text}" if sizes and "rose" in sizes[0].text else ""
        who = "The kernel"
        unknown = (
            ""
            if degree in (CERTAIN, VERY_LIKELY)
            else "A kill by hand looks the same: no counter of its own could be read."
        )
        return Ending(
            ended,
            "out-of-memory",
            "out-of-memory",
            "the kernel killed it for memory",
            f"{who} killed {ended.instance} for using all the memory that it may{limit}.{grew}",
            degree,
            [*evidence, *sizes],
            [],
            []
            if degree == CERTAIN
            else [
                Rival(
                    cause="a kill by hand, or by another program",
                    speaks_for=["signal 9 looks the same"],
                    against=[one.text for one in evidence[1:]],
                )
            ],
            unknown,
        )

    def _pids(self, instance: str) -> set[int]:
        """All that it had, of all its lives."""
        pids = {one.pid for one in self.known.instances if one.name == instance and one.pid}
        return pids | {
            int(event.details["pid"])
            for event in self.known.events
            if event.instance == instance and str(event.details.get("pid", "")).isdigit()
        }

    def _of_this_life(self, event: HostEvent, ended: Exit) -> bool:
        """Not of a life of that instance before or after, which may have ended within the same seconds."""
        ends = [one.at for one in self.known.exits if one.instance == ended.instance]
        nearest = min((abs(event.at - at) for at in ends), default=float("inf"))
        return event.at >= ended.at - ended.lasted - 1.0 and abs(event.at - ended.at) <= nearest

    def _kernel(self, ended: Exit) -> tuple[HostEvent | None, bool]:
        """The kernel's line about its end, and whether it surely is about this one."""
        if ended.signal != 9 and ended.code != 137:
            return None, False
        pids = self._pids(ended.instance)
        found: HostEvent | None = None
        for event in self.events.events if self.events is not None else ():
            if event.kind != "oom-kill" or abs(event.at - ended.at) > 5.0 or not self._of_this_life(event, ended):
                continue
            if event.pid is not None and event.pid in pids:
                return event, True
            # Other gateways on this machine may have an instance of that name, and a container other pids.
            if ended.memory_limit and event.where.endswith(f"/{ended.instance}") and abs(event.at - ended.at) <= 2.0:
                found = event
        return found, False

    def _blind(self, ended: Exit) -> bool:
        """SIGKILL at a full memory, and no counter that could have told."""
        counted = self.host is not None and self.host.oom_kills is not None
        return ended.signal == 9 and self._full(ended) and not counted

    def _full(self, ended: Exit) -> bool:
        seen = [value for _, value in self._memory_of(ended)][-5:]
        top = max([*seen, ended.memory or 0.0])
        return bool(ended.memory_limit) and top >= FULL * float(ended.memory_limit or 1)

    def _memory_of(self, ended: Exit) -> list[tuple[float, float]]:
        return say.values(self.known.rings.get(ended.instance), "memory", ended.at - 60, ended.at)

    def _sizes(self, ended: Exit) -> list[Proof]:
        """How its memory went in its last minute."""
        seen = [one for one in self._memory_of(ended) if one[1] > 0]
        limit = f" of {units.size(ended.memory_limit)}" if ended.memory_limit else ""
        if len(seen) >= 2 and seen[-1][1] > 1.2 * seen[0][1]:
            took = units.duration(seen[-1][0] - seen[0][0])
            text = f"Its memory rose from {units.size(seen[0][1])} to {units.size(seen[-1][1])}{limit} in {took}."
            return [say.proof(text, say.RINGS)]
        last = ended.memory or (seen[-1][1] if seen else 0)
        return (
            [say.proof(f"Its memory was {units.size(last)}{limit} when it was last looked at.", say.RINGS)]
            if last
            else []
        )

    # --- signals -----------------------------------------------------------------------------------

    def _by_signal(self, ended: Exit) -> Ending:
        number = ended.signal or 0
        lines = self.lines(ended)
        status = say.proof(f"It ended with {ended.words} at {say.stamp(ended.at)}, {_after(ended)}.", say.EXITS)
        if number in CRASHES:
            return self._crash(ended, lines, status)
        if number in OWN:
            name, meaning = OWN[number]
            return Ending(
                ended,
                "own-signal",
                name,
                f"signal {number} ({name})",
                f"{ended.instance} was ended by {name}: {meaning}.",
                LIKELY,
                [status],
                unknown="Whether something else sent that signal can't be told.",
            )
        against = self._not_memory(ended) if number == 9 else []
        return Ending(
            ended,
            "killed",
            f"signal {number}",
            f"{ended.words}, which Triage did not send",
            f"{ended.words[:1].upper()}{ended.words[1:]} ended {ended.instance}, and Triage did not send it.",
            CERTAIN,
            [status, say.proof("The launcher keeps a list of the signals it sends; this one is not in it.", say.EXITS)],
            against,
            [
                Rival(
                    cause="a person or a program on this machine",
                    speaks_for=["any process of the same user or of root can"],
                ),
                Rival(cause="the app itself, or a child of it", speaks_for=["looks the same"]),
                *(
                    [Rival(cause="the kernel, for memory", against=[one.text for one in against])]
                    if number == 9
                    else []
                ),
            ],
            "Who sent it: a person, another program, a process of the app's own and the kernel look alike.",
        )

    def _not_memory(self, ended: Exit) -> list[Proof]:
        said = []
        if self.host is not None and self.host.oom_kills is not None:
            said.append(say.proof("The machine counted no out-of-memory kill at that time.", "host_report"))
        if ended.memory and ended.memory_limit and ended.memory < 0.8 * ended.memory_limit:
            text = f"Its memory was {units.size(ended.memory)} of {units.size(ended.memory_limit)}."
            said.append(say.proof(text, say.RINGS))
        return said

    def _programs(self) -> set[str]:
        """What the kernel may call its processes: it has room for 15 letters."""
        return {part.rpartition("/")[2][:15] for part in self.known.app.command}

    def _crash(self, ended: Exit, lines: list[str], status: Proof) -> Ending:
        name, meaning = CRASHES[ended.signal or 0]
        found, evidence, kinds = crash(lines), [status], 1
        thrown = uncaught(lines) if ended.signal == 6 else None
        if thrown is not None and thrown.runtime in ("dotnet", "native"):
            return self._thrown(ended, thrown.words, thrown.where, status, VERY_LIKELY)
        where = f" at {say.clean(found.where)}" if found and found.where else ""
        if found is not None:
            kinds += 1
            evidence.append(say.proof(f"It printed as it ended: {say.clean(found.words)}{where}.", say.OUTPUT))
        for event in self.events.events if self.events is not None else ():
            if event.kind != "segfault" or abs(event.at - ended.at) > 3.0 or ended.signal == 6:
                continue
            text = f"The kernel wrote: {say.clean(event.text, 200)}."
            if event.pid is None or event.pid in self._pids(ended.instance):
                kinds += 1
                evidence.append(say.proof(text, "host_events"))
                break
            if event.process and event.process in self._programs():  # a thread's own number, or another program's
                evidence.append(say.proof(f"{text} That may be a thread of it.", "host_events"))
        aborted = f": {say.clean(found.message, 100)}" if found and ended.signal == 6 else ""
        return Ending(
            ended,
            "native-crash",
            name,
            f"a crash ({name}){where}",
            f"{ended.instance} crashed in native code with {name}: {meaning}{aborted}{where}.",
            VERY_LIKELY,
            evidence,
            [],
            [
                Rival(
                    cause="the same signal, sent from outside",
                    speaks_for=["kill -SEGV looks the same in the status"],
                    against=[one.text for one in evidence[1:]],
                )
            ],
            "" if kinds > 1 else "Where it crashed: it printed nothing, and no line of the kernel could be read.",
        )

    # --- codes -------------------------------------------------------------------------------------

    def _thrown(self, ended: Exit, words: str, where: str, status: Proof, sure: Certainty) -> Ending:
        place = f" at {say.clean(where)}" if where else ""
        return Ending(
            ended,
            "uncaught-exception",
            f"{words.partition(':')[0]} {where}",
            f"an uncaught {say.clean(words, 100)}{place}",
            f"{ended.instance} ended with an error that nothing in it caught: {say.clean(words)}{place}.",
            sure,
            [status, say.proof(f"Its last words name it: {say.clean(words)}{place}.", say.OUTPUT)],
            unknown=""
            if sure == VERY_LIKELY
            else "Whether that error ended it, or was only the last thing it printed.",
        )

    def _by_code(self, ended: Exit) -> Ending:
        code, lines = ended.code or 0, self.lines(ended)
        status = say.proof(f"It ended with {ended.words} at {say.stamp(ended.at)}, {_after(ended)}.", say.EXITS)
        if code == 0:
            return self._of_own_will(ended, lines, status)
        error = uncaught(lines)
        if error is not None:
            usual = _CODES.get(error.runtime, ())
            sure: Certainty = VERY_LIKELY if code in usual and not _asked(lines) else LIKELY
            return self._thrown(ended, error.words, error.where, status, sure)
        if 128 < code < 160:
            return self._inner_signal(ended, code - 128, status)
        if asked := _asked(lines):
            return self._obeyed(ended, asked, status)
        said = last_words(lines)
        if said:
            return Ending(
                ended,
                "own-exit",
                f"code {code} {_plain(said)}",
                f"{ended.words}; last words: {say.clean(said, 100)}",
                f"{ended.instance} ended itself with {ended.words}, right after it printed: {say.clean(said)}.",
                VERY_LIKELY,
                [status, say.proof(f"Its last words: {say.clean(said)}.", say.OUTPUT)],
                unknown="Which line of it decided to end: no traceback was printed.",
            )
        last = [text for text in lines if text.strip()][-1:]
        printed = [say.proof(f"The last that it printed: {say.clean(last[0])}.", say.OUTPUT)] if last else []
        runtimes = any(code in codes for codes in _CODES.values())
        return Ending(
            ended,
            "own-exit",
            f"code {code}",
            ended.words,
            f"{ended.instance} ended itself with {ended.words}; no signal ended it, and Triage had not asked it to "
            f"end.",
            LIKELY if runtimes else CERTAIN,
            [status, *printed],
            [],
            [
                *(
                    [
                        Rival(
                            cause="an error that nothing caught, and whose text was lost",
                            speaks_for=["it gives the same code"],
                        )
                    ]
                    if runtimes
                    else []
                ),
                Rival(cause="a signal from elsewhere that it handles by ending so", speaks_for=["looks the same"]),
            ],
            "Why it did: it printed no error as it ended.",
        )

    def _inner_signal(self, ended: Exit, number: int, status: Proof) -> Ending:
        """Shells and containers tell so that what they ran was killed."""
        words = {9: "SIGKILL", 15: "SIGTERM", 11: "SIGSEGV", 6: "SIGABRT", 2: "SIGINT", 1: "SIGHUP"}.get(
            number, str(number)
        )
        command = self.known.app.command[:1]
        shell = bool(command) and command[0].rpartition("/")[2] in (
            "sh",
            "bash",
            "dash",
            "docker",
            "podman",
            "env",
            "timeout",
        )
        rivals = [
            Rival(
                cause="an exit code that it chose itself",
                against=["a shell or a container stands in its command"] if shell else [],
            )
        ]
        if number == 9:
            rivals.append(
                Rival(cause="the kernel, for memory within a container", speaks_for=["it gives the same code"])
            )
        return Ending(
            ended,
            "killed-inside",
            f"code {ended.code}",
            f"{ended.words}: what it ran was killed by {words}",
            f"What {ended.instance} runs was killed by signal {number} ({words}): with {ended.words} a shell or a "
            "container says so of its program.",
            LIKELY,
            [status],
            [],
            rivals,
            "Who sent that signal: the kernel for memory, a person and a program look alike.",
        )

    def _obeyed(self, ended: Exit, asked: str, status: Proof) -> Ending:
        return Ending(
            ended,
            "asked-to-end",
            "asked to end",
            "a signal from elsewhere, which it obeyed",
            f"{ended.instance} ended in order, as a signal told it to, and Triage did not send one: "
            f"{say.clean(asked)}.",
            LIKELY,
            [status, say.proof(f"It printed: {say.clean(asked)}.", say.OUTPUT)],
            unknown="Who sent that signal.",
        )

    def _of_own_will(self, ended: Exit, lines: list[str], status: Proof) -> Ending:
        if asked := _asked(lines):
            return self._obeyed(ended, asked, status)
        return Ending(
            ended,
            "ends-by-itself",
            "code 0",
            "exit code 0, of its own will",
            f"{ended.instance} ended of its own will with exit code 0; Triage had not asked it to.",
            LIKELY,
            [status],
            [],
            [
                Rival(
                    cause="a signal from elsewhere that it obeyed in order",
                    speaks_for=["gives exit code 0 as well"],
                    against=["it printed nothing of a signal"] if lines else [],
                )
            ],
            "Why: servers that end after some number of requests do this, and main programs that run to their end.",
        )


def _asked(lines: list[str]) -> str:
    """The last line that tells of a signal to end; a crash is none."""
    return next((text for text in reversed(lines) if _ASKED.search(text) and not _CRASHED.search(text)), "")


def _after(ended: Exit) -> str:
    return f"after {units.duration(ended.lasted)}"


def _plain(text: str) -> str:
    """Without numbers: the same words of another time."""
    return re.sub(r"[0-9a-fx]*\d[\w.:-]*", "#", text)[:80]
