"""From what is known to what workers need: the routing table. Pure.

Always true: an instance is in the table if and only if its lifecycle is `ready`; a draining one has left it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final

from proxy.config import Config, worker_count
from proxy.control.state import AppState, InstanceState, Lifecycle
from proxy.link import messages as link

_ON_THEIR_WAY: Final = (Lifecycle.STARTING, Lifecycle.WARMING, Lifecycle.BACKOFF)


def table(
    version: int, workers: int, config: Config, apps: Iterable[AppState], secret: str, pages: dict[str, str], now: float
) -> link.Table:
    """`now` is monotonic: suspects of the past are left out."""
    return link.Table(
        version=version,
        workers=workers,
        settings=settings(config, worker_count(config.gateway), secret, pages),
        apps=tuple(
            app(state, now, stories(config, state.name)) for state in sorted(apps, key=lambda state: state.row)
        ),
    )


def settings(config: Config, workers: int, secret: str, pages: dict[str, str]) -> link.Settings:
    """What concerns the gateway as a whole; `connections_limit` is one worker's share."""
    gateway = config.gateway
    log = gateway.access_log
    return link.Settings(
        trusted_proxies=gateway.trusted_proxies,
        proxy_protocol=gateway.proxy_protocol,
        access_log=log.path if log else "",
        access_log_format=log.format if log else "json",
        access_log_size=log.size if log else 0,
        access_log_files=log.files if log else 5,
        access_log_age=log.age if log else 0.0,
        slow=gateway.slow,
        head_limit=gateway.limits.head,
        headers_limit=gateway.limits.headers,
        target_limit=gateway.limits.target,
        connections_limit=max(1, gateway.limits.connections // max(1, workers)),
        head_timeout=gateway.timeouts.head,
        body_timeout=gateway.timeouts.body,
        idle_timeout=gateway.timeouts.idle,
        drain_timeout=gateway.timeouts.drain,
        error_pages=pages,
        certificates=tuple((pair.cert, pair.key) for pair in gateway.certificates),
        secret=secret,
        trace_sample=config.traces.sample if config.traces.otlp else -1.0,
        gateway_id=gateway_id(secret),
    )


def gateway_id(secret: str) -> str:
    """Eight hex digits, the same for all workers and after a restart."""
    return hashlib.sha256(f"gateway-id {secret}".encode()).hexdigest()[:8]


def stories(config: Config, app: str) -> tuple[link.Whole, ...]:
    """The rules of `keep.whole` that concern an app."""
    return tuple(
        link.Whole(number, rule.path or "", tuple(rule.status), rule.fault or "", rule.slower, rule.headers)
        for number, rule in enumerate(config.keep.whole)
        if rule.app in (None, app)
    )


def app(state: AppState, now: float, whole: tuple[link.Whole, ...] = ()) -> link.App:
    """One app with its ready instances."""
    config = state.config
    adaptive = config.max_inflight == "adaptive"
    slots = 0 if isinstance(config.max_inflight, str) else config.max_inflight
    rate = config.rate_limit
    tls = {
        address.url: link.Tls(ca=address.tls.ca, verify=address.tls.verify, server_name=address.host)
        for address in config.addresses
        if address.secure
    }
    return link.App(
        name=state.name,
        row=state.row,
        hosts=config.hosts,
        paths=config.paths,
        strip_prefix=config.strip_prefix,
        balance=config.balance,
        hash_key=config.hash_key or "client",
        sticky_cookie=config.sticky.cookie if config.sticky else "",
        sticky_ttl=config.sticky.ttl if config.sticky else 0.0,
        queue_size=config.queue.size,
        queue_timeout=max(config.queue.timeout, state.gap),
        attempts=config.retries.attempts,
        budget=config.retries.budget,
        per_second=config.retries.per_second,
        retry_on=tuple(config.retries.on),
        connect=config.timeouts.connect,
        first_byte=config.timeouts.first_byte,
        idle=config.timeouts.idle,
        total=config.timeouts.total,
        max_body=config.max_body,
        upgrades=config.tunnel.upgrades,
        tunnel_idle=config.tunnel.idle,
        tunnel_drain=config.tunnel.drain,
        slow_start=config.slow_start,
        rate=rate.per_client if rate else 0.0,
        burst=float(rate.burst) if rate else 0.0,
        adaptive=adaptive,
        state=state.state,
        wanted=state.wanted,
        starting=_starting(state),
        watches=state.watches,
        whole=whole,
        suspects=tuple((one.method, one.path) for one in state.suspects if one.until > now),
        instances=tuple(
            instance(one, tls, slots) for one in state.instances.values() if one.lifecycle is Lifecycle.READY
        ),
    )


def _starting(state: AppState) -> int:
    """Instances that requests may wait for, with those that the pool has yet to make in the place of missing ones."""
    there = [one.lifecycle for one in state.instances.values()]
    coming = sum(one in _ON_THEIR_WAY for one in there)
    if state.config.process is None:
        return coming
    return coming + max(0, state.wanted - coming - there.count(Lifecycle.READY) - there.count(Lifecycle.FAILED))


def instance(state: InstanceState, tls: Mapping[str, link.Tls], slots: int) -> link.Instance:
    """One ready instance. `tls`: by URL, of those that speak it."""
    return link.Instance(
        name=state.name,
        row=state.row,
        kind=state.kind,
        host=state.host,
        port=state.port,
        path=state.path,
        resolved=state.resolved,
        dns=state.dns if not state.resolved else "",
        tls=tls.get(state.url),
        admission=state.admission.value,
        failing=state.failing,
        weight=state.weight,
        backup=state.backup,
        admitted_at=state.admitted,
        slots=slots,
        pid=state.pid,
    )
