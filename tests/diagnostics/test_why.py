"""Every fault gives a whole, short and honest answer."""

from __future__ import annotations

import re

import pytest

from proxy.diagnostics.causes import CAUSES, CERTAIN, LIKELY, NOT_KNOWN, VERY_LIKELY
from proxy.diagnostics.facts import (
    AppFacts,
    CountFacts,
    ExitFacts,
    Facts,
    Happened,
    InstanceFacts,
    Malformed,
    Said,
    Used,
)
from proxy.diagnostics.text import BLOCKS, COLUMNS, LINES
from proxy.diagnostics.why import Why, explain, lost, render
from proxy.faults import FAULTS
from proxy.link.messages import Attempt, Record

NOW = 1_770_000_000.0
STACK = """Process 1234: python app.py
Python v3.11.7 (/usr/bin/python3.11)

Thread 1234 (idle): "MainThread"
    select (selectors.py:468)
    _run_once (asyncio/base_events.py:1922)
    run_forever (asyncio/base_events.py:641)
Thread 1240 (idle): "worker-1"
    load_prices (catalog.py:212)
    product (views.py:40)
    run (threading.py:982)
"""
RESTING = STACK.replace("load_prices (catalog.py:212)", "_worker (concurrent/futures/thread.py:81)")


def record(fault: str = "", **more: object) -> Record:
    values: dict[str, object] = {
        "app": "web", "instance": "web-7", "client": "10.1.2.3", "method": "POST", "host": "example.com",
        "target": "/api/orders?card=4111111111111111&token=s3cr3t", "fault": fault,
        "status": FAULTS[fault].status or 0 if fault else 200, "bytes_in": 1912, "bytes_out": 412, "sent": 1912,
        "head_us": 200, "queue_us": 0,
        "connect_us": 0, "wait_us": 687_000, "total_us": 689_000, "own_us": 300, "tries": 1, "reused": True,
        "idle_us": 400_000, "client_request_id": "order-77", "detail": "",
    }  # fmt: skip
    return Record(id="7f3a91016957e2dd", time=NOW - 240, worker=1, **{**values, **more})  # type: ignore[arg-type]


def instance(**more: object) -> InstanceFacts:
    values: dict[str, object] = {
        "name": "web-7", "address": "127.0.0.1:41233", "lifecycle": "ready", "pid": 4211, "uptime": 1080.0,
        "memory": 500_000_000, "memory_limit": 512_000_000, "cpu": 0.01, "in_flight": 3, "slots": 100,
        "probe": "200 in 3 ms", "log": "logs/instances/web-7.log",
        "used": (Used(NOW - 246, 0.01, 231_000_000), Used(NOW - 240, 0.02, 370_000_000)),
    }  # fmt: skip
    return InstanceFacts(**{**values, **more})  # type: ignore[arg-type]


def exited(**more: object) -> ExitFacts:
    values: dict[str, object] = {
        "at": NOW - 239.3, "lasted": 1080.0, "words": "exit code 3", "code": 3, "by_itself": True,
        "lines": ("starting", "RuntimeError: no price list"),
    }  # fmt: skip
    return ExitFacts(**{**values, **more})  # type: ignore[arg-type]


def app(**more: object) -> AppFacts:
    values: dict[str, object] = {
        "name": "web", "verdict": "web is up: 2 of 2 ready, no fault in the last 5 min", "wanted": 2, "ready": 2,
        "serving": 2, "in_flight": 200, "slots": 200, "waiting": 798, "oldest_wait": 4.9, "per_second": 180.0,
        "p50": 9.8, "p99": 13.1, "wait_p50": 9.8, "max_inflight": 100, "queue_size": 1000, "queue_timeout": 5.0,
        "connect": 2.0, "first_byte": 30.0, "idle": 60.0, "total": 90.0, "max_body": 100_000_000,
        "suspects": ("GET /api/export",), "instances": (instance(), instance(name="web-8")),
        "exits": (("web-6", exited()),),
    }  # fmt: skip
    return AppFacts(**{**values, **more})  # type: ignore[arg-type]


def full(fault: str, **more: object) -> Facts:
    """All that can be known, with long and hostile text in it."""
    lines = tuple(Said(NOW - 240 + n / 10, "err", f"\x1b[31mline {n} {'x' * 300}\x07") for n in range(8))
    values: dict[str, object] = {
        "record": record(
            fault, detail="y" * 500, target="/" + "very-long/" * 60 + "?q=s3cr3t",
            attempts=[Attempt("web-7", fault=fault, detail="z" * 200, sent=1912, wait_us=1) for _ in range(3)],
        ),
        "app": app(verdict="web is degraded: " + "many words " * 30),
        "instance": instance(), "exit": exited(), "lines": lines, "stacks": STACK,
        "malformed": Malformed(17, "Invalid header", bytes(range(256))),
        "counts": CountFacts(65_000, 31, NOW - 420, NOW - 1, {f"web-{n}": 1000 for n in range(30)}),
        "events": tuple(Happened(NOW - 230 + n, f"web-{n} is ready " + "w" * 200) for n in range(8)),
    }  # fmt: skip
    return Facts(NOW, **{**values, **more})  # type: ignore[arg-type]


def bare(fault: str) -> Facts:
    """Nothing but the record: the app is gone from the config, control began anew."""
    return Facts(NOW, record=record(fault, sent=0, instance="", app="", attempts=None, client="", host=""))


def check_shape(why: Why) -> None:
    text = render(why)
    lines = text.rstrip("\n").split("\n")
    assert len(lines) <= LINES, text
    for line in lines:
        # local time may be a little longer than UTC: "01-05 03:07:41 +01:00"
        shown = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "01-05 03:07:41 +01:00", line)
        assert len(shown) <= COLUMNS, line
    for block in BLOCKS:
        assert getattr(why, block), block
        assert all(item.strip() for item in getattr(why, block)), block
        assert block.upper() in text
    assert why.certainty in (CERTAIN, VERY_LIKELY, LIKELY, NOT_KNOWN)
    assert "\x1b" not in text and "\x07" not in text
    for secret in ("s3cr3t", "4111111111111111"):
        assert secret not in text
    assert "{" not in why.why[0] and "NAME" not in text, text


def test_no_fault_is_without_a_cause() -> None:
    assert set(CAUSES) == set(FAULTS)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("make", [full, bare, lambda fault: Facts(NOW, record=record(fault), app=app())])
def test_every_fault_gives_a_whole_answer(fault: str, make: object) -> None:
    facts = make(fault)  # type: ignore[operator]
    why = explain(facts)
    check_shape(why)
    assert fault in why.title and why.id in why.title
    assert why.json()["text"] == render(why)


@pytest.mark.parametrize("fault", FAULTS)
def test_certain_is_said_only_where_the_first_claim_says_it(fault: str) -> None:
    for facts in (full(fault), bare(fault)):
        why = explain(facts)
        claim = why.cause[0].lower()
        for word in (CERTAIN, VERY_LIKELY, LIKELY, NOT_KNOWN):
            if claim.startswith(word):
                assert why.certainty == word, why
                break
        else:
            pytest.fail(f"no certainty in {why.cause[0]!r}")


def test_a_crash_with_its_last_words() -> None:
    facts = Facts(NOW, record=record("instance-exited"), app=app(), instance=instance(), exit=exited())
    why = explain(facts)
    assert "exit code 3" in why.why[0]
    assert why.why[1].startswith("Certain: its exit status")
    assert "RuntimeError: no price list" in why.cause[0]
    assert why.certainty == VERY_LIKELY  # the exit code, and what it said
    assert "NOT KNOWN: whether it was done" in why.lost[0]


def test_an_error_that_it_survived_long_before_is_not_its_end() -> None:
    old = (Said(NOW - 500, "err", "ValueError: an old story"), Said(NOW - 239.4, "err", "bye"))
    ended = exited(lines=("ValueError: an old story", "bye"))
    facts = Facts(NOW, record=record("instance-exited"), app=app(), instance=instance(), exit=ended, lines=old)
    assert "old story" not in " ".join(explain(facts).cause)


def test_out_of_memory_is_certain_only_by_its_own_counter() -> None:
    killed = {"code": None, "signal": 9, "words": "signal 9 (SIGKILL), out of memory", "lines": ()}
    certain = explain(full("instance-exited", exit=exited(oom="certain", **killed), lines=()))
    assert any(line.startswith("Certain: its cgroup counted an oom_kill") for line in certain.why)
    likely = explain(full("instance-exited", exit=exited(oom="likely", **killed), lines=()))
    assert any(line.startswith("Likely for want of memory") for line in likely.why)
    assert not any("Certain" in line for line in likely.why)
    outside = exited(code=None, signal=9, words="signal 9 (SIGKILL)", by_itself=False, lines=())
    plain = explain(full("instance-exited", exit=outside, lines=()))
    assert plain.cause[0].endswith("Triage did not send it. NOT KNOWN: who did.")


def test_an_exit_nobody_remembers_is_not_known() -> None:
    why = explain(Facts(NOW, record=record("instance-exited"), app=app(), instance=instance()))
    assert why.certainty == NOT_KNOWN


def test_where_it_hangs() -> None:
    why = explain(full("head-timeout"))
    assert why.certainty == VERY_LIKELY  # its stack now, its CPU then, and it still has requests
    assert "load_prices (catalog.py:212)" in why.cause[0]
    calm = explain(full("head-timeout", stacks=RESTING, instance=instance(in_flight=0)))
    assert calm.certainty == LIKELY
    assert "catalog" not in " ".join(calm.cause)
    none = explain(full("head-timeout", stacks="", instance=instance(used=(), cpu=None)))
    assert none.certainty == NOT_KNOWN


def test_a_wrong_port_is_named() -> None:
    facts = full("connect-refused", exit=None, instance=instance(listens_on=("127.0.0.1:5000",)))
    why = explain(facts)
    assert "listens on 127.0.0.1:5000" in why.cause[0]
    warming = instance(name="web-1", lifecycle="warming", listens_on=("127.0.0.1:5000",))
    why = explain(full("all-unready", app=app(instances=(warming,), ready=0, serving=0)))
    assert "listens on 127.0.0.1:5000" in why.cause[0]
    for right in ("127.0.0.1:8001", "0.0.0.0:8001", "[::]:8001"):
        hangs = instance(
            name="web-1", lifecycle="warming", address="127.0.0.1:8001", listens_on=(right,), why="status 500"
        )
        why = explain(full("all-unready", app=app(instances=(hangs,), exits=(), ready=0, serving=0)))
        assert "listens on" not in why.cause[0] and "status 500" in why.cause[0]
    only6 = instance(address="127.0.0.1:8001", listens_on=("[::1]:8001",))
    assert "listens on [::1]:8001" in explain(full("connect-refused", exit=None, instance=only6)).cause[0]


def test_what_ended_later_is_not_why_none_was_ready() -> None:
    later = exited(at=NOW - 10.0, lasted=3.0, words="exit code 7", code=7)
    before = exited(at=NOW - 250.0, lasted=3.0, words="exit code 9", code=9)
    none = {"instances": (), "ready": 0, "serving": 0}
    why = explain(full("all-unready", app=app(exits=(("web-5", before), ("web-6", later)), **none)))
    assert "exit code 9" in why.cause[0] and not any("exit code 7" in line for line in why.cause)
    why = explain(full("all-unready", app=app(exits=(("web-6", later),), **none)))
    assert why.certainty == "not known"


def test_one_that_triage_stopped_for_never_being_ready_did_not_end_by_itself() -> None:
    stopped = exited(at=NOW - 230.0, lasted=20.0, words="signal 15 (SIGTERM)", code=None, ours=True, lines=())
    happened = Happened(NOW - 230.0, "web-6 was not ready within 20 s: status 500")
    shown = app(exits=(("web-6", stopped),), instances=(), ready=0, serving=0)
    why = explain(full("all-unready", app=shown, events=(happened,)))
    assert why.cause[0].startswith("Likely: web-6 ran and was not ready. Triage stopped it")
    assert "Certain: web-6 was not ready within 20 s: status 500." in why.cause


def test_an_error_of_another_request_is_not_blamed() -> None:
    before = (Said(NOW - 241, "err", "ValueError: of somebody else"),)
    why = explain(full("closed-before-head", exit=None, lines=before))
    assert why.certainty == NOT_KNOWN
    during = (Said(NOW - 239.5, "err", "ValueError: this one"),)
    why = explain(full("closed-before-head", exit=None, lines=during))
    assert why.certainty == LIKELY and "this one" in why.cause[0]


def test_a_keepalive_race_that_was_none() -> None:
    tries = [
        Attempt("web-7", fault="stale-connection", reused=True, idle_us=21_000, sent=385),
        Attempt("web-8", fault="closed-before-head", sent=385),
    ]
    why = explain(full("stale-connection", record=record("stale-connection", attempts=tries), lines=()))
    assert "this request itself" in why.cause[0]
    assert "idle for 21 ms" in why.why[0]


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (record("connect-refused", sent=0), "Nothing: no instance saw anything"),
        (record("closed-before-head"), "NOT KNOWN: whether it was done"),
        (record("closed-before-head", method="GET"), "safe to repeat"),
        (record("closed-before-head", method="PUT"), "may be repeated"),
        (record("app-error", method="POST"), "Look before anyone repeats it"),
        (record("app-error", method="GET"), "It may be repeated"),
        (record("body-truncated", method="GET", bytes_out=10), "the client had 10 bytes of it"),
        (record("client-left", method="POST"), "NOT KNOWN: whether it was done"),
        (record("no-route", sent=0, instance=""), "Nothing"),
        (record("closed-before-head", tunnel=True), "tunnel"),
        (record(""), "Nothing: it was answered"),
    ],
)
def test_lost_says_whether_it_may_be_repeated(what: Record, words: str) -> None:
    assert words in " ".join(lost(what))


def test_lost_names_all_who_had_some_of_it() -> None:
    tries = [Attempt("web-7", fault="closed-before-head", sent=100), Attempt("web-8", fault="head-timeout", sent=1912)]
    said = " ".join(lost(record("head-timeout", method="PUT", attempts=tries)))
    assert "web-7 and web-8" in said and "1,912 bytes" in said


def test_now_says_whether_it_goes_on() -> None:
    going = explain(full("queue-timeout"))
    assert going.now[0].startswith("STILL GOING ON since")
    over = explain(full("queue-timeout", counts=CountFacts(1, 1, NOW - 240, NOW - 239)))
    assert over.now[0] == "No queue-timeout since then."
    again = explain(full("queue-timeout", counts=CountFacts(9, 1, NOW - 240, NOW - 60)))
    assert again.now[0].startswith("Not at this moment")


def test_slots_and_queue_have_their_numbers() -> None:
    why = explain(full("queue-timeout"))
    text = " ".join([*why.why, *why.cause])
    assert "5 s (queue.timeout)" in text
    assert "200 of 200 slots" in text and "2 ready x max_inflight 100" in text and "798 wait" in text
    assert "20 requests/s through; 180 come now" in text  # 200 slots / 9.8 s


def test_a_good_request_says_where_the_time_went() -> None:
    why = explain(Facts(NOW, record=record("", method="GET", wait_us=600_000), app=app(), instance=instance()))
    check_shape(why)
    assert why.why == ["Nothing failed: 200 in 689 ms."]
    assert "600 ms of 689 ms went to the instance" in why.cause[0]


def test_what_was_not_kept_is_answered_from_counts_and_the_nearest() -> None:
    near = record("connect-refused", sent=0)
    facts = Facts(
        NOW, record=near, kept=False, id="0000aa0169580001", second=int(near.time), worker=1, app=app(),
        in_second={("web", "web-7", "connect-refused"): 4711},
    )  # fmt: skip
    why = explain(facts)
    check_shape(why)
    assert "not kept" in why.title and "0000aa0169580001" in why.title
    assert "4711 connect-refused on web-7 of web" in " ".join(why.why)
    assert near.id in " ".join(why.cause)
    alone = explain(Facts(NOW, kept=False, id="0000aa0169580001", second=int(NOW) - 60, worker=1))
    check_shape(alone)
    assert "very likely it was answered" in " ".join(alone.why)
    old = explain(Facts(NOW, kept=False, id="0000aa0169580001", second=int(NOW) - 5000, worker=1))
    assert "15 minutes" in " ".join(old.why)


@pytest.mark.parametrize("state", ["up", "degraded", "down", "stopped", "held"])
def test_an_app_as_it_is_now(state: str) -> None:
    sick = instance(name="web-9", lifecycle="backoff", why="exit code 1, 0.2 s after its start")
    shown = app(state=state, faults={"head-timeout": 5, "app-error": 2} if state != "up" else {}, instances=(sick,))
    why = explain(Facts(NOW, app=shown, stacks=STACK, events=(Happened(NOW - 5, "web-9 ended"),)))
    check_shape(why)
    assert why.subject == "app" and why.id == "web"
    assert "web-9 is backoff: exit code 1" in " ".join(why.cause)


def test_an_app_that_is_well() -> None:
    why = explain(Facts(NOW, app=app(in_flight=1, waiting=0, instances=(instance(),), suspects=())))
    check_shape(why)
    assert why.cause == ["Nothing is wrong: all that is wanted is ready, and nothing failed in 5 min."]
    assert why.do == ["now    nothing"]


# --- what a person set -----------------------------------------------------------------------------------

BY = "by hand at 2026-02-02T02:30:00.000Z: a move\x1b[2J " + "w" * 300


@pytest.mark.parametrize(
    ("fault", "more", "said", "do"),
    [
        ("stopped", {"stopped_by": BY}, "an operator's act (by hand at", "triage start web"),
        ("held-too-long", {"stopped_by": BY}, "an operator's act (by hand at", "triage release web"),
        ("no-instance", {"count_by": BY, "wanted": 0}, "an operator's word (by hand at", "triage scale web auto"),
        ("all-ejected", {"ejected_by_hand": ("web-7",)}, "", "triage admit web/web-7"),
    ],
)
def test_what_a_person_set_is_named_with_the_verb_that_ends_it(
    fault: str, more: dict[str, object], said: str, do: str
) -> None:
    why = explain(Facts(NOW, record=record(fault, sent=0), app=app(**more)))
    check_shape(why)
    assert said in " ".join(why.cause)
    assert do in why.do[0]


def test_without_a_person_s_word_the_config_is_named() -> None:
    why = explain(Facts(NOW, record=record("no-instance", sent=0), app=app(wanted=0)))
    assert "Certain: the config" in why.cause[0] and "triage scale" not in " ".join(why.do)


def test_a_replacement_that_does_not_start_is_certain_only_by_its_own_exit() -> None:
    """An exit of another instance says nothing about it."""
    kept = "web-1 not replaced, serving on: web-9 did not get ready: no answer within 60 s"
    other = explain(Facts(NOW, app=app(state="degraded", not_replaced=kept)))
    assert "exit code 3" not in " ".join(other.cause) and "triage restart web" in other.do[0]
    own = explain(Facts(NOW, app=app(state="degraded", not_replaced=kept, exits=(("web-9", exited()),))))
    assert "Certain: web-9 ended with exit code 3 before it was ready" in " ".join(own.cause)
    check_shape(own)


def test_an_oom_kill_names_the_verb_for_more_memory() -> None:
    facts = full("instance-exited", exit=exited(oom="certain", signal=9, code=None, words="signal 9 (SIGKILL)"))
    assert any("triage scale web --memory 1024MB" in line for line in explain(facts).do)
