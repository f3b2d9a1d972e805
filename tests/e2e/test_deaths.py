"""Processes of a gateway are killed under load: what may be lost, and what comes back."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.client import Load
from tests.e2e.support import Triage, served, shop_config, until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shop(module_folder: Path) -> Iterator[Triage]:
    yield from served(module_folder, shop_config())


@pytest.fixture(autouse=True)
def well(shop: Triage) -> None:
    """Each test begins with two ready instances and two workers."""
    until(lambda: len(shop.ready()) == 2 and len(shop.workers()) == 2, "two instances, two workers")


def running(load: Load, more: int = 100) -> None:
    """The load goes on: so many good answers from now."""
    aim = load.good + more
    until(lambda: load.good >= aim, f"{more} more good answers; so far {load.summary()}")


def test_an_instance_killed_costs_no_idempotent_request(shop: Triage) -> None:
    victim = shop.ready()[0]
    with Load(shop.port) as load:
        running(load)
        os.kill(victim["pid"], signal.SIGKILL)
        running(load)
        until(lambda: len(shop.ready()) == 2, "a replacement")
        running(load)
    assert not load.failed, load.summary()
    assert victim["id"] not in {one["id"] for one in shop.ready()}, "its number is never used again"


def test_control_killed_costs_nothing(shop: Triage) -> None:
    before = {one["id"]: one["pid"] for one in shop.ready()}
    workers = {worker["pid"] for worker in shop.workers()}
    control = shop.control()
    assert control
    with Load(shop.port) as load:
        running(load)
        os.kill(control, signal.SIGKILL)
        running(load)
        until(lambda: shop.control() not in (0, control), "a new control")
        until(lambda: shop.try_api("/readyz"), "it is ready")
        running(load)
    assert not load.failed, load.summary()
    assert {one["id"]: one["pid"] for one in shop.ready()} == before
    assert {worker["pid"] for worker in shop.workers()} == workers


def test_control_killed_again_and_again(shop: Triage) -> None:
    """Three deaths in a row: it is given children and config only, and still adopts them."""
    before = {one["id"]: one["pid"] for one in shop.ready()}
    with Load(shop.port, clients=2) as load:
        for _ in range(3):
            control = until(shop.control, "a control")
            os.kill(control, signal.SIGKILL)
            until(lambda dead=control: shop.control() not in (0, dead), "a new control")
        until(lambda: shop.try_api("/readyz"), "it is ready")
        until(lambda: len(shop.ready()) == 2, "its instances")
        running(load)
    assert not load.failed, load.summary()
    assert {one["id"]: one["pid"] for one in shop.ready()} == before


def test_a_worker_killed_costs_only_its_own(shop: Triage) -> None:
    """Connections of the other worker feel nothing; new ones wait for the replacement and are not refused."""
    victim = shop.workers()[0]["pid"]
    port = shop.port
    with Load(port, clients=8) as load, Load(port, clients=4, fresh=True) as fresh:
        running(load)
        os.kill(victim, signal.SIGKILL)
        until(
            lambda: len(shop.workers()) == 2 and victim not in {worker["pid"] for worker in shop.workers()},
            "a new worker",
        )
        running(load)
        running(fresh)
    for one, most in ((load, 8), (fresh, 4)):
        assert len(one.failed) <= most, one.summary()
        assert not [answer for answer in one.failed if answer.status or "Refused" in answer.error], (
            one.summary()
        )
