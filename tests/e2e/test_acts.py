"""Whole acts: typed as a person would, on real instances, under load; none of them loses a request."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.client import Load, ask
from tests.e2e.support import LONG, Triage, served, shop_config, until

pytestmark = pytest.mark.slow

QUEUE = 'queue = { size = 1000, timeout = "30s" }'


@pytest.fixture(scope="module")
def triage(module_folder: Path) -> Iterator[Triage]:
    yield from served(module_folder, shop_config(app=QUEUE))


@pytest.fixture(autouse=True)
def whole(triage: Triage) -> None:
    until(lambda: len(triage.ready()) == 2 and not triage.api("apps/shop")["operations"], "two ready instances")


def names(triage: Triage) -> list[str]:
    return sorted(one["id"] for one in triage.ready())


def done(triage: Triage, *args: str) -> str:
    """What a verb printed that must end well."""
    found = triage.cli(*args)
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


def following(triage: Triage, *args: str) -> subprocess.Popen[str]:
    """A verb that goes on; the lines it prints are read by who started it."""
    return subprocess.Popen(
        [sys.executable, "-m", "proxy.main", *args, "--url", triage.admin], cwd=triage.folder,
        env={**triage.env, "PYTHONUNBUFFERED": "1"}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_a_restart_under_load_loses_nothing_and_prints_each_step(triage: Triage) -> None:
    before = names(triage)
    with Load(triage.port, clients=4) as load:
        until(lambda: load.good > 20, "requests are answered")
        said = done(triage, "restart", "shop", "--note", "a new build", "--no-collect")
        until(lambda: load.good > 100, "requests are answered after it too")
    assert not load.failed, load.summary()
    assert not set(names(triage)) & set(before)
    first, *steps, last = said.splitlines()
    assert first.endswith("restart of shop, by hand: a new build") and first.split()[1][0] in "+-"
    assert all(any(name in step for step in steps) for name in before)
    assert "done after" in last
    told = triage.api("events", kind="restart")["items"][0]
    assert told["data"]["reason"] == "a new build" and told["data"]["way"] == (
        f"socket, uid {os.geteuid()}, pid {told['data']['way'].rpartition(' ')[2]}"
    )


def test_one_instance_named_alone_is_recycled(triage: Triage) -> None:
    one, other = names(triage)
    with Load(triage.port, clients=2) as load:
        until(lambda: load.good > 10, "requests are answered")
        over = json.loads(done(triage, "recycle", one, "--json"))
    assert not load.failed, load.summary()
    assert over["state"] == "done" and over["target"] == f"shop/{one}" and over["took_s"] > 0
    assert over["evidence"], over
    assert other in names(triage) and one not in names(triage)
    assert triage.cli("recycle", one).returncode == 1  # it is gone
    listed = done(triage, "operations", "--limit", "1").splitlines()[1]
    assert listed.split()[0] == over["id"] and "done" in listed


def test_scale_out_and_back_loses_nothing(triage: Triage) -> None:
    with Load(triage.port, clients=2) as load:
        until(lambda: load.good > 10, "requests are answered")
        done(triage, "scale", "shop", "3", "--note", "a sale")
        assert len(triage.ready()) == 3
        status = done(triage, "status")
        assert "by hand    count 3, set " in status and status.rstrip() and ": a sale" in status
        done(triage, "scale", "shop", "auto")
        until(lambda: len(triage.instances()) == 2, "it is two again")
    assert not load.failed, load.summary()
    assert "by hand" not in done(triage, "status")


def test_stop_is_explained_with_the_verb_that_ends_it(triage: Triage) -> None:
    done(triage, "stop", "shop", "--note", "a move")
    answer = ask(triage.port, "/products")
    assert answer.status == 503
    why = done(triage, "why", "shop")
    assert "triage start shop" in why
    request = until(lambda: triage.try_api(f"requests/{answer.fields['x-request-id']}/why"), "its why")
    assert "a move" in request["text"] and "triage start shop" in request["text"]
    refused = triage.cli("restart", "shop")
    assert refused.returncode == 1 and "`triage start shop`" in refused.stderr
    done(triage, "start", "shop")
    assert ask(triage.port, "/products").status == 200


def test_a_hold_keeps_requests_and_a_release_serves_them(triage: Triage) -> None:
    done(triage, "hold", "shop")
    answers: list[int] = []
    waiting = threading.Thread(target=lambda: answers.append(ask(triage.port, "/products").status))
    waiting.start()
    until(lambda: triage.api("apps/shop")["waiting"] == 1, "the request waits")
    done(triage, "release", "shop")
    waiting.join(LONG)
    assert answers == [200]


def test_an_ejected_one_gets_nothing_until_it_is_admitted(triage: Triage) -> None:
    one, _ = names(triage)
    done(triage, "eject", f"shop/{one}")
    assert any(line.split()[:2] == [one, "ejected"] for line in done(triage, "status").splitlines())
    before = triage.api(f"apps/shop/instances/{one}")["requests"]
    for _ in range(20):
        assert ask(triage.port, "/products").status == 200
    assert triage.api(f"apps/shop/instances/{one}")["requests"] == before
    done(triage, "admit", one)
    assert triage.api(f"apps/shop/instances/{one}")["admission"] == "admitting"


def test_an_interrupt_leaves_the_operation_alone(triage: Triage) -> None:
    one = names(triage)[0]
    running = following(triage, "recycle", one)
    assert running.stdout and running.stderr
    assert f"recycle of shop/{one}" in running.stdout.readline()
    running.send_signal(signal.SIGINT)
    assert running.wait(LONG) == 130
    said = running.stderr.read()
    running.stdout.close()
    running.stderr.close()
    id = said.split()[0]
    assert f"triage operations {id} -f" in said
    assert "done after" in done(triage, "operations", id, "-f")


def test_an_act_is_followed_over_the_death_of_control(triage: Triage) -> None:
    before = names(triage)
    control = triage.control()
    running = following(triage, "restart", "shop")
    assert running.stdout
    running.stdout.readline()
    running.stdout.readline()  # it has begun
    os.kill(control, signal.SIGKILL)
    out, err = running.communicate(timeout=LONG)
    assert running.returncode == 0, out + err
    assert "control was started again and goes on with it" in out and "done after" in out, out
    assert len(names(triage)) == 2 and not set(names(triage)) & set(before)
    assert len([line for line in out.splitlines() if " ready after " in line]) == 2  # nothing was replaced twice


def test_events_are_followed_without_gap_over_the_death_of_control(triage: Triage) -> None:
    lines: list[dict[str, Any]] = []
    running = following(triage, "events", "-f", "--json", "--limit", "1")
    assert running.stdout and running.stderr

    def read() -> None:
        for line in running.stdout or ():
            lines.append(json.loads(line))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        until(lambda: lines, "the newest event")
        done(triage, "autoheal", "off", "shop", "--for", "1h")
        os.kill(triage.control(), signal.SIGKILL)
        until(lambda: triage.try_api("apps/shop"), "control is back")
        done(triage, "autoheal", "on", "shop")
        until(lambda: [one for one in lines if one["data"].get("enabled") is True], "the last act is told")
    finally:
        running.terminate()
        reader.join(LONG)
        running.wait(LONG)
        running.stdout.close()
        running.stderr.close()
    told = [int(one["id"]) for one in lines]
    assert told == sorted(set(told))
    asked = [one for one in triage.api("events", limit=1000)["items"] if told[0] <= int(one["id"]) <= told[-1]]
    assert told == [int(one["id"]) for one in reversed(asked)]
    assert {"autoheal", "control-restarted"} <= {one["kind"] for one in lines}


def test_what_was_done_and_set_is_known_after_a_restart_of_everything(gateway: Callable[..., Triage]) -> None:
    config = shop_config(instances=1, workers=1)
    first = gateway(config)
    over = json.loads(done(first, "scale", "shop", "2", "--note", "to be kept", "--json"))
    events = [one["id"] for one in first.api("events", limit=1000)["items"]]
    first.end()
    again = gateway(config)
    until(lambda: len(again.ready()) == 2, "the number set by hand holds")
    assert again.api("apps/shop")["by_hand"]["count"]["why"] == "to be kept"
    kept = again.api(f"operations/{over['id']}")
    assert kept["state"] == "done" and kept["steps"] == over["steps"] and kept["reason"] == "to be kept"
    assert "to be kept" in done(again, "operations", over["id"])
    ids = [one["id"] for one in again.api("events", limit=1000)["items"]]
    assert set(events) <= set(ids) and len(ids) == len(set(ids))
    assert int(json.loads(done(again, "autoheal", "off", "shop", "--json"))["id"][3:]) > int(over["id"][3:])
