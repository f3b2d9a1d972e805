"""When a rule may act: cooldown, back-off, groups and the other guards, on made-up times."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config import App, Process, parse, remarks
from proxy.config import conditions as config_conditions
from proxy.config.conditions import Condition, Step
from proxy.control.autoheal import builtin, guards, rules, views
from proxy.control.autoheal.conditions import KINDS
from proxy.control.autoheal.contract import Seen
from proxy.control.autoheal.guards import Situation
from proxy.control.autoheal.rules import HOUR, LONGEST, Memory, Rule, pause

RULE = Rule("r", "web", Condition("slow", above=5.0), KINDS["slow"], (Step("recycle"),), min_age=60.0)
HERE = Situation(now=10_000.0, unix=1e9, target="web-1", ready_since=5000.0, wanted=4)


def asked(memory: Memory | None = None, rule: Rule = RULE, **fields: object) -> str:
    """The guard that objects, "" for none."""
    hold = guards.first(rule, memory or Memory(), replace(HERE, **fields))  # type: ignore[arg-type]
    return hold.guard if hold is not None else ""


@pytest.mark.parametrize(
    ("fields", "guard"),
    [
        ({}, ""),
        ({"off": "switched off by hand"}, "off"),
        ({"state": "held"}, "stopped"),
        ({"state": "stopped"}, "stopped"),
        ({"stopping": True}, "stopped"),
        ({"ready_since": 9941.0}, "min_age"),
        ({"ready_since": 9940.0}, ""),
        ({"target": "", "ready_since": 0.0}, ""),
        ({"busy": "op-7"}, "busy"),
        ({"acting": 1}, "max_unavailable"),
    ],
)
def test_guards(fields: dict[str, object], guard: str) -> None:
    assert asked(**fields) == guard


def test_every_guard_gives_a_reason() -> None:
    names = [guard.name for guard in guards.GUARDS]
    assert len(set(names)) == len(names)
    hold = guards.first(RULE, Memory(), replace(HERE, busy="op-7, recycle of web/web-1, rule other"))
    assert hold is not None and "waits for op-7" in hold.why


@pytest.mark.parametrize(
    ("share", "wanted", "most"), [(0.25, 1, 1), (0.25, 4, 1), (0.25, 8, 2), (0.5, 3, 1), (1.0, 3, 3)]
)
def test_one_at_least_may_be_under_way(share: float, wanted: int, most: int) -> None:
    rule = replace(RULE, max_unavailable=share)
    assert asked(rule=rule, wanted=wanted, acting=most - 1) == ""
    assert asked(rule=rule, wanted=wanted, acting=most) == "max_unavailable"


def test_what_takes_nothing_out_needs_no_room() -> None:
    rule = replace(RULE, steps=(Step("collect"), Step("run", run=("x",))))
    assert asked(rule=rule, acting=4) == ""


def test_the_last_one_that_serves_is_not_ejected() -> None:
    rule = replace(RULE, steps=(Step("eject"),))
    assert asked(rule=rule, lost_if_ejected=True) == "max_unavailable"
    assert asked(lost_if_ejected=True) == "", "a recycle has its replacement first"


def fire(memory: Memory, now: float, target: str = "web-1", began: float = 0.0, rule: Rule = RULE) -> None:
    memory.fire(rule, target, now, now, began)


def test_a_replacement_waits_for_the_cooldown_and_older_ones_do_not() -> None:
    memory = Memory()
    fire(memory, 10_000.0)
    assert asked(memory, now=10_001.0, target="web-2", ready_since=5000.0) == "", "it was there: the same go"
    assert asked(memory, now=10_070.0, target="web-9", ready_since=10_001.0) == "cooldown"
    assert asked(memory, now=10_070.0, target="web-1", ready_since=5000.0) == "cooldown", "it had its turn"
    assert asked(memory, now=10_070.0, target="", ready_since=0.0) == "cooldown"
    assert asked(memory, now=10_600.0, target="web-9", ready_since=10_001.0) == ""


def test_the_cooldown_says_until_when() -> None:
    memory = Memory()
    fire(memory, 10_000.0)
    hold = guards.first(RULE, memory, replace(HERE, now=10_100.0, target="web-9", ready_since=10_002.0))
    assert hold is not None and hold.until == 10_600.0


def test_so_often_in_an_hour() -> None:
    memory = Memory()
    rule = replace(RULE, max_per_hour=3)
    for number in range(3):
        assert asked(memory, rule, target=f"web-{number}") == ""
        fire(memory, 10_000.0 + number, f"web-{number}", 5000.0, rule)
    assert asked(memory, rule, now=10_003.0, target="web-8") == "max_per_hour"
    hold = guards.first(rule, memory, replace(HERE, now=10_003.0, target="web-8"))
    assert hold is not None and hold.until == 10_000.0 + HOUR
    assert asked(memory, rule, now=10_000.0 + HOUR, target="web-8") == ""


def test_a_rule_that_keeps_firing_doubles_its_cooldown_and_calms_down() -> None:
    memory, now, pauses = Memory(), 10_000.0, []
    for number in range(8):
        fire(memory, now, f"web-{number}", now - 1)
        pauses.append(memory.until - now)
        now = memory.until + 1.0
    assert pauses[:5] == [600.0, 1200.0, 2400.0, 4800.0, 9600.0]
    assert pauses[-1] == LONGEST, "bounded"
    now = memory.until + 10 * LONGEST
    fire(memory, now, "web-99", now - 1)
    assert memory.until - now == 600.0, "a long quiet time ends it"


def test_one_that_fires_seldom_does_not_back_off() -> None:
    memory, now = Memory(), 10_000.0
    for number in range(5):
        fire(memory, now, f"web-{number}", now - 1)
        assert memory.until - now == 600.0
        now = memory.until + 601.0


def test_without_a_cooldown_it_still_backs_off() -> None:
    rule = replace(RULE, cooldown=0.0)
    memory = Memory()
    fire(memory, 10_000.0, rule=rule)
    assert memory.until == 10_000.0
    fire(memory, 10_001.0, "web-2", 10_000.5, rule)
    assert memory.until == 10_001.0 + 120.0


def test_a_schedule_never_backs_off() -> None:
    rule = replace(RULE, kind=KINDS["schedule"], cooldown=0.0)
    memory = Memory()
    for number in range(10):
        fire(memory, 10_000.0 + 60 * number, "", rule=rule)
        assert memory.streak == 0


@given(st.lists(st.floats(min_value=0.5, max_value=50_000), min_size=1, max_size=40), st.floats(0, 90_000))
def test_the_cooldown_stays_within_what_is_configured_and_allowed(gaps: list[float], cooldown: float) -> None:
    rule = replace(RULE, cooldown=cooldown)
    memory, now = Memory(), 0.0
    for number, gap in enumerate(gaps):
        now = max(now + gap, memory.until)
        fire(memory, now, f"web-{number}", now, rule)
        assert cooldown - 1e-6 <= memory.until - now <= max(cooldown, LONGEST) + 1e-6
        assert memory.streak >= 0


def test_what_is_remembered_survives_a_successor() -> None:
    memory = Memory()
    fire(memory, 10_000.0)
    memory.held("web-1", True, 0.0, 10_000.0)
    memory.held("web-2", False, 0.0, 10_000.0)
    memory.handled = 17.0
    again = Memory.load(memory.dump())
    assert again == memory
    assert again.held("web-1", True, 0.0, 10_005.0) == 5.0, "`for` goes on"
    assert Memory().dump() == {}


def test_what_is_known_of_an_instance_goes_with_it() -> None:
    memory = Memory()
    memory.held("web-1", True, 0.0, 1.0)
    memory.acted.append("web-1")
    memory.forget({"web-2"})
    assert not memory.spells and not memory.acted


def test_a_later_moment_begins_for_anew() -> None:
    memory = Memory()
    memory.held("", True, 1.0, 100.0)
    assert memory.held("", True, 1.0, 104.0) == 4.0
    assert memory.held("", True, 2.0, 105.0) == 0.0


# --- built in --------------------------------------------------------------------------------------------


def app(more: str = "", top: str = "") -> App:
    text = f'[apps.a]\n{top}\n[apps.a.process]\ncommand = "x"\nuser = "root"\n{more}'
    return parse(text, "/tmp/config.toml").apps["a"]


def test_each_app_has_three() -> None:
    found = {rule.name: rule for rule in builtin.rules("a", app())}
    assert list(found) == ["hung", "slow", "memory"]
    assert not any(rule.off for rule in found.values())
    assert found["hung"].condition.above == 30.0
    assert all([step.act for step in rule.steps] == ["collect", "recycle"] for rule in found.values())


@pytest.mark.parametrize(("kind", "off"), [("stuck", "hung"), ("slow", "slow"), ("memory", "memory"), ("age", "")])
def test_a_rule_of_the_config_for_the_same_thing_wins(kind: str, off: str) -> None:
    amount = '"1GB"' if kind == "memory" else '"5s"'
    mine = f'[[apps.a.autoheal]]\nname = "mine"\nwhen = {{ {kind} = {{ above = {amount} }} }}\nthen = ["collect"]\n'
    found = {rule.name: rule.off for rule in builtin.rules("a", app(mine))}
    assert [name for name, why in found.items() if why] == ([off] if off else [])
    assert all("mine" in why for why in found.values() if why)
    dry = {rule.name: rule.off for rule in builtin.rules("a", app(mine + "dry_run = true\n"))}
    assert not any(dry.values()), "a dry run does nothing, so it is no substitute"


def test_given_addresses_need_a_way_to_recycle() -> None:
    text = '[apps.a]\naddresses = ["http://10.0.0.1:80"]\n'
    without = parse(text, "/tmp/config.toml").apps["a"]
    assert all("apps.a.recycle is not set" in rule.off for rule in builtin.rules("a", without))
    with_it = parse(text + '[apps.a.recycle]\ncommand = ["true"]\n', "/tmp/config.toml").apps["a"]
    assert not any(rule.off for rule in builtin.rules("a", with_it))


def test_its_pause_is_bounded_lower() -> None:
    (hung, *_) = builtin.rules("a", App(process=Process(command=("x",))))
    assert pause(hung, 99) == 1800.0


# --- shown -----------------------------------------------------------------------------------------------


@given(
    st.one_of(st.none(), st.floats(0, 1e6)), st.floats(0, 1e6), st.booleans(), st.floats(0, 100), st.floats(0, 100),
)  # fmt: skip
def test_the_distance_is_whole_only_when_it_fires(
    value: float | None, threshold: float, below: bool, held: float, lasting: float
) -> None:
    met = value is not None and (value < threshold if below else value > threshold)
    seen = Seen(met, value, threshold, "", "", below)
    rule = replace(RULE, condition=Condition("slow", above=5.0, for_=lasting))
    share = views.share(rule, seen, held)
    assert 0.0 <= share <= 1.0
    assert (share == 1.0) == (met and held >= lasting)


def test_the_distance_in_words() -> None:
    rule = replace(RULE, condition=Condition("memory", above=0.9, relative=True, for_=30.0))
    seen = Seen(True, 0.95, 0.9, "ratio", "")
    assert views.distance(rule, seen, 12.0) == "95 % of 90 %, for 12 s of 30 s"
    assert views.distance(rule, Seen(False, 0.5, 0.9, "ratio", ""), 0.0) == "50 % of 90 %, and that for 30 s"
    assert views.distance(RULE, Seen(False, 12.0, 20.0, "", ""), 0.0) == "12 of 20"


def test_a_configured_rule_keeps_what_it_says() -> None:
    table = '[[apps.a.autoheal]]\nname = "mine"\nwhen = { age = { above = "1h" } }\nthen = ["restart"]\n'
    table += "dry_run = true\n"
    rule = rules.configured("a", app(table).autoheal[0])
    assert (rule.name, rule.dry_run, rule.cooldown, rule.max_per_hour) == ("mine", True, 600.0, 4)
    assert rules.reason(rule) == "age above 1h"


def test_what_the_config_remarks_is_what_the_code_knows() -> None:
    """The config may not import control: its lists are held in step here."""
    assert {kind: name for name, kind in builtin.SAME.items()} == remarks._BUILTIN
    assert set(remarks._PATHS) == {
        name for name, kind in KINDS.items() if kind.watches(_any(name, path="/a")) != kind.watches(_any(name))
    }
    heal = config_conditions.KINDS["heal"]
    assert set(remarks._WHOLE) == {name for name, kind in KINDS.items() if kind.scope == "app" and name in heal}


def _any(kind: str, path: str | None = None) -> Condition:
    return Condition(kind, above=1.0, path=path, codes=((500, 599),), names=("head-timeout",), cron="* * * * *")


@pytest.mark.parametrize(
    ("when", "remark"),
    [
        ('{ stuck = { above = "30s" } }', "never met"),
        ('{ memory = { above = "1GB", path = "/a" } }', "path: not used"),
        ('{ memory = { above = "1GB" } }', "takes the place of the built-in rule memory"),
        ('{ crashes = { above = 3 } }', "eject is skipped"),
    ],
)
def test_choices_that_may_surprise_are_said(when: str, remark: str) -> None:
    text = f'[[apps.a.autoheal]]\nname = "r"\nwhen = {when}\nthen = ["eject"]\n'
    config = parse(f'[apps.a.process]\ncommand = "x"\nuser = "root"\n{text}', "/tmp/config.toml")
    assert any(remark in said for said in remarks.warnings(config)), remarks.warnings(config)
