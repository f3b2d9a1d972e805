"""How an instance is picked: one file per way, one ordered table of them.

contract        what a balancer is given and must do     pool        what they share: weights over time, scans
least_latency   the default                              round_robin, least_inflight, weighted_random, by_hash

To add one: a file with a class that keeps the contract, and a line in BALANCERS. The table's order is that of
the configuration's documentation; the first is the default.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from proxy.dataplane.balance.by_hash import ByHash
from proxy.dataplane.balance.contract import Balancer, Candidate, ramp
from proxy.dataplane.balance.least_inflight import LeastInflight
from proxy.dataplane.balance.least_latency import LeastLatency
from proxy.dataplane.balance.round_robin import RoundRobin
from proxy.dataplane.balance.weighted_random import WeightedRandom

BALANCERS: Final[Mapping[str, type[Balancer]]] = MappingProxyType(
    {
        "least-latency": LeastLatency,
        "round-robin": RoundRobin,
        "least-inflight": LeastInflight,
        "random": WeightedRandom,
        "hash": ByHash,
    }
)

__all__ = ["BALANCERS", "Balancer", "Candidate", "ramp"]
