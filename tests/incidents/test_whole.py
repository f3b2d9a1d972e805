"""Whole gateways: an app that crashes, a gateway that hangs, deaths of control and of everything, the public page."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from proxy.admin.examples import INCIDENT_WHOLE, INCIDENT_WHY
from tests.e2e.client import Load, ask
from tests.e2e.support import Triage, served, shop_config, until

pytestmark = pytest.mark.slow
PAGE = '[status_page]\nfile = "status.html"\ntitle = "The <shop>"\n'


def incidents(shop: Triage, **asked: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = shop.api("incidents", **asked)["items"]
    return found


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def test_a_crash_is_an_incident_at_once_and_outlives_control_and_triage(
    gateway: Callable[..., Triage], folder: Path
) -> None:
    config = shop_config(instances=1, workers=1) + PAGE
    shop = gateway(config)
    until(lambda: shop.api("status")["self_check"]["time"], "a self-check")
    assert shop.api("status")["is_it"] == "" and incidents(shop) == []
    page = folder / "status.html"
    until(lambda: page.exists() and "All is well." in page.read_text(), "the page")
    assert "The &lt;shop&gt;" in page.read_text() and "<script" not in page.read_text()

    fault_at = time.time()
    answer = ask(shop.port, "/crash")
    assert answer.status == 502
    found = until(lambda: incidents(shop, open="true"), "an incident")[0]
    assert seconds(found["opened"]) - fault_at < 20.0, "5 s on a machine that has time: test_engine.py"
    assert (found["app"], found["signal"], found["severity"]) == ("shop", "crashes", "down")
    assert found["began"] and seconds(found["began"]) <= seconds(found["opened"])
    until(lambda: incidents(shop)[0]["hit"] >= 1, "the request that was hit is counted")
    status = shop.api("status")
    assert status["is_it"] == "app" and "it is the app" in status["is_it_words"]
    assert status["state"] != "up" and found["id"] in [one["id"] for one in status["incidents"]]

    whole = shop.api(f"incidents/{found['id']}")
    assert whole.keys() == INCIDENT_WHOLE.keys() and whole["steps"][0].keys() == INCIDENT_WHOLE["steps"][0].keys()
    assert int(whole["frozen"]) > 0, "the last minutes, second by second, were kept"
    why = shop.api(f"incidents/{found['id']}/why")
    assert why.keys() == INCIDENT_WHY.keys()
    assert why["subject"] == "incident" and "instance-exited" in why["text"]
    assert why["request"]["fault"] == "instance-exited", "the newest kept one of its main fault says more"
    printed = shop.cli("why").stdout
    assert printed.startswith(found["id"]) and len(printed.splitlines()) <= 30, printed
    assert f"triage why {found['id']}" in shop.cli("why", "shop").stdout
    until(lambda: "not available" in page.read_text() or "failed" in page.read_text(), "the page says it")
    assert not re.search(r"shop-\d|127\.0\.0\.1|crash", page.read_text()), "nothing internal"

    until(lambda: len(shop.ready()) == 1, "its replacement")
    control = shop.control()
    os.kill(control, signal.SIGKILL)
    until(lambda: shop.control() not in (0, control), "a new control")
    after = until(lambda: shop.try_api("incidents", open="true"), "its answer")["items"]
    assert [one["id"] for one in after] == [found["id"]]
    assert after[0]["hit"] >= 1 and after[0]["began"] == found["began"]

    shop.end()
    again = gateway(config)
    closed = until(lambda: [one for one in incidents(again) if one["state"] == "closed"], "it is closed")[0]
    assert closed["id"] == found["id"]
    steps = again.api(f"incidents/{found['id']}")["steps"]
    assert "Triage was not running from" in steps[-1]["text"], steps[-1]
    kinds = [one["kind"] for one in again.api("events", limit=200)["items"]]
    assert "incident-opened" in kinds and "incident-closed" in kinds, "one stream of events has them"


@pytest.fixture(scope="module")
def calm(module_folder: Path) -> Iterator[Triage]:
    yield from served(module_folder, shop_config(instances=2, workers=2))


def test_a_busy_healthy_day_opens_none(calm: Triage) -> None:
    """Under load: a restart of all, one more, one less, a reload, an upgrade."""
    with Load(calm.port, clients=4) as load:
        until(lambda: load.good > 100, "load")
        for act in (["restart", "shop"], ["scale", "shop", "3"], ["scale", "shop", "auto"]):
            done = calm.cli(*act)
            assert done.returncode == 0, done.stdout + done.stderr
        until(lambda: len(calm.ready()) == 2, "as before")
        for act in (["reload"], ["upgrade"]):
            done = calm.cli(*act)
            assert done.returncode == 0, done.stdout + done.stderr
        until(lambda: calm.try_api("/readyz"), "it is ready")
        aim = load.good + 200
        until(lambda: load.good > aim, "more load")
    assert not load.failed, load.summary()
    assert incidents(calm) == [], [one["cause"] for one in incidents(calm)]
    assert calm.api("status")["is_it"] == ""


def test_a_worker_that_hangs_is_the_gateways_incident(calm: Triage) -> None:
    for worker in calm.workers():
        os.kill(worker["pid"], signal.SIGSTOP)
    found = until(
        lambda: [one for one in incidents(calm, open="true") if one["scope"] == "gateway"], "an incident of the gateway"
    )[0]
    assert found["signal"] in ("self-check", "worker"), found
    until(lambda: calm.api("status")["self_check"]["ok"], "its replacement answers")
    assert "opened" in [step["kind"] for step in calm.api(f"incidents/{found['id']}")["steps"]]


def test_every_kind_of_listener_answers_and_is_no_traffic(gateway: Callable[..., Triage], folder: Path) -> None:
    """PROXY protocol, TLS, a Unix socket, all addresses; and a certificate that ends soon is told."""
    soon = datetime.now(UTC) + timedelta(days=5, hours=12)
    pair = trustme.CA().issue_cert("localhost", not_after=soon)
    pair.private_key_pem.write_to_path(str(folder / "key.pem"))
    (folder / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in pair.cert_chain_pems))
    config = shop_config(
        instances=1, workers=2,
        gateway='proxy_protocol = true\ntrusted_proxies = ["127.0.0.0/8"]\n'
        'certificates = [{ cert = "cert.pem", key = "key.pem" }]',
    ).replace(
        'listen = ["127.0.0.1:0"]',
        'listen = ["127.0.0.1:0", "https://127.0.0.1:0", "unix:run/g.sock", "0.0.0.0:0", "[::1]:0"]', 1,
    )  # fmt: skip
    shop = gateway(config)
    check = until(lambda: (one := shop.api("status")["self_check"])["time"] and one, "a self-check")
    assert check["ok"], check
    assert 0 < check["ms"] < 2000 and "answers itself in" in check["words"]
    found = until(lambda: incidents(shop, open="true"), "an incident")
    assert [(one["scope"], one["signal"]) for one in found] == [("gateway", "certificate")], found
    assert "in 5 days" in found[0]["cause"] and found[0]["severity"] == "degraded"
    status = shop.api("status")
    assert sum(one["requests"] for one in status["apps"]) == 0, "no traffic"
    log = shop.data / "logs" / "access.jsonl"
    assert not log.exists() or "OPTIONS" not in log.read_text()
