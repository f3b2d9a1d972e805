"""Requests and attempts as OpenTelemetry spans, in OTLP's JSON form. Pure.

A request is a server span, each attempt a client span below it; names and attributes are those of OpenTelemetry's
semantic conventions for HTTP (1.23 and later, stable), what they have no name for begins with `triage.`. The ids are
those that the instance was told (link/spans.py), so its own spans hang below the attempt.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from typing import Any, Final

import proxy
from proxy import masking
from proxy.faults import FAULTS, Origin
from proxy.link.messages import Attempt, Record
from proxy.link.spans import attempt_span

SERVER: Final = 2
CLIENT: Final = 3
ERROR: Final = 2
SAMPLED: Final = 0x01
HAS_IS_REMOTE: Final = 0x100
IS_REMOTE: Final = 0x200
KNOWN_METHODS: Final = frozenset(
    ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY")
)
"""Others are "_OTHER" by the conventions: names of spans are to be few."""

Places = Mapping[tuple[str, str], tuple[str, int]]
"""App and instance to address and port; a Unix socket's path has port 0, and ("", 0) is not known."""


def wanted(record: Record, slow: float) -> bool:
    """Whether it is exported: sampled, slower than `slow` seconds, or failed by anyone but the client."""
    fault = FAULTS.get(record.fault)
    if record.sampled or (fault is not None and fault.origin is not Origin.CLIENT):
        return True
    return record.total_us > slow * 1e6 and not record.tunnel


def of(record: Record, places: Places) -> list[dict[str, Any]]:
    """The request's span first."""
    attempts = enumerate(_attempts(record), 1)
    return [_request(record), *(_attempt(record, one, number, places) for number, one in attempts)]


def whole(spans: list[dict[str, Any]], service: str, gateway_id: str) -> dict[str, Any]:
    """An ExportTraceServiceRequest."""
    resource = {
        "service.name": service,
        "service.version": proxy.__version__,
        "service.instance.id": gateway_id,
        "host.name": socket.gethostname(),
    }
    scope = {"name": "triage", "version": proxy.__version__}
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": _attributes(resource.items())},
                "scopeSpans": [{"scope": scope, "spans": spans}],
            }
        ]
    }


def _request(record: Record) -> dict[str, Any]:
    path, _, query = record.target.partition("?")
    method, name = _method(record.method)
    host, port = _split(record.host)
    told: dict[str, Any] = {
        "http.request.method": method,
        "http.request.method_original": record.method if method == "_OTHER" else None,
        "url.scheme": record.scheme or "http",
        "url.path": path,
        "url.query": _masked(query),
        "http.response.status_code": record.status or None,
        "error.type": record.fault or (str(record.status) if record.status >= 500 else None),
        "server.address": host or None,
        "server.port": port or None,
        "client.address": record.client or None,
        "user_agent.original": record.user_agent or None,
        "http.request.body.size": record.bytes_in or None,
        "http.response.body.size": record.bytes_out or None,
        "triage.request_id": record.id,
        "triage.app": record.app or None,
        "triage.instance": record.instance or None,
        "triage.worker": record.worker,
        "triage.own_time": record.own_us / 1e6,
        "triage.queue_time": record.queue_us / 1e6 if record.queue_us else None,
    }
    span = _span(record, record.id, record.parent, name, SERVER, 0, record.total_us, told)
    if record.parent:
        span["flags"] |= IS_REMOTE
    fault = FAULTS.get(record.fault)
    if record.status >= 500 or (fault is not None and fault.origin is not Origin.CLIENT):
        span["status"] = {"code": ERROR, "message": record.detail or (fault.words if fault is not None else "")}
    return span


def _attempt(record: Record, one: Attempt, number: int, places: Places) -> dict[str, Any]:
    method, name = _method(record.method)
    address, port = places.get((record.app, one.instance), ("", 0))
    path, _, query = record.target.partition("?")
    error = one.fault or (str(one.status) if one.status >= 400 else None)
    told: dict[str, Any] = {
        "http.request.method": method,
        "http.request.resend_count": number - 1 or None,
        "url.path": path,
        "url.query": _masked(query),
        "server.address": address or one.instance,
        "server.port": port or None,
        "network.peer.address": address or None,
        "network.peer.port": port or None,
        "http.response.status_code": one.status or None,
        "error.type": error,
        "triage.instance": one.instance,
        "triage.connection.reused": one.reused,
        "triage.connect_time": one.connect_us / 1e6 if one.connect_us is not None else None,
        "triage.wait_time": one.wait_us / 1e6 if one.wait_us is not None else None,
    }
    span = _span(
        record, attempt_span(record.id, number), record.id, name, CLIENT, one.began_us, one.began_us + one.took_us, told
    )
    if error:
        span["status"] = {"code": ERROR, "message": one.detail}
    return span


def _attempts(record: Record) -> list[Attempt]:
    """Those noted; of a request that went well at once none is, and its only one is what its record says."""
    total = record.total_us
    if record.attempts:
        *before, last = record.attempts
        if not last.fault:  # it was noted when its head had come; its content came after
            last = Attempt(
                last.instance, last.fault, last.detail, last.reused, last.idle_us, last.connect_us, last.tls_us,
                last.wait_us, last.sent, last.status, last.began_us, max(last.took_us, total - last.began_us),
            )  # fmt: skip
        return [*before, last]
    if not record.instance or not record.tries:
        return []
    began = min((record.head_us or 0) + (record.queue_us or 0), total)
    return [
        Attempt(
            record.instance, record.fault, "", record.reused, record.idle_us, record.connect_us, record.tls_us,
            record.wait_us, record.sent, record.status, began, total - began,
        )
    ]  # fmt: skip


def _span(
    record: Record, id: str, parent: str, name: str, kind: int, begins: int, ends: int, told: dict[str, Any]
) -> dict[str, Any]:
    """`begins` and `ends`: microseconds after the request began."""
    began = round(record.time * 1e6)
    span = {
        "traceId": record.trace,
        "spanId": id,
        "name": name,
        "kind": kind,
        "flags": HAS_IS_REMOTE | (SAMPLED if record.sampled else 0),
        "startTimeUnixNano": f"{began + begins}000",
        "endTimeUnixNano": f"{began + max(begins, ends)}000",
        "attributes": _attributes(told.items()),
    }
    if parent:
        span["parentSpanId"] = parent
    return span


def _method(method: str) -> tuple[str, str]:
    """The attribute, and the span's name: without a route the method is all that is of few values."""
    return (method, method) if method in KNOWN_METHODS else ("_OTHER", "HTTP")


def _masked(query: str) -> str | None:
    """What looks like a secret leaves this machine no more than it stands in a report."""
    if not query:
        return None
    pairs = (pair.partition("=") for pair in query.split("&"))
    return "&".join(f"{name}{sign}{masking.masked(name, value)}" for name, sign, value in pairs)


def _split(host: str) -> tuple[str, int]:
    name, colon, port = host.rpartition(":")
    if colon and port.isdigit() and not port.startswith("]"):
        return name.strip("[]"), int(port)
    return host.strip("[]"), 0


def _attributes(told: Iterable[tuple[str, Any]]) -> list[dict[str, Any]]:
    """None is left out; whole numbers are texts (protobuf's JSON form of 64 bits)."""
    return [{"key": key, "value": _value(value)} for key, value in told if value is not None]


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    return {"stringValue": value}
