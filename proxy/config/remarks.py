"""What `triage check` says of a valid config: choices that may surprise."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator
from typing import Final

from proxy import units
from proxy.config.schema import AddressTLS, App, Autoheal, Config


def warnings(config: Config) -> list[str]:
    """Useful remarks, each `key path: what follows from it`."""
    return [
        *_gateway(config),
        *_console(config),
        *(text for name, app in config.apps.items() for text in _app(f"apps.{name}", app)),
        *_whole(config),
        *_told(config),
    ]


def _gateway(config: Config) -> Iterator[str]:
    gateway, admin = config.gateway, config.admin
    if not config.apps:
        yield "apps: none, so every request gets a 404 no-route"
    if gateway.certificates and not any(listen.tls for listen in gateway.listen):
        yield "gateway.certificates: not used, because no listener is https://"
    for network in gateway.trusted_proxies:
        if ipaddress.ip_network(network).prefixlen == 0:
            yield f"gateway.trusted_proxies: {network} is everybody: any client may name itself as it likes"
    if not admin.listen.loopback and not admin.listen.tls:
        yield (
            f"admin.insecure: {admin.listen.text} is open to the network without TLS:"
            " tokens and all that is shown are sent in the clear"
        )
    if admin.insecure and (admin.listen.loopback or admin.listen.tls):
        yield f"admin.insecure: does nothing, as {admin.listen.text} is {'TLS' if admin.listen.tls else 'loopback'}"
    if admin.certificate is not None and not admin.listen.tls:
        yield f"admin.certificate: not used, because admin.listen is not https://{admin.listen.text}"


def _console(config: Config) -> Iterator[str]:
    admin = config.admin
    if admin.console:
        user = "root" if os.geteuid() == 0 else "Triage's user"
        yield f"admin.console: true, so whoever has a token of the role admin has a shell on this machine, as {user}"
    elif admin.roots:
        yield "admin.roots: not used, because admin.console is false"


def _app(name: str, app: App) -> Iterator[str]:
    health, timeouts, queue, process = app.health, app.timeouts, app.queue, app.process
    if health.path is None:
        yield f"{name}.health.path: without one a probe is a TCP connect, which a hung app passes"
    if health.timeout > health.interval:
        yield f"{name}.health.timeout: {_said(health.timeout)} is longer than the interval of probes"
    if timeouts.total:
        tries = app.retries.attempts + 1 if "head-timeout" in app.retries.on else 1
        if tries * timeouts.first_byte > timeouts.total:
            yield (
                f"{name}.timeouts.total: {_said(timeouts.total)} ends a request before {tries} "
                f"attempt{'s' if tries > 1 else ''} of first_byte ({_said(timeouts.first_byte)}) can"
            )
    if queue.timeout > timeouts.first_byte:
        yield (
            f"{name}.queue.timeout: {_said(queue.timeout)} is longer than timeouts.first_byte:"
            " clients wait longer for a 503 than they may for an answer"
        )
    if queue.size and not queue.timeout:
        yield f"{name}.queue.timeout: 0s, so nothing waits in the queue"
    if queue.size and app.max_inflight == 0:
        yield f"{name}.max_inflight: 0 is no limit, so the queue is used only while no instance is ready"
    for index, address in enumerate(app.addresses):
        if not address.secure and address.tls != AddressTLS():
            yield f"{name}.addresses[{index}].tls: not used, because {address.url} is not https://"
        if address.secure and not address.tls.verify:
            yield f"{name}.addresses[{index}].tls.verify: false, so others can pose as {address.name}"
    for index, rule in enumerate(app.autoheal):
        yield from _rule(f"{name}.autoheal[{index}]", rule, app)
    yield from _sessions(f"{name}.diagnose", app)
    if process is None:
        return
    if process.instances == 0:
        yield f"{name}.process.instances: 0, so every request gets a 503 no-instance"
    if process.user == "root" and os.geteuid() == 0:
        yield f"{name}.process.user: root runs the app"
    if process.bind == "unix" and not any("{socket}" in argument for argument in process.command):
        yield f"{name}.process.command: has no {{socket}}, so the app must read $SOCKET"


def _rule(name: str, rule: Autoheal, app: App) -> Iterator[str]:
    """Of what can be seen in a rule alone."""
    when, first_byte = rule.when, app.timeouts.first_byte
    if when.kind in ("slow", "stuck") and when.above is not None and when.above >= first_byte:
        limit = _said(first_byte)
        yield f"{name}.when.{when.kind}.above: never met, because no request waits longer than first_byte ({limit})"
    if when.path is not None and when.kind not in _PATHS:
        yield f"{name}.when.{when.kind}.path: not used"
    if when.kind in _BUILTIN and not rule.dry_run:
        yield f"{name}: it takes the place of the built-in rule {_BUILTIN[when.kind]}"
    if when.kind in _WHOLE and any(step.act == "eject" for step in rule.then):
        yield f"{name}.then: eject is skipped, because {when.kind} looks at the app, not at an instance"


def _sessions(name: str, app: App) -> Iterator[str]:
    """Of sessions that start by themselves."""
    found = app.diagnose
    if not found.per_day and (found.on or found.when or found.dump_on):
        yield f"{name}.per_day: 0, so no session starts by itself"
    for index, when in enumerate(found.when):
        if when.kind in ("slow", "stuck") and when.above is not None and when.above >= app.timeouts.first_byte:
            limit = _said(app.timeouts.first_byte)
            yield f"{name}.when[{index}].{when.kind}.above: never met, because no request waits longer than {limit}"
        if when.path is not None and when.kind not in _PATHS:
            yield f"{name}.when[{index}].{when.kind}.path: not used"
    if "memory_dump" in found.collectors:
        yield f"{name}.collectors: memory_dump stops the process for a while, each time a session starts by itself"
    if found.agent and app.process is None:
        yield f"{name}.agent: not used, because Triage does not start what runs at given addresses"
    if app.process is not None and not app.process.diagnose:
        yield f"{name}: process.diagnose is false, so stacks may be refused where Yama guards ptrace"


def _whole(config: Config) -> Iterator[str]:
    """Of whole stories."""
    for index, rule in enumerate(config.keep.whole):
        name = f"keep.whole[{index}]"
        if rule.app is not None and rule.app not in config.apps:
            yield f"{name}.app: there is no app {rule.app}"
        if rule.path is None and not rule.status and rule.fault is None and not rule.slower:
            yield f"{name}: every request, of which 20 a second and worker are kept"


def _told(config: Config) -> Iterator[str]:
    """Of alerts and of who is told."""
    named = {name for alert in config.alerts for name in alert.notify}
    for index, alert in enumerate(config.alerts):
        if alert.name in BUILTIN_ALERTS:
            yield f"alerts[{index}]: it takes the place of the built-in alert {alert.name}"
        if not alert.notify:
            yield f"alerts[{index}].notify: empty, so {alert.name} makes incidents that nobody is told of"
        if alert.when.path is not None and alert.when.kind not in _PATHS:
            yield f"alerts[{index}].when.{alert.when.kind}.path: not used"
    for name in config.notify:
        if name not in named:
            yield f"notify.{name}: no [[alerts]] names it, so it is told of the built-in alerts alone"
    if config.notify and config.admin.url is None:
        yield (
            f"admin.url: not set, so links in messages lead to http://{config.admin.listen.text},"
            " which may open on this machine only"
        )


BUILTIN_ALERTS: Final = (
    "down", "faults", "crash-loop", "crashes", "instances", "slow", "gateway", "disk", "host", "lost-evidence",
    "certificate", "busy", "others",
)  # fmt: skip
_PATHS: Final = ("requests", "slow", "status", "fault", "fault_ratio")
_BUILTIN: Final = {"stuck": "hung", "slow": "slow", "memory": "memory"}
_WHOLE: Final = ("crashes", "unhealthy", "changed", "schedule")

_said: Final = units.write_duration
