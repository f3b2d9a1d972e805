"""The one route table of the admin API: what is served, checked and described.

Longer than most: it is that table, and read like one.

Conventions
  - All JSON. Times are UTC, ISO 8601 with `Z`; durations end in `_ms` or `_s`; sizes are bytes. A timing that was
    not reached is absent.
  - A list answers `{"items": [...], "next": cursor or null}`; each item has its `id`. `next` goes into `cursor`.
  - An error is RFC 9457 (`application/problem+json`): `type`, `title`, `status`, `detail`, `hint`.
  - An act takes a JSON object (`{}` will do) and answers 202 with an operation, followed at `operations/{id}`.

Everything but `/healthz` and `/readyz` needs `Authorization: Bearer TOKEN` over TCP, a token of the role that the route
says; over the Unix socket, its owner, root and the group `triage` need none.
"""

from __future__ import annotations

from typing import Final

import proxy.admin.events as e
import proxy.admin.handlers as h
import proxy.admin.operations as p
import proxy.admin.overview as o
from proxy.admin import access, acts, alerts, autoheal, bundle, incidents, live, login, logs, metrics, sessions, stories
from proxy.admin.console import routes as console
from proxy.admin.examples import (
    ALERTS,
    APP,
    APP_WHY,
    COLLECTOR,
    EVENT,
    EXCEPTION,
    FROZEN,
    FROZEN_WHOLE,
    GATEWAY,
    INCIDENT,
    INCIDENT_WHOLE,
    INCIDENT_WHY,
    INSTANCE,
    INSTANCE_WHOLE,
    LINE,
    LIVE,
    METRIC,
    METRICS_QUERY,
    OPERATION,
    RELOAD,
    REPLAY,
    REQUEST,
    REQUEST_WHOLE,
    RULES,
    RULES_WHOLE,
    SESSION,
    SESSION_WHOLE,
    STORY_WHOLE,
    WHY,
)
from proxy.admin.fields import Field
from proxy.admin.inside import routes as inside
from proxy.admin.params import CURSOR, FOLLOW, PAGE, SINCE, WHOLE_PAGE, Param
from proxy.admin.routing import Route
from proxy.admin.upgrade import upgrade

_PAGE: Final = PAGE
_REQUEST_FILTERS: Final[dict[str, str | Param]] = {
    "app": "name of an app",
    "instance": "name of an instance",
    "method": "GET, POST, …",
    "fault": "name of a fault, or `any`",
    "status": '"502", "5xx", "500-599", ">=500" or several with commas',
    "slower": Param('took longer in total: "1s", "250ms"', "duration", example="1s"),
    "path": "beginning of the path, or a pattern with * and ?",
    "since": SINCE,
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
        {"ready": True, "reasons": []}, params={"app": "only this app"}, open=True, errors=(404,),
        also={503: "Not ready"},
    ),
    Route(
        "GET", "/metrics", metrics.exposition,
        "For Prometheus; OpenMetrics 1.0 with exemplars where Accept asks for it. Needs the token unless admin.metrics "
        "is true.",
        "# HELP triage_requests_total …", content="text/plain", others=("application/openmetrics-text",),
    ),
    Route(
        "POST", "/login", login.login, "Log a browser in with the token: 204 and a cookie for 12 hours.", None,
        body={"token": Field("the admin token, or one of `tokens`: the login may what it may")}, status=204, open=True,
    ),
    Route(
        "GET", "/login", login.follow, "Where a link of login-links leads: to its page, with a cookie.", None,
        params={"code": "of the link; it works once"}, status=303, open=True, content="text/html", audit=True,
    ),
    Route("POST", "/logout", login.logout, "End the browser's login.", None, status=204, open=True),
    Route(
        "POST", "/api/v1/login-links", login.link,
        "An address that logs a browser in, as who asks, once, within a minute.",
        {"url": "http://127.0.0.1:9900/login?code=…", "expires_s": 60.0},
        body={"to": Field("where it leads; default: #/", "text")}, role="viewer",
    ),
    Route(
        "GET", "/api/v1/status", o.status, "The whole gateway, the verdict first.",
        {"verdict": APP["verdict"], "state": "degraded",
         "is_it": "app",          # app gateway host, "" where all is well
         "is_it_words": "The gateway answers itself in 0.4 ms; web's requests fail with head-timeout: it is the app.",
         "self_check": {"ok": True, "ms": 0.4, "words": "the gateway answers itself in 0.4 ms",
                        "time": "2026-01-05T03:07:41.000Z"},
         "incidents": [{name: INCIDENT[name] for name in
                        ("id", "scope", "app", "severity", "signal", "cause", "began", "share")}],
         "gateway": GATEWAY, "apps": [APP]},
    ),
    Route(
        "GET", "/api/v1/config", o.config,
        "The config in force, with defaults; secrets masked. Its ETag goes into If-None-Match, and into If-Match of "
        "config/check and config/reload.",
        {"path": "/etc/triage/config.toml", "loaded": "2026-01-05T01:00:00.000Z", "error": "", "config": {"apps": {}}},
        also={304: "If-None-Match: it is the same still"},
    ),
    Route(
        "POST", "/api/v1/config/check", o.config_check,
        "Check a config without using it: `text`, or the file at `path`, or the present file.",
        {"ok": False, "problems": ['config.toml:44: apps.web.health.intervall: unknown key - did you mean "interval"?'],
         "warnings": []},
        body={"text": Field("TOML"), "path": Field("a path on the gateway's machine")}, errors=(412,),
    ),
    Route(
        "POST", "/api/v1/config/reload", o.config_reload,
        "Read the config file again and apply it. A bad file changes nothing: 422 with `problems`.",
        RELOAD, status=202, body={"reason": _ACT["reason"]}, errors=(412, 422),
    ),
    Route(
        "POST", "/api/v1/upgrade", upgrade,
        "Control, workers and launcher become the code now on disk, one after the other; instances go on.",
        OPERATION, status=202, body=_ACT, role="admin",
    ),
    Route("GET", "/api/v1/apps", h.apps, "All apps.", {"items": [APP], "next": None}, params=WHOLE_PAGE),
    Route("GET", "/api/v1/apps/{app}", h.app, "One app.", APP),
    Route("GET", "/api/v1/apps/{app}/why", h.app_why, "How the app is now, and why.", APP_WHY),
    Route(
        "GET", "/api/v1/apps/{app}/instances", h.instances, "The app's instances.",
        {"items": [INSTANCE], "next": None}, params=WHOLE_PAGE,
    ),
    Route(
        "GET", "/api/v1/apps/{app}/instances/{instance}", h.instance,
        "One instance, with its way through the lifecycle and its last lines of output.",
        INSTANCE_WHOLE,
    ),
    Route(
        "GET", "/api/v1/apps/{app}/instances/{instance}/logs", logs.instance_logs,
        "Its last lines of output, at most 200, oldest first; id 0: not whole yet.",
        {"items": [LINE], "next": None},
        params={"limit": Param("most lines, 1 to 200; default 200", "whole", 1, 200, 200), "cursor": CURSOR},
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
            "enabled": Field("false: rules only say what they would do", "flag", True),
            **_LASTING,
        },
    ),
    Route(
        "GET", "/api/v1/autoheal", autoheal.autoheal, "The rules of all apps, and how far each is from a firing.",
        {"items": [RULES], "next": None}, params=WHOLE_PAGE,
    ),
    Route(
        "POST", "/api/v1/autoheal/replay", autoheal.replay,
        "Run a rule over what was recorded: when it would have fired, or how near it came.", REPLAY,
        errors=(404, 503),
        body={
            "app": Field("name of an app", required=True),
            "rule": Field("name of one of its rules, or one that is not in the config, as an object", "rule", True),
            "since": Field('how far back ("2h"), or a time; default: 24h'),
        },
    ),
    Route(
        "GET", "/api/v1/apps/{app}/autoheal", autoheal.of_app,
        "Its rules, how far each is from a firing, and what they did or would have done.",
        RULES_WHOLE,
        params={"limit": Param("most of the history, 1 to 200; default 20", "whole", 1, 200, 20)},
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
        params=_REQUEST_FILTERS, errors=(503,),
    ),
    Route(
        "GET", "/api/v1/requests/{id}", h.request,
        "One request, by any unambiguous start of its id or by the client's own X-Request-ID. 404 names what is known.",
        REQUEST_WHOLE, errors=(409, 503),
    ),
    Route(
        "GET", "/api/v1/requests/{id}/story", stories.story,
        "The whole story of one that `keep.whole` asked for: heads (masked), attempts, and when it was where.",
        STORY_WHOLE, errors=(409, 503),
    ),
    Route(
        "GET", "/api/v1/requests/{id}/why", h.request_why,
        "Why it ended so. `{id}` may also be `latest`: the newest request that ended in a 5xx of ours or the app's.",
        WHY, errors=(409, 503),
    ),
    Route(
        "GET", "/api/v1/events", e.events,
        "What happened, newest first. With `follow=true` as it happens, as server-sent events (`event`, and `dropped` "
        "where some were lost); Last-Event-ID goes on after that one.",
        {"items": [EVENT], "next": None},
        params={
            "since": _REQUEST_FILTERS["since"], "app": "name of an app", "instance": "name of an instance",
            "kind": "kind of event", "follow": FOLLOW, **_PAGE,
        },
        errors=(503,), others=("text/event-stream",),
    ),
    Route(
        "GET", "/api/v1/logs", logs.logs,
        "Lines that instances printed and the apps' own log files got, newest first; a search ends after 3 s, and "
        "says down to where it is whole. With `follow=true` as they come, as server-sent events (`line`, and `dropped` "
        "where some were left out); Last-Event-ID goes on after that one.",
        {"items": [LINE], "next": None, "searched_until": None, "stopped": ""},
        params={
            "app": "name of an app", "instance": "name of an instance",
            "stream": "out, err, triage (what Triage says in between), file (the app's own log files) or file:PATH",
            "grep": "a text, or /a regular expression/; case does not matter",
            "since": _REQUEST_FILTERS["since"], "until": "likewise", "follow": FOLLOW, **_PAGE,
        },
        errors=(404, 503), others=("text/event-stream",),
    ),
    Route(
        "GET", "/api/v1/exceptions", logs.exceptions,
        "Tracebacks and panics in the logs, and what agents saw raised, grouped and counted; those seen last first.",
        {"items": [EXCEPTION], "next": None}, errors=(404,),
        params={"app": "name of an app", "since": _REQUEST_FILTERS["since"], **_PAGE},
    ),
    Route(
        "GET", "/api/v1/exceptions/{id}", logs.exception, "One group, by its fingerprint.", EXCEPTION,
        params={"app": "name of an app; where several have it, the one that saw it last"},
    ),
    Route(
        "GET", "/api/v1/metrics", metrics.metrics, "Every metric that can be asked for over time.",
        {"items": [METRIC], "next": None}, params=WHOLE_PAGE,
    ),
    Route(
        "GET", "/api/v1/metrics/query", metrics.metrics_query,
        "Metrics over time, from seconds of the last 15 minutes or recorded points. A step without a value is null. "
        "Times are Unix seconds, each the end of its step.",
        METRICS_QUERY,
        params={
            "name": Param("ids of metrics, with commas", required=True, example="requests"),
            "app": "name of an app, `each`, or nothing: the gateway (of metrics of apps: all apps together)",
            "instance": "name of an instance (of the gateway: `worker1`, `control`, …), `each`, or nothing: the whole",
            "fault": "with the metric faults: only those of this name",
            "stat": "rate, sum; mean, max, last; p50, p90, p99, p999, count, heatmap: as the metric has them",
            "from": Param('how far back ("15m"), or a time; default: 15m', "moment"),
            "to": Param("likewise; default: now", "moment"),
            "step": Param('of each point ("10s", or seconds); default: so that there are 300 at most', "duration"),
        },
        errors=(404, 503),
    ),
    Route(
        "GET", "/api/v1/metrics/stream", live.stream,
        "With `follow=true`: how everything stands, each second, as server-sent events. `whole` comes first, then "
        "`tick` with the instances that changed and the `gone` ones, at once when a first fault comes. Figures are of "
        "the last 5 s, `fault` is the newest one; those that are the clients' own doing are not counted.",
        LIVE, params={"follow": Param("true, always: there is nothing else", "choice", words=("true",), required=True)},
        content="text/event-stream", errors=(503,),
    ),
    Route(
        "GET", "/api/v1/frozen", metrics.frozen_list,
        "What was frozen at incidents and exits: the 15 minutes before, newest first.",
        {"items": [FROZEN], "next": None},
        params={"app": "name of an app", "since": _REQUEST_FILTERS["since"], **_PAGE}, errors=(503,),
    ),
    Route(
        "GET", "/api/v1/frozen/{id}", metrics.frozen_one,
        "One of them: each second of the app and its instances, and the newest records of its requests.",
        FROZEN_WHOLE, errors=(503,),
    ),
    Route(
        "GET", "/api/v1/operations", p.operations, "Acts, newest first: those under way and those that ended.",
        {"items": [OPERATION], "next": None},
        params={"app": "name of an app", "running": Param("true: only those under way", "flag"), **_PAGE},
        errors=(503,),
    ),
    Route(
        "GET", "/api/v1/operations/{id}", p.operation,
        "One act. With `wait` the answer comes as soon as there is another step, or it has ended.", OPERATION,
        params={"wait": Param('at most so long: "30s", 60 s at most', "duration"),
                "seen": Param("`told` of the answer before; default: all", "whole", 0, 10**18 - 1)},
        errors=(503,),
    ),
    Route(
        "GET", "/api/v1/incidents", incidents.incidents,
        "Spans in which an app, the gateway or the host was not well, newest first.",
        {"items": [INCIDENT], "next": None},
        params={"app": "name of an app", "open": Param("true: only those that go on", "flag"),
                "since": 'that were open then or later: how far back ("24h"), or a time', **_PAGE},
        errors=(503,),
    ),
    Route(
        "GET", "/api/v1/incidents/{id}", incidents.incident,
        "One, with its timeline and what was sent about it. `{id}` may also be `latest`: the newest open one, else the "
        "newest.",
        INCIDENT_WHOLE, errors=(503,),
    ),
    Route("GET", "/api/v1/incidents/{id}/why", incidents.why, "Why, in the shape of a request's why.", INCIDENT_WHY,
          errors=(503,)),
    Route(
        "GET", "/api/v1/alerts", alerts.alerts,
        "Rules of alerts, how near each is, who is told, and the newest messages.", ALERTS, params=WHOLE_PAGE,
    ),
    Route(
        "POST", "/api/v1/alerts/test", alerts.test, "Send a real test message, and answer what came of it.",
        {"id": "msg-1767582470000", "notifier": "ops", "target": "https://example.com/***", "ok": True,
         "words": "status 200", "error": "", "took_ms": 31.2},
        body={"notifier": Field("name of a notifier; may be left out where there is one")}, errors=(404,),
    ),
    Route(
        "POST", "/api/v1/apps/{app}/mute", alerts.mute,
        "Nobody is told of its incidents for so long; they are recorded. Of those open at the end everyone is told.",
        OPERATION, status=202,
        body={
            **_ACT, "for": Field('so long ("1h", or seconds), 30 days at most; 0 ends it', "pause"),
            "unmute": Field("true: end it", "flag"),
        },
    ),
    Route(
        "GET", "/api/v1/sessions", sessions.sessions, "Diagnostic sessions that are kept, newest first.",
        {"items": [SESSION], "next": None},
        params={"app": "name of an app", "state": "one of its states, or `active`",
                "since": "that were active then or later: how far back, or a time", **_PAGE},
    ),
    Route(
        "POST", "/api/v1/sessions", sessions.begin,
        "Begin one. 409 or 429 where that can't be now: `hint` names the session that is active, or the budget.",
        SESSION, status=202, errors=(404, 503),
        body={
            "app": Field("name of an app; may be left out where there is one, or with `request`"),
            "instance": Field("only this instance; default: the most troubled ones, six at most"),
            "seconds": Field('gather for so long: "30s", 2 s to 10 min; default: 30', "duration"),
            "mode": Field("collect; analyze (default): collect and analyze; recycle: collect, recycle, analyze"),
            "collectors": Field("only these; default: those that are on by default", "names"),
            "request": Field("id of a request that it is about"),
            "reason": _ACT["reason"],
        },
    ),
    Route("GET", "/api/v1/sessions/{id}", sessions.session, "One, with its steps and files. `{id}` may be `latest`.",
          SESSION_WHOLE),
    Route("DELETE", "/api/v1/sessions/{id}", sessions.delete, "Remove one that has ended, with all its files: 204.",
          None, status=204),
    Route(
        "GET", "/api/v1/sessions/{id}/findings", sessions.findings, "What its analyzers concluded.",
        {"form": 1, "at": 1767582101.3, "verdict": SESSION["verdict"], "top": "slow-dependency", "findings": [],
         "checks": [{"analyzer": "memory-limit", "title": "Memory", "state": "passed", "words": "", "took": 0.01}]},
    ),
    Route(
        "GET", "/api/v1/sessions/{id}/report", sessions.report, "Its report: one page that needs nothing else.",
        "<!doctype html>…", content="text/html", others=("application/json",),
        params={"form": Param("html (default) or json", "choice", words=("html", "json"))},
    ),
    Route(
        "GET", "/api/v1/sessions/{id}/bundle", bundle.bundle,
        "All that support would ask for, as a zip: the session's files, masked config, environment, events, incidents, "
        "logs. Secrets are masked where they can be told.",
        "PK…", params={"memory": "true: with memory dumps, which hold all secrets of their process"},
        content="application/zip", errors=(409,), audit=True,
    ),
    Route(
        "GET", "/api/v1/sessions/{id}/artifacts/{name}", sessions.artifact,
        "One of its files, by the name that `files` has.", {"at": 1767582081.0, "rounds": []}, tail=True,
        content="*/*",
    ),
    Route(
        "POST", "/api/v1/sessions/{id}/cancel", sessions.cancel,
        "Gather no more; what there is is analyzed. Asked again, it is ended at once.",
        {**SESSION, "state": "analyzing", "ended": None}, status=202, body={"reason": _ACT["reason"]},
    ),
    Route(
        "POST", "/api/v1/sessions/{id}/analyze", sessions.analyze, "Analyze what it gathered once more.",
        {**SESSION, "state": "analyzing", "ended": None}, status=202,
    ),
    Route("GET", "/api/v1/collectors", sessions.collectors, "What a session can gather, and what that costs.",
          {"items": [COLLECTOR], "next": None}, params=WHOLE_PAGE),
    *access.ROUTES,
    *inside.ROUTES,
    *console.ROUTES,
    Route("GET", "/api/v1/openapi.json", o.openapi, "This table, as OpenAPI 3.1.",
          {"openapi": "3.1.0", "info": {}, "paths": {}, "components": {}}),
    Route("GET", "/api/docs", o.docs, "This table, as a page to be read.", "<!doctype html>…", content="text/html"),
)  # fmt: skip
