"""*Is it me or is it you*: the gateway's self-check beside real traffic. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from proxy.control.incidents.incident import Incident, Subject
from proxy.control.self_check import Last

HOST: Final = Subject("host")
GATEWAY: Final = Subject("gateway")


def is_it(
    check: Last, open_ones: Mapping[Subject, Incident], touching: Mapping[str, frozenset[str]]
) -> tuple[str, str]:
    """("app" | "gateway" | "host" | "", one or two sentences). "": nothing is wrong now."""
    over = next((one for one in open_ones.values() if not one.signals), None)
    open_ones = {subject: one for subject, one in open_ones.items() if one.signals}
    host, gateway = open_ones.get(HOST), open_ones.get(GATEWAY)
    apps = sorted((one for one in open_ones.values() if one.subject.scope == "app"), key=lambda one: one.number)
    own = f"The gateway does not answer itself: {check.words}"
    if check.ok:
        own = f"{check.words[:1].upper()}{check.words[1:]}" if check.at else "The gateway has not asked itself yet"
    if host is not None and _touches(host, touching) and (apps or gateway or not check.ok):
        return "host", f"{own}; {host.cause}: it is the host."
    if not check.ok:
        return "gateway", f"{own}: it is the gateway."
    if gateway is not None and _touches(gateway, touching):
        return "gateway", f"{own}, but {gateway.cause}: it is the gateway."
    if apps:
        worst = next((one for one in apps if one.severity == "down"), apps[0])
        more = f" ({len(apps)} apps are not well)" if len(apps) > 1 else ""
        return "app", f"{own}; {_trouble(worst)}: it is the app{more}."
    if gateway is not None:
        return "gateway", f"{own}, and requests go on, but {gateway.cause}."
    if host is not None:
        return "host", f"{own}, and requests go on, but {host.cause}."
    if over is not None:
        return "", f"{own}; nothing is wrong now, and {over.id} is over when that stays so for half a minute."
    return "", f"{own}; nothing is wrong."


def _touches(incident: Incident, touching: Mapping[str, frozenset[str]]) -> bool:
    return any(name in touching[incident.subject.scope] for name in incident.signals)


def _trouble(incident: Incident) -> str:
    """Of an app, in few words: what its requests fail with, else the cause."""
    app = incident.subject.app
    if incident.faults:
        main = max(incident.faults, key=lambda name: incident.faults[name])
        return f"{app}'s requests fail with {main}"
    return incident.cause if incident.cause.startswith(app) else f"{app}: {incident.cause}"
