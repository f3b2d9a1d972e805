"""How many instances the scaling rules of an app want: pure, over what each rule sees now.

Out if any rule says so, in only if all agree. A step that would at once call for its opposite is not made: what a rule
sees is projected on the new number of instances (value × present ÷ new, as far as it is shared among them).

Always true:
  - the answer lies within `min` and `max`, and a step in leaves one instance at least;
  - what is not known moves nothing; while a value of a rule for more is not known, nothing goes in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from proxy.config.conditions import Condition
from proxy.config.schema import Scale
from proxy.control.autoheal.contract import Seen
from proxy.control.autoheal.words import described, shown

ALL_TOGETHER: Final = frozenset({"requests", "slow", "schedule"})
"""Kinds whose value does not change with the number of instances."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of `out` or `in`, as it stands now."""

    condition: Condition
    seen: Seen
    held: float  # seconds that it has been met without a break

    @property
    def name(self) -> str:
        return described(self.condition)

    @property
    def says(self) -> bool:
        return self.seen.met and self.held >= self.condition.for_

    @property
    def shared(self) -> bool:
        """Its value is one instance's share, or is about to be."""
        condition = self.condition
        return condition.kind not in ALL_TOGETHER and (condition.kind != "inflight" or condition.relative)

    def projected(self, factor: float) -> tuple[bool, float | None]:
        """Whether it would be met, its `for` apart, and by which value."""
        seen = self.seen
        if seen.value is None:
            return False, None
        value = seen.value * factor if self.shared else seen.value
        if self.condition.kind in ALL_TOGETHER:
            return seen.met, value
        return (value < seen.threshold if seen.below else value > seen.threshold), value

    def shown(self, value: float | None) -> str:
        """A value in this rule's unit, for people."""
        if value is None:
            return "not known"
        return shown(value, self.seen.unit)


@dataclass(frozen=True, slots=True)
class Decision:
    """`to` is the wanted number, the present one if nothing is to be done; `words` say why, either way."""

    to: int
    words: str
    by: Rule | None = None  # the rule that wants it
    held_back: str = ""  # "out" or "in": that way it wants to go, and does not


def decide(table: Scale, out: Sequence[Rule], in_: Sequence[Rule], count: int) -> Decision:
    """Of an app with `count` instances that are all ready; cooldowns are the caller's."""
    wants = next((rule for rule in out if rule.says), None)
    if wants is not None:
        return _out(table, wants, in_, count)
    if in_ and all(rule.says for rule in in_):
        return _in(table, out, in_, count)
    return Decision(count, "no rule wants another number" if out or in_ else "there is no rule")


def _out(table: Scale, wants: Rule, in_: Sequence[Rule], count: int) -> Decision:
    why = f"{wants.name}: {wants.seen.words}"
    to = min(table.max, count + table.step)
    if to <= count:
        return Decision(count, f"{why}; {count} are `max`", wants, "out")
    if in_ and not all(rule.seen.met for rule in in_):  # rules that contradict each other already: more is safer
        after = [rule.projected(count / to) for rule in in_]
        if all(met for met, _ in after):
            rule, value = in_[0], after[0][1]
            said = f"with {to} instances {rule.name} would hold at {rule.shown(value)}, and take them away again"
            return Decision(count, f"{why}; but {said}", wants, "out")
    return Decision(to, why, wants)


def _in(table: Scale, out: Sequence[Rule], in_: Sequence[Rule], count: int) -> Decision:
    why = "; ".join(f"{rule.name}: {rule.seen.words}" for rule in in_)
    to = max(table.min, count - table.step, 1)
    if to >= count:
        return Decision(count, f"{why}; {count} are as few as may be", in_[0])
    for rule in out:
        met, value = rule.projected(count / to)
        if value is None and rule.condition.kind not in ALL_TOGETHER:
            return Decision(count, f"{why}; but {rule.name} can't be foreseen: {rule.seen.words}", in_[0], "in")
        if met:
            said = f"with {_instances(to)} {rule.name} would hold at {rule.shown(value)}, and bring them back"
            return Decision(count, f"{why}; but {said}", in_[0], "in")
    return Decision(to, why, in_[0])


def within(table: Scale, count: int) -> int:
    """`count`, pulled into the bounds."""
    return max(table.min, min(table.max, count))


def _instances(count: int) -> str:
    return f"{count} instance{'' if count == 1 else 's'}"
