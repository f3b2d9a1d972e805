"""A rule, and what is remembered of it: when it fired, how long it keeps quiet, for how long it has been met.

Times are monotonic seconds. A *firing* begins a group: every instance that was there by then may be acted on in it, one
after another as the guards allow; what came after it (above all the replacements) is left alone until the cooldown has
passed. So a leak in four instances is mended in four instances, and a replacement that is no better starts no loop.

Always true:
  - a rule acts once on an instance in a group, and never before its cooldown on one that is younger than the group;
  - each firing soon after the last cooldown doubles the next one, up to `longest`; each quiet one halves it;
  - memory is bounded: what is known of an instance goes with it, and of firings an hour is kept.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final

from proxy.config.conditions import Condition, Step
from proxy.config.schema import Autoheal, Diagnose
from proxy.control.autoheal import words
from proxy.control.autoheal.conditions import KINDS
from proxy.control.autoheal.contract import Kind
from proxy.control.autoheal.spell import GAP, Spell

HOUR: Final = 3600.0
LONGEST: Final = 3 * HOUR
"""Azure's proactive rules keep quiet for so long when they fire too often."""
LEAST: Final = 60.0
"""What a back-off doubles when the cooldown itself is shorter."""
FIRINGS: Final = 3600
"""Of the last hour; no more can be allowed by `max_per_hour`."""


@dataclass(frozen=True, slots=True)
class Rule:
    """As it is configured, or built in."""

    name: str
    app: str
    condition: Condition
    kind: Kind
    steps: tuple[Step, ...]
    min_age: float = 60.0
    cooldown: float = 600.0
    max_per_hour: int = 4
    max_unavailable: float = 0.25
    dry_run: bool = False
    builtin: bool = False
    longest: float = LONGEST
    one_first: bool = False
    """If all instances are in it, one is recycled, and the others only if that one got well."""
    about: str = ""
    """Of a built-in one: when it is met."""
    why: str = ""
    """Of a built-in one: what is wrong with the instance."""
    off: str = ""
    """Why it does nothing: a rule of the config is for the same, or nothing could be done."""

    @property
    def only_looks(self) -> bool:
        """It changes nothing: what keeps rules from mending does not keep it from looking."""
        return all(step.act == "diagnose" for step in self.steps)

    @property
    def key(self) -> str:
        """Of its memory, within its app: a built-in one and one of the config may have the same name."""
        return f"builtin {self.name}" if self.builtin else self.name

    @property
    def title(self) -> str:
        """For people, and for Asked.by."""
        return f"rule {self.name} (built in)" if self.builtin else f"rule {self.name}"


def reason(rule: Rule) -> str:
    """Why it acts, as it stands in the config."""
    return rule.why if rule.builtin else words.described(rule.condition)


def configured(app: str, rule: Autoheal) -> Rule:
    return Rule(
        name=rule.name,
        app=app,
        condition=rule.when,
        kind=KINDS[rule.when.kind],
        steps=rule.then,
        min_age=rule.min_age,
        cooldown=rule.cooldown,
        max_per_hour=rule.max_per_hour,
        max_unavailable=rule.max_unavailable,
        dry_run=rule.dry_run,
    )


def diagnosing(app: str, found: Diagnose) -> tuple[Rule, ...]:
    """`apps.X.diagnose.when`, one rule each. A space in the name: no rule of the config can be called so."""
    made: list[Rule] = []
    for when in found.when:
        name = f"diagnose {when.kind}"
        more = sum(one.name.startswith(name) for one in made)
        made.append(
            Rule(
                name=f"{name} {more + 1}" if more else name, app=app, condition=when, kind=KINDS[when.kind],
                steps=(Step("diagnose"),), min_age=0.0, cooldown=300.0, max_per_hour=12,
                why=f"diagnose.when: {words.described(when)}",
            )
        )  # fmt: skip
    return tuple(made)


@dataclass(slots=True)
class Memory:
    """What is remembered of one rule. For the ledger as it is."""

    group_at: float = 0.0  # when the group in progress, or the last one, began; 0.0: it never fired
    streak: int = 0  # groups that followed each other closely
    until: float = 0.0  # the cooldown's end
    fired_at: float = 0.0  # the last act, also within a group
    fired_unix: float = 0.0
    fired: list[float] = field(default_factory=list)  # acts of the last hour
    acted: list[str] = field(default_factory=list)  # instances of the group
    handled: float = 0.0  # highest token that was acted on
    would: int = 0  # times it would have fired, were it not for dry_run or a person's word
    would_unix: float = 0.0
    would_until: float = 0.0  # it is not said again before
    operation: str = ""  # of its last act
    spells: dict[str, Spell] = field(default_factory=dict)  # by instance, "" for the app
    tokens: dict[str, float] = field(default_factory=dict)  # that a spell is about

    def dump(self) -> dict[str, Any]:
        """{} when there is nothing to remember."""
        raw = asdict(self)
        raw["spells"] = {name: spell for name, spell in raw["spells"].items() if spell["since"]}
        return {name: value for name, value in raw.items() if value}

    @classmethod
    def load(cls, raw: dict[str, Any]) -> Memory:
        known = {name: value for name, value in raw.items() if name in cls.__slots__}
        known["spells"] = {name: Spell(**spell) for name, spell in known.get("spells", {}).items()}
        return cls(**known)

    # --- for how long -----------------------------------------------------------------------------------

    def held(self, target: str, met: bool, token: float, now: float, gap: float = GAP) -> float:
        """Seconds that it has been met for `target`; a later moment (token) begins anew."""
        spell = self.spells.get(target)
        if spell is None:
            if not met:
                return 0.0
            spell = self.spells[target] = Spell()
        if token and self.tokens.get(target) != token:
            self.tokens[target] = token
            spell.since = 0.0
        return spell.update(met, now, gap)

    def forget(self, present: set[str]) -> None:
        """Instances that are gone, and firings of long ago."""
        for name in [name for name in self.spells if name and name not in present]:
            del self.spells[name]
            self.tokens.pop(name, None)
        self.acted = [name for name in self.acted if name in present]

    def lately(self, now: float) -> int:
        """Acts of the last hour."""
        while self.fired and self.fired[0] <= now - HOUR:
            del self.fired[0]
        return len(self.fired)

    # --- firing -----------------------------------------------------------------------------------------

    def in_group(self, target: str, began: float) -> bool:
        """Whether `target`, ready since `began`, may be acted on although the cooldown runs."""
        return bool(target) and began < self.group_at and target not in self.acted

    def fire(self, rule: Rule, target: str, now: float, unix: float, began: float = 0.0) -> None:
        """It acts on `target` now: "" for the app as a whole."""
        if now >= self.until or not self.in_group(target, began):
            self.streak = _streak(self, rule, now)
            self.group_at = now
            self.until = now + pause(rule, self.streak)
            self.acted = []
        if target:
            self.acted.append(target)
        self.fired_at, self.fired_unix = now, unix
        self.fired.append(now)
        del self.fired[:-FIRINGS]


def pause(rule: Rule, streak: int) -> float:
    """The cooldown after so many firings that followed each other closely."""
    if not streak or rule.kind.once:
        return rule.cooldown
    return max(rule.cooldown, min(rule.longest, max(rule.cooldown, LEAST) * 2.0 ** min(streak, 30)))


def _streak(memory: Memory, rule: Rule, now: float) -> int:
    """Of a group that begins now."""
    if not memory.group_at or rule.kind.once:
        return 0
    quiet = now - memory.until
    last = max(LEAST, pause(rule, memory.streak))
    if quiet < last:
        return memory.streak + 1
    return max(0, memory.streak - int(quiet // last))
