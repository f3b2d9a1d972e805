"""Handlers of the gateway as a whole: health, status, config, metrics, acts. As in handlers.py, none holds the loop."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import psutil
from aiohttp import ETag, web

from proxy import config as configs
from proxy.admin import acts, mending, reference, views
from proxy.admin import openapi as openapi_document
from proxy.admin.callers import require
from proxy.admin.common import answer, look, no_app, whole_app, whole_verdict
from proxy.admin.errors import ApiProblem, dumps
from proxy.admin.incidents import brief
from proxy.admin.keys import GATEWAY, LISTENING, TABLE
from proxy.admin.notices import notices
from proxy.control.operations import BY_HAND
from proxy.control.reload import problems as problem_lines
from proxy.control.state import AppState

if TYPE_CHECKING:
    from proxy.control.gateway import Gateway

MOST_CONFIG: Final = 1 << 20


# --- open without a token ----------------------------------------------------------------------------


async def healthz(request: web.Request) -> web.Response:
    return answer({"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    gateway = request.app[GATEWAY]
    reasons = []
    if gateway.stopping:
        reasons.append("it is draining")
    if not any(worker.state == "alive" and worker.acked for worker in gateway.workers):
        reasons.append("no worker has its routing yet")
    name = request.query.get("app")
    if name is not None:
        state = gateway.apps.get(name)
        if state is None:
            raise no_app(gateway, name, known=False)
        if not _servable(state):
            reasons.append(f"{name} cannot be served")
    elif not any(map(_servable, gateway.apps.values())):
        reasons.append("no app can be served")
    return answer({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)


def _servable(state: AppState) -> bool:
    """Now, or as soon as a planned act has its replacement ready: until then requests wait."""
    return state.state == "up" and (bool(state.serving) or state.gap > 0)


# --- the gateway -------------------------------------------------------------------------------------


async def status(request: web.Request) -> web.Response:
    gateway = request.app[GATEWAY]
    seen = await look(gateway)
    whole = whole_verdict(gateway, views.verdicts(seen, gateway.apps))
    is_it, words = gateway.incidents.is_it()
    check = gateway.self_check.last
    return answer(
        {
            "verdict": whole.line,
            "state": whole.state,
            "is_it": is_it,
            "is_it_words": words,
            "self_check": {"ok": check.ok, "ms": check.ms, "words": check.words, "time": views.iso(check.at)},
            "incidents": [brief(one) for one in gateway.incidents.open.values()],
            "gateway": _gateway(gateway, seen, request.app[LISTENING]),
            "apps": [await whole_app(gateway, seen, state) for state in list(gateway.apps.values())],
        }
    )


def _gateway(gateway: Gateway, seen: views.Look, listening: list[str]) -> dict[str, Any]:
    refused = next((event for event in reversed(gateway.events.ring) if event.kind.startswith("reload")), None)
    loaded = next((event.at for event in reversed(gateway.events.ring) if event.kind == "reload"), gateway.started_at)
    requests = sum(found.requests for found in seen.sums.apps.values())
    own = sum(found.own_sum for found in seen.sums.apps.values())
    return {
        "version": gateway.version,
        "pid": gateway.launcher_pid,
        "launcher": {"pid": gateway.launcher_pid, "release": gateway.upgrade.release, "execs": gateway.upgrade.execs},
        "started": views.iso(_began(gateway.launcher_pid) or gateway.started_at),
        "uptime_s": round(seen.now - (_began(gateway.launcher_pid) or gateway.started_at), 3),
        "control": {"pid": os.getpid(), "started": views.iso(gateway.started_at)},
        "draining": gateway.stopping,
        "listen": [
            _url(gateway, one["kind"], one["host"], one["port"], one["path"], one["name"]) for one in gateway.listeners
        ],
        "admin": next((url for url in listening if url.startswith("http")), listening[0] if listening else ""),
        "data_dir": str(gateway.data_dir),
        "config": {
            "path": gateway.config_path,
            "loaded": views.iso(loaded),
            "error": refused.text if refused is not None and refused.kind == "reload-refused" else "",
        },
        "workers": [views.worker(worker) for worker in gateway.workers],
        "requests_per_s": round(sum(found.per_second for found in seen.sums.apps.values()), 2),
        "own_ms": views.millis(own / requests) if requests else None,
        "control_lag_ms": views.millis(gateway.lag),
        "notices": list(notices(gateway)),
    }


def _url(gateway: Gateway, kind: str, host: str, port: int, path: str, name: str) -> str:
    if kind == "unix":
        return f"unix:{path}"
    scheme = "https" if name in gateway.worker_set.tls else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def _began(pid: int) -> float:
    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return 0.0


async def config(request: web.Request) -> web.Response:
    data = dumps(await _in_force(request))
    response = web.Response(body=data, content_type="application/json")
    response.etag = tag = _tag(data)
    if request.if_none_match is not None and _names(request.if_none_match, tag):
        return web.Response(status=304, headers={"ETag": response.headers["ETag"]})
    return response


async def _in_force(request: web.Request) -> dict[str, Any]:
    gateway = request.app[GATEWAY]
    shown = await asyncio.to_thread(configs.shown, gateway.config)
    about = _gateway(gateway, await look(gateway), request.app[LISTENING])["config"]
    return {**about, "config": shown}


def _tag(body: bytes) -> ETag:
    """Of what is shown, masked as it is: a secret cannot be guessed by it. `loaded` tells two of them apart."""
    return ETag(hashlib.sha256(body).hexdigest()[:20])


def _names(tags: tuple[ETag, ...], tag: ETag) -> bool:
    return any(one.value in ("*", tag.value) for one in tags)


async def _unchanged(request: web.Request) -> None:
    """Raises ApiProblem where If-Match says that the caller has seen another config than the one in force."""
    if request.if_match is None:
        return
    tag = _tag(dumps(await _in_force(request)))
    if not any(one.value in ("*", tag.value) and not one.is_weak for one in request.if_match):
        raise ApiProblem(
            412, "changed", "The config in force is not the one you have seen", "If-Match names another one.",
            "GET /api/v1/config has it, and its ETag.", headers={"ETag": f'"{tag.value}"'},
        )  # fmt: skip


async def config_check(request: web.Request) -> web.Response:
    await _unchanged(request)
    gateway = request.app[GATEWAY]
    body = request["body"]
    if body.get("path"):  # problems quote the file, which may be any that Triage can read
        require(request, "admin", "Checking a file by its path")
    path = body.get("path") or gateway.config_path
    text = body.get("text")
    environ: Mapping[str, str] = os.environ
    if body.get("path") or text is not None:  # what is wrong is told with its value: no secret is to be had so
        environ = {name: configs.masked(name, value) for name, value in os.environ.items()}
    elif gateway.run_mode:
        text = gateway.config_text

    def check() -> dict[str, Any]:
        try:
            if text is None and (refused := _unreadable(path)):
                return {"ok": False, "problems": [f"{path}: {refused}"], "warnings": []}
            read = configs.parse(text, path, environ) if text is not None else configs.load(path, environ)
        except configs.ConfigProblems as error:
            return {"ok": False, "problems": problem_lines(error), "warnings": []}
        return {"ok": True, "problems": [], "warnings": configs.warnings(read)}

    return answer(await asyncio.to_thread(check))


def _unreadable(path: str) -> str:
    """Why a file is not opened to be checked: a pipe would hold the thread, a device would never end."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return ""  # reading says it better
    if not stat.S_ISREG(found.st_mode):
        return "is not a plain file"
    return f"has more than {MOST_CONFIG:,} bytes" if found.st_size > MOST_CONFIG else ""


async def config_reload(request: web.Request) -> web.Response:
    gateway = request.app[GATEWAY]
    if gateway.run_mode:
        raise ApiProblem(
            409, "no-config-file", "There is no config file to read again",
            "This is `triage run`: its config was made from the command line.",
            "triage run --print-config prints the equal file; triage serve -c FILE can be reloaded.",
        )  # fmt: skip
    await _unchanged(request)
    reason = request["body"].get("reason") or BY_HAND
    began = time.time()
    result = await gateway.reload(None, f"hand ({request['way']})", reason)
    steps = (result.changes or ["nothing differs"]) if result.ok else ["refused: nothing was changed"]
    more = {"problems": result.problems, "changes": result.changes, "next_start": result.next_start}
    why = "" if result.ok else "the config has problems"
    made = gateway.operations.record("reload", "config", acts.asked(request), began, steps, why=why, **more)
    done = {**mending.operation(made), **more}
    if not result.ok:
        raise ApiProblem(
            422, "config-refused", "The config was refused; nothing was changed",
            f"{len(result.problems)} problem{'' if len(result.problems) == 1 else 's'}.",
            "triage check prints them too, without reloading.", problems=result.problems, operation=done["id"],
        )  # fmt: skip
    return answer(done, 202)


# --- lists and the table itself -----------------------------------------------------------------------


async def openapi(request: web.Request) -> web.Response:
    table = request.app[TABLE]
    return answer(await asyncio.to_thread(openapi_document.document, table))


async def docs(request: web.Request) -> web.Response:
    table = request.app[TABLE]
    page = await asyncio.to_thread(reference.page, table)
    policy = f"default-src 'none'; style-src '{reference.STYLE_HASH}'; base-uri 'none'; form-action 'none'; "
    headers = {"Content-Security-Policy": policy + "frame-ancestors 'none'"}
    return web.Response(text=page, content_type="text/html", headers=headers)
