"""A few of the lab's cases, quickly: most are named rightly, none is certain and wrong, and nothing is left running.

The whole lab is `make lab`.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from tests.sick.case import Truth
from tests.sick.cases import CASES
from tests.sick.judge import of_session, of_why
from tests.sick.labels import LABELS
from tests.sick.play import Options, Played, play

NAMES = ("exception", "segfault", "slow-database", "healthy-idle")


@pytest.fixture(scope="module")
def others() -> set[psutil.Process]:
    """What this test run had started before, such as a browser."""
    return set(psutil.Process().children())


@pytest.fixture(scope="module")
def played(others: set[psutil.Process]) -> list[Played]:
    options = Options(seconds=3.0, hasty=True)
    with ThreadPoolExecutor(3) as pool:
        return list(pool.map(lambda case: play(case, options), [one for one in CASES if one.name in NAMES]))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_they_are_named(played: list[Played]) -> None:
    assert len(played) == len(NAMES)
    told = "\n".join(f"{one.case}: {one.session} {one.why} {one.error} {one.notes}" for one in played)
    assert not [one.case for one in played if one.error], told
    verdicts = [each for one in played for each in (one.session, one.why) if each is not None]
    assert len(verdicts) >= 2 * len(NAMES) - 2, told
    assert not [one for one in verdicts if one.verdict == "wrong" and one.certainty == "certain"], told
    assert sum(one.good for one in verdicts) >= 0.6 * len(verdicts), told


@pytest.mark.slow
def test_nothing_of_them_is_left(played: list[Played], others: set[psutil.Process]) -> None:
    assert not [one.notes for one in played if any("at its end" in note for note in one.notes)]
    living = set(psutil.Process().children()) - others
    assert not [one for one in living if one.status() != psutil.STATUS_ZOMBIE]


def test_truths_are_whole() -> None:
    """Each case has a truth of labels that exist, and a name of its own; enough are of two, unknown or healthy."""
    names = [one.name for one in CASES]
    assert len(names) == len(set(names))
    for case in CASES:
        for truth in (case.truth, case.why or case.truth):
            wanted = {*truth.right, *truth.fine, *(one for each in truth.also for one in each)}
            assert wanted <= set(LABELS), (case.name, wanted - set(LABELS))
            assert truth.healthy != bool(truth.right), case.name
    assert sum(bool(one.truth.also) for one in CASES) >= 5
    assert sum(one.truth.unknown for one in CASES) >= 4
    assert sum(one.truth.healthy for one in CASES) >= 5


def test_what_is_wrong_tells_nothing_of_itself() -> None:
    """No app's config names its case: the answer must not stand in a path or command."""
    for case in CASES:
        assert case.name not in case.config, case.name


FOUND = {"id": "deadlock", "severity": "critical", "certainty": "certain", "title": "A", "cause": "bank.py:19"}


def _analysis(**more: object) -> dict[str, object]:
    return {"findings": [{**FOUND, **more}]}


@pytest.mark.parametrize(
    ("truth", "analysis", "verdict"),
    [
        (Truth(right=("deadlock",)), _analysis(), "right"),
        (Truth(right=("deadlock",), names=("bank.py",)), _analysis(), "right"),
        (Truth(right=("deadlock",), names=("shop.py",)), _analysis(), "vague"),
        (Truth(right=("lock",), fine=("deadlock",)), _analysis(), "fine"),
        (Truth(right=("lock",)), _analysis(), "wrong"),
        (Truth(right=("lock",)), _analysis(certainty="not known"), "not known"),
        (Truth(right=("lock",), unknown=True), _analysis(certainty="not known"), "right"),
        (Truth(right=("lock",)), {"findings": []}, "nothing"),
        (Truth(right=("lock",)), _analysis(severity="info"), "nothing"),
        (Truth(right=("deadlock",), also=(("deadlock",), ("oom",))), _analysis(), "half"),
        (Truth(healthy=True), {"findings": []}, "right"),
        (Truth(healthy=True), _analysis(), "wrong"),
    ],
)
def test_a_session_is_judged(truth: Truth, analysis: dict[str, object], verdict: str) -> None:
    assert of_session(analysis, truth, truth.names).verdict == verdict


@pytest.mark.parametrize(
    ("truth", "answer", "verdict"),
    [
        (Truth(right=("deadlock",)), {"finding": "deadlock", "certainty": "certain"}, "right"),
        (Truth(right=("oom",)), {"finding": "deadlock", "certainty": "certain", "cause": ["OOM kill"]}, "wrong"),
        (Truth(right=("native-crash",)), {"finding": "", "certainty": "certain", "cause": ["by SIGSEGV"]}, "right"),
        (Truth(right=("oom",)), {"finding": "", "certainty": "not known", "cause": ["NOT KNOWN."]}, "not known"),
        (Truth(healthy=True), {"finding": "", "certainty": "certain", "cause": ["Nothing is wrong."]}, "right"),
    ],
)
def test_an_answer_of_why_is_judged(truth: Truth, answer: dict[str, object], verdict: str) -> None:
    assert of_why(answer, truth, truth.names).verdict == verdict


