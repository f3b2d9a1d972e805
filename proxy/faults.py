"""Every way an exchange can fail, in one table.

Always true:
  - a Fault is created where the failure is first understood, and never changed; what is learned
    later (an exit that explains a closed connection) makes another Fault, by `refine`;
  - `status is None` means no answer can be sent any more: close the connection;
  - `retry` speaks about *this* failure only; the exchange also checks the method, what was
    sent, and where it was tried already (RFC 9110 section 9.2.2);
  - `blame` says whether it counts against the instance's passive health.

The names are a contract: the same string in code, log, API, metrics and docs. `python -m proxy.faults`
prints the table as Markdown; docs/faults.md is that output.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final


class Origin(Enum):
    """Whose doing it was."""

    CLIENT = "client"
    INSTANCE = "instance"
    GATEWAY = "gateway"
    OPERATOR = "operator"
    NOBODY = "nobody"


class Phase(Enum):
    """Where the request stood."""

    HEAD = "head"
    ROUTE = "route"
    LIMIT = "limit"
    PICK = "pick"
    CONNECT = "connect"
    SEND = "send"
    WAIT = "wait"
    BODY = "body"


class Retry(Enum):
    """What this failure says about sending the request again."""

    NEVER = "never"
    ALWAYS = "always"  # nothing of the request reached anybody
    IF_IDEMPOTENT = "if-idempotent"
    IF_ASKED = "if-asked"  # idempotent, and `retries.on` names it
    STALE = "stale"  # once more on a fresh connection, outside attempts and budget
    SUSPECT = "suspect"  # the request may have ended the instance: section "Suspects" of docs/faults.md


class Blame(Enum):
    """Whether it counts against the instance."""

    NO = "no"
    YES = "yes"
    RATIO = "by ratio"  # only the windowed ratio, never "in a row"


@dataclass(frozen=True, slots=True)
class Fault:
    """A value, not an Enum: equal rows in an Enum would alias."""

    name: str
    status: int | None
    error: str | None  # RFC 9209 section 2.3
    phase: Phase
    origin: Origin
    retry: Retry
    blame: Blame
    words: str  # what happened, for a person
    ends: str  # which act or key ends it

    def __repr__(self) -> str:
        return f"<Fault {self.name} {self.status or 'cut'}>"


_C, _I, _G, _O, _N = Origin.CLIENT, Origin.INSTANCE, Origin.GATEWAY, Origin.OPERATOR, Origin.NOBODY
_no, _yes, _ratio = Blame.NO, Blame.YES, Blame.RATIO


def _client(name: str, status: int | None, error: str | None, phase: Phase, words: str, ends: str) -> Fault:
    return Fault(name, status, error, phase, _C, Retry.NEVER, _no, words, ends)


# fmt: off
BAD_REQUEST: Final = _client(
    "bad-request", 400, "http_request_error", Phase.HEAD,
    "The request's head breaks the rules of HTTP, or asks for what this gateway does not do.",
    "mend the client: the detail says which part was refused",
)
BAD_FRAMING: Final = _client(
    "bad-framing", 400, "http_request_error", Phase.HEAD,
    "It is ambiguous where the request's content ends, so it was refused and never reached an instance.",
    "mend the client: exactly one of Content-Length or Transfer-Encoding: chunked",
)
HEAD_TOO_LARGE: Final = _client(
    "head-too-large", 431, "http_request_error", Phase.HEAD,
    "The request's head is larger than gateway.limits.head, or has more fields than gateway.limits.headers.",
    "raise gateway.limits.head or .headers, or make the client send less (often: cookies)",
)
TARGET_TOO_LONG: Final = _client(
    "target-too-long", 414, "http_request_error", Phase.HEAD,
    "The request's target is longer than gateway.limits.target.",
    "raise gateway.limits.target, or send the data as content",
)
BODY_TOO_LARGE: Final = _client(
    "body-too-large", 413, "http_request_error", Phase.SEND,
    "The request's content is larger than the app's max_body.",
    "raise apps.NAME.max_body",
)
CLIENT_TIMEOUT: Final = _client(
    "client-timeout", 408, "http_request_error", Phase.HEAD,
    "The client did not send its request in time.",
    "gateway.timeouts.head and .body set the limits; mostly a client that lost its network",
)
CLIENT_LEFT: Final = _client(
    "client-left", 499, None, Phase.WAIT,
    "The client closed its connection before it had the whole response.",
    "nothing, if rare; often the client's own time limit is shorter than the answer takes",
)
CLIENT_STALLED: Final = _client(
    "client-stalled", 499, "connection_write_timeout", Phase.BODY,
    "The client stopped reading the response, so the connection was cut.",
    "nothing, if rare; gateway.timeouts.body sets the limit",
)
RATE_LIMITED: Final = _client(
    "rate-limited", 429, "http_request_denied", Phase.LIMIT,
    "The client sent more requests than the app's rate_limit allows.",
    "the client waits as Retry-After says; or raise apps.NAME.rate_limit",
)
NO_ROUTE: Final = _client(
    "no-route", 404, "destination_not_found", Phase.ROUTE,
    "No app has this host and path.",
    "check apps.NAME.hosts and .paths",
)
LOOP_DETECTED: Final = _client(
    "loop-detected", 502, "proxy_loop_detected", Phase.ROUTE,
    "The request has been through this gateway already.",
    "the address of an app leads back to the gateway: check apps.NAME.addresses, and what the app calls",
)
NO_INSTANCE: Final = Fault(
    "no-instance", 503, "destination_unavailable", Phase.PICK, _O, Retry.NEVER, _no,
    "The app is set to have no instance.",
    "apps.NAME.process.instances, or apps.NAME.addresses",
)
ALL_UNREADY: Final = Fault(
    "all-unready", 503, "destination_unavailable", Phase.PICK, _I, Retry.NEVER, _no,
    "No instance of the app is ready: none has started well yet, or none runs.",
    "triage status says what each instance printed last",
)
ALL_EJECTED: Final = Fault(
    "all-ejected", 503, "destination_unavailable", Phase.PICK, _I, Retry.NEVER, _no,
    "Every instance of the app is ejected: none can be connected to, or all were ejected by hand.",
    "they come back by themselves when a trial request or a probe passes",
)
STOPPED: Final = Fault(
    "stopped", 503, "destination_unavailable", Phase.LIMIT, _O, Retry.NEVER, _no,
    "The app was stopped by hand.",
    "start it again",
)
HELD_TOO_LONG: Final = Fault(
    "held-too-long", 503, "destination_unavailable", Phase.LIMIT, _O, Retry.NEVER, _no,
    "The app's requests are held by hand, and this one waited as long as queue.timeout allows.",
    "release the app",
)
QUEUE_FULL: Final = Fault(
    "queue-full", 503, "connection_limit_reached", Phase.LIMIT, _I, Retry.NEVER, _no,
    "All slots of the app's instances are taken, and so is every place in its queue.",
    "more instances, a higher max_inflight, or a faster app: triage why APP says what holds the slots",
)
QUEUE_TIMEOUT: Final = Fault(
    "queue-timeout", 503, "connection_limit_reached", Phase.LIMIT, _I, Retry.NEVER, _no,
    "No slot of the app's instances came free within queue.timeout.",
    "more instances, a higher max_inflight, or a faster app: triage why APP says what holds the slots",
)
SHED: Final = Fault(
    "shed", 503, "connection_limit_reached", Phase.LIMIT, _I, Retry.NEVER, _no,
    "The app's queue did not drain, so its oldest waiting requests were turned away for the newest.",
    "more instances, a higher max_inflight, or a faster app: triage why APP says what holds the slots",
)
GATEWAY_OVERLOAD: Final = Fault(
    "gateway-overload", 503, "connection_limit_reached", Phase.LIMIT, _G, Retry.NEVER, _no,
    "The gateway itself is at a limit: connections, descriptors, memory, or its event loop's lag.",
    "gateway.limits.connections, more workers, or a higher descriptor limit (ulimit -n)",
)
DNS_ERROR: Final = Fault(
    "dns-error", 502, "dns_error", Phase.CONNECT, _I, Retry.ALWAYS, _yes,
    "The name of the instance's address does not resolve.",
    "check the name in apps.NAME.addresses, and this machine's resolver",
)
DNS_TIMEOUT: Final = Fault(
    "dns-timeout", 504, "dns_timeout", Phase.CONNECT, _I, Retry.ALWAYS, _yes,
    "The name of the instance's address was not resolved in time.",
    "check this machine's resolver",
)
CONNECT_REFUSED: Final = Fault(
    "connect-refused", 502, "connection_refused", Phase.CONNECT, _I, Retry.ALWAYS, _yes,
    "Nothing accepts connections at the instance's address.",
    "the process is down, or listens elsewhere than on {port}: triage status says which",
)
CONNECT_UNREACHABLE: Final = Fault(
    "connect-unreachable", 502, "destination_ip_unroutable", Phase.CONNECT, _I, Retry.ALWAYS, _yes,
    "There is no way from this machine to the instance's address.",
    "check the address, routes and firewall",
)
CONNECT_TIMEOUT: Final = Fault(
    "connect-timeout", 504, "connection_timeout", Phase.CONNECT, _I, Retry.ALWAYS, _yes,
    "The instance did not accept a connection (with TLS, where configured) within timeouts.connect.",
    "its accept queue is full because it hangs, or packets are dropped on the way; timeouts.connect",
)
PORTS_EXHAUSTED: Final = Fault(
    "ports-exhausted", 503, "connection_limit_reached", Phase.CONNECT, _G, Retry.NEVER, _no,
    "This machine has no local port left for a connection to the instance.",
    "let connections be kept alive by the app, or widen net.ipv4.ip_local_port_range",
)
DESCRIPTORS_EXHAUSTED: Final = Fault(
    "descriptors-exhausted", 503, "connection_limit_reached", Phase.CONNECT, _G, Retry.NEVER, _no,
    "The worker has no file descriptor left for a connection to the instance.",
    "raise the descriptor limit (ulimit -n, LimitNOFILE=), or add workers",
)
TLS_ERROR: Final = Fault(
    "tls-error", 502, "tls_protocol_error", Phase.CONNECT, _I, Retry.ALWAYS, _yes,
    "The TLS handshake with the instance failed.",
    "does the instance speak TLS at that port? http:// instead of https:// in apps.NAME.addresses?",
)
TLS_CERTIFICATE: Final = Fault(
    "tls-certificate", 502, "tls_certificate_error", Phase.CONNECT, _I, Retry.ALWAYS, _yes,
    "The instance's certificate could not be verified.",
    "addresses = [{ url = ..., tls = { ca = ... } }], or a renewed certificate",
)
STALE_CONNECTION: Final = Fault(
    "stale-connection", 502, "connection_terminated", Phase.WAIT, _N, Retry.STALE, _no,
    "A reused connection was closed by the instance just as the request was sent on it.",
    "the app's keep-alive time is short: Triage learns it; it says nothing about the app's health",
)
CLOSED_BEFORE_HEAD: Final = Fault(
    "closed-before-head", 502, "connection_terminated", Phase.WAIT, _I, Retry.IF_IDEMPOTENT, _yes,
    "The instance closed the connection without answering.",
    "its log at that time says why; often an unhandled error or a limit in its server",
)
RESET_BEFORE_HEAD: Final = Fault(
    "reset-before-head", 502, "connection_terminated", Phase.WAIT, _I, Retry.IF_IDEMPOTENT, _yes,
    "The instance reset the connection without answering.",
    "its log at that time says why; often a full backlog or a crash of a process behind it",
)
INSTANCE_EXITED: Final = Fault(
    "instance-exited", 502, "connection_terminated", Phase.WAIT, _I, Retry.SUSPECT, _yes,
    "The instance's process ended while it had this request.",
    "triage why says how it ended, its last lines, and what else was on it",
)
INSTANCE_RECYCLED: Final = Fault(
    "instance-recycled", 502, "connection_terminated", Phase.WAIT, _O, Retry.IF_IDEMPOTENT, _no,
    "The instance was stopped by Triage, and this request outlasted the time for draining.",
    "a longer process.stop.timeout, or shorter requests",
)
HEAD_TIMEOUT: Final = Fault(
    "head-timeout", 504, "http_response_timeout", Phase.WAIT, _I, Retry.IF_ASKED, _yes,
    "The instance had the whole request but sent no whole response head within timeouts.first_byte.",
    "triage why shows where it hangs; timeouts.first_byte if it may take so long",
)
TOTAL_TIMEOUT: Final = Fault(
    "total-timeout", 504, "http_response_timeout", Phase.WAIT, _I, Retry.NEVER, _yes,
    "The request took longer than timeouts.total.",
    "timeouts.total, or a faster app",
)
BAD_RESPONSE: Final = Fault(
    "bad-response", 502, "http_protocol_error", Phase.WAIT, _I, Retry.NEVER, _yes,
    "What the instance sent is not a valid HTTP response.",
    "the malformed bytes are kept, with the offset at which they went wrong: triage why shows them",
)
RESPONSE_FRAMING: Final = Fault(
    "response-framing", 502, "http_protocol_error", Phase.WAIT, _I, Retry.NEVER, _yes,
    "It is ambiguous or wrong where the instance's response ends.",
    "mend the app: it sends two lengths, a wrong one, or bytes behind its response",
)
SEND_TIMEOUT: Final = Fault(
    "send-timeout", 504, "connection_write_timeout", Phase.SEND, _I, Retry.IF_IDEMPOTENT, _yes,
    "The instance stopped reading the request's content.",
    "triage why shows where it hangs",
)
RESPONSE_HEAD_TOO_LARGE: Final = Fault(
    "response-head-too-large", 502, "http_response_header_section_size", Phase.WAIT, _I, Retry.NEVER, _no,
    "The head of the instance's response is larger than gateway.limits.head.",
    "smaller response headers (often: cookies), or raise gateway.limits.head",
)
BODY_TRUNCATED: Final = Fault(
    "body-truncated", None, "http_response_incomplete", Phase.BODY, _I, Retry.NEVER, _yes,
    "The instance closed the connection in the middle of its response.",
    "its log at that time says why; the client's connection was cut, so that it cannot take it for whole",
)
BODY_TIMEOUT: Final = Fault(
    "body-timeout", None, "connection_read_timeout", Phase.BODY, _I, Retry.NEVER, _yes,
    "The instance stopped in the middle of its response for longer than timeouts.idle.",
    "triage why shows where it hangs; timeouts.idle if such gaps are normal",
)
UPGRADE_FAILED: Final = Fault(
    "upgrade-failed", 502, "http_upgrade_failed", Phase.WAIT, _I, Retry.NEVER, _yes,
    "The instance answered an Upgrade in a way that fits neither yes nor no.",
    "mend the app: 101 only for what was asked, with the same protocol named",
)
APP_ERROR: Final = Fault(
    "app-error", None, None, Phase.WAIT, _I, Retry.IF_ASKED, _ratio,
    "The app itself answered with a 5xx.",
    "the app's log at that time says why",
)
INTERNAL_ERROR: Final = Fault(
    "internal-error", 500, "proxy_internal_error", Phase.HEAD, _G, Retry.NEVER, _no,
    "Triage itself failed on this request. That is a defect of Triage.",
    "please report it with the traceback in Triage's own log",
)

# fmt: on
FAULTS: Final[dict[str, Fault]] = {fault.name: fault for fault in list(globals().values()) if isinstance(fault, Fault)}
"""By name, in the order of the table."""


def markdown() -> str:
    """The table as docs/faults.md has it."""
    lines = [
        "# Faults",
        "",
        "Every way a request can fail in Triage, made from `proxy/faults.py` by `make docs`. The name stands in the",
        "`Proxy-Status` field of the answer (`details`), in the access log, in `triage requests --fault NAME`, in the",
        "metric `triage_faults_total` and in `triage why`.",
        "",
        "| name | status | RFC 9209 error | phase | whose doing | tried again | counts against the instance |",
        "|---|---|---|---|---|---|---|",
    ]
    for fault in FAULTS.values():
        status = fault.status if fault.status else ("as sent" if fault is APP_ERROR else "cut")
        lines.append(
            f"| [{fault.name}](#{fault.name}) | {status} | {fault.error or ''} | {fault.phase.value} "
            f"| {fault.origin.value} | {fault.retry.value} | {fault.blame.value} |"
        )
    for fault in FAULTS.values():
        lines += ["", f"## {fault.name}", "", fault.words, "", f"What ends it: {fault.ends}."]
        if section := _troubleshooting(fault):
            lines += ["", f"Step by step: [troubleshooting.md](troubleshooting.md#{section})."]
    lines += ["", _RULES]
    return "\n".join(lines) + "\n"


def _troubleshooting(fault: Fault) -> str:
    """The section of docs/troubleshooting.md that it belongs to; "": it is the client's to mend."""
    if fault.status in (502, 503, 504):
        return str(fault.status)
    if fault.status is None and fault.origin is Origin.INSTANCE:
        return "answers-that-are-cut" if fault is not APP_ERROR else "errors-of-the-apps-own"
    return ""


_RULES = """## How requests are tried again

- `always`: nothing of the request reached anybody, so any method is sent to another instance.
- `if-idempotent`: GET, HEAD, OPTIONS, TRACE, PUT and DELETE only, while all that was sent is still kept.
- `if-asked`: the same, and only when `apps.NAME.retries.on` names the fault.
- `stale`: once more on a fresh connection, the same instance allowed, outside attempts and budget; methods that
  are not idempotent only if nothing of the request was sent.
- Never on an instance already tried; `retries.attempts` more tries; a budget of `retries.budget` of the traffic
  and `retries.per_second` besides.

## Suspects

When an instance ends by itself (a non-zero exit, a crash signal, an out-of-memory kill; not a signal from outside and
not Triage's), the requests on it are suspects. The only one in flight is not tried again. Of several, each idempotent
one is tried once more; one that was on two instances when they ended is never sent again, and its method and path
stay suspect until the app's next version, a day at most."""


if __name__ == "__main__":
    print(markdown(), end="")
