"""The requests that the instance had of late, from before anything was asked: workers hold them in memory."""

from __future__ import annotations

from pathlib import Path

from proxy import units
from proxy.diagnostics.artifacts import FlightRecorder
from proxy.diagnostics.collectors.contract import Collector
from proxy.diagnostics.subject import Subject


def collect(subject: Subject, folder: Path) -> FlightRecorder:
    """Control has asked the workers; targets may hold secrets in their query, which is cut."""
    for record in subject.records:
        path, mark, _ = record.target.partition("?")
        record.target = f"{path}{mark}…" if mark else path
    return FlightRecorder(
        at=subject.at,
        records=subject.records,
        note="" if subject.records else f"workers remember no request of {subject.instance}",
    )


COLLECTOR = Collector(
    name="flight_recorder",
    title="Requests of late",
    needs="nothing: the workers' memory, read before",
    cost="none",
    limit=2.0,
    most=8 * units.MIB,
    artifact=FlightRecorder,
    collect=collect,
)
