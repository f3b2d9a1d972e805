"""A command of the operator's: an argument list, no shell, as Triage's user; the message is its input, as JSON."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from typing import Final

import orjson

from proxy import masking
from proxy.config import Notify
from proxy.control.alerts.message import Message
from proxy.control.alerts.notifiers.contract import Failed, Notifier, Place

BOUND: Final = 30.0
"""Seconds; then it is killed with all that it started."""
GRACE: Final = 2.0
"""Seconds for what it has written to be read, after its end."""
KEPT: Final = 300
"""Bytes of what it said last."""


class Command:
    limit = BOUND

    def __init__(self, arguments: tuple[str, ...], folder: str, limit: float = BOUND) -> None:
        self.target = " ".join(masking.arguments(arguments))
        self.limit = limit
        self._arguments = arguments
        self._folder = folder

    async def send(self, message: Message) -> str:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                cwd=self._folder or None,
                env={**os.environ, **environment(message)},
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise Failed(f"it did not start: {getattr(error, 'strerror', None) or error}") from None
        last = bytearray()
        talk = asyncio.gather(_write(process, orjson.dumps(message.json()) + b"\n"), _read(process, last))
        try:
            code = await process.wait()
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)  # what it left running too
            await asyncio.wait((talk, asyncio.ensure_future(process.wait())), timeout=GRACE)
            talk.cancel()
        text = " ".join(masking.text(last.decode("utf-8", "replace")).split())
        said = f": {text}" if text else ""
        if code:
            raise Failed(f"{f'exit code {code}' if code > 0 else f'signal {-code}'}{said}")
        return f"exit code 0{said}"


def make(name: str, notify: Notify, place: Place) -> Notifier:
    assert notify.command is not None
    return Command(notify.command, place.folder)


def environment(message: Message) -> dict[str, str]:
    """What a short script wants without reading JSON."""
    found = {
        "ID": message.name, "EVENT": message.kind, "STATE": "open" if message.open else "closed",
        "INCIDENT": message.incident, "SCOPE": message.scope, "APP": message.app, "SEVERITY": message.severity,
        "SIGNAL": message.signal, "TITLE": message.title, "CAUSE": message.cause, "SUMMARY": message.summary,
        "LINK": message.link, "COMMAND": message.command,
    }  # fmt: skip
    return {f"TRIAGE_{name}": value.replace("\0", "") for name, value in found.items()}


async def _write(process: asyncio.subprocess.Process, data: bytes) -> None:
    assert process.stdin is not None
    with suppress(ConnectionError):  # it does not read its input, as it may
        process.stdin.write(data)
        await process.stdin.drain()
        process.stdin.close()


async def _read(process: asyncio.subprocess.Process, last: bytearray) -> None:
    assert process.stdout is not None
    while data := await process.stdout.read(8192):
        last += data
        del last[:-KEPT]
