"""One gateway, two instances, two workers: requests, records, metrics, the command and the admin API."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.client import HOST, Answer, ask
from tests.e2e.support import LONG, Triage, served, shop_config, until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shop(module_folder: Path) -> Iterator[Triage]:
    yield from served(module_folder, shop_config())


@pytest.fixture(scope="module")
def port(shop: Triage) -> int:
    return shop.port


def admin(shop: Triage, target: str, **fields: str) -> Answer:
    """A request to the admin API over TCP."""
    port = int(shop.api("status")["gateway"]["admin"].rpartition(":")[2])
    return ask(port, target, fields={name.replace("_", "-"): value for name, value in fields.items()})


def token(shop: Triage) -> str:
    return (shop.data / "admin.token").read_text().strip()


def test_both_instances_answer(port: int, shop: Triage) -> None:
    until(lambda: len(shop.ready()) == 2, "both are ready")
    pids = {str(one["pid"]) for one in shop.ready()}
    seen: set[str] = set()

    def all_seen() -> bool:
        answer = ask(port, "/")
        assert answer.status == 200
        seen.update(re.findall(r"Process (\d+) answered", answer.body))
        return seen == pids

    until(all_seen, "an answer of each instance")


def test_every_answer_has_a_request_id(port: int) -> None:
    ids = {ask(port, "/products").fields["x-request-id"] for _ in range(5)}
    assert len(ids) == 5


def test_a_body_goes_there_and_back(port: int) -> None:
    body = "0123456789abcdef" * 20_000
    answer = ask(port, "/echo", "POST", body)
    assert answer.status == 200
    assert answer.body == body


def test_the_access_log_has_each_request(port: int, shop: Triage) -> None:
    made = ask(port, "/products?for=the-log").fields["x-request-id"]
    path = shop.data / "logs" / "access.jsonl"

    def logged() -> dict[str, object]:
        for line in path.read_text().splitlines() if path.exists() else []:
            if made in line:
                entry: dict[str, object] = json.loads(line)
                return entry
        return {}

    entry = until(logged, "a line of the access log")
    assert "/products?for=the-log" in entry.values()
    assert 200 in entry.values()


def test_a_slow_request_is_kept_with_its_timings(port: int, shop: Triage) -> None:
    made = ask(port, "/slow?s=1.2").fields["x-request-id"]
    item = until(lambda: shop.try_api(f"requests/{made}"), "the record of a slow request")
    assert item["timings"]["wait_ms"] >= 1150
    assert item["timings"]["own_ms"] < item["timings"]["wait_ms"]
    until(
        lambda: made in shop.cli("requests", "--slower", "1s", "--path", "/slow").stdout,
        "it is listed: records come from the workers twice a second",
    )


def test_the_app_s_own_500_is_told_from_ours(port: int, shop: Triage) -> None:
    made = ask(port, "/raise").fields["x-request-id"]
    item = until(lambda: shop.try_api(f"requests/{made}"), "the record")
    assert item["status"] == 500
    assert item["fault"] == "app-error"
    why = shop.cli("why", made[:8])
    assert why.returncode == 0, why.stderr
    assert "LookupError" in why.stdout or "app" in why.stdout


def test_requests_are_followed(port: int, shop: Triage) -> None:
    argv = [sys.executable, "-m", "proxy.main", "requests", "-f", "--url", shop.admin]
    with subprocess.Popen(argv, cwd=shop.folder, env=shop.env, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            made = ask(port, "/raise?followed").fields["x-request-id"]
            until(lambda: made in (process.stdout.readline() if process.stdout else ""), "its line")
        finally:
            process.send_signal(signal.SIGINT)
    assert process.returncode == 130


def test_metrics_can_be_parsed(port: int, shop: Triage) -> None:
    ask(port, "/products")

    def counted() -> bool:
        answer = admin(shop, "/metrics", Authorization=f"Bearer {token(shop)}")
        assert answer.status == 200
        families = {family.name: family for family in text_string_to_metric_families(answer.body)}
        assert {"triage_self_checks", "triage_exceptions", "triage_incidents_open"} <= set(families)
        requests = [name for name in families if name.startswith("triage_requests")]
        return any(sample.value > 0 for name in requests for sample in families[name].samples)

    until(counted, "counted requests in /metrics")


def test_admin_wants_its_token(shop: Triage) -> None:
    assert admin(shop, "/api/v1/status").status == 401
    assert admin(shop, "/api/v1/status", Authorization="Bearer wrong").status == 401
    assert admin(shop, "/metrics").status == 401
    good = admin(shop, "/api/v1/status", Authorization=f"Bearer {token(shop)}")
    assert good.status == 200
    assert json.loads(good.body)["state"]
    assert (shop.data / "admin.token").stat().st_mode & 0o777 == 0o600


def test_what_watches_needs_no_token(shop: Triage) -> None:
    assert admin(shop, "/healthz").status == 200
    assert admin(shop, "/readyz").status == 200
    assert admin(shop, "/readyz?app=shop").status == 200


def test_a_page_elsewhere_cannot_use_the_admin_api(shop: Triage) -> None:
    """DNS rebinding and cross-site requests: a foreign Host or Origin is refused, with a good token too."""
    good = f"Bearer {token(shop)}"
    assert admin(shop, "/api/v1/status", Authorization=good, Host="evil.example").status in (400, 403, 421)
    assert admin(shop, "/api/v1/status", Authorization=good, Origin="http://evil.example").status == 403


def test_status_is_read_without_scrolling(shop: Triage) -> None:
    done = shop.cli("status")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "up" in lines[0] or "2 of 2" in lines[0]
    assert sum(line.startswith("shop-") for line in lines) == 2
    assert any(line.startswith("gateway  Triage") for line in lines)
    assert max(map(len, lines[:-2])) <= 160


def test_the_command_finds_it_by_its_config(shop: Triage) -> None:
    from tests.e2e.support import triage

    done = triage("status", "--json", "-c", "config.toml", cwd=shop.folder)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["gateway"]["pid"] == shop.pid


def test_nothing_there_for_an_id_that_never_was(shop: Triage) -> None:
    done = shop.cli("why", "zzzz")
    assert done.returncode == 1
    assert done.stderr


def test_what_is_ambiguous_is_refused(port: int, shop: Triage) -> None:
    """A request with two framings never reaches an instance."""
    connection = http.client.HTTPConnection(HOST, port, timeout=LONG)
    try:
        connection.putrequest("POST", "/orders")
        connection.putheader("Content-Length", "5")
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders(b"0\r\n\r\n")
        response = connection.getresponse()
        response.read()
    finally:
        connection.close()
    assert response.status == 400


def test_a_crash_costs_one_instance_and_one_502(port: int, shop: Triage) -> None:
    """Last in this file: the suspect stays listed."""
    until(lambda: len(shop.ready()) == 2, "both are ready")
    before = {one["id"]: one["pid"] for one in shop.ready()}
    answer = ask(port, "/crash")
    assert answer.status == 502
    made = answer.fields["x-request-id"]
    until(lambda: len(shop.ready()) == 2, "two instances again")
    after = {one["id"]: one["pid"] for one in shop.ready()}
    assert len(set(before.values()) & set(after.values())) == 1, f"{before} became {after}: {shop.story()}"

    item = until(lambda: shop.try_api(f"requests/{made}"), "the record of the crash")
    assert item["fault"] == "instance-exited"
    assert item["tries"] == 1

    def lost() -> list[str]:
        done = shop.cli("requests", "--fault", "instance-exited", "--json")
        return [request["id"] for request in json.loads(done.stdout)["items"]]

    until(lost, "it is listed")
    assert lost() == [made]

    for what in ([made], [made[:8]]):
        why = shop.cli("why", *what)
        assert why.returncode == 0, why.stderr
        assert "GET /crash" in why.stdout
        assert "502 instance-exited" in why.stdout
        assert "code 3" in why.stdout
        assert "the price list cannot be read" in " ".join(why.stdout.split())
        assert [block for block in ("WHY", "LOST", "NOW", "DO", "EVIDENCE") if block not in why.stdout] == []
        assert max(map(len, why.stdout.splitlines())) <= 100
    why = shop.cli("why")  # without an argument: the open incident that came of it
    assert why.stdout.startswith("INC-") and made[:8] in why.stdout and "code 3" in why.stdout
