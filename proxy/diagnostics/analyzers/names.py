"""Names of an app's addresses that do not resolve, or not in time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from proxy import units
from proxy.diagnostics.analyzers import say
from proxy.diagnostics.analyzers.connecting import WINDOW, answers_again, severity
from proxy.diagnostics.analyzers.contract import CERTAIN, Analyzer, Finding, Proof, Rival, Seen
from proxy.diagnostics.artifacts import HostReport


def analyze(seen: Seen) -> Iterator[Finding]:
    known = seen.known
    found = say.faults(known, "dns-error", "dns-timeout", since=known.at - WINDOW)
    told = [event for event in known.events if event.kind == "dns" and known.at - event.at <= WINDOW]
    host = seen.one(HostReport)
    if not found.count:
        return
    slow = say.faults(known, "dns-timeout", since=known.at - WINDOW).count
    tries = [one for one in say.tried(known, "dns-error", "dns-timeout") if one.at >= known.at - WINDOW]
    names = list(dict.fromkeys(one.attempt.instance for one in tries))
    evidence: list[Proof] = [
        say.proof(
            f"{units.several(found.count, 'attempt')} without an address since {say.stamp(found.first)}.", say.RINGS
        )
    ]
    evidence += [say.proof(f"{say.stamp(event.at)}: {say.clean(event.text)}.", say.EVENTS) for event in told[-3:]]
    rivals = [Rival(cause="this machine's resolver"), Rival(cause="the name itself")]
    if host is not None and host.resolver:
        well = [name for name, value in host.resolver.items() if isinstance(value, float)]
        bad = {name: value for name, value in host.resolver.items() if isinstance(value, str)}
        evidence += [
            say.proof(f"{name}: {say.clean(str(value))}.", "host_report") for name, value in list(bad.items())[:3]
        ]
        if well and bad:
            rivals[0].against.append(f"it resolves {say.listed(well)}")
    over = answers_again(known, names, found.last)
    late, none = ("did not answer", "gave") if over else ("does not answer", "gives")
    how = f"{late} in time" if 2 * slow > found.count else f"{none} no address"
    until = f" until {say.stamp(found.last)}" if over else ""
    yield Finding(
        id="name-not-resolved",
        title=f"The name of {say.listed(names) or known.app.name} {'did' if over else 'does'} not resolve{until}.",
        cause=f"This machine's resolver {how} for {say.listed(names) or 'the address'}{until}.",
        severity=severity(known, found.count),
        certainty=CERTAIN,
        care="Without an address nothing can be asked.",
        app=known.app.name,
        instances=names,
        since=found.first,
        until=found.last if over or known.at - found.last > say.LATELY else 0.0,
        evidence=evidence,
        rivals=rivals,
        unknown="Whether the name or the resolver is at fault." if not rivals[0].against else "",
        remedies=[
            say.look(
                "Ask the resolver.",
                f"getent ahosts {names[0].rpartition(':')[0].rpartition('/')[2] or names[0]}"
                if names
                else "cat /etc/resolv.conf",
            ),
            say.later(
                "Give an IP address in apps.NAME.addresses where the name never changes.".replace(
                    "NAME", known.app.name
                ),
                "No name is needed.",
            ),
        ],
        faults=["dns-error", "dns-timeout", "all-ejected"],
        explains=["all-ejected"],
        weight=float(found.count),
    )


ANALYZER: Final = Analyzer(
    name="names",
    title="Names that do not resolve",
    checks="Every address of the app had its IP address in time.",
    analyze=analyze,
    wants=(HostReport,),
)
