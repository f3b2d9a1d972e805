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

import proxy.admin.handlers as h
import proxy.admin.overview as o
from proxy.admin.routing import Route

_INSTANCE: Final = {
    "id": "web-7", "app": "web", "kind": "process", "address": "127.0.0.1:41233", "pid": 4211,
    "lifecycle": "ready",         # starting warming ready draining stopping stopped backoff failed
    "admission": "admitting",     # admitting ejected trial
    "why": "",                    # why it is in that state, where that needs a word
    "ejected_by": "",             # why it is ejected: probe, faults, hand
    "failing": False,             # would be ejected but for the cap
    "version": "3f2a91c", "started": "2026-01-05T02:49:41.120Z", "uptime_s": 1081.2, "restarts": 1,
    "last_exit": None,            # or {"time", "words", "code", "signal", "oom", "ours", "certainty"}
    "in_flight": 3, "slots": 100,
    "cpu": 0.31, "memory": 181403648, "memory_limit": 536870912,     # cpu: cores, over the last seconds
    "health": {"checked": "2026-01-05T03:07:40.000Z", "ok": True, "words": "200 in 3 ms", "fails": 0},
    "requests": 91211, "requests_per_s": 88.4, "classes": {"2xx": 91200, "4xx": 6, "5xx": 5},
    "faults": {"instance-exited": 5}, "bytes_in": 183000, "bytes_out": 91211000, "connects": 31, "retries": 26,
    "response_ms": {"mean": 12.1, "p50": 9.8, "p90": 21.0, "p99": 88.2},
    "wait_ms": {"mean": 11.0, "p50": 9.0, "p90": 20.1, "p99": 85.0},
}  # fmt: skip
_APP: Final = {
    "id": "web", "state": "degraded",      # up degraded down stopped held
    "verdict": "web is degraded: 1 of 2 ready, web-7 exited with code 3; 5 faults in the last 5 min",
    "hosts": [], "paths": ["/"], "wanted": 2, "ready": 1, "starting": 1,
    "in_flight": 3, "slots": 100, "waiting": 0, "oldest_wait_ms": None,
    "requests": 91211, "requests_per_s": 88.4, "classes": {"2xx": 91200, "4xx": 6, "5xx": 5},
    "faults": {"instance-exited": 5}, "recent_faults": {"instance-exited": 5},      # recent: the last 5 minutes
    "bytes_in": 183000, "bytes_out": 91211000, "connects": 31, "retries": 26,
    "response_ms": {"mean": 12.1, "p50": 9.8, "p90": 21.0, "p99": 88.2},
    "wait_ms": {"mean": 11.0, "p50": 9.0, "p90": 20.1, "p99": 85.0},
    "by_hand": {},                # what an operator set, where it differs from the config
    "suspects": ["GET /crash"],
    "instances": [_INSTANCE],
}  # fmt: skip
_REQUEST: Final = {
    "id": "7f3a91016957e2dd", "time": "2026-01-05T03:07:41.120Z", "app": "web", "instance": "web-7",
    "client": "127.0.0.1", "client_request_id": "", "trace": "", "method": "POST", "host": "example.com",
    "target": "/api/orders", "status": 502, "fault": "instance-exited", "detail": "",
    "bytes_in": 1912, "bytes_out": 412, "sent": 1912, "tries": 1, "reused": True, "idle_ms": 400.0,
    "replayable": True, "tunnel": False, "worker": 1,
    "timings": {"head_ms": 0.2, "queue_ms": 0.0, "connect_ms": 0.0, "wait_ms": 687.0, "total_ms": 689.0,
                "own_ms": 0.3, "lag_ms": 0.1},
    "attempts": [{"instance": "web-7", "fault": "instance-exited", "reused": True, "idle_ms": 400.0,
                  "wait_ms": 687.0, "sent": 1912}],
}  # fmt: skip
_WHY: Final = {
    "id": "7f3a91016957e2dd", "subject": "request",          # request, app
    "title": "502 instance-exited   POST /api/orders   app web   2026-01-05T03:07:41.120Z",
    "certainty": "certain",       # certain, very likely, likely, not known
    "why": ["The process of web-7 ended with exit code 3 while it had this request."],
    "cause": ["…"], "lost": ["This POST. …"], "now": ["web is up: 2 of 2 ready …"], "done": ["…"],
    "do": ["check  triage requests --instance web-7 --fault instance-exited"], "evidence": ["try 1 of 1  web-7 …"],
    "text": "the same as `triage why` prints it, times in UTC",
    "request": _REQUEST,          # absent where there is none
}  # fmt: skip
_APP_WHY: Final = {name: value for name, value in {**_WHY, "subject": "app"}.items() if name != "request"}
_EVENT: Final = {
    "id": "41", "time": "2026-01-05T03:07:41.000Z", "kind": "instance-exited", "app": "web", "instance": "web-7",
    "words": "web-7 exited with code 3 after 18 min", "data": {},
}  # fmt: skip
_OPERATION: Final = {
    "id": "op-41", "act": "reload", "target": "config", "state": "done", "time": "2026-01-05T03:07:41.000Z",
    "reason": "by hand", "steps": ["apps.web: process.instances changed"], "problems": [],
    "changes": ["apps.web: process.instances changed"], "next_start": [],
}  # fmt: skip
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

_GATEWAY: Final = {
    "version": "0.1.0", "pid": 4100, "started": "2026-01-05T01:00:00.000Z", "uptime_s": 7661.0, "draining": False,
    "listen": ["http://127.0.0.1:8080"], "admin": "http://127.0.0.1:9900",
    "config": {"path": "/etc/triage/config.toml", "loaded": "2026-01-05T01:00:00.000Z", "error": ""},
    "workers": [{"id": "1", "pid": 4103, "state": "running", "connections": 64, "accepted": 91000, "tunnels": 0,
                 "lag_ms": 0.1, "lag_max_ms": 2.3, "memory": 39000000, "shedding": "", "records_dropped": 0,
                 "log_lost": 0, "log_error": ""}],
    "requests_per_s": 88.4, "own_ms": 0.03, "control_lag_ms": 0.2,
    "notices": ["the access log lost 120 lines: No space left on device"],     # what an operator should know
}  # fmt: skip

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
        "GET", "/api/v1/status", o.status, "The whole gateway, the verdict first.",
        {"verdict": _APP["verdict"], "state": "degraded", "gateway": _GATEWAY, "apps": [_APP]},
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
        body={"text": "TOML", "path": "a path on the gateway's machine"},
    ),
    Route(
        "POST", "/api/v1/config/reload", o.config_reload,
        "Read the config file again and apply it. A bad file changes nothing: 422 with `problems`.",
        _OPERATION, status=202,
        body={"reason": "why, for the events"},
    ),
    Route("GET", "/api/v1/apps", h.apps, "All apps.", {"items": [_APP], "next": None}),
    Route("GET", "/api/v1/apps/{app}", h.app, "One app.", _APP),
    Route("GET", "/api/v1/apps/{app}/why", h.app_why, "How the app is now, and why.", _APP_WHY),
    Route(
        "GET", "/api/v1/apps/{app}/instances", h.instances, "The app's instances.",
        {"items": [_INSTANCE], "next": None},
    ),
    Route(
        "GET", "/api/v1/apps/{app}/instances/{instance}", h.instance, "One instance, with its last lines of output.",
        {**_INSTANCE, "last_lines": ["03:07:35.412 err  INFO export tenant=88"]},
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
        "GET", "/api/v1/requests", h.requests, "Kept requests, newest first.", {"items": [_REQUEST], "next": None},
        params=_REQUEST_FILTERS,
    ),
    Route(
        "GET", "/api/v1/requests/{id}", h.request,
        "One request, by any unambiguous start of its id or by the client's own X-Request-ID. 404 names what is known.",
        _REQUEST,
    ),
    Route(
        "GET", "/api/v1/requests/{id}/why", h.request_why,
        "Why it ended so. `{id}` may also be `latest`: the newest request that ended in a 5xx of ours or the app's.",
        _WHY,
    ),
    Route(
        "GET", "/api/v1/events", h.events, "What happened, newest first; with `app` or `kind` a part of it.",
        {"items": [_EVENT], "next": None},
        params={"since": _REQUEST_FILTERS["since"], "app": "name of an app", "kind": "kind of event", **_PAGE},
    ),
    Route(
        "GET", "/api/v1/metrics", o.metrics, "Every metric of /metrics, with unit and meaning.",
        {"items": [{"id": "triage_requests_total", "type": "counter", "unit": "requests", "meaning": "…",
                    "labels": ["app", "instance", "class"]}], "next": None},
    ),
    Route("GET", "/api/v1/operations", o.operations, "Acts, newest first.", {"items": [_OPERATION], "next": None}),
    Route("GET", "/api/v1/operations/{id}", o.operation, "One act.", _OPERATION),
    Route("GET", "/api/v1/openapi.json", o.openapi, "This table, as OpenAPI 3.1.", {"openapi": "3.1.0"}),
)  # fmt: skip
