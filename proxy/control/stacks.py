"""Stacks of a Python process, by py-spy in a process of its own: it reads the other's memory.

It stops the process for that only where py_spy.ways says so, as the collector of stacks does.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Final

from proxy import py_spy
from proxy.control.sampling import read_stat

LIMIT: Final = 10.0
KEPT: Final = 20
"""Files; the oldest go."""


class NoStacks(Exception):
    """Why they could not be taken."""


async def stacks(pid: int, limit: float = LIMIT) -> str:
    """py-spy's text: every thread, innermost call first. `limit`: seconds, of all tries. Raises NoStacks, OSError."""
    program = py_spy.program()
    if program is None:
        raise NoStacks(py_spy.MISSING)
    stat = read_stat(pid)
    why = ""
    try:
        async with asyncio.timeout(limit):
            for stop in py_spy.ways(stat.threads if stat is not None else 1):
                code, out, errors = await _run(py_spy.dump(program, pid, stop=stop))
                if code == 0:
                    return out
                why = py_spy.reason(errors, code)
                if not py_spy.passing(why):
                    break
    except TimeoutError:
        raise NoStacks(f"py-spy gave no answer within {limit:g} s") from None
    raise NoStacks(f"py-spy: {why}")


async def _run(command: list[str]) -> tuple[int, str, str]:
    """Its code, output and errors. It ends with who waits for it."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        out, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, out.decode("utf-8", "replace"), errors.decode("utf-8", "replace")


async def save_stacks(pid: int, name: str, data_dir: Path) -> Path | None:
    """Take them and keep them under data_dir/stacks; None when they could not be taken."""
    try:
        text = await stacks(pid)
    except (NoStacks, OSError):
        return None
    path = data_dir / "stacks" / f"{name}-{pid}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.txt"
    try:
        await asyncio.to_thread(_write, path, text)
    except OSError:
        return None
    return path


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    for old in sorted(path.parent.iterdir(), key=lambda one: one.stat().st_mtime)[:-KEPT]:
        old.unlink(missing_ok=True)
