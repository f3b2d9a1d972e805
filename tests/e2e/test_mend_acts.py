"""Acts on a shop under load: nothing fails, and each does what its name says."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.e2e.client import HOST, Answer, Load, ask
from tests.e2e.mending import act, begin, ended, events, pids, refused, well
from tests.e2e.support import LONG, Triage, served, shop_config, until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shop(module_folder: Path) -> Iterator[Triage]:
    app = 'tunnel = { drain = "1s" }\nqueue = { timeout = "30s" }'
    yield from served(module_folder, shop_config(app=app))


@pytest.fixture(autouse=True)
def two(shop: Triage) -> None:
    well(shop, 2, "shop")


def some(load: Load, more: int = 50) -> None:
    aim = load.good + more
    until(lambda: load.good >= aim, f"{more} more good answers; so far {load.summary()}")


def test_a_recycle_replaces_one_and_loses_nothing(shop: Triage) -> None:
    victim, other = shop.ready()
    with Load(shop.port, clients=4) as load:
        some(load)
        done = act(shop, f"apps/shop/instances/{victim['id']}/recycle", reason="it is Monday")
        some(load)
    assert not load.failed, load.summary()
    now = {one["id"] for one in shop.ready()}
    assert victim["id"] not in now and other["id"] in now and len(now) == 2
    told = [step["text"] for step in done["steps"]]
    assert len(told) >= 4, "its steps are told"
    assert any("it is Monday" in event["words"] for event in events(shop)), "why is written down"


def test_a_restart_replaces_all_one_by_one(shop: Triage) -> None:
    before = pids(shop, "shop")
    fewest = 2
    with Load(shop.port, clients=4) as load:
        operation = begin(shop, "apps/shop/restart")
        while shop.api(f"operations/{operation}")["state"] == "running":
            fewest = min(fewest, len(shop.ready()))
        assert ended(shop, operation)["state"] == "done"
    assert not load.failed, load.summary()
    assert not before & pids(shop, "shop")
    assert fewest == 2, "the new one is ready before the old one leaves"


def test_scaled_by_hand_and_back(shop: Triage) -> None:
    with Load(shop.port, clients=4) as load:
        act(shop, "apps/shop/scale", instances=3)
        assert len(shop.ready()) == 3
        assert shop.api("apps/shop")["by_hand"]["count"]["value"] == 3
        assert shop.cli("reload").returncode == 0
        well(shop, 3, "shop")
        act(shop, "apps/shop/scale", instances=1)
        well(shop, 1, "shop")
        act(shop, "apps/shop/scale", auto=True)
        well(shop, 2, "shop")
    assert not load.failed, load.summary()
    assert not shop.api("apps/shop")["by_hand"]


def test_an_ejected_one_gets_nothing_until_it_is_admitted(shop: Triage) -> None:
    out, other = shop.ready()
    act(shop, f"apps/shop/instances/{out['id']}/eject")

    def requests(name: str) -> int:
        return int(next(one["requests"] for one in shop.instances() if one["id"] == name))

    with Load(shop.port, clients=4) as load:
        some(load)
        some(load)  # workers tell their counts twice a second
        time.sleep(1.5)
        before = requests(out["id"])
        some(load)
        said = refused(shop, f"apps/shop/instances/{other['id']}/eject")
        assert said.status == 409 and said.hint, "not the last one"
        assert requests(out["id"]) <= before + 1
        act(shop, f"apps/shop/instances/{out['id']}/admit")
        until(lambda: requests(out["id"]) > before + 20, "it gets requests again")
    assert not load.failed, load.summary()


def test_held_requests_wait_and_are_answered(shop: Triage) -> None:
    act(shop, "apps/shop/hold")
    answers: list[Answer] = []
    waiting = [threading.Thread(target=lambda: answers.append(ask(shop.port, "/products"))) for _ in range(5)]
    for thread in waiting:
        thread.start()
    until(lambda: shop.api("apps/shop")["waiting"] == 5, "five wait")
    assert not answers
    assert shop.api("apps/shop")["state"] == "held"
    act(shop, "apps/shop/release")
    for thread in waiting:
        thread.join(LONG)
    assert [answer.status for answer in answers] == [200] * 5


def test_stopped_it_says_so_and_started_it_serves(shop: Triage) -> None:
    running: list[Answer] = []
    thread = threading.Thread(target=lambda: running.append(ask(shop.port, "/slow?s=1.5")))
    thread.start()
    until(lambda: sum(one["in_flight"] for one in shop.ready()) == 1, "one in flight")
    act(shop, "apps/shop/stop")
    thread.join(LONG)
    assert running[0].status == 200, "what ran ends well"
    assert not [one for one in shop.instances() if one["pid"] and one["lifecycle"] != "stopped"]
    answer = ask(shop.port, "/products")
    assert (answer.status, "stopped" in answer.fields["proxy-status"]) == (503, True)
    assert shop.cli("reload").returncode == 0
    assert ask(shop.port, "/products").status == 503, "a reload does not undo what was set by hand"
    act(shop, "apps/shop/start")
    well(shop, 2, "shop")
    assert ask(shop.port, "/products").status == 200


def test_tunnels_and_event_streams_drain_by_their_own_rule(shop: Triage) -> None:
    """They may go on for tunnel.drain, a second here; a download may for the drain limit, and is whole."""
    port, before = shop.port, pids(shop, "shop")
    events, download = (http.client.HTTPConnection(HOST, port, timeout=LONG) for _ in range(2))
    try:
        with connect(f"ws://{HOST}:{port}/ws", open_timeout=LONG, proxy=None) as tunnel:
            tunnel.send("before")
            assert tunnel.recv(LONG) == "before"
            events.request("GET", "/sse?s=0.1")
            stream = events.getresponse()
            assert stream.readline()
            download.request("GET", "/stream?n=30&s=0.1")
            response = download.getresponse()
            operation = begin(shop, "apps/shop/restart")
            with pytest.raises(ConnectionClosed):
                tunnel.recv(LONG)
        with pytest.raises((http.client.HTTPException, OSError)):
            stream.read()
        assert b"line 30 of 30" in response.read()
    finally:
        events.close()
        download.close()
    assert ended(shop, operation)["state"] == "done"
    assert not before & pids(shop, "shop")


def test_the_command_waits_and_tells_the_steps(shop: Triage) -> None:
    before = pids(shop, "shop")
    done = shop.cli("restart", "shop", "--note", "by the command")
    assert done.returncode == 0, done.stderr
    assert not before & pids(shop, "shop")
    assert len(done.stdout.splitlines()) >= 4, done.stdout


def test_what_is_not_there_is_refused_with_what_is(shop: Triage) -> None:
    said: Any = refused(shop, "apps/shop/instances/shop-999/recycle")
    assert said.status in (404, 409) and "shop-" in said.hint + said.detail
