"""The lab's own names for causes, and how an answer is matched with one.

`ids` are those of findings that *mean* this cause, whatever their evidence; `words` are for an answer of `why` that
rests on no finding: patterns of which one has to stand in WHY or CAUSE, in lower case. An id that is not listed stands
for itself. An id may mean several: then it says no more than that.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple


class Label(NamedTuple):
    ids: frozenset[str]
    words: re.Pattern[str]


def _label(ids: str, words: str) -> Label:
    return Label(frozenset(ids.split()), re.compile(words, re.DOTALL))


LABELS: Final[dict[str, Label]] = {
    # how processes end
    "exit-exception": _label(
        "uncaught-exception", r"(exit code|exit status|ended with|exited).{0,200}(error|exception)"
    ),
    "exit-code": _label("own-exit", r"(exit code|exit status|ended with|exited with) \w* ?\d"),
    "native-crash": _label("native-crash own-signal", r"segmentation|sigsegv|signal 11|signal 6|sigabrt|aborted?\b"),
    "oom": _label("out-of-memory", r"kernel killed.{0,80}memory|oom"),
    "killed-unknown": _label("killed killed-inside", r"signal 9|sigkill"),
    "exit-clean": _label("own-exit ends-by-itself", r"(exit code|exit status|ended with|exited with) (code )?0"),
    "crash-loop": _label("crash-loop", r"crash loop|again and again|keeps (ending|exiting|crashing)"),
    "suspect-request": _label("suspect-request", r"is what ends|suspect"),
    "worker-timeout": _label("worker-timeout killed-inside", r"worker timeout"),
    # starting
    "start-failed": _label("fails-to-start missing-module", r"before it was ready|modulenotfound|no module named"),
    "wrong-port": _label("wrong-port", r"listens? on .{0,80}(not|instead)|wrong port"),
    "wrong-address": _label("wrong-address", r"listens? on .{0,80}(not|instead)|wrong address"),
    "slow-start": _label(
        "start-too-slow does-not-listen", r"ready_within|not ready within|startup is too slow|slow start"
    ),
    "health-check": _label("probe-wrong check-fails-at-start", r"(check|probe).{0,80}(404|fails)"),
    "health-blind": _label("probe-blind", r"check(s)? (passes|pass).{0,80}fail"),
    # stuck
    "deadlock": _label("deadlock", r"deadlock"),
    "lock": _label("lock-held lock-starvation", r"\block\b"),
    "loop-blocked": _label("event-loop-blocked sleeping-handler", r"event loop.{0,80}(block|stall|held)"),
    "workers-exhausted": _label("workers-exhausted", r"(workers|threads).{0,80}(busy|taken|exhausted)"),
    "db-pool": _label("pool-exhausted pool-used-up", r"connection pool|pool of connections"),
    "pool-leak": _label("pool-leak", r"pool.{0,80}(leak|not given back|never returned)"),
    # what it depends on
    "slow-dependency": _label("slow-dependency", r"answers slowly|slow (peer|dependency)|waits? (for|on) .{0,40}\d:\d"),
    "dependency-refused": _label(
        "dependency-unreachable dependency-down", r"connectionrefused|connection refused|refuses connections"
    ),
    "dns": _label(
        "name-not-resolved dependency-not-found", r"gaierror|name or service not known|does not resolve|resolver"
    ),
    # CPU, memory, descriptors, disk
    "cpu-bound": _label("cpu-bound endless-loop", r"\bcompute|cpu"),
    "gil": _label("gil-contention", r"\bgil\b|global lock"),
    "cpu-throttled": _label("cpu-throttled", r"throttl"),
    "host-cpu": _label("host-saturated noisy-neighbour", r"host.{0,60}(cpu|busy)|other processes"),
    "memory-growth": _label("memory-growth memory-grows memory-rising", r"memory.{0,60}(rise|rising|grow)"),
    "descriptors": _label(
        "descriptors-used-up descriptors-exhausted descriptor-leak", r"descriptor|too many open files|emfile"
    ),
    "disk-full": _label("disk-full", r"no space left|disk (is )?full|enospc"),
    "backlog": _label("accept-queue-full", r"accept queue|backlog"),
    # on the wire
    "keepalive-race": _label("stale-connections", r"keep-?alive|idle connection|closed.{0,60}idle"),
    "exception": _label("app-exception", r"\w+error\b|exception|traceback"),
    "closed": _label("connection-closed", r"closed the connection"),
    "reset": _label("connection-reset", r"\breset\b"),
    "truncated": _label("response-truncated", r"truncat|content-length|short of|closed.{0,80}(before|in the middle)"),
    "malformed": _label("malformed-response", r"malformed|not valid http|breaks? the rules|pars"),
    "head-too-large": _label("response-head-too-large", r"head.{0,60}(large|limit)"),
    "tls": _label("tls-mismatch", r"\btls\b"),
    "certificate": _label("tls-certificate", r"certificate"),
    "not-listening": _label("not-listening", r"nothing (listens|accepts)"),
    "slow-handler": _label("slow-handler slow-path timeout-too-short", r"(takes|waits?|slow).{0,120}"),
    # of several instances, of time, of clients
    "bad-instance": _label("one-bad-instance", r"only (on )?|alone|the others? (do|answer)"),
    "bad-deploy": _label("bad-deploy bad-change", r"since the (deploy|change|reload)|deploy|new version"),
    "noisy-client": _label("noisy-client", r"127\.0\.0\.9"),
    "retry-storm": _label("retry-storm", r"retry storm|retries|repeat"),
    "over-capacity": _label("over-capacity", r"more traffic|traffic.{0,60}(rose|more|than)"),
    "max-inflight": _label("slots-too-few", r"max_inflight"),
    "slow-client": _label("slow-clients clients-stall", r"client.{0,60}(slow|reads|takes)|body on its way"),
    "client-left": _label("clients-left", r"client closed|client.{0,40}(left|gone|time limit)"),
    "upload-cut": _label(
        "clients-stall clients-left", r"client.{0,100}(upload|content|sending)|client closed"
    ),
    "app-error": _label("app-errors app-error", r"app's own|answered (with )?5\d\d"),
    "by-hand": _label("by-hand stopped-by-hand held-by-hand held stopped no-instance", r"by hand|operator"),
    "gateway-overload": _label("gateway-overload gateway-full", r"gateway.{0,80}(limit|overload)"),
}
"""Words are loose on purpose: they tell a true answer without a finding from none at all."""

STATES: Final = (
    "none-ready", "ejected", "errors-rose", "latency-rose", "slow", "no-slots", "timeouts", "check-fails",
    "probe-blind", "not-replaced", "clients-left", "app-errors", "fails-to-start", "crash-loop",
)  # fmt: skip
"""Findings that say what is seen, and leave open what lies behind it: true, where they stand, but shallow."""


def labels(id_: str) -> set[str]:
    """What an id means."""
    return {name for name, label in LABELS.items() if id_ in label.ids} | {id_}


def said(label: str, text: str) -> bool:
    """Whether the text tells this cause."""
    return label in LABELS and LABELS[label].words.search(text) is not None
