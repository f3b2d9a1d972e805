"""A folder as a zip, and a zip unpacked over a folder; the work is done by a process of its own (packing.py)."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from contextlib import suppress
from pathlib import Path as FilePath
from typing import Any, Final, NoReturn

import orjson
from aiohttp import web

import proxy
from proxy import units
from proxy.admin.common import answer
from proxy.admin.console import transfer, walk
from proxy.admin.console.desk import Descriptor, Desk, path_of, writable
from proxy.admin.console.roots import Closed
from proxy.admin.errors import ApiProblem

PREFIX: Final = "/api/v1/zip/"
WITHIN: Final = 600.0
"""Seconds for one zip, the client's slowness included."""
LEAVE: Final = 5.0
"""Seconds for the process to tidy up when it is ended."""
MOST_SAID: Final = 1 << 16
BUSY: Final = "5"


async def get(request: web.Request, desk: Desk) -> web.StreamResponse:
    """All plain files of a folder, and of those in it."""
    path = path_of(request, PREFIX)
    closed = await desk.closed()
    folder = await desk.thread(lambda: Descriptor(walk.descend(path, path.names, closed)))
    name = path.names[-1] if path.names else path.root.name.encode()
    headers = {"Content-Disposition": transfer.disposition(name, ".zip"), "Content-Type": "application/zip",
               "Content-Security-Policy": transfer.POLICY}  # fmt: skip
    try:
        if request.method == "HEAD":
            return web.Response(headers=headers)
        if desk.packing.locked():
            raise _busy()
        async with desk.packing:
            prefix = re.sub(r"[\\/]", "_", walk.shown(name)) + "/"
            size = await _pack(request, headers, _task("pack", folder, None, closed, desk, prefix))
    finally:
        folder.close()
    desk.note(request, f"took {path.shown} as a zip, {size:,} bytes", path=path.shown, size=size)
    return request["zip"]  # type: ignore[no-any-return]


async def _pack(request: web.Request, headers: dict[str, str], task: dict[str, Any]) -> int:
    process = await _start(task, asyncio.subprocess.PIPE)
    assert process.stdout is not None
    size = 0
    try:
        data = await _first(process)
        response = request["zip"] = web.StreamResponse(headers=headers)
        await response.prepare(request)
        with transfer.cut(request):
            async with asyncio.timeout(WITHIN):
                while data:
                    size += len(data)
                    async with asyncio.timeout(transfer.STUCK):
                        await response.write(data)
                    data = await process.stdout.read(transfer.PIECE)
            if await process.wait():
                raise TimeoutError("the zip is not whole")
            await response.write_eof()
        return size
    finally:
        await asyncio.shield(_end(process))


async def _first(process: asyncio.subprocess.Process) -> bytes:
    """Its first bytes. Raises ApiProblem where there are none."""
    assert process.stdout is not None
    try:
        async with asyncio.timeout(WITHIN):
            return await process.stdout.read(transfer.PIECE) or _raise(await _refusal(process))
    except TimeoutError:
        raise ApiProblem(503, "too-slow", "The folder could not be looked at in time",
                         f"Not within {units.write_duration(WITHIN)}.") from None  # fmt: skip


def _raise(problem: ApiProblem) -> NoReturn:
    raise problem


async def put(request: web.Request, desk: Desk) -> web.StreamResponse:
    """Unpack the content over a folder: files there are replaced, none is removed."""
    path = path_of(request, PREFIX)
    writable(path)
    closed = await desk.closed()
    most = desk.gateway.config.admin.upload
    folder = await desk.thread(lambda: Descriptor(walk.descend(path, path.names, closed)))
    key = (path.root.name, path.names)
    try:
        if key in desk.busy or desk.packing.locked():
            raise _busy()
        desk.busy.add(key)
        try:
            taken = await transfer.take(request, desk, folder, path, most)
            try:
                async with desk.packing:
                    done = await _unpack(_task("unpack", folder, taken.file, closed, desk, ""))
            finally:
                await transfer.drop(desk, folder, taken)
        finally:
            desk.busy.discard(key)
    finally:
        folder.close()
    words = f"{done['files']:,} files, of which {done['replaced']:,} were there before; {units.size(done['bytes'])}"
    desk.note(request, f"unpacked a zip over {path.shown}: {words}", path=path.shown, **done)
    return answer({"id": path.shown, "path": path.shown, "href": path.href, "words": words, **done})


async def _unpack(task: dict[str, Any]) -> dict[str, Any]:
    process = await _start(task, asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(WITHIN):
            said = await process.stdout.read(MOST_SAID)
            if not said:
                raise await _refusal(process)
            done: dict[str, Any] = orjson.loads(said)
            return done
    except TimeoutError:
        raise ApiProblem(503, "too-slow", "The zip could not be unpacked in time",
                         f"Not within {units.write_duration(WITHIN)}; files may have their place already.") from None
    finally:
        await asyncio.shield(_end(process))


def _task(
    act: str, folder: Descriptor, archive: Descriptor | None, closed: Closed, desk: Desk, prefix: str
) -> dict[str, Any]:
    ids = [*closed.files, *([closed.data] if closed.data is not None else [])]
    return {
        "act": act, "folder": folder.fd, "archive": archive.fd if archive is not None else -1,
        "most": desk.gateway.config.admin.upload, "closed": [list(one) for one in ids], "prefix": prefix,
    }  # fmt: skip


async def _start(task: dict[str, Any], stdout: int) -> asyncio.subprocess.Process:
    env = {"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": str(FilePath(proxy.__file__).parent.parent),
           "LANG": "C.UTF-8"}  # fmt: skip
    fds = [fd for fd in (task["folder"], task["archive"]) if fd >= 0]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "proxy.admin.console.packing", stdin=asyncio.subprocess.PIPE, stdout=stdout,
        stderr=asyncio.subprocess.PIPE, pass_fds=fds, env=env, cwd="/", start_new_session=True,
        limit=transfer.PIECE,
    )  # fmt: skip
    assert process.stdin is not None
    with suppress(ConnectionError):
        process.stdin.write(orjson.dumps(task))
        process.stdin.close()
    return process


async def _refusal(process: asyncio.subprocess.Process) -> ApiProblem:
    """Why it did nothing."""
    assert process.stderr is not None
    said = await process.stderr.read(MOST_SAID)
    code = await process.wait()
    try:
        told = orjson.loads(said)
        return ApiProblem(told["status"], told["kind"], told["title"], told["detail"], told["hint"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return ApiProblem(500, "packing-failed", "The process that packs failed", f"It ended with {code}.")


async def _end(process: asyncio.subprocess.Process) -> None:
    """It tidies up what it began; where it does not, it is killed."""
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    with suppress(TimeoutError):
        async with asyncio.timeout(LEAVE):
            await process.wait()
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _busy() -> ApiProblem:
    return ApiProblem(429, "packing", "Others are being packed or unpacked", hint="Ask again in a moment.",
                      headers={"Retry-After": BUSY})  # fmt: skip
