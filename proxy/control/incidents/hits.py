"""Of requests in the span of an incident, how many were hit, and by what. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from proxy.control.incidents.incident import Incident
from proxy.faults import FAULTS, Origin


@dataclass(frozen=True, slots=True)
class Totals:
    """Cumulative counts of a subject; they only grow, until a control begins anew."""

    requests: int
    faults: Mapping[str, int]

    def dump(self) -> dict[str, Any]:
        return {"requests": self.requests, "faults": dict(self.faults)}

    @classmethod
    def load(cls, raw: dict[str, Any]) -> Totals:
        return cls(raw["requests"], raw["faults"])


def counts(fault: str) -> bool:
    """Whether a request that ended so was hit: not by the client's own doing."""
    return fault not in FAULTS or FAULTS[fault].origin is not Origin.CLIENT


def serious(fault: str) -> bool:
    """Whether it says that something is wrong: what an operator did, or nobody, does not."""
    return fault not in FAULTS or FAULTS[fault].origin in (Origin.INSTANCE, Origin.GATEWAY)


def of_gateway(fault: str) -> bool:
    """Whether it was the gateway's own doing."""
    return fault in FAULTS and FAULTS[fault].origin is Origin.GATEWAY


def add(incident: Incident, before: Totals, now: Totals) -> None:
    """What was counted in between. Counts that went back were begun anew: of those nothing is known."""
    incident.requests += max(0, now.requests - before.requests)
    mine = counts if incident.subject.scope == "app" else of_gateway
    for name, count in now.faults.items():
        more = count - before.faults.get(name, 0)
        if more > 0 and mine(name):
            incident.faults[name] = incident.faults.get(name, 0) + more
            incident.hit += more
