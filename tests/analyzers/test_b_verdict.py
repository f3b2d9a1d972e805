"""Order, the verdict's sentence, and which finding a request met."""

from typing import Any

import pytest

from proxy.diagnostics.analyzers.contract import Finding
from proxy.diagnostics.verdict import for_request, order, roots, verdict
from tests.analyzers import made
from tests.analyzers.made import NOW


def finding(id_: str, **fields: Any) -> Finding:
    usual: dict[str, Any] = {
        "title": f"{id_} it is", "cause": "So.", "severity": "critical", "certainty": "very likely", "care": "Bad.",
        "app": "web",
    }  # fmt: skip
    return Finding(id=id_, **{**usual, **fields})


def names(findings: list[Finding]) -> list[str]:
    return [one.id for one in findings]


def test_what_explains_comes_first_whatever_is_graver() -> None:
    queue = finding("no-slots", certainty="not known", weight=900.0)
    left = finding("clients-left", certainty="not known", severity="warning")
    cause = finding("slow-dependency", severity="warning", explains=["no-slots", "clients-left"])
    assert names(order([left, queue, cause])) == ["slow-dependency", "no-slots", "clients-left"]


def test_a_chain_is_in_order() -> None:
    third = finding("clients-left")
    second = finding("no-slots", explains=["clients-left"])
    first = finding("slow-dependency", explains=["no-slots"])
    assert names(order([third, second, first])) == ["slow-dependency", "no-slots", "clients-left"]


@pytest.mark.parametrize(
    ("cause", "other", "behind"),
    [
        ({"certainty": "likely"}, {"certainty": "very likely"}, False),
        ({"certainty": "very likely"}, {"certainty": "certain"}, True),
        ({"certainty": "likely"}, {"certainty": "certain"}, False),
        ({"severity": "info"}, {}, False),
        ({"instances": ["web-1"]}, {"instances": ["web-2"]}, False),
        ({"instances": ["web-1"]}, {"instances": ["web-1", "web-2"]}, True),
        ({"instances": ["web-1"]}, {}, True),
        ({"app": "shop"}, {}, False),
    ],
)
def test_only_what_is_sure_enough_and_of_the_same_instances_lies_behind(
    cause: dict[str, Any], other: dict[str, Any], behind: bool
) -> None:
    one, two = finding("a", explains=["b"], **cause), finding("b", **other)
    assert ("b" not in names(roots([one, two]))) is behind


def test_two_sicknesses_stand_side_by_side() -> None:
    one = finding("out-of-memory", certainty="certain", explains=["crash-loop"])
    two = finding("slow-dependency", explains=["no-slots"])
    assert names(roots([finding("no-slots", certainty="not known"), two, one])) == ["out-of-memory", "slow-dependency"]


def test_a_ring_begins_with_the_gravest() -> None:
    one = finding("a", severity="warning", explains=["b"])
    two = finding("b", explains=["a"])
    assert names(order([one, two])) == ["b", "a"]


def test_the_verdict_says_how_sure_and_what_else() -> None:
    cause = finding("slow-dependency", title="10.0.3.12:5432 answers slowly", explains=["no-slots"])
    said, top = verdict([finding("no-slots", certainty="not known"), cause], made.known())
    assert (said, top) == ("Very likely: 10.0.3.12:5432 answers slowly.", "slow-dependency")
    said, _ = verdict([cause, finding("deadlock", title="Two locks", certainty="likely")], made.known())
    assert said == "Very likely: 10.0.3.12:5432 answers slowly. Besides that: Likely: Two locks."
    said, top = verdict([finding("slow", title="web is slow", certainty="not known")], made.known())
    assert said == "web is slow. NOT KNOWN: what lies behind it." and top == "slow"


def test_nothing_found_is_said_with_what_is_known() -> None:
    info = finding("cold-start", severity="info")
    assert verdict([info], made.known()) == ("Nothing is wrong with web, as far as could be seen.", "")
    said, _ = verdict([], made.known(app=made.app(state="down")))
    assert said == "web is down, and no check found why. NOT KNOWN: what lies behind it."
    assert verdict([], None)[0].startswith("NOT KNOWN")


def test_a_request_meets_what_fits_its_fault_instance_time_and_path() -> None:
    request = made.record(10.0, instance="web-1", fault="head-timeout", status=504, target="/report?id=1", total=2.0)
    fits = finding("slow-path", faults=["head-timeout"], paths=["GET /report"], since=NOW - 60)
    assert for_request([fits], request) is fits
    for other in (
        {"faults": ["queue-timeout"]},
        {"instances": ["web-2"]},
        {"paths": ["GET /else"]},
        {"since": NOW + 60},
        {"until": NOW - 60},
        {"severity": "info"},
        {"app": "shop"},
    ):
        one = finding("x", **{"faults": ["head-timeout"], **other})
        assert for_request([one], request) is None, other


def test_of_several_the_one_behind_the_others_is_told_then_the_narrower() -> None:
    request = made.record(10.0, fault="queue-timeout", status=503, instance="", wait=None, total=5.0)
    queue = finding("no-slots", certainty="not known", faults=["queue-timeout"])
    cause = finding("slow-dependency", faults=["queue-timeout"], explains=["no-slots"])
    other = finding("cpu-bound", faults=["slow"])
    assert for_request([queue, cause, other], request) is cause
    narrow = finding("suspect-request", faults=["queue-timeout"], paths=["GET /"], severity="warning")
    assert for_request([queue, cause, narrow], request) is narrow


def test_a_late_answer_meets_what_accounts_for_slow_ones() -> None:
    request = made.record(10.0, wait=4.0)
    assert for_request([finding("cpu-bound", faults=["slow"])], request) is not None
    assert for_request([finding("oom", faults=["instance-exited"])], request) is None


def test_a_request_that_was_sent_again_met_what_its_first_attempt_met() -> None:
    tries = [made.attempt("web-1", fault="closed-before-head"), made.attempt("web-2", status=200)]
    request = made.record(10.0, instance="web-2", attempts=tries)
    assert for_request([finding("x", faults=["closed-before-head"], instances=["web-1"])], request) is not None
