"""Artifacts as values, for tests of analyzers: each builder fills what a test does not care about with what is usual.

All times hang on NOW, the moment at which the session looked. `run` does what the runner does, for one analyzer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from proxy.diagnostics.analyzers.contract import Analyzer, Finding, Inconclusive, Seen
from proxy.diagnostics.artifacts import (
    App,
    Artifact,
    Attempt,
    Event,
    ExceptionGroup,
    Exit,
    Instance,
    Known,
    Line,
    Record,
    Ring,
)

NOW: Final = 1_790_000_000.0
Values = float | None | Sequence[float | None] | Callable[[int], float | None]


def app(**fields: Any) -> App:
    """One of two ready instances, with the defaults of the config."""
    usual: dict[str, Any] = {
        "name": "web", "wanted": 2, "ready": 2, "command": ["python", "app.py"], "cwd": "/srv/web", "bind": "port",
        "balance": "least-latency", "queue_size": 1000, "queue_timeout": 5.0, "connect": 2.0, "first_byte": 30.0,
        "idle": 60.0, "retries": 2, "max_body": 100_000_000, "health_path": "/healthz", "health_interval": 5.0,
        "health_timeout": 2.0, "health_status": "200-299", "ready_within": 60.0, "verdict": "web is up: 2 of 2 ready.",
    }  # fmt: skip
    return App(**{**usual, **fields})


def instance(name: str = "web-1", **fields: Any) -> Instance:
    """A process that is ready, for an hour."""
    number = int(name.rpartition("-")[2]) if name.rpartition("-")[2].isdigit() else 1
    usual: dict[str, Any] = {
        "pid": 1000 + number, "started": 5_000, "started_at": NOW - 3600, "ready_at": NOW - 3598,
        "address": f"127.0.0.1:{9000 + number}", "lifecycle": "ready", "probe": "status 200", "probe_status": 200,
        "probe_seconds": 0.003, "answered_at": NOW - 1, "listens_on": [f"127.0.0.1:{9000 + number}"],
        "memory": 100_000_000,
    }  # fmt: skip
    return Instance(name=name, **{**usual, **fields})


def ended(name: str = "web-1", ago: float = 30.0, **fields: Any) -> Exit:
    """An exit that happened `ago` seconds before NOW. With `signal` it is one by that signal, else by `code`."""
    usual: dict[str, Any] = {"at": NOW - ago, "lasted": 600.0, "was_ready": True}
    given = {**usual, **fields}
    if given.get("signal") is not None:
        given.setdefault("words", f"signal {given['signal']}")
    else:
        given.setdefault("code", 1)
        given.setdefault("words", f"exit code {given['code']}")
        given.setdefault("by_itself", given["code"] != 0)
    return Exit(instance=name, **given)


def record(ago: float = 10.0, **fields: Any) -> Record:
    """A request that began `ago` seconds before NOW. `wait` and `total` in seconds; a good GET of 20 ms by default."""
    wait = fields.pop("wait", 0.02)
    total = fields.pop("total", None)
    usual: dict[str, Any] = {
        "id": f"{int((NOW - ago) * 1000):x}", "time": NOW - ago, "worker": 0, "app": "web", "instance": "web-1",
        "client": "192.0.2.7", "method": "GET", "host": "web.test", "target": "/", "status": 200, "tries": 1,
        "wait_us": None if wait is None else round(wait * 1e6),
        "total_us": round((total if total is not None else (wait or 0.0)) * 1e6),
    }  # fmt: skip
    return Record(**{**usual, **fields})


def records(number: int, *, span: float = 60.0, ago: float = 0.0, **fields: Any) -> list[Record]:
    """That many, spread evenly over `span` seconds that end `ago` before NOW, newest first."""
    step = span / max(1, number)
    return [record(ago + step * (at + 0.5), id=f"{at:06x}{int(ago):06x}", **fields) for at in range(number)]


def attempt(instance: str = "web-1", **fields: Any) -> Attempt:
    return Attempt(instance=instance, **fields)


def ring(length: int = 600, *, faults: Mapping[str, Any] | None = None, **values: Values) -> Ring:
    """Ends at NOW. A value may be a number for all of it, a list (its last seconds), or a function of the second."""
    return Ring(
        start=int(NOW) - length,
        length=length,
        values={name: _spread(value, length, None) for name, value in values.items()},
        faults={name: [int(one or 0) for one in _spread(value, length, 0)] for name, value in (faults or {}).items()},
    )


def _spread(value: Any, length: int, before: float | None) -> list[float | None]:
    if callable(value):
        return [value(at) for at in range(length)]
    if isinstance(value, Sequence):
        return [*[before] * (length - len(value)), *value][-length:]
    return [value] * length


def burst(number: int, seconds: int = 10) -> list[int]:
    """For `faults` of a ring: so many in all, in its last seconds."""
    each, rest = divmod(number, seconds)
    return [each + (1 if at < rest else 0) for at in range(seconds)]


def event(kind: str, text: str, ago: float = 30.0, **fields: Any) -> Event:
    return Event(**{"id": int(1e6 - ago), "at": NOW - ago, "kind": kind, "text": text, "app": "web", **fields})


def lines(*texts: str, ago: float = 30.0, stream: str = "err") -> list[Line]:
    """All of one moment, a millisecond apart, the last one `ago` seconds before NOW."""
    first = NOW - ago - 0.001 * (len(texts) - 1)
    return [Line(at=first + 0.001 * number, stream=stream, text=text) for number, text in enumerate(texts)]


def exceptions(kind: str = "ValueError", message: str = "bad", count: int = 20, **fields: Any) -> ExceptionGroup:
    """A group of tracebacks of the last minute."""
    usual: dict[str, Any] = {
        "fingerprint": f"{kind}-{message}", "runtime": "python", "type": kind, "message": message,
        "where": "app.py:42 handle", "count": count, "lately": count, "first_at": NOW - 60, "last_at": NOW - 1,
        "instances": ["web-1"],
    }  # fmt: skip
    return ExceptionGroup(**{**usual, **fields})


def known(**fields: Any) -> Known:
    """Two ready instances that answer 20 requests a second, all well."""
    usual: dict[str, Any] = {
        "at": NOW,
        "app": fields.pop("app", None) or app(),
        "instances": [instance("web-1"), instance("web-2")],
        "rings": {
            "": ring(requests=20.0, s2xx=20.0, errors=0.0, p50=0.02, p99=0.05, in_flight=1.0, queue=0.0, ready=2.0),
            "web-1": ring(requests=10.0, s2xx=10.0, p50=0.02, p99=0.05, cpu=0.1, memory=100_000_000.0),
            "web-2": ring(requests=10.0, s2xx=10.0, p50=0.02, p99=0.05, cpu=0.1, memory=100_000_000.0),
        },
    }
    return Known(**{**usual, **fields})


def seen(
    analyzer: Analyzer,
    given: Known,
    whole: Iterable[Artifact] = (),
    each: Mapping[str, Iterable[Artifact]] | None = None,
) -> Seen:
    """What the analyzer may see of these: what it did not declare raises when it asks for it."""
    by_kind: dict[type[Artifact], dict[str, Artifact]] = {}
    for name, artifacts in (each or {}).items():
        for one in artifacts:
            by_kind.setdefault(type(one), {})[name] = one
    may = frozenset((*analyzer.needs, *analyzer.wants))
    return Seen(known=given, _whole={type(one): one for one in whole}, _each=by_kind, _may=may)


def run(
    analyzer: Analyzer,
    given: Known | None = None,
    whole: Iterable[Artifact] = (),
    each: Mapping[str, Iterable[Artifact]] | None = None,
) -> list[Finding]:
    """Its findings. Raises Inconclusive when something that it needs is not among the artifacts."""
    what = seen(analyzer, given or known(), whole, each)
    for kind in analyzer.needs:
        if what.one(kind) is None and not what.each(kind):
            raise Inconclusive(kind.__name__)
    return list(analyzer.analyze(what))
