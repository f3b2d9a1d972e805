"""Rules, incidents and messages together: real incidents, real receivers."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from typing import Any

import pytest

from proxy.config import Condition, ConfigProblems, parse, shown, warnings
from proxy.config.conditions import FURTHEST, METRICS
from proxy.control.alerts import views
from proxy.control.alerts.metrics import Metrics
from proxy.control.counters import ALL
from proxy.control.incidents.incident import Subject
from proxy.control.metrics.ring import KEEP, Ring, Second, encode
from proxy.control.metrics.rings import OF_APP, OF_OWN
from proxy.control.metrics.table import BY_ID
from tests.alerts.receivers import Answer, Hook
from tests.alerts.world import World

pytestmark = pytest.mark.slow
Start = Callable[..., World]


@pytest.fixture
def world(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> Start:
    def start(alerts: str, notify: str = "") -> World:
        text = f'{alerts}\n[notify.ops]\nwebhook = "{hook.url}"\n{notify}'
        return World(text, monkeypatch)

    return start


EXITS = """
[[alerts]]
name = "exits"
when = { event = { kinds = ["exited", "killed"], count = 3, within = "1m" } }
notify = ["ops"]
"""
LAG = """
[[alerts]]
name = "late"
when = { metric = { name = "loop_lag", above = "100ms" } }
notify = ["ops"]
"""


async def test_a_rule_makes_an_incident_that_someone_is_told_of(world: Start, hook: Hook) -> None:
    one = world(LAG)
    await one.run(0.1)
    assert not one.incidents.open, "a healthy day has no incident"
    one.values.now["loop_lag"] = 0.5
    await one.until(lambda: hook.of("opened"), "the message")
    (incident,) = one.incidents.open.values()
    assert incident.rules == ["late"]
    assert incident.subject == Subject("gateway")
    assert list(incident.signals) == ["alert late"]
    assert one.rule("late", "gateway")["state"] == "firing"
    await one.until(lambda: incident.told == ["ops"], "the incident knows who was told")
    assert any(step.kind == "told" and "ops" in step.text for step in incident.steps)
    one.values.now["loop_lag"] = 0.01
    await one.until(lambda: hook.of("closed"), "the end")
    assert hook.of("closed")[0].json["groupKey"] == hook.of("opened")[0].json["groupKey"]
    assert hook.of("opened")[0].json["groupLabels"]["alertname"] == "late"
    await one.run(0.3)
    assert len(hook.got) == 2
    assert [row.state for row in one.rows] == ["sent", "sent"]
    messages = await views.messages(one.alerts)
    assert [message["event"] for message in messages] == ["closed", "opened"]
    await one.alerts.close()


async def test_it_is_met_for_as_long_as_asked(world: Start, hook: Hook) -> None:
    one = world(LAG.replace('"100ms"', '"100ms", for = "300ms"'))
    one.values.now["loop_lag"] = 0.5
    await one.run(0.15)
    assert one.rule("late", "gateway")["state"] == "met"
    one.values.now["loop_lag"] = 0.0
    await one.run(0.1)
    assert one.rule("late", "gateway")["state"] == "watching"
    assert not one.incidents.open
    one.values.now["loop_lag"] = 0.5
    await one.until(lambda: one.incidents.open, "an incident")
    await one.alerts.close()


async def test_events_are_counted_by_app(world: Start, hook: Hook) -> None:
    one = world(EXITS)
    for _ in range(2):
        one.events.add("exited", "web-1 ended", "web", "web-1")
        one.events.add("exited", "api-1 ended", "api", "api-1")
        one.events.add("ready", "web-1 is ready", "web", "web-1")
    await one.run(0.1)
    assert not one.incidents.open
    assert one.rule("exits")["words"] == "2 × exited, killed in the last 1m"
    one.events.add("killed", "web-2 was killed", "web", "web-2")
    await one.until(lambda: hook.of("opened"), "the message")
    assert [incident.subject.app for incident in one.incidents.open.values()] == ["web"]
    assert "3 or more × exited, killed" in one.rule("exits")["words"]
    assert one.rule("exits", "gateway")["state"] == "watching"
    await one.alerts.close()


async def test_events_of_before_count_too_and_once(world: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    one = world("")
    for _ in range(2):
        one.events.add("exited", "web-1 ended", "web", "web-1")
    one.config = one.read(EXITS + '[notify.ops]\ncommand = ["true"]')
    one.alerts.configure(one.config)
    one.events.add("exited", "web-1 ended", "web", "web-1")
    await one.run(0.05)
    assert one.rule("exits")["value"] == 3.0
    one.events.add("exited", "web-1 ended", "web", "web-1")
    assert one.alerts.rules.status["exits", Subject("app", "web")].times.maxlen == 3  # type: ignore[union-attr]
    await one.alerts.close()


async def test_what_alerts_do_themselves_starts_no_loop(world: Start, hook: Hook) -> None:
    with pytest.raises(ConfigProblems, match="what alerts make themselves"):
        world(EXITS.replace('"killed"', '"notify-failing"'))
    one = world(LAG)
    hook.then = Answer(403)
    one.values.now["loop_lag"] = 0.5
    await one.until(lambda: one.alerts.outboxes["ops"].condition.lost, "a refusal")
    await one.run(0.3)
    kinds = [event.kind for event in one.events if event.kind.startswith("notify")]
    assert kinds == ["notify-lost", "notify-failing"], "each once"
    assert len(one.incidents.open) == 1
    assert "ops can't be told of alerts" in next(views.notices(one.alerts))
    await one.alerts.close()


async def test_an_app_condition_is_of_the_app(world: Start, hook: Hook) -> None:
    when = '{ requests = { above = 100, within = "1m" } }'
    one = world(f'[[alerts]]\nname = "many"\nwhen = {when}\nnotify = ["ops"]\napps = ["web"]')
    one.reading(ago=5.0, requests=0)
    await one.run(0.05)
    assert one.rule("many")["state"] == "watching"
    one.reading(requests=101)
    await one.until(lambda: hook.of("opened"), "the message")
    assert one.rule("many")["value"] == 101
    assert [rule["app"] for rule in views.rules(one.alerts) if rule["name"] == "many"] == ["web"]
    await one.alerts.close()


async def test_one_instance_over_its_limit_is_enough(world: Start, hook: Hook) -> None:
    one = world('[[alerts]]\nname = "big"\nwhen = { memory = { above = "80%" } }\nnotify = ["ops"]\napps = ["web"]')
    for name, memory in (("web-1", 10), ("web-2", 90), ("web-3", 10)):
        one.reading(name, memory=memory, memory_limit=100)
    one.reading(memory=37, memory_limit=100)
    await one.until(lambda: hook.of("opened"), "the message")
    (incident,) = one.incidents.open.values()
    assert incident.instances == ["web-2"]
    assert hook.of("opened")[0].json["alerts"][0]["labels"]["instance"] == "web-2"
    assert one.rule("big")["words"].startswith("web-2: ")
    await one.alerts.close()


async def test_nothing_is_met_by_what_is_not_known(world: Start) -> None:
    one = world(
        '[[alerts]]\nname = "few"\nwhen = { requests = { below = 5, within = "1m" } }\nnotify = ["ops"]\n'
        '[[alerts]]\nname = "free"\nwhen = { metric = { name = "disk_free", below = "1GB" } }\nnotify = ["ops"]'
    )
    one.series.settled = False
    await one.run(0.1)
    one.series.settled = True
    await one.run(0.1)
    assert not one.incidents.open
    assert {rule["state"] for rule in views.rules(one.alerts)} == {"watching"}
    await one.alerts.close()


async def test_a_muted_app_is_recorded_and_told_afterwards(world: Start, hook: Hook) -> None:
    one = world(EXITS)
    one.mute("web")
    for _ in range(3):
        one.events.add("exited", "web-1 ended", "web", "web-1")
        one.events.add("exited", "api-1 ended", "api", "api-1")
    await one.until(lambda: hook.of("opened"), "the other app's message")
    await one.run(0.3)
    assert {got.json["commonLabels"]["app"] for got in hook.got} == {"api"}
    assert {incident.subject.app for incident in one.incidents.open.values()} == {"web", "api"}
    assert one.rule("exits")["muted_until"] > time.time()
    one.unmute("web")
    await one.until(lambda: len(hook.of("opened")) == 2, "the muted app's message")
    assert hook.got[-1].json["commonLabels"]["app"] == "web"
    await one.alerts.close()


async def test_an_end_while_muted_is_told_afterwards(world: Start, hook: Hook) -> None:
    when = '{ metric = { name = "response_time", above = 1 } }'
    one = world(f'[[alerts]]\nname = "slow"\nwhen = {when}\nnotify = ["ops"]\napps = ["web"]')
    one.values.now["response_time"] = 5.0
    await one.until(lambda: hook.of("opened"), "the message")
    one.mute("web")
    one.values.now["response_time"] = 0.0
    await one.until(lambda: not one.incidents.open, "the end")
    await one.run(0.2)
    assert not hook.of("closed")
    one.unmute("web")
    await one.until(lambda: hook.of("closed"), "word of the end")
    await one.alerts.close()


async def test_one_that_begins_and_ends_while_muted_is_told_to_nobody(world: Start, hook: Hook) -> None:
    one = world(LAG.replace("loop_lag", "response_time"))
    one.mute("web")
    one.mute("api")
    one.values.now["response_time"] = 5.0
    await one.until(lambda: one.incidents.open, "an incident")
    await one.run(0.2)
    one.values.now["response_time"] = 0.0
    await one.until(lambda: not one.incidents.open, "the end")
    one.unmute("web")
    one.unmute("api")
    await one.run(0.3)
    assert not hook.got
    await one.alerts.close()


async def test_another_control_goes_on_with_it(world: Start, hook: Hook) -> None:
    hook.then = Answer(500)
    one = world(LAG)
    one.values.now["loop_lag"] = 0.5
    await one.until(lambda: hook.got, "a try")
    await one.alerts.close()
    known = one.alerts.dump()
    one.incidents.listeners.clear()
    one.events.listeners.clear()
    hook.then = Answer()
    other = one.make_alerts(known)
    one.alerts = other
    await one.until(lambda: other.outboxes["ops"].condition.sent, "the message, by the new control")
    assert len({got.headers["x-triage-id"] for got in hook.got}) == 1
    await one.run(0.3)
    assert other.outboxes["ops"].condition.sent == 1, "it is not told twice"
    one.values.now["loop_lag"] = 0.0
    await one.until(lambda: hook.of("closed"), "the end")
    assert len({got.json["groupKey"] for got in hook.got}) == 1
    await other.close()


async def test_who_was_told_before_everything_was_started_anew_hears_of_the_end(world: Start, hook: Hook) -> None:
    one = world("")
    incident = one.incidents.signal(Subject("app", "web"), "faults", "12 of 20 requests failed")
    incident.told.append("ops")
    await one.alerts.close()
    one.incidents.listeners.clear()
    one.alerts = one.make_alerts()
    one.incidents.clear(Subject("app", "web"), "faults")
    await one.until(lambda: hook.of("closed"), "the end")
    assert not hook.of("opened")
    await one.alerts.close()


async def test_a_built_in_alert_is_told_to_all_and_a_rule_of_its_name_to_its_own(world: Start, hook: Hook) -> None:
    alerts = '[[alerts]]\nname = "faults"\nwhen = { fault_ratio = { above = "50%" } }\nnotify = []\napps = ["web"]'
    one = world(alerts, '[notify.other]\ncommand = ["true"]')
    for app in ("web", "api"):
        one.incidents.signal(Subject("app", app), "faults", "12 of 20 requests failed")
    await one.until(lambda: hook.got and one.alerts.outboxes["other"].condition.sent, "both told")
    await one.run(0.2)
    assert {got.json["commonLabels"]["app"] for got in hook.got} == {"api"}
    assert one.rule("faults", "")["state"] == "firing"
    await one.alerts.close()


async def test_a_notifier_that_leaves_the_config_lets_go_of_its_messages(world: Start, hook: Hook) -> None:
    hook.then = Answer(500)
    one = world(LAG)
    one.values.now["loop_lag"] = 0.5
    await one.until(lambda: hook.got, "a try")
    one.config = one.read("")
    one.alerts.configure(one.config)
    assert one.rows[-1].state == "dropped"
    assert not one.alerts.outboxes
    await one.until(lambda: not one.incidents.open, "the rule's incident is over")
    await one.run(0.1)


async def test_without_a_notifier_nothing_is_sent(world: Start, hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    one = World("", monkeypatch)
    one.incidents.signal(Subject("app", "web"), "faults", "12 of 20 requests failed")
    await one.run(0.3)
    assert views.notifiers(one.alerts) == []
    assert not one.rows


async def test_what_is_kept_is_bounded(world: Start, hook: Hook) -> None:
    one = world("")
    for _ in range(5):
        one.incidents.signal(Subject("app", "web"), "faults", "x", once=True)
        await one.until(lambda: not one.incidents.open, "the end")
        one.incidents.recent.clear()
    await one.run(1.5)
    assert one.alerts.dump().get("tracks", []) == []
    await one.alerts.close()


# --- metrics from rings ----------------------------------------------------------------------------------


class Rings:
    """Real rings, filled by a test."""

    def __init__(self) -> None:
        self.second = 1_000_000
        self.rings: dict[tuple[str, str], Ring] = {}

    def held(self, key: tuple[str, str]) -> Any:
        ring = self.rings.get(key)
        return ring.held() if ring is not None else None

    def put(self, key: tuple[str, str], counted: Second | None = None, **values: float) -> None:
        names = OF_APP if key[0] else OF_OWN
        ring = self.rings.setdefault(key, Ring(names))
        row = array("d", [values.get(name.replace(".", "_"), float("nan")) for name in names])
        ring.put(self.second, row, encode(counted) if counted is not None else b"")


def look(rings: Rings, name: str, app: str = "web", within: float = 60.0, **threshold: float) -> Any:
    metrics = Metrics(rings)  # type: ignore[arg-type]
    subject = Subject("app", app) if app else Subject("gateway")
    return metrics.look(Condition("metric", name=name, within=within, **(threshold or {"above": 0.0})), subject, 0.0)


def test_every_metric_that_may_be_named_is_in_the_rings() -> None:
    assert set(METRICS) <= set(BY_ID)
    assert set(BY_ID) - set(METRICS) == {"uptime", "restarts"}, "these are not known second by second"
    assert FURTHEST == KEEP
    for name in METRICS:
        metric, rings = BY_ID[name], Rings()
        for _ in range(90):
            rings.second += 1
            counted = Second(
                requests=2, classes=[2] * 6, faults={"x": 2}, total={40: 2}, total_sum=2.0, wait={40: 2}, wait_sum=2.0,
                own_sum=2.0, bytes_in=2, bytes_out=2, connects=2, retries=2,
            )  # fmt: skip
            values = {field.replace(".", "_"): 2.0 for field in (*OF_APP, *OF_OWN)}
            rings.put(("web", ALL), counted, **values)
            for own in (ALL, "control", "host"):
                rings.put(("", own), None, **values)
        seen = look(rings, name, "web" if metric.of_apps else "")
        assert seen.value is not None, name
        assert seen.met, name
        assert name in seen.words


def test_a_counter_is_a_rate_a_gauge_what_its_statistic_says() -> None:
    rings = Rings()
    for second in range(100):
        rings.second += 1
        rings.put(("web", ALL), Second(requests=10 if second >= 90 else 0), memory=float(second), exits=1.0)
    assert look(rings, "requests", within=10).value == 10.0
    assert look(rings, "requests", within=60).value == pytest.approx(100 / 60)
    assert look(rings, "memory").value == 99.0
    assert look(rings, "exits", within=30).value == 30.0
    assert look(rings, "exits", within=30, above=30.0).met is False
    assert look(rings, "exits", within=30, below=31.0).met
    assert look(rings, "memory", above=98.0).words == "memory: 99 bytes now"
    assert look(rings, "requests", within=10).words == "requests: 10 requests a second over the last 10s"


def test_a_percentile_is_of_merged_histograms() -> None:
    from proxy.link.histogram import bucket

    rings = Rings()
    for second in range(60):
        rings.second += 1
        slow = {bucket(4.0): 100} if second == 59 else {}
        rings.put(("web", ALL), Second(requests=1, total={bucket(0.01): 10, **slow}))
    assert look(rings, "response_time").value == pytest.approx(4.0, rel=0.1)
    assert look(rings, "response_time", above=2.0).met


def test_an_old_value_is_none() -> None:
    rings = Rings()
    rings.put(("web", ALL), None, memory=5.0)
    assert look(rings, "memory").value == 5.0
    rings.second += 60
    assert look(rings, "memory").value is None
    assert look(rings, "memory", "other").value is None


# --- the config ------------------------------------------------------------------------------------------


BASE = """
[apps.web]
addresses = ["http://127.0.0.1:1"]
[[alerts]]
name = "a"
when = { WHEN }
notify = ["ops"]
MORE
[notify.ops]
NOTIFY
"""


def problem(when: str, more: str = "", notify: str = 'webhook = "https://example.com/x"') -> str:
    text = BASE.replace("WHEN", when).replace("MORE", more).replace("NOTIFY", notify)
    with pytest.raises(ConfigProblems) as raised:
        parse(text, "/tmp/config.toml")
    return str(raised.value)


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ('metric = { name = "respons_time", above = 1 }', 'unknown metric "respons_time"'),
        ("metric = { above = 1 }", "needs name"),
        ('metric = { name = "cpu" }', "needs one of above and below"),
        ('metric = { name = "cpu", above = 1, within = "1h" }', "1h is more than 15m"),
        ("event = { count = 3 }", "needs kinds"),
        ('event = { kinds = ["Exited!"] }', "expected a kind of event"),
        ('event = { kinds = ["exited"], count = 20000 }', "more than 10000 events"),
    ],
)
def test_a_bad_condition_is_refused(when: str, said: str) -> None:
    assert said in problem(when)


def test_other_mistakes_are_refused() -> None:
    said = problem('event = { kinds = ["exited"] }', 'apps = ["wbe"]', 'email = "a@example.com"\nsecret = "x"')
    assert 'no app is called "wbe"' in said
    assert "secret: is for webhook" in said
    with pytest.raises(ConfigProblems, match="unknown condition"):
        parse(
            '[[apps.web.autoheal]]\nname = "r"\nwhen = { metric = { name = "cpu", above = 1 } }\nthen = ["recycle"]\n'
            '[apps.web]\naddresses = ["http://127.0.0.1:1"]', "/tmp/config.toml",
        )  # fmt: skip


def test_what_check_remarks() -> None:
    config = parse(
        """
        [apps.web]
        addresses = ["http://127.0.0.1:1"]
        [[alerts]]
        name = "down"
        when = { metric = { name = "ready", below = 1, for = "10s" } }
        notify = []
        [notify.ops]
        webhook = "https://example.com/x"
        secret = "geheim"
        [notify.mail]
        email = "ops@example.com"
        smtp = "smtp://user:geheim@mail.example.com"
        """,
        "/tmp/config.toml",
    )
    said = "\n".join(warnings(config))
    for part in (
        "alerts[0].notify: empty", "takes the place of the built-in alert down", "notify.ops: no [[alerts]] names it",
        "admin.url: not set, so links in messages lead to http://127.0.0.1:9900",
    ):  # fmt: skip
        assert part in said
    tables = shown(config)
    assert tables["notify"]["ops"]["secret"] == "***"
    assert "geheim" not in str(tables["notify"])
    assert tables["alerts"][0]["when"] == {"metric": {"below": 1, "for": "10s", "name": "ready"}}
