"""What scaling rules want: the policy over what each rule sees."""

import pytest

from proxy.config.conditions import Condition
from proxy.config.schema import Scale
from proxy.control.autoheal.contract import Seen, Unit
from proxy.control.scaling import Rule, decide, described, within

CPU_HIGH = Condition("cpu", above=0.7, relative=True, for_=60)
CPU_LOW = Condition("cpu", below=0.3, relative=True, for_=300)
QUEUE = Condition("queue", above=10.0, for_=10)
MANY = Condition("requests", above=1000)
FEW = Condition("requests", below=100)
SLOTS = Condition("inflight", above=0.8, relative=True)


def rule(condition: Condition, value: float | None, held: float = 1000.0) -> Rule:
    below = condition.below is not None
    threshold = condition.below if condition.below is not None else condition.above
    assert threshold is not None
    met = value is not None and (value < threshold if below else value > threshold)
    unit: Unit = "ratio" if condition.relative else ""
    return Rule(condition, Seen(met, value, threshold, unit, f"sees {value}", below), held if met else 0.0)


def table(least: int = 1, most: int = 8, step: int = 1) -> Scale:
    return Scale(min=least, max=most, step=step)


def test_out_if_any_says_so() -> None:
    found = decide(table(), [rule(CPU_HIGH, 0.2), rule(QUEUE, 12)], [rule(CPU_LOW, 0.2)], 2)
    assert (found.to, found.held_back) == (3, "")
    assert found.words == "queue above 10, for 10s: sees 12"


def test_only_what_lasted_long_enough_says_so() -> None:
    assert decide(table(), [rule(CPU_HIGH, 0.9, held=59)], [], 2).to == 2
    assert decide(table(), [rule(CPU_HIGH, 0.9, held=60)], [], 2).to == 3


def test_in_only_if_all_agree_and_never_without_a_rule_for_it() -> None:
    quiet = [rule(CPU_HIGH, 0.1)]
    assert decide(table(), quiet, [rule(CPU_LOW, 0.1), rule(FEW, 500)], 3).to == 3
    assert decide(table(), quiet, [rule(CPU_LOW, 0.1), rule(FEW, 50)], 3).to == 2
    assert decide(table(), quiet, [], 3).to == 3


def test_steps_stay_within_the_bounds() -> None:
    hot, cold = [rule(CPU_HIGH, 0.99)], [rule(CPU_LOW, 0.01)]
    assert decide(table(2, 8, step=5), hot, [], 6).to == 8
    assert decide(table(2, 8, step=5), [], cold, 6).to == 2
    most = decide(table(2, 8), hot, [], 8)
    assert (most.to, most.held_back) == (8, "out")
    assert "8 are `max`" in most.words
    assert decide(table(2, 8), [], cold, 2).held_back == "", "resting at `min` is nothing to tell"
    assert decide(table(0, 8, step=5), [], cold, 3).to == 1, "never the last one"
    assert (within(table(2, 8), 1), within(table(2, 8), 9), within(table(2, 8), 5)) == (2, 8, 5)


def test_a_step_in_that_would_bring_them_back_is_not_made() -> None:
    in_ = [rule(Condition("cpu", below=0.5, relative=True), 0.45)]
    found = decide(table(), [rule(CPU_HIGH, 0.45)], in_, 2)
    assert (found.to, found.held_back) == (2, "in")
    assert "with 1 instance cpu above 70%, for 1m would hold at 90 %, and bring them back" in found.words
    assert decide(table(), [rule(CPU_HIGH, 0.45)], in_, 3).to == 2  # 67 %


def test_a_step_out_that_would_take_them_away_again_is_not_made() -> None:
    in_ = [rule(Condition("cpu", below=0.6, relative=True), 0.75)]
    found = decide(table(), [rule(CPU_HIGH, 0.75)], in_, 2)
    assert (found.to, found.held_back) == (2, "out")
    assert "with 3 instances cpu below 60% would hold at 50 %, and take them away again" in found.words
    assert decide(table(), [rule(CPU_HIGH, 0.75)], in_, 8).to == 8
    assert decide(table(most=9), [rule(CPU_HIGH, 0.75)], in_, 8).to == 9  # 67 %


def test_rules_that_contradict_each_other_have_more_rather_than_fewer() -> None:
    """Requests wait while CPU idles: the queue wins, and a step in is not made while it would be there again."""
    in_ = [rule(CPU_LOW, 0.1)]
    assert decide(table(), [rule(QUEUE, 40)], in_, 2).to == 3
    assert decide(table(), [rule(QUEUE, 8)], in_, 2).to == 2  # 16 on one


@pytest.mark.parametrize(("condition", "value", "kept"), [(MANY, 900, False), (SLOTS, 0.5, True), (QUEUE, 9, True)])
def test_only_what_instances_share_is_projected(condition: Condition, value: float, kept: bool) -> None:
    found = decide(table(), [rule(condition, value)], [rule(CPU_LOW, 0.1)], 2)
    assert (found.to == 2) is kept


def test_what_is_not_known_moves_nothing() -> None:
    assert decide(table(), [rule(CPU_HIGH, None)], [], 2).to == 2
    found = decide(table(), [rule(CPU_HIGH, None)], [rule(FEW, 5)], 2)
    assert (found.to, found.held_back) == (2, "in")
    assert "can't be foreseen" in found.words


def test_a_rule_is_named_as_it_is_written() -> None:
    assert described(CPU_HIGH) == "cpu above 70%, for 1m"
    slow = Condition("slow", above=5, count=20, path="/api/*")
    assert described(slow) == "slow above 5s, count 20, path /api/*"
    assert described(Condition("schedule", cron="0 8 * * *")) == "schedule cron 0 8 * * *"
