"""What no key shows alone: checks over several keys. Each says nothing about keys that were refused already.

Pure but for two looks at the machine: the certificates are loaded once, and the effective user is asked for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from proxy import units
from proxy.config.conditions import FURTHEST, MOST_EVENTS
from proxy.config.listen import Listen
from proxy.config.problems import Keys, Report, said, shown
from proxy.config.readers import user_id
from proxy.config.schema import Address, App, Certificate, Config, Process, Scale


def check(config: Config, raw: dict[str, Any], report: Report) -> None:
    """Add to `report` what is wrong between keys. `raw` says which tables are there at all."""
    written = raw.get("apps")
    for keys, text in _problems(config, written if isinstance(written, dict) else {}, report):
        if not report.refused(keys):
            report.add(keys, text)


def _problems(config: Config, written: dict[str, Any], report: Report) -> Iterator[tuple[Keys, str]]:
    yield from _listeners(config)
    yield from _certificates(config, report)
    yield from _admin(config, report)
    if config.gateway.proxy_protocol and not config.gateway.trusted_proxies:
        if not report.wrong(("gateway", "trusted_proxies")):
            yield (
                ("gateway", "proxy_protocol"),
                "true, but no gateway.trusted_proxies - the networks of the proxies",
            )
    yield from _roots(config)
    yield from _routes(config, report)
    for name, app in config.apps.items():
        table = written.get(name)
        for keys, text in _App(name, app, table if isinstance(table, dict) else {}, report).problems():
            yield ("apps", name, *keys), text
    yield from _notices(config, report)


def _listeners(config: Config) -> Iterator[tuple[Keys, str]]:
    if not config.gateway.listen:
        yield ("gateway", "listen"), 'expected one address at least - ["127.0.0.1:8080"]'
    places: list[tuple[Keys, Listen]] = [
        (("admin", "listen"), config.admin.listen),
        (("admin", "socket"), Listen("unix", path=config.admin.socket)),
        *((("gateway", "listen", index), listen) for index, listen in enumerate(config.gateway.listen)),
    ]
    for number, (keys, listen) in enumerate(places):
        for other_keys, other in places[:number]:
            if _overlap(listen, other):
                other_text = f"{shown(other_keys)} ({said(other.text)})"
                yield keys, f"{said(listen.text)} is taken by {other_text} - another port or file"
                break


def _overlap(one: Listen, other: Listen) -> bool:
    if "unix" in (one.kind, other.kind):
        return (one.kind, one.path) == (other.kind, other.path)
    if not one.port or one.port != other.port:
        return False
    hosts = {"127.0.0.1" if listen.host == "localhost" else listen.host for listen in (one, other)}
    return (
        len(hosts) == 1
        or "" in hosts
        or ("0.0.0.0" in hosts and not any(":" in host for host in hosts))
        or ("::" in hosts and all(":" in host for host in hosts))
    )


def _certificates(config: Config, report: Report) -> Iterator[tuple[Keys, str]]:
    for index, listen in enumerate(config.gateway.listen):
        if listen.tls and not config.gateway.certificates and not report.wrong(("gateway", "certificates")):
            yield (
                ("gateway", "listen", index),
                f"{said(listen.text)} needs a certificate - add [[gateway.certificates]]",
            )
    for index, pair in enumerate(config.gateway.certificates):
        if problem := _unloadable(pair):
            yield ("gateway", "certificates", index), problem


def _unloadable(pair: Certificate) -> str:
    """Why a certificate cannot be used; "" if it can."""
    import ssl  # here, because most configs need none and it is slow to import

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(pair.cert, pair.key, password=lambda: b"")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            return "cert and key do not belong together"
        return "cannot be loaded - two PEM files, the key without a passphrase"
    except (OSError, ValueError) as error:
        return f"cannot be loaded: {error}"
    return ""


def _admin(config: Config, report: Report) -> Iterator[tuple[Keys, str]]:
    """Tokens and all that the admin API shows are for those who may: not for who listens on the way."""
    admin = config.admin
    keys = ("admin", "listen")
    if admin.certificate is not None and (problem := _unloadable(admin.certificate)):
        yield ("admin", "certificate"), problem
    if report.wrong(keys):
        return
    if admin.listen.tls:
        if admin.certificate is None and not report.wrong(("admin", "certificate")):
            text = f"{said(admin.listen.text)} needs a certificate"
            yield keys, f'{text} - admin.certificate = {{ cert = "…", key = "…" }}'
    elif not admin.listen.loopback and not admin.insecure and not report.wrong(("admin", "insecure")):
        secure = said(f"https://{admin.listen.text}")
        yield (
            keys,
            f"{said(admin.listen.text)} is open to the network, and tokens would be sent in the clear -"
            f" {secure} with admin.certificate, a loopback address with admin.socket or an SSH tunnel,"
            " or the word admin.insecure = true",
        )


def _roots(config: Config) -> Iterator[tuple[Keys, str]]:
    data = os.path.realpath(config.gateway.data_dir)
    for name, folder in config.admin.roots.items():
        if os.path.commonpath([data, os.path.realpath(folder)]) == data:
            yield ("admin", "roots", name), f"{said(folder)} is in data_dir, where the tokens are - another folder"


def _routes(config: Config, report: Report) -> Iterator[tuple[Keys, str]]:
    seen: dict[tuple[str, str], str] = {}
    for name, app in config.apps.items():
        if report.wrong(("apps", name, "hosts")) or report.wrong(("apps", name, "paths")):
            continue
        if not app.paths:
            yield ("apps", name, "paths"), 'expected one prefix at least - ["/"]'
        for path in app.paths:
            for host in app.hosts or ("",):
                other = seen.setdefault((host, path), name)
                where = f"{said(host) if host else 'every host'} with {said(path)}"
                if other != name:
                    key = "paths" if path != "/" or not host else "hosts"
                    yield (
                        ("apps", name, key),
                        f"{where} is answered by app {other} already - another host or prefix",
                    )
        for key, values in (("hosts", app.hosts), ("paths", app.paths)):
            for index, value in enumerate(values):
                if value in values[:index]:
                    yield ("apps", name, key, index), f"{said(value)} stands there twice"


@dataclass(frozen=True, slots=True)
class _App:
    """The checks within one app; their key paths are relative to it."""

    name: str
    app: App
    written: dict[str, Any]
    report: Report

    def wrong(self, *keys: str) -> bool:
        return self.report.wrong(("apps", self.name, *keys))

    def problems(self) -> Iterator[tuple[Keys, str]]:
        app, written = self.app, self.written
        if "process" in written and "addresses" in written:
            yield (
                ("addresses",),
                "both process and addresses - Triage runs the instances, or it is given them",
            )
        elif "process" not in written and not written.get("addresses"):
            yield (), "neither process nor addresses - a [process] with a command, or where the instances are"
        if app.balance == "hash" and app.hash_key is None and not self.wrong("hash_key"):
            yield ("balance",), '"hash" needs hash_key - "client", "header:NAME" or "cookie:NAME"'
        if app.hash_key is not None and app.balance != "hash" and not self.wrong("balance"):
            yield ("hash_key",), f'is for balance = "hash", and balance is {said(app.balance)}'
        if app.ejection.first > app.ejection.max and not self.wrong("ejection", "max"):
            first, most = units.write_duration(app.ejection.first), units.write_duration(app.ejection.max)
            yield (
                ("ejection", "first"),
                f"{said(first)} is more than apps.{self.name}.ejection.max ({said(most)})",
            )
        if app.recycle is not None and "process" in written:
            yield ("recycle",), "is for addresses - leave it out: Triage recycles the instances that it runs"
        if app.process is not None:
            yield from self.process(app.process)
        yield from _addresses(app.addresses)
        if app.scale is not None:
            yield from self.scale(app.scale)
        yield from _twice(("autoheal",), [rule.name for rule in app.autoheal])
        yield from _twice(("diagnose", "on"), list(app.diagnose.on))
        yield from _twice(("diagnose", "collectors"), list(app.diagnose.collectors))
        if app.diagnose.dump_on and not app.diagnose.agent and not self.wrong("diagnose", "agent"):
            yield ("diagnose", "dump_on"), f"needs the agent - apps.{self.name}.diagnose.agent = true"

    def process(self, process: Process) -> Iterator[tuple[Keys, str]]:
        asked = set(re.findall(r"(?<!\$)\{(port|socket)\}", " ".join(process.command)))
        fits = {"port": "port", "unix": "socket", "fd": ""}[process.bind]
        if not self.wrong("process", "bind"):
            for name in sorted(asked - {fits}):
                needed = said("port" if name == "port" else "unix")
                text = f"{{{name}}} is not filled in with bind = {said(process.bind)} - bind = {needed}"
                yield ("process", "command"), text
        if process.bind == "fd" and self.app.health.path is None and not self.wrong("health", "path"):
            text = f'"fd" needs apps.{self.name}.health.path: such a socket accepts before the app does'
            yield ("process", "bind"), text
        if os.geteuid() == 0 and process.user is None:
            yield (
                ("process", "user"),
                'missing, and Triage is started by root - a user such as "www", or "root"',
            )
        elif os.geteuid() != 0 and process.user not in (None, "root"):
            if user_id(str(process.user)) != os.geteuid():
                yield (
                    ("process", "user"),
                    f"only root may start a process as {said(process.user)} - leave it out",
                )

    def scale(self, scale: Scale) -> Iterator[tuple[Keys, str]]:
        if scale.min > scale.max and not self.wrong("scale", "max"):
            yield ("scale", "min"), f"{scale.min} is more than apps.{self.name}.scale.max ({scale.max})"
        if "process" not in self.written:
            yield ("scale",), "needs a process - Triage cannot start more of the addresses it is given"


def _addresses(addresses: tuple[Address, ...]) -> Iterator[tuple[Keys, str]]:
    yield from _twice(("addresses",), [address.url for address in addresses])
    names = [address.name for address in addresses]
    for index, address in enumerate(addresses):
        if address.name in names[:index] and address.url not in [other.url for other in addresses[:index]]:
            yield ("addresses", index, "name"), f"{said(address.name)} stands there twice"


def _notices(config: Config, report: Report) -> Iterator[tuple[Keys, str]]:
    yield from _twice(("alerts",), [alert.name for alert in config.alerts])
    for index, alert in enumerate(config.alerts):
        for place, name in enumerate(alert.notify):
            if name not in config.notify and not report.wrong(("notify", name)):
                yield (
                    ("alerts", index, "notify", place),
                    f"nobody is called {said(name)} - add [notify.{name}]",
                )
        for place, name in enumerate(alert.apps):
            if name not in config.apps and not report.wrong(("apps", name)):
                names = ", ".join(config.apps) or "there is none"
                yield ("alerts", index, "apps", place), f"no app is called {said(name)} - {names}"
        if alert.when.kind == "event" and alert.when.count > MOST_EVENTS:
            yield ("alerts", index, "when", "event", "count"), f"more than {MOST_EVENTS} events are not counted"
        if alert.when.kind == "metric" and alert.when.within > FURTHEST:
            text = f"{units.write_duration(alert.when.within)} is more than 15m, as far as metrics are looked back at"
            yield ("alerts", index, "when", "metric", "within"), text
    for name, notify in config.notify.items():
        for key, way in (("secret", "webhook"), ("smtp", "email"), ("sender", "email")):
            if getattr(notify, key) is not None and getattr(notify, way) is None:
                yield ("notify", name, key), f"is for {way} - leave it out"
        ways = [way for way in ("webhook", "email", "command", "slack") if getattr(notify, way) is not None]
        if len(ways) != 1:
            yield (
                ("notify", name),
                f"has {' and '.join(ways) or 'no way'} - one of webhook, email, command, slack",
            )


def _twice(keys: Keys, values: list[str]) -> Iterator[tuple[Keys, str]]:
    for index, value in enumerate(values):
        if value in values[:index]:
            yield (*keys, index), f"{said(value)} stands there twice"
