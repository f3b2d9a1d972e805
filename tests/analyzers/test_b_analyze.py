"""The runner: from a folder's files to findings.json, whatever is missing; and what holds for all analyzers."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from proxy.diagnostics import analyze, analyzers
from proxy.diagnostics.analyzers import ANALYZERS
from proxy.diagnostics.analyzers.contract import Analysis, Analyzer, Finding, Inconclusive, Seen
from proxy.diagnostics.artifacts import HostReport, Known, Stacks
from proxy.faults import FAULTS
from proxy.link.session import Outcome, Step
from tests.analyzers import made, stacked
from tests.analyzers.stacked import READING, SERVED


def write(folder: Path, known: Known | None = None, **artifacts: Any) -> Path:
    """`web_1__stacks=…` becomes web_1/stacks.json, told as of web-1."""
    steps = []
    if known is not None:
        (folder / "known.json").write_bytes(msgspec.json.encode(known))
    for name, value in artifacts.items():
        place, _, artifact = name.rpartition("__")
        path = folder / place / f"{artifact}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(value if isinstance(value, bytes) else msgspec.json.encode(value))
        if place:
            file = str(path.relative_to(folder))
            steps.append(Step(name=artifact, instance=place.replace("_", "-"), state="done", files=[file]))
    (folder / "outcome.json").write_bytes(msgspec.json.encode(Outcome(steps=steps)))
    return folder


def sick() -> Known:
    rings = {key: made.ring(requests=10.0, wait_p50=[0.02] * 540 + [8.0] * 60, in_flight=20.0) for key in ("", "web-1")}
    return made.known(instances=[made.instance(in_flight=20)], rings=rings)


def waiting() -> dict[str, Any]:
    load = stacked.stacks(stacked.threads(20, *READING, "load_prices app:212", *SERVED))
    peers = stacked.sockets(stacked.asked(count=20, waiters=range(100, 120)))
    return {"web_1__stacks": load, "web_1__sockets": peers, "web_1__activity": stacked.activity()}


def state(analysis: Analysis, name: str) -> tuple[str, str]:
    check = next(one for one in analysis.checks if one.analyzer == name)
    return check.state, check.words


def test_from_files_to_findings(tmp_path: Path) -> None:
    told: list[str] = []
    analysis = analyze.analyze(
        write(tmp_path, sick(), host_report=stacked.host(), **waiting()), told=lambda check: told.append(check.analyzer)
    )
    assert analysis.top == "slow-dependency"
    assert analysis.verdict.startswith("Very likely: 10.0.3.12:5432 (PostgreSQL) answers slowly.")
    assert told == [one.name for one in ANALYZERS] == [one.analyzer for one in analysis.checks]
    assert msgspec.json.decode((tmp_path / "findings.json").read_bytes(), type=Analysis) == analysis
    assert not list(tmp_path.glob("*.part"))
    assert state(analysis, "slow_dependency") == ("found", "10.0.3.12:5432 (PostgreSQL) answers slowly")
    assert state(analysis, "locks")[0] == "passed"


def test_it_can_be_run_again(tmp_path: Path) -> None:
    write(tmp_path, sick(), **waiting())
    assert analyze.analyze(tmp_path).findings == analyze.analyze(tmp_path).findings


def test_what_is_missing_makes_checks_inconclusive_never_passed(tmp_path: Path) -> None:
    analysis = analyze.analyze(write(tmp_path, sick()))
    assert state(analysis, "locks") == ("inconclusive", "Not looked at: there is no stacks.")
    assert state(analysis, "host")[0] == "inconclusive"
    assert not [one.words for one in analysis.checks if one.state == "failed"]


@pytest.mark.parametrize("damage", [b"", b"{", b'{"rounds": 5}', b"\xff\xfe", b"[]"])
def test_a_damaged_artifact_is_said_and_the_rest_goes_on(tmp_path: Path, damage: bytes) -> None:
    given = {**waiting(), "web_1__stacks": damage}
    analysis = analyze.analyze(write(tmp_path, sick(), **given))
    kind, words = state(analysis, "locks")
    assert kind == "inconclusive" and words.startswith("Not looked at: there is no stacks (damaged: ")
    assert analysis.top == "slow-dependency", "by its sockets alone"
    assert not [one.words for one in analysis.checks if one.state == "failed"]


def test_without_what_control_knew_nothing_passes(tmp_path: Path) -> None:
    write(tmp_path, **waiting())
    (tmp_path / "known.json").write_bytes(b"{")
    analysis = analyze.analyze(tmp_path)
    assert {one.state for one in analysis.checks} == {"inconclusive"} and analysis.top == ""
    assert analysis.verdict.startswith("NOT KNOWN")
    assert "damaged" in analysis.checks[0].words


def _raises(seen: Seen) -> Iterator[Finding]:
    yield from ()
    raise RuntimeError("a defect")


def _asks(seen: Seen) -> Iterator[Finding]:
    yield from ()
    seen.one(HostReport)


def _unsure(seen: Seen) -> Iterator[Finding]:
    yield from ()
    raise Inconclusive("It runs for too short a time.")


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (_raises, ("failed", "RuntimeError: a defect")),
        (_asks, ("failed", "Undeclared: HostReport was not declared")),
        (_unsure, ("inconclusive", "It runs for too short a time.")),
    ],
)
def test_an_analyzer_that_raises_harms_no_other(tmp_path: Path, function: Any, expected: tuple[str, str]) -> None:
    bad = Analyzer(name="bad", title="Bad", checks="Nothing.", analyze=function, wants=(Stacks,))
    analysis = analyze.analyze(write(tmp_path, sick(), **waiting()), analyzers=[bad, *ANALYZERS])
    assert state(analysis, "bad") == expected and analysis.top == "slow-dependency"


def test_when_the_time_has_passed_the_rest_is_left_out_and_said(tmp_path: Path) -> None:
    analysis = analyze.analyze(write(tmp_path, sick(), **waiting()), seconds=-1.0)
    assert {one.words for one in analysis.checks} == {"The time for analyzing, -1 s, had passed."}


def test_the_same_of_several_instances_is_one_finding(tmp_path: Path) -> None:
    known = sick()
    known.instances.append(made.instance("web-2", in_flight=20))
    known.rings["web-2"] = known.rings["web-1"]
    locked = [
        *stacked.threads(5, "transfer app:19", *SERVED, wchan="futex_do_wait"),
        *stacked.threads(5, "transfer app:28", *SERVED, first=200, wchan="futex_do_wait"),
    ]
    both = {f"web_{n}__stacks": stacked.stacks(locked) for n in (1, 2)}
    quiet = {f"web_{n}__activity": stacked.activity(0.01) for n in (1, 2)}
    found = [one for one in analyze.analyze(write(tmp_path, known, **both, **quiet)).findings if one.id == "deadlock"]
    assert [one.instances for one in found] == [["web-1", "web-2"]]
    assert found[0].cause.endswith("The same on web-2.")


# --- what holds for all ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "load",
    [
        {"requests": 0.2, "wait_p50": 0.01, "in_flight": 0.0},
        {"requests": 80.0, "wait_p50": 0.05, "wait_p99": 0.4, "in_flight": 6.0, "cpu": 0.6},
        {"requests": lambda at: 70.0 if at % 60 < 3 else 5.0, "wait_p50": lambda at: 0.06 if at % 60 < 3 else 0.02},
        {
            "requests": lambda at: 4.0 + at / 10,
            "wait_p50": lambda at: 0.02 + at / 20_000,
            "in_flight": lambda at: at / 100,
        },
        {"requests": 5.0, "wait_p50": lambda at: 0.4 if at < 20 else 0.03},
    ],
    ids=["idle", "loaded", "spiky", "a ramp", "warming up"],
)
def test_a_healthy_app_gets_nothing_above_info(tmp_path: Path, load: dict[str, Any]) -> None:
    rings = {key: made.ring(**{"in_flight": 1.0, **load}) for key in ("", "web-1", "web-2")}
    resting = ("SocketIO.readinto lib:socket.py:706", "load app:12", *SERVED)
    threads = [stacked.threads(count, *resting, first=100 + 10 * count) for count in (2, 1, 3)]
    given = {
        f"web_{n}__{name}": value
        for n in (1, 2)
        for name, value in (
            ("stacks", stacked.stacks(*threads)),
            ("sockets", stacked.sockets(stacked.asked(count=1, seconds=0.01))),
            ("activity", stacked.activity(float(load.get("cpu", 0.2)))),
        )
    }
    known = made.known(rings=rings, records=made.records(200, wait=0.02))
    analysis = analyze.analyze(write(tmp_path, known, host_report=stacked.host(0.5), **given))
    assert [(one.id, one.cause) for one in analysis.findings if one.severity != "info"] == []
    assert not [one.words for one in analysis.checks if one.state == "failed"]
    assert analysis.verdict == "Nothing is wrong with web, as far as could be seen."


def test_every_analyzer_has_its_own_name_and_says_what_passed() -> None:
    names = [one.name for one in ANALYZERS]
    assert len(set(names)) == len(names)
    for one in ANALYZERS:
        assert one.checks.endswith(".") and not one.title.endswith("."), one.name


def test_findings_are_plain_sentences_about_known_faults(tmp_path: Path) -> None:
    found = analyze.analyze(write(tmp_path, sick(), **waiting())).findings
    assert found
    for one in found:
        assert one.cause.endswith(".") and one.care.endswith("."), one.id
        assert all(proof.text.endswith(".") for proof in (*one.evidence, *one.against)), one.id
        assert set(one.faults) <= {*FAULTS, "slow"}, one.id
        assert all(remedy.text.endswith((".", "?")) for remedy in one.remedies), one.id


def test_a_rival_is_named_as_the_middle_of_a_sentence() -> None:
    """It is printed as "other cause CAUSE: against, …"."""
    folder = Path(str(analyzers.__file__)).parent
    named = re.compile(r'Rival\(\s*cause="([^"]*)"')
    texts = [text for path in folder.glob("*.py") for text in named.findall(path.read_text())]
    assert len(texts) > 40
    verb = re.compile(r"^(it|its \w+|the app|each \w+) (is|was|will|has|had|\w+s)\b")
    for text in texts:
        assert text[:1].islower() and not text.endswith(".") and not verb.match(text), text
