"""Webhooks at a real server: form, signature, tries, and what a server may do wrong."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import ssl
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import trustme

from proxy.config import Notify
from proxy.control.alerts import patience
from proxy.control.alerts.message import Message
from proxy.control.alerts.notifiers import make
from proxy.control.alerts.notifiers.contract import Failed, Place
from proxy.control.alerts.notifiers.post import retry_after
from proxy.control.alerts.notifiers.slack import body as slack_body
from proxy.control.alerts.notifiers.webhook import body
from proxy.control.alerts.outbox import MOST, Done, Outbox
from tests.alerts.receivers import Answer, Hook, until, unused_port

Make = Callable[..., Message]
PLACE = Place("", "box", "1.2.3")
RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


def notifier(url: str, secret: str | None = None) -> Any:
    return make("ops", Notify(webhook=url, secret=secret), PLACE)


class Box:
    """An outbox and all it says."""

    def __init__(self, way: Any) -> None:
        self.done: list[Done] = []
        self.said: list[tuple[str, str]] = []
        self.kept = 0
        self.box = Outbox("ops", way, self.done.append, self._keep, self._say)

    def _say(self, kind: str, text: str, **_: Any) -> None:
        self.said.append((kind, text))

    def _keep(self) -> None:
        self.kept += 1

    @property
    def states(self) -> list[str]:
        return [one.state for one in self.done]


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same patience, a hundred times as fast."""
    monkeypatch.setattr(patience, "FIRST", 0.01)
    monkeypatch.setattr(patience, "LONGEST", 0.05)


@pytest.fixture
def slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next try comes when the test wants it."""
    monkeypatch.setattr(patience, "FIRST", 1000.0)
    monkeypatch.setattr(patience, "LONGEST", 1000.0)


# --- the form --------------------------------------------------------------------------------------------


def check_alertmanager(found: dict[str, Any]) -> None:
    """Version 4 as Alertmanager's template.Data has it, all of it and nothing else."""
    assert set(found) == {
        "version", "groupKey", "truncatedAlerts", "status", "receiver", "groupLabels", "commonLabels",
        "commonAnnotations", "externalURL", "alerts",
    }  # fmt: skip
    assert (found["version"], found["truncatedAlerts"], found["receiver"]) == ("4", 0, "ops")
    assert found["status"] == ("firing" if any(one["status"] == "firing" for one in found["alerts"]) else "resolved")
    for one in found["alerts"]:
        assert set(one) == {
            "status", "labels", "annotations", "startsAt", "endsAt", "generatorURL", "fingerprint"
        }
        assert RFC3339.fullmatch(one["startsAt"])
        assert RFC3339.fullmatch(one["endsAt"])
        assert (one["endsAt"] == "0001-01-01T00:00:00Z") == (one["status"] == "firing")
        assert re.fullmatch("[0-9a-f]{16}", one["fingerprint"])
        for texts in (one["labels"], one["annotations"], found["commonLabels"], found["groupLabels"]):
            for name, text in texts.items():
                assert re.fullmatch("[a-zA-Z_][a-zA-Z0-9_]*", name)
                assert isinstance(text, str) and text, "an empty label is no label"
        assert found["groupLabels"].items() <= one["labels"].items()
        assert found["commonLabels"].items() <= one["labels"].items()


def test_it_has_alertmanagers_form(message: Make) -> None:
    found = body(message(), "ops")
    check_alertmanager(found)
    (alert,) = found["alerts"]
    assert alert["labels"] == {
        "alertname": "faults", "incident": "INC-31", "severity": "down", "scope": "app", "app": "web",
        "instance": "web-7", "host": "box",
    }  # fmt: skip
    assert alert["annotations"]["summary"].startswith("web is down: 12 of 20 requests failed")
    assert alert["generatorURL"] == "https://ops.example.com/#/incidents/INC-31"
    assert found["externalURL"] == "https://ops.example.com"


def test_its_end_is_of_the_same_alert(message: Make) -> None:
    one, other = body(message(), "ops"), body(message(id=2, kind="closed", at=1767582999.0, ended=1767582990.0), "ops")
    check_alertmanager(other)
    assert other["status"] == "resolved"
    assert other["groupKey"] == one["groupKey"]
    for key in ("labels", "fingerprint", "startsAt"):
        assert other["alerts"][0][key] == one["alerts"][0][key]
    assert other["alerts"][0]["endsAt"] == "2026-01-05T03:16:30.000Z"


def test_a_worse_severity_resolves_the_alert_of_the_former_one(message: Make) -> None:
    before = body(message(severity="degraded"), "ops")
    found = body(message(id=2, kind="cause", was=("degraded",)), "ops")
    check_alertmanager(found)
    assert [(one["status"], one["labels"]["severity"]) for one in found["alerts"]] == [
        ("firing", "down"), ("resolved", "degraded"),
    ]  # fmt: skip
    assert found["alerts"][1]["fingerprint"] == before["alerts"][0]["fingerprint"]
    assert "severity" not in found["commonLabels"]


def test_of_the_gateway_there_is_no_app(message: Make) -> None:
    found = body(message(scope="gateway", app="", instance=""), "ops")
    check_alertmanager(found)
    assert not {"app", "instance"} & set(found["alerts"][0]["labels"])


def test_slack_takes_it(message: Make) -> None:
    cause = "<!channel> & " + "x" * 9000
    found = slack_body(message(cause=cause))
    assert set(found) == {"text", "blocks"}
    assert "&lt;!channel&gt; &amp; x" in found["text"]
    assert "<!channel>" not in str(found)
    header, section, context = found["blocks"]
    assert header["text"] == {"type": "plain_text", "text": "web is down"}
    assert len(section["text"]["text"]) <= 3000
    assert "<https://ops.example.com/#/incidents/INC-31|INC-31>" in context["elements"][0]["text"]


def test_what_others_wrote_is_masked(message: Make) -> None:
    from proxy.control.alerts.message import said

    assert said("boom: password=hunter22 \n at x") == "boom: password=*** at x"
    assert len(said("x" * 10_000)) <= 400


# --- at a server -----------------------------------------------------------------------------------------


async def test_it_is_signed_over_time_and_content(hook: Hook, message: Make) -> None:
    assert await notifier(hook.url, "geheim").send(message()) == "status 200"
    (got,) = hook.got
    signed = got.headers["x-triage-timestamp"].encode() + b"." + got.content
    wanted = "sha256=" + hmac.new(b"geheim", signed, hashlib.sha256).hexdigest()
    assert got.headers["x-triage-signature"] == wanted
    assert abs(int(got.headers["x-triage-timestamp"]) - time.time()) < 10
    assert got.headers["x-triage-id"] == "msg-1767582470000"
    assert got.headers["content-type"] == "application/json"
    assert got.path == "/hook/sekret?token=geheim"
    check_alertmanager(got.json)


async def test_without_a_secret_it_is_not_signed(hook: Hook, message: Make) -> None:
    await notifier(hook.url).send(message())
    assert "x-triage-signature" not in hook.got[0].headers


async def test_a_redirect_is_not_followed(hook: Hook, message: Make) -> None:
    hook.plan = [Answer(302, {"Location": hook.url})]
    with pytest.raises(Failed, match="redirects are not followed") as raised:
        await notifier(hook.url).send(message())
    assert not raised.value.again
    assert len(hook.got) == 1


@pytest.mark.parametrize(
    ("status", "again"), [(400, False), (401, False), (404, False), (408, True), (429, True), (500, True), (503, True)]
)
async def test_which_answers_are_worth_another_try(hook: Hook, message: Make, status: int, again: bool) -> None:
    hook.plan = [Answer(status, {"Retry-After": "7"}, b"no: token=geheim /hook/sekret\x1b[31m")]
    with pytest.raises(Failed) as raised:
        await notifier(hook.url).send(message())
    assert raised.value.again is again
    assert raised.value.after == (7.0 if again else 0.0)
    assert f"status {status}: no" in str(raised.value)
    assert not [part for part in ("geheim", "sekret", "\x1b") if part in str(raised.value)]


def test_retry_after_is_a_number_or_a_date() -> None:
    assert retry_after("120", 0.0) == 120.0
    assert retry_after("Mon, 05 Jan 2026 03:10:00 GMT", 1767582540.0) == 60.0
    assert retry_after("Mon, 05 Jan 2026 03:10:00 GMT", 1767582700.0) == 0.0
    assert retry_after("99999999999999999999", 0.0) == 3600.0
    assert retry_after("soon", 0.0) == 0.0


async def test_nobody_there(message: Make) -> None:
    with pytest.raises(Failed, match="not reached") as raised:
        await notifier(f"http://127.0.0.1:{unused_port()}/hook/sekret").send(message())
    assert raised.value.again
    assert "sekret" not in str(raised.value)


async def test_a_name_that_is_none(message: Make) -> None:
    with pytest.raises(Failed, match="not reached") as raised:
        await notifier("http://no-such-host.invalid/hook").send(message())
    assert raised.value.again


async def test_a_certificate_is_verified(message: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    hook = Hook(context)
    try:
        with pytest.raises(Failed, match="certificate is not trusted"):
            await notifier(hook.url).send(message())
        assert not hook.got
    finally:
        hook.close()


def test_its_target_is_shown_without_what_opens_it(hook: Hook) -> None:
    shown = notifier("https://user:password@example.com/T0/B1/geheim?key=x").target
    assert shown == "https://example.com/***"
    assert notifier("https://example.com").target == "https://example.com"


# --- the outbox ------------------------------------------------------------------------------------------


async def test_a_failed_try_is_repeated(hook: Hook, message: Make, quickly: None) -> None:
    hook.plan = [Answer(500), Answer(503), Answer(500)]
    one = Box(notifier(hook.url, "geheim"))
    one.box.put(message())
    await until(lambda: one.done, "the message taken")
    assert one.states == ["sent"]
    assert one.done[0].tries == 4
    assert {got.headers["x-triage-id"] for got in hook.got} == {"msg-1767582470000"}, "the same message has the same id"
    assert [kind for kind, _ in one.said] == ["notify-failing", "notify-recovered"], "each said once"
    assert one.box.state == "ok"
    assert not one.box.waiting
    assert one.kept > 3
    await one.box.close()


async def test_a_single_blink_is_not_worth_a_word(hook: Hook, message: Make, quickly: None) -> None:
    hook.plan = [Answer(500)]
    one = Box(notifier(hook.url))
    one.box.put(message())
    await until(lambda: one.done, "the message taken")
    assert one.said == []


async def test_a_refusal_is_final_and_said(hook: Hook, message: Make, quickly: None) -> None:
    hook.then = Answer(403, content=b"who are you")
    one = Box(notifier(hook.url))
    one.box.put(message())
    await until(lambda: one.done, "the refusal")
    await asyncio.sleep(0.1)
    assert len(hook.got) == 1
    assert one.states == ["failed"]
    assert "status 403: who are you" in one.done[0].error
    assert [kind for kind, _ in one.said] == ["notify-failing"]
    assert (one.box.state, one.box.condition.lost) == ("failing", 1)
    hook.then = Answer()
    one.box.put(message(id=2, number=32))
    await until(lambda: len(one.done) == 2, "the next one taken")
    assert one.said[-1][0] == "notify-recovered"


async def test_it_is_given_up_in_the_end(hook: Hook, message: Make, quickly: None, monkeypatch: Any) -> None:
    monkeypatch.setattr(patience, "GIVE_UP", 0.2)
    hook.then = Answer(500)
    one = Box(notifier(hook.url))
    one.box.put(message())
    await until(lambda: one.done, "giving up")
    assert one.states == ["failed"]
    assert "tries" in one.done[0].error
    assert not one.box.waiting


@pytest.mark.slow
async def test_one_that_hangs_is_ended_and_holds_up_nobody_else(hook: Hook, message: Make, quickly: None) -> None:
    hook.then = Answer(hang=True)
    way = notifier(hook.url)
    way.limit = 0.3
    one, other = Box(way), Box(make("pager", Notify(command=("true",)), PLACE))
    one.box.put(message())
    other.box.put(message(id=2))
    await until(lambda: other.done, "the other one told")
    assert not one.done
    await until(lambda: len(hook.got) >= 2, "another try")
    assert "no answer within 0.3 s" in one.box.condition.error
    await one.box.close()
    await other.box.close()


async def test_the_newest_state_of_an_incident_is_what_is_sent(hook: Hook, message: Make, slowly: None) -> None:
    hook.plan = [Answer(500)]
    one = Box(notifier(hook.url))
    one.box.put(message(severity="degraded"))
    await until(lambda: one.box.condition.failures, "a try that failed")
    one.box.put(message(id=1767582470001, kind="cause", was=("degraded",), cause="the new one", at=1767582480.0))
    assert one.box.waiting == 1
    one.box.use(notifier(hook.url))
    await until(lambda: one.done, "the message taken")
    last = hook.got[-1].json
    assert one.states == ["sent"]
    assert last["commonAnnotations"]["event"] == "opened", "who heard nothing yet is told that it began"
    assert last["commonAnnotations"]["cause"] == "the new one"
    assert len(last["alerts"]) == 1, "what was never told is not resolved"
    await one.box.close()


async def test_an_end_that_overtakes_its_beginning(hook: Hook, message: Make, slowly: None) -> None:
    hook.plan = [Answer(500)]
    one = Box(notifier(hook.url))
    one.box.put(message())
    await until(lambda: one.box.condition.failures, "a try that failed")
    one.box.put(message(id=2, kind="closed", ended=1767582490.0))
    one.box.use(notifier(hook.url))
    await until(lambda: one.done, "the message taken")
    assert hook.got[-1].json["status"] == "resolved"
    assert one.states == ["sent"]
    await one.box.close()


async def test_a_queue_has_a_bound(hook: Hook, message: Make) -> None:
    hook.then = Answer(hang=True)
    one = Box(notifier(hook.url))
    for number in range(MOST + 20):
        one.box.put(message(id=number + 1, number=number + 1))
    assert one.box.waiting == MOST
    assert one.states == ["dropped"] * 20
    assert one.box.condition.lost == 20
    assert one.done[0].message.number == 1, "the oldest make room"
    await one.box.close()


async def test_what_is_unsent_goes_on_in_another_outbox(hook: Hook, message: Make, quickly: None) -> None:
    hook.then = Answer(500)
    one = Box(notifier(hook.url))
    one.box.put(message())
    one.box.put(message(id=2, number=32, kind="closed", ended=1767582490.0))
    await until(lambda: len(hook.got) >= 3, "tries")
    await one.box.close()
    left = one.box.dump()
    hook.then = Answer()
    other = Box(notifier(hook.url))
    other.box.load(left)
    assert other.box.waiting == 2
    other.box.start()
    await until(lambda: len(other.done) == 2, "both taken")
    assert not other.box.waiting
    assert other.said[-1][0] == "notify-recovered"
    assert other.box.dump()["waiting"] == []
    await other.box.close()


async def test_another_address_is_tried_at_once(hook: Hook, message: Make) -> None:
    one = Box(notifier(f"http://127.0.0.1:{unused_port()}/"))
    one.box.put(message())
    await until(lambda: one.box.condition.failures, "a failed try")
    one.box.condition.until = time.monotonic() + 3600
    one.box.use(notifier(hook.url))
    await until(lambda: one.done, "the message taken")
    await one.box.close()


async def test_a_test_message_is_sent_once_and_answered(hook: Hook, message: Make) -> None:
    one = Box(notifier(hook.url))
    test = message(kind="test", number=0, alert="test")
    assert await one.box.test(test) == "status 200"
    statuses = [got.json["status"] for got in hook.got]
    assert statuses == ["firing", "resolved"], "nobody stays called out for a test"
    for got in hook.got:
        check_alertmanager(got.json)
    hook.then = Answer(500)
    with pytest.raises(Failed, match="status 500"):
        await one.box.test(test)
    assert one.states == ["sent", "failed"]


def test_a_message_is_the_same_after_the_ledger(message: Make) -> None:
    one = message(was=("degraded",))
    assert Message.load(one.dump()) == one
    assert Message.load({**one.dump(), "of-a-later-version": 1}) == one
    assert replace(one, id=2) != one
