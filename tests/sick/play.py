"""One case from its start to its verdict: load, symptom, a session while the load goes on, `why` of one request.

Bounded: LIMIT seconds beside the session's own, whatever hangs.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from proxy.cli.client import ApiError, NotThere
from tests.sick.case import Case, Truth
from tests.sick.judge import Verdict, above, of_session, of_why
from tests.sick.labels import labels
from tests.sick.scene import Cost, NotHere, Scene

LIMIT: Final = 90.0
SYMPTOM: Final = 20.0  # seconds in which something has to be seen
ENOUGH: Final = 3  # requests in trouble
ENDED: Final = ("done", "cancelled", "failed", "lost")


@dataclass
class Options:
    seconds: float = 30.0
    why_only: bool = False
    keep: Path | None = None  # folders of cases that were not right go there
    keep_all: bool = False
    hasty: bool = False  # for tests: less load before and after the turn


@dataclass
class Played:
    """What came of a case."""

    case: str
    what: str
    session: Verdict | None = None
    why: Verdict | None = None
    state: str = ""  # of the session
    sure: dict[str, str] = field(default_factory=dict)  # of each finding, by id
    found: list[str] = field(default_factory=list)  # "id (certainty)", above info, in order
    ended_in: float = 0.0  # seconds from the request to the session's end
    after_gathering: float = 0.0  # of these, those beyond what was asked for
    why_took: float = 0.0
    cost: tuple[float, float] = (0.0, 0.0)  # cores: of the session's processes, of the app meanwhile
    cpu_before: float = 0.0  # CPU seconds of the app per request, before the session; of healthy ones
    cpu_during: float = 0.0  # and in it
    asked: str = ""  # the request that `why` was asked about
    answer: dict[str, Any] = field(default_factory=dict)
    load: str = ""
    skipped: str = ""
    error: str = ""
    notes: list[str] = field(default_factory=list)
    took: float = 0.0
    symptom: bool = True

    def json(self) -> dict[str, Any]:
        return {**asdict(self)}

    @property
    def wrong(self) -> bool:
        return any(one is not None and not one.good for one in (self.session, self.why)) or bool(self.error)


def play(case: Case, options: Options) -> Played:
    """Never raises but when it is interrupted."""
    began = time.monotonic()
    played = Played(case.name, case.what)
    scene = Scene(case)
    try:
        scene.start()
        _go(case, scene, options, played)
    except NotHere as error:
        played.skipped = str(error)
    except (AssertionError, ApiError, NotThere, OSError, KeyError, ValueError, IndexError, TypeError) as error:
        played.error = f"{type(error).__name__}: {error}"[:600]
    finally:
        try:
            _keep(case, scene, options, played)
        finally:
            scene.end()
            played.notes += scene.notes
    played.took = time.monotonic() - began
    return played


def _go(case: Case, scene: Scene, options: Options, played: Played) -> None:
    deadline = time.monotonic() + LIMIT
    scene.load.start()
    usual = Cost(scene) if case.truth.healthy else None
    time.sleep(min(case.before, 2.0) if options.hasty else case.before)
    if usual:
        played.cpu_before = _per_request(usual.stop()[1] * case.before, len(scene.load.results))
    scene.load.turn()
    if case.turn:
        case.turn(scene)
    _await_symptom(case, scene, options, played)
    if not options.why_only:
        _session(case, scene, options, played, deadline)
    else:
        time.sleep(2)
    played.load = scene.load.words()
    _why(case, scene, played)


def _await_symptom(case: Case, scene: Scene, options: Options, played: Played) -> None:
    settle = min(case.settle, 1.5) if options.hasty else case.settle
    if case.truth.healthy:
        time.sleep(settle)
        return
    until = time.monotonic() + SYMPTOM
    while time.monotonic() < until:
        if case.seen(scene) if case.seen else len(scene.load.troubled()) >= ENOUGH:
            break
        time.sleep(0.1)
    else:
        played.symptom = False
        played.notes.append("no symptom was seen before the session")
    time.sleep(settle)


# --- the session -------------------------------------------------------------------------------------


def _session(case: Case, scene: Scene, options: Options, played: Played, deadline: float) -> None:
    order = {"app": "web", "seconds": options.seconds, "mode": "analyze", "reason": "a look"}
    deadline += options.seconds
    while True:
        try:
            item = scene.post("sessions", order)
            break
        except ApiError as error:  # one by itself is under way
            if error.status != 409 or time.monotonic() > deadline - options.seconds:
                raise
            time.sleep(0.5)
    began = time.monotonic()
    cost, had = Cost(scene), len(scene.load.results)
    try:
        while item["state"] not in ENDED:
            assert time.monotonic() < deadline, f"session {item['id']} is still {item['state']}"
            time.sleep(0.3)
            item = scene.api(f"sessions/{item['id']}")
    finally:
        played.cost = cost.stop()
    played.ended_in = time.monotonic() - began
    played.cpu_during = _per_request(played.cost[1] * played.ended_in, len(scene.load.results) - had)
    played.after_gathering = played.ended_in - options.seconds
    played.state = item["state"]
    analysis = scene.api(f"sessions/{item['id']}/findings")
    played.found = [f"{one['id']} ({one['certainty']})" for one in above(analysis)]
    played.sure = {one["id"]: one["certainty"] for one in reversed(analysis["findings"])}
    failed = [f"{one['analyzer']}: {one['words']}" for one in analysis.get("checks", []) if one["state"] == "failed"]
    played.notes += [f"analyzer failed: {one[:300]}" for one in failed]
    steps = [one for one in item.get("steps", []) if one["state"] in ("failed", "hung")]
    played.notes += [f"{one['name']} {one['instance']} {one['state']}: {one['why'][:200]}" for one in steps]
    if _machine_busy() and "host-cpu" not in case.truth.right:
        others = [one for one in analysis["findings"] if "host-cpu" not in labels(one["id"])]
        if len(others) < len(analysis["findings"]):
            analysis = {**analysis, "findings": others}
            played.notes.append("this machine was busy with other things: findings about that were set aside")
    played.session = of_session(analysis, case.truth, _named(scene, case.truth))


def _per_request(cpu: float, requests: int) -> float:
    return cpu / requests if requests > 0 else 0.0


def _machine_busy() -> bool:
    """Others than the lab keep it busy: what is said of the host is true then. A case alone makes one or two ready."""
    return os.getloadavg()[0] > 2 * (os.cpu_count() or 1)


def _named(scene: Scene, truth: Truth) -> tuple[str, ...]:
    return tuple(scene.filled(one) for one in truth.names)


# --- why ---------------------------------------------------------------------------------------------


def _why(case: Case, scene: Scene, played: Played) -> None:
    truth = case.why or case.truth
    if case.ask == ("none",):
        return
    if truth.healthy:
        began = time.monotonic()
        played.answer = scene.api("apps/web/why")
        played.why_took = time.monotonic() - began
        played.why = of_why(played.answer, truth, ())
        return
    request = _request(case, scene)
    if request is None:
        played.notes.append("no failed or slow request was kept")
        return
    played.asked = f"{request['status']} {request['fault']} {request['method']} {request['target']}"
    began = time.monotonic()
    played.answer = scene.api(f"requests/{request['id']}/why")
    played.why_took = time.monotonic() - began
    if _machine_busy() and "host-cpu" in labels(played.answer.get("finding", "")) and "host-cpu" not in truth.right:
        played.notes.append("this machine was busy with other things, and `why` says so: not judged")
        return
    played.why = of_why(played.answer, truth, _named(scene, truth), played.sure)


def _request(case: Case, scene: Scene) -> dict[str, Any] | None:
    """One in trouble since the turn: the newest with one of the faults that are asked for, else the slowest."""
    items = scene.api("requests", limit=500)["items"]
    faults = [one for one in case.ask if one != "slow"]
    mine = [one for one in items if not case.ask_path or one["target"].partition("?")[0] == case.ask_path]
    failed = [one for one in mine if one["fault"] and (not faults or one["fault"] in faults)]
    if failed and (not case.ask or faults):
        return failed[0]
    slow = sorted((one for one in mine if not one["fault"]), key=_duration)
    return slow[-1] if slow and ("slow" in case.ask or not case.ask) else None


def _duration(item: dict[str, Any]) -> float:
    timings = item.get("timings") or {}
    value = item.get("total_ms", timings.get("total_ms", timings.get("total", 0)))
    return float(value or 0)


# --- what is kept ------------------------------------------------------------------------------------


def _keep(case: Case, scene: Scene, options: Options, played: Played) -> None:
    if options.keep is None or played.skipped or not (played.wrong or options.keep_all):
        return
    to = options.keep / case.name
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir(parents=True, exist_ok=True)
    if (found := scene.folder / "var" / "diagnostics").is_dir():
        shutil.copytree(found, to / "diagnostics", ignore=shutil.ignore_patterns("*.core*", "*.zst"))
    for name in ("config.toml",):
        if (scene.folder / name).exists():
            shutil.copy(scene.folder / name, to / name)
    if hasattr(scene, "triage"):
        (to / "triage.log").write_text(scene.triage.output)
    (to / "played.json").write_text(json.dumps(played.json(), indent=1, default=str))
    (to / "why.txt").write_text(str(played.answer.get("text", "")))
