"""EVIDENCE: the figures an answer rests on, one line each, a label of 12 columns before it."""

from __future__ import annotations

from proxy import units
from proxy.diagnostics.facts import Facts, InstanceFacts, Said
from proxy.diagnostics.reading import frames, only_attempt, traceback_line
from proxy.diagnostics.text import clean, stamp
from proxy.link.messages import Attempt, Record

_LINES = 4


def evidence(facts: Facts, record: Record | None) -> list[str]:
    """The most telling first: the last are left out where there is no room."""
    said = []
    if record is not None:
        said += [*_tries(record), _timings(record)]
    instances = [facts.instance] if facts.instance is not None else list(facts.app.instances if facts.app else ())
    said += [_line(instance.name, _instance(instance)) for instance in instances[:4]]
    if facts.exit is not None:
        lasted = units.duration(facts.exit.lasted)
        said.append(_line("exit", f"{facts.exit.words} at {stamp(facts.exit.at)}, {lasted} after its start"))
    if facts.malformed is not None:
        bad = facts.malformed
        shown = repr(bad.data[max(0, min(bad.offset, len(bad.data)) - 32) :][:64])[2:-1]
        said.append(_line("bad bytes", f"offset {bad.offset}: {shown}"))
    said += [_line("stack", found) for found in frames(facts.stacks, 2)]
    said += [_line("log", f"{stamp(line.at)} {clean(line.text, 160)}") for line in _telling(facts, record)]
    if facts.counts.by_instance:
        parts = [f"{name or 'none'} {units.count(n)}" for name, n in list(facts.counts.by_instance.items())[:5]]
        said.append(_line("same fault", f"{units.count(facts.counts.recent)} in 15 min: {', '.join(parts)}"))
    if record is not None and (record.client_request_id or record.trace):
        ids = [f"client's id {clean(record.client_request_id, 64)}"] if record.client_request_id else []
        ids += [f"trace {clean(record.trace, 64)}"] if record.trace else []
        said.append(_line("ids", ", ".join(ids)))
    if facts.app is not None and facts.app.suspects:
        said.append(_line("suspects", ", ".join(clean(s, 40) for s in facts.app.suspects[:4])))
    return said or [_line("none", "nothing more is known")]


def _telling(facts: Facts, record: Record | None) -> list[Said]:
    """Lines with this request's id, then those that sound like an error, then the others; newest first."""
    lines = [line for line in reversed(facts.lines) if line.text.strip()]

    def rank(line: Said) -> int:
        if record is not None and record.id in line.text:
            return 0
        return 1 if traceback_line([line.text]) else 2

    return sorted(lines, key=rank)[:_LINES]


def _line(label: str, text: str) -> str:
    return f"{clean(label, 20).ljust(10)}  {text}"


def _tries(record: Record) -> list[str]:
    tries = record.attempts or []
    if not tries:
        if not record.instance:
            return [_line("tries", "none: it reached no instance")]
        tries = [only_attempt(record)]
    return [
        _line(f"try {n} of {len(tries)}", _try(each, each.detail if each.detail not in record.detail else ""))
        for n, each in enumerate(tries[:4], 1)
    ]


def _try(attempt: Attempt, detail: str) -> str:
    way = "new connection"
    if attempt.reused:
        idle = f" (idle {units.duration(attempt.idle_us / 1e6)})" if attempt.idle_us is not None else ""
        way = f"reused connection{idle}"
    sent = f": sent {units.size(attempt.sent)}" if attempt.sent or attempt.fault else ""  # counted where it failed
    parts = [f"{attempt.instance}, {way}{sent}"]
    if attempt.wait_us is not None:
        parts.append(f"waited {units.duration(attempt.wait_us / 1e6)}")
    parts.append(f"then {attempt.fault or attempt.status or 'answered'}")
    return ", ".join(parts) + (f" ({clean(detail, 80)})" if detail else "")


def _timings(record: Record) -> str:
    parts = [
        f"{name} {units.millis(value / 1e6)}"
        for name, value in (
            ("head", record.head_us), ("queue", record.queue_us), ("connect", record.connect_us),
            ("tls", record.tls_us), ("wait", record.wait_us), ("body", record.body_us), ("total", record.total_us),
        )
        if value is not None and (value or name in ("queue", "total"))
    ]  # fmt: skip
    parts.append(f"Triage's own {units.millis(record.own_us / 1e6)}")
    if record.lag_us >= 5000:
        parts.append(f"loop lag {units.millis(record.lag_us / 1e6)}")
    return _line("time", "   ".join(parts))


def _instance(instance: InstanceFacts) -> str:
    parts = [instance.lifecycle or "gone"]
    if instance.admission != "admitting":
        parts.append(instance.admission)
    if instance.failing:
        parts.append("failing")
    if instance.uptime is not None:
        parts.append(f"up {units.duration(instance.uptime)}")
    if instance.cpu is not None and instance.pid:
        limit = f" of {instance.cpu_limit:g}" if instance.cpu_limit else ""
        parts.append(f"CPU {instance.cpu:.2f}{limit} cores")
    if instance.used:
        sizes = list(dict.fromkeys(units.size(sample.memory) for sample in instance.used[-3:]))
        parts.append(f"memory then {', '.join(sizes)}")
    elif instance.memory:
        limit = f" of {units.size(instance.memory_limit)}" if instance.memory_limit else ""
        parts.append(f"memory {units.size(instance.memory)}{limit}")
    if instance.in_flight or (instance.slots and instance.pid):
        slots = f" of {instance.slots}" if instance.slots else ""
        parts.append(f"{instance.in_flight}{slots} in flight")
    if instance.restarts:
        parts.append(f"{instance.restarts} restart{'' if instance.restarts == 1 else 's'}")
    if instance.probe:
        parts.append(f"check: {clean(instance.probe, 60)}")
    return ", ".join(parts)
