import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.control.ejection import JITTER, Decision, Ejector, Rules
from proxy.control.state import Admission, Ejection

RULES = Rules()


def make(count: int, rules: Rules = RULES) -> Ejector:
    ejector = Ejector(rules, random.Random(1))
    ejector.keep([f"web-{number}" for number in range(1, count + 1)], 0.0)
    return ejector


def fail_probes(ejector: Ejector, name: str, times: int = 3, refused: bool = False) -> None:
    for _ in range(times):
        ejector.probed(name, False, "status 500", refused)


def faults(ejector: Ejector, name: str, streak: int, worker: int = 0, good: int = 0, refused: bool = False) -> None:
    ejector.learned(name, worker, good, {"closed-before-head": streak}, streak, refused)


def one(decisions: list[Decision]) -> Decision:
    assert len(decisions) == 1, decisions
    return decisions[0]


def test_failing_probes_eject_and_a_passed_one_admits() -> None:
    ejector = make(4)
    fail_probes(ejector, "web-1", 2)
    assert ejector.decide(1.0) == []
    fail_probes(ejector, "web-1", 1)
    decision = one(ejector.decide(2.0))
    assert (decision.admission, decision.by) == (Admission.EJECTED, "probe")
    assert "3 probes in a row failed: status 500" in decision.reason
    assert ejector.decide(100.0) == [], "as long as its probes fail, time alone brings it back no more"
    ejector.probed("web-1", True, "status 200", False)
    assert one(ejector.decide(101.0)).admission is Admission.ADMITTING


def test_faults_in_a_row_are_added_over_workers_and_a_good_answer_anywhere_ends_the_row() -> None:
    ejector = make(4)
    faults(ejector, "web-1", 3, worker=0)
    faults(ejector, "web-1", 1, worker=1)
    assert ejector.decide(1.0) == []
    ejector.learned("web-1", 2, 1, {}, 0, False)
    faults(ejector, "web-1", 4, worker=1)
    assert ejector.decide(1.0) == []
    faults(ejector, "web-1", 1, worker=0)
    decision = one(ejector.decide(1.0))
    assert (decision.admission, decision.by) == (Admission.EJECTED, "faults")
    assert "5 faults in a row, the last one closed-before-head" in decision.reason


def test_ratio_needs_enough_requests_in_the_window() -> None:
    ejector = make(4)
    ejector.counted("web-1", 1.0, 10, 9)
    assert ejector.decide(1.5) == []
    ejector.counted("web-1", 12.0, 15, 9)  # the first ten have left the window
    assert ejector.decide(12.0) == []
    ejector.counted("web-1", 12.5, 5, 1)
    decision = one(ejector.decide(12.5))
    assert decision.admission is Admission.EJECTED
    assert "10 of 20 requests in 10 s failed" in decision.reason


def test_a_trial_decides() -> None:
    ejector = make(4)
    faults(ejector, "web-1", 5)
    until = one(ejector.decide(0.0)).until
    assert 5.0 <= until <= 5.0 * (1 + JITTER)
    assert ejector.decide(until - 0.1) == []
    assert one(ejector.decide(until)).admission is Admission.TRIAL
    faults(ejector, "web-1", 1)
    again = one(ejector.decide(until))
    assert again.admission is Admission.EJECTED
    assert again.until - until >= 10.0, "the time doubles"
    assert one(ejector.decide(again.until)).admission is Admission.TRIAL
    ejector.learned("web-1", 0, 1, {}, 0, False)
    assert one(ejector.decide(again.until)).admission is Admission.ADMITTING


def test_a_trial_answered_with_a_5xx_has_failed() -> None:
    ejector = make(4)
    faults(ejector, "web-1", 5)
    assert one(ejector.decide(1.0)).admission is Admission.EJECTED
    assert one(ejector.decide(1000.0)).admission is Admission.TRIAL
    ejector.learned("web-1", 0, 0, {"app-error": 1}, 0, False)
    assert one(ejector.decide(1001.0)).admission is Admission.EJECTED


def test_durations_double_to_the_maximum_and_are_forgotten() -> None:
    ejector = make(4, Rules(first=5, max=20))
    now = 0.0
    lasted = []
    for _ in range(5):
        faults(ejector, "web-1", 5)
        until = one(ejector.decide(now)).until
        lasted.append(until - now)
        ejector.decide(until)
        ejector.learned("web-1", 0, 1, {}, 0, False)
        ejector.decide(until)
        now = until + 1
    assert [round(one_) // 5 * 5 for one_ in lasted][:3] == [5, 10, 20]
    assert max(lasted) <= 20 * (1 + JITTER)
    faults(ejector, "web-1", 5)
    now += 3600
    assert one(ejector.decide(now)).until - now <= 5 * (1 + JITTER)


def test_a_lone_instance_stays_and_is_failing() -> None:
    ejector = make(1)
    fail_probes(ejector, "web-1")
    decision = one(ejector.decide(1.0))
    assert (decision.admission, decision.failing) == (Admission.ADMITTING, True)
    assert ejector.decide(2.0) == []
    ejector.probed("web-1", True, "status 200", False)
    assert not one(ejector.decide(3.0)).failing


def test_all_probes_failing_still_serves() -> None:
    ejector = make(4)
    for name in list(ejector.watches):
        fail_probes(ejector, name)
    decisions = ejector.decide(1.0)
    assert sum(d.admission is Admission.EJECTED for d in decisions) == 2
    assert sum(d.failing for d in decisions) == 2


def test_the_cap_does_not_hold_for_one_that_cannot_be_connected_to() -> None:
    ejector = make(2)
    for name in list(ejector.watches):
        fail_probes(ejector, name, refused=True)
    assert [d.admission for d in ejector.decide(1.0)] == [Admission.EJECTED] * 2
    ejector = make(1)
    faults(ejector, "web-1", 5, refused=True)
    assert one(ejector.decide(1.0)).admission is Admission.EJECTED
    ejector.probed("web-1", True, "connected", False)
    assert one(ejector.decide(1.1)).admission is Admission.TRIAL, "it answers again: no need to wait"


def test_a_pool_that_shrinks_brings_the_ejected_back() -> None:
    ejector = make(2)
    fail_probes(ejector, "web-1")
    assert one(ejector.decide(1.0)).admission is Admission.EJECTED
    ejector.keep(["web-1"], 2.0)
    decision = one(ejector.decide(2.0))
    assert (decision.admission, decision.failing) == (Admission.ADMITTING, True)


def test_dry_run_only_says() -> None:
    ejector = make(4, Rules(dry_run=True))
    fail_probes(ejector, "web-1")
    decision = one(ejector.decide(1.0))
    assert decision.dry
    assert decision.admission is Admission.ADMITTING
    assert ejector.decide(2.0) == [], "once"


@pytest.mark.parametrize("rules", [Rules(consecutive=0), Rules(ratio=0.0)])
def test_zero_is_not_looked_at(rules: Rules) -> None:
    ejector = make(4, rules)
    if rules.consecutive == 0:
        faults(ejector, "web-1", 50)
    else:
        ejector.counted("web-1", 1.0, 100, 100)
    assert ejector.decide(1.0) == []


NEWS = st.tuples(
    st.integers(0, 5),
    st.sampled_from(["pass", "fail", "refused", "good", "fault", "gone", "count"]),
    st.floats(0.1, 30.0),
)


@settings(max_examples=200)
@given(st.lists(NEWS, max_size=80), st.integers(1, 6), st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_the_cap_always_holds(news: list[tuple[int, str, float]], count: int, cap: float) -> None:
    ejector = make(count, Rules(max_ejected=cap))
    now = 0.0
    for number, kind, passed in news:
        now += passed
        name = f"web-{number % count + 1}"
        match kind:
            case "pass":
                ejector.probed(name, True, "status 200", False)
            case "fail":
                fail_probes(ejector, name)
            case "refused":
                fail_probes(ejector, name, refused=True)
            case "good":
                ejector.learned(name, 0, 1, {}, 0, False)
            case "fault":
                faults(ejector, name, 5)
            case "count":
                ejector.counted(name, now, 40, 40)
            case _:
                ejector.keep([other for other in ejector.watches if other != name], now)
        for decision in ejector.decide(now):
            watch = ejector.watches[decision.name]
            assert (watch.admission, watch.failing) == (decision.admission, decision.failing)
        total = len(ejector.watches)
        ejected = [watch for watch in ejector.watches.values() if watch.admission is Admission.EJECTED]
        reachable = [watch for watch in ejected if not watch.refused and not watch.was_refused]
        allowed = 0 if total <= 1 else int(cap * total)
        assert len(reachable) <= allowed
        assert not any(watch.failing and watch.admission is Admission.EJECTED for watch in ejector.watches.values())


def test_what_a_hand_ejected_only_a_hand_or_its_time_admits() -> None:
    ejector = make(2)
    assert ejector.eject("web-1", "hand", "why", 0.0, 0.0).admission is Admission.EJECTED
    ejector.probed("web-1", True, "status 200", False)
    ejector.learned("web-1", 0, 5, {}, 0, False)
    assert ejector.decide(1e6) == []
    fail_probes(ejector, "web-2")
    assert one(ejector.decide(1e6)).failing, "what the hand took counts: the other stays"
    assert ejector.admit("web-1", "by hand", 1e6).admission is Admission.ADMITTING
    ejector.eject("web-1", "hand", "why", 1e6 + 10, 1e6)
    assert [each.name for each in ejector.decide(1e6 + 9)] == []
    assert [each.admission for each in ejector.decide(1e6 + 10) if each.name == "web-1"] == [Admission.ADMITTING]


def test_a_lone_one_waits_for_a_probe_that_began_after_its_recycle() -> None:
    """What was there before answered the others; what is there now may not listen yet, so the cap waits too."""
    ejector = make(1)
    ejector.eject("web-1", "recycle", "a recycle", 0.0, 0.0)
    ejector.leave_to_probes("web-1", "its probes must pass", 10.0)
    assert ejector.decide(10.1) == []
    ejector.probed("web-1", True, "status 200", False, began=9.9)
    assert ejector.decide(10.2) == []
    ejector.probed("web-1", False, "connection refused", True, began=10.1)
    assert ejector.decide(10.3) == [], "it can't be connected to"
    ejector.probed("web-1", True, "status 200", False, began=10.3)
    admitted = one(ejector.decide(10.4))
    assert (admitted.admission, admitted.failing) == (Admission.ADMITTING, False)


def test_a_lone_one_that_answers_badly_after_its_recycle_serves_all_the_same() -> None:
    ejector = make(1)
    ejector.eject("web-1", "recycle", "a recycle", 0.0, 0.0)
    ejector.leave_to_probes("web-1", "its probes must pass", 10.0)
    ejector.probed("web-1", False, "status 500", False, began=10.1)
    back = one(ejector.decide(10.2))
    assert (back.admission, back.failing) == (Admission.ADMITTING, True)


def test_the_cap_brings_back_none_that_a_hand_ejected() -> None:
    ejector = make(4)
    ejector.eject("web-1", "hand", "why", 0.0, 0.0)
    fail_probes(ejector, "web-2")
    assert one(ejector.decide(1.0)).name == "web-2"
    ejector.keep(["web-1", "web-2"], 2.0)
    decision = one(ejector.decide(2.0))
    assert (decision.name, decision.failing) == ("web-2", True)


def test_a_new_control_goes_on_with_an_ejection() -> None:
    ejector = make(2)
    ejector.restore("web-1", Admission.EJECTED, False, Ejection(2, 50.0, "faults", "why"), 10.0)
    assert ejector.decide(49.0) == []
    assert one(ejector.decide(50.0)).admission is Admission.TRIAL
