"""A suspect request: one kind of request that was on an instance each time when it ended by itself.

What is on an instance at an end by chance is what takes long and comes often, so a kind is held against the share of
time for which it is under way anyway, not against its share of the traffic alone.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from proxy import units
from proxy.diagnostics.analyzers import say
from proxy.diagnostics.analyzers.contract import LIKELY, VERY_LIKELY, Analyzer, Certainty, Finding, Proof, Rival, Seen
from proxy.diagnostics.analyzers.exits import served, theirs
from proxy.diagnostics.artifacts import Exit, Known, Record

CHANCE: Final = 0.01
"""More likely than this by chance says nothing."""
RARE: Final = 0.2
"""A share of time below which being there just then, at the one end that there was, is more than coincidence."""
SPAN: Final = 5.0
"""Seconds of an instance's life that tell how often a request is there."""
SOON: Final = 2.0
"""Seconds from a request's arrival to the end that is called at once."""


@dataclass(slots=True)
class Kind:
    """One kind of request: at which ends it was there, and which requests those were."""

    shape: str
    at: dict[int, Record] = field(default_factory=dict)  # number of the end: the one that was there
    alone: int = 0  # ends at which no other kind was there


def analyze(seen: Seen) -> Iterator[Finding]:
    known = seen.known
    ends = [one for one in theirs(known) if (one.by_itself or one.oom != "no") and served(known, one)]
    there = [on_it(known, one) for one in ends]
    told = [number for number, found in enumerate(there) if found]
    if not told:
        return
    kinds: dict[str, Kind] = {}
    for number in told:
        shapes = {say.shape(one): one for one in there[number]}
        for name, one in shapes.items():
            kind = kinds.setdefault(name, Kind(name))
            kind.at[number] = one
            kind.alone += len(shapes) == 1
    usual = _usually(known, ends)
    ranked = sorted(kinds.values(), key=lambda one: (-len(one.at), _chance(one, told, usual)))
    first = ranked[0]
    rivals = [
        one
        for one in ranked[1:]
        if len(one.at) == len(first.at) and _chance(one, told, usual) <= 20 * _chance(first, told, usual)
    ]
    if len(told) >= 2 and len(first.at) >= 2 and len(first.at) >= 0.75 * len(told):
        if _chance(first, told, usual) <= CHANCE and not rivals:
            yield _finding(known, ends, first, told, usual)
    elif len(ends) == 1 and len(there[0]) == 1 and usual.get(first.shape, 0.0) < RARE:
        if there[0][0].time <= ends[0].at and _taken(known, ends[0]) < RARE:
            yield _finding(known, ends, first, told, usual)


def on_it(known: Known, ended: Exit) -> list[Record]:
    """Requests that were on that instance when it ended."""
    found = []
    for record in known.records:
        for one in record.attempts or ():
            began = record.time + one.began_us / 1e6
            over = began + one.took_us / 1e6
            if one.instance == ended.instance and one.fault in (
                "instance-exited",
                "closed-before-head",
                "reset-before-head",
                "body-truncated",
            ):
                if began <= ended.at + 0.5 and ended.at - 1.0 <= over <= ended.at + 3.0:
                    found.append(record)
                    break
        else:
            if not record.attempts and record.instance == ended.instance and record.fault == "instance-exited":
                if record.time <= ended.at + 0.5 and ended.at - 1.0 <= say.ends(record) <= ended.at + 3.0:
                    found.append(record)
    return found


def _usually(known: Known, ends: list[Exit]) -> dict[str, float]:
    """By kind, how likely it is there at any moment, and to be any one request: the larger of the two shares."""
    good = [one for one in known.records if not one.fault and one.instance]
    if len(good) < 20:
        return {}
    span = max(1.0, max(say.ends(one) for one in good) - min(one.time for one in good))
    instances = len({one.instance for one in good})
    busy: dict[str, float] = defaultdict(float)
    part: Counter[str] = Counter()
    for one in good:
        busy[say.shape(one)] += one.total_us / 1e6
        part[say.shape(one)] += 1
    shares = {name: 1.0 - math.exp(-total / span / max(1, instances)) for name, total in busy.items()}
    return {name: max(share, part[name] / len(good)) for name, share in shares.items()}


def _taken(known: Known, ended: Exit) -> float:
    """Share of its life, or requests at a time, for which the instance had any; 1.0 where that can't be told."""
    flying = say.values(known.rings.get(ended.instance), "in_flight", ended.at - ended.lasted, ended.at - 3.0)
    mine = [one for one in known.records if one.instance == ended.instance and say.good(one)]
    began = max(ended.at - ended.lasted, min((one.time for one in known.records), default=ended.at))
    if ended.at - began < SPAN:
        return 1.0
    busy = sum(one.total_us / 1e6 for one in mine if say.ends(one) < ended.at) / (ended.at - began)
    return max(busy, say.mean([value for _, value in flying]) or 0.0)


def _chance(kind: Kind, told: list[int], usual: dict[str, float]) -> float:
    """How likely it is to be there at so many of the ends by chance."""
    share = min(0.95, max(usual.get(kind.shape, 0.0), 0.02 if usual else 0.2))
    n, k = len(told), len(kind.at)
    return sum(math.comb(n, i) * share**i * (1 - share) ** (n - i) for i in range(k, n + 1))


def _finding(known: Known, ends: list[Exit], kind: Kind, told: list[int], usual: dict[str, float]) -> Finding:
    at = [ends[number] for number in kind.at]
    waits = [max(0.0, ends[number].at - one.time) for number, one in kind.at.items()]
    traffic = [one for one in known.records if not one.fault]
    part = sum(1 for one in traffic if say.shape(one) == kind.shape)
    single = len(ends) == 1
    text = f"It was on {len(kind.at)} of the {len(told)} instances whose requests at their end are known."
    if single:
        text = f"At its end no other request was on {at[0].instance}; a request was there for "
        text += f"{units.percent(_taken(known, at[0]))} of its life."
    evidence: list[Proof] = [say.proof(text, say.RECORDS)]
    if traffic:
        evidence.append(
            say.proof(
                f"Of the requests that were answered, {say.share(part, len(traffic))} are of this kind.", say.RECORDS
            )
        )
    if kind.shape in usual:
        evidence.append(
            say.proof(f"By chance it would be there at {units.percent(usual[kind.shape])} of the ends.", say.RECORDS)
        )
    kinds = 1
    if len(waits) >= 2 and max(waits) <= SOON and usual.get(kind.shape, 0.0) < 0.2:
        kinds += 1
        evidence.append(say.proof(f"Each end came within {units.duration(max(waits))} of its arrival.", say.RECORDS))
    named = [one for one in at if any(_names(kind.at, line) for line in one.last_lines[-8:])]
    if named:
        kinds += 1
        evidence.append(say.proof(f"The last words of {named[-1].instance} name its path.", say.OUTPUT))
    if kind.alone and not single:
        evidence.append(
            say.proof(f"At {units.several(kind.alone, 'end')} no other kind of request was there.", say.RECORDS)
        )
    if kind.shape in {_starred(one) for one in known.app.suspects}:
        evidence.append(
            say.proof("It is not sent again after an end any more: it was on two instances when they ended.", say.STATE)
        )
    missing = [ends[number].instance for number in told if number not in kind.at]
    against = [say.proof(f"{say.listed(missing)} ended without it.", say.RECORDS)] if missing else []
    chance = max(_taken(known, at[0]), 0.02) if single else _chance(kind, told, usual)
    sure: Certainty = VERY_LIKELY if kinds >= 2 and len(kind.at) >= 2 and not against else LIKELY
    example = next(iter(kind.at.values()))
    often = f" It is {units.percent(part / len(traffic))} of the requests." if traffic else ""
    if single:
        title = f"{at[0].instance} ended on {kind.shape}: it was the only request there."
        cause = f"{at[0].instance} ended by itself {units.duration(waits[0])} after {kind.shape} had come, and it was "
        cause += f"the only request there.{often}"
    else:
        title = f"{kind.shape} is what ends instances of {known.app.name}."
        cause = f"{kind.shape} was on the instance at {len(kind.at)} of {len(told)} ends.{often}"
    return Finding(
        id="suspect-request",
        title=title,
        cause=cause,
        severity="warning",
        certainty=sure,
        care="Whoever sends it again ends the next instance, with all other requests that are on it.",
        app=known.app.name,
        instances=list(dict.fromkeys(one.instance for one in at)),
        since=at[0].at,
        until=at[-1].at,
        evidence=evidence,
        against=against,
        rivals=[Rival(cause="a coincidence", against=[f"by chance that is {_odds(chance)}"])],
        unknown="" if sure == VERY_LIKELY
        else "Whether the next one ends an instance as well." if single
        else "What in it ends the process: nothing that was printed names it.",
        remedies=[
            say.look("See these requests.", f"triage requests --app {known.app.name} --fault instance-exited"),
            say.look(
                f"Try it against one instance alone, e.g. {say.request(example)}.",
                expect="It ends, if this is the one.",
            ),
            say.later(
                "Mend the handler of that path, or let it work in a process of its own.", "Instances survive it."
            ),
        ],
        faults=["instance-exited", "closed-before-head", "reset-before-head"],
        paths=[kind.shape.partition(" ")[2]],
        charts=["exits", "memory"],
        weight=float(len(kind.at)),
    )


def _starred(suspect: str) -> str:
    method, _, path = suspect.partition(" ")
    return say.shape(Record("", 0.0, 0, method=method, target=path))


def _names(at: dict[int, Record], line: str) -> bool:
    """Whether a line names the path of one of these: a path of one letter says nothing."""
    return any(len(path) > 3 and path in line for one in at.values() if (path := one.target.partition("?")[0]))


def _odds(chance: float) -> str:
    return f"1 in {units.count(1 / chance)}" if chance > 1e-6 else "less than 1 in a million"


ANALYZER: Final = Analyzer(
    name="suspects",
    title="A kind of request that ends instances",
    checks="No kind of request was there at ends of instances more often than chance lets it.",
    analyze=analyze,
)
