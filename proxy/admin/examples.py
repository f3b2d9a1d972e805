"""Answers of the admin API, shortened: the shapes that the route table promises, with what the words in them may be."""

from __future__ import annotations

from typing import Final

OPERATION: Final = {
    "id": "op-41", "act": "recycle", "target": "web/web-7", "app": "web", "instance": "web-7",
    "state": "done",              # running done failed
    "why": "web-9 serves in its place",      # of a failure, or what it came to
    "time": "2026-01-05T03:07:41.000Z", "ended": "2026-01-05T03:07:44.100Z", "took_s": 3.1,
    "by": "by hand",              # or "rule slow", "config", "watch", "scale"
    "way": "socket, uid 0, pid 4711", "reason": "by hand",
    "rule": "", "value": "",      # the rule that asked, and what it saw
    "targets": ["web-7"], "evidence": "5 of 5 artifacts in diagnostics/S-12 (triage report S-12)",
    "steps": [{"time": "2026-01-05T03:07:41.000Z", "text": "web-9 starts in web-7's place"}],
    "told": 1,                    # steps so far; of many only the first and the last are kept
    "details": {},
}  # fmt: skip
RELOAD: Final = {
    **OPERATION, "act": "reload", "target": "config", "app": "", "instance": "", "problems": [],
    "changes": ["apps.web: process.instances changed"], "next_start": [],
}  # fmt: skip
FORESEEN: Final = {
    "act": "recycle", "target": "web/web-7",
    "will": ["the old one serves until the new one is ready", "3 requests on them now; each has 30 s to end"],
    "at_stake": False,            # capacity or requests are: a person is asked
}  # fmt: skip
BRIEF: Final = {
    "id": "op-42", "act": "restart", "target": "web", "by": "by hand", "time": "2026-01-05T03:07:41.000Z",
    "last": "web-9 starts in web-7's place",
}  # fmt: skip
INSTANCE: Final = {
    "id": "web-7", "app": "web", "kind": "process", "address": "127.0.0.1:41233", "pid": 4211,
    "lifecycle": "ready",         # starting warming ready draining stopping stopped backoff failed
    "admission": "admitting",     # admitting ejected trial
    "why": "",                    # why it is in that state, where that needs a word
    "ejected_by": "",             # why it is ejected: probe, faults, hand
    "failing": False,             # would be ejected but for the cap
    "version": "3f2a91c", "started": "2026-01-05T02:49:41.120Z", "uptime_s": 1081.2, "restarts": 1,
    "last_exit": None,            # or {"time", "words", "code", "signal", "oom", "ours", "certainty"}
    "in_flight": 3, "slots": 100,
    "cpu": 0.31, "memory": 181403648,        # cpu: cores, over the last seconds
    "memory_limit": 536870912, "cpu_limit": 1.0,
    "limited_by": "cgroup v2",    # how limits are enforced: cgroup v2, cgroup v1, watched, affinity
    "limits_why": "",             # why not, or not all, by a cgroup
    "operation": None,            # or what is under way with it, as in an app's operations
    "by_hand": None,              # or what a person set for it
    "health": {"checked": "2026-01-05T03:07:40.000Z", "ok": True, "words": "200 in 3 ms", "fails": 0},
    "requests": 91211, "requests_per_s": 88.4, "classes": {"2xx": 91200, "4xx": 6, "5xx": 5},
    "faults": {"instance-exited": 5}, "bytes_in": 183000, "bytes_out": 91211000, "connects": 31, "retries": 26,
    "response_ms": {"mean": 12.1, "p50": 9.8, "p90": 21.0, "p99": 88.2},
    "wait_ms": {"mean": 11.0, "p50": 9.0, "p90": 20.1, "p99": 85.0},
    "own_ms": 0.03,               # of Triage itself, the mean
    "processes": 1, "threads": 5, "descriptors": 17, "listens_on": ["127.0.0.1:41233"],
}  # fmt: skip
INSTANCE_WHOLE: Final = {
    **INSTANCE, "last_lines": ["03:07:35.412 err  INFO export tenant=88"],
    "path": [{"time": "2026-01-05T02:49:43.240Z", "lifecycle": "ready", "why": ""}],
}  # fmt: skip
APP: Final = {
    "id": "web", "state": "degraded",      # up degraded down stopped held
    "verdict": "web is degraded: 1 of 2 ready, web-7 exited with code 3; 5 faults in the last 5 min",
    "hosts": [], "paths": ["/"], "wanted": 2, "ready": 1, "starting": 1,
    "in_flight": 3, "slots": 100, "waiting": 0, "oldest_wait_ms": None,
    "requests": 91211, "requests_per_s": 88.4, "classes": {"2xx": 91200, "4xx": 6, "5xx": 5},
    "faults": {"instance-exited": 5}, "recent_faults": {"instance-exited": 5},      # recent: the last 5 minutes
    "bytes_in": 183000, "bytes_out": 91211000, "connects": 31, "retries": 26,
    "response_ms": {"mean": 12.1, "p50": 9.8, "p90": 21.0, "p99": 88.2},
    "wait_ms": {"mean": 11.0, "p50": 9.0, "p90": 20.1, "p99": 85.0},
    "own_ms": 0.03, "version": "3f2a91c",
    "by_hand": {"count": {"value": 2, "by": "by hand", "time": "2026-01-05T02:00:00.000Z", "why": "a sale",
                          "until": None}},
    "scaled": None,               # instances by the scaling rules; null: as the config says
    "operations": [BRIEF],        # what is under way
    "autoheal": {                 # in short; apps/{app}/autoheal has it in full
        "enabled": True, "rules": 4, "nearest": None,        # nearest: of those more than half way to a firing
        "suppressed": [], "acting": [],
    },
    "scaler": None,               # or what scaling rules see: {"count", "min", "max", "words", "rules", …}
    "muted_until": None,          # until then nobody is told of its incidents
    "suspects": ["GET /crash"],
    "instances": [INSTANCE],
}  # fmt: skip
ALERTS: Final = {
    "items": [
        {"id": "errors/web", "name": "errors", "app": "web", "scope": "app", "builtin": False,
         "when": "fault_ratio above 5%, count 20, for 1m", "notify": ["ops"],
         "state": "met",              # watching met (not yet for as long as `for` says) firing
         "value": 0.31, "words": "31 of 100 requests failed in the last 1m", "last_fired": None, "muted_until": None},
        {"id": "builtin/down", "name": "down", "app": "", "scope": "", "builtin": True,
         "when": "an app serves nothing, or the gateway itself does not: at once", "notify": ["ops"],
         "state": "watching", "value": None, "words": "", "last_fired": None, "muted_until": None},
    ],
    "notifiers": [
        {"id": "ops", "kind": "webhook", "target": "https://example.com/***",
         "state": "failing",          # unused (nothing was sent yet) ok failing
         "last": None, "error": "status 500: oops", "failing_since": "2026-01-05T03:07:50.000Z", "waiting": 1,
         "sent": 0, "dropped": 0},
    ],
    "messages": [
        {"id": "msg-1767582470000", "time": "2026-01-05T03:07:50.000Z", "incident": "INC-31", "notifier": "ops",
         "state": "waiting",          # waiting sending sent failed dropped
         "attempts": 3, "error": "status 500: oops",
         "event": "opened",           # opened cause repeat reopened closed test
         "title": "web is down"},
    ],
    "words": "",                      # that nobody is told, where no notifier is configured
    "next": None,
}  # fmt: skip
_TARGET: Final = {
    "instance": "web-7", "value": 12.0, "words": "12 of 20 requests waited over 5 s in the last 1m",
    "share": 0.6, "distance": "12 of 20",                    # share: 1.0 is a firing
    "met": False, "held_s": 0.0,  # for how long the condition is met
    "guard": "", "why": "", "until": None,                   # what keeps the rule from acting on it
}  # fmt: skip
RULES: Final = {
    "id": "web", "enabled": True, "by_hand": None,
    "rules": [{
        "id": "slow", "name": "slow", "app": "web", "builtin": False, "kind": "slow", "scope": "instance",
        "when": "slow above 5s, count 20, within 1m", "then": ["collect", "recycle"], "dry_run": False,
        "state": "watching",      # watching met suppressed acting off
        "why": "web-7: 12 of 20 requests waited over 5 s in the last 1m", "threshold": 20.0, "unit": "",
        "nearest": _TARGET, "targets": [_TARGET],
        "suppressed_until": None, "last_fired": None, "last_operation": "", "fired_last_hour": 0,
        "would_have_fired": 0, "last_would_have_fired": None, "backing_off": "",
        "guards": {"min_age": 60.0, "for": 0.0, "cooldown": 600.0, "max_per_hour": 4, "max_unavailable": 0.25,
                   "dry_run": False},
    }],
}  # fmt: skip
FIRING: Final = {
    "id": "heal-3", "time": "2026-01-05T03:07:41.000Z", "rule": "slow", "builtin": False, "app": "web",
    "instance": "web-7", "value": "24 of 20 requests waited over 5 s in the last 1m",
    "reason": "slow above 5s, count 20, within 1m", "dry": False, "state": "done",     # running done failed dry
    "outcomes": [{"act": "recycle", "state": "done", "why": "replaced by web-9", "operation": "op-41"}],
    "operation": "op-41",
}  # fmt: skip
RULES_WHOLE: Final = {**RULES, "history": [FIRING], "history_problem": ""}
REPLAY: Final = {
    "app": "web", "rule": "slow", "when": "slow above 5s, count 20, within 1m",
    "verdict": "it would have fired once; first: 24 of 20 requests waited over 5 s in the last 1m",
    "since": "2026-01-04T03:07:41.000Z", "until": "2026-01-05T03:07:41.000Z", "points": 8640, "step_s": 10.0,
    "fired": [{"time": "2026-01-05T03:00:00.000Z", "instance": "web-7", "value": 24.0, "words": "24 of 20 requests …"}],
    "kept_from": {"cooldown": 3},            # guard to how often it kept the rule from acting
    "nearest": None, "share": 1.0, "not_known": [],
}  # fmt: skip
REQUEST: Final = {
    "id": "7f3a91016957e2dd", "time": "2026-01-05T03:07:41.120Z", "app": "web", "instance": "web-7",
    "client": "127.0.0.1", "client_request_id": "", "trace": "", "method": "POST", "host": "example.com",
    "target": "/api/orders", "status": 502, "fault": "instance-exited", "detail": "",
    "bytes_in": 1912, "bytes_out": 412, "sent": 1912, "tries": 1, "reused": True, "idle_ms": 400.0,
    "replayable": True, "tunnel": False, "worker": 1,
    "timings": {"head_ms": 0.2, "queue_ms": 0.0, "connect_ms": 0.0, "wait_ms": 687.0, "total_ms": 689.0,
                "own_ms": 0.3, "lag_ms": 0.1, "tls_ms": 1.2,
                "body_ms": 1.5},           # those that were not reached are absent
    "attempts": [{"instance": "web-7", "fault": "instance-exited", "status": 0, "sent": 1912, "reused": True,
                  "detail": "exit code 3", "idle_ms": 400.0, "connect_ms": 0.2, "tls_ms": 1.2, "wait_ms": 687.0}],
}  # fmt: skip
STORY: Final = {
    "rule": "keep.whole[0]",      # that asked for it
    "answered_by": "triage",      # triage instance
    "phases": [{"phase": "head read", "at_ms": 0.2, "note": ""}, {"phase": "picked", "at_ms": 0.3, "note": "web-7"},
               {"phase": "instance-exited", "at_ms": 688.1, "note": "exit code 3"}],
    "attempts": [{"instance": "web-7", "fault": "instance-exited", "status": 0, "sent": 1912, "reused": True,
                  "detail": "exit code 3", "idle_ms": 400.0, "connect_ms": 0.2, "tls_ms": 1.2, "wait_ms": 687.0,
                  "began_ms": 0.3, "took_ms": 687.8}],
    "request": {"line": "POST /api/orders?key=*** HTTP/1.1", "fields": [["Authorization", "***"]]},
    "response": None,             # likewise; null: no answer of an instance, or its fields were not asked for
    "cut": False,                 # it was larger than 16 KiB
}  # fmt: skip
STORY_WHOLE: Final = {"id": "7f3a91016957e2dd", **STORY}
REQUEST_WHOLE: Final = {**REQUEST, "story": STORY}   # story: null where none is kept
WHY: Final = {
    "id": "7f3a91016957e2dd", "subject": "request",          # request, app, incident
    "title": "502 instance-exited   POST /api/orders   app web   2026-01-05T03:07:41.120Z",
    "certainty": "certain",       # certain, very likely, likely, not known
    "why": ["The process of web-7 ended with exit code 3 while it had this request."],
    "cause": ["…"], "lost": ["This POST. …"], "now": ["web is up: 2 of 2 ready …"], "done": ["…"],
    "do": ["check  triage requests --instance web-7 --fault instance-exited"], "evidence": ["try 1 of 1  web-7 …"],
    "text": "the same as `triage why` prints it, times in UTC",
    "finding": "oom-kill", "finding_certainty": "very likely",        # what CAUSE rests on; "": the request alone
    "session": "S-118",           # where that was found; "": drawn from what control knows
    "request": REQUEST,           # absent where there is none
}  # fmt: skip
APP_WHY: Final = {name: value for name, value in {**WHY, "subject": "app"}.items() if name != "request"}
INCIDENT: Final = {
    "id": "INC-31", "scope": "app",          # app gateway host
    "app": "web", "state": "open",           # open closed
    "severity": "degraded",       # degraded down: the worst it was
    "signal": "crashes",          # which explains it best; see docs/observing.md
    "cause": "web-7 ended by itself after 18 min: signal 9 (SIGKILL), out of memory",
    "certainty": "certain",       # certain, very likely, likely, not known
    "began": "2026-01-05T03:07:41.000Z", "opened": "2026-01-05T03:07:42.000Z", "updated": "2026-01-05T03:07:46.000Z",
    "ended": None, "lasted_s": 31.2,
    "requests": 2750, "hit": 5, "share": 0.0018, "faults": {"instance-exited": 5}, "instances": ["web-7"],
    "signals": {"crashes": "web-7 ended by itself after 18 min: signal 9 (SIGKILL), out of memory"},
    "told": ["ops"], "rules": [], "muted": False,
}  # fmt: skip
INCIDENT_WHOLE: Final = {
    **INCIDENT, "seen": ["crashes", "faults"],
    "steps": [{"time": "2026-01-05T03:07:42.000Z", "kind": "opened", "text": "web-7 ended by itself …"}],
    "steps_dropped": 0, "frozen": "4",
    "messages": [{"id": "msg-1767582470000", "time": "2026-01-05T03:07:50.000Z", "incident": "INC-31",
                  "notifier": "ops", "state": "sent", "attempts": 1, "error": "", "event": "opened",
                  "title": "web is degraded"}],
    "messages_problem": "",
}  # fmt: skip
INCIDENT_WHY: Final = {
    **WHY, "id": "INC-31", "subject": "incident", "title": "INC-31   degraded   crashes   app web   …",
    "incident": INCIDENT,
}  # fmt: skip
SESSION: Final = {
    "id": "S-118", "app": "web", "instance": "", "mode": "analyze",      # collect analyze recycle
    "state": "done",              # waiting collecting recycling analyzing done cancelled failed lost
    "why": "",                    # why it ended so, where that needs a word
    "trigger": {"kind": "incident",          # hand rule incident crash request cpu memory agent
                "by": "incident", "reason": "web answers slowly", "rule": "", "saw": "", "incident": "INC-32",
                "request": "", "operation": "", "act": ""},
    "began": "2026-01-05T02:51:20.000Z", "ended": "2026-01-05T02:51:41.300Z", "until": None, "seconds": 10.0,
    "took_s": 21.3, "progress": 1.0,
    "verdict": "web waits for 10.0.3.12:5432, which answers slowly", "top": "slow-dependency",
    "certainty": "very likely", "severity": "critical", "findings": 2, "size": 412331,
    "targets": ["web-3", "web-4"], "collectors": [], "left_out": "",
    "operation": None, "recycled": "", "folder": "/var/lib/triage/diagnostics/S-118",
}  # fmt: skip
SESSION_WHOLE: Final = {
    **SESSION,
    "steps": [{"name": "stacks", "title": "Stacks", "instance": "web-3",
               "state": "done",   # waiting running done failed hung, "not permitted", "not there", "no room", skipped
               "why": "", "took_s": 2.3, "files": ["web-3/stacks.json"]}],
    "files": [{"name": "report.html", "size": 81233}],
}  # fmt: skip
COLLECTOR: Final = {
    "id": "stacks", "title": "Stacks", "needs": "ptrace on the process", "cost": "pauses it for some ms, three times",
    "of": "instance",             # instance app host
    "when": "once",               # once through after
    "default": True, "quick": True, "runtimes": [], "most_s": 15.0,
}  # fmt: skip
EVENT: Final = {
    "id": "41", "time": "2026-01-05T03:07:41.000Z", "kind": "instance-exited", "app": "web", "instance": "web-7",
    "words": "web-7 exited with code 3 after 18 min", "data": {},
}  # fmt: skip
GATEWAY: Final = {
    "version": "0.1.0", "pid": 4100, "started": "2026-01-05T01:00:00.000Z", "uptime_s": 7661.0, "draining": False,
    "launcher": {"pid": 4100, "release": "0.1.0", "execs": 0},
    "control": {"pid": 4102, "started": "2026-01-05T01:00:00.000Z"}, "data_dir": "/var/lib/triage",
    "listen": ["http://127.0.0.1:8080"], "admin": "http://127.0.0.1:9900",
    "config": {"path": "/etc/triage/config.toml", "loaded": "2026-01-05T01:00:00.000Z", "error": ""},
    "workers": [{"id": "1", "pid": 4103, "state": "alive", "why": "", "restarts": 0, "release": "0.1.0", "table": 12,
                 "connections": 64, "accepted": 91000, "instance_connections": 8, "tunnels": 0,
                 "lag_ms": 0.1, "lag_max_ms": 2.3, "memory": 39000000, "shedding": "", "records_dropped": 0,
                 "log_lost": 0, "log_error": ""}],
    "requests_per_s": 88.4, "own_ms": 0.03, "control_lag_ms": 0.2,
    "notices": ["the access log lost 120 lines: No space left on device"],     # what an operator should know
}  # fmt: skip
METRIC: Final = {
    "id": "response_time", "kind": "histogram",   # counter gauge histogram
    "unit": "seconds", "meaning": "Whole requests, from the first byte of the head to the last of the response.",
    "of": ["app", "instance"],    # app instance gateway worker control launcher host
    "stats": ["p50", "p90", "p99", "p999", "mean", "max", "count", "heatmap"], "default_stat": "p99",
    "prometheus": "triage_request_duration_seconds", "otel": "http.server.request.duration",
}  # fmt: skip
METRICS_QUERY: Final = {
    "from": 1767582460, "to": 1767583360, "step_s": 5,
    "source": "1 s",              # 1 s, 10 s, 1 min, 1 h
    "series": [
        {"name": "response_time", "unit": "seconds", "stat": "p99", "app": "web", "instance": "",
         "points": [[1767582465, 0.041], [1767582470, None]]},
    ],
}  # fmt: skip
FROZEN: Final = {
    "id": "7", "time": "2026-01-05T03:07:41.000Z", "app": "web", "instance": "web-7",
    "why": "exit: web-7 ended: exit code 3", "size": 48213,
}  # fmt: skip
LIVE: Final = {
    "time": "2026-01-05T03:07:41.000Z", "verdict": "web is up: 2 of 2 ready, no fault in the last 5 min",
    "state": "up",
    "is_it": "",                  # app gateway host, "": nothing is wrong
    "is_it_words": "The gateway answers itself in 0.8 ms; nothing is wrong.",
    "self_check": {"ok": True, "ms": 0.8, "words": "the gateway answers itself in 0.8 ms"},
    "gateway": {"requests_per_s": 41.2, "faults_per_s": 0.0, "in_flight": 3, "connections": 12, "own_ms": 0.09,
                "lag_ms": 0.4, "cpu": 0.021, "memory": 183500800},
    "notices": [],                # as in status
    "fault": {"id": "7f3a91016957e2dd", "time": "2026-01-05T03:07:41.120Z", "app": "web", "instance": "web-7",
              "method": "POST", "target": "/api/orders", "status": 502, "fault": "instance-exited"},     # or null
    "incidents": [{"id": "INC-31", "app": "web", "scope": "app", "severity": "degraded", "cause": "…",
                   "began": "2026-01-05T03:07:41.000Z", "share": 0.21}],
    "apps": [{"id": "web", "state": "up", "verdict": "web is up: 2 of 2 ready, no fault in the last 5 min", "ready": 2,
              "wanted": 2, "requests_per_s": 41.2, "faults_per_s": 0.0, "in_flight": 3, "slots": 200, "waiting": 0,
              "p50_ms": 3.1, "p99_ms": 41.0, "muted_until": None}],
    "instances": [{"id": "web-7", "app": "web", "lifecycle": "ready", "admission": "admitting", "why": "",
                   "in_flight": 3, "slots": 100, "requests_per_s": 20.6, "faults_per_s": 0.0, "p50_ms": 3.1,
                   "p99_ms": 41.0, "cpu": 0.02, "memory": 41943040, "memory_limit": None, "restarts": 0,
                   "uptime_s": 1081.2}],
    "gone": [],
}  # fmt: skip
FROZEN_WHOLE: Final = {
    **FROZEN, "series": [{"app": "web", "instance": "web-7", "columns": ["time", "inflight", "requests"],
                          "points": [[1767582461, 3, 41]]}], "records": [REQUEST],
}  # fmt: skip
LINE: Final = {
    "id": 1767582455412345,       # microseconds since the epoch; each line has its own, over all instances
    "time": "2026-01-05T03:07:35.412345Z", "app": "web", "instance": "web-7",
    "stream": "err",              # out err triage file:log/app.log
    "line": "KeyError: 'price'",
    "exception": "v1-3f2a91c0",   # of those seen since control began; "": it is part of none
}  # fmt: skip
EXCEPTION: Final = {
    "id": "v1-3f2a91c0", "app": "web",
    "runtime": "python",          # python node java dotnet go ruby php rust
    "type": "KeyError", "message": "'price'", "where": "price in shop/cart.py:12", "count": 41,
    "first": "2026-01-05T02:49:43.240Z", "last": "2026-01-05T03:07:35.412Z", "instances": ["web-7"],
    "versions": ["5b1c0de"], "sample": ["Traceback (most recent call last):", "…", "KeyError: 'price'"],
    "in_last_hour": 41,
    "minutes": [0, 0, 3],         # the last 60, oldest first
    "raised": False,              # true: told by the agent, whoever caught it; else it was printed
    "caught": 0, "uncaught": 0,   # of those told by the agent: by the app's own code, by nobody
}  # fmt: skip
