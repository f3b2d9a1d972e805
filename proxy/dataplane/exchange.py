"""One request and its response, from the head read to the record written.

    begin -> (wait in the queue) -> assign -> (connect) -> send -> on_head -> content passes -> finish
                    ^                                  |
                    +------------ failed (again) ------+---- refuse: Triage answers itself

The client's connection owns the request's framing and calls `content` and `content_ended`; the instance's
connection owns the response's and calls `on_head`, `pass_on`, `trailers` and `response_ended`. Failures come in
through `failed` (this attempt) and `refuse` (the request); both end in `finish`, exactly once.

Always true:
  - the slot of `instance` is held from `assign` until `_release`, connection or not;
  - once `head_sent`, nothing is sent again: what goes wrong then cuts the client's connection;
  - `replay` is None or holds all content so far, so that the request can be sent again;
  - nothing is answered, claimed or released inside a parser's callback.

This module is longer than most, because it is the one place where the course of a request can be read whole.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from proxy import faults
from proxy.dataplane import answers, watches
from proxy.dataplane.account import account, note
from proxy.dataplane.buckets import client_key
from proxy.dataplane.retries import Sent, Tried, Verdict, decide
from proxy.dataplane.sticky import read as read_sticky
from proxy.dataplane.sticky import set_cookie
from proxy.dataplane.wheel import INFINITE
from proxy.faults import Fault
from proxy.link.messages import Attempt, BadResponse, Fate, Suspect
from proxy.wire.chunked import Piece, encode_last, encode_pieces
from proxy.wire.hosts import strip_prefix
from proxy.wire.request import METHODS, Fields, HeadError, RequestLine, cookie, field, one_hop_less

if TYPE_CHECKING:
    from proxy.dataplane.app import App
    from proxy.dataplane.client import ClientConnection
    from proxy.dataplane.instance import Instance
    from proxy.dataplane.upstream import InstanceConnection
    from proxy.wire.response import ResponseHead

monotonic = time.monotonic

REPLAY: Final = 65536
"""Content kept for another attempt, per request; gRPC and Envoy keep as much or more by default."""
REPLAY_ALL: Final = 64 << 20
"""The same over all requests of a worker."""
_NO_TRIED: Final[tuple[Instance, ...]] = ()
_COUNTED_HOPS: Final = frozenset((b"OPTIONS", b"TRACE"))


class Exchange:
    """Slots, all set at once: reading a class-level default costs five times as much as a slot does."""

    __slots__ = (
        "alone", "app", "asked_at", "at_once", "attempts", "began", "bytes_in", "bytes_out", "chunk_out", "chunked",
        "client", "client_ip", "conn", "connect_last", "connect_time", "detail", "due", "ended_at", "exits",
        "failed_time",
        "fault", "fields", "first_fault", "fresh", "hash_key", "head", "head_at", "head_done", "head_sent", "id",
        "idle_time", "instance", "keep", "last_instance", "method", "minor", "not_again", "over", "queue_time",
        "queued", "queued_at", "replay", "replay_size", "request_done", "request_head", "reused", "route_prefix",
        "sent", "sent_at", "status", "sticky", "sticky_given", "target", "tls_time", "tried", "tried_at", "tries",
        "tunnel", "upload_time", "wait_fate", "wheel_due", "worker",
    )  # fmt: skip
    ended_at: float
    """Set by account(), as `tried_at` by `assign`: neither is read before."""

    def __init__(
        self,
        client: ClientConnection,
        method: bytes,
        target: bytes,
        minor: int,
        fields: Fields,
        began: float,
        now: float,
    ) -> None:
        self.client = client
        worker = self.worker = client.worker
        self.method = method
        self.target = target
        self.minor = minor
        self.fields = fields
        self.began = began
        self.head_done = now
        self.id = worker.ids.next()
        self.client_ip = ""
        # Where it goes, and where it has been.
        self.app: App | None = None
        self.instance: Instance | None = None
        self.last_instance: Instance | None = None
        self.conn: InstanceConnection | None = None
        self.tried: tuple[Instance, ...] = _NO_TRIED
        self.hash_key: bytes | None = None
        self.sticky = self.sticky_given = ""
        self.route_prefix = self.request_head = b""
        # Attempts and failures.
        self.attempts: list[Attempt] | None = None
        self.first_fault: Fault | None = None
        self.fault: Fault | None = None
        self.detail = self.not_again = ""
        self.tries = self.exits = self.sent = 0
        self.fresh = self.alone = self.wait_fate = self.queued = self.reused = False
        # The request's content.
        self.replay: list[bytes] | None = None
        self.replay_size = self.bytes_in = 0
        self.request_done = True
        self.chunked = False
        # The response. `at_once`: whole with the read that brought its head. `chunk_out`: towards the client.
        self.head: ResponseHead | None = None
        self.status = self.bytes_out = 0
        self.head_sent = self.at_once = self.chunk_out = self.tunnel = self.over = False
        self.keep = True
        """The client's connection stays."""
        # Moments, 0.0 when not reached (`asked_at`: the request was sent whole), and spans.
        self.queued_at = self.sent_at = self.asked_at = self.head_at = 0.0
        self.queue_time = self.connect_time = self.tls_time = self.upload_time = self.idle_time = 0.0
        self.connect_last = 0.0
        """Of the present attempt; `connect_time` is of all."""
        self.failed_time = 0.0
        """Sending and waiting in attempts that failed and were followed by another."""
        self.due = self.wheel_due = INFINITE

    def __repr__(self) -> str:
        at = f" on {self.instance.name}" if self.instance else " queued" if self.queued else ""
        return f"<Exchange {self.id.decode()} {self.method.decode()} {self.target.decode('latin-1')}{at}>"

    def trace(self) -> str:
        """The id of the trace that this request is part of: 32 hex digits, the client's or one that is begun here."""
        return self.fields.trace or self.worker.ids.trace_text + self.id.decode()

    # --- from the head to a connection ------------------------------------------------------------

    def begin(self, now: float) -> None:
        """The head is valid: route, limits, pick."""
        fields = self.fields
        worker = self.worker
        client = self.client
        if fields.plain and worker.calm and fields.length == self.bytes_in:
            # By far the most requests; what follows below would find nothing to do.
            route = worker.routes.match(fields.host, self.target)
            if route is not None:
                app = worker.apps[route.app]
                if app.plain and fields.length <= app.spec.max_body:
                    if fields.close:
                        self.keep = False
                    self.app = app
                    self.client_ip = client.peer
                    app.budget.requests += 1
                    only = app.only
                    if (
                        only is not None
                        and not app.shared
                        and not app.queue
                        and (only.own < only.slots or not only.slots)
                    ):
                        self.assign(only, now)
                    else:
                        self.seek(now)
                    return
        if fields.close or (self.minor == 0 and not fields.keep_alive) or worker.draining:
            self.keep = False
        if (fields.length or fields.chunked) and not self.bytes_in:
            self.request_done = False  # before any refusal: what follows is content, and no request
            self.chunked = fields.chunked
        if fields.via and worker.loops(fields.via):
            self.refuse(faults.LOOP_DETECTED)
            return
        if fields.max_forwards >= 0 and self.method in _COUNTED_HOPS:
            if not fields.max_forwards:
                self._stops_here(now)
                return
            fields = self.fields = one_hop_less(fields)
        route = worker.routes.match(fields.host, self.target)
        if route is None:
            self.refuse(faults.NO_ROUTE)
            return
        app = self.app = worker.apps[route.app]
        spec = app.spec
        self.client_ip = client.peer
        if fields.forwarded:
            self.client_ip = worker.forwarding.client(client.peer_key, fields.forwarded)
        if spec.strip_prefix and route.prefix:
            self.route_prefix = route.prefix
        if worker.guard.shedding and worker.guard.sheds():
            self.refuse(faults.GATEWAY_OVERLOAD, worker.guard.shedding)
            return
        if app.buckets is not None:
            wait = app.buckets.take(client_key(self.client_ip), now)
            if wait:
                self.refuse(faults.RATE_LIMITED, retry_after=wait)
                return
        app.budget.requests += 1
        if fields.length > spec.max_body:
            self.refuse(faults.BODY_TOO_LARGE, f"{fields.length} bytes; {spec.max_body} are allowed")
            return
        if spec.state == "stopped":
            self.refuse(faults.STOPPED)
            return
        if not self.request_done:
            self.replay = []
        if spec.sticky_cookie or spec.balance == "hash":
            self._key(spec.sticky_cookie)
        if spec.total:
            worker.wheel.arm(self, self.began + spec.total)
        self.seek(now)

    def _key(self, sticky_cookie: str) -> None:
        spec = self.app.spec  # type: ignore[union-attr]
        kept = self.fields.kept
        if sticky_cookie:
            given = cookie(kept, sticky_cookie.encode())
            self.sticky = self.sticky_given = read_sticky(given, spec.name, self.worker.secret)
        if spec.balance == "hash":
            kind, _, name = spec.hash_key.partition(":")
            if kind == "header":
                self.hash_key = field(kept, name)
            elif kind == "cookie":
                self.hash_key = cookie(kept, name.encode())
            self.hash_key = self.hash_key or self.client_ip.encode()

    def seek(self, now: float) -> None:
        """Find an instance with a free slot, or wait for one."""
        app = self.app
        assert app is not None
        if app.queue or app.spec.state == "held" or (app.shared and self.worker.board.waiting(app.spec.row)):
            app.wait(self, now)
            return
        instance = app.pick(self, now)
        if instance is None:
            app.wait(self, now)
        else:
            self.assign(instance, now)

    def assign(self, instance: Instance, now: float) -> None:
        """A slot of `instance` is ours."""
        self.tried_at = now
        if self.queued_at:
            self.queue_time += now - self.queued_at
            self.queued_at = 0.0
        instance.take()
        self.instance = instance
        self.tries += 1
        method = self.method
        conn = instance.claim(now, self.fresh, method != b"GET" and not METHODS[method][1])
        if conn is not None:
            self.reused = True
            self.idle_time = now - conn.idle_since
            self.send(conn, now)
        else:
            self.reused = False
            self.worker.connect(instance, self)

    def connected(self, conn: InstanceConnection, connect: float, tls: float, now: float) -> None:
        """A fresh connection, `connect` and `tls` seconds after it was begun."""
        self.connect_last = connect
        self.connect_time += connect
        self.tls_time += tls
        self.send(conn, now)

    def send(self, conn: InstanceConnection, now: float) -> None:
        """Head, and what has come of the content, go out."""
        conn.exchange = self
        self.conn = conn
        head = self.request_head
        if not head:
            head = self.request_head = self._build_head()
        replay = self.replay
        if replay:
            self.client.resume("instance")  # before writing, which may pause it again
            conn.write(b"".join((head, *replay)))
            self.sent = len(head) + self.replay_size
            if self.replay_size > REPLAY:
                self._drop_replay()
        else:
            conn.transport.write(head)  # type: ignore[union-attr]
            self.sent = len(head)
        spec = self.app.spec  # type: ignore[union-attr]
        self.sent_at = monotonic()
        if self.request_done:
            self.asked_at = self.sent_at
        else:
            conn.guard_writes()
        conn.last = now
        due = conn.due = now + spec.first_byte
        if due < conn.wheel_due:
            self.worker.wheel.arm(conn, due)

    def _build_head(self) -> bytes:
        """The request's head as every attempt sends it: spliced from the validated one."""
        client, fields, worker = self.client, self.fields, self.worker
        if client.tail_for is fields:
            tail = client.tail
        else:
            tail = client.make_tail(fields, self.minor)
        target = strip_prefix(self.target, self.route_prefix) if self.route_prefix else self.target
        id = self.id
        spans = worker.spans
        if spans is not None:
            parent = spans.traceparent(self)
            return b"".join(
                (self.method, b" ", target, b" HTTP/1.1\r\n", tail, id, b"\r\ntraceparent: ", parent, b"\r\n\r\n")
            )
        if fields.traceparent:
            return b"".join((self.method, b" ", target, b" HTTP/1.1\r\n", tail, id, b"\r\n\r\n"))
        return b"".join(
            (
                self.method,
                b" ",
                target,
                b" HTTP/1.1\r\n",
                tail,
                id,
                worker.trace,
                id,
                b"-",
                id,
                b"-01\r\n\r\n",
            )
        )

    # --- the request's content --------------------------------------------------------------------

    def given(self, content: bytes) -> None:
        """All content came with the head, before `begin`."""
        self.bytes_in = self.replay_size = len(content)
        self.replay = [content]
        self.worker.replaying += self.replay_size

    def content(self, pieces: list[Piece], size: int) -> None:
        """Content came from the client: pass it on, keep it for another attempt while that is possible."""
        if self.over:
            return
        self.bytes_in += size
        app = self.app
        assert app is not None
        if self.bytes_in > app.spec.max_body:
            self.failed(faults.BODY_TOO_LARGE, f"more than {app.spec.max_body} bytes", now=monotonic())
            return
        data = b"".join(encode_pieces(pieces)) if self.chunked else pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._pass_content(bytes(data))

    def _pass_content(self, data: bytes) -> None:
        worker, conn = self.worker, self.conn
        if self.replay is not None:
            if conn is None or (self.replay_size + len(data) <= REPLAY and worker.replaying + len(data) <= REPLAY_ALL):
                self.replay.append(data)
                self.replay_size += len(data)
                worker.replaying += len(data)
            else:
                self._drop_replay()
        if conn is not None:
            self.sent += len(data)
            conn.write(data)
        elif self.replay_size > REPLAY:
            self.client.pause("instance")

    def content_ended(self, trailers: list[tuple[bytes, bytes]], now: float) -> None:
        """The request is whole."""
        if self.over:
            return
        if self.chunked:
            self._pass_content(encode_last(trailers))
        self.request_done = True
        conn = self.conn
        if conn is not None:
            self.asked_at = now
            self.upload_time = now - self.sent_at
            if not self.head_at:
                self.worker.wheel.arm(conn, now + self.app.spec.first_byte)  # type: ignore[union-attr]

    def _drop_replay(self) -> None:
        self.worker.replaying -= self.replay_size
        self.replay = None
        self.replay_size = 0

    # --- the response -----------------------------------------------------------------------------

    def informational(self, head: ResponseHead) -> None:
        """1xx but 101: passed on where the client can understand it."""
        if self.minor and (head.status != 100 or self.fields.expect) and not self.over:
            self.client.write(head.kept + b"\r\n")

    def on_head(self, head: ResponseHead, now: float) -> bytes | None:
        """The response's head is whole: the head for the client, or None if the response is not passed on."""
        app = self.app
        assert app is not None and self.instance is not None
        status = head.status
        if status >= 500 and app.spec.retry_on and "app-error" in app.spec.retry_on:
            self.head_at = now
            self.status = status
            if app.has_other(self, now) and self._again(faults.APP_ERROR, f"status {status}", now):
                return None
        self.head = head
        self.head_at = now
        self.status = status
        self.head_sent = True
        if self.replay is not None:
            self._drop_replay()
        keep = self.keep
        if not self.request_done:
            keep = self.keep = False  # an early answer: what is left of the request can't be told from the next one
        client = self.client
        end = b"\r\n\r\n"
        if head.length < 0 and self.conn.state_has_content:  # type: ignore[union-attr]
            if self.minor:
                self.chunk_out = True
                end = b"\r\nTransfer-Encoding: chunked\r\n\r\n"
            else:
                keep = self.keep = False
        if not keep:
            end = b"\r\nConnection: close" + end
        elif not self.minor:
            end = b"\r\nConnection: keep-alive" + end
        if app.spec.sticky_cookie and self.sticky_given != self.instance.name:
            line = set_cookie(
                app.spec.sticky_cookie,
                app.name,
                self.instance.name,
                app.spec.sticky_ttl,
                self.worker.secret,
                client.tls,
            )
            end = b"\r\n" + line + end
        return b"".join((head.kept, b"X-Request-ID: ", self.id, end))

    def pass_on(self, data: bytes) -> None:
        """Content of the response, in the framing of the client's side."""
        self.bytes_out += len(data)
        self.client.write(data)

    def pass_on_pieces(self, pieces: list[Piece]) -> None:
        """Content of a chunked or close-delimited response."""
        size = sum(map(len, pieces))
        if size:
            self.bytes_out += size
            self.client.write(b"".join(encode_pieces(pieces) if self.chunk_out else pieces))

    def trailers(self, trailers: list[tuple[bytes, bytes]]) -> None:
        """The end of a response that is chunked towards the client."""
        if self.chunk_out:
            self.client.write(encode_last(trailers))

    def response_ended(self, now: float) -> None:
        """The response was passed on whole."""
        instance, app = self.instance, self.app
        assert instance is not None and app is not None
        # As _release, written out: this is the end of almost every request.
        self.last_instance = instance
        self.instance = self.conn = None
        instance.give()
        failed = self.status >= 500
        wait = self.head_at - (self.asked_at or self.sent_at)
        app.balancer.done(instance, now, wait, failed)
        if instance.adaptive is not None:
            instance.slots = instance.adaptive.answered(wait, instance.inflight + 1)
        if failed:
            self.fault = faults.APP_ERROR
            instance.went_wrong(faults.APP_ERROR)
        elif instance.streak or instance.spec.admission == "trial":
            instance.went_well()
        else:
            instance.good += 1
        if app.queue or app.shared:
            app.freed(now)
        self.finish(now)

    # --- upgrades ---------------------------------------------------------------------------------

    def switched(self, head: ResponseHead, rest: bytes, now: float) -> None:
        """101: from here on bytes pass both ways."""
        conn, client = self.conn, self.client
        assert conn is not None and self.instance is not None
        asked = self.fields.upgrade if self.client.upgrade_goes_on(self) else b""
        if not asked or head.upgrade != asked:
            self.failed(faults.UPGRADE_FAILED, f"101 for {head.upgrade.decode('latin-1') or 'nothing'}", now=now)
            return
        self.head = head
        self.head_at = now
        self.status = 101
        self.head_sent = True
        self.keep = False
        self.tunnel = True
        self.instance.tunnels += 1
        self.worker.tunnels += 1
        watches.head_came(self)
        lines = head.kept + b"Connection: Upgrade\r\nUpgrade: " + head.upgrade + b"\r\nX-Request-ID: " + self.id
        client.write(lines + b"\r\n\r\n" + rest)
        self.bytes_out += len(rest)
        client.open_tunnel(conn, now)
        conn.open_tunnel(client, now)

    def tunnel_ended(self, now: float, fault: Fault | None = None, detail: str = "") -> None:
        """Either side closed."""
        if self.over:
            return
        assert self.instance is not None and self.conn is not None
        self.instance.tunnels -= 1
        self.worker.tunnels -= 1
        conn, instance = self.conn, self.instance
        self._release(now, None, False)
        conn.close_after_writing()
        instance.went_well()
        self.fault, self.detail = fault, detail
        self.finish(now)

    # --- failures ---------------------------------------------------------------------------------

    def failed(self, fault: Fault, detail: str = "", *, now: float, sent: int | None = None) -> None:
        """This attempt failed. Tried again if that is right, else answered or cut."""
        if self.over:
            return
        if sent is not None:
            self.sent = sent
        if self.head_sent or not self._again(fault, detail, now):
            shown = self.first_fault if self.tried and self.first_fault and fault is not self.first_fault else None
            if shown is not None and not self.head_sent and self.sent == 0:
                fault, detail = shown, self.detail
            self.refuse(fault, detail)

    def _again(self, fault: Fault, detail: str, now: float) -> bool:
        """Account for a failed attempt; send the request again if the rules allow it."""
        app, instance = self.app, self.instance
        if app is None or instance is None:
            return False
        sent = Sent.NOTHING if self.sent == 0 else Sent.WHOLE if self.request_done else Sent.PARTLY
        since = self.asked_at or self.sent_at
        waited = now - since if since else None
        path = self.target.decode("latin-1").partition("?")[0]
        tried = Tried(
            self.method,
            sent,
            self.replay is not None or (self.request_done and self.bytes_in == 0 and not self.chunked),
            self.head_sent,
            self.tries,
            self.fresh,
            self.exits,
            self.alone,
            (self.method.decode(), path) in app.spec.suspects if self.exits else False,
        )
        verdict = decide(fault, tried, now, app.budget, app.spec.attempts, app.spec.retry_on)
        if fault is faults.APP_ERROR and not verdict.again:
            return False  # an answer after all: it is passed on as it came
        note(self, fault, detail, now)
        watches.failed(self, fault, now)
        if self.worker.spans is not None:
            self.request_head = b""  # the next attempt has a span of its own
        was_fresh = self.fresh
        conn = self.conn
        blamed = fault.blame is not faults.Blame.NO
        self._release(now, waited if blamed else None, blamed)
        if conn is not None:
            conn.close()
        instance.went_wrong(fault)
        if verdict is Verdict.SUSPECT_TWICE:
            self.worker.send(Suspect(app.name, self.method.decode(), path, self.id.decode()))
        if not verdict.again:
            if self.attempts and fault.origin is not faults.Origin.CLIENT:
                self.detail = detail
                self.not_again = verdict.value
            return False
        self.first_fault = self.first_fault or fault
        self.detail = self.detail or detail
        instance.tally.retries += 1
        if self.sent_at:
            self.failed_time += now - self.sent_at
        self.sent = 0
        self.sent_at = self.asked_at = self.head_at = self.upload_time = self.connect_last = 0.0
        if verdict is Verdict.FRESH:
            self.fresh = True
            self.tries -= 1
        else:
            self.fresh = was_fresh
            self.tried = (*self.tried, instance)
        self.seek(now)
        return True

    def lost(self, now: float, by_reset: bool, half: str) -> None:
        """The instance closed the connection before the response's head was whole; `half` says how much of it came."""
        instance = self.instance
        assert instance is not None
        if instance.spec.pid and self.worker.has_ended(instance):
            # In this worker, by its own count: the board's row may be another's by now. Control knows the rest.
            self.alone = instance.own == 1
            self.wait_fate = True
            self.worker.ask_fate(instance, self)
            return
        if self.reused and not half and not self.fresh:
            self.failed(faults.STALE_CONNECTION, f"idle for {self.idle_time:.1f} s", now=now)
        elif by_reset:
            self.failed(faults.RESET_BEFORE_HEAD, half, now=now)
        else:
            self.failed(faults.CLOSED_BEFORE_HEAD, half, now=now)

    def fate(self, fate: Fate, now: float) -> None:
        """What became of the instance that this request was on."""
        if not self.wait_fate or self.over:
            return
        self.wait_fate = False
        if self.instance is not None:
            self.instance.ended(now)  # else a request on the only one would be without hope until the next table
        if fate.ours:
            self.failed(faults.INSTANCE_RECYCLED, fate.words, now=now)
            return
        if fate.by_itself:
            self.exits += 1
            # Another worker may have been told first, and given its slots back before this one looked.
            self.alone = self.alone and fate.inflight <= 1
        else:
            self.alone = False
        self.failed(faults.INSTANCE_EXITED, fate.words, now=now)

    def refuse(self, fault: Fault, detail: str = "", *, status: int | None = None, retry_after: float = 0.0) -> None:
        """Triage answers itself; after the head went out the client's connection is cut."""
        if self.over:
            return
        now = monotonic()
        app, client = self.app, self.client
        if self.queued_at:
            self.queue_time += now - self.queued_at
            self.queued_at = 0.0
        if self.queued and app is not None:
            app.leave_queue(self)
        if self.instance is not None:
            conn, instance = self.conn, self.instance
            note(self, fault, detail, now)
            watches.failed(self, fault, now)
            self._release(now, None, fault.blame is not faults.Blame.NO)
            if conn is not None:
                conn.close()
            instance.went_wrong(fault)
        self.fault = fault
        self.detail = detail or self.detail
        wanted = status or fault.status or (self.status if fault is faults.APP_ERROR else 0)
        if self.head_sent or not wanted or wanted == 499:
            client.cut()  # first: `finish` would close a connection that was not to be kept as if all were well
            self.finish(now)
            return
        self.status = wanted
        if self.status in (400, 408, 414, 431, 501, 505) or not self.request_done:
            self.keep = False  # where the next request begins is not known
        if self.status in (503, 429) and not retry_after:
            retry_after = app.drain_time(now) if app is not None else 1.0
        worker = self.worker
        answer = answers.build(
            fault,
            self.status,
            self.id.decode(),
            self.detail,
            trace=self.trace(),
            kept=self.fields.kept,
            head_only=self.method == b"HEAD",
            local=client.local and not self.fields.forwarded and not self.fields.via,
            close=not self.keep,
            keep_alive_1_0=self.minor == 0 and self.keep,
            retry_after=retry_after,
            pseudonym=b"triage",
            pages=worker.settings.error_pages,
        )
        self.bytes_out = len(answer) - answer.find(b"\r\n\r\n") - 4
        client.write(answer)
        self.finish(now)

    def _stops_here(self, now: float) -> None:
        """Max-Forwards is 0: answered by the gateway itself (RFC 9110 section 7.6.2), as far as it answers at all."""
        worker, client, fields = self.worker, self.client, self.fields
        self.client_ip = client.peer
        if fields.forwarded:
            self.client_ip = worker.forwarding.client(client.peer_key, fields.forwarded)
        if worker.guard.shedding and worker.guard.sheds():
            self.refuse(faults.GATEWAY_OVERLOAD, worker.guard.shedding)
            return
        if self.method == b"TRACE":  # its answer would show fields that scripts may not see
            self.refuse(faults.BAD_REQUEST, "TRACE is not answered by the gateway itself", status=501)
            return
        if not self.request_done:
            self.keep = False
        self.status = 200
        client.write(answers.options(self.id, close=not self.keep, keep_alive_1_0=self.minor == 0 and self.keep))
        if self.target == b"*" and self.request_done and field(fields.kept, "user-agent") == answers.SELF_CHECK:
            self._end_uncounted(now)
        else:
            self.finish(now)

    def _end_uncounted(self, now: float) -> None:
        """As `finish`, of a self-check: it reached no app and asked for nothing, so it is no traffic."""
        self.over = True
        self.due = INFINITE
        if self.replay is not None:
            self._drop_replay()
        self.worker.self_checks += 1
        self.client.exchange_ended(self, now)

    def client_left(self, now: float) -> None:
        """The client closed its connection."""
        self.refuse(faults.CLIENT_LEFT)

    def bad_response(self, error: HeadError, data: bytes, now: float) -> None:
        """What came is no valid response; it is kept for `why`."""
        instance = self.instance
        if instance is not None and self.app is not None:
            at = error.offset or 0
            self.worker.send(
                BadResponse(
                    self.app.name,
                    instance.name,
                    self.id.decode(),
                    at,
                    error.detail,
                    data[max(at - 256, 0) : at + 768],
                )
            )
        self.failed(error.fault, error.detail, now=now)

    def on_due(self, now: float) -> None:
        """timeouts.total passed."""
        if not self.over and not self.tunnel:
            if self.instance is not None and not self.head_sent:
                self.failed(faults.TOTAL_TIMEOUT, now=now)
            else:
                self.refuse(faults.TOTAL_TIMEOUT)

    # --- the end ----------------------------------------------------------------------------------

    def _release(self, now: float, latency: float | None, failed: bool) -> None:
        """Give the slot back. The connection is the caller's business."""
        instance, app = self.instance, self.app
        if instance is None or app is None:
            return
        self.last_instance = instance
        self.instance = None
        conn, self.conn = self.conn, None
        if conn is not None:
            conn.exchange = None
        else:
            self.worker.forget_connect(self)
        instance.give()
        app.balancer.done(instance, now, latency, failed)
        app.freed(now)

    def finish(self, now: float) -> None:
        """Count, record, and let the client's connection go on."""
        if self.over:
            return
        self.over = True
        self.due = INFINITE
        if self.replay is not None:
            self._drop_replay()
        account(self, now)
        self.client.exchange_ended(self, now)


def rejected(client: ClientConnection, error: HeadError, data: bytes, began: float, now: float) -> Exchange:
    """An exchange for a head that could not be understood, to be refused at once."""
    fields = Fields()
    fields.kept = data.partition(b"\r\n")[2][:65536] + b"\r\n"
    words = data[:8192].split(None, 2)
    method = words[0][:32] if words else b""
    target = words[1] if len(words) > 1 else b""
    exchange = Exchange(client, method, target, 1, fields, began, now)
    exchange.keep = False
    exchange.client_ip = client.peer
    return exchange


def of(client: ClientConnection, line: RequestLine, fields: Fields, began: float, now: float) -> Exchange:
    """An exchange for a valid head."""
    return Exchange(client, line.method, line.target, line.minor, fields, began, now)
