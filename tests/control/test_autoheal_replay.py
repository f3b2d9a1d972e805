"""A rule over recorded points: when it would have fired, and what the record cannot tell."""

import pytest

from proxy.config import ConfigProblems, parse
from proxy.config.conditions import Condition
from proxy.control.autoheal import builtin, replay, rules, watched
from proxy.control.autoheal.recorded import Points
from proxy.control.autoheal.replay import Replay
from proxy.control.autoheal.rules import Rule
from proxy.control.store.points import Point
from proxy.link import histogram

T = 1_700_000_000


def points(count: int, first: int = T, **fields: object) -> list[tuple[int, Point]]:
    """So many of 10 s; a list is given out one by one."""
    found = []
    for number in range(count):
        values = {name: value[number] if isinstance(value, list) else value for name, value in fields.items()}
        point = Point(seconds=10.0, lifecycle="ready", age=1000.0 + 10 * number, **values)  # type: ignore[arg-type]
        found.append((first + 10 * (number + 1), point))
    return found


def run(rule: Rule, **series: Points) -> Replay:
    whole = points(max(map(len, series.values())), instances=2, ready=2)
    known = {name.replace("_", "-"): found for name, found in series.items()}
    return replay.run(rule, {"*": whole, **known}, T, T + 10 * len(whole))


def rule(when: str, more: str = "") -> Rule:
    return rules.configured("web", replay.parse(f"when = {when}\n{more}", "/tmp"))


def test_a_leak_would_have_been_seen_and_on_which_instance() -> None:
    grows = points(60, memory=[number * 10**7 for number in range(60)])
    flat = points(60, memory=10**7)
    found = run(rule('{ memory = { above = "300MB", for = "30s" } }'), web_1=grows, web_2=flat)
    first = found.fired[0]
    assert first.instance == "web-1" and first.at == T + 10 * (31 + 3 + 1)
    assert "MB of memory" in first.words and found.step == 10.0
    assert found.points == 120 and not found.not_known
    assert len(found.fired) == 1, "then the cooldown"
    assert found.kept_from["cooldown"] == 25
    assert "would have fired once" in found.words
    young = run(rule('{ memory = { above = "300MB" } }', 'min_age = "1d"'), web_1=grows)
    assert not young.fired and young.words == "it was met, and kept from acting by min_age (29 times)"


def test_a_quiet_record_says_how_near_it_came() -> None:
    found = run(rule('{ memory = { above = "1GB" } }'), web_1=points(5, memory=[1, 2, 500_000_000, 3, 4]))
    assert not found.fired and found.share == 0.5
    assert found.nearest is not None and found.nearest.at == T + 30
    assert "would not have fired" in found.words


def test_statuses_are_counted_over_the_time_asked_for() -> None:
    errors = points(30, classes=[[0, 9, 0, 0, 3 if 10 <= number < 14 else 0, 0] for number in range(30)])
    found = run(rule('{ status = { codes = "500-599", count = 12, within = "1m" } }'), web_1=errors)
    assert [one.at for one in found.fired] == [T + 140]
    assert not run(rule('{ status = { codes = "500-599", count = 12, within = "30s" } }'), web_1=errors).fired


def test_slow_waits_come_from_the_histogram_before_the_rule_was_there() -> None:
    waits = points(10, wait={histogram.bucket(6.0): 2, histogram.bucket(0.1): 90}, requests=92)
    found = run(rule('{ slow = { above = "5s", count = 8, within = "1m" } }'), web_1=waits)
    assert found.fired[0].at == T + 40
    assert found.not_known and "histogram" in found.not_known[0]


def test_exact_counts_are_used_from_when_they_were_counted() -> None:
    key = watched.slow(5.0).key
    slow = points(10, watched=[{key: 1} if number == 5 else {} for number in range(10)], wait={200: 50})
    whole = points(10, watched=[{key: 1} if number == 0 else {} for number in range(10)], instances=1, ready=1)
    twice = rule('{ slow = { above = "5s", count = 2, within = "5m" } }')
    found = replay.run(twice, {"*": whole, "web-1": slow}, T, T + 99)
    assert not found.fired and found.nearest is not None and found.nearest.value == 1
    assert not found.not_known


def test_a_path_that_nobody_counted_is_not_known() -> None:
    found = run(rule('{ slow = { above = "5s", path = "/api/*" } }'), web_1=points(10, wait={200: 50}))
    assert not found.fired and found.not_known == ["waits of that path before the rule was there are not known"]


def test_what_is_missing_at_the_beginning_is_said() -> None:
    late = points(10, first=T + 5000, memory=1)
    found = replay.run(rule('{ memory = { above = "1GB" } }'), {"web-1": late}, T, T + 9999)
    assert found.since == T + 5010 and "nothing is recorded" in found.not_known[0]
    assert replay.run(rule('{ memory = { above = "1GB" } }'), {}, T, T + 99).words == "nothing is recorded of that time"


def test_a_hung_instance_would_have_been_recycled() -> None:
    app = parse('[apps.web.process]\ncommand = "x"\nuser = "root"\n', "/tmp/config.toml").apps["web"]
    hung = next(one for one in builtin.rules("web", app) if one.name == "hung")
    answers = [{5: 9} if number < 10 else {} for number in range(20)]
    waits = [0.0 if number < 10 else 20.0 for number in range(20)]
    timeouts = [{} if number < 13 else {"head-timeout": 1} for number in range(20)]
    found = run(hung, web_1=points(20, wait=answers, oldest_wait=waits, faults=timeouts))
    assert [one.instance for one in found.fired][:1] == ["web-1"]
    assert T + 130 <= found.fired[0].at <= T + 150


def test_an_app_wide_rule_looks_at_the_app() -> None:
    whole = points(30, exits=[1 if number in (5, 6, 7) else 0 for number in range(30)], instances=2)
    crashes = rule('{ crashes = { above = 2, within = "1m" } }')
    found = replay.run(crashes, {"*": whole, "web-1": points(30)}, T, T + 300)
    assert [(one.at, one.instance) for one in found.fired] == [(T + 80, "")]


def test_an_instance_that_was_not_ready_is_not_looked_at() -> None:
    starting = [(at, point) for at, point in points(10, memory=10**9)]
    for _, point in starting:
        point.lifecycle = "starting"
    assert run(rule('{ memory = { above = "1MB" } }'), web_1=starting).points == 0


def test_rules_in_each_form() -> None:
    table = {"when": {"age": {"above": "1h"}}, "cooldown": "1m"}
    assert replay.parse(table, "/tmp").when == Condition("age", above=3600.0)
    text = '[[apps.web.autoheal]]\nname = "a"\nwhen = { age = { above = "1h" } }\nthen = ["restart"]\n'
    assert replay.parse(text, "/tmp").name == "a"
    with pytest.raises(ConfigProblems, match="unknown condition"):
        replay.parse('when = { ages = { above = "1h" } }', "/tmp")
