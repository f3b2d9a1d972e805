"""The one route table of the admin API: what is served, checked and described.

Conventions
  - All JSON. Times are UTC, ISO 8601 with `Z`; durations end in `_ms` or `_s`; sizes are bytes. A timing that was
    not reached is absent.
  - A list answers `{"items": [...], "next": cursor or null}`; each item has its `id`. `next` goes into `cursor`.
  - An error is RFC 9457 (`application/problem+json`): `type`, `title`, `status`, `detail`, `hint`.
  - An act takes a JSON object (`{}` will do) and answers 202 with an operation, followed at `operations/{id}`.

Everything but `/healthz` and `/readyz` needs `Authorization: Bearer TOKEN` (data_dir/admin.token) over TCP; over the
Unix socket, its owner, root and the group `triage` need none.
"""

from __future__ import annotations

from typing import Final

import proxy.admin.events as e
import proxy.admin.handlers as h
import proxy.admin.operations as p
import proxy.admin.overview as o
from proxy.admin import acts, autoheal, login
from proxy.admin.examples import (
    APP,
    APP_WHY,
    EVENT,
    FIRING,
    GATEWAY,
    INSTANCE,
    OPERATION,
    RELOAD,
    REPLAY,
    REQUEST,
    RULES,
    WHY,
)
from proxy.admin.fields import Field
from proxy.admin.routing import Route
from proxy.admin.upgrade import upgrade

_PAGE: Final = {"limit": "most items, 1 to 1000; default 100", "cursor": "the `next` of the page before"}
_REQUEST_FILTERS: Final = {
    "app": "name of an app",
    "instance": "name of an instance",
    "method": "GET, POST, …",
    "fault": "name of a fault, or `any`",
    "status": '"502", "5xx", "500-599", ">=500" or several with commas',
    "slower": 'took longer in total: "1s", "250ms"',
    "path": "beginning of the path, or a pattern with * and ?",
    "since": 'how far back ("5m"), or a time (ISO 8601, or Unix seconds)',
    **_PAGE,
}

_ACT: Final = {
    "reason": Field("why, for the events; default: by hand", "reason"),
    "preview": Field('do nothing, and answer 200 with `will`, lines, and `at_stake`, a flag', "flag"),
}
_ENDING: Final = {**_ACT, "collect": Field("take evidence before an instance ends; default: true", "flag")}
_LASTING: Final = {**_ACT, "for": Field('so long ("10m", or seconds); default: until it is ended by hand', "duration")}

ROUTES: Final[tuple[Route, ...]] = (
    Route("GET", "/healthz", o.healthz, "The gateway lives.", {"status": "ok"}, open=True),
    Route(
        "GET", "/readyz", o.readyz,
        "Listening, routing loaded, at least one app can be served, not draining. 503 with `reasons` when not.",
        {"ready": True, "reasons": []}, params={"app": "only this app"}, open=True,
    ),
    Route(
        "GET", "/metrics", o.exposition, "For Prometheus. Needs the token unless admin.metrics is true.",
        "# HELP triage_requests_total …", content="text/plain",
    ),
    Route(
        "POST", "/login", login.login, "Log a browser in with the token: 204 and a cookie for 12 hours.", None,
        body={"token": Field("the admin token")}, status=204, open=True,
    ),
    Route(
        "GET", "/login", login.follow, "Where a link of login-links leads: to its page, with a cookie.", None,
        params={"code": "of the link; it works once"}, status=303, open=True, content="text/html",
    ),
    Route("POST", "/logout", login.logout, "End the browser's login.", None, status=204, open=True),
    Route(
        "POST", "/api/v1/login-links", login.link, "An address that logs a browser in, once, within a minute.",
        {"url": "http://127.0.0.1:9900/login?code=…", "expires_s": 60.0},
        body={"to": Field("where it leads; default: #/", "text")},
    ),
    Route(
        "GET", "/api/v1/status", o.status, "The whole gateway, the verdict first.",
        {"verdict": APP["verdict"], "state": "degraded", "gateway": GATEWAY, "apps": [APP]},
    ),
    Route(
        "GET", "/api/v1/environment", o.environment, "Versions, machine, limits of this process; secrets masked.",
        {"version": "0.1.0", "python": "3.11.9", "kernel": "6.1.0", "cpus": 4, "memory": 8589934592,
         "limits": {"descriptors": [1048576, 1048576]}, "packages": {"uvloop": "0.23.0"}, "environment": {"LANG": "C"}},
    ),
    Route(
        "GET", "/api/v1/config", o.config, "The config in force, with defaults; secrets masked.",
        {"path": "/etc/triage/config.toml", "loaded": "2026-01-05T01:00:00.000Z", "error": "", "config": {"apps": {}}},
    ),
    Route(
        "POST", "/api/v1/config/check", o.config_check,
        "Check a config without using it: `text`, or the file at `path`, or the present file.",
        {"ok": False, "problems": ['config.toml:44: apps.web.health.intervall: unknown key - did you mean "interval"?'],
         "warnings": [], "not_yet": []},
        body={"text": Field("TOML"), "path": Field("a path on the gateway's machine")},
    ),
    Route(
        "POST", "/api/v1/config/reload", o.config_reload,
        "Read the config file again and apply it. A bad file changes nothing: 422 with `problems`.",
        RELOAD, status=202, body={"reason": _ACT["reason"]},
    ),
    Route(
        "POST", "/api/v1/upgrade", upgrade,
        "Control, workers and launcher become the code now on disk, one after the other; instances go on.",
        OPERATION, status=202, body=_ACT,
    ),
    Route("GET", "/api/v1/apps", h.apps, "All apps.", {"items": [APP], "next": None}),
    Route("GET", "/api/v1/apps/{app}", h.app, "One app.", APP),
    Route("GET", "/api/v1/apps/{app}/why", h.app_why, "How the app is now, and why.", APP_WHY),
    Route(
        "GET", "/api/v1/apps/{app}/instances", h.instances, "The app's instances.",
        {"items": [INSTANCE], "next": None},
    ),
    Route(
        "GET", "/api/v1/apps/{app}/instances/{instance}", h.instance,
        "One instance, with its way through the lifecycle and its last lines of output.",
        {**INSTANCE, "last_lines": ["03:07:35.412 err  INFO export tenant=88"],
         "path": [{"time": "2026-01-05T02:49:43.240Z", "lifecycle": "ready", "why": ""}]},
    ),
    Route(
        "GET", "/api/v1/apps/{app}/instances/{instance}/logs", h.instance_logs,
        "Its last lines of output, at most 200.",
        {"items": [{"id": "1", "time": "2026-01-05T03:07:35.412Z", "stream": "err", "line": "INFO export"}],
         "next": None},
        params={"limit": "most lines, 1 to 200; default 200"},
    ),
    Route(
        "GET", "/api/v1/apps/{app}/instances/{instance}/stacks", h.instance_stacks, "What it runs at this moment.",
        {"id": "web-7", "time": "2026-01-05T03:07:35.412Z", "stacks": "Thread 1 …"},
    ),
    Route(
        "POST", "/api/v1/apps/{app}/restart", acts.of_app("restart"),
        "Recycle each of its instances, rolling: a fresh one is ready before an old one drains.",
        OPERATION, status=202, body=_ENDING,
    ),
    Route(
        "POST", "/api/v1/apps/{app}/start", acts.of_app("start"),
        "End a stop by hand, and try failed instances at once.", OPERATION, status=202, body=_ACT,
    ),
    Route(
        "POST", "/api/v1/apps/{app}/stop", acts.of_app("stop"),
        "Let its instances finish and end; new requests are answered 503 `stopped`.",
        OPERATION, status=202, body=_LASTING,
    ),
    Route(
        "POST", "/api/v1/apps/{app}/hold", acts.of_app("hold"),
        "Its new requests wait in the queue, as long as queue.timeout lets them.",
        OPERATION, status=202, body=_LASTING,
    ),
    Route(
        "POST", "/api/v1/apps/{app}/release", acts.of_app("release"), "End a hold.",
        OPERATION, status=202, body=_ACT,
    ),
    Route(
        "POST", "/api/v1/apps/{app}/scale", acts.scale,
        "How many instances, and how much each may use; the latter by a rolling recycle.",
        OPERATION, status=202,
        body={
            "instances": Field("how many; kept until `auto`", "count"),
            "auto": Field("true: as config and scaling rules say again", "flag"),
            "memory": Field('of each instance: "1GB", bytes, or "auto" for what the config says', "size"),
            "cpus": Field('cores of each instance, or "auto" for what the config says', "cores"),
            **_LASTING, **_ENDING,
        },
    ),
    Route(
        "POST", "/api/v1/apps/{app}/autoheal", acts.autoheal, "Switch its rules off or on.",
        OPERATION, status=202,
        body={
            "enabled": Field("false: rules only say what they would do", "flag"),
            **_LASTING,
        },
    ),
    Route(
        "GET", "/api/v1/autoheal", autoheal.autoheal, "The rules of all apps, and how far each is from a firing.",
        {"items": [RULES], "next": None},
    ),
    Route(
        "POST", "/api/v1/autoheal/replay", autoheal.replay,
        "Run a rule over what was recorded: when it would have fired, or how near it came.", REPLAY,
        body={
            "app": Field("name of an app"),
            "rule": Field("name of one of its rules, or one that is not in the config, as an object", "rule"),
            "since": Field('how far back ("2h"), or a time; default: 24h'),
        },
    ),
    Route(
        "GET", "/api/v1/apps/{app}/autoheal", autoheal.of_app,
        "Its rules, how far each is from a firing, and what they did or would have done.",
        {**RULES, "history": [FIRING], "history_problem": ""}, params={"limit": "most of the history, 1 to 200"},
    ),
    Route(
        "POST", "/api/v1/apps/{app}/instances/{instance}/recycle", acts.of_instance("recycle"),
        "Replace it by a fresh one, which is ready before it drains.", OPERATION, status=202, body=_ENDING,
    ),
    Route(
        "POST", "/api/v1/apps/{app}/instances/{instance}/eject", acts.eject, "The balancer shall not pick it.",
        OPERATION, status=202,
        body={"force": Field("also when no other gets requests", "flag"), **_LASTING},
    ),
    Route(
        "POST", "/api/v1/apps/{app}/instances/{instance}/admit", acts.of_instance("admit"),
        "End an ejection, whoever made it.", OPERATION, status=202, body=_ACT,
    ),
    Route(
        "GET", "/api/v1/requests", h.requests, "Kept requests, newest first.", {"items": [REQUEST], "next": None},
        params=_REQUEST_FILTERS,
    ),
    Route(
        "GET", "/api/v1/requests/{id}", h.request,
        "One request, by any unambiguous start of its id or by the client's own X-Request-ID. 404 names what is known.",
        REQUEST,
    ),
    Route(
        "GET", "/api/v1/requests/{id}/why", h.request_why,
        "Why it ended so. `{id}` may also be `latest`: the newest request that ended in a 5xx of ours or the app's.",
        WHY,
    ),
    Route(
        "GET", "/api/v1/events", e.events,
        "What happened, newest first. With `follow=true` as it happens, as server-sent events (`event`, and `dropped` "
        "where some were lost); Last-Event-ID goes on after that one.",
        {"items": [EVENT], "next": None},
        params={
            "since": _REQUEST_FILTERS["since"], "app": "name of an app", "instance": "name of an instance",
            "kind": "kind of event", "follow": "true: go on without end", **_PAGE,
        },
    ),
    Route(
        "GET", "/api/v1/metrics", o.metrics, "Every metric of /metrics, with unit and meaning.",
        {"items": [{"id": "triage_requests_total", "type": "counter", "unit": "requests", "meaning": "…",
                    "labels": ["app", "instance", "class"]}], "next": None},
    ),
    Route(
        "GET", "/api/v1/operations", p.operations, "Acts, newest first: those under way and those that ended.",
        {"items": [OPERATION], "next": None},
        params={"app": "name of an app", "running": "true: only those under way", **_PAGE},
    ),
    Route(
        "GET", "/api/v1/operations/{id}", p.operation,
        "One act. With `wait` the answer comes as soon as there is another step, or it has ended.", OPERATION,
        params={"wait": 'at most so long: "30s", 60 s at most', "seen": "`told` of the answer before; default: all"},
    ),
    Route("GET", "/api/v1/openapi.json", o.openapi, "This table, as OpenAPI 3.1.", {"openapi": "3.1.0"}),
)  # fmt: skip
