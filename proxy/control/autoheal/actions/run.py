"""Run a command of the operator's."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import deque
from typing import Final

from proxy.config.conditions import Step
from proxy.control.autoheal.firing import Bench, Failed

BOUND: Final = 30.0
GRACE: Final = 2.0
LINES: Final = 20
LINE: Final = 300
"""Lines of output that are kept, and characters of each."""


class Run:
    name = "run"
    about = (
        '`{ run = ["command", "argument"] }`: an argument list, no shell, in the config file\'s folder, with Triage\'s'
        " own rights. TRIAGE_APP, TRIAGE_INSTANCE (empty for the app as a whole), TRIAGE_RULE, TRIAGE_REASON and"
        f" TRIAGE_VALUE (what the rule saw) are in its environment. After {BOUND:.0f} s it is killed with all that it"
        f" started. Its last {LINES} lines are kept; an exit code other than 0 is a failure."
    )
    bound = BOUND + GRACE + 5.0

    def __init__(self, limit: float = BOUND) -> None:
        self.limit = limit

    async def run(self, bench: Bench, step: Step) -> str:
        firing = bench.firing
        env = {
            **os.environ,
            "TRIAGE_APP": firing.app,
            "TRIAGE_INSTANCE": firing.instance,
            "TRIAGE_RULE": firing.rule,
            "TRIAGE_REASON": firing.reason,
            "TRIAGE_VALUE": firing.value,
        }
        path = bench.shared.plan["config_path"]
        try:
            process = await asyncio.create_subprocess_exec(
                *step.run,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                cwd=os.path.dirname(os.path.abspath(path)) if path else None,
                env=env,
                start_new_session=True,
                limit=65536,
            )
        except OSError as error:
            raise Failed(f"{step.run[0]}: {error.strerror or error}") from None
        lines: deque[str] = deque(maxlen=LINES)
        assert process.stdout is not None
        reading = asyncio.ensure_future(_read(process.stdout, lines))
        try:
            async with asyncio.timeout(self.limit):
                code: int | None = await process.wait()
        except TimeoutError:
            code = None
        finally:
            _kill(process.pid)  # what it left running too: nothing outlives a rule's action
            await asyncio.wait((reading, asyncio.ensure_future(process.wait())), timeout=GRACE)
            reading.cancel()
        said = " | ".join(lines)
        if code is None:
            raise Failed(f"not over within {self.limit:.0f} s, killed{f': {said}' if said else ''}")
        if code:
            how = f"exit code {code}" if code > 0 else f"signal {-code}"
            raise Failed(f"{how}{f': {said}' if said else ''}")
        return f"exit code 0{f': {said}' if said else ''}"


async def _read(stream: asyncio.StreamReader, lines: deque[str]) -> None:
    rest = b""
    while data := await stream.read(8192):
        *whole, rest = (rest + data).split(b"\n")
        rest = rest[-LINE:]
        lines.extend(line[:LINE].decode("utf-8", "replace") for line in whole if line.strip())
    if rest.strip():
        lines.append(rest.decode("utf-8", "replace"))


def _kill(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


ACTION = Run()
