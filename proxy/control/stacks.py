"""Stacks of a Python process, by py-spy in a process of its own: it reads the other's memory and stops it shortly."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Final

from proxy import py_spy

LIMIT: Final = 10.0
KEPT: Final = 20
"""Files; the oldest go."""


class NoStacks(Exception):
    """Why they could not be taken."""


async def stacks(pid: int, limit: float = LIMIT) -> str:
    """py-spy's text: every thread, innermost call first. Raises NoStacks."""
    program = py_spy.program()
    if program is None:
        raise NoStacks("py-spy is not installed")
    process = await asyncio.create_subprocess_exec(
        program, "dump", "--pid", str(pid), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(limit):
            out, errors = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise NoStacks(f"py-spy gave no answer within {limit:g} s") from None
    if process.returncode != 0:
        raise NoStacks(f"py-spy: {py_spy.reason(errors.decode('utf-8', 'replace'), process.returncode or 0)}")
    return out.decode("utf-8", "replace")


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
