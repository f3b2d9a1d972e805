"""What the client gets on a fault; that every fault has a test; and what a defect of ours does."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy import faults
from tests.dataplane.harness import worker
from tests.dataplane.provoke import Answer, Cut, Gateway, answers, app, origin, provokes, says, until

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with worker() as under_test:
        yield Gateway(under_test)


@pytest.mark.slow
def test_every_fault_is_provoked_by_a_test() -> None:
    provoked: set[str] = set()
    for path in HERE.glob("test_*.py"):
        if "@provokes(" not in path.read_text():
            continue
        module = importlib.import_module(f"tests.dataplane.{path.stem}")
        for name, each in vars(module).items():
            if name.startswith("test_"):
                provoked |= set(getattr(each, "provokes", ()))
    assert set(faults.FAULTS) - provoked == set()


def failing(gateway: Gateway, accept: str, remote: bool) -> tuple[Answer, int]:
    """The answer to a request that an instance closes, and the instance's port."""
    with origin(says(b"")) as bad:
        proxied = {"trusted_proxies": ("127.0.0.1/32",), "proxy_protocol": True} if remote else {}
        gateway.serve(app(bad.instance(name="secret-name")), gateway_id="cafe0123", **proxied)
        with gateway.connect() as client:
            if remote:
                client.sock.sendall(b"PROXY TCP4 203.0.113.9 203.0.113.1 1234 443\r\n")
            return client.ask("/private?token=1", "POST", b"x", Accept=accept), bad.port


@pytest.mark.parametrize("remote", [True, False])
@pytest.mark.parametrize(
    ("accept", "type_"),
    [
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html; charset=utf-8"),
        ("application/json", "application/problem+json"),
        ("application/problem+json, text/html;q=0.1", "application/problem+json"),
        ("text/plain", "text/plain; charset=utf-8"),
        ("*/*", "text/plain; charset=utf-8"),
        ("image/webp", "text/plain; charset=utf-8"),
    ],
)
def test_the_page_is_in_the_form_that_the_client_accepts(
    gateway: Gateway, accept: str, type_: str, remote: bool
) -> None:
    answer, port = failing(gateway, accept, remote)
    assert answer.status == 502 and answer.fields["content-type"] == type_
    assert answer.fields["cache-control"] == "no-store"
    assert answer.fields["proxy-status"] == 'triage; error=connection_terminated; details="closed-before-head"'
    text = answer.body.decode()
    assert answer.id in text
    assert (f"triage why {answer.id}" in text) is not remote
    if "json" in type_:
        problem = json.loads(text)
        assert problem["status"] == 502 and problem["request_id"] == answer.id and problem["title"] == "Bad Gateway"
    for told in ("secret-name", str(port), "cafe0123", "/private", "token"):
        assert told not in text
        if remote:
            assert told not in repr(answer.fields)
    if remote:
        assert "instance" not in text


def test_a_page_of_ones_own(gateway: Gateway) -> None:
    with origin(says(b"")) as bad:
        spec = app(bad.instance())
        gateway.serve(spec, error_pages={"502": "<p>Ours. {id} {status}</p>"})
        answer = gateway.ask("/", "POST", b"x", Accept="text/html")
        assert answer.body.decode() == f"<p>Ours. {answer.id} 502</p>"
        assert b"Ours" not in gateway.ask("/", "POST", b"x", Accept="application/json").body
        gateway.serve(spec, error_pages={})


def test_head_gets_the_head_only(gateway: Gateway) -> None:
    with origin(says(b"")) as bad:
        gateway.serve(app(bad.instance(), attempts=0))
        with gateway.connect() as client:
            answer = client.ask("/", "HEAD")
            assert answer.status == 502 and int(answer.fields["content-length"]) > 0
            bad.script = answers(b"")
            assert client.ask("/", "GET").status == 200, "no byte of content stood between"


def test_http_1_0_keeps_alive_only_when_asked(gateway: Gateway) -> None:
    with origin(says(b"")) as bad:
        gateway.serve(app(bad.instance(), attempts=0))
        with gateway.connect() as client:
            client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            answer = client.read()
            assert answer.status == 502 and answer.fields["connection"] == "keep-alive"
            client.send(b"GET / HTTP/1.0\r\n\r\n")
            assert client.read().closes and client.at_end()


_DEFECT = """
import sys
from proxy.dataplane.{module} import {name} as broken
before = broken.{method}
def after(self, *args, **more):
    exchange = self if hasattr(self, "target") else self.exchange
    if {when}:
        raise RuntimeError("a defect")
    return before(self, *args, **more)
broken.{method} = after
from proxy.dataplane.run import main
main(int(sys.argv[1]))
"""
HIT = 'exchange is not None and exchange.target == b"/defect"'
PLACES = {
    "begin": ("exchange", "Exchange", "begin", HIT),
    "send": ("exchange", "Exchange", "send", HIT),
    "connected": ("exchange", "Exchange", "connected", HIT),
    "on_head": ("exchange", "Exchange", "on_head", HIT),
    "response_ended": ("exchange", "Exchange", "response_ended", HIT),
    "finish": ("exchange", "Exchange", "finish", HIT),
    "time": ("upstream", "InstanceConnection", "on_due", HIT),
    "lost": ("exchange", "Exchange", "lost", HIT),
    "read": ("client", "ClientConnection", "_understand", 'args[0].startswith(b"GET /defect ")'),
}


@provokes(faults.INTERNAL_ERROR)
@pytest.mark.parametrize("where", PLACES)
@pytest.mark.slow
def test_a_defect_of_ours_ends_the_request(where: str, tmp_path: Path) -> None:
    """The request does not hang, nothing stays held, the log has the traceback, and the others go on."""
    module, name, method, when = PLACES[where]
    program = _DEFECT.format(module=module, name=name, method=method, when=when)
    script = {"time": says(b"", "wait"), "lost": says(b"")}.get(where, answers())
    with open(tmp_path / "log", "w") as log, origin(script) as good:
        with worker(program=("-c", program), stderr=log) as under_test:
            gateway = Gateway(under_test)
            spec = gateway.serve(app(good.instance(), first_byte=0.2))
            answer = None
            with gateway.connect() as client:
                try:
                    answer = client.ask("/defect")
                except Cut:
                    assert where in ("response_ended", "finish"), "the answer had gone out, or could not"
            if answer is not None and where not in ("response_ended", "finish"):
                gateway.shown(spec, answer, faults.INTERNAL_ERROR, name=" ")
            good.script = answers()
            assert gateway.ask("/well").status == 200
            until(lambda: gateway.in_flight(spec) == 0)
        lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    told = [each for each in lines if each["event"] == "internal-error"]
    assert told and "a defect" in told[0]["trace"] and method in told[0]["trace"]
